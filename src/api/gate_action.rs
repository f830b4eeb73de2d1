//! GateAction: what someone asked of a gate.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decision::Verb;

/// What is asked of a gate, once. When it is answered and 20 newer ones of its gate are too, it is
/// removed; the decision it led to stays in the CanaryAnalysis and in the audit log, with its signer.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "tollgate.dev",
    version = "v1alpha1",
    kind = "GateAction",
    namespaced,
    status = "ActionStatus",
    shortname = "ga",
    category = "tollgate",
    derive = "PartialEq",
    doc = "What someone asked of a gate. Creating it is asking; it is answered once, in its status, and never changes. The newest 20 answered ones of a gate are kept.",
    printcolumn(name = "GATE", type_ = "string", json_path = ".spec.gate"),
    printcolumn(name = "VERB", type_ = "string", json_path = ".spec.verb"),
    printcolumn(name = "SIGNER", type_ = "string", json_path = ".spec.signer"),
    printcolumn(name = "ANSWER", type_ = "string", json_path = ".status.answer"),
    printcolumn(name = "REASON", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "WHY", type_ = "string", json_path = ".spec.reason", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("what was asked never changes; ask again with a new GateAction").reason(Reason::FieldValueForbidden),
    validation = Rule::new("self.verb != 'Promote' || (has(self.reason) && self.reason.size() > 0)").message("Promote goes past a hold: it needs a reason"),
)]
pub struct GateActionSpec {
    /// The gate, in the same namespace.
    #[schemars(length(min = 1, max = 63))]
    pub gate: String,
    /// What is asked: Promote goes to the next step past a hold, Hold keeps the weight until
    /// Resume, Abort sends all traffic back and refuses the revision, Retry tries a refused
    /// revision again, Approve consents where the policy asks for it.
    pub verb: Verb,
    /// Only if this revision is on trial; otherwise the action is refused. The whole revision as
    /// status shows it, or its first six characters or more. Default: whichever is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub revision: Option<String>,
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub reason: Option<String>,
    /// Who asks. Filled in by the API server with the name of whoever creates the object; any
    /// other name is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub signer: Option<String>,
}

/// The answer. Written by the operator alone.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ActionStatus {
    /// The generation that was answered.
    #[serde(default)]
    pub observed_generation: i64,
    /// Granted or Refused; absent until answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Why, with names and numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// When it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub answered_at: Option<String>,
}

/// Whether what was asked is done.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Granted,
    /// It is not; the reason says why.
    Refused,
}
