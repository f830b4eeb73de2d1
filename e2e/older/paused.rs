//! By choice the hold is a pause at rest: no policy, and a webhook that is not asked about this namespace.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::core::endings::{delete_gate, left_paused};
use crate::core::passing::{WHOLE, nothing_is_left};
use crate::core::{at_weight, lingering};
use crate::support::objects::image;
use crate::support::operator::{Operator, Start};
use crate::support::space::{Space, played};
use crate::support::{PATIENCE, eventually};

/// Has the API server not ask the webhook about this namespace.
async fn unasked(space: &Space) {
    let others = json!({"matchExpressions": [
        {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [space.name]},
    ]});
    let patch = json!([{"op": "add", "path": "/webhooks/0/namespaceSelector", "value": others}]);
    let patch = Patch::<()>::Json(serde_json::from_value(patch).unwrap());
    let api = space.api("MutatingWebhookConfiguration");
    api.patch("hold.tollgate.dev", &PatchParams::default(), &patch)
        .await
        .unwrap();
}

async fn pausing(space: &Space) -> Operator {
    let operator = space
        .operator_as(&Start::named("one").env("TOLLGATE_HOLD", "paused"))
        .await;
    operator.until_ready().await;
    operator
}

/// Waits until the Deployment rests, paused by us, with pods of this image and no others.
async fn rests(space: &Space, tag: &str) -> Value {
    let what = format!("paused again with {tag}");
    let live = space
        .until(&what, "Deployment", "checkout", |live| {
            let (spec, status) = (&live["spec"], &live["status"]);
            let all = |field: &str| status[field] == spec["replicas"];
            spec["paused"] == true
                && live["metadata"]["labels"]["tollgate.dev/paused"].is_string()
                && live["metadata"]["labels"]["tollgate.dev/handover"].is_null()
                && status["observedGeneration"] == live["metadata"]["generation"]
                && ["replicas", "updatedReplicas", "availableReplicas"]
                    .into_iter()
                    .all(all)
        })
        .await;
    assert_eq!(space.asked_for().await, [image(tag)]);
    live
}

/// Waits until the Deployment's controller has seen the last change.
async fn seen(space: &Space) -> Value {
    space
        .until("the change is seen", "Deployment", "checkout", |live| {
            live["status"]["observedGeneration"] == live["metadata"]["generation"]
        })
        .await
}

async fn trusted(space: &Space, what: &str, before: &Value) -> Value {
    let status = eventually(what, PATIENCE * 4, async || {
        let status = space.the("ReleaseGate", "checkout").await["status"].clone();
        let done = status["stable"] != *before && status["attempt"].is_null();
        if done { Ok(status) } else { Err(status.to_string()) }
    })
    .await;
    nothing_is_left(space).await;
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_is_paused_at_rest_waits_to_be_proven_and_is_paused_again() {
    played("paused", async |space| {
        unasked(space).await;
        space.team(2).await;
        let before = space.the("Deployment", "checkout").await;
        let operator = pausing(space).await;
        let status = space.adopted(&space.gate()).await;
        let rest = rests(space, "v1").await;
        assert_eq!(rest["metadata"]["labels"]["tollgate.dev/paused"], status["stable"]);
        let written = |live: &Value| live["metadata"]["generation"].as_i64().unwrap();
        assert_eq!(written(&rest), written(&before) + 1, "paused in one write");
        space
            .patch("Deployment", "checkout", json!({"spec": {"replicas": 3}}))
            .await
            .unwrap();
        rests(space, "v1").await;

        let pushed = space.push("v2").await;
        let status = trusted(space, "v2 is promoted", &status["stable"]).await;
        assert_eq!(space.weights().await, WHOLE, "{status}");
        let rest = rests(space, "v2").await;
        assert_eq!(rest["metadata"]["labels"]["tollgate.dev/paused"], status["stable"]);
        // taken off for the handover, and put back in the write that ended it
        assert_eq!(written(&rest), written(&pushed) + 2, "{rest}");

        operator.stop().await;
        space.push("v3").await;
        seen(space).await;
        assert_eq!(
            space.asked_for().await,
            [image("v2")],
            "nobody there, nothing rolls out"
        );
        space.push("v2").await;
        seen(space).await;
        rests(space, "v2").await;

        let _operator = pausing(space).await;
        delete_gate(space).await;
        let live = space.the("Deployment", "checkout").await;
        assert!(live["metadata"]["labels"].is_null(), "{live}");
        assert!(
            live["spec"]["paused"].is_null(),
            "nothing waits, so nothing is paused: {live}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_deleted_in_flight_leaves_the_unproven_template_paused() {
    played("paused-gone", async |space| {
        unasked(space).await;
        space.team(2).await;
        let _operator = pausing(space).await;
        space.adopted(&lingering(space)).await;
        rests(space, "v1").await;
        space.push("v2").await;
        at_weight(space, 25).await;
        delete_gate(space).await;
        left_paused(space).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_somebody_resumes_is_adopted_and_said() {
    played("paused-through", async |space| {
        unasked(space).await;
        space.team(2).await;
        let _operator = pausing(space).await;
        let status = space.adopted(&lingering(space)).await;
        rests(space, "v1").await;
        space.push("v2").await;
        at_weight(space, 25).await;
        space
            .kubectl(&["rollout", "resume", "deployment/checkout"], None)
            .await
            .expect_ok();
        let status = trusted(space, "v2 is adopted", &status["stable"]).await;
        rests(space, "v2").await;
        assert_eq!(space.weights().await.last(), Some(&None), "the route is the team's");
        let said = |event: &Value| event["reason"] == "Unheld" && event["type"] == "Warning";
        let named = |event: &Value| {
            let note = event["note"].as_str().unwrap_or_default();
            note.contains(status["stable"].as_str().unwrap())
        };
        eventually("it is said", PATIENCE, async || {
            let events = space.list("Event").await;
            if events.iter().any(|event| said(event) && named(event)) {
                Ok(())
            } else {
                Err(json!(events).to_string())
            }
        })
        .await;

        // bare manifests and scripts take our label off as well
        space
            .kubectl_replace(&crate::support::objects::deployment("v2", 2))
            .await
            .expect_ok();
        rests(space, "v2").await;
        space.push("v3").await;
        space
            .until_gate("v3 is on trial", |status| status["attempt"]["stage"] == "Stepping")
            .await;
        assert_eq!(space.asked_for().await, [image("v2")]);
    })
    .await;
}
