//! The fixed window of the method `MannWhitney`: points of both arms, judged when it is full.

use serde::{Deserialize, Serialize};

use crate::decision::Millis;

use super::e1::Counts;
use super::mann_whitney;
use super::packed;

/// What a step's window has seen so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Window {
    /// Shares of events of the points so far, in percent: of the canary and of the baseline.
    #[serde(with = "packed::short")]
    canary: Vec<f32>,
    #[serde(with = "packed::short")]
    baseline: Vec<f32>,
    /// Points that are over, also those in which an arm was idle and has no share.
    over: u32,
    /// When the point being gathered began, and its counts.
    since: Option<Millis>,
    #[serde(with = "packed")]
    counts: Vec<f64>,
    /// What the newest full window said: whether the canary is worse.
    pub high: Option<bool>,
}

impl Window {
    /// Adds a tick that began at `start` and ended at `end`. A tick that covers a gap belongs to
    /// the point in which it ends.
    pub fn observe(&mut self, [start, end]: [Millis; 2], counts: &Counts, (length, points): (Millis, u32)) {
        let since = *self.since.get_or_insert(start);
        let now = [counts.a, counts.n, counts.b, counts.m];
        self.counts.resize(now.len(), 0.0);
        for (sum, count) in self.counts.iter_mut().zip(now) {
            *sum += count;
        }
        if end - since < Millis(length.0 / i64::from(points)) {
            return;
        }
        #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough for a rank")]
        let share = |events: f64, total: f64| (total > 0.0).then(|| (100.0 * events / total) as f32);
        if let [a, n, b, m] = *self.counts {
            self.canary.extend(share(a, n));
            self.baseline.extend(share(b, m));
        }
        self.counts.clear();
        self.since = Some(end);
        self.over += 1;
        if self.over >= points {
            self.close();
        }
    }

    /// Judges the points and begins the next window.
    fn close(&mut self) {
        // half of the points at least; fewer are no more than none
        let enough = |points: &Vec<f32>| 2 * points.len() >= self.over as usize;
        if enough(&self.canary) && enough(&self.baseline) {
            let [canary, baseline] =
                [&self.canary, &self.baseline].map(|points| points.iter().copied().map(f64::from).collect::<Vec<_>>());
            self.high = Some(mann_whitney::is_high(&canary, &baseline, ALLOWED));
        }
        self.canary.clear();
        self.baseline.clear();
        self.over = 0;
    }
}

/// The ratio of the means from which a shift matters, as Kayenta has it by default.
const ALLOWED: f64 = 1.0;
