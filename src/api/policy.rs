//! The parts of a policy that a gate states and a CanaryAnalysis freezes.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::invalid::Invalid;
use super::metric::Metric;
use super::units::{Duration, Share};
use crate::decision::{Millis, OnInconclusive, Then};

/// A planned stop.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.minWindow) || !has(self.maxWindow) || duration(self.minWindow) <= duration(self.maxWindow)")
    .message("minWindow must not be longer than maxWindow"))]
pub struct Step {
    /// The canary's share of the service's traffic in percent, 1 to 100, absolute. The weights of
    /// the steps rise, and the last is 100.
    #[schemars(range(min = 1, max = 100))]
    pub weight: i64,
    /// Shortest stay at this step. Default: analysis.minWindow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_window: Option<Duration>,
    /// Longest stay at this step without a clear verdict. Default: analysis.maxWindow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_window: Option<Duration>,
}

impl Step {
    /// A step with the windows of the analysis.
    #[must_use]
    pub const fn at(weight: i64) -> Self {
        Self {
            weight,
            min_window: None,
            max_window: None,
        }
    }
}

/// 1, 5, 25, 50, 100 %.
#[must_use]
pub fn default_steps() -> Vec<Step> {
    [1, 5, 25, 50, 100].map(Step::at).to_vec()
}

/// How canary and baseline are compared.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.minWindow) <= duration(self.maxWindow)")
        .message("minWindow must not be longer than maxWindow"),
    validation = Rule::new("!has(self.baseline) || (has(self.baseline.concurrent) ? 1 : 0) + (has(self.baseline.previousWindow) ? 1 : 0) + (has(self.baseline.sameWindow) ? 1 : 0) == 1")
        .message("the baseline is exactly one of concurrent, previousWindow and sameWindow"),
    validation = Rule::new("!has(self.sampleRatio) || !has(self.baseline) || has(self.baseline.concurrent)")
        .message("sampleRatio compares requests of the same time: it needs the baseline concurrent"),
    validation = Rule::new("!has(self.sampleRatio) || !has(self.metrics) || self.metrics.exists(metric, has(metric.ratio) || has(metric.histogram))")
        .message("sampleRatio compares requests: it needs a metric that counts them, a ratio or a histogram"),
)]
pub struct Analysis {
    /// The EvidenceSource to ask. Default: the one that is marked as default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub source: Option<String>,
    /// What the canary is compared with.
    #[serde(default)]
    pub baseline: Baseline,
    /// Percent of traffic that stable keeps at the last step, so that the canary can still be
    /// compared there: 0 to 50. With 0 the last step is compared with a past baseline only, and
    /// with the concurrent one it is only watched.
    #[serde(default = "five")]
    #[schemars(range(min = 0, max = 50))]
    pub holdback: i64,
    /// What an error-free service still promises, like 99.9%: errors within this budget are no
    /// reason to refuse a release. Without it a service that never fails cannot be shown safe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<Share>,
    /// Shortest stay at each step, from the moment the canary receives requests.
    #[serde(default = "five_minutes")]
    pub min_window: Duration,
    /// Longest stay at each step without a clear verdict; then policy.onInconclusive applies.
    #[serde(default = "two_hours")]
    pub max_window: Duration,
    /// Requests to the canary within a step below which neither a limit nor the absence of harm
    /// says anything. Default: 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub min_sample: Option<i32>,
    /// Holds the release when the canary does not get the share of the requests that its weight
    /// says, as the first metric that counts requests has them (a ratio or a histogram; one is
    /// needed). Off unless written (`{}` suffices): metrics of pods also count requests that never
    /// pass the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_ratio: Option<SampleRatio>,
    /// What is compared. All of them must be safe to go on; one that shows harm aborts.
    /// Default: the share of failed requests as the gateway counts them.
    #[serde(default = "default_metrics")]
    #[schemars(length(min = 1, max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub metrics: Vec<Metric>,
}

const fn five() -> i64 {
    5
}

fn default_metrics() -> Vec<Metric> {
    vec![Metric::gateway_errors()]
}

fn five_minutes() -> Duration {
    "5m".into()
}

fn two_hours() -> Duration {
    "2h".into()
}

impl Default for Analysis {
    fn default() -> Self {
        Self {
            source: None,
            baseline: Baseline::default(),
            holdback: five(),
            slo: None,
            min_window: five_minutes(),
            max_window: two_hours(),
            min_sample: None,
            sample_ratio: None,
            metrics: default_metrics(),
        }
    }
}

/// An alarm for a split that is more than a tenth off. It never aborts: who is wrong is not known.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SampleRatio {
    /// How many requests go to the same arm together: those of one connection or session where the
    /// gateway keeps it with one arm. From 1 to 1000. Default: 100; 1 suits a gateway that splits
    /// every request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub dispersion: Option<i32>,
}

/// What the canary is compared with. Exactly one.
///
/// A past baseline moves with the hour and with incidents: harm against it holds the release, and
/// aborts it only with `abort: true`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Baseline {
    /// Stable, over the same time.
    Concurrent(Concurrent),
    /// Stable, as it was so long before each look: every look is compared with as much time of its own.
    PreviousWindow(PreviousWindow),
    /// Stable, as it was at the same hour days before.
    SameWindow(SameWindow),
}

impl Default for Baseline {
    fn default() -> Self {
        Self::Concurrent(Concurrent {})
    }
}

/// Stable, over the same time: nothing to set.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Concurrent {}

