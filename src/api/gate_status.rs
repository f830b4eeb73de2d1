//! The status of a gate: what people read, and the machine's memory beside it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::invalid::Invalid;
use super::time::{millis, moment};
use crate::decision::{Attempt, HoldSince, Outcome, Reason, Revision, Stage, State};

/// What is known about a gate. Written by the operator alone: it is authority, not a report.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GateStatus {
    /// The generation of the spec that was looked at last.
    #[serde(default)]
    pub observed_generation: i64,
    /// Ready; Held while a template is held; Reconciling and Stalled only while they are so.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The trusted revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub stable: Option<String>,
    /// The revision on trial, or the trusted one at rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub revision: Option<String>,
    /// The step and how many there are, like 2/5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub step: Option<String>,
    /// The canary's share in percent, as last read from the routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub weight: Option<i64>,
    /// The last decision: Promote, Hold or Abort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Outcome>,
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Why, with names and numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Attempts begun so far; never falls.
    #[serde(default)]
    pub epoch: i64,
    /// The release in flight, or the refused one that is still in the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptStatus>,
    /// The CanaryAnalysis of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<AnalysisRef>,
    /// Where the last attempt stands on GitHub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github: Option<GitHubStatus>,
}

/// One trial of one revision.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AttemptStatus {
    /// The revision on trial.
    #[schemars(length(max = 64))]
    pub revision: String,
    /// Its number.
    pub epoch: i64,
    /// Where it is.
    pub stage: StageWord,
    /// The step, from 0, while stepping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub at_step: Option<i64>,
    /// Why it was aborted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub why: Option<String>,
    /// Since when it is there.
    #[schemars(length(max = 40))]
    pub since: String,
    /// When the step's window began: routes programmed and requests seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub window: Option<String>,
    /// Since when the canary is being scaled for the next weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub scaling: Option<String>,
    /// A hold that does not end by itself: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub hold: Option<String>,
    /// Since when it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub hold_since: Option<String>,
    /// Decisions recorded so far.
    #[serde(default)]
    pub decisions: i64,
}

/// Where an attempt is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageWord {
    /// The canary is being brought up; no traffic yet.
    Preparing,
    /// At a step.
    Stepping,
    /// Stable is being brought to the new revision.
    HandingOver,
    /// The route goes back to what the user wrote.
    Restoring,
    /// Weight 0, drain, removal.
    Aborting,
    /// Aborted; the refused template is still in the Deployment.
    Rejected,
}

/// The CanaryAnalysis of an attempt.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisRef {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its uid: another object of the same name is not the plan that was frozen.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// Where the last attempt stands on GitHub.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GitHubStatus {
    /// The deployment's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<i64>,
    /// The last state that was reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub state: Option<String>,
    /// Why the last report did not arrive; absent when it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub error: Option<String>,
}

impl GateStatus {
    /// Stores the machine's memory; everything else stays.
    pub fn remember(&mut self, state: &State) {
        self.stable = state.proven.as_ref().map(|revision| revision.0.clone());
        self.epoch = state.epoch;
        self.attempt = state.attempt.as_ref().map(AttemptStatus::from);
        self.revision = state
            .attempt
            .as_ref()
            .map(|attempt| &attempt.revision)
            .or(state.proven.as_ref())
            .map(|revision| revision.0.clone());
    }

    /// The machine's memory.
    ///
    /// # Errors
    /// When the status was not written by [`Self::remember`]: it names the field and the value.
    pub fn state(&self) -> Result<State, Invalid> {
        Ok(State {
            proven: self.stable.clone().map(Revision),
            epoch: self.epoch,
            attempt: self.attempt.as_ref().map(Attempt::try_from).transpose()?,
        })
    }
}

impl From<&Attempt> for AttemptStatus {
    fn from(attempt: &Attempt) -> Self {
        let (stage, at_step, why) = match attempt.stage {
            Stage::Preparing => (StageWord::Preparing, None, None),
            Stage::Stepping(step) => (StageWord::Stepping, Some(i64::try_from(step).unwrap_or(i64::MAX)), None),
            Stage::HandingOver => (StageWord::HandingOver, None, None),
            Stage::Restoring => (StageWord::Restoring, None, None),
            Stage::Aborting(why) => (StageWord::Aborting, None, Some(why)),
            Stage::Rejected(why) => (StageWord::Rejected, None, Some(why)),
        };
        Self {
            revision: attempt.revision.0.clone(),
            epoch: attempt.epoch,
            stage,
            at_step,
            why: why.map(|reason| reason.word().to_owned()),
            since: moment(attempt.since),
            window: attempt.window.map(moment),
            scaling: attempt.scaling.map(moment),
            hold: attempt.hold.map(|hold| hold.reason.word().to_owned()),
            hold_since: attempt.hold.map(|hold| moment(hold.since)),
            decisions: attempt.decisions,
        }
    }
}

