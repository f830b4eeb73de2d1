//! Conditions as kstatus reads them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decision::Millis;

/// One statement about an object.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Ready, Reconciling, Stalled or Held.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 63))]
    pub type_: String,
    /// Whether it is so.
    pub status: ConditionStatus,
    /// The generation of the spec that was looked at.
    #[serde(default)]
    pub observed_generation: i64,
    /// When the status last changed.
    pub last_transition_time: Time,
    /// One word from a closed list.
    #[schemars(length(min = 1, max = 63))]
    pub reason: String,
    /// The same for people.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Whether a condition is so.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// Nobody knows.
    Unknown,
}

/// Longest message, in characters.
const MESSAGE: usize = 1024;

impl Condition {
    /// A statement about a generation of an object, true or false since a time; why, in one word and
    /// as a sentence, which is cut where it is too long.
    #[must_use]
    pub fn new(type_: &str, is: bool, generation: i64, since: Millis, (reason, message): (&str, &str)) -> Self {
        let at = jiff::Timestamp::from_millisecond(since.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        Self {
            type_: type_.to_owned(),
            status: if is {
                ConditionStatus::True
            } else {
                ConditionStatus::False
            },
            observed_generation: generation,
            last_transition_time: Time(at),
            reason: reason.to_owned(),
            message: clipped(message),
        }
    }
}

/// Statements as they are made now, with the time of change of those that were so before, too.
#[must_use]
pub fn kept_times(mut now: Vec<Condition>, before: &[Condition]) -> Vec<Condition> {
    for condition in &mut now {
        let same = before
            .iter()
            .find(|old| old.type_ == condition.type_ && old.status == condition.status);
        if let Some(same) = same {
            condition.last_transition_time = same.last_transition_time.clone();
        }
    }
    now
}

/// A message that fits a condition.
#[must_use]
pub fn clipped(message: &str) -> String {
    if message.chars().count() <= MESSAGE {
        return message.to_owned();
    }
    message.chars().take(MESSAGE - 1).chain(['…']).collect()
}
