//! What Tollgate costs: a real API server, controller manager and Prometheus, with faked pods,
//! gateway and traffic. Run it with `make bench`; `e2e/bench/run --quick` takes a fifth of it, and
//! `e2e/bench/run --crowd` watches thousands of gates and no release.
//!
//! Counts come from the API server's audit log, processor time and memory from `/proc`, and
//! queries from Prometheus' own log. A missed target is a failure.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench fails by panicking"
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and ranks are small"
)]

mod apps;
mod exporter;
mod fakes;
mod operator;
mod phases;
mod report;
mod requests;

use std::path::PathBuf;

use kube::Client;

use apps::App;
use operator::Operator;
use requests::AuditLog;

/// How much is measured.
struct Scale {
    /// Releases at once, and gates with pods; none when only rest is measured.
    releases: usize,
    /// Aborts at once.
    aborts: usize,
    /// Gates that only rest, besides.
    idle: usize,
    /// Gates whose Deployments have a template that is held, besides.
    held: usize,
    /// Seconds over which rest is watched.
    rest: u64,
}

const FULL: Scale = Scale {
    releases: 100,
    aborts: 20,
    idle: 900,
    held: 0,
    rest: 60,
};

const QUICK: Scale = Scale {
    releases: 20,
    aborts: 20,
    idle: 80,
    held: 0,
    rest: 15,
};

const CROWD: Scale = Scale {
    releases: 0,
    aborts: 0,
    idle: 999,
    held: 4000,
    rest: 60,
};

/// The most memory that 1,000 gates and fewer may take, and that 5,000 may, in MiB.
const MEMORY: [f64; 2] = [32.0, 150.0];

/// Everything the phases use.
struct Bench {
    client: Client,
    operator: Operator,
    audit: AuditLog,
    world: fakes::World,
    ready: fakes::Ready,
    report: report::Report,
    apps: Vec<App>,
    rest: u64,
}

#[tokio::main]
async fn main() {
    let scale = match std::env::args().nth(1).as_deref() {
        None => FULL,
        Some("--quick") => QUICK,
        Some("--crowd") => CROWD,
        Some(other) => panic!("{other:?}: only --quick and --crowd are known"),
    };
    let variable =
        |name: &str| PathBuf::from(std::env::var(name).unwrap_or_else(|_| panic!("{name}: run e2e/bench/run")));
    let rig = variable("TOLLGATE_RIG_STATE");
    let binary = variable("TOLLGATE_BENCH_BINARY");

    let client = Client::try_default().await.expect("the rig");
    let world = fakes::World::default();
    let ready = fakes::Ready::default();
    let fakes = [
        tokio::spawn(fakes::kubelet(client.clone(), ready.clone())),
        tokio::spawn(fakes::gateway(client.clone(), world.clone())),
        tokio::spawn(exporter::serve(world.clone())),
    ];
    exporter::announce(&rig).await;
    apps::create(&client, &apps::source()).await;
    let mut bench = Bench {
        operator: Operator::start(&client, &binary, &rig).await,
        audit: AuditLog::open(&rig),
        report: report::Report::new(&binary),
        apps: Vec::new(),
        rest: scale.rest,
        client,
        world,
        ready,
    };
    bench.grow(1).await;
    bench.rest("1 gate", MEMORY[0]).await;
    if scale.releases > 0 {
        bench.roll_out(scale.releases).await;
        bench.release("1 release", "app:v2").await;
        bench.grow(scale.releases).await;
        bench.rest(&format!("{} gates", scale.releases), MEMORY[0]).await;
        let what = format!("{} releases at once", scale.releases);
        bench.release(&what, "app:v3").await;
        bench.abort(scale.aborts).await;
    }
    bench.crowd("resting", scale.idle, false).await;
    let gates = scale.releases.max(1) + scale.idle;
    bench.rest(&format!("{gates} gates"), MEMORY[0]).await;
    if scale.held > 0 {
        bench.crowd("held", scale.held, true).await;
        let what = format!("{} gates, {} of them held,", gates + scale.held, scale.held);
        bench.rest(&what, MEMORY[1]).await;
    }

    bench.operator.stop().await;
    for fake in fakes {
        assert!(!fake.is_finished(), "a fake has ended: the figures mean nothing");
        fake.abort();
    }
    std::process::exit(i32::from(!bench.report.finish()));
}
