//! Plain limits: the method `Limit`, and the guard that every ratio has.
//!
//! The guard catches what needs no comparison: a canary of which a fifth of the requests fail
//! is aborted even while the comparison still gathers evidence.

use statrs::function::beta::beta_reg;

use super::e1::Counts;

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

/// What a plain limit says of the canary's own counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// Fewer requests than the minimum.
    TooFew,
    /// At or below the limit.
    Within,
    /// Above it.
    Exceeded,
}

/// Compares the canary's share of events with a fixed limit.
#[must_use]
pub fn compare(counts: &Counts, max: f64, min_sample: f64) -> Compared {
    if counts.n < min_sample {
        Compared::TooFew
    } else if counts.a > max * counts.n {
        Compared::Exceeded
    } else {
        Compared::Within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
