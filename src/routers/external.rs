//! Somebody else moves the traffic: Argo Rollouts. Reads how far its Rollout has come, and never
//! writes anything.
//!
//! What is asked of a Rollout here: the two revisions, by the hashes of their pod templates, and the
//! weight that it has reached. A weight counts as reached when the Rollout has gone past the step
//! that sets it; before that its pods or routes may still be on the way.

use kube::Resource;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::Rbac;

/// What is needed of the API server.
pub const RULES: Rbac = Rbac {
    groups: &["argoproj.io"],
    resources: &["rollouts"],
    verbs: &["get", "list", "watch"],
};

/// The group of Rollouts.
pub const GROUP: &str = "argoproj.io";
/// Their version.
pub const VERSION: &str = "v1alpha1";

/// A Rollout, as far as it is looked at.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Rollout {
    /// Name and versions.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What was asked for.
    #[serde(default)]
    pub spec: Spec,
    /// How far it is.
    #[serde(default)]
    pub status: Status,
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Spec {
    /// Pods asked for; 1 when left out.
    pub replicas: Option<i64>,
    /// How it is to be released.
    pub strategy: Strategy,
}

/// How it is to be released.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Strategy {
    /// In steps; absent for blue and green.
    pub canary: Option<Canary>,
}

/// A release in steps.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Canary {
    /// The steps.
    pub steps: Vec<Step>,
}

/// A step; those that set no weight say nothing here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Step {
    /// The canary's share in percent.
    pub set_weight: Option<i64>,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Status {
    /// Whether it was aborted; it then goes back to stable.
    pub abort: bool,
    /// The hash of the newest template.
    pub current_pod_hash: String,
    /// The hash of the trusted one.
    #[serde(rename = "stableRS")]
    pub stable: String,
    /// The step it is at, from 0; as many as there are steps when all are done.
    pub current_step_index: Option<i64>,
}

impl Resource for Rollout {
    type DynamicType = ();
    type Scope = kube::core::NamespaceResourceScope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        "Rollout".into()
    }

    fn group((): &()) -> std::borrow::Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> std::borrow::Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        "rollouts".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// How far a Rollout has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// The revision that is trusted.
    pub stable: String,
    /// The newest one.
    pub newest: String,
    /// The share that the newest has reached, in percent; 0 after an abort.
    pub weight: i64,
    /// Whether the mover went back to stable.
    pub aborted: bool,
}

impl Course {
    /// Whether a revision is on its way.
    #[must_use]
    pub fn is_release(&self) -> bool {
        self.newest != self.stable
    }
}

impl Rollout {
    /// How far it has come; nothing before it runs anything.
    #[must_use]
    pub fn course(&self) -> Option<Course> {
        let Status {
            abort,
            current_pod_hash,
            stable,
            current_step_index,
        } = &self.status;
        if stable.is_empty() || current_pod_hash.is_empty() {
            return None;
        }
        let step = current_step_index.and_then(|step| usize::try_from(step).ok());
        let reached = step.and_then(|step| self.weight_at(step)).unwrap_or(0);
        Some(Course {
            stable: stable.clone(),
            newest: current_pod_hash.clone(),
            weight: if *abort { 0 } else { reached },
            aborted: *abort,
        })
    }

    /// The weight that is reached when it is at a step, from 0; nothing when there is no such step.
    #[must_use]
    pub fn weight_at(&self, step: usize) -> Option<i64> {
        let steps = &self.spec.strategy.canary.as_ref()?.steps;
        let done = steps.get(..step)?;
        Some(done.iter().rev().find_map(|step| step.set_weight).unwrap_or(0))
    }

    /// The name of the ReplicaSet of a revision: its pods are named after it.
    #[must_use]
    pub fn replica_set(rollout: &str, revision: &str) -> String {
        format!("{rollout}-{revision}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rollout(status: &Value) -> Rollout {
        serde_json::from_value(json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
            "metadata": {"name": "checkout", "namespace": "shop"},
            "spec": {"replicas": 4, "strategy": {"canary": {"steps": [
                {"setWeight": 25}, {"analysis": {"templates": []}}, {"pause": {"duration": 60}}, {"setWeight": 50}, {"analysis": {}}]}}},
            "status": status,
        }))
        .expect("a Rollout")
    }

    #[test]
    fn a_weight_is_reached_when_the_rollout_has_gone_past_the_step_that_sets_it() {
        for (step, weight) in [(0, 0), (1, 25), (2, 25), (3, 25), (4, 50), (5, 50)] {
            let status = json!({"currentPodHash": "new", "stableRS": "old", "currentStepIndex": step});
            let course = rollout(&status).course().expect("a course");
            assert_eq!((course.weight, course.is_release()), (weight, true), "at step {step}");
        }
        assert_eq!(rollout(&json!({})).weight_at(6), None);
    }

    #[test]
    fn a_rollout_that_says_less_says_nothing() {
        for (status, expected) in [
            (json!({}), None),
            (json!({"currentPodHash": "new"}), None),
            (json!({"currentPodHash": "new", "stableRS": ""}), None),
            (json!({"currentPodHash": "new", "stableRS": "old"}), Some((0, false))),
            (
                json!({"currentPodHash": "new", "stableRS": "old", "currentStepIndex": 99}),
                Some((0, false)),
            ),
            (
                json!({"currentPodHash": "new", "stableRS": "old", "currentStepIndex": -1}),
                Some((0, false)),
            ),
            (
                json!({"currentPodHash": "new", "stableRS": "old", "currentStepIndex": 4, "abort": true}),
                Some((0, true)),
            ),
        ] {
            let course = rollout(&status).course().map(|course| (course.weight, course.aborted));
            assert_eq!(course, expected, "{status}");
        }
        let blue: Rollout = serde_json::from_value(json!({"metadata": {}, "spec": {"strategy": {"blueGreen": {}}},
            "status": {"currentPodHash": "new", "stableRS": "old", "currentStepIndex": 0}}))
        .expect("a Rollout");
        assert_eq!(blue.course().expect("a course").weight, 0);
    }
}
