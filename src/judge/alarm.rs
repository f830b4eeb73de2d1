//! Guards on gauges: how much memory, how long a queue.
//!
//! Samples of a gauge depend on each other and there are few pods, so nothing honest can be said about
//! how often such a guard is wrong. It looks at the median of the pods, sounds when the canary's has
//! been far above stable's for minutes without a break, and falls silent when it is not any more.

use serde::{Deserialize, Serialize};

use crate::decision::{Millis, Tick};

use super::e1::Counts;
use super::metric::{Metric, Sums};
use super::plan::{Method, MetricPlan};
use super::words;

/// How long the canary has to be above before the guard sounds, and in how many of its samples.
const LONG: Millis = Millis::from_secs(300);
const MANY: f64 = 30.0;

/// For how long the canary has been above what is allowed, without a break.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alarm {
    /// When it was first seen above, and when last.
    above: Option<[Millis; 2]>,
    /// The canary's samples since.
    samples: f64,
}

impl Alarm {
    fn observe(&mut self, at: Millis, counts: &Counts, (worse, floor): (f64, f64)) {
        if counts.a > (1.0 + worse) * counts.b && counts.a > floor {
            let since = self.above.map_or(at, |[since, _]| since);
            self.above = Some([since, at]);
            self.samples += counts.n;
        } else {
            self.calm();
        }
    }

    /// It is not above any more, or nobody knows.
    pub fn calm(&mut self) {
        *self = Self::default();
    }

    /// Whether the newest look was above.
    pub const fn is_above(&self) -> bool {
        self.above.is_some()
    }

    /// Whether it has been for long enough.
    pub fn sounds(&self) -> bool {
        self.samples >= MANY && self.length() >= LONG
    }

    fn length(&self) -> Millis {
        self.above.map_or(Millis(0), |[since, last]| last - since)
    }
}

impl Metric {
    /// Counts a tick of a gauge: the newest medians, and the samples of the step.
    pub(super) fn watch(&mut self, plan: &MetricPlan, tick: &Tick, in_step: Option<Millis>) {
        let median = |arm: &crate::decision::Arm| arm.events.first().copied().unwrap_or_default();
        let counts = Counts {
            a: median(&tick.canary),
            n: tick.canary.total,
            b: median(&tick.baseline),
            m: tick.baseline.total,
        };
        // scrapes may be rarer than looks
        if !counts.comparable() {
            return;
        }
        let newest = |sums: &mut Sums| {
            let (n, m) = (sums.0.n + counts.n, sums.0.m + counts.m);
            sums.0 = Counts { n, m, ..counts };
        };
        newest(&mut self.total);
        if in_step.is_some() {
            newest(&mut self.step);
            self.step_since = self.step_since.or(in_step);
        }
        if let (Method::Guard { worse, floor, .. }, Some(alarm)) = (plan.method, &mut self.alarm) {
            alarm.observe(tick.at, &counts, (worse, floor));
        }
    }

    /// Whether the guard has been above for long enough.
    pub(super) fn alarmed(&self) -> bool {
        self.alarm.as_ref().is_some_and(Alarm::sounds)
    }

    /// For how long the guard has been above what: `above 1.50 times stable and 10.0 for 6 min`.
    pub(super) fn above(&self, worse: f64, floor: f64) -> Option<String> {
        let alarm = self.alarm.as_ref().filter(|alarm| alarm.is_above())?;
        let (times, floor) = (words::ratio(1.0 + worse), words::amount(floor));
        let length = words::duration(alarm.length().as_secs_f64());
        Some(format!("above {times} times stable and {floor} for {length}"))
    }
}
