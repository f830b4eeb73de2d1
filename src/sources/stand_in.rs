//! A stand-in for Prometheus: it holds series, and answers a query for raw samples as Prometheus
//! does, after parsing it with a parser that is not ours. Anything else is an exact reply.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use promql_parser::parser::{Expr, parse};
use serde_json::json;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers};

use super::arms::Labels;
use super::connection::ConnectionSpec;
use super::metric::{HistogramPreset, HistogramSpec, MetricQuery, RatioPreset, RatioSpec};
use super::prometheus::Plane;
use super::reply::Sample;
use super::subscription::{Answer, Subscription};
use crate::decision::{Arm, Evidence, GapKind, Millis, Tick};

/// A multiple of ten seconds, in seconds since 1970.
pub(super) const T0: i64 = 1_795_276_960;

/// A reply instead of the data.
pub(super) type Instead = Arc<dyn Fn(&str) -> Option<ResponseTemplate> + Send + Sync>;

#[derive(Default)]
pub(super) struct Held {
    pub(super) series: Vec<(Labels, Vec<Sample>)>,
    pub(super) queries: Vec<String>,
    pub(super) instead: Option<Instead>,
    /// How far the server's clock is ahead of the plane's, in seconds.
    pub(super) ahead: i64,
    /// The plane's clock, in milliseconds.
    now: i64,
}

/// A running stand-in.
pub(super) struct StandIn {
    server: MockServer,
    held: Arc<Mutex<Held>>,
}

struct Answers(Arc<Mutex<Held>>);

/// Labels from `name{a="1"}`; read by a parser that is not ours.
pub(super) fn labels(text: &str) -> Labels {
    let Ok(Expr::VectorSelector(selector)) = parse(text) else {
        panic!("not a series: {text}");
    };
    let name = selector.name.map(|name| ("__name__".to_owned(), name));
    let rest = selector
        .matchers
        .matchers
        .into_iter()
        .map(|matcher| (matcher.name, matcher.value));
    name.into_iter().chain(rest).collect()
}

/// Samples at whole seconds relative to [`T0`].
pub(super) fn samples(pairs: &[(i64, f64)]) -> Vec<Sample> {
    let sample = |&(second, value): &(i64, f64)| Sample {
        at: (T0 + second) * 1000,
        value,
    };
    pairs.iter().map(sample).collect()
}

/// A counter scraped every five seconds from 40 s before [`T0`] to 60 s after it, which is `at`
/// at [`T0`] and rises by `by` from scrape to scrape.
pub(super) fn rising(at: f64, by: f64) -> Vec<Sample> {
    let pairs: Vec<(i64, f64)> = (-8_i32..=12)
        .map(|scrape| (i64::from(scrape) * 5, at + by * f64::from(scrape)))
        .collect();
    samples(&pairs)
}

impl StandIn {
    pub(super) async fn start() -> Self {
        let server = MockServer::start().await;
        let held = Arc::new(Mutex::new(Held::default()));
        Mock::given(matchers::method("POST"))
            .and(matchers::path("/prefix/api/v1/query"))
            .respond_with(Answers(held.clone()))
            .mount(&server)
            .await;
        Self { server, held }
    }

    /// Changes what it holds.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        change(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn hold(&self, text: &str, samples: Vec<Sample>) {
        self.with(|held| held.series.push((labels(text), samples)));
    }

    /// The queries since the last call.
    pub(super) fn asked(&self) -> Vec<String> {
        self.with(|held| std::mem::take(&mut held.queries))
    }

    /// A moment at which the tick that ends `seconds` after [`T0`] is the newest.
    pub(super) fn now(&self, seconds: i64) -> Millis {
        let now = (T0 + seconds) * 1000 + 6_000;
        self.with(|held| held.now = now);
        Millis(now)
    }

    pub(super) fn connection(&self) -> ConnectionSpec {
        ConnectionSpec {
            scrape_seconds: 5,
            ..ConnectionSpec::to(&format!("{}/prefix/", self.server.uri()))
        }
    }

    pub(super) fn plane(&self) -> Plane {
        plane(self.connection())
    }
}

