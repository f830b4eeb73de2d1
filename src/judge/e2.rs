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

use super::e1::{Margin, Place};

/// Baseline requests before a share is known well enough to bet on.
const KNOWN: f64 = 500.0;
/// From this share on E2 says more than E1 by as much as its guess of the share may cost.
const LEAST: f64 = 0.03;

/// The baseline's share of events, when requests so far say that this is the better process. A
/// margin with an absolute part stays with E1, which alone can hold it.
#[must_use]
pub fn share(margin: &Margin, events: f64, total: f64) -> Option<f64> {
    let share = (events + 0.5) / (total + 1.0);
    (total >= KNOWN && share >= LEAST && margin.extra <= 0.0).then_some(share)
}

/// What one request is worth to an alternative, in natural logarithms: an event and none, of the
/// canary and of the baseline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Worth {
    /// Of the canary: `[event, none]`.
    pub canary: [f64; 2],
    /// Of the baseline, likewise.
    pub baseline: [f64; 2],
}

impl Worth {
    /// The alternative at this place, as ratio of the odds, when the baseline's share is taken to
    /// be `share` and the arms make `n` and `m` requests.
    #[must_use]
    pub fn new(margin: &Margin, place: &Place, share: f64, [n, m]: [f64; 2]) -> Self {
        let [kept, kept_of_baseline] = [1.0 / margin.ratio, margin.ratio].map(|kept| kept.min(1.0));
        let share = share * kept_of_baseline;
        let odds = share / (1.0 - share) * place.exp;
        let bet = odds / (1.0 + odds);
        let common = (n * bet + m * share) / (n + m);
        let worth = |share: f64, kept: f64| {
            let none = (1.0 - share) / (1.0 - common);
            [log(kept * share / common + (1.0 - kept) * none), log(none)]
        };
        Self {
            canary: worth(bet, kept),
            baseline: worth(share, kept_of_baseline),
        }
    }

    /// What a tick with these events among so many requests is worth, of canary and baseline.
    #[must_use]
    pub fn of(&self, [a, b]: [f64; 2], [n, m]: [f64; 2]) -> f64 {
        let arm = |worth: [f64; 2], events: f64, total: f64| events * worth[0] + (total - events) * worth[1];
        arm(self.canary, a, n) + arm(self.baseline, b, m)
    }
}
