//! A Flux Kustomization applies git every ten seconds, or waits for what it applied.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::flux::{condition, health_checks, kustomization, of_the_page};
use super::source::Source;
use super::{adopted, evidence, is_as_written, manifests, paced};
use crate::core::passing::{WHOLE, promoted, rejected};
use crate::core::{at_weight, lingering};
use crate::support::objects::{image, with};
use crate::support::space::{Space, played};
use crate::support::{PATIENCE, eventually};

const KIND: &str = "Kustomization";

/// Waits until Flux has applied this revision so many times more.
async fn applied_again(git: &Source, revision: &str, more: usize) {
    let before = git.fetched(revision);
    eventually("Flux applies git again", PATIENCE, async || {
        let times = git.fetched(revision) - before;
        if times >= more {
            Ok(())
        } else {
            Err(format!("{times} times"))
        }
    })
    .await;
}

/// Everything in git applied by Flux, with this gate, and adopted.
async fn installed(space: &Space, git: &Source, gate: &Value, spec: &Value) -> Value {
    evidence(space).await;
    git.push(space, "v1", &manifests(space, "v1", gate)).await;
    space.apply(&kustomization(space, spec)).await;
    adopted(space).await;
    space.the("HTTPRoute", "checkout").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flux_applies_git_every_ten_seconds_and_changes_nothing_about_a_release() {
    played("flux", async |space| {
        let git = Source::start().await;
        let _flux = space.kustomize_controller(&[]);
        let _operator = space.operator().await;
        let gate = paced(space, "6s");
        let written = installed(space, &git, &gate, &json!({})).await;

        git.push(space, "v2", &manifests(space, "v2", &gate)).await;
        promoted(space, "v2").await;
        let times = git.fetched("v2");
        assert!(times >= 3, "git was applied {times} times in the release");
        println!("Flux applied git {times} times while the release went on");
        assert_eq!(space.weights().await, WHOLE, "no fight, no drift, no bypass");
        assert_eq!(space.asked_for().await, [image("v2")]);

        let [deployment, route] = [
            space.the("Deployment", "checkout").await,
            space.the("HTTPRoute", "checkout").await,
        ];
        applied_again(&git, "v2", 2).await;
        is_as_written(space, &written).await;
        for (kind, before) in [("Deployment", deployment), ("HTTPRoute", route)] {
            let after = space.the(kind, "checkout").await;
            assert_eq!(
                after["metadata"]["generation"], before["metadata"]["generation"],
                "at rest there is nothing about {kind} that git would change"
            );
        }
        space
            .until_flux("Flux is content", KIND, "True", "ReconciliationSucceeded")
            .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kustomization_that_waits_too_shortly_fails_and_the_release_does_not_notice() {
    played("flux-short", async |space| {
        let git = Source::start().await;
        let _flux = space.kustomize_controller(&[]);
        let _operator = space.operator().await;
        let gate = lingering(space);
        let waits = json!({"wait": true, "timeout": "8s", "retryInterval": "5s", "healthCheckExprs": health_checks()});
        let written = installed(space, &git, &gate, &waits).await;

        git.push(space, "v2", &manifests(space, "v2", &gate)).await;
        let said = space
            .until_flux("Flux gives up waiting", KIND, "False", "HealthCheckFailed")
            .await;
        println!("{said}");
        assert!(said.contains("ReleaseGate") && said.contains("InProgress"), "{said}");
        at_weight(space, 25).await;
        applied_again(&git, "v2", 3).await;
        at_weight(space, 25).await;
        space.ask("Promote").await;
        promoted(space, "v2").await;
        assert_eq!(
            space.weights().await,
            [None, Some(5), Some(25), Some(95), Some(100), None],
            "whatever Flux said, the weights were the gate's"
        );
        space
            .until_flux("Flux is content", KIND, "True", "ReconciliationSucceeded")
            .await;
        is_as_written(space, &written).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kustomization_as_the_page_says_waits_through_a_hold_and_takes_the_next_commit_in_it() {
    played("flux-page", async |space| {
        let git = Source::start().await;
        let _flux = space.kustomize_controller(&["--feature-gates=CancelHealthCheckOnNewRevision=true"]);
        let _operator = space.operator().await;
        let gate = lingering(space);
        let page = of_the_page("apiVersion: kustomize.toolkit.fluxcd.io/v1\n");
        let spec = with(
            page["spec"].clone(),
            &json!({"targetNamespace": space.name, "path": "./", "sourceRef": {
            "kind": "OCIRepository", "name": "git"}}),
        );
        let written = installed(space, &git, &gate, &spec).await;

        git.push(space, "v2", &manifests(space, "v2", &gate)).await;
        at_weight(space, 25).await;
        let live = space.the(KIND, "checkout").await;
        assert_eq!(condition(&live)["status"], "Unknown", "it waits: {}", live["status"]);
        git.push(space, "v3", &manifests(space, "v3", &gate)).await;
        space
            .until_gate("the next commit is taken up while the one before is held", |status| {
                status["epoch"] == 2
            })
            .await;
        at_weight(space, 25).await;
        space.ask("Promote").await;
        promoted(space, "v3").await;
        space
            .until_flux("Flux is content", KIND, "True", "ReconciliationSucceeded")
            .await;
        is_as_written(space, &written).await;

        space.world().canary_fails(0.3);
        git.push(space, "v4", &manifests(space, "v4", &gate)).await;
        rejected(space).await;
        let said = space
            .until_flux("Flux gives up at once", KIND, "False", "HealthCheckFailed")
            .await;
        println!("{said}");
        assert!(said.contains("ReleaseGate"), "the gate is named: {said}");
        assert_eq!(space.asked_for().await, [image("v3")], "nothing is rolled back or out");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_that_setting_the_next_commit_waits_until_flux_gives_up() {
    played("flux-late", async |space| {
        let git = Source::start().await;
        let _flux = space.kustomize_controller(&[]);
        let _operator = space.operator().await;
        let gate = lingering(space);
        let waits = json!({"wait": true, "timeout": "25s", "healthCheckExprs": health_checks()});
        installed(space, &git, &gate, &waits).await;
        git.push(space, "v2", &manifests(space, "v2", &gate)).await;
        at_weight(space, 25).await;
        git.push(space, "v3", &manifests(space, "v3", &gate)).await;
        let pushed = Instant::now();
        space
            .until_gate("Flux takes up the next commit", |status| status["epoch"] == 2)
            .await;
        let took = pushed.elapsed();
        assert!(took > Duration::from_secs(10), "it gave up first: {took:?}");
    })
    .await;
}