pub(super) fn plane(connection: ConnectionSpec) -> Plane {
    later(connection, Millis(0))
}

/// A plane whose ticks end so long after multiples of the interval.
pub(super) fn later(connection: ConnectionSpec, offset: Millis) -> Plane {
    let client = connection.client(&std::collections::BTreeMap::new()).expect("a client");
    Plane::new(connection, client, offset).expect("a plane")
}

impl Respond for Answers {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let form: HashMap<String, String> =
            reqwest::Url::parse(&format!("x:?{}", String::from_utf8_lossy(&request.body)))
                .expect("a form")
                .query_pairs()
                .into_owned()
                .collect();
        let query = form.get("query").expect("a query").clone();
        held.queries.push(query.clone());
        let seconds = held.now.div_euclid(1000) + held.ahead;
        let date = jiff::Timestamp::from_second(seconds).expect("a time");
        let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let instead = held.instead.as_ref().and_then(|instead| instead(&query));
        let to: f64 = form.get("time").and_then(|time| time.parse().ok()).expect("a time");
        instead
            .unwrap_or_else(|| found(&held.series, &query, to))
            .insert_header("date", date)
    }
}

/// What Prometheus answers: the window is open at its start and closed at its end.
fn found(series: &[(Labels, Vec<Sample>)], query: &str, to: f64) -> ResponseTemplate {
    // a selector with a range, or as a subquery at whole minutes
    let (selector, range, minutely) = match parse(query) {
        Ok(Expr::MatrixSelector(matrix)) => (matrix.vs, matrix.range, false),
        Ok(Expr::Subquery(sub)) if sub.step == Some(Duration::from_mins(1)) => match *sub.expr {
            Expr::VectorSelector(selector) => (selector, sub.range, true),
            other => panic!("not a series: {other}"),
        },
        _ => {
            let body = json!({"status": "error", "errorType": "bad_data", "error": query});
            return ResponseTemplate::new(400).set_body_json(body);
        }
    };
    let empty = String::new();
    let from = to - range.as_secs_f64();
    let mut rows = Vec::new();
    for (labels, samples) in series {
        let value = |name: &str| labels.get(name).unwrap_or(&empty);
        let named = selector.name.as_ref().is_none_or(|name| value("__name__") == name);
        if !named
            || !selector
                .matchers
                .matchers
                .iter()
                .all(|matcher| matcher.is_match(value(&matcher.name)))
        {
            continue;
        }
        let samples = if minutely { at_minutes(samples) } else { samples.clone() };
        let values: Vec<_> = samples
            .iter()
            .map(|sample| {
                (
                    Duration::from_millis(sample.at.unsigned_abs()).as_secs_f64(),
                    sample.value,
                )
            })
            .filter(|(at, _)| *at > from && *at <= to)
            .map(|(at, value)| json!([at, text(value)]))
            .collect();
        if !values.is_empty() {
            rows.push(json!({"metric": labels, "values": values}));
        }
    }
    let body = json!({"status": "success", "data": {"resultType": "matrix", "result": rows}});
    ResponseTemplate::new(200).set_body_json(body)
}

/// The value at each whole minute: that of the newest sample within five minutes before it.
fn at_minutes(samples: &[Sample]) -> Vec<Sample> {
    let ends = samples.first().into_iter().chain(samples.last());
    let [first, last] = [i64::MAX, i64::MIN].map(|start| {
        ends.clone().fold(start, |end, sample| {
            if start > 0 {
                end.min(sample.at)
            } else {
                end.max(sample.at)
            }
        })
    });
    let minutes = (first / 60_000)..=(last / 60_000 + 5);
    let value = |minute: i64| {
        let at = minute * 60_000;
        let newest = samples
            .iter()
            .rfind(|sample| sample.at <= at && sample.at > at - 300_000)?;
        Some(Sample {
            at,
            value: newest.value,
        })
    };
    minutes.filter_map(value).collect()
}

