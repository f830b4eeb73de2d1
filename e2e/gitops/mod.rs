//! The tools that bring a team's objects from git, the real programs: Flux' kustomize-controller and
//! helm-controller, Helm, and Argo CD's sync engine. What they make of a release that takes its time.
//! The API server, its controllers and Prometheus are real; pods, gateway and traffic are played.

mod charts;
mod flux;
mod kustomization;
mod settings;
mod source;
mod waves;

use serde_json::{Value, json};

use crate::support::objects::{self, deployment, with};
use crate::support::setting;
use crate::support::space::Space;

/// The page about these tools.
const PAGE: &str = include_str!("../../docs/gitops.md");

/// What the team keeps in git: its objects and their gate.
fn manifests(space: &Space, tag: &str, gate: &Value) -> Vec<Value> {
    vec![deployment(tag, 2), objects::service(), space.route(), gate.clone()]
}

/// Where evidence comes from is the administrator's, not in the team's git.
async fn evidence(space: &Space) {
    let source = objects::source(&space.name, &setting("TOLLGATE_E2E_PROMETHEUS"));
    space.apply(&source).await;
}

/// A gate whose every step takes so long at least.
fn paced(space: &Space, step: &str) -> Value {
    with(space.gate(), &json!({"spec": {"analysis": {"minWindow": step}}}))
}

/// Waits until the gate that the tool applied trusts what runs.
async fn adopted(space: &Space) {
    space.until_rolled_out("v1").await;
    space.until_gate("the gate adopts the Deployment", rests).await;
}

/// Nothing of ours is left on the route: not a field of its spec, not a mark.
async fn is_as_written(space: &Space, written: &Value) {
    let route = space.the("HTTPRoute", "checkout").await;
    assert_eq!(route["spec"], written["spec"], "the route is what git says");
    for field in ["labels", "annotations"] {
        assert_eq!(
            route["metadata"][field], written["metadata"][field],
            "{field} of the route"
        );
    }
}

/// Whether nothing is in flight.
fn rests(status: &Value) -> bool {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let ready = |one: &Value| one["type"] == "Ready" && one["status"] == "True";
    status["stable"].is_string() && status["attempt"].is_null() && conditions.clone().any(ready)
}
