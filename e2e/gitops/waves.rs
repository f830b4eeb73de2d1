//! Argo CD's own sync engine with the health scripts that are shipped: waves around a gate. And what all
//! tools make of the objects as they are live.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::{evidence, is_as_written, manifests, rests};
use crate::core::passing::{promoted, rejected};
use crate::core::{at_weight, lingering};
use crate::support::objects::{deployment, image, with};
use crate::support::setting;
use crate::support::space::{Space, played};

fn config() -> String {
    format!("{}/config", env!("CARGO_MANIFEST_DIR"))
}

/// A sync under way.
struct Sync {
    _child: Child,
    states: Lines<BufReader<ChildStdout>>,
}

impl Sync {
    /// Begins to sync these manifests.
    async fn begin(space: &Space, manifests: &[Value]) -> Self {
        let mut child = Command::new(setting("TOLLGATE_E2E_WAVES"))
            .args([&config(), &space.name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the sync engine; it comes with the rig");
        let documents: Vec<String> = manifests.iter().map(Value::to_string).collect();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(documents.join("\n---\n").as_bytes()).await.unwrap();
        drop(stdin);
        let states = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, states }
    }

    /// Follows it until it is in such a state.
    async fn until(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let following = async {
            while let Some(line) = self.states.next_line().await.unwrap() {
                last = serde_json::from_str(&line).unwrap();
                if is(&last) {
                    return true;
                }
            }
            false
        };
        let found = tokio::time::timeout(crate::support::PATIENCE * 2, following).await;
        assert_eq!(found, Ok(true), "{what}: {last}");
        last
    }
}

/// The team's objects, and one that comes when the release is over.
fn waves(space: &Space, tag: &str, gate: &Value) -> Vec<Value> {
    let wave = |number: &str| json!({"metadata": {"annotations": {"argocd.argoproj.io/sync-wave": number}}});
    let after = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "after"}, "data": {"release": tag},
    });
    let mut all = manifests(space, tag, &with(gate.clone(), &wave("1")));
    all.push(with(after, &wave("2")));
    all
}

async fn came(space: &Space) -> Value {
    let after = space.get("ConfigMap", "after").await;
    after.map_or(Value::Null, |after| after["data"]["release"].clone())
}

/// Whether the wave of the ConfigMap has not begun.
fn waits(state: &Value) -> bool {
    state["phase"] == "Running" && state["message"].as_str().unwrap().contains("healthy")
}

