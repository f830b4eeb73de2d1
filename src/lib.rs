//! Tollgate: a release pays its way in evidence.
//!
//! A Kubernetes operator for progressive delivery. A changed workload gets traffic in steps; at
//! each step canary and baseline are compared, and by fixed policy the release is promoted, held
//! or aborted. This page is the map; read the rooms in this order:
//!
//! - [`decision`]: words and units, evidence, the plan, and the machine that decides. Pure.
//! - [`judge`]: statistics, from counts to a verdict. Pure.
//! - [`api`]: the four kinds people type, and how they are parsed.
//! - [`trial`]: one release on trial: a frozen plan and ticks of evidence in, a verdict out. Pure.
//! - [`controller`]: watch, gather, decide, apply, record; the only room that writes to the cluster.
//! - [`routers`]: reads and writes the traffic split.
//! - [`sources`]: where evidence comes from.
//! - [`http`]: the one way out to sources: timeouts, size caps, redaction.
//! - [`github`]: tells GitHub how a release goes; never decides about it.
//! - [`audit`]: the log of decisions, one hash-chained JSON line each.
//! - [`serve`]: health, readiness and metrics over HTTP.
//! - [`telemetry`]: logs and traces of this process.
//! - [`cli`]: the commands.
//!
//! Deliberately absent: a way from text to a decision, a default that passes, a second writer of
//! traffic, and any decision by something that is not evidence, policy or a named person.

pub mod api;
pub mod audit;
pub mod cli;
pub mod controller;
pub mod decision;
pub mod github;
pub mod http;
pub mod judge;
pub mod routers;
pub mod serve;
pub mod sources;
pub mod telemetry;
pub mod trial;

#[cfg(test)]
mod readme;
#[cfg(test)]
mod tidy;
