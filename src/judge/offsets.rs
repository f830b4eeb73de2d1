//! Pod offsets: how far pods differ from each other for good.
//!
//! A pod on a slow node or with a cold cache is worse for as long as it lives, and so is a canary
//! of one pod that happens to land there. More requests only make that surer; only more pods, or
//! a wider margin, help. The spread τ between the baseline's pods is estimated from their totals,
//! beyond what the dispersion explains, and widens the abort margin where a step begins.

use libm::{exp, sqrt};
use serde::{Deserialize, Serialize};

use crate::decision::Arm;

use super::packed;

/// Pods kept; more would say little new and cost state.
const PODS: usize = 16;
/// Fewer pods than this say nothing about their spread.
const FEWEST_PODS: usize = 5;
/// Standard errors of two means of pods that the margin allows for: what 1 in 100 exceed, as the
/// evidence of a release that takes its time would find out all others.
const ERRORS: f64 = 2.33;

/// Requests and events of the shown tail, pod by pod, since their number changed last.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Offsets {
    /// How many pods there are, also those that are not kept.
    pods: usize,
    /// Requests and events, pod after pod.
    #[serde(with = "packed::short")]
    sums: Vec<f32>,
}

impl Offsets {
    /// Adds one tick: per pod its requests and its events. A change in the number of pods begins
    /// anew.
    pub fn observe(&mut self, pods: impl ExactSizeIterator<Item = [f64; 2]>) {
        if pods.len() != self.pods {
            self.pods = pods.len();
            self.sums = vec![0.0; 2 * self.pods.min(PODS)];
        }
        for (sum, count) in self.sums.iter_mut().zip(pods.flatten()) {
            #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough")]
            let count = count as f32;
            *sum += count;
        }
    }

    /// The standard deviation of the pods' rates divided by their mean, without what counting
    /// adds; `None` while too little is known.
    fn spread(&self, phi: f64) -> Option<f64> {
        let (counts, _) = self.sums.as_chunks::<2>();
        let live: Vec<(f64, f64)> = counts
            .iter()
            .map(|[total, events]| (f64::from(*total), f64::from(*events)))
            .filter(|(total, _)| *total > 0.0)
            .collect();
        let (total, events) = live.iter().fold((0.0, 0.0), |sum, pod| (sum.0 + pod.0, sum.1 + pod.1));
        if live.len() < FEWEST_PODS || events <= 0.0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 16 pods")]
        let count = live.len() as f64;
        let (mut squares, mut chance) = (0.0, 0.0);
        for (own, bad) in live {
            let mean = events * own / total;
            squares += (bad / mean - 1.0) * (bad / mean - 1.0);
            chance += phi / mean;
        }
        Some(sqrt((squares / (count - 1.0) - chance / count).max(0.0)))
    }

    /// By how much the abort margin widens for a canary of so many pods: 1 for not at
    /// all, also while too little is known.
    pub fn widening(&self, canary_pods: u32, phi: f64) -> f64 {
        if canary_pods == 0 || self.pods == 0 {
            return 1.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "pods of a Deployment")]
        let error = sqrt(1.0 / f64::from(canary_pods) + 1.0 / self.pods as f64);
        self.spread(phi).map_or(1.0, |spread| exp(ERRORS * spread * error))
    }
}

/// Room that a canary of few pods is given, and what it depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    offsets: Offsets,
    /// Pods of the canary at this step; 0 when that is not known.
    pub canary_pods: u32,
    widening: f64,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            offsets: Offsets::default(),
            canary_pods: 0,
            widening: 1.0,
        }
    }
}

impl Room {
    /// Adds one tick of stable's pods; of a histogram, the tail that is `shown`.
    pub fn observe(&mut self, pods: &[Arm], shown: usize) {
        let events = |pod: &Arm| pod.events.get(shown).copied().unwrap_or_default();
        self.offsets.observe(pods.iter().map(|pod| [pod.total, events(pod)]));
    }

    /// Takes over what the pods have shown, once the dispersion is known.
    pub fn learn(&mut self, phi: Option<f64>) {
        self.widening = phi.map_or(1.0, |phi| self.offsets.widening(self.canary_pods, phi));
    }

    /// By how much the abort margin is wider now, 1 or more.
    pub const fn widening(&self) -> f64 {
        self.widening
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ticks: usize, events: &[f64]) -> Offsets {
        let mut seen = Offsets::default();
        for _ in 0..ticks {
            seen.observe(events.iter().map(|events| [600.0, *events]));
        }
        seen
    }

    #[test]
    fn the_margin_widens_with_the_spread_of_pods_and_narrows_with_their_number() {
        let uneven = [1.0, 2.0, 3.0, 4.0, 5.0];
        // of these the variance is 2.5 / 9, less 1 in 300 for counting
        let spread = sqrt(2.5 / 9.0 - 1.0 / 300.0);
        let cases = [
            ("one canary pod", after(100, &uneven), 1, ERRORS * spread * sqrt(1.2)),
            ("four of them", after(100, &uneven), 4, ERRORS * spread * sqrt(0.45)),
            ("nobody said how many", after(100, &uneven), 0, 0.0),
            ("pods alike", after(100, &[3.0; 5]), 1, 0.0),
            ("a spread that chance explains", after(1, &uneven), 1, 0.0),
            ("too few pods", after(100, &[1.0, 2.0, 3.0, 4.0]), 1, 0.0),
            ("no event", after(100, &[0.0; 5]), 1, 0.0),
            ("no pod told", Offsets::default(), 1, 0.0),
        ];
        for (name, seen, pods, wanted) in cases {
            let found = libm::log(seen.widening(pods, 1.0));
            assert!((found - wanted).abs() < 1e-12, "{name}: {found} instead of {wanted}");
        }
        let clumped = after(100, &uneven).widening(1, 50.0);
        assert!(
            clumped < after(100, &uneven).widening(1, 1.0),
            "clumps explain some of it"
        );
    }

    #[test]
    fn other_pods_begin_anew_and_many_are_kept_in_part() {
        let mut seen = after(100, &[1.0, 2.0, 3.0, 4.0, 5.0]);
        let many = [3.0; 20];
        seen.observe(many.into_iter().map(|events| [600.0, events]));
        assert_eq!((seen.pods, seen.sums.len()), (20, 32));
        assert!((seen.widening(1, 1.0) - 1.0).abs() < 1e-12);
    }
}
