//! Evidence is missing or not to be trusted: the weight is held, never raised, and given up at the deadline.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::passing::{promoted, rejected};
use super::{at_weight, lingering};
use crate::support::lens::{Fault, Lens};
use crate::support::objects::{image, source, with};
use crate::support::space::{Space, played};

const FAULTS: [Fault; 8] = [
    Fault::Failing,
    Fault::Silent,
    Fault::Empty,
    Fault::NotANumber,
    Fault::Infinite,
    Fault::Warning,
    Fault::Twice,
    Fault::NoContent,
];

/// Waits for the hold.
async fn held(space: &Space, how: &str) -> Value {
    let what = format!("{how}: held for want of evidence");
    space.until_gate(&what, |status| status["reason"] == "NoEvidence").await
}

/// Since when there was no evidence, and what came or comes of it.
fn says(status: &Value, words: &[&str]) {
    let message = status["message"].as_str().unwrap();
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_blinds_the_judge_holds_the_weight_and_ends_at_the_deadline() {
    played("blind", async |space| {
        let lens = Lens::start().await;
        space.team(2).await;
        space.apply(&source(&space.name, &lens.url)).await;
        let _operator = space.operator().await;
        space.adopted(&lingering(space)).await;
        space.push("v2").await;
        at_weight(space, 25).await;
        assert_eq!(space.ask("Abort").await["status"]["answer"], "Granted");
        rejected(space).await;
        // Only now: until Prometheus has found stable's new pods, there is no evidence either.
        let soon = json!({"spec": {"policy": {"onNoEvidence": {"hold": "8s"}}}});
        space.apply(&with(lingering(space), &soon)).await;
        for fault in FAULTS {
            assert_eq!(space.ask("Retry").await["status"]["answer"], "Granted");
            at_weight(space, 25).await;
            space
                .until_gate("the window opens", |status| status["attempt"]["window"].is_string())
                .await;
            space.forget_weights().await;
            lens.set(Some(fault));
            let status = rejected(space).await;
            assert_eq!(status["attempt"]["why"], "EvidenceDeadline", "{fault:?}: {status}");
            assert_eq!(space.weights().await, [Some(25), Some(0), None], "{fault:?}");
            assert_eq!(space.asked_for().await, [image("v1")], "{fault:?}");
            lens.set(None);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_goes_on_when_it_can_see_again() {
    played("recovers", async |space| {
        let lens = Lens::start().await;
        space.team(2).await;
        space.apply(&source(&space.name, &lens.url)).await;
        let _operator = space.operator().await;
        space.adopted(&space.gate()).await;
        space.push("v2").await;
        at_weight(space, 5).await;
        lens.set(Some(Fault::Failing));
        held(space, "an outage").await;
        let weight = space.weights().await.last().copied();
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(10) {
            assert_eq!(space.weights().await.last().copied(), weight, "no climb while blind");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        lens.set(None);
        promoted(space, "v2").await;
        assert_eq!(space.weights().await, super::passing::WHOLE);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_that_vanish_are_no_evidence_and_a_quiet_service_is_too_few() {
    played("unseen", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        let soon = json!({"spec": {"policy": {"onNoEvidence": {"hold": "30s"}}}});
        space.adopted(&with(lingering(space), &soon)).await;
        space.push("v2").await;
        at_weight(space, 25).await;
        space.world().visible(false);
        let status = held(space, "the metrics vanished").await;
        says(&status, &["No complete evidence since ", "; aborted at "]);
        let status = rejected(space).await;
        assert_eq!(status["attempt"]["why"], "EvidenceDeadline", "{status}");
        says(&status, &["no complete evidence since ", " UTC, for ", "(limit 30s)"]);

        space.world().visible(true);
        space.world().rate(0.0);
        space.ask("Retry").await;
        at_weight(space, 5).await;
        space
            .until_gate("the status follows", |status| status["weight"] == 5)
            .await;
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(20) {
            let status = space.the("ReleaseGate", "checkout").await["status"].clone();
            assert_eq!(
                status["attempt"]["stage"], "Stepping",
                "a quiet service is not blind: {status}"
            );
            assert_eq!(status["weight"], 5, "and nothing is raised: {status}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        space
            .until_gate("it says so", |status| status["reason"] == "TooFew")
            .await;
        space.world().rate(20_000.0);
        at_weight(space, 25).await;
    })
    .await;
}
