//! E2: the same for shares that are not small, where requests are no longer rare events.
//!
//! E1's bound treats a request as if it could fail more than once; at a share of p that costs a
//! factor of 1/(1 − p) in requests. Here every request fails or does not. Per tick the canary's
//! share is bet to be `logistic(logit θ_b ± d)`, where θ_b is the baseline's share as it was
//! before the tick; by the inequality of the means no common share makes the expected factor of a
//! tick larger than 1, so θ_b costs power at worst, never validity. The margin enters by thinning:
//! a canary event counts with probability `1 / ratio`, or with a ratio below 1 a baseline event with
//! probability `ratio`, averaged, so that nothing is drawn.
//!
//! After Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample tests".

use libm::log;

use super::e1::{BETS, GRID, Margin, Place};

/// Baseline requests before a share is known well enough to bet on.
const KNOWN: f64 = 500.0;
/// From this share on E2 says more than E1 by as much as its guess of the share may cost.
const LEAST: f64 = 0.03;

/// Between these no product of powers has come near the end of what a number can be.
const SMALLEST: f64 = 1e-250;
const LARGEST: f64 = 1e250;
/// Counts below this may be whole numbers.
const WHOLE: f64 = 9e15;

/// The baseline's share of events, when requests so far say that this is the better process. A
/// margin with an absolute part stays with E1, which alone can hold it.
#[must_use]
pub fn share(margin: &Margin, events: f64, total: f64) -> Option<f64> {
    let share = (events + 0.5) / (total + 1.0);
    (total >= KNOWN && share >= LEAST && margin.extra <= 0.0).then_some(share)
}

/// A tick before its events are known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guess {
    /// With which probability an event of the canary, of the baseline counts.
    kept: [f64; 2],
    /// The baseline's share of events that count.
    share: f64,
    requests: [f64; 2],
}

impl Guess {
    /// The baseline's share is taken to be `share`, and the arms make so many requests.
    #[must_use]
    pub fn new(margin: &Margin, share: f64, requests: [f64; 2]) -> Self {
        let [kept, kept_of_baseline] = [1.0 / margin.ratio, margin.ratio].map(|kept| kept.min(1.0));
        Self {
            kept: [kept, kept_of_baseline],
            share: share * kept_of_baseline,
            requests,
        }
    }

    /// What the alternative at this place, as ratio of the odds, makes of it.
    ///
    /// With θ the share, `o = e^x` and `z = 1 − θ + θ·o`, the canary's share is bet to be `θ·o/z`, and
    /// the common share is `θ·(n·o + m·z) / ((n + m)·z)`. Divided by each other θ and 1 − θ cancel:
    /// relative to the common share an event is worth `o·E` or `z·E`, and none `N` or `z·N`, with
    /// `E = (n + m)/(n·o + m·z)` and `N = (n + m)/(n + m·z)`.
    #[must_use]
    pub fn worth(&self, place: &Place) -> Worth {
        let ([n, m], odds) = (self.requests, place.exp);
        let unlike = 1.0 - self.share + self.share * odds;
        let event = (n + m) / (n * odds + m * unlike);
        let none = (n + m) / (n + m * unlike);
        let worth = |own: f64, none: f64, kept: f64| [kept * own * event + (1.0 - kept) * none, none];
        Worth {
            canary: worth(odds, none, self.kept[0]),
            baseline: worth(unlike, unlike * none, self.kept[1]),
        }
    }

    /// Adds what these events are worth to every alternative, in natural logarithms and divided by the
    /// dispersion: what [`Worth::log_of`] says.
    ///
    /// The logarithm of a product of powers takes one logarithm where the sum takes four. Counts are
    /// whole numbers as a rule, and then the powers take none.
    pub fn play(&self, margin: &Margin, [a, b]: [f64; 2], phi: f64, logs: &mut [f64; GRID]) {
        let mut worths = [Worth::default(); GRID];
        for (worth, bet) in worths.iter_mut().zip(BETS.iter()) {
            *worth = self.worth(margin.place(bet));
        }
        let [n, m] = self.requests;
        let mut products = [0.0; GRID];
        if let [Some(a), Some(others), Some(b), Some(others_b)] = [whole(a), whole(n - a), whole(b), whole(m - b)] {
            let (groups, _) = worths.as_chunks();
            for (products, group) in products.as_chunks_mut().0.iter_mut().zip(groups) {
                powers(products, group, [a, others, b, others_b]);
            }
        }
        let per_phi = 1.0 / phi;
        for ((wealth, product), worth) in logs.iter_mut().zip(products).zip(&worths) {
            let won = if (SMALLEST..LARGEST).contains(&product) {
                log(product)
            } else {
                worth.log_of([a, b], self.requests)
            };
            *wealth += won * per_phi;
        }
    }
}

/// What one request multiplies an alternative's wealth by: an event and none, of the canary and of the
/// baseline.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Worth {
    /// Of the canary: `[event, none]`.
    pub canary: [f64; 2],
    /// Of the baseline, likewise.
    pub baseline: [f64; 2],
}

impl Worth {
    /// The same in natural logarithms.
    #[must_use]
    pub fn logs(&self) -> Self {
        Self {
            canary: self.canary.map(log),
            baseline: self.baseline.map(log),
        }
    }

