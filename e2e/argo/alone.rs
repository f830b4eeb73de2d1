//! The same bad and blind releases with what Argo Rollouts' own pages say to write: a Prometheus
//! metric, and an empty answer that passes, because a quiet service must not be rolled back for it.

use std::time::Instant;

use serde_json::{Value, json};

use super::rollouts::{is_back, is_promoted, rollout_that_asks};
use crate::support::setting;
use crate::support::space::{Space, real};

/// The success rate of the newest revision's pods, three times, as in the pages' first example.
fn template(space: &Space) -> Value {
    let requests = |more: &str| {
        format!(
            r#"sum(rate(http_requests_total{{namespace="{}",pod=~"checkout-{{{{args.revision}}}}-.*"{more}}}[10s]))"#,
            space.name
        )
    };
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate",
        "metadata": {"name": "success-rate"},
        "spec": {
            "args": [{"name": "revision"}],
            "metrics": [{
                "name": "success-rate",
                "initialDelay": "10s", "interval": "5s", "count": 3, "failureLimit": 0,
                "successCondition": "len(result) == 0 || isNaN(result[0]) || result[0] >= 0.95",
                "provider": {"prometheus": {
                    "address": setting("TOLLGATE_E2E_PROMETHEUS"),
                    "query": format!("{} / {}", requests(r#",code!~"5..""#), requests("")),
                }},
            }],
        },
    })
}

async fn alone(space: &Space) {
    let asks = json!({
        "templates": [{"templateName": "success-rate"}],
        "args": [{"name": "revision", "valueFrom": {"podTemplateHashValue": "Latest"}}],
    });
    space.apply(&template(space)).await;
    space.rollout_team(&rollout_that_asks(&asks)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_release_with_argo_alone() {
    real("alone-bad", async |space| {
        let _operator = space.answering().await;
        let _rollouts = space.rollouts().await;
        alone(space).await;
        let load = space.load(200).await;
        space.push_rollout("v2-bad").await;
        space
            .until_rollout("25 % is asked about", |status| status["currentStepIndex"] == 1)
            .await;
        let began = Instant::now();
        let status = space
            .until_rollout("it ends", |status| is_back(status) || is_promoted(status))
            .await;
        let seen = load.stop().await;
        let end = if is_back(&status) { "back" } else { "promoted" };
        println!(
            "Argo alone, bad: {end} {:.1} s after 25 %, {} failed requests",
            began.elapsed().as_secs_f64(),
            seen["errors"]
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blind_release_with_argo_alone_is_promoted() {
    real("alone-blind", async |space| {
        let _operator = space.answering().await;
        let _rollouts = space.rollouts().await;
        alone(space).await;
        let load = space.load(100).await;
        space.push_rollout("v2-blind").await;
        space
            .until_rollout("25 % is asked about", |status| status["currentStepIndex"] == 1)
            .await;
        let began = Instant::now();
        space
            .until_rollout("it is promoted without one number", is_promoted)
            .await;
        println!(
            "Argo alone, blind: promoted to 100 % in {:.1} s after 25 %",
            began.elapsed().as_secs_f64()
        );
        for run in space.list("AnalysisRun").await {
            let measured = run["status"]["metricResults"][0]["measurements"].clone();
            assert!(
                measured.as_array().unwrap().iter().all(|one| one["value"] == "[]"),
                "{measured}"
            );
        }
        load.stop().await;
    })
    .await;
}
