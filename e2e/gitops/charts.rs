//! Helm by hand, and Flux' HelmRelease, upgrade a chart whose Deployment is gated.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::Command;

use super::flux::of_the_page;
use super::source::{Source, chart};
use super::{adopted, evidence, is_as_written, manifests};
use crate::core::passing::{promoted, promoted_after};
use crate::core::{at_weight, lingering};
use crate::support::helm::{Said, helm};
use crate::support::objects::{deployment, image, with};
use crate::support::space::{Space, played};

const KIND: &str = "HelmRelease";

/// The chart, installed by Helm and waited for.
struct Chart(String);

impl Chart {
    async fn installed(space: &Space, gate: &Value) -> Self {
        evidence(space).await;
        let chart = chart(space, &manifests(space, "v1", gate));
        let chart = chart.to_str().unwrap().to_owned();
        let arguments = ["install", "checkout", &chart, "--wait", "--timeout", "90s"];
        helm(&space.name, &arguments).await.expect_ok();
        adopted(space).await;
        Self(chart)
    }

    async fn upgraded(&self, space: &Space, tag: &str, more: &[&str]) -> Said {
        let tag = format!("tag={tag}");
        let arguments = [&["upgrade", "checkout", &self.0, "--set", &tag], more].concat();
        let began = Instant::now();
        let said = helm(&space.name, &arguments).await;
        println!(
            "helm {}: ok {} after {:.1} s {}",
            arguments.join(" "),
            said.ok,
            began.elapsed().as_secs_f64(),
            said.err
        );
        said
    }
}

