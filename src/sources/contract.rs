//! What evidence each answer of a source gives, row by row.
#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use wiremock::ResponseTemplate;

use super::metric::RatioPreset;
use super::stand_in::{
    CANARY, Held, STABLE, StandIn, T0, arm, conversions, gate, healthy, http_errors, kinds, labels, later, only,
    orders, plane, ratio, rising, samples, series, tick,
};
use crate::decision::{Evidence, GapKind, Millis};

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

#[tokio::test]
async fn ticks_of_another_turn_end_by_its_offset_later() {
    let server = healthy().await;
    let now = server.now(0);
    for (offset, newest) in [(0, T0 * 1000), (2500, T0 * 1000 - 7500), (7500, T0 * 1000 - 2500)] {
        let mut plane = later(server.connection(), Millis(offset));
        assert_eq!(plane.tick(now), Millis(newest), "offset {offset}");
        let next = plane.next(now);
        assert_eq!(plane.tick(next), Millis(newest + 10_000), "offset {offset}");
        assert_eq!(plane.tick(Millis(next.0 - 1)), Millis(newest), "offset {offset}");
        let answer = only(&mut plane, now, &http_errors()).await;
        let Evidence::Complete(tick) = answer.evidence else {
            panic!("offset {offset}: {answer:?}");
        };
        assert_eq!(tick.at, Millis(newest));
    }
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
async fn a_baseline_that_begins_after_the_gate_counts_from_its_first_sample() {
    let server = healthy().await;
    server.with(|held| {
        for (_, samples) in &mut held.series {
            samples.retain(|sample| sample.at > (T0 - 5) * 1000);
        }
    });
    let mut plane = server.plane();
    let answer = only(&mut plane, server.now(0), &http_errors()).await;
    assert_eq!(kinds(&answer), [GapKind::ShortWindow]);
    let answer = only(&mut plane, server.now(10), &http_errors()).await;
    assert_eq!(answer.evidence, tick(10, arm(1.0, 2.0), arm(0.0, 20.0)));
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
async fn all_that_are_not_good_are_bad_and_no_more_are_good_than_there_are() {
    // good and all per tick, of stable and of the canary; bad ones of both, and how many were cut
    for (name, [stable, canary], [bad, bad_of_canary], cut) in [
        ("as counted", [[6.0, 10.0], [1.0, 2.0]], [8.0, 2.0], 0),
        ("all are good", [[10.0, 10.0], [2.0, 2.0]], [0.0, 0.0], 0),
        (
            "the canary's total was read too early",
            [[6.0, 10.0], [3.0, 2.0]],
            [8.0, 0.0],
            1,
        ),
        ("so was stable's", [[11.0, 10.0], [1.0, 2.0]], [0.0, 2.0], 1),
        ("so were both", [[11.0, 10.0], [3.0, 2.0]], [0.0, 0.0], 2),
    ] {
        let server = StandIn::start().await;
        for (pod, [good, total]) in [(STABLE, stable), (CANARY, canary)] {
            server.hold(&series("orders_completed_total", pod, ""), rising(100.0, good));
            server.hold(&series("checkouts_total", pod, ""), rising(1000.0, total));
        }
        let mut plane = server.plane();
        let answer = only(
            &mut plane,
            server.now(0),
            &[gate("shop", "checkout", vec![conversions()])],
        )
        .await;
        let expected = tick(0, arm(bad_of_canary, 2.0 * canary[1]), arm(bad, 2.0 * stable[1]));
        assert_eq!(answer.evidence, expected, "{name}");
        assert_eq!(plane.costs().clamped, cut, "{name}");
    }
}

#[tokio::test]
async fn a_canary_without_good_ones_is_bad_and_a_stable_without_any_is_no_evidence() {
    for (counted, evidence) in [(STABLE, Some(tick(0, arm(4.0, 4.0), arm(8.0, 20.0)))), (CANARY, None)] {
        let server = StandIn::start().await;
        for (pod, total) in [(STABLE, 10.0), (CANARY, 2.0)] {
            server.hold(&series("checkouts_total", pod, ""), rising(1000.0, total));
        }
        server.hold(&series("orders_completed_total", counted, ""), rising(100.0, 6.0));
        let mut plane = server.plane();
        let answer = only(
            &mut plane,
            server.now(0),
            &[gate("shop", "checkout", vec![conversions()])],
        )
        .await;
        match evidence {
            Some(evidence) => assert_eq!(answer.evidence, evidence),
            None => assert_eq!(kinds(&answer), [GapKind::BaselineMissing]),
        }
    }
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
            let series = super::reply::Series { labels: labels(&name), samples: samples(&pairs), natives: std::collections::BTreeMap::new() };
            keys[arm].push(memory.take((&connection, super::metric::Identity::Pod), series, T0 * 1000));
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
