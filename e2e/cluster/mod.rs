//! Scenarios with a node, a gateway, real pods and real traffic. One at a time: they are counted.

mod aborts;
mod blind;
mod github;
mod releases;
mod replay;
mod shares;
mod traffic;

use serde_json::{Value, json};

use crate::support::objects::with;
use crate::support::space::Space;

/// The gate of these scenarios: real traffic is thinner than played traffic.
fn gate(space: &Space, difference: &Value) -> Value {
    let usual = json!({"spec": {"analysis": {"minSample": 30, "minWindow": "6s", "maxWindow": "90s"}}});
    with(with(space.gate(), &usual), difference)
}
