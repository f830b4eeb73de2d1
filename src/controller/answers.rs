//! Answers what people asked, and lets old answers go.

use std::sync::Arc;

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
    let api: Api<GateAction> = Api::namespaced(context.client.clone(), &gate.namespace);
    for old in surplus(context.actions.state(), gate).into_iter().take(AT_ONCE) {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: old.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let name = old.name_any();
        match context.write(Write::Answer, api.delete(&name, &params)).await {
            Ok(_) => {}
            Err(Error::Kube(kube::Error::Api(status))) if status.code == 404 => {}
            Err(error) => tracing::warn!(%gate, action = name, %error, "an old request was not removed"),
        }
    }
}

/// Answered requests of a gate beyond the newest that stay, oldest first.
fn surplus(actions: Vec<Arc<GateAction>>, gate: &GateKey) -> Vec<Arc<GateAction>> {
    let is_old = |action: &Arc<GateAction>| {
        action.namespace().as_deref() == Some(gate.namespace.as_str())
            && action.spec.gate == gate.name
            && action.status.as_ref().is_some_and(|status| status.answer.is_some())
    };
    let mut answered: Vec<_> = actions.into_iter().filter(is_old).collect();
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
}
