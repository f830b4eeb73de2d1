//! The interval that holds the true ratio at every look at the same time.
//!
//! Given the total of events in a tick, the canary's share of them depends on the ratio alone.
//! Every ratio that a mixture of all ratios cannot beat by a factor of 1/level stays in. It is
//! shown to people and recorded; nothing is decided on it.
//!
//! State is bounded: of every tick only its events and its split matter, and ticks with nearly
//! the same split are kept together, at their mean split. That is exact for equal splits and
//! otherwise off by the square of the difference.

use std::sync::LazyLock;

use libm::{cosh, exp, log, sinh};
use serde::{Deserialize, Serialize};
use statrs::function::beta::inv_beta_reg;

use super::e1::{Counts, log_sum_exp};
use super::packed;

/// Half of the mixture's grid: `4·sinh(4j/64)/sinh 4` for j from −64 to 64.
const HALF: i16 = 64;
const REACH: f64 = 4.0;
const BEND: f64 = 4.0;
/// Ratios beyond e^±60 count as unbounded.
const FAR: f64 = 60.0;
/// Newton's method has arrived when its step is this small, and always after so many.
const CLOSE: f64 = 1e-13;
const STEPS: usize = 64;
/// Parts of a sum that are smaller than the largest by this factor, as logarithm, are lost in
/// rounding, whatever their weights.
const NOTHING: f64 = 45.0;

/// One ratio of the mixture.
struct Mixed {
    place: f64,
    ratio: f64,
    log_weight: f64,
}

static MIXTURE: LazyLock<Vec<Mixed>> = LazyLock::new(|| {
    let bent = |j: i16| {
        let part = f64::from(j) / f64::from(HALF);
        let place = REACH * sinh(BEND * part) / sinh(BEND);
        (place, log(cosh(BEND * part)) - 0.5 * place * place)
    };
    let sum = log_sum_exp((-HALF..=HALF).map(|j| bent(j).1));
    let mixed = (-HALF..=HALF).map(bent).map(|(place, weight)| Mixed {
        place,
        ratio: exp(place),
        log_weight: weight - sum,
    });
    mixed.collect()
});

/// What the ticks so far say about the ratio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Likelihood {
    /// Most different splits kept.
    room: usize,
    /// Canary events, each divided by the dispersion of its time.
    lead: f64,
    /// Per split kept: events of both arms, divided likewise.
    #[serde(with = "packed")]
    events: Vec<f64>,
    /// Per split kept, rising: logarithm of baseline requests per canary request.
    #[serde(with = "packed")]
    splits: Vec<f64>,
}

impl Likelihood {
    /// Nothing seen; at most `room` different splits will be kept.
    #[must_use]
    pub const fn new(room: usize) -> Self {
        Self {
            room,
            lead: 0.0,
            events: Vec::new(),
            splits: Vec::new(),
        }
    }

    /// Adds a tick. One without events or with an idle arm says nothing about the ratio.
    pub fn add(&mut self, counts: &Counts, phi: f64) {
        let events = (counts.a + counts.b) / phi;
        if !counts.comparable() || events <= 0.0 {
            return;
        }
        self.lead += counts.a / phi;
        let split = log(counts.m / counts.n);
        let place = self.splits.partition_point(|known| *known < split);
        self.splits.insert(place, split);
        self.events.insert(place, events);
        if self.splits.len() > self.room {
            self.join_nearest();
        }
    }

    /// Joins the two neighbours whose joining loses least.
    fn join_nearest(&mut self) {
        let pairs = self.splits.windows(2).zip(self.events.windows(2));
        let losses = pairs.map(|(splits, events)| match (splits, events) {
            (&[low, high], &[one, other]) => one * other / (one + other) * (high - low) * (high - low),
            _ => f64::INFINITY,
        });
        let least = losses
            .enumerate()
            .reduce(|least, next| if next.1 < least.1 { next } else { least });
        let Some((at, _)) = least else {
            return;
        };
        let (split, events) = (self.splits.remove(at), self.events.remove(at));
        if let (Some(kept_split), Some(kept_events)) = (self.splits.get_mut(at), self.events.get_mut(at)) {
            let sum = events + *kept_events;
            *kept_split = (split * events + *kept_split * *kept_events) / sum;
            *kept_events = sum;
        }
    }

    /// The likelihood as a function of the ratio.
    #[must_use]
    pub fn curve(&self) -> Curve {
        let kept = self.events.iter().zip(&self.splits);
        Curve {
            lead: self.lead,
            kept: kept.map(|(events, split)| (*events, exp(*split))).collect(),
        }
    }

