//! The hold by choice where nothing may stand in the way of writes: an adopted Deployment is kept
//! paused at rest, so that a changed template waits, also while the operator is away.
//!
//! Unlike policy and webhook this binds nobody: whoever resumes the Deployment lets its template
//! through. That is noticed, adopted and said. The label that comes with the pause tells it from a
//! pause by somebody else, and says which revision ran then.

use serde_json::{Value, json};

use crate::api::labels;
use crate::decision::{Revision, WorkloadFact};

use super::watch::Workload;

/// What the machine may know of a Deployment; `None` while it is being deleted. `proven` is the
/// trusted revision where a pause at rest is the hold, and `None` elsewhere.
#[must_use]
pub fn fact(live: &Workload, pauses: bool, proven: Option<&Revision>) -> Option<WorkloadFact> {
    if live.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let proven = proven.filter(|_| pauses);
    let rolled_out = rolled_out(live, proven);
    let paused = live.spec.paused && settled(live) == live.spec.revision;
    Some(WorkloadFact {
        template: live.spec.revision.clone()?,
        held: is_held(live, proven),
        released: live.label(labels::HANDOVER).is_some(),
        rolled_out,
        // a rollout is not stopped half-way: it is paused when it is over
        adopted: live.label(labels::GATE).is_some() && (!pauses || !rolled_out || paused),
    })
}

/// Whether an unproven template, or a restart of the proven one, waits behind a pause.
#[must_use]
pub fn is_held(live: &Workload, proven: Option<&Revision>) -> bool {
    let by_admission = live.label(labels::HELD).is_some();
    let runs = settled(live).or_else(|| proven.cloned());
    let by_pause = runs.is_some_and(|runs| live.spec.revision != Some(runs) || restarted(live));
    live.spec.paused && (by_admission || by_pause)
}

/// Whether every pod runs the template that is written and is ready, and no rollout can be under way
/// behind a pause that is not ours.
fn rolled_out(live: &Workload, proven: Option<&Revision>) -> bool {
    let runs = settled(live).or_else(|| proven.cloned());
    let resting = live.spec.paused && runs.is_some() && runs == live.spec.revision;
    live.rolled_out() || resting && live.is_complete()
}

/// The revision that ran when we paused.
fn settled(live: &Workload) -> Option<Revision> {
    let runs = live.label(labels::PAUSED)?;
    Some(Revision(runs.to_owned()))
}

/// Whether the template was written anew without becoming another revision: pods of the one before
/// are running, and nothing replaces them.
fn restarted(live: &Workload) -> bool {
    let status = &live.status;
    status.observed_generation >= live.metadata.generation.unwrap_or(0) && status.replicas > status.updated_replicas
}

/// Adds the pause at rest to a merge patch of a Deployment; `false` while it is rolling out, and when
/// it is paused already.
#[must_use]
pub fn pause(live: &Workload, proven: Option<&Revision>, patch: &mut Value) -> bool {
    let done = live.spec.paused && settled(live) == live.spec.revision;
    if done || !rolled_out(live, proven) {
        return false;
    }
    patch["metadata"]["labels"][labels::PAUSED] = json!(live.spec.revision);
    patch["spec"] = json!({"paused": true});
    true
}

