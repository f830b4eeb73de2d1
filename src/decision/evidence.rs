//! Evidence: what was measured, or why it could not be.
//!
//! The type is closed. Whatever is wrong with an answer of a source makes it
//! [`Evidence::Incomplete`]; a [`Verdict::Pass`] can only be built from complete evidence, and
//! nothing else lets a weight rise.

use serde::{Deserialize, Serialize};

use super::{Millis, Reason};

/// What a source gave for one metric and one tick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Evidence<T> {
    /// Everything that was asked for, in range and in time.
    Complete(T),
    /// At least one thing was missing or wrong; the list is never empty.
    Incomplete(Vec<Gap>),
}

impl<T> Evidence<T> {
    /// Incomplete evidence with a single gap.
    pub fn missing(kind: GapKind, detail: impl Into<String>) -> Self {
        Self::Incomplete(vec![Gap {
            kind,
            detail: detail.into(),
        }])
    }
}

/// One thing that is missing or wrong. `detail` is for people and never decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// What is wrong, from a closed list.
    pub kind: GapKind,
    /// The same with names and numbers, at most 256 characters, never a secret or a body.
    pub detail: String,
}

/// Why evidence is incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GapKind {
    /// The source could not be reached.
    Unreachable,
    /// No answer before the deadline.
    Timeout,
    /// The source refused the credentials.
    Unauthorized,
    /// The source answered with an error, or with something that is not its protocol.
    QueryError,
    /// The source answered with a warning: the data may be partial.
    Warning,
    /// The body or the number of series was larger than allowed.
    Oversized,
    /// No series at all.
    NoEvidence,
    /// The baseline has no series.
    BaselineMissing,
    /// The canary has no series although it should.
    CanaryMissing,
    /// More series than asked for.
    ExtraSeries,
    /// NaN, infinite or negative where a count is expected.
    NotACount,
    /// The newest sample is too old.
    Stale,
    /// Sample times or the source's clock are ahead of ours.
    Skewed,
    /// A counter fell without proof of a restart.
    ResetUnproven,
    /// Two answers for the same time disagree.
    Disagree,
    /// The window is not covered yet (start-up, gap).
    ShortWindow,
}

impl GapKind {
    /// The one word for this gap, used in status, events and metric labels alike.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unreachable => "Unreachable",
            Self::Timeout => "Timeout",
            Self::Unauthorized => "Unauthorized",
            Self::QueryError => "QueryError",
            Self::Warning => "Warning",
            Self::Oversized => "Oversized",
            Self::NoEvidence => "NoEvidence",
            Self::BaselineMissing => "BaselineMissing",
            Self::CanaryMissing => "CanaryMissing",
            Self::ExtraSeries => "ExtraSeries",
            Self::NotACount => "NotACount",
            Self::Stale => "Stale",
            Self::Skewed => "Skewed",
            Self::ResetUnproven => "ResetUnproven",
            Self::Disagree => "Disagree",
            Self::ShortWindow => "ShortWindow",
        }
    }
}

/// What the total of an arm is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Unit {
    /// Requests.
    #[default]
    Requests,
    /// Seconds for which a pod was seen, added up over pods.
    PodSeconds,
    /// Samples of a gauge.
    Samples,
}

impl Unit {
    /// Whether it is the ordinary one.
    #[must_use]
    pub fn is_requests(&self) -> bool {
        *self == Self::Requests
    }

    /// A total in the unit that people would use, and its name: 2400 pod-seconds are 40 pod-minutes.
    #[must_use]
    pub const fn scaled(self, total: f64) -> (f64, &'static str) {
        match self {
            Self::Requests => (total, "requests"),
            Self::Samples => (total, "samples"),
            Self::PodSeconds if total < 90.0 => (total, "pod-seconds"),
            Self::PodSeconds if total < 5400.0 => (total / 60.0, "pod-minutes"),
            Self::PodSeconds => (total / 3600.0, "pod-hours"),
        }
    }
}

/// What one arm counted during one tick.
///
/// `events[i]` counts what happened at tail `i` (a ratio has one tail: the bad requests; a
/// histogram has one tail per edge: the requests slower than it), out of `total` requests. Counts
/// are finite, not negative, and no event count exceeds `total`. What is counted over time has its
/// events, of which there may be more, in `total` pod-seconds. A gauge has the median of its pods for
/// its one event count, which rests on `total` samples.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arm {
    /// Events per tail.
    pub events: Vec<f64>,
    /// Requests, pod-seconds, or samples.
    pub total: f64,
}