fn text(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    value.to_string()
}

pub(super) const STABLE: &str = "checkout-7d9f8b6c5d-x2x4b";
pub(super) const CANARY: &str = "checkout-canary-6c5b4d8f79-zk2vw";

pub(super) fn gate(namespace: &str, name: &str, metrics: Vec<MetricQuery>) -> Subscription {
    Subscription {
        gate: format!("{namespace}/{name}"),
        namespace: namespace.to_owned(),
        workload: name.to_owned(),
        canary_workload: format!("{name}-canary"),
        service: name.to_owned(),
        canary_service: format!("{name}-canary"),
        port: Some(80),
        ago: Millis(0),
        metrics,
        unknown: BTreeSet::new(),
    }
}

pub(super) fn ratio(preset: RatioPreset) -> MetricQuery {
    let spec = RatioSpec {
        preset: Some(preset),
        ..RatioSpec::default()
    };
    MetricQuery {
        name: "errors".to_owned(),
        measure: spec.measure().expect("a preset"),
    }
}

pub(super) fn orders() -> MetricQuery {
    let spec = RatioSpec {
        preset: None,
        bad: Some("orders_failed_total".to_owned()),
        good: None,
        total: Some("orders_total".to_owned()),
    };
    MetricQuery {
        name: "orders".to_owned(),
        measure: spec.measure().expect("selectors"),
    }
}

/// Completed ones of all checkouts.
pub(super) fn conversions() -> MetricQuery {
    let spec = RatioSpec {
        good: Some("orders_completed_total".to_owned()),
        total: Some("checkouts_total".to_owned()),
        ..RatioSpec::default()
    };
    MetricQuery {
        name: "conversions".to_owned(),
        measure: spec.measure().expect("selectors"),
    }
}

pub(super) fn histogram(preset: HistogramPreset, edges: Option<Vec<f64>>) -> MetricQuery {
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

pub(super) fn http_errors() -> Vec<Subscription> {
    vec![gate("shop", "checkout", vec![ratio(RatioPreset::HttpErrors)])]
}

pub(super) fn series(metric: &str, pod: &str, code: &str) -> String {
    format!(r#"{metric}{{job="pods",instance="{pod}:80",namespace="shop",pod="{pod}",code="{code}"}}"#)
}

/// Stable answers 20 requests per tick, the canary 2, one of them with an error.
pub(super) async fn healthy() -> StandIn {
    let server = StandIn::start().await;
    server.hold(&series("http_requests_total", STABLE, "200"), rising(1000.0, 10.0));
    server.hold(&series("http_requests_total", CANARY, "200"), rising(100.0, 0.5));
    server.hold(&series("http_requests_total", CANARY, "500"), rising(50.0, 0.5));
    server
}

pub(super) async fn only(plane: &mut Plane, now: Millis, gates: &[Subscription]) -> Answer {
    let mut collected = plane.collect(now, gates).await;
    assert_eq!(collected.len(), 1, "one gate");
    collected.remove(0).metrics.remove(0)
}

pub(super) fn arm(events: f64, total: f64) -> Arm {
    Arm {
        events: vec![events],
        total,
    }
}

pub(super) fn tick(seconds: i64, canary: Arm, baseline: Arm) -> Evidence<Tick> {
    Evidence::Complete(Tick {
        at: Millis((T0 + seconds) * 1000),
        canary,
        baseline_pods: vec![baseline.clone()],
        baseline,
    })
}

pub(super) fn kinds(answer: &Answer) -> Vec<GapKind> {
    match &answer.evidence {
        Evidence::Complete(tick) => panic!("complete: {tick:?}"),
        Evidence::Incomplete(gaps) => gaps.iter().map(|gap| gap.kind).collect(),
    }
}
