//! Good and bad releases under constant load.

use std::time::Instant;

use serde_json::{Value, json};

use super::gate;
use super::shares::Shares;
use crate::core::passing::{promoted, rejected};
use crate::support::objects::{autoscaler, image};
use crate::support::space::real;
use crate::support::world::canary_weight;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_release_passes_all_steps_with_the_stated_shares_and_no_failed_request() {
    real("good", async |space| {
        space.team(3).await;
        let _operator = space.operator().await;
        space.adopted(&gate(space, &json!({}))).await;
        let load = space.load(300).await;
        let mut shares = Shares::default();

        let began = Instant::now();
        space.push("v2").await;
        tokio::select! {
            never = shares.collect(space) => match never {},
            _ = promoted(space, "v2") => {}
        }
        println!("promoted in {:.1} s", began.elapsed().as_secs_f64());
        let seen = load.stop().await;

        shares.verify(&[1, 5, 25, 50, 95]);
        println!(
            "{} requests, {} errors, {} lost",
            seen["answered"], seen["errors"], seen["lost"]
        );
        assert_eq!((&seen["errors"], &seen["lost"]), (&json!(0), &json!(0)), "{seen}");
        assert!(seen["versions"]["v2"].as_u64() > Some(1000), "{seen}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_release_is_aborted_with_numbers_in_a_moment() {
    real("bad", async |space| {
        space.team(2).await;
        let operator = space.operator().await;
        space.adopted(&gate(space, &json!({}))).await;
        let load = space.load(300).await;

        space.push("v2-bad").await;
        let status = rejected(space).await;
        let seen = load.stop().await;

        assert_eq!(status["attempt"]["why"], "Harm", "{status}");
        let last = space.last_decision(&status).await;
        println!("{}", last["rule"]);
        assert!(last["rule"].as_str().unwrap().contains(char::is_numeric), "{last}");
        let (aborts, took) = abort_seconds(&operator.metrics().await);
        assert!((aborts - 1.0).abs() < 0.5, "one abort");
        println!("deciding sample to acknowledged weight 0: {took:.3} s");
        assert!(took < 5.0, "{took}");
        assert_eq!(space.asked_for().await, [image("v1")]);
        let failed = seen["version_codes"]["v2-bad 500"].as_u64().unwrap_or(0);
        assert_eq!(
            seen["errors"].as_u64(),
            Some(failed),
            "only the bad version fails: {seen}"
        );
        assert_eq!(seen["lost"], 0, "{seen}");
    })
    .await;
}

/// The operator's own measure of its aborts: how many, and how long all of them took.
pub fn abort_seconds(metrics: &str) -> (f64, f64) {
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {metrics}"));
        line.trim().parse::<f64>().unwrap()
    };
    (
        value("tollgate_abort_seconds_count "),
        value("tollgate_abort_seconds_sum "),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_at_the_last_step_finds_room_at_stable() {
    real("late", async |space| {
        space.team(3).await;
        let _operator = space.operator().await;
        let steps = json!([{"weight": 50}, {"weight": 100, "minWindow": "60s", "maxWindow": "90s"}]);
        space.adopted(&gate(space, &json!({"spec": {"steps": steps}}))).await;
        space.create(&autoscaler(1)).await.unwrap();
        let load = space.load(300).await;

        space.push("v2").await;
        let at = |route: &Value| canary_weight(route) == Some(95);
        space.until("the last step", "HTTPRoute", "checkout", at).await;
        space
            .until_gate("the window opens", |status| status["attempt"]["window"].is_string())
            .await;
        let live = space.the("Deployment", "checkout").await;
        assert_eq!(live["status"]["availableReplicas"], 3, "stable has not shrunk");
        let answer = space.ask("Abort").await;
        assert_eq!(answer["status"]["answer"], "Granted", "{answer}");
        rejected(space).await;
        let seen = load.stop().await;
        assert_eq!((&seen["errors"], &seen["lost"]), (&json!(0), &json!(0)), "{seen}");
        let guarded = space.the("HorizontalPodAutoscaler", "checkout").await;
        assert_ne!(
            guarded["spec"]["behavior"]["scaleDown"]["selectPolicy"], "Disabled",
            "stable may shrink again"
        );
    })
    .await;
}
