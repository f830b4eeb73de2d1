//! Scenarios in which every moment can be reached: pods, gateway and traffic are played.
//!
//! Where progressive delivery is known to go wrong, and what shows that it does not here:
//!
//! | case | scenario |
//! |---|---|
//! | Prometheus fails for 90 s in the middle | `blind::a_release_goes_on_when_it_can_see_again`, `cluster::blind` |
//! | empty answer, NaN, Inf, warnings, one series too many | `blind::whatever_blinds_the_judge_…` |
//! | controller killed at a step | `replicas::a_release_goes_on_when_the_leader_is_killed`, `crashes` |
//! | breach while a stable pod is not ready | `passing::a_breach_ends_a_release_although_a_stable_pod_is_not_ready` |
//! | somebody re-applies the original route | `git`, `edits`, `older::a_foreign_raise_is_undone_and_held` |

mod adoption;
mod alike;
mod asks;
mod attached;
mod blind;
mod changes;
mod crashes;
mod credentials;
mod edits;
pub mod endings;
mod git;
mod obstacles;
pub mod passing;
mod pods;
mod replicas;
mod rules;

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
