//! What came before: the last hour of one gate's metric, minute by minute.
//!
//! A release that begins knows nothing about how much stable's pods vary, and learns it too late:
//! clumps would be taken for evidence. The source remembers. One subquery per metric, sent once with
//! the gate's first complete tick, gives every series' value at each whole minute; they are counted
//! as ticks of a minute are. A minute that cannot be counted is left out, and so is everything when
//! the source does not answer in time: then the release learns as it goes.

use std::collections::BTreeMap;

use super::arms::{Book, Labels, Role};
use super::memory::Memory;
use super::metric::{Measure, MetricQuery};
use super::query::{Ask, Rendered, Round, Shape, shapes};
use super::reply::Series;
use super::tally::{Frame, Progress, Sides};
use crate::decision::{Gap, Tick};

/// How far back is looked, and how finely: what the judge asks of an estimate is half an hour.
const MINUTES: i64 = 60;
const MINUTE: i64 = 60_000;

/// Whether the past of a metric tells anything: its pods are told apart, and what is counted is known.
pub(super) fn tells(measure: &Measure) -> bool {
    measure.has_past()
}

/// What came of the queries for one metric's past.
pub(super) struct Read {
    /// Whole minutes, oldest first.
    pub(super) ticks: Vec<Tick>,
    /// What each query gave, and the bytes of its answer.
    pub(super) costs: Vec<(Option<Gap>, u64)>,
}

/// Reads the past of one metric of the gate at `place`, up to the end of the round's tick.
pub(super) async fn read(round: &Round<'_>, place: usize, metric: &MetricQuery) -> Read {
    let mut costs = Vec::new();
    let mut answers = Vec::new();
    // where stable is read of a past time, its pods are those of that time, and so is their hour before
    let ago = round.gates.get(place).map_or(0, |gate| gate.ago(Role::Baseline));
    for shape in shapes(&metric.measure, ago) {
        let (answer, bytes) = ask(round, place, &metric.measure, &shape).await;
        costs.push((answer.as_ref().err().cloned(), bytes));
        let Ok(series) = answer else {
            return Read {
                ticks: Vec::new(),
                costs,
            };
        };
        answers.push((shape, series));
    }
    let ticks = count(round, place, &metric.measure, answers);
    Read { ticks, costs }
}

async fn ask(round: &Round<'_>, place: usize, measure: &Measure, shape: &Shape) -> (Result<Vec<Series>, Gap>, u64) {
    let mut ask = Ask::default();
    ask.join(place, measure, round.to);
    match round.narrowed(shape, &ask, &[place].into(), &mut Rendered::default()) {
        Ok(selector) => {
            round
                .send(&format!("{selector}[{}s:60s]", (MINUTES + 1) * 60), shape.ago)
                .await
        }
        Err(gap) => (Err(gap), 0),
    }
}

fn count(round: &Round<'_>, place: usize, measure: &Measure, answers: Vec<(Shape, Vec<Series>)>) -> Vec<Tick> {
    let mut connection = round.connection.clone();
    (connection.scrape_seconds, connection.interval_seconds) = (60, 60);
    let mut memory = Memory::default();
    let mut keys = Vec::new();
    for (shape, series) in answers {
        let book = round.books.get(&shape.identity);
        let read = |role: &Role| round.gates.get(place).is_some_and(|gate| gate.ago(*role) == shape.ago);
        let mut arms: BTreeMap<Role, Vec<_>> = BTreeMap::new();
        for series in series {
            if let Some(role) = book.and_then(|book| role(book, place, &series.labels)).filter(read) {
                arms.entry(role)
                    .or_default()
                    .push(memory.take((&connection, shape.identity), series, round.to));
            }
        }
        keys.push(arms);
    }
    let sides = |place: usize| {
        let tracks = |role| {
            let keys = keys
                .get(place)
                .and_then(|arms: &BTreeMap<Role, Vec<_>>| arms.get(&role));
            keys.into_iter().flatten().filter_map(|key| memory.track(key)).collect()
        };
        Sides {
            baseline: tracks(Role::Baseline),
            canary: tracks(Role::Canary),
        }
    };
    let (total, bad) = (sides(0), sides(1));
    let last = round.to.div_euclid(MINUTE);
    let minutes = (last - MINUTES + 1)..=last;
    let ticks = minutes.filter_map(|minute| {
        let progress = Progress {
            since: (minute - 1) * MINUTE,
            ..Progress::default()
        };
        let frame = Frame {
            memory: &memory,
            connection: &connection,
            progress: &progress,
            to: minute * MINUTE,
        };
        frame.tally(measure, &total, &bad).ok().map(|tallied| tallied.tick)
    });
    ticks.collect()
}

