//! Scenarios in which every moment can be reached: pods, gateway and traffic are played.

mod adoption;
mod asks;
mod blind;
mod changes;
mod crashes;
mod edits;
mod endings;
mod git;
mod obstacles;
pub mod passing;
mod replicas;

use serde_json::{Value, json};

use crate::support::objects::with;
use crate::support::space::Space;
use crate::support::world::canary_weight;

/// A gate that stays at its second step, 25 %, until somebody asks for something.
pub fn lingering(space: &Space) -> Value {
    let steps = json!([{"weight": 5}, {"weight": 25, "minWindow": "10m", "maxWindow": "20m"}, {"weight": 100}]);
    with(space.gate(), &json!({"spec": {"steps": steps}}))
}

/// Waits until the route gives the canary this weight.
pub async fn at_weight(space: &Space, weight: i64) {
    let is = |route: &Value| canary_weight(route) == Some(weight);
    space
        .until(&format!("the weight is {weight}"), "HTTPRoute", "checkout", is)
        .await;
}
