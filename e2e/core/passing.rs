//! A good release and a bad one, from the push to the end.

use serde_json::{Value, json};

use crate::support::objects::{image, with};
use crate::support::space::{Space, TEAM, played};
use crate::support::{PATIENCE, eventually};

/// What the steps of the default plan write: the last step keeps the holdback, the commit point gives everything.
pub const WHOLE: [Option<i64>; 8] = [None, Some(1), Some(5), Some(25), Some(50), Some(95), Some(100), None];

/// Waits until the pushed image is the trusted one and everything is put away.
pub async fn promoted(space: &Space, tag: &str) -> Value {
    let before = space.the("ReleaseGate", "checkout").await["status"]["stable"].clone();
    promoted_after(space, tag, &before).await
}

/// The same, when it is known what was trusted before.
pub async fn promoted_after(space: &Space, tag: &str, before: &Value) -> Value {
    let status = whole_release(space, "the release is promoted", |status| {
        status["stable"] != *before && status["attempt"].is_null()
    })
    .await;
    space.until_rolled_out(tag).await;
    nothing_is_left(space).await;
    status
}

/// Waits until the pushed image is refused and everything but the held template is put away.
pub async fn rejected(space: &Space) -> Value {
    let status = space
        .until_gate("the release is rejected", |status| {
            status["attempt"]["stage"] == "Rejected"
        })
        .await;
    nothing_is_left(space).await;
    status
}

/// A release has many steps, so its end is waited for longer than anything else.
async fn whole_release(space: &Space, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(what, PATIENCE * 4, async || {
        let status = space.the("ReleaseGate", "checkout").await["status"].clone();
        if is(&status) {
            Ok(status)
        } else {
            Err(status.to_string())
        }
    })
    .await
}

/// Nothing that Tollgate made for a release is there any more.
pub async fn nothing_is_left(space: &Space) {
    for kind in ["Deployment", "Service"] {
        eventually("the canary is gone", PATIENCE, async || {
            match space.get(kind, "checkout-canary").await {
                None => Ok(()),
                Some(object) => Err(format!("{object}")),
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_release_takes_every_step_and_gives_back_what_it_borrowed() {
    played("good", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        space.adopted(&space.gate()).await;
        let route = space.the("HTTPRoute", "checkout").await;
        let deployment = space.the("Deployment", "checkout").await;

        let pushed = space.push("v2").await;
        assert_eq!(pushed["spec"]["paused"], true, "held in the very write");
        let status = promoted(space, "v2").await;

        assert_eq!(space.weights().await, WHOLE, "{status}");
        assert!(space.world().lost() < 1.0, "no request finds a service without pods");
        assert_eq!(space.asked_for().await, [image("v2")]);
        let after = space.the("HTTPRoute", "checkout").await;
        assert_eq!(after["spec"], route["spec"], "the route is the team's, to the letter");
        for field in ["labels", "annotations"] {
            assert_eq!(
                after["metadata"][field], route["metadata"][field],
                "{field} of the route"
            );
        }
        let live = space.the("Deployment", "checkout").await;
        let image =
            json!({"spec": {"template": {"spec": {"containers": live["spec"]["template"]["spec"]["containers"]}}}});
        assert_eq!(live["spec"], with(deployment, &image)["spec"], "only the image differs");
        assert_eq!(live["metadata"]["labels"], json!({"tollgate.dev/gate": "checkout"}));

        let mut changed = space.route();
        changed["spec"]["rules"][0]["backendRefs"][0]["weight"] = json!(7);
        let applied = space.try_apply(&changed, TEAM, false).await;
        applied.expect("the team applies its route without conflict");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_release_is_aborted_on_the_numbers_and_never_rolls_out() {
    played("bad", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        space.adopted(&space.gate()).await;
        let route = space.the("HTTPRoute", "checkout").await;
        space.world().canary_fails(0.1);

        space.push("v2").await;
        let status = rejected(space).await;

        assert_eq!(status["attempt"]["why"], "Harm", "{status}");
        let weights = space.weights().await;
        assert!(
            weights.contains(&Some(1)) && !weights.contains(&Some(50)),
            "aborted early: {weights:?}"
        );
        let live = space.the("Deployment", "checkout").await;
        assert_eq!(
            (
                &live["spec"]["paused"],
                &live["metadata"]["labels"]["tollgate.dev/held"]
            ),
            (&json!(true), &json!("checkout"))
        );
        assert_eq!(
            space.asked_for().await,
            [image("v1")],
            "the refused template never rolled out"
        );
        let after = space.the("HTTPRoute", "checkout").await;
        assert_eq!(after["spec"], route["spec"], "the route is the team's again");
        let last = space.last_decision(&status).await;
        assert_eq!((&last["outcome"], &last["to"]), (&json!("Abort"), &json!(0)), "{last}");
        assert!(
            last["rule"].as_str().unwrap().contains(char::is_numeric),
            "the rule has its numbers: {last}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breach_ends_a_release_although_a_stable_pod_is_not_ready() {
    played("sick", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        space.adopted(&super::lingering(space)).await;
        space.push("v2").await;
        super::at_weight(space, 25).await;
        space.world().takes_down_a_stable_pod(space).await;
        space
            .until("stable is short of a pod", "Deployment", "checkout", |live| {
                live["status"]["availableReplicas"] == 1
            })
            .await;
        space.world().canary_fails(0.2);
        let status = rejected(space).await;
        assert_eq!(status["attempt"]["why"], "Harm", "{status}");
        assert_eq!(space.weights().await.last(), Some(&None), "no weight is left behind");
    })
    .await;
}