/// Stable, as it was so long before each look.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.length) >= duration('10s') && duration(self.length) <= duration('720h')")
        .message("length is at least ten looks (100s by default) and at most 720h"),
)]
pub struct PreviousWindow {
    /// Length of the window, which lies as far back: what is counted at 12:00 is compared with 11:00
    /// when it is 60m. At least ten looks, at most 720h (30 days).
    pub length: Duration,
    /// Whether harm against the past aborts the release. Default: it holds, for a person to look at.
    #[serde(default)]
    pub abort: bool,
}

/// Stable, as it was at the same hour days before.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.ago) >= duration('10s') && duration(self.ago) <= duration('720h')")
        .message("ago is at least ten looks (100s by default) and at most 720h"),
)]
pub struct SameWindow {
    /// How long before: 168h is the same hour a week ago. At least ten looks, at most 720h (30 days).
    pub ago: Duration,
    /// Whether harm against the past aborts the release. Default: it holds, for a person to look at.
    #[serde(default)]
    pub abort: bool,
}

impl Baseline {
    /// How long before the canary's requests stable's are read, and whether harm against that past
    /// aborts; none for the same time.
    ///
    /// # Errors
    /// When that is less than ten looks of this many seconds, or more than 30 days.
    pub fn past(&self, look_seconds: i64) -> Result<Option<(Millis, bool)>, Invalid> {
        let (name, given, abort) = match self {
            Self::Concurrent(_) => return Ok(None),
            Self::PreviousWindow(window) => ("previousWindow.length", &window.length, window.abort),
            Self::SameWindow(window) => ("sameWindow.ago", &window.ago, window.abort),
        };
        let least = look_seconds.saturating_mul(LEAST_LOOKS);
        let fits = |ago: &Millis| (Millis::from_secs(least)..=LONGEST_AGO).contains(ago);
        match given.millis().filter(fits) {
            Some(ago) => Ok(Some((ago, abort))),
            None => Err(Invalid::new(
                format!("spec.analysis.baseline.{name}"),
                &given.0,
                format!("{least}s (ten looks) to 720h (30 days)"),
            )),
        }
    }
}

/// Looks that a past baseline lies back at least: a window of fewer compares noise.
const LEAST_LOOKS: i64 = 10;
/// How far a past baseline lies back at most: few servers remember more, and services change.
const LONGEST_AGO: Millis = Millis::from_secs(30 * 24 * 3600);

/// What happens when the evidence does not say, and what has to hold besides.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// At a step's maxWindow without a clear verdict: Hold keeps the weight and waits for a
    /// person, Abort sends all traffic back, NoHarm goes on if the evidence is complete, the
    /// minimum sample is met and no harm was seen (recorded as such).
    #[serde(default = "hold")]
    pub on_inconclusive: OnInconclusive,
    /// While there is no complete evidence. A quiet service is not meant: it has too few requests.
    #[serde(default)]
    pub on_no_evidence: OnNoEvidence,
    /// Rules of your own over the numbers, in CEL. They only tighten: none of them lets a release
    /// go on that the analysis would hold. What they can read is listed in docs/rules.md.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rules: Vec<PolicyRule>,
}

const fn hold() -> OnInconclusive {
    OnInconclusive::Hold
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            on_inconclusive: hold(),
            on_no_evidence: OnNoEvidence::default(),
            rules: Vec::new(),
        }
    }
}

/// A rule over the numbers, in CEL: one of promoteWhen, holdWhen and abortWhen. A rule that cannot
/// be answered, because it reads a number that is not known, holds the release.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.promoteWhen) ? 1 : 0) + (has(self.holdWhen) ? 1 : 0) + (has(self.abortWhen) ? 1 : 0) == 1")
        .message("a rule has exactly one of promoteWhen, holdWhen and abortWhen"),
)]
pub struct PolicyRule {
    /// Name within the gate, as decisions quote it.
    #[schemars(length(min = 1, max = 52), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Who answers for this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub owner: Option<String>,
    /// Why the rule is what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub rationale: Option<String>,
    /// The release goes on only while this is true, and only if the analysis says so too:
    /// `metrics["http-errors"].delta < 0.10`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub promote_when: Option<String>,
    /// The weight is kept while this is true: `release.evidence != "complete"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub hold_when: Option<String>,
    /// All traffic goes back as soon as this is true: `metrics["payments"].lower > 1.05`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub abort_when: Option<String>,
}

/// What happens while there is no complete evidence: the weight is held, and never raised.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct OnNoEvidence {
    /// How long the weight is held.
    pub hold: Duration,
    /// What follows: Abort sends all traffic back, Hold keeps the weight and waits for a person.
    pub then: Then,
}

impl Default for OnNoEvidence {
    fn default() -> Self {
        Self {
            hold: "15m".into(),
            then: Then::Abort,
        }
    }
}

/// How long Tollgate waits for others before it acts; each wait has an end.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Deadlines {
    /// For the canary's pods to be ready, at the start and after every scale-up; then abort.
    pub ready: Duration,
    /// For every route to be programmed and the canary to receive requests; then abort.
    pub route: Duration,
    /// For stable to run the new revision after the last step; then a person is called and the
    /// canary keeps the traffic.
    pub handover: Duration,
    /// Between weight 0 and the removal of the canary's pods, for requests that are under way.
    pub drain: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            ready: "10m".into(),
            route: "5m".into(),
            handover: "30m".into(),
            drain: "30s".into(),
        }
    }
}
