//! What evidence each answer of a source gives, row by row.
#![expect(
    clippy::float_cmp,
    clippy::indexing_slicing,
    reason = "small whole numbers, exact; a test may panic"
)]

use std::sync::Arc;
use std::time::Duration;

use wiremock::ResponseTemplate;

use super::metric::{HistogramPreset, HistogramSpec, MetricQuery, RatioPreset, RatioSpec};
use super::prometheus::Plane;
use super::stand_in::{Held, StandIn, T0, labels, plane, rising, samples};
use super::subscription::{Answer, Subscription};
use crate::decision::{Arm, Evidence, GapKind, Millis, Tick};

const STABLE: &str = "checkout-7d9f8b6c5d-x2x4b";
const CANARY: &str = "checkout-canary-6c5b4d8f79-zk2vw";

fn gate(namespace: &str, name: &str, metrics: Vec<MetricQuery>) -> Subscription {
    Subscription {
        gate: format!("{namespace}/{name}"),
        namespace: namespace.to_owned(),
        workload: name.to_owned(),
        canary_workload: format!("{name}-canary"),
        service: name.to_owned(),
        canary_service: format!("{name}-canary"),
        port: Some(80),
        metrics,
    }
}

fn ratio(preset: RatioPreset) -> MetricQuery {
    let spec = RatioSpec {
        preset: Some(preset),
        ..RatioSpec::default()
    };
    MetricQuery {
        name: "errors".to_owned(),
        measure: spec.measure().expect("a preset"),
    }
}

fn orders() -> MetricQuery {
    let spec = RatioSpec {
        preset: None,
        bad: Some("orders_failed_total".to_owned()),
        total: Some("orders_total".to_owned()),
    };
    MetricQuery {
        name: "orders".to_owned(),
        measure: spec.measure().expect("selectors"),
    }
}

fn histogram(preset: HistogramPreset, edges: Option<Vec<f64>>) -> MetricQuery {
    let spec = HistogramSpec {
        preset: Some(preset),
        edges,
        ..HistogramSpec::default()
    };
    MetricQuery {
        name: "latency".to_owned(),
        measure: spec.measure().expect("a preset"),
    }
}

fn http_errors() -> Vec<Subscription> {
    vec![gate("shop", "checkout", vec![ratio(RatioPreset::HttpErrors)])]
}

