//! The audit record of one decision, as it rides in the route's annotation.

use serde::{Deserialize, Serialize};

use super::{Millis, Percent, Reason, Revision};

/// What was decided about a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Outcome {
    /// Go on.
    Promote,
    /// Wait.
    Hold,
    /// All traffic back to the safe target.
    Abort,
}

impl Outcome {
    /// The word itself.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Promote => "Promote",
            Self::Hold => "Hold",
            Self::Abort => "Abort",
        }
    }
}

/// One decision with everything it rested on. At most 2 KiB as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// `<epoch>-<number>`: unique within the gate, the same when an effect is repeated.
    pub id: String,
    /// When it was decided.
    pub at: Millis,
    /// What was decided.
    pub outcome: Outcome,
    /// Why, from a closed list.
    pub reason: Reason,
    /// The revision on trial.
    pub revision: Revision,
    /// The step it was taken at, from 0.
    pub step: usize,
    /// Weight before.
    pub from: Percent,
    /// Weight after.
    pub to: Percent,
    /// The rule that fired, with its numbers.
    pub rule: String,
    /// SHA-256 of the evidence; empty where a decision rests on none.
    pub evidence_hash: String,
    /// SHA-256 of the frozen plan.
    pub policy_hash: String,
    /// Who asked, for a decision a person asked for.
    pub by: Option<String>,
}