/// The release in flight ends with a return to what ran before, and nothing was rolled out.
async fn returned(space: &Space, written: &Value) {
    let status = space
        .until_gate("the attempt is over", |status| status["attempt"].is_null())
        .await;
    assert_eq!(
        (&status["weight"], &status["reason"]),
        (&json!(0), &json!("Reverted")),
        "{status}"
    );
    space.until_rolled_out("v1").await;
    assert_eq!(
        space.asked_for().await,
        [image("v1")],
        "the other template never rolled out"
    );
    let route = space.the("HTTPRoute", "checkout").await;
    assert_eq!(route["spec"], written["spec"], "the route is what the chart says");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn helm_that_waits_for_a_release_in_flight_waits_as_long_as_it_takes() {
    played("helm-wait", async |space| {
        let _operator = space.operator().await;
        let chart = Chart::installed(space, &lingering(space)).await;
        let written = space.the("HTTPRoute", "checkout").await;

        let before = space.the("ReleaseGate", "checkout").await["status"]["stable"].clone();
        // Helm takes the paused Deployment for ready, and the gate too until the operator has noticed.
        chart.upgraded(space, "v2", &[]).await.expect_ok();
        at_weight(space, 25).await;
        let said = chart
            .upgraded(space, "v2", &["--force-conflicts", "--wait", "--timeout", "10s"])
            .await;
        assert!(!said.ok, "the release is still in flight: {}", said.out);
        at_weight(space, 25).await;
        println!("Helm gave up after 10 s; the release did not notice");

        let waiting = chart.upgraded(space, "v2", &["--force-conflicts", "--wait", "--timeout", "5m"]);
        let approving = async {
            at_weight(space, 25).await;
            space.ask("Promote").await;
        };
        let (said, ()) = tokio::join!(waiting, approving);
        said.expect_ok();
        let status = promoted_after(space, "v2", &before).await;
        assert_eq!(status["epoch"], 1, "one attempt: {status}");
        is_as_written(space, &written).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn helm_that_does_not_wait_is_done_at_once_and_tollgate_waits() {
    played("helm-free", async |space| {
        let _operator = space.operator().await;
        let chart = Chart::installed(space, &lingering(space)).await;
        let before = space.the("ReleaseGate", "checkout").await["status"]["stable"].clone();
        chart.upgraded(space, "v2", &[]).await.expect_ok();
        at_weight(space, 25).await;
        chart
            .upgraded(space, "v2", &["--force-conflicts", "--wait=legacy", "--timeout", "60s"])
            .await
            .expect_ok();
        at_weight(space, 25).await;
        space.ask("Promote").await;
        let mut waits = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        waits.args(["wait", "checkout", "--namespace", &space.name, "--timeout", "2m"]);
        let ended = waits.kill_on_drop(true).status().await.unwrap();
        assert!(ended.success(), "tollgate wait: {ended}");
        promoted_after(space, "v2", &before).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_by_helm_in_mid_release_is_a_return_and_is_let_through_at_once() {
    played("helm-back", async |space| {
        let _operator = space.operator().await;
        let chart = Chart::installed(space, &lingering(space)).await;
        let written = space.the("HTTPRoute", "checkout").await;
        chart.upgraded(space, "v2", &[]).await.expect_ok();
        at_weight(space, 25).await;
        let back = ["rollback", "checkout", "1", "--force-conflicts"];
        helm(&space.name, &back).await.expect_ok();
        returned(space, &written).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_chart_in_mid_release_supersedes_it() {
    played("helm-newer", async |space| {
        let _operator = space.operator().await;
        let chart = Chart::installed(space, &lingering(space)).await;
        let written = space.the("HTTPRoute", "checkout").await;
        chart.upgraded(space, "v2", &[]).await.expect_ok();
        at_weight(space, 25).await;
        let refused = chart.upgraded(space, "v3", &[]).await;
        assert!(
            !refused.ok && refused.err.contains(r#"conflict with "tollgate""#),
            "the rules of the route are Tollgate's in flight: {}",
            refused.err
        );
        at_weight(space, 25).await;
        chart.upgraded(space, "v3", &["--force-conflicts"]).await.expect_ok();
        space
            .until_gate("a second attempt", |status| status["epoch"] == 2)
            .await;
        at_weight(space, 25).await;
        space.ask("Promote").await;
        promoted(space, "v3").await;
        is_as_written(space, &written).await;
    })
    .await;
}

/// A HelmRelease of the chart, with what else it brings, which Flux installs.
async fn released(space: &Space, git: &Source, spec: &Value, more: &[Value]) -> Value {
    evidence(space).await;
    let chart = chart(space, &[&manifests(space, "v1", &lingering(space)), more].concat());
    git.publish_chart(space, "0.1.0", &chart).await;
    space.apply(&helm_release(spec, "v1")).await;
    adopted(space).await;
    space
        .until_flux("Flux has installed it", KIND, "True", "InstallSucceeded")
        .await;
    space.the("HTTPRoute", "checkout").await
}

fn helm_release(spec: &Value, tag: &str) -> Value {
    let own = json!({
        "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
        "metadata": {"name": "checkout"},
        "spec": {"interval": "10s", "chartRef": {"kind": "OCIRepository", "name": "git"}, "values": {"tag": tag}},
    });
    with(own, &json!({"spec": spec}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helm_release_as_the_page_says_is_done_at_once_and_corrects_no_drift_that_is_ours() {
    played("hr-page", async |space| {
        let git = Source::start().await;
        let _flux = space.helm_controller();
        let _operator = space.operator().await;
        let page = of_the_page("apiVersion: helm.toolkit.fluxcd.io/v2\n");
        let spec = with(
            page["spec"].clone(),
            &json!({"interval": "10s", "chartRef": {"kind": "OCIRepository", "name": "git"}}),
        );
        let written = released(space, &git, &spec, &[]).await;
        space.apply(&helm_release(&spec, "v2")).await;
        space
            .until_flux("Flux is done at once", KIND, "True", "UpgradeSucceeded")
            .await;
        at_weight(space, 25).await;
        space.forget_weights().await;
        let looked = git.fetched("0.1.0");
        let held = Instant::now();
        crate::support::eventually(
            "Flux has looked for drift three times",
            Duration::from_mins(2),
            async || {
                let times = git.fetched("0.1.0") - looked;
                if times >= 3 {
                    Ok(())
                } else {
                    Err(format!("{times} times in {:?}", held.elapsed()))
                }
            },
        )
        .await;
        assert_eq!(space.weights().await, [Some(25)], "no fight");
        space.ask("Promote").await;
        promoted(space, "v2").await;
        is_as_written(space, &written).await;
        let live = space.the(KIND, "checkout").await;
        let history = live["status"]["history"].as_array().unwrap();
        assert_eq!(
            history[0]["version"], 2,
            "one upgrade and nothing after it: {history:?}"
        );
    })
    .await;
}

/// Another Deployment of the chart, without a gate, whose new pods have to last a while: so long Flux waits,
/// and by then it sees the release in flight. (Without it Flux may be done before the operator has noticed.)
fn worker() -> Value {
    let labels = json!({"app": "worker"});
    let own = json!({
        "metadata": {"name": "worker"},
        "spec": {"minReadySeconds": 15, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}},
    });
    with(deployment("v1", 1), &own)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flux_that_waits_for_a_release_in_flight_and_remediates_rolls_it_back() {
    played("hr-back", async |space| {
        let git = Source::start().await;
        let _flux = space.helm_controller();
        let _operator = space.operator().await;
        let spec = json!({"timeout": "45s", "upgrade": {"remediation": {"retries": 0, "remediateLastFailure": true}}});
        let written = released(space, &git, &spec, &[worker()]).await;
        space.apply(&helm_release(&spec, "v2")).await;
        at_weight(space, 25).await;
        let said = space
            .until_flux("Flux has rolled back", KIND, "False", "RollbackSucceeded")
            .await;
        println!("{said}");
        returned(space, &written).await;
        let live = space.the(KIND, "checkout").await;
        let failed = &live["status"]["history"][1];
        assert_eq!(
            (&failed["version"], &failed["status"]),
            (&json!(2), &json!("failed")),
            "{live}"
        );
        let events = space.list("Event").await;
        // After its first line an event has Helm's log.
        let notes = events.iter().filter_map(|event| event["note"].as_str()?.lines().next());
        let (gave_up, others): (Vec<_>, Vec<_>) = notes.partition(|note| note.contains("timeout waiting for"));
        println!("{gave_up:#?} beside {others:#?}");
        let gate = format!("[ReleaseGate/{}/checkout status: 'InProgress']", space.name);
        assert!(
            gave_up.iter().all(|note| note.ends_with(&gate)) && !gave_up.is_empty(),
            "it waited for the gate and nothing else: {gave_up:?}"
        );
    })
    .await;
}
