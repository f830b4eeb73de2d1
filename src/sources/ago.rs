//! What evidence a baseline of a past time gives, row by row.
#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeSet;

use super::metric::{HistogramPreset, RatioPreset};
use super::reply::Sample;
use super::stand_in::{
    CANARY, Held, STABLE, StandIn, T0, arm, gate, healthy, histogram, http_errors, kinds, labels, only, ratio, rising,
    samples, series, tick,
};
use super::subscription::Subscription;
use crate::decision::{Arm, Evidence, GapKind, Millis};

/// An hour and a half, and half a minute: no whole minute.
const AGO: i64 = 5430;
/// A pod of stable that has gone since.
const GONE: &str = "checkout-5c4d7b9f8d-k8w5t";

fn past(mut gates: Vec<Subscription>) -> Vec<Subscription> {
    for gate in &mut gates {
        gate.ago = Millis::from_secs(AGO);
    }
    gates
}

/// The same samples, so much earlier.
fn earlier(mut all: Vec<Sample>) -> Vec<Sample> {
    for sample in &mut all {
        sample.at -= AGO * 1000;
    }
    all
}

/// Now stable answers 20 requests per tick and the canary 2. Then stable had two pods with 30 and 8
/// requests per tick, one of the 8 with an error, and a canary of those days was failing.
async fn remembering() -> StandIn {
    let server = healthy().await;
    for (pod, code, by) in [
        (STABLE, "200", 15.0),
        (GONE, "200", 3.5),
        (GONE, "500", 0.5),
        (CANARY, "500", 80.0),
        ("checkout-canary-7d9f8b6c5d-zk2vw", "500", 40.0),
    ] {
        let held = series("http_requests_total", pod, code);
        server.with(|all| all.series.push((labels(&held), earlier(rising(5000.0, by)))));
    }
    server
}

fn counted(seconds: i64) -> Evidence<crate::decision::Tick> {
    let Evidence::Complete(mut wanted) = tick(seconds, arm(1.0, 2.0), arm(1.0, 38.0)) else {
        panic!("complete");
    };
    wanted.baseline_pods = vec![arm(1.0, 8.0), arm(0.0, 30.0)];
    Evidence::Complete(wanted)
}

