//! How long an abort takes, over many of them: figures to read, and bounds that must hold on any machine.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::gate;
use super::releases::abort_seconds;
use crate::support::space::{Space, real};
use crate::support::world::canary_weight;

const ABORTS: u32 = 50;

/// When the route got weight 0 and when it got any other, in milliseconds since 1970, in order.
#[derive(Default)]
struct Seen {
    raised: Vec<i64>,
    zero: Vec<i64>,
}

/// Watches the route until it is dropped.
fn watched(space: &Space) -> (Arc<Mutex<Seen>>, JoinSet<()>) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (noted, api) = (Arc::clone(&seen), space.api("HTTPRoute"));
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut routes = std::pin::pin!(watcher(api, watcher::Config::default()).applied_objects());
        let mut last = None;
        while let Some(Ok(route)) = routes.next().await {
            let weight = canary_weight(&serde_json::to_value(route).unwrap()).filter(|weight| *weight > 0);
            let now = jiff::Timestamp::now().as_millisecond();
            let mut noted = noted.lock().unwrap();
            match (last, weight) {
                (None, Some(_)) => noted.raised.push(now),
                (Some(_), None) => noted.zero.push(now),
                _ => {}
            }
            last = weight;
        }
    });
    (seen, task)
}

/// The smallest value that so many of a hundred are not above.
fn percentile(values: &[Duration], percent: usize) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort();
    sorted[(sorted.len() * percent).div_ceil(100) - 1]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_aborts_in_a_row_each_take_the_canary_out_of_traffic_at_once() {
    real("aborts", async |space| {
        space.team(2).await;
        let operator = space.operator().await;
        let steps = json!({"spec": {"steps": [{"weight": 25}, {"weight": 100}]}});
        space.adopted(&gate(space, &steps)).await;
        let load = space.load_traced(300, "v2-bad").await;
        let (seen, _watch) = watched(space);

        space.push("v2-bad").await;
        let (mut written, mut before) = (Vec::new(), 0.0);
        for round in 1..=ABORTS {
            let over = |status: &Value| status["epoch"] == round && status["attempt"]["stage"] == "Rejected";
            let status = space.until_gate("the attempt is rejected", over).await;
            assert_eq!(status["attempt"]["why"], "Harm", "{status}");
            let (count, sum) = abort_seconds(&operator.metrics().await);
            assert!((count - f64::from(round)).abs() < 0.5, "one measurement for each abort");
            written.push(Duration::from_secs_f64(sum - before));
            before = sum;
            if round < ABORTS {
                assert_eq!(space.ask("Retry").await["status"]["answer"], "Granted");
            }
        }
        let (summary, answers) = load.stop_traced().await;

        let seen = seen.lock().unwrap();
        assert_eq!((seen.raised.len(), seen.zero.len()), (written.len(), written.len()));
        let next = seen.raised[1..].iter().copied().chain([i64::MAX]);
        let late: Vec<Duration> = seen
            .zero
            .iter()
            .zip(next)
            .map(|(zero, next)| {
                let last = answers.iter().filter(|at| **at < next).max();
                let late = last.expect("answers of the canary") - zero;
                Duration::from_millis(u64::try_from(late).unwrap_or(0))
            })
            .collect();
        for (what, times) in [
            ("from the deciding tick to the acknowledged weight 0", &written),
            ("from weight 0 to the last answer of the canary", &late),
        ] {
            let (p50, p99) = (percentile(times, 50), percentile(times, 99));
            println!("{ABORTS} aborts, {what}: p50 {p50:?}, p99 {p99:?}");
            assert!(p99 < Duration::from_secs(5), "{what}: {times:?}");
        }
        assert_eq!(summary["lost"], 0, "{summary}");
    })
    .await;
}
