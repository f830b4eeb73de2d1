//! What a metric counts: everything in which one kind differs from another is said here.

use serde::{Deserialize, Serialize};

use crate::decision::{Arm, Promote, Unit};

use super::e1::Counts;
use super::outcome::Outcome;
use super::plan::Method;
use super::words::{amount, count};

/// Canary requests within a step below which neither a limit nor the absence of harm says anything.
const REQUESTS: f64 = 500.0;
/// The same of a count over time, in pod-seconds. A container that crashes at once is started again
/// after 10, 20, 40, 80 and 160 s: in five minutes of one pod it has been seen to crash five times.
const POD_SECONDS: f64 = 300.0;

/// What a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Shape {
    /// Bad requests out of all requests: one tail.
    Ratio,
    /// Requests that did not succeed out of all, where success need not be the rule: one tail. The
    /// method `Sequential` judges the rarer outcome, by margins of at most 0.9: with successes the
    /// rarer ones, 0.1 tolerates a tenth fewer of them.
    Conversion,
    /// Requests slower than fixed edges.
    Histogram {
        /// How many edges, 1 to 8.
        tails: usize,
        /// The tail whose counts, ratio and interval people are shown, from 0.
        shown: usize,
    },
    /// Events over the time that pods were seen, like restarts: one tail, and pod-seconds for its total.
    /// There may be more events than seconds. Only for `Sequential`.
    Count,
    /// What pods have, like memory: the median over the pods of an arm stands for its events, and the
    /// samples that it rests on for its total. Only for `Guard`, and nothing else is for that.
    Gauge,
}

impl Shape {
    /// How many event counts every tick carries.
    #[must_use]
    pub const fn tails(self) -> usize {
        match self {
            Self::Ratio | Self::Conversion | Self::Count | Self::Gauge => 1,
            Self::Histogram { tails, .. } => tails,
        }
    }

    /// The tail that people are shown.
    #[must_use]
    pub const fn shown(self) -> usize {
        match self {
            Self::Ratio | Self::Conversion | Self::Count | Self::Gauge => 0,
            Self::Histogram { shown, .. } => shown,
        }
    }

    /// What its totals are made of.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::Ratio | Self::Conversion | Self::Histogram { .. } => Unit::Requests,
            Self::Count => Unit::PodSeconds,
            Self::Gauge => Unit::Samples,
        }
    }

    /// Whether an event is one of the total, so that there are shares.
    pub(super) const fn has_shares(self) -> bool {
        matches!(self.unit(), Unit::Requests)
    }

    /// The canary's total at a step below which the absence of harm says nothing.
    pub(super) const fn least(self) -> f64 {
        match self.unit() {
            Unit::Requests => REQUESTS,
            Unit::PodSeconds => POD_SECONDS,
            // it only ever holds back, and what it holds back for takes minutes anyway
            Unit::Samples => 1.0,
        }
    }

    /// What lets it pass where nothing is said. What happens once a week cannot be proved safe in
    /// minutes: a count is watched.
    #[must_use]
    pub const fn promote(self) -> Promote {
        match self.unit() {
            Unit::Requests => Promote::Safe,
            Unit::PodSeconds | Unit::Samples => Promote::NoHarm,
        }
    }

    /// Whether an arm is what its type promises: as many counts as tails, finite, not negative, and no
    /// more events than requests.
    pub(super) fn fits(self, arm: &Arm) -> bool {
        let most = if self.has_shares() { arm.total } else { f64::MAX };
        let events_fit = arm.events.iter().all(|events| (0.0..=most).contains(events));
        arm.total.is_finite() && arm.total >= 0.0 && arm.events.len() == self.tails() && events_fit
    }

    /// Whether a method can judge it, and else which one can.
    pub(super) const fn judged_by(self, method: &Method) -> Result<(), &'static str> {
        let guard = matches!(method, Method::Guard { .. });
        match self.unit() {
            Unit::Requests if guard => Err("Sequential, Limit or MannWhitney"),
            Unit::PodSeconds if !matches!(method, Method::Sequential) => Err("Sequential"),
            Unit::Samples if !guard => Err("Guard"),
            _ => Ok(()),
        }
    }

    /// The canary's rate, or level, divided by the baseline's, when both are known.
    pub(super) fn ratio(self, counts: &Counts) -> Option<f64> {
        let (canary, baseline) = match self {
            Self::Gauge => (counts.a, counts.b),
            _ => (counts.a / counts.n, counts.b / counts.m),
        };
        (counts.n > 0.0 && counts.b > 0.0).then(|| canary / baseline)
    }

    /// What was counted: `37 of 1,204 requests failed on canary, 61 of 22,870 on stable`.
    pub(super) fn both_arms(self, judged: Outcome, counts: &Counts) -> String {
        let canary = self.canary(judged, [counts.a, counts.n]);
        if self == Self::Gauge {
            return format!("{canary}, {} on stable", amount(counts.b));
        }
        if self.has_shares() {
            format!("{canary}, {} of {} on stable", count(counts.b), count(counts.m))
        } else {
            format!("{canary}, {} in {} on stable", count(counts.b), self.total(counts.m))
        }
    }

    /// The canary's half of it.
    pub(super) fn canary(self, judged: Outcome, [events, total]: [f64; 2]) -> String {
        let (level, events, total) = (events, count(events), self.total(total));
        let happened = match (self, judged) {
            (Self::Count, _) => return format!("{events} in {total} on canary"),
            (Self::Gauge, _) => return format!("median {} on canary", amount(level)),
            (_, Outcome::Good) => "succeeded",
            (Self::Ratio, Outcome::Bad) => "failed",
            (Self::Conversion, Outcome::Bad) => "did not succeed",
            (Self::Histogram { .. }, Outcome::Bad) => "were slow",
        };
        format!("{events} of {total} {happened} on canary")
    }

    /// A total with its unit: `1,204 requests`, `40 pod-minutes`.
    pub(super) fn total(self, total: f64) -> String {
        let (total, unit) = self.unit().scaled(total);
        format!("{} {unit}", count(total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_arms_are_told_in_one_breath() {
        let counts = Counts {
            a: 37.0,
            n: 1204.0,
            b: 61.0,
            m: 22870.0,
        };
        for (shape, judged, told) in [
            (
                Shape::Ratio,
                Outcome::Bad,
                "37 of 1,204 requests failed on canary, 61 of 22,870 on stable",
            ),
            (
                Shape::Conversion,
                Outcome::Good,
                "37 of 1,204 requests succeeded on canary, 61 of 22,870 on stable",
            ),
            (
                Shape::Histogram { tails: 1, shown: 0 },
                Outcome::Bad,
                "37 of 1,204 requests were slow on canary, 61 of 22,870 on stable",
            ),
            (
                Shape::Count,
                Outcome::Bad,
                "37 in 20 pod-minutes on canary, 61 in 6 pod-hours on stable",
            ),
            (Shape::Gauge, Outcome::Bad, "median 37.0 on canary, 61.0 on stable"),
        ] {
            assert_eq!(shape.both_arms(judged, &counts), told);
        }
    }
}
