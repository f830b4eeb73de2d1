//! CanaryAnalysis: the frozen plan of one attempt, its evidence and its verdict.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::gate_status::AttemptStatus;
use super::policy::{Analysis, Deadlines, Policy, Step};
use super::release_gate::Canary;
use crate::decision::{MethodName, Outcome, Unit};

/// The frozen plan of one attempt. It never changes; a changed policy applies to the next attempt.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "tollgate.dev",
    version = "v1alpha1",
    kind = "CanaryAnalysis",
    plural = "canaryanalyses",
    namespaced,
    status = "AnalysisStatus",
    shortname = "ca",
    category = "tollgate",
    derive = "PartialEq",
    doc = "The frozen plan of one attempt to release one revision, with its evidence, its decisions and its verdict.",
    printcolumn(name = "GATE", type_ = "string", json_path = ".spec.gate.name"),
    printcolumn(name = "REVISION", type_ = "string", json_path = ".spec.revision"),
    printcolumn(
        name = "ROLLOUT",
        type_ = "string",
        json_path = ".spec.external.rollout",
        priority = 1
    ),
    printcolumn(
        name = "DECISION",
        type_ = "string",
        json_path = ".status.trial.decision",
        description = "about a Rollout's newest revision",
        priority = 1
    ),
    printcolumn(name = "VERDICT", type_ = "string", json_path = ".status.verdict"),
    printcolumn(name = "REASON", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "RULE", type_ = "string", json_path = ".status.rule", priority = 1),
    printcolumn(name = "POLICY", type_ = "string", json_path = ".spec.policyHash", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.external) || self == oldSelf").message("a frozen plan never changes").reason(Reason::FieldValueForbidden),
    validation = Rule::new("has(self.external) == has(oldSelf.external)").message("external cannot be added or taken away: delete the analysis and make another").reason(Reason::FieldValueForbidden),
    validation = Rule::new("has(self.external) ? (!has(self.gate) && !has(self.revision) && !has(self.target)) : (has(self.revision) && has(self.target))").message("an analysis has either external, or revision and target"),
)]
pub struct CanaryAnalysisSpec {
    /// The gate whose attempt this is; absent when the analysis stands alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateRef>,
    /// Somebody else moves the traffic: every revision of it is judged in turn, by this plan, and
    /// status.trial says about which. Then the plan may change; the next revision is judged by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
    /// The revision on trial.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 64))]
    pub revision: String,
    /// The commit that the revision was made from, as the Deployment said when the attempt began;
    /// for reports to GitHub alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub commit: Option<String>,
    /// The number of the attempt.
    #[serde(default)]
    pub epoch: i64,
    /// What is compared with what.
    #[serde(default, skip_serializing_if = "Arms::is_unknown")]
    pub target: Arms,
    /// The planned stops, with their windows.
    #[schemars(length(min = 1, max = 20))]
    pub steps: Vec<Step>,
    /// How canary and baseline are compared.
    #[serde(default)]
    pub analysis: Analysis,
    /// What happens when the evidence does not say.
    #[serde(default)]
    pub policy: Policy,
    /// How the canary is made.
    #[serde(default)]
    pub canary: Canary,
    /// How long Tollgate waits for others.
    #[serde(default)]
    pub deadlines: Deadlines,
    /// How often the source is asked, in seconds: the length of a tick.
    #[serde(default = "interval_seconds")]
    #[schemars(range(min = 1, max = 300))]
    pub interval_seconds: i64,
    /// How often the source scrapes, in seconds: by so much evidence is late.
    #[serde(default = "scrape_seconds")]
    #[schemars(range(min = 1, max = 300))]
    pub scrape_seconds: i64,
    /// How long after multiples of intervalSeconds its ticks end, in milliseconds. Releases are looked at
    /// in turns, so that those which begin together do not all move at the same moment. 0 by default.
    #[serde(default)]
    #[schemars(range(min = 0, max = 300_000))]
    pub offset_milliseconds: i64,
    /// SHA-256 of the canonical JSON of steps, analysis, policy, canary and deadlines.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub policy_hash: String,
}

const fn interval_seconds() -> i64 {
    10
}

const fn scrape_seconds() -> i64 {
    15
}

/// The gate of an attempt.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GateRef {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Its uid.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// Who moves the traffic, and between which Services.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct External {
    /// The Rollout of Argo Rollouts (argoproj.io/v1alpha1), in the same namespace. Its ReplicaSets
    /// are the arms: metrics by pod tell them apart. With more characters names of pods are cut.
    #[schemars(length(min = 1, max = 46), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub rollout: String,
}

/// The two arms of a comparison, by the names metrics know them under.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Arms {
    /// The Deployment of stable.
    #[schemars(length(min = 1, max = 253))]
    pub workload: String,
    /// The Service of stable.
    #[schemars(length(min = 1, max = 63))]
    pub service: String,
    /// The Deployment of the canary.
    #[schemars(length(min = 1, max = 253))]
    pub canary_workload: String,
    /// The Service of the canary.
    #[schemars(length(min = 1, max = 63))]
    pub canary_service: String,
    /// Stable's size when the attempt began: what the canary's capacity is computed from.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub stable_pods: i64,
}

impl Arms {
    /// Whether no arm is named, as in an analysis whose traffic somebody else moves.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.workload.is_empty()
    }
}

