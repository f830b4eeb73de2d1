//! What the machine remembers, and what it asks to be done.

use serde::{Deserialize, Serialize};

use super::{Mark, Millis, Outcome, Reason, Revision};

/// What is remembered about a gate between passes: stored in its status.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The trusted revision; `None` before adoption.
    pub proven: Option<Revision>,
    /// Attempts begun so far. Never falls, so that an old fence is never passed.
    pub epoch: i64,
    /// The release in flight, or the refused one that is still in the template.
    pub attempt: Option<Attempt>,
}

/// One trial of one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// The revision on trial.
    pub revision: Revision,
    /// Its number.
    pub epoch: i64,
    /// Where it is.
    pub stage: Stage,
    /// Since when it is there.
    pub since: Millis,
    /// When the step's window began: routes programmed and requests seen.
    pub window: Option<Millis>,
    /// Since when the canary is being scaled for the next weight.
    pub scaling: Option<Millis>,
    /// A hold that only a person, or the end of a suspension, ends.
    pub hold: Option<HoldSince>,
    /// Decisions recorded so far; the number of the next one.
    pub decisions: i64,
}

impl Attempt {
    /// The attempt in another stage, from now on, by a decision of ours.
    pub(super) fn moved(&self, stage: Stage, now: Millis) -> Self {
        Self {
            decisions: self.decisions.saturating_add(1),
            ..self.entered(stage, now)
        }
    }

    /// The attempt in another stage, from now on, whoever moved it there.
    #[must_use]
    pub fn entered(&self, stage: Stage, now: Millis) -> Self {
        Self {
            stage,
            since: now,
            window: None,
            scaling: None,
            hold: None,
            ..self.clone()
        }
    }
}

/// A hold that does not end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HoldSince {
    /// Why.
    pub reason: Reason,
    /// Since when.
    pub since: Millis,
}

/// Where an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// The plan is frozen and the canary is being brought up; no traffic yet.
    Preparing,
    /// The weight of this step (from 0) is written, or being written.
    Stepping(usize),
    /// Past the commit point: stable is being brought to the new revision.
    HandingOver,
    /// Stable runs the new revision: the route goes back to what the user wrote.
    Restoring,
    /// Aborted: weight 0 first, then drain, then removal of the canary. Why it was aborted.
    Aborting(Reason),
    /// Aborted and cleaned up; the refused template is still in the Deployment.
    Rejected(Reason),
}

/// What is to be done, one at a time and in this order. Every effect may be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Put our label on the Deployment, so that the hold applies from now on.
    Adopt,
    /// Freeze the plan in a CanaryAnalysis for this attempt.
    Freeze,
    /// Keep stable from shrinking while a release is in flight.
    GuardStable,
    /// Make or scale the canary for a step, before its weight is written.
    ScaleCanary {
        /// The step, from 0.
        step: usize,
    },
    /// Write the weight, the annotation and the record in one compare-and-swap per route.
    Write(Mark),
    /// Take the hold off; tests resourceVersion and revision.
    Release,
    /// Put every route back to what the user wrote. A fence stays in the annotation.
    Restore,
    /// Remove the canary's Deployment and Service, and let stable shrink again.
    Remove,
    /// Take our label off; an unproven template is left paused.
    Disown,
    /// Answer a request, so that it is used once.
    Answer {
        /// The GateAction's name.
        name: String,
        /// Whether it was granted; the reason says why not.
        granted: bool,
        /// Why.
        reason: Reason,
    },
}

/// What one pass comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// To be stored after the effects have been done.
    pub state: State,
    /// To be done now, in order; the pass ends at the first that fails.
    pub effects: Vec<Effect>,
    /// What this means for the release.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// When to look again, even if nothing happens.
    pub wake_at: Option<Millis>,
}

impl Decision {
    /// The mark that it writes, when it moves traffic.
    #[must_use]
    pub fn written(&self) -> Option<&Mark> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Write(mark) => Some(mark),
            _ => None,
        })
    }
}
