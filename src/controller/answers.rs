//! Answers what people asked, and lets old answers go.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::api::{GateAction, moment};
use crate::decision::Reason;

use super::context::{Context, Error};
use super::crash::Write;
use super::gather::Subject;
use super::memory::GateKey;

/// Answered requests of a gate that stay; the audit log keeps what they led to.
const KEPT: usize = 20;

/// Old requests that are removed at one occasion, so that a gate with many does not wait for it.
const AT_ONCE: usize = 5;

/// How long a gate that is being deleted stays for the removal of what was asked of it.
const LEAVING: Duration = Duration::from_secs(5);

/// Answers a request in its status; once, whatever the watch shows. Then lets old ones go.
///
/// # Errors
/// When the API server refuses for another reason than that the request is gone.
pub async fn answer(
    context: &Context,
    subject: &Subject<'_>,
    name: &str,
    (granted, reason): (bool, Reason),
) -> Result<(), Error> {
    let api: Api<GateAction> = Api::namespaced(context.client.clone(), &subject.key.namespace);
    let message = match (reason, &subject.state.attempt) {
        (Reason::OtherRevision, Some(attempt)) => format!("{} {} is.", reason.sentence(), attempt.revision),
        _ => reason.sentence().to_owned(),
    };
    let status = json!({"status": {
        "observedGeneration": 1,
        "answer": if granted { "Granted" } else { "Refused" },
        "reason": reason.word(),
        "message": message,
        "answeredAt": moment(context.now()),
    }});
    match context
        .write(
            Write::Answer,
            api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)),
        )
        .await
    {
        Ok(action) => {
            context.memory.answer(&action.uid().unwrap_or_default());
            forget_old(context, &subject.key).await;
            Ok(())
        }
        Err(Error::Kube(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes the oldest answered requests of a gate beyond those that stay. Nothing depends on it.
async fn forget_old(context: &Context, gate: &GateKey) {
    for old in surplus(context.actions.state(), gate).into_iter().take(AT_ONCE) {
        remove(context, gate, &old).await;
    }
}

/// Removes what was asked of a gate that is being deleted, answered or not, so that it is not asked
/// of a later gate of that name. The deletion waits for it only so long.
pub async fn forget_all(context: &Context, gate: &GateKey) {
    let all = asked_of(context.actions.state(), gate);
    let removals =
        futures::stream::iter(all).for_each_concurrent(AT_ONCE, async |action| remove(context, gate, &action).await);
    if tokio::time::timeout(LEAVING, removals).await.is_err() {
        tracing::warn!(%gate, "some requests of the deleted gate were not removed in time");
    }
}

async fn remove(context: &Context, gate: &GateKey, action: &GateAction) {
    let api: Api<GateAction> = Api::namespaced(context.client.clone(), &gate.namespace);
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: action.uid(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let name = action.name_any();
    match context.write(Write::Answer, api.delete(&name, &params)).await {
        Ok(_) => {}
        Err(Error::Kube(kube::Error::Api(status))) if status.code == 404 => {}
        Err(error) => tracing::warn!(%gate, action = name, %error, "a request was not removed"),
    }
}

/// Whether a request is one to this gate.
#[must_use]
pub fn is_asked_of(action: &GateAction, gate: &GateKey) -> bool {
    action.namespace().as_deref() == Some(gate.namespace.as_str()) && action.spec.gate == gate.name
}

/// What was asked of a gate.
fn asked_of(mut actions: Vec<Arc<GateAction>>, gate: &GateKey) -> Vec<Arc<GateAction>> {
    actions.retain(|action| is_asked_of(action, gate));
    actions
}

/// Answered requests of a gate beyond the newest that stay, oldest first.
fn surplus(actions: Vec<Arc<GateAction>>, gate: &GateKey) -> Vec<Arc<GateAction>> {
    let mut answered = asked_of(actions, gate);
    answered.retain(|action| action.status.as_ref().is_some_and(|status| status.answer.is_some()));
    answered.sort_by_key(|action| (action.creation_timestamp(), action.name_any()));
    let surplus = answered.len().saturating_sub(KEPT);
    answered.truncate(surplus);
    answered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(number: usize, gate: &str, answered: bool) -> Arc<GateAction> {
        let status = if answered {
            json!({"answer": "Granted"})
        } else {
            json!({})
        };
        let action = json!({
            "apiVersion": "tollgate.dev/v1alpha1",
            "kind": "GateAction",
            "metadata": {
                "name": format!("ask-{}", 100 - number),
                "namespace": "shop",
                "creationTimestamp": format!("2026-01-31T12:{number:02}:00Z"),
            },
            "spec": {"gate": gate, "verb": "Hold"},
            "status": status,
        });
        Arc::new(serde_json::from_value(action).expect("an action"))
    }

    #[test]
    fn the_newest_twenty_answers_of_a_gate_stay_and_what_is_open_always_does() {
        let key = GateKey {
            namespace: "shop".into(),
            name: "checkout".into(),
        };
        for (answered, removed) in [(0, 0), (20, 0), (21, 1), (23, 3)] {
            let mut actions: Vec<_> = (0..answered).map(|number| action(number, "checkout", true)).collect();
            actions.extend((0..30).map(|number| action(number, "cart", true)));
            actions.extend((0..30).map(|number| action(number, "checkout", false)));
            actions.reverse();
            let names: Vec<_> = surplus(actions, &key).iter().map(|action| action.name_any()).collect();
            let oldest: Vec<_> = (0..removed).map(|number| format!("ask-{}", 100 - number)).collect();
            assert_eq!(names, oldest, "{answered} answered");
        }
    }

    #[test]
    fn what_was_asked_of_other_gates_stays_when_a_gate_goes() {
        let gate = |namespace: &str, name: &str| GateKey {
            namespace: namespace.into(),
            name: name.into(),
        };
        let actions = || {
            vec![
                action(1, "checkout", true),
                action(2, "cart", true),
                action(3, "checkout", false),
            ]
        };
        for (key, expected) in [
            (gate("shop", "checkout"), vec!["ask-99", "ask-97"]),
            (gate("shop", "cart"), vec!["ask-98"]),
            (gate("pay", "checkout"), vec![]),
        ] {
            let names: Vec<_> = asked_of(actions(), &key)
                .iter()
                .map(|action| action.name_any())
                .collect();
            assert_eq!(names, expected, "{key}");
        }
    }
}
