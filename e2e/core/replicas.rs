//! Two replicas: who leads, and what the other may do.

use std::time::{Duration, Instant};

use super::passing::{WHOLE, promoted, rejected};
use super::{at_weight, lingering};
use crate::support::operator::{Operator, Start};
use crate::support::space::{Space, played};

/// How long a leader sleeps: several times the length of the lease.
const FROZEN: Duration = Duration::from_secs(60);

async fn pair(space: &Space) -> (Operator, Operator) {
    let first = space.operator_as(&Start::named("one")).await;
    first.until_leading().await;
    let second = space.operator_as(&Start::named("two")).await;
    second.until_ready().await;
    (first, second)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_goes_on_when_the_leader_is_killed() {
    played("killed", async |space| {
        space.team(2).await;
        let (first, second) = pair(space).await;
        space.adopted(&space.gate()).await;
        space.push("v2").await;
        at_weight(space, 5).await;
        first.kill().await;
        second.until_leading().await;
        let status = promoted(space, "v2").await;
        assert_eq!(space.weights().await, WHOLE);
        let analysis = space
            .the("CanaryAnalysis", status["analysis"]["name"].as_str().unwrap())
            .await;
        let decisions = analysis["status"]["decisions"].as_array().unwrap();
        let recorded: Vec<_> = decisions.iter().map(|one| one["to"].as_i64()).collect();
        assert_eq!(recorded, WHOLE[1..7], "no decision is lost with the leader");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_hands_over_without_waiting_for_the_lease() {
    played("stopped", async |space| {
        space.team(2).await;
        let (first, second) = pair(space).await;
        space.adopted(&lingering(space)).await;
        space.push("v2").await;
        at_weight(space, 25).await;
        first.stop().await;
        second.until_leading().await;
        assert_eq!(space.ask("Promote").await["status"]["answer"], "Granted");
        promoted(space, "v2").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_frozen_never_raises_when_it_wakes() {
    played("frozen", async |space| {
        space.team(2).await;
        let (first, second) = pair(space).await;
        space.adopted(&space.gate()).await;
        space.push("v2").await;
        at_weight(space, 5).await;
        let frozen = Instant::now();
        first.freeze().await;
        second.until_leading().await;
        assert_eq!(space.ask("Abort").await["status"]["answer"], "Granted");
        rejected(space).await;
        space.forget_weights().await;

        tokio::time::sleep(FROZEN.saturating_sub(frozen.elapsed())).await;
        first.thaw().await;
        first.until_ready().await;
        let until = Instant::now() + Duration::from_secs(15);
        while Instant::now() < until {
            assert_eq!(space.weights().await, [None], "nothing is given to a refused revision");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let leads = first.metrics().await.lines().any(|line| line == "tollgate_leader 1");
        assert!(!leads, "the other one leads");
    })
    .await;
}
