//! Tollgate: a release pays its way in evidence.
//!
//! A Kubernetes operator for progressive delivery. A changed workload gets traffic in steps; at
//! each step canary and baseline are compared, and by fixed policy the release is promoted, held
//! or aborted. This page is the map; read the rooms in this order:
//!
//! - [`decision`]: words and units, evidence, the plan, and the machine that decides. Pure.
//! - [`judge`]: statistics, from counts to a verdict. Pure.
//! - [`api`]: the four kinds people type, and how they are parsed.
//! - [`http`]: the one way out: timeouts, size caps, redaction.
//! - [`sources`]: where evidence comes from.

pub mod api;
pub mod cli;
pub mod decision;
pub mod http;
pub mod judge;
pub mod sources;

#[cfg(test)]
mod tidy;