/// What became of an attempt. Written by the operator alone.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisStatus {
    /// The generation of the spec that was looked at last.
    #[serde(default)]
    pub observed_generation: i64,
    /// Ready; Reconciling and Stalled only while they are so.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Where somebody else moves the traffic: the trial of the newest revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialStatus>,
    /// What is known: Pass, Fail or Inconclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictWord>,
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// The rule that fired, with its numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub rule: Option<String>,
    /// The step that was judged, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged_step: Option<i64>,
    /// End of the newest tick that counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub judged_at: Option<String>,
    /// SHA-256 of the samples behind the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub evidence_hash: Option<String>,
    /// Per metric.
    #[serde(default)]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["metric".into()]))]
    pub readings: Vec<MetricReading>,
    /// The last 20 decisions, oldest first.
    #[serde(default)]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub decisions: Vec<DecisionEntry>,
    /// The judge's own memory, so that a restart goes on where it stopped; not for reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 49152))]
    pub judge_state: Option<String>,
}

/// The trial of one revision whose traffic somebody else moves: what a hook is answered from.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TrialStatus {
    /// The revision it is compared with.
    #[schemars(length(max = 64))]
    pub stable: String,
    /// The revision on trial, and the step it is at.
    pub attempt: AttemptStatus,
    /// The share that the mover gives it, in percent.
    #[schemars(range(min = 0, max = 100))]
    pub weight: i64,
    /// What was decided about this revision at this weight.
    pub decision: Outcome,
    /// Why, in one word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// The same as a sentence, with its numbers.
    #[schemars(length(max = 512))]
    pub rule: String,
    /// When it was decided.
    #[schemars(length(max = 40))]
    pub at: String,
}

/// What is known about a metric or a whole analysis.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictWord {
    /// Safe within the promote margin, on complete evidence.
    Pass,
    /// Worse than the abort margin allows.
    Fail,
    /// Neither is shown, or the evidence is incomplete.
    Inconclusive,
}

/// The numbers of one metric since the step's window began; where harm is proved, since the attempt began.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MetricReading {
    /// The metric's name.
    #[schemars(length(min = 1, max = 52))]
    pub metric: String,
    /// How it is judged: Sequential compares with stable, Limit with a fixed limit, MannWhitney the
    /// ranks of a fixed window, and Guard watches a gauge.
    #[serde(default)]
    pub method: MethodName,
    /// What is counted beside events: requests, or the seconds for which pods were seen, where it is
    /// restarts and their like; of a gauge, samples.
    #[serde(default, skip_serializing_if = "Unit::is_requests")]
    pub unit: Unit,
    /// What this metric says by itself.
    pub verdict: VerdictWord,
    /// Why, in one word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Bad and all requests to the canary, events and pod-seconds, or the median of a gauge and its samples.
    #[schemars(length(min = 2, max = 2))]
    pub canary: Vec<f64>,
    /// Bad and all requests to the baseline.
    #[schemars(length(min = 2, max = 2))]
    pub baseline: Vec<f64>,
    /// Canary rate divided by baseline rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Always-valid interval of that ratio: lower and upper bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 2))]
    pub interval: Option<Vec<f64>>,
    /// Interval of the canary's rate less the baseline's: lower and upper bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 2))]
    pub difference: Option<Vec<f64>>,
    /// By how much more the counts vary than independent requests would, where that is more than 1:
    /// evidence is divided by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispersion: Option<f64>,
    /// Evidence of harm (natural logarithm) and the limit it has to reach.
    #[schemars(length(min = 2, max = 2))]
    pub harm: Vec<f64>,
    /// Evidence of safety (natural logarithm) and the limit it has to reach.
    #[schemars(length(min = 2, max = 2))]
    pub safety: Vec<f64>,
    /// Requests to the canary, or pod-seconds, that are still needed for a Pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs_requests: Option<f64>,
    /// The same in seconds at the rate seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs_seconds: Option<f64>,
    /// What is missing, when the evidence is incomplete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub gaps: Vec<GapEntry>,
}

/// One thing that is missing or wrong.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GapEntry {
    /// What is wrong, in one word.
    #[schemars(length(max = 64))]
    pub kind: String,
    /// The same with names and numbers.
    #[schemars(length(max = 256))]
    pub detail: String,
}

/// One decision with everything it rested on.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DecisionEntry {
    /// Attempt and number: unique within the gate.
    #[schemars(length(max = 48))]
    pub id: String,
    /// When it was decided.
    #[schemars(length(max = 40))]
    pub at: String,
    /// What was decided: Promote, Hold or Abort.
    pub outcome: Outcome,
    /// Why, in one word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// The step it was taken at, from 0.
    #[schemars(range(min = 0))]
    pub step: i64,
    /// Weight before, in percent.
    #[schemars(range(min = 0, max = 100))]
    pub from: i64,
    /// Weight after, in percent.
    #[schemars(range(min = 0, max = 100))]
    pub to: i64,
    /// The rule that fired, with its numbers.
    #[schemars(length(max = 512))]
    pub rule: String,
    /// SHA-256 of the evidence; empty where a decision rests on none.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub evidence_hash: String,
    /// Who asked, for a decision a person asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub by: Option<String>,
}
