//! Releases that cannot be seen.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::process::Command;

use super::gate;
use crate::core::passing::{promoted, rejected};
use crate::support::objects::image;
use crate::support::space::real;
use crate::support::world::canary_weight;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_without_metrics_is_held_at_its_first_weight_and_aborted_at_the_deadline() {
    real("blind", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        let difference = json!({"spec": {
            "analysis": {"metrics": [{"name": "errors", "ratio": {"preset": "http-errors"}}]},
            "policy": {"onNoEvidence": {"hold": "40s"}},
        }});
        space.adopted(&gate(space, &difference)).await;
        let load = space.load(100).await;

        space.push("v2-blind").await;
        let first = |status: &serde_json::Value| status["weight"] == 1 && status["reason"] == "NoEvidence";
        space
            .until_gate("the release is held for want of evidence", first)
            .await;
        let held = Instant::now();
        let status = rejected(space).await;
        assert_eq!(status["attempt"]["why"], "EvidenceDeadline", "{status}");
        println!("held for {:.1} s", held.elapsed().as_secs_f64());
        let name = status["analysis"]["name"].as_str().unwrap();
        let analysis = space.the("CanaryAnalysis", name).await;
        let decisions = analysis["status"]["decisions"].as_array().unwrap();
        assert!(
            decisions.iter().all(|one| one["to"].as_i64() <= Some(1)),
            "never above the first weight: {decisions:?}"
        );
        assert_eq!(space.asked_for().await, [image("v1")]);
        let seen = load.stop().await;
        assert_eq!((&seen["errors"], &seen["lost"]), (&json!(0), &json!(0)), "{seen}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_waits_while_prometheus_is_stopped_and_goes_on_when_it_is_back() {
    let Ok(rig) = std::env::var("TOLLGATE_RIG_STATE") else {
        println!("skipped: only the rig's Prometheus can be stopped");
        return;
    };
    real("outage", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        let patient = json!({"spec": {"policy": {"onNoEvidence": {"hold": "5m"}}}});
        space.adopted(&gate(space, &patient)).await;
        let load = space.load(300).await;
        space.push("v2").await;
        let at = |route: &serde_json::Value| canary_weight(route) == Some(25);
        space.until("a step in the middle", "HTTPRoute", "checkout", at).await;

        let prometheus = Prometheus::stop(Path::new(&rig)).await;
        let stopped = Instant::now();
        let frozen = weight(space).await;
        while stopped.elapsed() < Duration::from_secs(90) {
            // What was under way when it stopped may still be decided; nothing after.
            let now = weight(space).await;
            let raised = now != frozen && stopped.elapsed() > Duration::from_secs(2);
            assert!(!raised, "the weight went from {frozen:?} to {now:?} without evidence");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let status = space.the("ReleaseGate", "checkout").await["status"].clone();
        assert_eq!(status["reason"], "NoEvidence", "{status}");
        drop(prometheus);

        promoted(space, "v2").await;
        let seen = load.stop().await;
        assert_eq!((&seen["errors"], &seen["lost"]), (&json!(0), &json!(0)), "{seen}");
    })
    .await;
}

async fn weight(space: &crate::support::space::Space) -> Option<i64> {
    canary_weight(&space.the("HTTPRoute", "checkout").await)
}

/// The rig's Prometheus, stopped until this is dropped.
struct Prometheus {
    pid: String,
}

impl Prometheus {
    async fn stop(rig: &Path) -> Self {
        let storage = format!("--storage.tsdb.path={}", rig.join("lib/prometheus").display());
        let ours = |pid: &String| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == storage.as_bytes())
        };
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let mut pids = processes.filter_map(|entry| entry.file_name().into_string().ok());
        let pid = pids.find(ours).expect("the rig's Prometheus");
        let sent = Command::new("kill").args(["-s", "STOP", &pid]).status().await.unwrap();
        assert!(sent.success());
        Self { pid }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        std::process::Command::new("kill")
            .args(["-s", "CONT", &self.pid])
            .status()
            .ok();
    }
}