/// Both arms over the same tick.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tick {
    /// End of the tick: a multiple of the interval since 1970.
    pub at: Millis,
    /// The revision on trial.
    pub canary: Arm,
    /// What it is compared with.
    pub baseline: Arm,
    /// The baseline pod by pod, where the source can tell pods apart; for the dispersion.
    pub baseline_pods: Vec<Arm>,
}

/// What is known about a metric or a whole analysis. There is no default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Safe within the promote margin, on complete evidence.
    Pass(Reason),
    /// Worse than the abort margin allows.
    Fail(Reason),
    /// Neither is shown, or the evidence is incomplete.
    Inconclusive(Reason),
}

impl Verdict {
    /// Why.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Pass(reason) | Self::Fail(reason) | Self::Inconclusive(reason) => *reason,
        }
    }
}

/// What is still needed before a verdict can be expected.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Need {
    /// More requests to the canary, or as much more of the reading's unit, if it is as healthy as the
    /// baseline.
    pub requests: f64,
    /// The same in time at the rate seen, when any traffic was seen.
    pub seconds: Option<f64>,
}

/// How the counts of a metric became its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub enum MethodName {
    /// Evidence of harm and of safety against the baseline, valid at every look.
    #[default]
    Sequential,
    /// The rank test of a fixed window, as Kayenta has it.
    MannWhitney,
    /// The canary's own share against a fixed limit.
    Limit,
    /// A gauge that must not be far above the baseline's for minutes. No error rate is claimed.
    Guard,
}

/// The numbers of one metric as people read them. They explain a verdict and never make one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reading {
    /// The metric's name in the gate.
    pub metric: String,
    /// How it is judged.
    #[serde(default)]
    pub method: MethodName,
    /// What both totals are made of.
    #[serde(default, skip_serializing_if = "Unit::is_requests")]
    pub unit: Unit,
    /// What this metric says by itself.
    pub verdict: Verdict,
    /// Canary events and requests since the step's window began; where harm is proved, since the
    /// attempt began, for that is what proves it. Of a gauge, the newest median and the samples.
    pub canary: [f64; 2],
    /// Baseline events and requests over the same time.
    pub baseline: [f64; 2],
    /// Canary rate divided by baseline rate, when both are known.
    pub ratio: Option<f64>,
    /// Always-valid interval of that ratio.
    pub interval: Option<[f64; 2]>,
    /// Interval of the canary's rate less the baseline's, for display.
    #[serde(default)]
    pub difference: Option<[f64; 2]>,
    /// φ: variance of the counts relative to independent requests, by which evidence is divided; 1
    /// or more.
    #[serde(default = "independent")]
    pub dispersion: f64,
    /// Evidence of harm, natural logarithm, and the limit it has to reach.
    pub harm: [f64; 2],
    /// Evidence of safety, natural logarithm, and the limit it has to reach.
    pub safety: [f64; 2],
    /// What is still needed for a Pass.
    pub need: Option<Need>,
    /// What is missing, when the evidence is incomplete.
    pub gaps: Vec<Gap>,
}

const fn independent() -> f64 {
    1.0
}

/// What the judge last said about a release at a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    /// The attempt that was judged; words about another attempt are ignored.
    pub epoch: i64,
    /// The step that was judged, from 0; words about another step are ignored.
    pub step: usize,
    /// End of the newest tick that counted.
    pub at: Millis,
    /// The verdict over all metrics.
    pub verdict: Verdict,
    /// Whether any request to the canary was seen since the last raise.
    pub receiving: bool,
    /// Start of the uninterrupted time without complete evidence, when there is none now.
    pub blind_since: Option<Millis>,
    /// Whether a policy of `NoHarm` could promote: complete, minimum sample met, no harm seen.
    pub no_harm: bool,
    /// The rule that fired, with its numbers, for people.
    pub rule: String,
    /// SHA-256 of the canonical bundle of samples behind the verdict.
    pub evidence_hash: String,
    /// Per metric, for people.
    pub readings: Vec<Reading>,
}