#[tokio::test]
async fn the_canary_is_read_now_and_stable_as_it_was_dated_to_the_tick() {
    let server = remembering().await;
    let mut plane = server.plane();
    for seconds in [0, 10, 20] {
        let answer = only(&mut plane, server.now(seconds), &past(http_errors())).await;
        assert_eq!(answer.evidence, counted(seconds), "at {seconds} s");
        assert_eq!(answer.age, Some(Millis(0)));
        let asked: BTreeSet<String> = server.asked().into_iter().collect();
        let query = |pods: &str| format!(r#"http_requests_total{{namespace="shop",pod=~"(?:{pods})-.+"}}[26s]"#);
        assert_eq!(asked, [query("checkout"), query("checkout-canary")].into());
    }
}

#[tokio::test]
async fn gates_that_read_stable_of_now_and_of_then_share_a_question_and_no_count() {
    let server = remembering().await;
    let mut now = gate("shop", "checkout", vec![ratio(RatioPreset::HttpErrors)]);
    now.gate = "shop/now".to_owned();
    let gates: Vec<Subscription> = past(http_errors()).into_iter().chain([now]).collect();
    let mut plane = server.plane();
    for seconds in [0, 10] {
        let collected = plane.collect(server.now(seconds), &gates).await;
        let evidence: Vec<_> = collected.iter().map(|answer| &answer.metrics[0].evidence).collect();
        assert_eq!(
            evidence,
            [&counted(seconds), &tick(seconds, arm(1.0, 2.0), arm(0.0, 20.0))]
        );
        assert_eq!(server.asked().len(), 2, "one of now, one of then");
    }
}

type Tweak = fn(&mut Held);

/// Changes the samples of a pod's past.
fn then(held: &mut Held, pod: &str, change: impl Fn(&mut Vec<Sample>)) {
    for (labels, samples) in &mut held.series {
        let old = samples.last().is_some_and(|last| last.at < (T0 - 600) * 1000);
        if old && labels.get("pod").is_some_and(|found| found == pod) {
            change(samples);
        }
    }
}

fn end(seconds: i64) -> impl Fn(&mut Vec<Sample>) {
    move |samples| samples.retain(|sample| sample.at <= (T0 + seconds - AGO) * 1000)
}

fn fall(samples: &mut [Sample]) {
    for sample in samples.iter_mut().filter(|sample| sample.at > (T0 - 5 - AGO) * 1000) {
        sample.value -= 4980.0;
    }
}

#[tokio::test]
async fn a_doubt_about_the_past_makes_the_tick_incomplete_by_its_name() {
    let doubts: [(&str, Tweak, GapKind); 5] = [
        (
            "nothing is remembered of stable",
            |held| {
                then(held, STABLE, Vec::clear);
                then(held, GONE, Vec::clear);
            },
            GapKind::BaselineMissing,
        ),
        (
            "it ended before",
            |held| {
                then(held, STABLE, end(-16));
                then(held, GONE, end(-16));
            },
            GapKind::Stale,
        ),
        (
            "a counter fell",
            |held| then(held, GONE, |samples| fall(samples)),
            GapKind::ResetUnproven,
        ),
        (
            "no count",
            |held| {
                then(held, GONE, |samples| {
                    for sample in samples {
                        sample.value = f64::NAN;
                    }
                })
            },
            GapKind::NotACount,
        ),
        (
            "the canary of now is gone",
            |held| {
                for (_, samples) in &mut held.series {
                    samples.retain(|sample| sample.at < (T0 - 600) * 1000);
                }
            },
            GapKind::CanaryMissing,
        ),
    ];
    for (name, tweak, kind) in doubts {
        let server = remembering().await;
        let mut plane = server.plane();
        only(&mut plane, server.now(-10), &past(http_errors())).await;
        server.with(tweak);
        // what is read twice must agree, so the plane begins anew where the past changes
        let fresh = kind != GapKind::CanaryMissing;
        if fresh {
            plane = server.plane();
        }
        let answer = only(&mut plane, server.now(if fresh { 0 } else { 40 }), &past(http_errors())).await;
        assert!(kinds(&answer).contains(&kind), "{name}: {:?}", answer.evidence);
    }
}

#[tokio::test]
async fn a_restart_in_the_past_is_proved_by_what_was_exported_then() {
    let server = remembering().await;
    server.with(|held| then(held, GONE, |samples| fall(samples)));
    let started = |at: i64| {
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970")]
        let value = (T0 - AGO + at) as f64;
        value
    };
    let name =
        format!(r#"process_start_time_seconds{{job="pods",instance="{GONE}:80",namespace="shop",pod="{GONE}"}}"#);
    let starts = samples(&[(-10, started(-900)), (-5, started(-900)), (0, started(-3))]);
    server.hold(&name, earlier(starts));
    let answer = only(&mut server.plane(), server.now(0), &past(http_errors())).await;
    let Evidence::Complete(tick) = &answer.evidence else {
        panic!("{:?}", answer.evidence);
    };
    // the 20 that it has counted since, and what it counted before its last scrape
    let gone: &Arm = &tick.baseline_pods[0];
    assert_eq!((gone.total, tick.baseline_pods[1].total), (4.0 + 40.0, 30.0));
}

#[tokio::test]
async fn edges_are_chosen_from_stable_as_it_was() {
    let server = StandIn::start().await;
    for (le, now, then) in [
        ("0.1", 10.0, 99.0),
        ("0.5", 20.0, 99.5),
        ("1", 99.0, 99.9),
        ("+Inf", 100.0, 100.0),
    ] {
        let name = |pod: &str| {
            format!(
                r#"http_request_duration_seconds_bucket{{job="pods",instance="{pod}:80",namespace="shop",pod="{pod}",le="{le}"}}"#
            )
        };
        server.hold(&name(STABLE), rising(now * 10.0, now));
        server.hold(&name(CANARY), rising(now * 10.0, now));
        server.hold(&name(GONE), earlier(rising(then * 10.0, then)));
    }
    let gates = past(vec![gate(
        "shop",
        "checkout",
        vec![histogram(HistogramPreset::HttpDuration, None)],
    )]);
    let answer = only(&mut server.plane(), server.now(0), &gates).await;
    assert_eq!(answer.edges, Some(vec![0.1, 0.1, 0.1]), "{answer:?}");
}

#[tokio::test]
async fn the_hour_before_a_release_is_that_of_the_pods_it_is_compared_with() {
    let server = healthy().await;
    let long = |by: f64| {
        let pairs: Vec<(i64, f64)> = (-840_i32..=4)
            .map(|scrape| (i64::from(scrape) * 5, 100_000.0 + by * f64::from(scrape)))
            .collect();
        samples(&pairs)
    };
    for (pod, by) in [(STABLE, 10.0), (GONE, 2.0), (CANARY, 80.0)] {
        let name = series("http_requests_total", pod, "200");
        server.with(|held| held.series.push((labels(&name), earlier(long(by)))));
    }
    let mut gates = past(http_errors());
    gates[0].ago = Millis::from_secs(AGO);
    gates[0].unknown = BTreeSet::from([0]);
    let answer = only(&mut server.plane(), server.now(0), &gates).await;
    assert!(answer.past.len() >= 59, "{} minutes", answer.past.len());
    let last = T0.div_euclid(60) * 60;
    assert_eq!(answer.past.last().map(|tick| tick.at), Some(Millis::from_secs(last)));
    for tick in answer.past {
        assert_eq!(tick.baseline_pods, [arm(0.0, 24.0), arm(0.0, 120.0)]);
        assert_eq!(tick.canary, arm(0.0, 0.0));
    }
}
