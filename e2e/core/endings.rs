//! The gate or the Deployment goes away.

use serde_json::{Value, json};
use tokio::process::Command;

use super::passing::{nothing_is_left, rejected};
use super::{at_weight, lingering};
use crate::support::objects::{image, with};
use crate::support::space::{Space, played};
use crate::support::{PATIENCE, eventually};

/// Deletes the gate and waits until it is gone.
pub async fn delete_gate(space: &Space) {
    space.delete("ReleaseGate", "checkout").await;
    eventually("the gate is gone", PATIENCE, async || {
        match space.get("ReleaseGate", "checkout").await {
            None => Ok(()),
            Some(gate) => Err(format!("{}", gate["status"])),
        }
    })
    .await;
}

async fn delete_held_gate(space: &Space, route: &Value) {
    delete_gate(space).await;
    let after = space.the("HTTPRoute", "checkout").await;
    assert_eq!(after["spec"], route["spec"], "the route is the team's");
    for field in ["labels", "annotations"] {
        assert_eq!(after["metadata"][field], route["metadata"][field], "no fence is left");
    }
    left_paused(space).await;
}

/// The gate is gone with all it made; the template that waited still waits, and says why.
pub async fn left_paused(space: &Space) {
    left_paused_behind(space, "v1").await;
}

/// The same, with another revision running.
pub async fn left_paused_behind(space: &Space, running: &str) {
    nothing_is_left(space).await;
    let live = space.the("Deployment", "checkout").await;
    assert!(
        live["metadata"]["labels"].is_null(),
        "our labels are gone: {}",
        live["metadata"]["labels"]
    );
    assert_eq!(live["spec"]["paused"], true, "left plainly paused");
    let note = &live["metadata"]["annotations"]["tollgate.dev/left-paused"];
    assert!(
        note.as_str().is_some_and(|note| note.contains("rollout resume")),
        "and says so: {note}"
    );
    assert_eq!(space.asked_for().await, [image(running)], "not rolled out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_deleted_in_flight_puts_the_route_back_and_rolls_nothing_out() {
    played("delete", async |space| {
        space.team(2).await;
        let route = space.the("HTTPRoute", "checkout").await;
        let _operator = space.operator().await;
        space.adopted(&lingering(space)).await;
        space.push("v2").await;
        at_weight(space, 25).await;
        delete_held_gate(space, &route).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_cannot_be_understood_any_more_can_be_mended_or_deleted() {
    played("stalled", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        space.adopted(&space.gate()).await;
        let senseless = with(space.gate(), &json!({"spec": {"analysis": {"slo": "100%"}}}));
        let says = |reason: &'static str| move |status: &Value| status["reason"] == reason;
        space.apply(&senseless).await;
        space.until_gate("it says so", says("Invalid")).await;
        space.apply(&space.gate()).await;
        space.until_gate("it is mended", says("AtRest")).await;

        space.apply(&senseless).await;
        space.until_gate("it says so again", says("Invalid")).await;
        delete_gate(space).await;
        let live = space.the("Deployment", "checkout").await;
        assert!(live["metadata"]["labels"].is_null(), "our labels are gone: {live}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_deleted_after_an_abort_leaves_the_refused_template_paused_until_somebody_resumes_it() {
    played("delete-late", async |space| {
        space.team(2).await;
        let route = space.the("HTTPRoute", "checkout").await;
        let _operator = space.operator().await;
        space.adopted(&space.gate()).await;
        space.world().canary_fails(0.2);
        space.push("v2").await;
        rejected(space).await;
        let fence =
            &space.the("HTTPRoute", "checkout").await["metadata"]["annotations"]["traffic.tollgate.dev/checkout"];
        assert!(
            fence.as_str().is_some_and(|note| note.contains(r#""fenced":true"#)),
            "the fence stays while the gate lives: {fence}"
        );
        delete_held_gate(space, &route).await;

        let resume = ["rollout", "resume", "deployment/checkout"];
        space.kubectl(&resume, None).await.expect_ok();
        space.until_rolled_out("v2").await;
        space.adopted(&space.gate()).await;
        let live = space.the("Deployment", "checkout").await;
        let note = &live["metadata"]["annotations"]["tollgate.dev/left-paused"];
        assert!(note.is_null(), "the gate that is back speaks for it: {note}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_deleted_in_flight_is_no_reason_to_go_on() {
    played("vanish", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        space.adopted(&lingering(space)).await;
        space.push("v2").await;
        at_weight(space, 25).await;
        space.delete("Deployment", "checkout").await;
        let missing = |status: &Value| status["reason"] == "WorkloadMissing";
        let status = space.until_gate("it is missed", missing).await;
        assert_eq!(status["weight"], 25, "held where it was: {status}");
        assert_eq!(space.ask("Abort").await["status"]["answer"], "Granted");
        rejected(space).await;
        assert_eq!(space.weights().await.last(), Some(&None), "the route is the team's");
    })
    .await;
}

/// What `tollgate uninstall` says of this namespace, and its exit code.
async fn uninstall(space: &Space, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(["uninstall", "--namespace", &space.name]).args(arguments);
    let output = command.kill_on_drop(true).output().await.expect("tollgate");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code(), text.concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uninstall_is_asked_twice_waits_for_the_operator_and_says_what_it_left() {
    played("uninstall", async |space| {
        space.team(2).await;
        let route = space.the("HTTPRoute", "checkout").await;
        let operator = space.operator().await;
        space.adopted(&lingering(space)).await;
        space.push("v2").await;
        at_weight(space, 25).await;
        operator.stop().await;

        let (code, said) = uninstall(space, &[]).await;
        assert!(
            code == Some(2) && said.contains("/checkout") && said.contains("--yes"),
            "{code:?}: {said}"
        );
        let gate = space.the("ReleaseGate", "checkout").await;
        assert!(
            gate["metadata"]["deletionTimestamp"].is_null(),
            "only asked about: {gate}"
        );

        let (code, said) = uninstall(space, &["--yes", "--timeout", "2s"]).await;
        assert!(
            code == Some(3) && said.contains("NOT removed"),
            "nobody puts anything back: {code:?}: {said}"
        );

        let _operator = space.operator().await;
        let (code, said) = uninstall(space, &["--yes", "--timeout", "60s"]).await;
        assert!(
            code == Some(0) && said.contains("Deployment checkout is left paused"),
            "{code:?}: {said}"
        );
        let after = space.the("HTTPRoute", "checkout").await;
        assert_eq!(after["spec"], route["spec"], "the route is the team's");
        left_paused(space).await;

        let (code, said) = uninstall(space, &["--yes"]).await;
        assert!(
            code == Some(0) && said.contains("there are no gates"),
            "{code:?}: {said}"
        );
    })
    .await;
}
