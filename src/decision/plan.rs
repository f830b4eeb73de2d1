//! The frozen plan of one attempt. It never changes once the attempt has begun.

use serde::{Deserialize, Serialize};

use super::{Millis, Percent};

/// What the machine needs of a gate's policy. Metrics and margins are the judge's business.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// SHA-256 of the policy the plan was frozen from: names it in every record.
    pub policy_hash: String,
    /// How old evidence may be before it lets nothing rise: what the source needs in health.
    pub patience: Millis,
    /// At least one; weights rise strictly and the last is 100.
    pub steps: Vec<Step>,
    /// What stable keeps at the last step so that it can still be compared; 0 to 50.
    pub holdback: Percent,
    /// When a step stays without a clear verdict for its longest stay.
    pub on_inconclusive: OnInconclusive,
    /// When there is no complete evidence at all.
    pub on_no_evidence: NoEvidencePolicy,
    /// How long the machine waits for others.
    pub deadlines: Deadlines,
}

/// A planned stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Canary's share, absolute.
    pub weight: Percent,
    /// Shortest stay after the window has begun.
    pub min_window: Millis,
    /// Longest stay after the window has begun.
    pub max_window: Millis,
}

/// What happens at a step's longest stay without a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum OnInconclusive {
    /// Keep the weight and wait for a person.
    Hold,
    /// Send all traffic back.
    Abort,
    /// Go on if the evidence is complete, the minimum sample is met and no harm was seen.
    NoHarm,
}

/// What lets a metric pass at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Promote {
    /// Evidence that the canary is within the promote margin.
    #[default]
    Safe,
    /// No sign of harm in a complete minimum sample: no proof of safety, and recorded as such.
    NoHarm,
}

/// What happens while there is no complete evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NoEvidencePolicy {
    /// How long the weight is held.
    pub hold: Millis,
    /// What follows.
    pub then: Then,
}

/// What follows when the evidence deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Then {
    /// Send all traffic back.
    Abort,
    /// Keep the weight and wait for a person.
    Hold,
}

/// How long the machine waits for others, each wait with a name and an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deadlines {
    /// For the canary's pods to be ready, at the start and after every scale-up.
    pub ready: Millis,
    /// For every route to be programmed and the canary to receive requests.
    pub route: Millis,
    /// For stable to run the new revision after the commit point.
    pub handover: Millis,
    /// Between weight 0 and the removal of the canary's pods.
    pub drain: Millis,
}

impl Plan {
    /// The weight written at a step: at the last one, stable keeps the holdback.
    #[must_use]
    pub fn weight_at(&self, step: usize) -> Percent {
        match self.steps.get(step) {
            Some(found) if self.is_last(step) => found.weight.min(self.holdback.rest()),
            Some(found) => found.weight,
            None => Percent::ZERO,
        }
    }

    /// Whether nothing but the commit point comes after this step.
    #[must_use]
    pub fn is_last(&self, step: usize) -> bool {
        step.saturating_add(1) >= self.steps.len()
    }
}