/// The fields of a route's spec in which Argo CD sees no difference, told to ignore what `tollgate` manages.
fn ignored(route: &Value) -> Vec<&String> {
    let entries = route["metadata"]["managedFields"].as_array().into_iter().flatten();
    let ours = entries.filter(|entry| entry["manager"] == "tollgate");
    ours.filter_map(|entry| entry["fieldsV1"]["f:spec"].as_object())
        .flat_map(|fields| fields.keys())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_wave_behind_a_gate_waits_in_flight_and_goes_on_at_rest() {
    played("waves", async |space| {
        evidence(space).await;
        let _operator = space.operator().await;
        let gate = lingering(space);
        let mut first = Sync::begin(space, &waves(space, "v1", &gate)).await;
        first
            .until("everything is there", |state| state["phase"] == "Succeeded")
            .await;
        assert_eq!(came(space).await, "v1");
        let written = space.the("HTTPRoute", "checkout").await;

        let mut second = Sync::begin(space, &waves(space, "v2", &gate)).await;
        let state = second.until("it waits", waits).await;
        at_weight(space, 25).await;
        println!("{state}");
        let route = space.the("HTTPRoute", "checkout").await;
        assert_eq!(ignored(&route), ["f:rules"], "the split in flight, and nothing else");
        assert_eq!(came(space).await, "v1", "what comes after the release has not come");
        space.ask("Promote").await;
        promoted(space, "v2").await;
        second.until("it goes on", |state| state["phase"] == "Succeeded").await;
        assert_eq!(came(space).await, "v2");
        is_as_written(space, &written).await;
        let route = space.the("HTTPRoute", "checkout").await;
        assert!(ignored(&route).is_empty(), "every difference is shown at rest: {route}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_wave_behind_a_gate_fails_when_the_release_is_refused() {
    played("waves-bad", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        let alone = |tag: &str| {
            let all = waves(space, tag, &space.gate()).into_iter();
            let kept = |one: &Value| ["ReleaseGate", "ConfigMap"].contains(&one["kind"].as_str().unwrap());
            all.filter(kept).collect::<Vec<_>>()
        };
        let mut first = Sync::begin(space, &alone("v1")).await;
        first
            .until("everything is there", |state| state["phase"] == "Succeeded")
            .await;

        space.world().rate(0.0);
        space.push("v2").await;
        space
            .until_gate("a release is in flight", |status| status["attempt"].is_object())
            .await;
        let mut second = Sync::begin(space, &alone("v2")).await;
        second.until("it waits", waits).await;
        space.world().canary_fails(0.3);
        space.world().rate(20_000.0);
        rejected(space).await;
        let state = second.until("it fails", |state| state["phase"] == "Failed").await;
        println!("{state}");
        assert_eq!(came(space).await, "v1", "what comes after the release has not come");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_brings_the_refused_deployment_too_waits_until_it_is_ended_or_taken_back() {
    played("waves-stay", async |space| {
        evidence(space).await;
        let _operator = space.operator().await;
        let gate = space.gate();
        let mut first = Sync::begin(space, &waves(space, "v1", &gate)).await;
        first
            .until("everything is there", |state| state["phase"] == "Succeeded")
            .await;

        space.world().canary_fails(0.3);
        let mut second = Sync::begin(space, &waves(space, "v2", &gate)).await;
        rejected(space).await;
        let of_the_deployment =
            |state: &Value| state["message"] == "waiting for healthy state of apps/Deployment/checkout";
        second
            .until("it waits for the paused Deployment", of_the_deployment)
            .await;
        assert_eq!(came(space).await, "v1", "what comes after the release has not come");
        assert_eq!(space.asked_for().await, [image("v1")]);
        space.push("v1").await;
        second
            .until("it goes on when the template is the proven one", |state| {
                state["phase"] == "Succeeded"
            })
            .await;
    })
    .await;
}

/// What kstatus, Flux and Argo CD say of the gate and its newest analysis as they are live.
async fn verdicts(space: &Space) -> Vec<Value> {
    let objects = space
        .kubectl(&["get", "releasegates,canaryanalyses", "-o", "json"], None)
        .await
        .expect_ok();
    let mut child = Command::new(setting("TOLLGATE_E2E_NEIGHBOURS"))
        .arg(config())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("neighbours; it comes with the rig");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(objects.as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The verdicts on the gate: of kstatus, of Flux by our expressions, of Argo CD by our script.
async fn gate_is(space: &Space, kstatus: &str, argo_cd: &str) {
    let all = verdicts(space).await;
    let gate = all.iter().find(|one| one["kind"] == "ReleaseGate").unwrap();
    let said = [&gate["kstatus"], &gate["flux"], &gate["argoCD"]];
    assert_eq!(said, [kstatus, kstatus, argo_cd], "{gate}");
    println!("{gate}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_gates_are_what_the_page_says_of_them() {
    played("verdicts", async |space| {
        space.team(2).await;
        space.apply(&lingering(space)).await;
        gate_is(space, "InProgress", "Progressing").await;
        let _operator = space.operator().await;
        space.until_gate("it is adopted", rests).await;
        gate_is(space, "Current", "Healthy").await;

        space.push("v2").await;
        at_weight(space, 25).await;
        gate_is(space, "InProgress", "Progressing").await;
        space.ask("Hold").await;
        space
            .until_gate("it is held", |status| status["attempt"]["hold"].is_string())
            .await;
        gate_is(space, "InProgress", "Suspended").await;
        space.ask("Promote").await;
        promoted(space, "v2").await;
        space.until_gate("it rests", rests).await;
        gate_is(space, "Current", "Healthy").await;

        space.world().canary_fails(0.3);
        space
            .try_apply(&deployment("v3", 2), crate::support::space::TEAM, true)
            .await
            .unwrap();
        rejected(space).await;
        gate_is(space, "Failed", "Degraded").await;
        let refused = verdicts(space).await;
        let last = refused.iter().rfind(|one| one["kind"] == "CanaryAnalysis").unwrap();
        assert_eq!(
            (&last["kstatus"], &last["argoCD"]),
            (&json!("Failed"), &json!("Degraded")),
            "{last}"
        );
        let passed = refused.iter().find(|one| one["kind"] == "CanaryAnalysis").unwrap();
        assert_eq!(
            (&passed["kstatus"], &passed["argoCD"]),
            (&json!("Current"), &json!("Healthy")),
            "{passed}"
        );
    })
    .await;
}
