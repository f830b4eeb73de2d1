//! Good, bad and blind releases, with deaths in the middle.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::rollouts::{is_back, is_promoted, rollout_of_the_page};
use crate::support::space::real;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_release_is_promoted_although_both_controllers_die_on_the_way() {
    real("argo-good", async |space| {
        let operator = space.answering().await;
        let rollouts = space.rollouts().await;
        space.asking().await;
        space.rollout_team(&rollout_of_the_page()).await;
        space.apply(&space.judged_by(&json!({}))).await;
        let load = space.load(200).await;
        let old = space.the("Rollout", "checkout").await["status"]["stableRS"].clone();

        let began = Instant::now();
        space.push_rollout("v2").await;
        space
            .until_rollout("25 % is asked about", |status| status["currentStepIndex"] == 1)
            .await;
        rollouts.kill().await;
        println!("Argo Rollouts is killed at 25 %");
        tokio::time::sleep(Duration::from_secs(5)).await;
        let status = space.the("Rollout", "checkout").await["status"].clone();
        assert_eq!(status["currentStepIndex"], 1, "nothing moves without it: {status}");
        let _rollouts = space.rollouts().await;

        space
            .until_rollout("50 % is asked about", |status| status["currentStepIndex"] == 3)
            .await;
        operator.kill().await;
        println!("Tollgate is killed at 50 %");
        let dead = Instant::now();
        while dead.elapsed() < Duration::from_secs(15) {
            let status = space.the("Rollout", "checkout").await["status"].clone();
            assert_eq!(
                status["currentStepIndex"], 3,
                "nothing rises without an answer: {status}"
            );
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let _operator = space.answering().await;
        let status = space.until_rollout("the release is promoted", is_promoted).await;
        println!(
            "promoted in {:.1} s, 20 s of them without one of the two",
            began.elapsed().as_secs_f64()
        );
        assert_ne!(status["stableRS"], old);

        let runs = space.list("AnalysisRun").await;
        assert_eq!(runs.len(), 2, "one a step");
        for run in runs {
            assert_eq!(run["status"]["phase"], "Successful", "{}", run["status"]);
            let measured = run["status"]["metricResults"][0]["measurements"]
                .as_array()
                .unwrap()
                .last()
                .unwrap()
                .clone();
            let answer: Value = serde_json::from_str(measured["value"].as_str().unwrap()).unwrap();
            assert_eq!(
                (&answer["decision"], &answer["revision"]),
                (&json!("promote"), &status["stableRS"])
            );
            println!("{}", answer["rule"]);
        }
        let analysis = space.the("CanaryAnalysis", "checkout").await["status"].clone();
        let decisions: Vec<_> = analysis["decisions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (&one["id"], &one["outcome"]))
            .collect();
        assert_eq!(
            decisions,
            [(&json!("1-0"), &json!("Promote")), (&json!("1-1"), &json!("Promote"))]
        );
        space
            .until("the trial is over", "CanaryAnalysis", "checkout", |live| {
                live["status"]["trial"]["reason"] == "Completed"
            })
            .await;
        let seen = load.stop().await;
        assert_eq!((&seen["errors"], &seen["lost"]), (&json!(0), &json!(0)), "{seen}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_release_goes_back_at_its_first_weight() {
    real("argo-bad", async |space| {
        let _operator = space.answering().await;
        let _rollouts = space.rollouts().await;
        space.asking().await;
        space.rollout_team(&rollout_of_the_page()).await;
        space.apply(&space.judged_by(&json!({}))).await;
        let load = space.load(200).await;

        space.push_rollout("v2-bad").await;
        space
            .until_rollout("25 % is asked about", |status| status["currentStepIndex"] == 1)
            .await;
        let began = Instant::now();
        let status = space.until_rollout("it goes back", is_back).await;
        let took = began.elapsed().as_secs_f64();
        let trial = space.trial().await;
        assert_eq!(
            (&trial["decision"], &trial["reason"]),
            (&json!("Abort"), &json!("Harm")),
            "{trial}"
        );
        assert_eq!(trial["attempt"]["revision"], status["currentPodHash"]);
        let run = space.list("AnalysisRun").await.pop().expect("a run");
        assert_eq!(run["status"]["phase"], "Failed", "{}", run["status"]);
        let seen = load.stop().await;
        println!(
            "Tollgate behind Argo, bad: back {took:.1} s after 25 %, {} failed requests; {}",
            seen["errors"], trial["rule"]
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blind_release_is_held_at_its_first_weight_and_goes_back_at_the_deadline() {
    real("argo-blind", async |space| {
        let _operator = space.answering().await;
        let _rollouts = space.rollouts().await;
        space.asking().await;
        space.rollout_team(&rollout_of_the_page()).await;
        space.apply(&space.judged_by(&json!({}))).await;
        let load = space.load(100).await;

        space.push_rollout("v2-blind").await;
        space
            .until_rollout("25 % is asked about", |status| status["currentStepIndex"] == 1)
            .await;
        let began = Instant::now();
        let blind = |live: &Value| live["status"]["trial"]["reason"] == "NoEvidence";
        space
            .until("it is held for want of evidence", "CanaryAnalysis", "checkout", blind)
            .await;
        let status = space
            .until_rollout("it goes back", |status| {
                assert!(
                    status["currentStepIndex"].as_i64() <= Some(1),
                    "never beyond the first weight: {status}"
                );
                is_back(status)
            })
            .await;
        let trial = space.trial().await;
        assert_eq!(
            (&trial["decision"], &trial["reason"]),
            (&json!("Abort"), &json!("EvidenceDeadline")),
            "{status}"
        );
        println!(
            "Tollgate behind Argo, blind: held at 25 % for {:.1} s, then back; {}",
            began.elapsed().as_secs_f64(),
            trial["rule"]
        );
        load.stop().await;
    })
    .await;
}