    /// What a tick with these events among so many requests is worth, of canary and baseline, in
    /// natural logarithms.
    #[must_use]
    pub fn log_of(&self, [a, b]: [f64; 2], [n, m]: [f64; 2]) -> f64 {
        let arm = |logs: [f64; 2], events: f64, total: f64| events * logs[0] + (total - events) * logs[1];
        let Self { canary, baseline } = self.logs();
        arm(canary, a, n) + arm(baseline, b, m)
    }
}

/// The products of four powers, of what each outcome is worth and how often it is counted, by squaring
/// the products from the highest binary digit of the counts down. Four alternatives are multiplied side
/// by side, as a processor waits for a product longer than it works on it.
///
/// A product on its way is a root of the last one, up to one request of each outcome; so where the
/// last one is between [`SMALLEST`] and [`LARGEST`], none before it was too small or too large.
fn powers(out: &mut [f64; 4], worths: &[Worth; 4], [events, others, events_b, others_b]: [u64; 4]) {
    let side_by_side = |of: fn(&Worth) -> f64| [of(&worths[0]), of(&worths[1]), of(&worths[2]), of(&worths[3])];
    let event = side_by_side(|worth| worth.canary[0]);
    let other = side_by_side(|worth| worth.canary[1]);
    let event_b = side_by_side(|worth| worth.baseline[0]);
    let other_b = side_by_side(|worth| worth.baseline[1]);
    let mut products = [1.0; 4];
    let digits = u64::BITS - (events | others | events_b | others_b).leading_zeros();
    for digit in (0..digits).rev() {
        let has = |count: u64| count >> digit & 1 == 1;
        products = multiplied(products, products);
        if has(events) {
            products = multiplied(products, event);
        }
        if has(others) {
            products = multiplied(products, other);
        }
        if has(events_b) {
            products = multiplied(products, event_b);
        }
        if has(others_b) {
            products = multiplied(products, other_b);
        }
    }
    *out = products;
}

/// Written out, so that the numbers stay in registers when the compiler is told to save space.
#[inline]
fn multiplied(one: [f64; 4], by: [f64; 4]) -> [f64; 4] {
    [one[0] * by[0], one[1] * by[1], one[2] * by[2], one[3] * by[3]]
}

/// A count as a whole number, where it is one.
fn whole(count: f64) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "compared, and then a whole number below 2^53"
    )]
    let (whole, same) = (count as u64, count as u64 as f64);
    (count < WHOLE && same.total_cmp(&count).is_eq()).then_some(whole)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::judge::e1::Side;

    /// Requests from none to far more than a product of powers can hold, whole or in part.
    fn requests() -> impl Strategy<Value = f64> {
        let size = prop_oneof![0.0..30.0_f64, 0.0..3000.0_f64, 0.0..1e7_f64];
        (size, any::<bool>()).prop_map(|(size, part)| if part { size } else { size.floor() })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn products_of_powers_are_sums_of_logarithms(
            (higher, ratio, share) in (any::<bool>(), 0.2..5.0_f64, 0.001..0.999_f64),
            (n, m, phi) in (requests(), requests(), 1.0..4.0_f64),
            (of_canary, of_baseline) in (0.0..1.0_f64, 0.0..1.0_f64),
        ) {
            let side = if higher { Side::Higher } else { Side::Lower };
            let margin = Margin { side, ratio, extra: 0.0 };
            let (n, m) = (n + 1.0, m + 1.0);
            let events = [(n * of_canary).floor(), (m * of_baseline).floor()];
            let guess = Guess::new(&margin, share, [n, m]);
            let mut logs = [0.0; GRID];
            guess.play(&margin, events, phi, &mut logs);
            for (log, bet) in logs.iter().zip(BETS.iter()) {
                let wanted = guess.worth(margin.place(bet)).log_of(events, [n, m]) / phi;
                prop_assert!((log - wanted).abs() <= 1e-12 * (n + m + wanted.abs()), "{} instead of {}", log, wanted);
            }
        }
    }

    #[test]
    fn a_worth_is_the_share_that_is_bet_on_relative_to_the_common_one() {
        let margin = |ratio| Margin {
            side: Side::Higher,
            ratio,
            extra: 0.0,
        };
        let place = Place::at(0.7);
        let odds = 0.25 * place.exp;
        let bet = odds / (0.75 + odds);
        let common = (100.0 * bet + 1900.0 * 0.25) / 2000.0;
        let none = |share: f64| (1.0 - share) / (1.0 - common);
        let plain = Guess::new(&margin(1.0), 0.25, [100.0, 1900.0]).worth(&place);
        let thinned = Guess::new(&margin(4.0), 0.25, [100.0, 1900.0]).worth(&place);
        for (found, wanted) in [
            (plain.canary, [bet / common, none(bet)]),
            (plain.baseline, [0.25 / common, none(0.25)]),
            (thinned.canary, [0.25 * bet / common + 0.75 * none(bet), none(bet)]),
            (thinned.baseline, [0.25 / common, none(0.25)]),
        ] {
            for (found, wanted) in found.into_iter().zip(wanted) {
                assert!((found - wanted).abs() < 1e-14, "{found} instead of {wanted}");
            }
        }
    }
}
