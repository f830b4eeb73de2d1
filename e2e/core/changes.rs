//! The template changes again: in flight, at the end, or back.

use serde_json::json;

use super::passing::{promoted, promoted_after, rejected};
use super::{at_weight, lingering};
use crate::support::objects::image;
use crate::support::operator::Start;
use crate::support::space::{Space, played};
use crate::support::{PATIENCE, eventually};

/// The Deployment says from which commit its template comes.
async fn comes_from(space: &Space, commit: &str) {
    let annotation = json!({"metadata": {"annotations": {"tollgate.dev/commit": commit}}});
    space.patch("Deployment", "checkout", annotation).await.unwrap();
}

/// The Deployment never had a ReplicaSet with this image.
async fn never_rolled_out(space: &Space, tag: &str) {
    let sets = space.list("ReplicaSet").await;
    let rolled = |set: &&serde_json::Value| {
        set["metadata"]["ownerReferences"][0]["name"] == "checkout"
            && set["spec"]["template"]["spec"]["containers"][0]["image"] == image(tag).as_str()
    };
    assert_eq!(sets.iter().filter(rolled).count(), 0, "{tag} was never rolled out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_revision_in_flight_starts_over_and_the_older_never_rolls_out() {
    played("newer", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        space.adopted(&lingering(space)).await;
        let commits = ["a", "b"].map(|digit| digit.repeat(40));
        comes_from(space, &commits[0]).await;
        space.push("v2").await;
        at_weight(space, 25).await;
        space.forget_weights().await;
        comes_from(space, &commits[1]).await;
        space.push("v3").await;
        space
            .until_gate("a second attempt", |status| status["epoch"] == 2)
            .await;
        at_weight(space, 25).await;
        for (analysis, commit) in ["checkout-1", "checkout-2"].iter().zip(&commits) {
            let frozen = &space.the("CanaryAnalysis", analysis).await["spec"]["commit"];
            assert_eq!(frozen, commit.as_str(), "{analysis}: each attempt has its own commit");
        }
        let weights = space.weights().await;
        assert_eq!(
            weights.get(..2),
            Some(&[Some(25), Some(0)][..]),
            "back to stable first: {weights:?}"
        );
        space.ask("Promote").await;
        promoted(space, "v3").await;
        never_rolled_out(space, "v2").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proven_template_and_a_restart_are_released_at_once() {
    played("return", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        space.adopted(&lingering(space)).await;
        space
            .kubectl(&["rollout", "restart", "deployment/checkout"], None)
            .await
            .expect_ok();
        let restarted = "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt";
        space
            .until(
                "the restart rolls out",
                "ReplicaSet",
                &newest_set(space, restarted).await,
                |set| set["status"]["availableReplicas"] == 2,
            )
            .await;
        space.until_rolled_out("v1").await;
        assert_eq!(space.weights().await, [None], "no traffic was split for it");

        space.push("v2").await;
        at_weight(space, 25).await;
        space.push("v1").await;
        let back = |status: &serde_json::Value| status["attempt"].is_null();
        space.until_gate("the release ends without a refusal", back).await;
        space.until_rolled_out("v1").await;
        assert_eq!(space.weights().await.last(), Some(&None));
    })
    .await;
}

/// The ReplicaSet of the Deployment that has this field.
async fn newest_set(space: &Space, pointer: &str) -> String {
    eventually("a ReplicaSet for the restart", PATIENCE, async || {
        let sets = space.list("ReplicaSet").await;
        let found = sets.iter().find(|set| set.pointer(pointer).is_some());
        let name = found.and_then(|set| set["metadata"]["name"].as_str());
        name.map(str::to_owned).ok_or_else(|| "none".to_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_wins_against_the_release_of_the_hold_is_not_rolled_out() {
    played("race", async |space| {
        space.team(2).await;
        let doomed = Start::named("one").env("TOLLGATE_CRASH", "release.before");
        let mut operator = space.operator_as(&doomed).await;
        operator.until_ready().await;
        let before = space.adopted(&space.gate()).await["stable"].clone();
        space.push("v2").await;
        let died = operator.until_dead(PATIENCE).await;
        assert!(died.is_some(), "the operator dies before it releases the hold");
        at_weight(space, 100).await;

        let pushed = space.push("v3").await;
        assert_eq!(pushed["spec"]["paused"], true, "held as ever");
        space.forget_weights().await;
        let _operator = space.operator_as(&Start::named("one")).await;
        space
            .until_gate("a second attempt", |status| status["epoch"] == 2)
            .await;
        promoted_after(space, "v3", &before).await;
        let weights = space.weights().await;
        assert_eq!(
            weights.get(..3),
            Some(&[Some(100), Some(0), None][..]),
            "all of stable still runs what is proven: back to it, then over again: {weights:?}"
        );
        never_rolled_out(space, "v2").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_during_the_handover_is_refused_and_accepted_afterwards() {
    played("handover", async |space| {
        space.team(2).await;
        let doomed = Start::named("one").env("TOLLGATE_CRASH", "release.sent");
        let mut operator = space.operator_as(&doomed).await;
        operator.until_ready().await;
        let before = space.adopted(&space.gate()).await["stable"].clone();
        space.push("v2").await;
        assert!(
            operator.until_dead(PATIENCE).await.is_some(),
            "the operator dies when the hold is off"
        );

        let pushed = space
            .kubectl(&["set", "image", "deployment/checkout", "checkout=other"], None)
            .await;
        assert!(
            !pushed.ok && pushed.text.contains("is being completed"),
            "{}",
            pushed.text
        );
        let _operator = space.operator_as(&Start::named("one")).await;
        promoted_after(space, "v2", &before).await;
        space.world().canary_fails(0.2);
        assert_eq!(space.push("v3").await["spec"]["paused"], true, "accepted, and held");
        rejected(space).await;
    })
    .await;
}
