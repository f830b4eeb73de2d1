//! Tollgate: a release pays its way in evidence.
//!
//! A Kubernetes operator for progressive delivery. A changed workload gets traffic in steps; at
//! each step canary and baseline are compared, and by fixed policy the release is promoted, held
//! or aborted. This page is the map; read the rooms in this order.

/// Keeps the log of decisions: one hash-chained JSON line each, exported off the path of a release.
pub mod audit;
/// Performs what was decided: the only room that writes to the cluster.
pub mod controller;
pub mod decision;
/// Answers HTTP: health, readiness and metrics.
pub mod serve;
/// Sets up logs and traces of this process.
pub mod telemetry;
