//! What a gate asks of a plane, and what it gets.

use std::collections::{BTreeMap, BTreeSet};

use super::arms::Role;
use super::metric::{Identity, MetricQuery};
use crate::decision::{Evidence, Gap, GapKind, Millis, Tick};

/// What one gate wants to know at every tick.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    /// The gate's key, unique per plane: `<namespace>/<name>`.
    pub gate: String,
    /// Where its objects are.
    pub namespace: String,
    /// The Deployment that stable runs.
    pub workload: String,
    /// The canary's Deployment.
    pub canary_workload: String,
    /// The Service that stable answers for.
    pub service: String,
    /// The canary's Service.
    pub canary_service: String,
    /// The Service's port that the routes name; any when left out.
    pub port: Option<u16>,
    /// How long before the canary's requests stable's are read: 0 for the same time. Stable's counts
    /// of a past moment stand in the tick that ends so much later.
    pub ago: Millis,
    /// The metrics, in the gate's order.
    pub metrics: Vec<MetricQuery>,
    /// Places of the metrics of which nothing is known yet: with the first complete tick comes what
    /// the source remembers of the hour before it.
    pub unknown: BTreeSet<usize>,
}

/// What one gate gets from one tick.
#[derive(Debug, Clone, PartialEq)]
pub struct Collected {
    /// The gate's key, as subscribed.
    pub gate: String,
    /// One answer per metric, in the order of the subscription.
    pub metrics: Vec<Answer>,
}

/// One metric's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What was counted, or why that is not known.
    pub evidence: Evidence<Tick>,
    /// For a histogram without edges: the edges chosen from the baseline. Put them into the
    /// frozen plan and subscribe with them from now on; until then the evidence is incomplete.
    pub edges: Option<Vec<f64>>,
    /// How old the newest sample was at the end of the tick, of the arm that lags.
    pub age: Option<Millis>,
    /// The hour before, minute by minute, where it was unknown and pods are told apart: to be counted
    /// first. Empty when the source does not remember it or did not answer in time.
    pub past: Vec<Tick>,
}

/// What the plane has cost so far, for metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Costs {
    /// Queries sent.
    pub queries: u64,
    /// Queries since they were counted last, by what was wrong with the answer; none for a usable one.
    pub outcomes: BTreeMap<Option<GapKind>, u64>,
    /// Bytes of answers read.
    pub bytes: u64,
    /// Times an arm counted more events than requests and was cut to its requests.
    pub clamped: u64,
}

impl Subscription {
    /// Both arms by the names that series of this identity carry.
    pub(super) fn arms(&self, identity: Identity) -> [(Role, &str); 2] {
        let (baseline, canary) = if identity.names_pods() {
            (&self.workload, &self.canary_workload)
        } else {
            (&self.service, &self.canary_service)
        };
        [(Role::Baseline, baseline), (Role::Canary, canary)]
    }

    /// How long ago an arm's requests are read.
    pub(super) const fn ago(&self, role: Role) -> i64 {
        match role {
            Role::Baseline => self.ago.0,
            Role::Canary => 0,
        }
    }

    /// Everything that is read: once where both arms are read of the same time.
    pub(super) fn times(&self) -> BTreeSet<i64> {
        [Role::Baseline, Role::Canary].map(|role| self.ago(role)).into()
    }
}

impl Costs {
    /// Counts one query and its answer.
    pub(super) fn asked<T>(&mut self, result: &Result<T, Gap>, bytes: u64) {
        self.queries += 1;
        self.bytes += bytes;
        *self
            .outcomes
            .entry(result.as_ref().err().map(|gap| gap.kind))
            .or_default() += 1;
    }
}

impl Answer {
    pub(super) fn without(gaps: Vec<Gap>) -> Self {
        Self {
            evidence: Evidence::Incomplete(gaps),
            edges: None,
            age: None,
            past: Vec::new(),
        }
    }
}
