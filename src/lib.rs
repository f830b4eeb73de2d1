//! Tollgate: a release pays its way in evidence.
//!
//! A Kubernetes operator for progressive delivery. A changed workload gets traffic in steps; at
//! each step canary and baseline are compared, and by fixed policy the release is promoted, held
//! or aborted. This page is the map; read the rooms in this order.

pub mod decision;
pub mod github;
