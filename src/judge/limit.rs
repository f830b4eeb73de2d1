//! Plain limits: the method `Limit`, and the guard that every ratio has.
//!
//! The guard catches what needs no comparison: a canary of which a fifth of the requests fail
//! is aborted even while the comparison still gathers evidence.

use serde::{Deserialize, Serialize};
use statrs::function::beta::beta_reg;

use super::e1::Counts;
use super::metric::Sums;

/// Share of failing requests that no canary may exceed.
pub const GUARD_SHARE: f64 = 0.2;
/// Canary requests before the guard says anything.
const GUARD_SAMPLE: f64 = 200.0;
/// Probability of so many failures at exactly the guard's share, below which it fires.
const GUARD_LEVEL: f64 = 1e-4;

/// Whether the canary certainly fails more than a fifth of its requests (Clopper–Pearson, one
/// look, 1 in 10,000), and the baseline does not: a metric whose ordinary share is that high is
/// not the guard's business.
#[must_use]
pub fn guard_fires(counts: &Counts) -> bool {
    counts.n >= GUARD_SAMPLE
        && counts.a > GUARD_SHARE * counts.n
        && counts.b <= GUARD_SHARE * counts.m
        && binomial_tail(counts.a, counts.n, GUARD_SHARE) < GUARD_LEVEL
}

/// The probability of `events` or more among `total` independent requests that each count with
/// probability `share`.
#[must_use]
pub fn binomial_tail(events: f64, total: f64, share: f64) -> f64 {
    if events <= 0.0 {
        return 1.0;
    }
    beta_reg(events, total - events + 1.0, share)
}

/// A step's windows of the minimum sample each, compared with a plain limit one by one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Windows {
    /// What the window being gathered has counted.
    gathered: Sums,
    /// The newest full one.
    pub newest: Option<Sums>,
    /// How many in a row, up to the newest, were above the limit.
    pub above: u32,
}

impl Windows {
    /// Adds a tick. A window is full with the tick that completes its minimum sample.
    pub fn observe(&mut self, counts: &Counts, max: f64, min_sample: f64) {
        self.gathered.add(counts);
        let Counts { a, n, .. } = self.gathered.0;
        if n < min_sample {
            return;
        }
        self.above = if a > max * n { self.above.saturating_add(1) } else { 0 };
        self.newest = Some(std::mem::take(&mut self.gathered));
    }

    /// Whether the newest full window was within the limit.
    #[must_use]
    pub const fn within(&self) -> bool {
        self.newest.is_some() && self.above == 0
    }

    /// Requests that the window being gathered lacks.
    #[must_use]
    pub fn lacks(&self, min_sample: f64) -> f64 {
        (min_sample - self.gathered.0.n).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_judged_one_by_one_and_counted_in_a_row() {
        let cases = [
            ("a request is missing", vec![[9.0, 99.0]], (false, 0, 1.0)),
            ("exactly at the limit", vec![[5.0, 100.0]], (true, 0, 100.0)),
            ("above it", vec![[6.0, 100.0]], (false, 1, 100.0)),
            ("above it twice", vec![[6.0, 100.0], [60.0, 1000.0]], (false, 2, 100.0)),
            (
                "two ticks make a window",
                vec![[6.0, 60.0], [0.0, 60.0]],
                (true, 0, 100.0),
            ),
            (
                "a good one in between",
                vec![[6.0, 100.0], [0.0, 100.0], [6.0, 100.0]],
                (false, 1, 100.0),
            ),
            (
                "the next is not full",
                vec![[6.0, 100.0], [0.0, 40.0]],
                (false, 1, 60.0),
            ),
        ];
        for (name, ticks, wanted) in cases {
            let mut seen = Windows::default();
            for [a, n] in ticks {
                seen.observe(&Counts { a, n, b: 0.0, m: 0.0 }, 0.05, 100.0);
            }
            assert_eq!((seen.within(), seen.above, seen.lacks(100.0)), wanted, "{name}");
        }
    }

    #[test]
    fn the_guard_fires_only_when_a_fifth_certainly_fails() {
        let cases = [
            ("a third of the least sample", [66.0, 200.0, 0.0, 1000.0], true),
            ("one request short of it", [199.0, 199.0, 0.0, 1000.0], false),
            ("a quarter is not certain yet", [50.0, 200.0, 0.0, 1000.0], false),
            ("a quarter of more is", [250.0, 1000.0, 0.0, 1000.0], true),
            ("exactly a fifth", [2000.0, 10_000.0, 0.0, 1000.0], false),
            ("stable does not do better", [250.0, 1000.0, 250.0, 1000.0], false),
            ("no stable to compare with", [250.0, 1000.0, 0.0, 0.0], true),
        ];
        for (name, [a, n, b, m], fires) in cases {
            assert_eq!(guard_fires(&Counts { a, n, b, m }), fires, "{name}");
        }
    }
}