fn role(book: &Book<'_>, place: usize, labels: &Labels) -> Option<Role> {
    let mut owners = book.owners(labels).into_iter();
    owners.find(|(gate, _)| *gate == place).map(|(_, role)| role)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use wiremock::ResponseTemplate;

    use super::*;
    use crate::decision::Evidence;
    use crate::sources::reply::Sample;
    use crate::sources::stand_in::{
        CANARY, Instead, STABLE, StandIn, T0, arm, gate, histogram, only, orders, plane, ratio, samples, series, tick,
    };
    use crate::sources::{HistogramPreset, RatioPreset, Subscription};

    const OTHER: &str = "checkout-7d9f8b6c5d-zk2vw";

    /// A counter scraped every 15 s for an hour and ten minutes.
    fn long(by: f64) -> Vec<Sample> {
        let pairs: Vec<(i64, f64)> = (-280_i32..=4)
            .map(|scrape| (i64::from(scrape) * 15, 100_000.0 + by * f64::from(scrape)))
            .collect();
        samples(&pairs)
    }

    async fn remembering() -> StandIn {
        let server = StandIn::start().await;
        for (pod, code, by) in [
            (STABLE, "200", 40.0),
            (STABLE, "500", 2.0),
            (OTHER, "200", 50.0),
            (CANARY, "200", 1.0),
        ] {
            server.hold(&series("http_requests_total", pod, code), long(by));
        }
        server
    }

    fn beginning(metric: MetricQuery) -> Vec<Subscription> {
        let mut gate = gate("shop", "checkout", vec![metric]);
        gate.unknown = BTreeSet::from([0]);
        vec![gate]
    }

    #[tokio::test]
    async fn the_hour_before_comes_minute_by_minute_and_pod_by_pod_with_the_first_tick() {
        let server = remembering().await;
        let mut connection = server.connection();
        connection.scrape_seconds = 15;
        let mut plane = plane(connection);
        let answer = only(&mut plane, server.now(0), &beginning(ratio(RatioPreset::HttpErrors))).await;
        assert!(matches!(answer.evidence, Evidence::Complete(_)), "{answer:?}");
        let last = T0.div_euclid(60) * 60 - T0;
        let ends: Vec<i64> = answer.past.iter().map(|tick| tick.at.0 / 1000 - T0).collect();
        let wanted: Vec<i64> = (0..60).rev().map(|minute| last - minute * 60).collect();
        assert_eq!(ends, wanted);
        for past in answer.past {
            let Evidence::Complete(wanted) = tick(past.at.0 / 1000 - T0, arm(0.0, 4.0), arm(8.0, 368.0)) else {
                panic!("complete");
            };
            assert_eq!(past.baseline_pods, [arm(8.0, 168.0), arm(0.0, 200.0)]);
            assert_eq!((past.canary, past.baseline), (wanted.canary, wanted.baseline));
        }
        assert_eq!(server.asked().len(), 2, "the tick and its past");
    }

    #[tokio::test]
    async fn the_past_is_asked_for_only_where_it_is_unknown_and_tells_something() {
        let known = vec![gate("shop", "checkout", vec![ratio(RatioPreset::HttpErrors)])];
        for (name, gates) in [
            ("what is known", known),
            (
                "a gateway's, that tells no pods apart",
                beginning(ratio(RatioPreset::GatewayErrors)),
            ),
            ("of no series", beginning(orders())),
            (
                "edges are not chosen",
                beginning(histogram(HistogramPreset::HttpDuration, None)),
            ),
        ] {
            let server = remembering().await;
            let answer = only(&mut server.plane(), server.now(0), &gates).await;
            assert_eq!(answer.past, [], "{name}");
            assert!(server.asked().iter().all(|query| !query.contains(":60s]")), "{name}");
        }
    }

    #[tokio::test]
    async fn a_source_without_a_past_costs_nobody_the_present() {
        let answers: [fn() -> ResponseTemplate; 2] = [
            || ResponseTemplate::new(422),
            || ResponseTemplate::new(200).set_delay(Duration::from_secs(8)),
        ];
        for answer in answers {
            let server = remembering().await;
            let instead: Instead = Arc::new(move |query| query.contains(":60s]").then(answer));
            server.with(|held| held.instead = Some(instead));
            let answer = only(
                &mut server.plane(),
                server.now(0),
                &beginning(ratio(RatioPreset::HttpErrors)),
            )
            .await;
            assert!(matches!(answer.evidence, Evidence::Complete(_)), "{answer:?}");
            assert_eq!(answer.past, []);
        }
    }
}
