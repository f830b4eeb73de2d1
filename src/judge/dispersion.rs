//! Dispersion: how much more the counts vary than independent requests would.
//!
//! Retries and bursts make events come in clumps, which breaks every test on counts; evidence is
//! therefore divided by φ, the variance relative to independent requests. φ is estimated from
//! the baseline's pods, minute by minute, as Pearson's statistic given the minute's total: what
//! moves all pods together cancels and does not count as dispersion. It is read from whole minutes
//! that are over when a tick begins, so that no tick chooses its own φ. The guarantee is exact for clumps of at most
//! φ in one arm; for other dependence it is measured, not proved.

use libm::sqrt;
use serde::{Deserialize, Serialize};

use crate::decision::Arm;

use super::packed;

/// Pods looked at; more would say little new and cost state.
const PODS: usize = 6;
/// Fewer pods than this say nothing about pods.
const FEWEST_PODS: usize = 3;
/// Minutes with events before the estimate replaces the default.
const ENOUGH_MINUTES: u32 = 30;
/// Minutes before an estimate that is clearly above the default replaces it already.
const FIRST_MINUTES: u32 = 5;

/// Pearson's statistic over the minutes so far, per tail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dispersion {
    /// The minute being gathered.
    minute: i64,
    /// Its requests per pod.
    #[serde(with = "packed")]
    totals: Vec<f64>,
    /// Its events per tail and pod: tail by tail.
    #[serde(with = "packed")]
    events: Vec<f64>,
    /// Finished minutes, per tail.
    tails: Vec<Pearson>,
}

/// Pearson's statistic of one tail.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Pearson {
    /// Sum of squared deviations over expectations.
    pub chi2: f64,
    /// Degrees of freedom.
    pub freedom: f64,
    /// Minutes that had events.
    minutes: u32,
}

impl Pearson {
    /// Adds a minute: events and requests per pod. Pods without requests do not count.
    pub fn add(&mut self, events: &[f64], totals: &[f64]) {
        let live = || events.iter().zip(totals).filter(|(_, total)| **total > 0.0);
        let pods = live().count();
        let (all_events, all_totals) = live().fold((0.0, 0.0), |sum, pod| (sum.0 + pod.0, sum.1 + pod.1));
        if pods < FEWEST_PODS || all_events <= 0.0 {
            return;
        }
        for (count, total) in live() {
            let mean = all_events * total / all_totals;
            self.chi2 += (count - mean) * (count - mean) / mean;
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 6 pods")]
        let freedom = (pods - 1) as f64;
        self.freedom += freedom;
        self.minutes = self.minutes.saturating_add(1);
    }

    /// Two standard errors above the plain estimate, and never below 1.
    #[must_use]
    pub fn upper(&self) -> f64 {
        (self.chi2 / self.freedom * (1.0 + 2.0 * sqrt(2.0 / self.freedom))).max(1.0)
    }

    /// The dispersion to use, given the default for as long as too little is known.
    fn phi(&self, default: f64) -> f64 {
        if self.minutes >= ENOUGH_MINUTES {
            return self.upper();
        }
        let surprising = 1.0 + 2.0 * sqrt(2.0 / self.freedom);
        if self.minutes >= FIRST_MINUTES && self.chi2 / self.freedom > default * surprising {
            return self.upper();
        }
        default
    }
}

impl Dispersion {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(tails: usize) -> Self {
        Self {
            minute: 0,
            totals: Vec::new(),
            events: Vec::new(),
            tails: vec![Pearson::default(); tails],
        }
    }

    /// Adds one tick of the baseline's pods, which keep their order while they live. A change in
    /// their number ends the minute early. Says whether a minute was over, so that there may be
    /// a new estimate.
    pub fn observe(&mut self, minute: i64, pods: &[Arm]) -> bool {
        let pods = pods.get(..PODS).unwrap_or(pods);
        let over = minute != self.minute || pods.len() != self.totals.len();
        if over {
            self.finish();
            self.minute = minute;
            self.totals = vec![0.0; pods.len()];
            self.events = vec![0.0; pods.len() * self.tails.len()];
        }
        self.add(pods);
        over
    }

    fn add(&mut self, pods: &[Arm]) {
        for (sum, pod) in self.totals.iter_mut().zip(pods) {
            *sum += pod.total;
        }
        let tails = 0..self.tails.len();
        let counted = tails.flat_map(|tail| pods.iter().map(move |pod| pod.events.get(tail).copied().unwrap_or(0.0)));
        for (sum, count) in self.events.iter_mut().zip(counted) {
            *sum += count;
        }
    }

    fn finish(&mut self) {
        let pods = self.totals.len();
        if pods == 0 {
            return;
        }
        for (tail, events) in self.tails.iter_mut().zip(self.events.chunks(pods)) {
            tail.add(events, &self.totals);
        }
    }

    /// Whether some tail's estimate has replaced the default, so that pods are known as well.
    pub fn is_known(&self) -> bool {
        self.tails.iter().any(|tail| tail.minutes >= ENOUGH_MINUTES)
    }

    /// φ per tail as known now: from whole minutes only.
    #[must_use]
    pub fn phi(&self, default: f64) -> Vec<f64> {
        self.tails.iter().map(|tail| tail.phi(default)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(count: i64, pods: &[f64]) -> Dispersion {
        let mut seen = Dispersion::new(1);
        for minute in 0..=count {
            let arms: Vec<Arm> = pods
                .iter()
                .map(|events| Arm {
                    events: vec![*events],
                    total: 600.0,
                })
                .collect();
            seen.observe(minute, &arms);
        }
        seen
    }

    #[test]
    fn the_default_holds_until_enough_is_known() {
        let even = [4.0, 5.0, 6.0];
        let clumped = [0.0, 0.0, 15.0];
        let cases = [
            ("nothing seen", minutes(0, &even), 2.0, 2.0),
            ("half an hour of even pods", minutes(30, &even), 2.0, 1.0),
            ("a minute less", minutes(29, &even), 2.0, 2.0),
            ("two pods say nothing", minutes(60, &[0.0, 15.0]), 2.0, 2.0),
            ("no event says nothing", minutes(60, &[0.0, 0.0, 0.0]), 2.0, 2.0),
            (
                "clumps are believed early",
                minutes(5, &clumped),
                1.0,
                15.0 * (1.0 + 2.0 * sqrt(0.2)),
            ),
            ("but not at once", minutes(4, &clumped), 1.0, 1.0),
        ];
        for (name, seen, default, wanted) in cases {
            let phi = seen.phi(default);
            assert!(
                (phi.iter().sum::<f64>() - wanted).abs() < 1e-12,
                "{name}: {phi:?} instead of {wanted}"
            );
        }
    }

    #[test]
    fn a_burst_that_all_pods_share_is_no_dispersion() {
        let mut seen = Dispersion::new(1);
        for minute in 0..=60 {
            let events = if minute % 2 == 0 { 1.0 } else { 100.0 };
            seen.observe(
                minute,
                &vec![
                    Arm {
                        events: vec![events],
                        total: 600.0
                    };
                    5
                ],
            );
        }
        assert!((seen.phi(3.0).iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}
