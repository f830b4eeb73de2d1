//! The same release twice: by the controller on the live Prometheus, and told again from its history.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use super::gate;
use crate::core::passing::{promoted, rejected};
use crate::support::setting;
use crate::support::space::{Space, real};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_decides_as_the_controller_did_tick_by_tick() {
    real("replay", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        let metrics = json!([
            {"name": "gateway-errors", "ratio": {"preset": "gateway-errors"}},
            {"name": "http-errors", "ratio": {"preset": "http-errors"}},
            {"name": "orders", "ratio": {"bad": "orders_failed_total", "total": "orders_total"}},
        ]);
        space
            .adopted(&gate(space, &json!({"spec": {"analysis": {"metrics": metrics}}})))
            .await;
        let load = space.load(300).await;

        space.push("v2").await;
        let status = promoted(space, "v2").await;
        let good = told_again(space, &status).await;
        assert_eq!(good["end"]["decision"], "Promote", "{:#}", good["end"]);
        agrees(&good, 5);

        space.push("v2-bad").await;
        let status = rejected(space).await;
        let bad = told_again(space, &status).await;
        assert_eq!(bad["end"]["decision"], "Abort", "{:#}", bad["end"]);
        agrees(&bad, 1);
        load.stop().await;
    })
    .await;
}

/// Replays the release that a gate's status names.
async fn told_again(space: &Space, status: &Value) -> Value {
    let name = status["analysis"]["name"].as_str().expect("a record");
    let mut analysis = space.the("CanaryAnalysis", name).await;
    analysis["status"]
        .as_object_mut()
        .expect("a status")
        .remove("judgeState");
    let path = space.logs.join(format!("{name}.json"));
    std::fs::write(&path, analysis.to_string()).unwrap();
    let replay = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args([
            "replay",
            "-o",
            "json",
            "--prometheus",
            &setting("TOLLGATE_E2E_PROMETHEUS"),
        ])
        .arg("--record")
        .arg(space.logs.join(format!("{name}.om")))
        .arg(&path)
        .stderr(Stdio::inherit())
        .output()
        .await
        .unwrap();
    assert!(replay.status.success(), "{replay:?}");
    serde_json::from_slice(&replay.stdout).expect("JSON")
}

/// Every decision that rests on evidence is the same: weight, reason, rule and hash of the evidence.
fn agrees(told: &Value, least: u64) {
    let agreement = &told["agreement"];
    let others: Vec<&Value> = told["events"]
        .as_array()
        .expect("events")
        .iter()
        .filter(|event| event["agrees"] == false)
        .collect();
    assert_eq!(agreement["agreed"], agreement["recorded"], "{others:#?}");
    assert!(agreement["recorded"].as_u64() >= Some(least), "{agreement}");
    println!("{} decisions, all the same", agreement["recorded"]);
}
