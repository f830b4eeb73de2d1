//! E1: an e-process for the ratio of two rates, valid at every look.
//!
//! Per tick the canary counts `a` events in `n` requests and the baseline `b` in `m`. The null
//! says that the canary's rate is at most (higher) or at least (lower) `ratio · p_b + extra`,
//! where the baseline's rate `p_b` is unknown and may change from tick to tick, and so may the
//! split. A grid of alternatives `ratio · e^(±d)` is bet on; the process is the wealth, and by
//! Ville's inequality it ever reaches 1/α under the null with probability at most α.
//!
//! Why it is valid: with requests independent given the past, 1 + x ≤ e^x bounds the expected
//! factor of one tick by `exp(n p_c (e^u − 1) + m p_b (D − 1) − extra · n (e^u − 1))`, where
//! `D = (ratio·n + m)/(ratio·e^x·n + m)` and `e^u = e^x·D`. At the edge of the null the terms in
//! `p_b` cancel by the choice of `D` and the others by the last term; inside, the sign of
//! `e^u − 1` helps. Clumps of at most φ events keep it exact when the exponent is divided by φ.
//! Grid and weights centre on twice the rate, between 1.1 and 55 times.

use std::cell::OnceCell;
use std::sync::LazyLock;

use libm::{exp, expm1, log, log1p};
use serde::{Deserialize, Serialize};

use super::e2::Guess;
use super::packed;

/// Alternatives bet on at the same time.
pub const GRID: usize = 12;
/// Nearest and farthest alternative, as logarithm of the ratio to the null, and the centre and
/// the natural spread of the weights.
const NEAREST: f64 = 0.1;
const FARTHEST: f64 = 4.0;
const CENTRE: f64 = 0.7;

/// A little more than the logarithm of the parts of a process: its bets and its cash.
const LN_PARTS: f64 = 2.565;

/// One alternative: where it lies and the logarithm of its weight.
#[derive(Debug, Clone, Copy)]
pub struct Bet {
    /// Logarithm of the share of the capital that is bet on it.
    pub log_weight: f64,
    /// Where it lies above the margin, and as far below it.
    places: [Place; 2],
}

/// An alternative on one side of a margin, with the exponentials that every tick asks for.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Logarithm of the alternative's ratio to the null.
    pub x: f64,
    /// `e^x`.
    pub exp: f64,
    expm1: f64,
}

impl Place {
    /// The alternative at `x`.
    #[must_use]
    pub fn at(x: f64) -> Self {
        Self {
            x,
            exp: exp(x),
            expm1: expm1(x),
        }
    }
}

/// The alternatives, nearest first. Their weights add up to 1.
pub static BETS: LazyLock<[Bet; GRID]> = LazyLock::new(|| {
    let distances: [f64; GRID] = std::array::from_fn(|k| {
        #[expect(clippy::cast_precision_loss, reason = "below 12")]
        let part = k as f64 / (GRID - 1) as f64;
        NEAREST * exp(part * log(FARTHEST / NEAREST))
    });
    let bent = |distance: f64| {
        let off = log(distance / CENTRE);
        -0.5 * off * off
    };
    let sum = log_sum_exp(distances.iter().map(|distance| bent(*distance)));
    distances.map(|distance| Bet {
        log_weight: bent(distance) - sum,
        places: [Place::at(distance), Place::at(-distance)],
    })
});

/// Which side of the margin the process gathers evidence for. Of events that nobody wants the higher
/// side is harm and the lower one safety; of those that everybody wants it is the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Evidence that the canary's rate is above the margin.
    Higher,
    /// Evidence that the canary's rate is below the margin.
    Lower,
}

/// The edge of the null: `p_c = ratio · p_b + extra`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margin {
    /// Which side is to be shown.
    pub side: Side,
    /// Times the baseline's rate; above 0.
    pub ratio: f64,
    /// Plus this share of the requests; 0 or more.
    pub extra: f64,
}

impl Margin {
    /// Where a bet lies on this side.
    #[must_use]
    pub const fn place<'a>(&self, bet: &'a Bet) -> &'a Place {
        let [above, below] = &bet.places;
        match self.side {
            Side::Higher => above,
            Side::Lower => below,
        }
    }

    /// The canary's part of the events at the edge of the null, without the absolute part, when the arms
    /// make `n` and `m` requests.
    #[must_use]
    pub fn part(&self, [n, m]: [f64; 2]) -> f64 {
        self.ratio * n / (self.ratio * n + m)
    }

    /// What the canary's requests alone lose, in natural logarithms, where the margin has an absolute
    /// part: `extra·n·(e^u − 1)`. As `e^u = e^x·D`, the bracket is `m·(e^x − 1) / (ratio·e^x·n + m)`.
    #[must_use]
    pub fn exposure(&self, place: &Place, [n, m]: [f64; 2]) -> f64 {
        self.extra * n * (m * place.expm1 / (self.ratio * place.exp * n + m))
    }
}

/// What a tick is worth to an alternative, in natural logarithms: `u` and `ln D` of the formula.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stake {
    /// Won with every event of the canary.
    pub canary: f64,
    /// Won with every event of the baseline.
    pub baseline: f64,
}