/// Adds to a merge patch that takes our labels off what ends our pause, if nothing waits behind it.
pub fn resume(live: &Workload, waits: bool, patch: &mut Value) {
    if live.label(labels::PAUSED).is_some() && !waits {
        patch["spec"] = json!({"paused": null});
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: [i64; 2] = [2, 2];
    /// Pods of the template before are running.
    const BEHIND: [i64; 2] = [2, 0];

    /// A Deployment with the template of this image; the label says it was paused with that of `settled`.
    fn workload(image: &str, paused: bool, settled: Option<&str>, [replicas, updated]: [i64; 2]) -> Workload {
        let labels = match settled {
            Some(settled) => json!({labels::GATE: "checkout", labels::PAUSED: revision(settled)}),
            None => json!({labels::GATE: "checkout"}),
        };
        let object = json!({
            "metadata": {"name": "checkout", "generation": 3, "labels": labels},
            "spec": {"replicas": 2, "paused": paused, "template": template(image)},
            "status": {"observedGeneration": 3, "replicas": replicas, "updatedReplicas": updated, "availableReplicas": 2},
        });
        serde_json::from_value(object).expect("a Deployment")
    }

    fn template(image: &str) -> Value {
        json!({"spec": {"containers": [{"image": image}]}})
    }

    fn revision(image: &str) -> Revision {
        super::super::revision::revision(&template(image))
    }

    #[test]
    fn a_template_is_held_while_another_one_ran_when_it_was_paused() {
        let table = [
            // image, paused, label; held, rolled out, everything on it
            (
                "at rest",
                workload("v1", true, Some("v1"), RUNNING),
                (false, true, true),
            ),
            ("changed", workload("v2", true, Some("v1"), BEHIND), (true, false, true)),
            (
                "restarted",
                workload("v1", true, Some("v1"), BEHIND),
                (true, false, true),
            ),
            (
                "released, rolling out",
                workload("v2", false, None, [3, 1]),
                (false, false, true),
            ),
            (
                "rolled out, to be paused",
                workload("v2", false, None, RUNNING),
                (false, true, false),
            ),
            (
                "resumed at rest",
                workload("v1", false, Some("v1"), RUNNING),
                (false, true, false),
            ),
            (
                "resumed with a change",
                workload("v2", false, Some("v1"), [3, 1]),
                (false, false, true),
            ),
            (
                "the label is gone",
                workload("v1", true, None, RUNNING),
                (false, true, false),
            ),
            (
                "the label is gone, changed",
                workload("v2", true, None, BEHIND),
                (true, false, true),
            ),
        ];
        for (case, live, expected) in table {
            let fact = fact(&live, true, Some(&revision("v1"))).expect("a fact");
            assert_eq!((fact.held, fact.rolled_out, fact.adopted), expected, "{case}");
        }
    }

    #[test]
    fn a_pause_by_somebody_else_is_none_of_ours() {
        let theirs = workload("v1", true, None, RUNNING);
        for (pauses, proven) in [(false, Some(revision("v2"))), (true, None)] {
            let fact = fact(&theirs, pauses, proven.as_ref()).expect("a fact");
            assert_eq!(
                (fact.held, fact.rolled_out),
                (false, false),
                "before adoption, or where admission holds"
            );
        }
        let mut patch = json!({});
        resume(&theirs, false, &mut patch);
        assert_eq!(patch, json!({}), "it stays when the gate goes");
    }

    #[test]
    fn what_was_paused_is_paused_once_and_only_when_it_is_rolled_out() {
        let proven = revision("v1");
        let table = [
            ("rolled out", workload("v1", false, None, RUNNING), true),
            ("trusted while it rolls out", workload("v1", false, None, [3, 1]), false),
            ("done", workload("v1", true, Some("v1"), RUNNING), false),
            ("the label is gone", workload("v1", true, None, RUNNING), true),
            ("a change waits", workload("v2", true, Some("v1"), BEHIND), false),
        ];
        for (case, live, pauses) in table {
            let mut patch = json!({"metadata": {"labels": {"ours": "stays"}}});
            assert_eq!(pause(&live, Some(&proven), &mut patch), pauses, "{case}");
            if pauses {
                let labels = json!({"ours": "stays", labels::PAUSED: proven});
                assert_eq!(
                    patch,
                    json!({"metadata": {"labels": labels}, "spec": {"paused": true}}),
                    "{case}"
                );
            }
        }
    }

    #[test]
    fn our_pause_ends_with_the_gate_unless_a_template_waits() {
        for (waits, patch) in [(false, json!({"spec": {"paused": null}})), (true, json!({}))] {
            let mut written = json!({});
            resume(&workload("v1", true, Some("v1"), RUNNING), waits, &mut written);
            assert_eq!(written, patch, "waits: {waits}");
        }
    }

    #[test]
    fn a_deployment_without_our_label_is_not_adopted() {
        let mut bare = workload("v1", false, None, RUNNING);
        bare.metadata.labels = None;
        assert!(!fact(&bare, false, None).expect("a fact").adopted);
        assert!(
            fact(&workload("v1", false, None, RUNNING), false, None)
                .expect("a fact")
                .adopted
        );
    }
}
