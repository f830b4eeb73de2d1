//! Which outcome of a request is judged, where both are ordinary.
//!
//! The rarer outcome says more. Where one request in ten succeeds, a canary that loses a third of
//! its successes fails 3 % more often, which no margin on failures would ever call worse. Judged is
//! then the success, on the other side: fewer of them are harm. Which of both it is follows from
//! stable's requests before the first tick that is played, so no tick chooses for itself.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::decision::Arm;

use super::e1::Counts;
use super::plan::{Method, MetricPlan};
use super::shape::Shape;

/// Stable's requests before the rarer outcome is known. At a share of 50 %, where both say the same,
/// a mistake is harmless; at 45 or 55 % one in a hundred is mistaken.
const KNOWN: f64 = 500.0;

/// What is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The bad outcome, as a tick counts it: more of it is harm.
    Bad,
    /// The good outcome: less of it is harm.
    Good,
}

impl Outcome {
    /// The rarer outcome among stable's requests: bad ones, and all of them.
    pub fn rarer([bad, total]: [f64; 2]) -> Self {
        if bad > total / 2.0 { Self::Good } else { Self::Bad }
    }

    /// The share of the requests that have this outcome, where `bad` of them are bad.
    pub fn share(self, bad: f64) -> f64 {
        match self {
            Self::Bad => bad,
            Self::Good => 1.0 - bad,
        }
    }

    /// The counts of a tick, with this outcome as the event.
    pub fn of(self, counts: &Counts) -> Counts {
        match self {
            Self::Bad => *counts,
            Self::Good => Counts {
                a: counts.n - counts.a,
                b: counts.m - counts.b,
                ..*counts
            },
        }
    }

    /// The counts of stable's pods, likewise.
    pub fn of_pods(self, pods: &[Arm]) -> Cow<'_, [Arm]> {
        let good = |arm: &Arm| Arm {
            events: arm.events.iter().map(|bad| arm.total - bad).collect(),
            total: arm.total,
        };
        match self {
            Self::Bad => Cow::Borrowed(pods),
            Self::Good => Cow::Owned(pods.iter().map(good).collect()),
        }
    }
}

/// Whether the rarer outcome is judged by this plan. A limit and the test of ranks see bad ones.
pub fn is_open(plan: &MetricPlan) -> bool {
    plan.shape == Shape::Conversion && plan.method == Method::Sequential
}

/// What has been seen of stable, to tell which outcome is the rarer one.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rarity {
    seen: [f64; 2],
    /// The outcome that is judged, once it is known.
    pub judged: Option<Outcome>,
}

impl Rarity {
    /// Whether the outcome was known before this tick of stable's. If not, the tick teaches it and
    /// is not to be played.
    pub fn knows(&mut self, baseline: &Arm) -> bool {
        if self.judged.is_some() {
            return true;
        }
        let [bad, total] = &mut self.seen;
        *bad += baseline.events.first().copied().unwrap_or(0.0);
        *total += baseline.total;
        self.judged = (*total >= KNOWN).then(|| Outcome::rarer(self.seen));
        false
    }
}