    /// The logarithms of the ratios between which the truth lies at all looks with probability
    /// `1 − level`, for each of these levels, of which none is smaller than the one before; `None`
    /// where there is no bound.
    #[must_use]
    pub fn bounds<const LEVELS: usize>(&self, levels: [f64; LEVELS]) -> [[Option<f64>; 2]; LEVELS] {
        if self.events.is_empty() {
            return [[None, None]; LEVELS];
        }
        let curve = self.curve();
        let mixed = curve.mixed();
        let mut outside = [-FAR, FAR];
        levels.map(|level| {
            let found = [0, 1].map(|side: usize| {
                let far = *outside.get(side)?;
                curve.crossing(far, mixed + log(level))
            });
            for (known, bound) in outside.iter_mut().zip(found) {
                *known = bound.unwrap_or(*known);
            }
            found
        })
    }
}

/// Bounds of the canary's rate less the baseline's, from bounds of their ratio and the baseline's
/// counts: corners of both intervals, so that their levels add up. The baseline's own interval
/// (Clopper–Pearson) is for one look; this is for display.
#[must_use]
pub fn difference([low, high]: [f64; 2], counts: &Counts, level: f64) -> [f64; 2] {
    let [least, most] = clopper_pearson(counts.b, counts.m, level);
    let below = if low < 1.0 { most } else { least };
    let above = if high > 1.0 { most } else { least };
    [below * (low - 1.0), above * (high - 1.0)]
}

/// Between which shares `events` of `total` requests put the truth, with probability `1 − level`.
#[must_use]
pub fn clopper_pearson(events: f64, total: f64, level: f64) -> [f64; 2] {
    let least = if events > 0.0 {
        inv_beta_reg(events, total - events + 1.0, level / 2.0)
    } else {
        0.0
    };
    let most = if events < total {
        inv_beta_reg(events + 1.0, total - events, 1.0 - level / 2.0)
    } else {
        1.0
    };
    [least, most]
}

/// The logarithm of a likelihood, up to a constant: a concave function of the logarithm of the
/// ratio.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    lead: f64,
    kept: Vec<(f64, f64)>,
}

impl Curve {
    fn at(&self, x: f64, ratio: f64) -> f64 {
        self.kept
            .iter()
            .fold(self.lead * x, |sum, (events, split)| sum - events * log(ratio + split))
    }

    fn slope(&self, ratio: f64) -> f64 {
        self.kept
            .iter()
            .fold(self.lead, |sum, (events, split)| sum - events * ratio / (ratio + split))
    }

    /// The logarithm of the likelihood under the mixture, up to the same constant.
    #[must_use]
    pub fn mixed(&self) -> f64 {
        let (left, right) = MIXTURE.split_at(MIXTURE.len() / 2);
        let (mut parts, mut top) = (Vec::with_capacity(MIXTURE.len()), f64::NEG_INFINITY);
        self.gather(&mut right.iter(), &mut parts, &mut top);
        self.gather(&mut left.iter().rev(), &mut parts, &mut top);
        log_sum_exp(parts.into_iter())
    }

    /// Gathers the parts of the mixture from the middle outwards, until none that follows could
    /// change the sum: the curve is concave, so once it falls it goes on falling.
    fn gather<'a>(&self, outwards: &mut impl Iterator<Item = &'a Mixed>, parts: &mut Vec<f64>, top: &mut f64) {
        let mut before = f64::NEG_INFINITY;
        for mixed in outwards {
            let here = self.at(mixed.place, mixed.ratio);
            if here < before && here < *top - NOTHING {
                return;
            }
            before = here;
            let part = mixed.log_weight + here;
            *top = top.max(part);
            parts.push(part);
        }
    }

    /// Where the curve crosses `limit` on the side of `far`, by Newton's method: as the curve is
    /// concave, it comes closer from outside and never oversteps.
    fn crossing(&self, far: f64, limit: f64) -> Option<f64> {
        let mut x = far;
        for _ in 0..STEPS {
            let ratio = exp(x);
            let (missing, slope) = (limit - self.at(x, ratio), self.slope(ratio));
            if x.total_cmp(&far).is_eq() && missing <= 0.0 {
                return (far.abs() < FAR).then_some(far);
            }
            let step = missing / slope;
            x += step;
            if step.abs() <= CLOSE {
                break;
            }
        }
        Some(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_takes_the_baseline_that_stretches_it_most() {
        let counts = Counts {
            a: 0.0,
            n: 0.0,
            b: 30.0,
            m: 10_000.0,
        };
        let [least, most] = clopper_pearson(30.0, 10_000.0, 0.05);
        for (ratio, wanted) in [
            ([0.5, 2.0], [-0.5 * most, most]),
            ([1.5, 2.0], [0.5 * least, most]),
            ([0.2, 0.5], [-0.8 * most, -0.5 * least]),
        ] {
            let found = difference(ratio, &counts, 0.05);
            assert!(
                found.iter().zip(wanted).all(|(one, other)| (one - other).abs() < 1e-15),
                "{ratio:?}: {found:?} instead of {wanted:?}"
            );
        }
    }
}
