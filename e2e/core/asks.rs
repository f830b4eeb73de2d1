//! What people ask of a gate.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::endings::delete_gate;
use super::passing::{promoted, rejected};
use super::{at_weight, lingering};
use crate::support::objects::{action, with};
use crate::support::space::{Space, played};
use crate::support::world::canary_weight;
use crate::support::{PATIENCE, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_of_a_gate_goes_with_it() {
    played("asked-gone", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        space.adopted(&space.gate()).await;
        for verb in ["Abort", "Retry", "Promote"] {
            space.ask(verb).await;
        }
        let other = with(
            action("other-gate", "Abort", "it has another gate"),
            &json!({"spec": {"gate": "cart"}}),
        );
        space.create(&other).await.unwrap();
        delete_gate(space).await;
        let left: Vec<Value> = space
            .list("GateAction")
            .await
            .into_iter()
            .map(|mut left| left["metadata"]["name"].take())
            .collect();
        assert_eq!(left, ["other-gate"]);
    })
    .await;
}

fn answer(action: &Value) -> (&str, &str) {
    let text = |field: &str| action["status"][field].as_str().unwrap_or_default();
    (text("answer"), text("reason"))
}

async fn stays(space: &Space, weight: i64) {
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        let route = space.the("HTTPRoute", "checkout").await;
        assert_eq!(canary_weight(&route), Some(weight));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_is_held_resumed_promoted_aborted_and_tried_again_by_people() {
    played("asks", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        space.adopted(&lingering(space)).await;
        assert_eq!(answer(&space.ask("Abort").await), ("Refused", "AtRest"));

        space.push("v2").await;
        at_weight(space, 25).await;
        assert_eq!(
            answer(&space.ask("Retry").await).0,
            "Refused",
            "there is nothing to try again yet"
        );
        let other = with(
            action("other", "Promote", "late"),
            &json!({"spec": {"revision": "0123456789"}}),
        );
        let refused = space.answer(&other).await;
        assert_eq!(answer(&refused), ("Refused", "OtherRevision"), "{refused}");
        let revision = space.the("ReleaseGate", "checkout").await["status"]["revision"].clone();
        let revision = revision.as_str().unwrap().to_owned();
        let message = refused["status"]["message"].as_str().unwrap();
        assert!(message.contains(&revision), "{message}");
        let named = with(
            action("named", "Hold", "wait"),
            &json!({"spec": {"revision": &revision[..6]}}),
        );
        assert_eq!(answer(&space.answer(&named).await), ("Granted", "Requested"));
        stays(space, 25).await;
        assert_eq!(answer(&space.ask("Resume").await), ("Granted", "Requested"));
        let status = space
            .until_gate("it goes on", |status| status["attempt"]["hold"].is_null())
            .await;
        assert_eq!(status["weight"], 25, "{status}");
        assert_eq!(answer(&space.ask("Hold").await), ("Granted", "Requested"));
        assert_eq!(
            answer(&space.ask("Abort").await),
            ("Granted", "Requested"),
            "an abort ends a hold"
        );
        let status = rejected(space).await;
        assert_eq!(status["attempt"]["why"], "Requested", "{status}");

        assert_eq!(answer(&space.ask("Retry").await), ("Granted", "Requested"));
        at_weight(space, 25).await;
        assert_eq!(
            answer(&space.ask("Promote").await),
            ("Granted", "Requested"),
            "past the shortest stay"
        );
        promoted(space, "v2").await;
        let weights = space.weights().await;
        let after_retry: Vec<_> = weights.iter().rev().take(6).rev().copied().collect();
        assert_eq!(
            after_retry,
            [None, Some(5), Some(25), Some(95), Some(100), None],
            "{weights:?}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_was_asked_and_answered_the_newest_twenty_stay() {
    played("asks-often", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        space.adopted(&lingering(space)).await;
        for number in 0..23 {
            let asked = action(&format!("ask-{number:02}"), "Resume", "once more");
            assert_eq!(answer(&space.answer(&asked).await), ("Refused", "AtRest"));
        }
        eventually("the oldest are gone", PATIENCE, async || {
            let left = space.list("GateAction").await;
            let has = |name: &str| left.iter().any(|action| action["metadata"]["name"] == name);
            let few = left.len() <= 22 && !has("ask-00") && has("ask-22");
            if few {
                Ok(())
            } else {
                Err(format!("{} are left", left.len()))
            }
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_carries_the_name_of_whoever_asked_and_never_changes() {
    played("signer", async |space| {
        let whoami = ["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"];
        let me = space.kubectl(&whoami, None).await.expect_ok();
        let made = space.create(&action("plain", "Hold", "because")).await.unwrap();
        assert_eq!(made["spec"]["signer"], me.as_str());
        let mut forged = action("forged", "Hold", "because");
        forged["spec"]["signer"] = json!("somebody else");
        match space.create(&forged).await {
            Ok(made) => assert_eq!(made["spec"]["signer"], me.as_str()),
            Err(error) => assert!(error.to_string().contains("signer"), "{error}"),
        }
        let changed = space
            .patch("GateAction", "plain", json!({"spec": {"verb": "Abort"}}))
            .await;
        let error = changed.expect_err("an action never changes").to_string();
        assert!(error.contains("never changes"), "{error}");
        let error = space
            .create(&action("bare", "Promote", ""))
            .await
            .expect_err("no reason")
            .to_string();
        assert!(error.contains("needs a reason"), "{error}");
    })
    .await;
}
