//! API servers without MutatingAdmissionPolicy (Kubernetes before 1.36): the hold is a webhook of the
//! operator, and nothing keeps the split against other writers. Played here on a newer API server to
//! which only `config/before-1.36` was applied. One at a time: the webhook has one address.
//! By choice neither is asked: `paused`.

mod paused;

use serde_json::{Value, json};

use crate::core::passing::{WHOLE, promoted, rejected};
use crate::core::{at_weight, lingering};
use crate::support::objects::{action, deployment, image, with};
use crate::support::operator::Operator;
use crate::support::space::{Space, played};

/// Starts an operator and waits until the API server asks its webhook.
async fn holding(space: &Space) -> Operator {
    let operator = space.operator().await;
    space
        .until(
            "the webhook is trusted",
            "MutatingWebhookConfiguration",
            "hold.tollgate.dev",
            |hook| hook["webhooks"][0]["clientConfig"]["caBundle"].is_string(),
        )
        .await;
    operator
}

fn changed(why: &str) -> Value {
    json!({"spec": {"template": {"metadata": {"annotations": {"changed": why}}}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_held_by_the_webhook_until_it_is_proven() {
    played("webhook", async |space| {
        space.team(2).await;
        let _operator = holding(space).await;
        space.adopted(&space.gate()).await;
        let pushed = space.push("v2").await;
        assert_eq!(pushed["spec"]["paused"], true, "held in the very write");
        promoted(space, "v2").await;
        assert_eq!(space.weights().await, WHOLE);
        assert_eq!(space.asked_for().await, [image("v2")]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_operator_templates_of_adopted_deployments_cannot_change_and_all_else_can() {
    played("away", async |space| {
        space.team(2).await;
        let other = with(
            deployment("v1", 1),
            &json!({"metadata": {"name": "other"}, "spec": {
                "selector": {"matchLabels": {"app": "other"}},
                "template": {"metadata": {"labels": {"app": "other"}}},
            }}),
        );
        space.apply(&other).await;
        let operator = holding(space).await;
        space.adopted(&space.gate()).await;
        operator.stop().await;

        let refused = space.patch("Deployment", "checkout", changed("nobody answers")).await;
        let refused = refused.expect_err("nobody can hold it, so it is refused").to_string();
        assert!(refused.contains("hold.tollgate.dev"), "{refused}");
        for (what, name, patch) in [
            ("scaling", "checkout", json!({"spec": {"replicas": 3}})),
            (
                "a note on it",
                "checkout",
                json!({"metadata": {"annotations": {"note": "hello"}}}),
            ),
            ("another Deployment", "other", changed("it has no gate")),
        ] {
            let written = space.patch("Deployment", name, patch).await;
            written.unwrap_or_else(|error| panic!("{what}: {error}"));
        }

        let _again = holding(space).await;
        let held = space
            .patch("Deployment", "checkout", changed("it is back"))
            .await
            .unwrap();
        assert_eq!(held["spec"]["paused"], true, "held as before");
        promoted(space, "v1").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_raise_is_undone_and_held() {
    played("raise", async |space| {
        space.team(2).await;
        let _operator = holding(space).await;
        space.adopted(&lingering(space)).await;
        space.push("v2").await;
        at_weight(space, 25).await;
        let rules = json!({"spec": {"rules": [{"backendRefs": [
            {"name": "checkout", "port": 80, "weight": 10},
            {"name": "checkout-canary", "port": 80, "weight": 90},
        ]}]}});
        space.patch("HTTPRoute", "checkout", rules).await.unwrap();
        at_weight(space, 0).await;
        let status = space
            .until_gate("it is held", |status| status["attempt"]["hold"] == "ForeignEdit")
            .await;
        assert_eq!(status["attempt"]["stage"], "Stepping", "{status}");
        let unsigned = action("abort", "Abort", "enough");
        let refused = space
            .create(&unsigned)
            .await
            .expect_err("nobody's name is on it")
            .to_string();
        assert!(refused.contains("spec.signer must be admin"), "{refused}");
        let signed = with(unsigned, &json!({"spec": {"signer": "admin"}}));
        space.create(&signed).await.unwrap();
        rejected(space).await;
    })
    .await;
}