impl TryFrom<&AttemptStatus> for Attempt {
    type Error = Invalid;
    fn try_from(status: &AttemptStatus) -> Result<Self, Invalid> {
        let hold = match (&status.hold, &status.hold_since) {
            (None, None) => None,
            (Some(word), Some(since)) => Some(HoldSince {
                reason: reason("status.attempt.hold", word)?,
                since: millis("status.attempt.holdSince", since)?,
            }),
            (hold, _) => {
                let value = hold.as_deref().unwrap_or("absent");
                return Err(Invalid::new(
                    "status.attempt.hold",
                    value,
                    "present together with holdSince, or absent with it",
                ));
            }
        };
        Ok(Self {
            revision: Revision(status.revision.clone()),
            epoch: status.epoch,
            stage: stage(status)?,
            since: millis("status.attempt.since", &status.since)?,
            window: status
                .window
                .as_ref()
                .map(|text| millis("status.attempt.window", text))
                .transpose()?,
            scaling: status
                .scaling
                .as_ref()
                .map(|text| millis("status.attempt.scaling", text))
                .transpose()?,
            hold,
            decisions: status.decisions,
        })
    }
}

fn stage(status: &AttemptStatus) -> Result<Stage, Invalid> {
    let why = || match &status.why {
        Some(word) => reason("status.attempt.why", word),
        None => Err(Invalid::new("status.attempt.why", "nothing", "the reason of the abort")),
    };
    Ok(match status.stage {
        StageWord::Preparing => Stage::Preparing,
        StageWord::Stepping => {
            let step = status.at_step.and_then(|step| usize::try_from(step).ok());
            let value = status
                .at_step
                .map_or_else(|| "nothing".to_owned(), |step| step.to_string());
            let wrong = || Invalid::new("status.attempt.atStep", value, "a step, from 0");
            Stage::Stepping(step.ok_or_else(wrong)?)
        }
        StageWord::HandingOver => Stage::HandingOver,
        StageWord::Restoring => Stage::Restoring,
        StageWord::Aborting => Stage::Aborting(why()?),
        StageWord::Rejected => Stage::Rejected(why()?),
    })
}

/// Reads one of the closed list of reasons.
pub(super) fn reason(field: &str, word: &str) -> Result<Reason, Invalid> {
    Reason::from_word(word).ok_or_else(|| Invalid::new(field, word, "a reason this version of Tollgate knows"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::decision::Millis;

    fn time() -> impl Strategy<Value = Millis> {
        (0..253_402_207_200_000_i64).prop_map(Millis)
    }

    fn reasons() -> impl Strategy<Value = Reason> {
        (0..Reason::ALL.len()).prop_map(|index| Reason::ALL[index])
    }

    fn stages() -> impl Strategy<Value = Stage> {
        prop_oneof![
            Just(Stage::Preparing),
            (0..20_usize).prop_map(Stage::Stepping),
            Just(Stage::HandingOver),
            Just(Stage::Restoring),
            reasons().prop_map(Stage::Aborting),
            reasons().prop_map(Stage::Rejected),
        ]
    }

    fn states() -> impl Strategy<Value = State> {
        let hold = (reasons(), time()).prop_map(|(reason, since)| HoldSince { reason, since });
        let times = (time(), proptest::option::of(time()), proptest::option::of(time()));
        let attempt = (
            "[0-9a-f]{10}",
            0..i64::MAX,
            stages(),
            times,
            proptest::option::of(hold),
            0..i64::MAX,
        )
            .prop_map(
                |(revision, epoch, stage, (since, window, scaling), hold, decisions)| Attempt {
                    revision: Revision(revision),
                    epoch,
                    stage,
                    since,
                    window,
                    scaling,
                    hold,
                    decisions,
                },
            );
        let proven = proptest::option::of("[0-9a-f]{10}".prop_map(Revision));
        (proven, 0..i64::MAX, proptest::option::of(attempt)).prop_map(|(proven, epoch, attempt)| State {
            proven,
            epoch,
            attempt,
        })
    }

    proptest! {
        #[test]
        fn the_machine_remembers_what_it_stored(state in states()) {
            let mut status = GateStatus::default();
            status.remember(&state);
            let stored = serde_json::to_string(&status).expect("JSON");
            let read: GateStatus = serde_json::from_str(&stored).expect("as it was stored");
            prop_assert_eq!(read.state(), Ok(state));
        }
    }

    #[test]
    fn a_status_that_the_operator_did_not_write_is_refused_by_field() {
        let good = json!({
            "epoch": 3,
            "attempt": {"revision": "abc", "epoch": 3, "stage": "Stepping", "atStep": 1, "since": "2026-01-31T12:00:00.000Z"},
        });
        let read = |value: &serde_json::Value| {
            serde_json::from_value::<GateStatus>(value.clone())
                .expect("a status")
                .state()
        };
        assert!(read(&good).is_ok());
        for (field, value, named) in [
            ("atStep", json!(null), "status.attempt.atStep"),
            ("atStep", json!(-1), "status.attempt.atStep"),
            ("since", json!("yesterday"), "status.attempt.since"),
            ("window", json!("soon"), "status.attempt.window"),
            ("stage", json!("Aborting"), "status.attempt.why"),
            ("hold", json!("Suspended"), "status.attempt.hold"),
            ("holdSince", json!("2026-01-31T12:00:00Z"), "status.attempt.hold"),
        ] {
            let mut bad = good.clone();
            bad["attempt"][field] = value;
            assert_eq!(
                read(&bad).map_err(|invalid| invalid.field),
                Err(named.to_owned()),
                "{field}"
            );
        }
        let mut bad = good.clone();
        bad["attempt"]["stage"] = json!("Rejected");
        bad["attempt"]["why"] = json!("BadLuck");
        assert!(read(&bad).is_err_and(|invalid| invalid.value == "BadLuck"));
    }
}
