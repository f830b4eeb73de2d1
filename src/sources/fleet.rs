//! Many gates on one source: who is told apart, who shares a query, who blinds whom; and recorded
//! answers of real gateways and applications.
#![expect(
    clippy::float_cmp,
    clippy::indexing_slicing,
    reason = "small whole numbers, exact; a test may panic"
)]

use super::metric::{HistogramPreset, Measure, MetricQuery, RatioPreset, RatioSpec};
use super::stand_in::{
    CANARY, STABLE, StandIn, arm, gate, healthy, histogram, http_errors, kinds, labels, only, orders, plane, ratio,
    rising, samples, series, tick,
};
use super::subscription::Answer;
use crate::decision::{Evidence, GapKind};

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
        good: None,
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
    assert_eq!(edges, [0.005, 0.005, 0.01]);
    let mut plane = server.plane();
    let mut asked = histogram(HistogramPreset::GatewayDuration, None);
    if let Measure::Tails(tails) = &asked.measure {
        asked.measure = Measure::Tails(tails.clone().at(edges));
    }
    let with = [gate("shop", "checkout", vec![asked])];
    let answer = only(&mut plane, server.now(0), &with).await;
    let Evidence::Complete(tick) = answer.evidence else {
        panic!("complete: {answer:?}");
    };
    assert_eq!(
        tick.baseline.events,
        [9600.0 - 8097.0, 9600.0 - 8097.0, 9600.0 - 9448.0]
    );
    assert_eq!(tick.baseline.total, 9600.0);
    assert_eq!(tick.canary.events, [400.0 - 334.0, 400.0 - 334.0, 400.0 - 391.0]);
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