impl Stake {
    /// What E1 stakes on the alternative at this place, where the canary's part of the events is `part`
    /// at the edge of the null (see [`Margin::part`]): `1 / D` is `1 + part·(e^x − 1)`.
    #[must_use]
    #[inline]
    pub fn new(place: &Place, part: f64) -> Self {
        let log_d = -log1p(part * place.expm1);
        Self {
            canary: place.x + log_d,
            baseline: log_d,
        }
    }
}

/// A margin and the requests of a tick. What E1 stakes depends on these alone, and so is computed
/// once for all tails of the tick, and not at all where E2 plays them.
#[derive(Debug)]
pub struct Round<'a> {
    margin: &'a Margin,
    requests: [f64; 2],
    stakes: OnceCell<[Stake; GRID]>,
}

impl<'a> Round<'a> {
    /// Nothing is computed before it is played. `requests` are the canary's and the baseline's.
    #[must_use]
    pub const fn new(margin: &'a Margin, requests: [f64; 2]) -> Self {
        Self {
            margin,
            requests,
            stakes: OnceCell::new(),
        }
    }

    fn stakes(&self) -> &[Stake; GRID] {
        self.stakes.get_or_init(|| {
            let mut stakes = [Stake::default(); GRID];
            let part = self.margin.part(self.requests);
            for (stake, bet) in stakes.iter_mut().zip(BETS.iter()) {
                *stake = Stake::new(self.margin.place(bet), part);
            }
            stakes
        })
    }

    /// Whether both arms made requests; else there is nothing to compare.
    fn is_comparable(&self) -> bool {
        self.requests.iter().all(|requests| *requests > 0.0)
    }
}

/// Events and requests of both arms.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counts {
    /// Canary events.
    pub a: f64,
    /// Canary requests.
    pub n: f64,
    /// Baseline events.
    pub b: f64,
    /// Baseline requests.
    pub m: f64,
}

impl Counts {
    /// Whether both arms made requests; else there is nothing to compare.
    #[must_use]
    pub fn comparable(&self) -> bool {
        self.n > 0.0 && self.m > 0.0
    }
}

/// The wealth of one process: cash, and what the bets have become.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    #[serde(with = "packed")]
    logs: [f64; GRID],
    cash: f64,
}

impl Process {
    /// All capital, 1, in cash.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            logs: [f64::NEG_INFINITY; GRID],
            cash: 1.0,
        }
    }

    /// Puts `share` of the initial capital on the table, or the cash that is left if that is
    /// less. To be called before the tick that it bets on, for reasons known before that tick.
    pub fn stake(&mut self, share: f64) {
        let share = share.min(self.cash);
        if share <= 0.0 {
            return;
        }
        self.cash -= share;
        let log_share = log(share);
        for (wealth, bet) in self.logs.iter_mut().zip(BETS.iter()) {
            *wealth = log_add_exp(*wealth, bet.log_weight + log_share);
        }
    }

    /// Plays one tick: the events of canary and baseline. `phi` is the dispersion, 1 or more;
    /// `share` is the baseline's share of events where E2 is to be played instead (see
    /// [`super::e2::share`]).
    pub fn play(&mut self, round: &Round, events: [f64; 2], phi: f64, share: Option<f64>) {
        let Round { margin, requests, .. } = round;
        if !round.is_comparable() {
            return;
        }
        if let Some(share) = share {
            Guess::new(margin, share, *requests).play(margin, events, phi, &mut self.logs);
            return;
        }
        let [a, b] = events.map(|events| events / phi);
        // without an event no stake is won or lost, so none is worked out
        if a + b > 0.0 {
            for (wealth, stake) in self.logs.iter_mut().zip(round.stakes()) {
                *wealth += a * stake.canary + b * stake.baseline;
            }
        }
        if margin.extra > 0.0 {
            for (wealth, bet) in self.logs.iter_mut().zip(BETS.iter()) {
                *wealth -= margin.exposure(margin.place(bet), *requests) / phi;
            }
        }
    }

    /// What the logarithm of the e-value cannot exceed, without a single exponential: as if every
    /// bet, and the cash, were as good as the best.
    #[must_use]
    pub fn log_e_at_most(&self) -> f64 {
        self.logs.iter().copied().fold(0.0, f64::max) + LN_PARTS
    }

    /// The natural logarithm of the e-value: all bets and the cash.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        log_sum_exp(self.logs.iter().copied().chain([log(self.cash)]))
    }
}

/// The logarithm of the sum of exponentials, without overflow.
#[must_use]
pub fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY {
        return top;
    }
    top + log(values.map(|value| exp(value - top)).sum())
}

/// The logarithm of the sum of two exponentials.
#[must_use]
pub fn log_add_exp(one: f64, other: f64) -> f64 {
    let (low, high) = if one < other { (one, other) } else { (other, one) };
    if low == f64::NEG_INFINITY {
        return high;
    }
    high + log1p(exp(low - high))
}

/// The logarithm of the average of e-values: itself an e-value, however they depend on each
/// other. Pairs of weight and logarithm; the weights add up to 1.
#[must_use]
pub fn log_average(weighted: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    log_sum_exp(weighted.map(|(weight, log_e)| log(weight) + log_e))
}
