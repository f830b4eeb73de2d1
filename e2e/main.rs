//! The operator's own program against real API servers. Started by `e2e/run`, which brings the cluster.
//!
//! `core` has a real API server with its controllers and a real Prometheus. Kubelet, gateway and
//! traffic are played by [`support::world`], so that every moment can be reached. `cluster` has a
//! node, a gateway and real traffic. `older` is `core` without the policies that only Kubernetes 1.36
//! and later have. `argo` is `cluster` with Argo Rollouts' own controller, which moves the traffic.
//! `helm` is a whole node to which the real Helm brings the operator as pods. `gitops` is `core` with
//! the tools that bring a team's objects: Flux, Helm and Argo CD's engine.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod argo;
mod cluster;
mod core;
mod gitops;
mod helm;
mod older;
mod support;