fn series(metric: &str, pod: &str, code: &str) -> String {
    format!(r#"{metric}{{job="pods",instance="{pod}:80",namespace="shop",pod="{pod}",code="{code}"}}"#)
}

/// Stable answers 20 requests per tick, the canary 2, one of them with an error.
async fn healthy() -> StandIn {
    let server = StandIn::start().await;
    server.hold(&series("http_requests_total", STABLE, "200"), rising(1000.0, 10.0));
    server.hold(&series("http_requests_total", CANARY, "200"), rising(100.0, 0.5));
    server.hold(&series("http_requests_total", CANARY, "500"), rising(50.0, 0.5));
    server
}

async fn only(plane: &mut Plane, now: Millis, gates: &[Subscription]) -> Answer {
    let mut collected = plane.collect(now, gates).await;
    assert_eq!(collected.len(), 1, "one gate");
    collected.remove(0).metrics.remove(0)
}

fn arm(events: f64, total: f64) -> Arm {
    Arm {
        events: vec![events],
        total,
    }
}

fn tick(seconds: i64, canary: Arm, baseline: Arm) -> Evidence<Tick> {
    Evidence::Complete(Tick {
        at: Millis((T0 + seconds) * 1000),
        canary,
        baseline_pods: vec![baseline.clone()],
        baseline,
    })
}

fn kinds(answer: &Answer) -> Vec<GapKind> {
    match &answer.evidence {
        Evidence::Complete(tick) => panic!("complete: {tick:?}"),
        Evidence::Incomplete(gaps) => gaps.iter().map(|gap| gap.kind).collect(),
    }
}

#[tokio::test]
async fn a_healthy_source_gives_the_exact_counts_of_both_arms() {
    let server = healthy().await;
    let mut plane = server.plane();
    for seconds in [0, 10, 20] {
        let answer = only(&mut plane, server.now(seconds), &http_errors()).await;
        assert_eq!(answer.evidence, tick(seconds, arm(1.0, 2.0), arm(0.0, 20.0)));
        assert_eq!(answer.age, Some(Millis(0)));
    }
    assert_eq!(
        server.asked().first().map(String::as_str),
        Some(
            r#"http_requests_total{namespace="shop",pod=~"(?:checkout|checkout\\-canary)-.+"}[26s]"#
                .replace(r"\\-", "-")
        )
        .as_deref()
    );
}

#[tokio::test]
async fn a_tick_is_read_once_and_the_next_time_is_told() {
    let server = healthy().await;
    let mut plane = server.plane();
    let now = server.now(0);
    assert_eq!(plane.tick(now), Millis(T0 * 1000));
    assert_eq!(plane.collect(now, &http_errors()).await.len(), 1);
    assert!(plane.collect(now, &http_errors()).await.is_empty());
    let next = plane.next(now);
    assert!(next > now);
    assert_eq!(plane.tick(next), Millis((T0 + 10) * 1000));
    assert_eq!(plane.tick(Millis(next.0 - 1)), Millis(T0 * 1000));
}

type Tweak = fn(&mut Held);

fn retain(held: &mut Held, keep: impl Fn(&str) -> bool) {
    held.series
        .retain(|(labels, _)| keep(labels.get("pod").map_or("", String::as_str)));
}

fn newest(held: &mut Held, value: f64) {
    for (_, samples) in &mut held.series {
        samples.retain(|sample| sample.at <= T0 * 1000);
        samples.last_mut().expect("samples").value = value;
    }
}

fn shift(samples: &mut [super::reply::Sample], by: f64) {
    for sample in samples {
        sample.value += by;
    }
}

fn until(held: &mut Held, pod: &str, seconds: i64) {
    for (labels, samples) in &mut held.series {
        if labels.get("pod").is_some_and(|found| found == pod) {
            samples.retain(|sample| sample.at <= (T0 + seconds) * 1000);
        }
    }
}

fn reply(held: &mut Held, status: u16, body: &'static str) {
    held.instead = Some(Arc::new(move |_| {
        Some(ResponseTemplate::new(status).set_body_string(body))
    }));
}

const DOUBTS: [(&str, Tweak, GapKind); 23] = [
    ("empty result", |held| held.series.clear(), GapKind::NoEvidence),
    (
        "no baseline",
        |held| retain(held, |pod| pod == CANARY),
        GapKind::BaselineMissing,
    ),
    ("NaN", |held| newest(held, f64::NAN), GapKind::NotACount),
    ("infinite", |held| newest(held, f64::INFINITY), GapKind::NotACount),
    (
        "minus infinite",
        |held| newest(held, f64::NEG_INFINITY),
        GapKind::NotACount,
    ),
    ("negative", |held| newest(held, -1.0), GapKind::NotACount),
    ("counter fell", |held| newest(held, 1.0), GapKind::ResetUnproven),
    ("stale baseline", |held| until(held, STABLE, -16), GapKind::Stale),
    ("stale canary", |held| until(held, CANARY, -16), GapKind::Stale),
    (
        "the same pod scraped by two jobs",
        |held| {
            let (mut labels, samples) = held.series.first().expect("one").clone();
            labels.insert("job".to_owned(), "again".to_owned());
            held.series.push((labels, samples));
        },
        GapKind::ExtraSeries,
    ),
    (
        "the same series from two replicas",
        |held| {
            let (mut labels, samples) = held.series.first().expect("one").clone();
            labels.insert("prometheus_replica".to_owned(), "b".to_owned());
            held.series.push((labels, samples));
        },
        GapKind::ExtraSeries,
    ),
    (
        "the same series twice with different values",
        |held| {
            let (labels, mut samples) = held.series.first().expect("one").clone();
            shift(&mut samples, 1.0);
            held.series.push((labels, samples));
        },
        GapKind::Disagree,
    ),
    (
        "errors cannot be told by a code",
        |held| {
            for (labels, _) in &mut held.series {
                labels.remove("code");
            }
        },
        GapKind::QueryError,
    ),
    (
        "nothing from before the tick",
        |held| {
            for (_, samples) in &mut held.series {
                samples.retain(|sample| sample.at > (T0 - 5) * 1000);
            }
        },
        GapKind::ShortWindow,
    ),
    (
        "a warning",
        |held| {
            reply(
                held,
                200,
                r#"{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["x"]}"#,
            );
        },
        GapKind::Warning,
    ),
    (
        "a query error",
        |held| reply(held, 422, r#"{"status":"error","errorType":"execution","error":"x"}"#),
        GapKind::QueryError,
    ),
    (
        "a time-out at the server",
        |held| reply(held, 503, r#"{"status":"error","errorType":"timeout","error":"x"}"#),
        GapKind::Timeout,
    ),
    ("an error page", |held| reply(held, 502, "<html>"), GapKind::QueryError),
    (
        "refused credentials",
        |held| reply(held, 401, ""),
        GapKind::Unauthorized,
    ),
    ("a forbidden query", |held| reply(held, 403, ""), GapKind::Unauthorized),
    (
        "a redirect, which is not followed",
        |held| {
            held.instead = Some(Arc::new(|_| {
                Some(ResponseTemplate::new(307).insert_header("location", "/prefix/api/v1/query"))
            }));
        },
        GapKind::QueryError,
    ),
    ("a clock ahead", |held| held.ahead = 12, GapKind::Skewed),
    ("a clock behind", |held| held.ahead = -13, GapKind::Skewed),
];

#[tokio::test]
async fn every_doubt_makes_the_tick_incomplete_by_its_name() {
    for (name, tweak, expected) in DOUBTS {
        let server = healthy().await;
        server.with(tweak);
        let answer = only(&mut server.plane(), server.now(0), &http_errors()).await;
        assert!(kinds(&answer).contains(&expected), "{name}: {answer:?}");
    }
}

const SOUND: [(&str, Tweak, [[f64; 2]; 2]); 6] = [
    (
        "no error series, with traffic, is zero errors",
        |held| held.series.truncate(2),
        [[0.0, 1.0], [0.0, 20.0]],
    ),
    (
        "no series of the canary yet is zero requests",
        |held| retain(held, |pod| pod == STABLE),
        [[0.0, 0.0], [0.0, 20.0]],
    ),
    (
        "a quiet service is zero requests",
        |held| {
            for (_, samples) in &mut held.series {
                for sample in samples {
                    sample.value = 7.0;
                }
            }
        },
        [[0.0, 0.0], [0.0, 0.0]],
    ),
    (
        "the first error of a known pod counts",
        |held| {
            let series = held.series.last_mut().expect("errors");
            series.1 = samples(&[(0, 3.0)]);
        },
        [[3.0, 4.0], [0.0, 20.0]],
    ),
    (
        "a restart that the start time proves",
        |held| {
            for (labels, samples) in &mut held.series {
                if labels.get("pod").is_some_and(|pod| pod == CANARY) {
                    samples.retain(|sample| sample.at <= T0 * 1000);
                    samples.last_mut().expect("samples").value = 2.0;
                }
            }
            let name = format!(
                r#"process_start_time_seconds{{job="pods",instance="{CANARY}:80",namespace="shop",pod="{CANARY}"}}"#
            );
            let start = |at: f64| at + 1_795_276_900.0;
            held.series.push((
                labels(&name),
                samples(&[(-10, start(0.0)), (-5, start(0.0)), (0, start(57.0))]),
            ));
        },
        [[2.5, 5.0], [0.0, 20.0]],
    ),
    (
        "pods of a longer name beside them are nobody's",
        |held| {
            let name = series("http_requests_total", "checkout-api-7d9f8b6c5d-x2x4b", "500");
            held.series.push((labels(&name), rising(9000.0, 900.0)));
            let name = series("http_requests_total", "checkout-db-x2x4b", "500");
            held.series.push((labels(&name), rising(9000.0, 900.0)));
        },
        [[1.0, 2.0], [0.0, 20.0]],
    ),
];

#[tokio::test]
async fn what_is_sound_is_counted_exactly() {
    for (name, tweak, [canary, baseline]) in SOUND {
        let server = healthy().await;
        server.with(tweak);
        let answer = only(&mut server.plane(), server.now(0), &http_errors()).await;
        let expected = tick(0, arm(canary[0], canary[1]), arm(baseline[0], baseline[1]));
        assert_eq!(answer.evidence, expected, "{name}");
    }
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let mut connection = healthy().await.connection();
    connection.url = format!("http://{address}");
    let answer = only(&mut plane(connection), Millis(T0 * 1000 + 6000), &http_errors()).await;
    assert_eq!(kinds(&answer), [GapKind::Unreachable]);
}

#[tokio::test]
async fn a_slow_answer_is_a_time_out() {
    let server = healthy().await;
    server.with(|held| {
        held.instead = Some(Arc::new(|_| {
            Some(ResponseTemplate::new(200).set_delay(Duration::from_mins(1)))
        }));
    });
    let mut connection = server.connection();
    connection.timeout_seconds = 1;
    let answer = only(&mut plane(connection), server.now(0), &http_errors()).await;
    assert_eq!(kinds(&answer), [GapKind::Timeout]);
}

#[tokio::test]
async fn a_canary_that_vanishes_is_missing_and_not_quiet() {
    let server = healthy().await;
    let mut plane = server.plane();
    only(&mut plane, server.now(0), &http_errors()).await;
    server.with(|held| retain(held, |pod| pod == STABLE));
    let answer = only(&mut plane, server.now(10), &http_errors()).await;
    assert_eq!(kinds(&answer), [GapKind::CanaryMissing]);
}

#[tokio::test]
async fn after_a_gap_the_next_tick_covers_its_time() {
    let server = healthy().await;
    let mut plane = server.plane();
    only(&mut plane, server.now(0), &http_errors()).await;
    server.with(|held| reply(held, 503, "down"));
    for seconds in [10, 20] {
        let answer = only(&mut plane, server.now(seconds), &http_errors()).await;
        assert_eq!(kinds(&answer), [GapKind::QueryError]);
    }
    server.with(|held| held.instead = None);
    let answer = only(&mut plane, server.now(30), &http_errors()).await;
    assert_eq!(answer.evidence, tick(30, arm(3.0, 6.0), arm(0.0, 60.0)));
}

#[tokio::test]
async fn an_overlapping_read_that_disagrees_is_told_once() {
    let server = healthy().await;
    let mut plane = server.plane();
    only(&mut plane, server.now(0), &http_errors()).await;
    server.with(|held| {
        for (_, samples) in &mut held.series {
            shift(samples, 1.0);
        }
    });
    let answer = only(&mut plane, server.now(10), &http_errors()).await;
    assert!(kinds(&answer).contains(&GapKind::Disagree), "{answer:?}");
    let answer = only(&mut plane, server.now(20), &http_errors()).await;
    assert_eq!(answer.evidence, tick(20, arm(1.0, 2.0), arm(0.0, 20.0)));
}

#[tokio::test]
async fn an_unproven_fall_costs_its_own_tick_only() {
    let server = healthy().await;
    let mut plane = server.plane();
    server.with(|held| {
        for (_, samples) in &mut held.series {
            for sample in samples.iter_mut().filter(|sample| sample.at >= (T0 + 5) * 1000) {
                sample.value -= 20.0;
            }
        }
    });
    only(&mut plane, server.now(0), &http_errors()).await;
    let answer = only(&mut plane, server.now(10), &http_errors()).await;
    assert!(kinds(&answer).contains(&GapKind::ResetUnproven), "{answer:?}");
    let answer = only(&mut plane, server.now(20), &http_errors()).await;
    assert_eq!(answer.evidence, tick(20, arm(1.0, 2.0), arm(0.0, 20.0)));
}

#[tokio::test]
async fn bad_and_all_by_selectors_of_their_own_are_joined_and_cut() {
    let server = StandIn::start().await;
    for (pod, bad, total) in [(STABLE, 1.0, 10.0), (CANARY, 3.0, 2.0)] {
        server.hold(&series("orders_failed_total", pod, ""), rising(100.0, bad));
        server.hold(&series("orders_total", pod, ""), rising(1000.0, total));
    }
    let gates = [gate("shop", "checkout", vec![orders()])];
    let mut plane = server.plane();
    let answer = only(&mut plane, server.now(0), &gates).await;
    assert_eq!(answer.evidence, tick(0, arm(4.0, 4.0), arm(2.0, 20.0)));
    assert_eq!(plane.costs().clamped, 1);
    assert_eq!(plane.costs().queries, 2);
}

#[tokio::test]
async fn a_namespace_that_may_not_use_the_source_is_not_asked_for() {
    let server = healthy().await;
    let mut connection = server.connection();
    connection.allowed_namespaces = vec!["team-*".to_owned()];
    let answer = only(&mut plane(connection), server.now(0), &http_errors()).await;
    assert_eq!(kinds(&answer), [GapKind::Unauthorized]);
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn arms_that_cannot_be_told_apart_are_refused() {
    let server = healthy().await;
    let by_pod = || vec![ratio(RatioPreset::HttpErrors)];
    let by_gateway = || vec![ratio(RatioPreset::GatewayErrors)];
    for pair in [
        [
            gate("shop", "checkout", by_pod()),
            gate("shop", "checkout-canary", by_pod()),
        ],
        [gate("a", "b-c", by_gateway()), gate("a-b", "c", by_gateway())],
        [gate("a", "b--c", by_gateway()), gate("a", "b-c", by_gateway())],
    ] {
        let collected = server.plane().collect(server.now(0), &pair).await;
        for Answer { evidence, .. } in collected.into_iter().flat_map(|gate| gate.metrics) {
            let Evidence::Incomplete(gaps) = evidence else {
                panic!("refused: {pair:?}");
            };
            assert_eq!(gaps.first().map(|gap| gap.kind), Some(GapKind::ExtraSeries));
        }
    }
}

#[tokio::test]
async fn a_hundred_gates_share_one_query_per_shape() {
    let server = StandIn::start().await;
    let mut gates = Vec::new();
    for place in 0..100 {
        let (namespace, name) = (format!("team-{}", place % 10), format!("app-{place}"));
        let by = 1.0 + f64::from(place);
        for (pod, by) in [("7d9f8b6c5d-x2x4b", by), ("canary-6c5b4d8f79-zk2vw", by / 2.0)] {
            server.hold(
                &format!(
                    r#"http_requests_total{{instance="{place}",namespace="{namespace}",pod="{name}-{pod}",code="200"}}"#
                ),
                rising(10_000.0, by),
            );
        }
        gates.push(gate(&namespace, &name, vec![ratio(RatioPreset::HttpErrors), orders()]));
    }
    let mut plane = server.plane();
    let collected = plane.collect(server.now(0), &gates).await;
    assert_eq!(server.asked().len(), 3);
    for (place, gate) in (0..).zip(&collected) {
        let by = 1.0 + f64::from(place);
        let expected = tick(0, arm(0.0, by), arm(0.0, 2.0 * by));
        assert_eq!(
            gate.metrics.first().map(|answer| &answer.evidence),
            Some(&expected),
            "{}",
            gate.gate
        );
        assert_eq!(gate.metrics.get(1).map(kinds), Some(vec![GapKind::NoEvidence]));
    }
    assert_eq!(plane.series(), 200);
    plane.collect(server.now(10), &[]).await;
    assert!(server.asked().is_empty(), "gates that left are not asked for");
}

#[tokio::test]
async fn one_tenants_flood_blinds_nobody_else() {
    let server = StandIn::start().await;
    let mut gates = Vec::new();
    for tenant in ["a", "b", "c", "d", "flood"] {
        for pod in [STABLE, CANARY] {
            let name = series("http_requests_total", pod, "200").replace("shop", tenant);
            server.hold(&name, rising(1000.0, 1.0));
        }
        gates.push(gate(tenant, "checkout", vec![ratio(RatioPreset::HttpErrors)]));
    }
    for path in 0..1000 {
        let name = series("http_requests_total", STABLE, "200").replace("shop", "flood");
        server.hold(
            &name.replace("code=", &format!(r#"path="{path}",code="#)),
            rising(1000.0, 1.0),
        );
    }
    let mut connection = server.connection();
    connection.max_body_bytes = 65_536;
    let mut plane = plane(connection);
    for (seconds, queries) in [(0, None), (10, Some(4))] {
        let collected = plane.collect(server.now(seconds), &gates).await;
        for gate in &collected {
            let answer = gate.metrics.first().expect("one metric");
            if gate.gate.starts_with("flood") {
                assert_eq!(kinds(answer), [GapKind::Oversized]);
            } else {
                assert_eq!(
                    answer.evidence,
                    tick(seconds, arm(0.0, 2.0), arm(0.0, 2.0)),
                    "{}",
                    gate.gate
                );
            }
        }
        let asked = server.asked().len();
        assert!(queries.is_none_or(|most| asked <= most), "{asked} queries");
    }
}

#[tokio::test]
async fn a_selector_of_the_user_that_matches_our_labels_is_named() {
    let spec = RatioSpec {
        preset: None,
        bad: Some("orders_failed_total".to_owned()),
        total: Some(r#"orders_total{namespace=~".*"}"#.to_owned()),
    };
    let metric = MetricQuery {
        name: "orders".to_owned(),
        measure: spec.measure().expect("selectors"),
    };
    let server = healthy().await;
    let error = metric.check(&server.connection()).expect_err("ours").to_string();
    assert!(error.contains("ratio.total") && error.contains("namespace"), "{error}");
    let answer = only(
        &mut server.plane(),
        server.now(0),
        &[gate("shop", "checkout", vec![metric])],
    )
    .await;
    assert!(kinds(&answer).contains(&GapKind::QueryError));
    assert!(
        server
            .asked()
            .iter()
            .all(|query| query.starts_with("orders_failed_total"))
    );
}

fn recorded() -> Vec<(super::arms::Labels, Vec<super::reply::Sample>)> {
    let body = include_bytes!("recordings/traefik-3.6-matrix.json");
    let series = super::reply::decode(200, body).expect("a recorded answer");
    series
        .into_iter()
        .map(|series| (series.labels, series.samples))
        .collect()
}

#[tokio::test]
async fn the_gateways_recorded_counters_are_told_apart_by_arm() {
    let server = StandIn::start().await;
    server.with(|held| held.series = recorded());
    let gates = [gate("shop", "checkout", vec![ratio(RatioPreset::GatewayErrors)])];
    let mut connection = server.connection();
    connection.scrape_seconds = 1;
    let answer = only(&mut plane(connection), server.now(0), &gates).await;
    let Evidence::Complete(tick) = answer.evidence else {
        panic!("complete: {answer:?}");
    };
    assert_eq!((tick.canary, tick.baseline), (arm(7.0, 100.0), arm(0.0, 1900.0)));
    assert!(tick.baseline_pods.is_empty(), "a gateway does not tell pods apart");
}

/// A scrape in the text format as series that were zero at one time and as scraped ten seconds
/// later.
fn scraped(server: &StandIn, text: &str, more: &str) {
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("name and value");
        let mut labels = labels(name);
        labels.extend(super::stand_in::labels(more));
        labels.insert("__name__".to_owned(), super::stand_in::labels(name)["__name__"].clone());
        let value = value.parse().expect("a value");
        server.with(|held| held.series.push((labels, samples(&[(-10, 0.0), (0, value)]))));
    }
}

#[tokio::test]
async fn the_gateways_recorded_durations_are_told_apart_by_arm() {
    let server = StandIn::start().await;
    scraped(
        &server,
        include_str!("recordings/traefik-3.6-scrape.txt"),
        r#"x{job="gateway",instance="gateway:8082"}"#,
    );
    let mut plane = server.plane();
    let without = [gate(
        "shop",
        "checkout",
        vec![histogram(HistogramPreset::GatewayDuration, None)],
    )];
    let answer = only(&mut plane, server.now(0), &without).await;
    assert_eq!(kinds(&answer), [GapKind::ShortWindow]);
    let edges = answer.edges.expect("chosen");
    assert_eq!(edges, [0.005, 0.01]);
    let mut plane = server.plane();
    let with = [gate(
        "shop",
        "checkout",
        vec![histogram(HistogramPreset::GatewayDuration, Some(edges))],
    )];
    let answer = only(&mut plane, server.now(0), &with).await;
    let Evidence::Complete(tick) = answer.evidence else {
        panic!("complete: {answer:?}");
    };
    assert_eq!(tick.baseline.events, [9600.0 - 8097.0, 9600.0 - 9448.0]);
    assert_eq!(tick.baseline.total, 9600.0);
    assert_eq!(tick.canary.events, [400.0 - 334.0, 400.0 - 391.0]);
    assert_eq!(tick.canary.total, 400.0);
    let asked = server.asked().pop().expect("a query");
    assert!(asked.contains(r#"le=~"0\\.005|0\\.01|\\+Inf""#), "{asked}");
}

#[tokio::test]
async fn the_applications_recorded_metrics_are_told_apart_by_pod() {
    let server = StandIn::start().await;
    for pod in [STABLE, CANARY] {
        let target = format!(r#"x{{job="pods",instance="{pod}",namespace="shop",pod="{pod}"}}"#);
        scraped(&server, include_str!("recordings/app-scrape.txt"), &target);
    }
    let metrics = vec![
        ratio(RatioPreset::HttpErrors),
        orders(),
        histogram(HistogramPreset::HttpDuration, Some(vec![0.01])),
    ];
    let collected = server
        .plane()
        .collect(server.now(0), &[gate("shop", "checkout", metrics)])
        .await;
    for (answer, events) in collected[0].metrics.iter().zip([30.0, 30.0, 9.0]) {
        assert_eq!(answer.evidence, tick(0, arm(events, 400.0), arm(events, 400.0)));
    }
}

#[tokio::test]
async fn a_histogram_without_the_edge_is_named() {
    let server = StandIn::start().await;
    for pod in [STABLE, CANARY] {
        let target = format!(r#"x{{job="pods",instance="{pod}",namespace="shop",pod="{pod}"}}"#);
        scraped(&server, include_str!("recordings/app-scrape.txt"), &target);
    }
    let metrics = vec![histogram(HistogramPreset::HttpDuration, Some(vec![0.02]))];
    let answer = only(&mut server.plane(), server.now(0), &[gate("shop", "checkout", metrics)]).await;
    assert!(kinds(&answer).contains(&GapKind::QueryError), "{answer:?}");
}

proptest::proptest! {
    #[test]
    fn whatever_the_samples_a_complete_tick_has_counts_only(
        series in proptest::collection::vec(
            (0_usize..2, proptest::collection::vec((-30_i64..1, proptest::prelude::any::<f64>()), 0..8)),
            0..6,
        )
    ) {
        let mut memory = super::memory::Memory::default();
        let connection = super::connection::ConnectionSpec::to("http://prometheus");
        let codes = ["200", "500", "503", "404", "5xx", "200"];
        let mut keys = [Vec::new(), Vec::new()];
        for ((arm, pairs), code) in series.into_iter().zip(codes) {
            let name = self::series("http_requests_total", [STABLE, CANARY][arm], code);
            let series = super::reply::Series { labels: labels(&name), samples: samples(&pairs) };
            keys[arm].push(memory.take(&connection, series, T0 * 1000));
        }
        let side = |arm: usize| keys[arm].iter().filter_map(|key| memory.track(key)).collect();
        let total = super::tally::Sides { baseline: side(0), canary: side(1) };
        let progress = super::tally::Progress { since: (T0 - 10) * 1000, ..Default::default() };
        let frame = super::tally::Frame { memory: &memory, connection: &connection, progress: &progress, to: T0 * 1000 };
        let metric = ratio(RatioPreset::HttpErrors);
        match frame.tally(&metric.measure, &total, &super::tally::Sides::default()) {
            Ok(tallied) => for arm in [&tallied.tick.canary, &tallied.tick.baseline] {
                assert!(arm.total.is_finite() && arm.total >= 0.0, "{arm:?}");
                assert!(arm.events.iter().all(|events| *events >= 0.0 && *events <= arm.total), "{arm:?}");
            },
            Err(gaps) => assert!(!gaps.is_empty()),
        }
    }
}
