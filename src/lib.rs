//! Tollgate: a release pays its way in evidence.
//!
//! A Kubernetes operator for progressive delivery. A changed workload gets traffic in steps; at
//! each step canary and baseline are compared, and by fixed policy the release is promoted, held
//! or aborted. This page is the map; read the rooms in this order.
//!
//! - [`routers`]: reads and writes the traffic split in the user's own routes, and puts them back.

pub mod api;
pub mod decision;
pub mod judge;
pub mod routers;
