//! Events over the time that pods were seen, row by row.

use super::metric::MetricQuery;
use super::reply::Sample;
use super::stand_in::{CANARY, Held, STABLE, StandIn, T0, arm, gate, kinds, labels, only, samples};
use super::subscription::{Answer, Subscription};
use super::{CountPreset, CountSpec};
use crate::decision::{Arm, Evidence, GapKind};

const OTHER: &str = "checkout-7d9f8b6c5d-zk2vw";

fn counted(preset: Option<CountPreset>, events: Option<&str>) -> Vec<Subscription> {
    let spec = CountSpec {
        preset,
        events: events.map(str::to_owned),
    };
    let query = MetricQuery {
        name: "restarts".to_owned(),
        measure: spec.measure().expect("a count"),
    };
    vec![gate("shop", "checkout", vec![query])]
}

/// Counters of one exporter, scraped every five seconds for so long, of this container of a pod.
fn told(metric: &str, pod: &str, container: &str) -> String {
    format!(r#"{metric}{{job="told",instance="told:8080",namespace="shop",pod="{pod}",container="{container}"}}"#)
}

fn flat(value: f64, seconds: std::ops::RangeInclusive<i64>) -> Vec<Sample> {
    let at = |second: &i64| second % 5 == 0;
    samples(&seconds.filter(at).map(|second| (second, value)).collect::<Vec<_>>())
}

fn hold(held: &mut Held, series: &str, samples: Vec<Sample>) {
    held.series.push((labels(series), samples));
}

const RESTARTS: &str = "kube_pod_container_status_restarts_total";
const KILLS: &str = "container_oom_events_total";

/// Stable's pod has been started three times, long ago.
fn stable(held: &mut Held, metric: &str) {
    hold(held, &told(metric, STABLE, "app"), flat(3.0, -40..=60));
}

type Tweak = fn(&mut Held);
type Wanted = Result<(Arm, Arm), GapKind>;

/// What the first tick says, of ten seconds that end with the newest sample.
async fn after(preset: CountPreset, tweak: Tweak) -> Answer {
    let server = StandIn::start().await;
    server.with(tweak);
    only(&mut server.plane(), server.now(0), &counted(Some(preset), None)).await
}

fn check(name: &str, answer: &Answer, wanted: &Wanted) {
    match (&answer.evidence, wanted) {
        (Evidence::Complete(tick), Ok((canary, baseline))) => {
            assert_eq!((&tick.canary, &tick.baseline), (canary, baseline), "{name}");
        }
        (_, Err(kind)) => assert_eq!(kinds(answer), [*kind], "{name}"),
        (evidence, Ok(_)) => panic!("{name}: {evidence:?}"),
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn restarts_are_counted_over_the_time_that_their_pods_were_seen() {
    let quiet = || arm(0.0, 10.0);
    let cases: [(&str, Tweak, Wanted); 11] = [
        (
            "quiet pods on both sides",
            |held| {
                stable(held, RESTARTS);
                hold(held, &told(RESTARTS, CANARY, "app"), flat(0.0, -40..=0));
            },
            Ok((quiet(), quiet())),
        ),
        (
            "a pod that had crashed twice when it was first seen, and once more since",
            |held| {
                stable(held, RESTARTS);
                let mut crashing = flat(2.0, -5..=-5);
                crashing.extend(flat(3.0, 0..=0));
                hold(held, &told(RESTARTS, CANARY, "app"), crashing);
            },
            // it was not there ten seconds before the end
            Ok((arm(3.0, 10.0), quiet())),
        ),
        (
            "containers of a pod crash each, and live at the same time",
            |held| {
                stable(held, RESTARTS);
                for container in ["app", "proxy"] {
                    let mut crashing = flat(1.0, -40..=-5);
                    crashing.extend(flat(2.0, 0..=0));
                    hold(held, &told(RESTARTS, CANARY, container), crashing);
                }
            },
            Ok((arm(2.0, 10.0), quiet())),
        ),
        (
            "two pods live twice as long, and one that is gone only until then",
            |held| {
                stable(held, RESTARTS);
                hold(held, &told(RESTARTS, OTHER, "app"), flat(0.0, -40..=-5));
                hold(held, &told(RESTARTS, CANARY, "app"), flat(0.0, -40..=0));
            },
            Ok((quiet(), arm(0.0, 15.0))),
        ),
        (
            "what tells of them was started anew, and nobody else",
            |held| {
                stable(held, RESTARTS);
                hold(held, &told(RESTARTS, CANARY, "app"), flat(7.0, -40..=0));
                let start = r#"process_start_time_seconds{job="told",instance="told:8080",namespace="monitoring"}"#;
                #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
                hold(held, start, flat((T0 - 4) as f64, 0..=0));
            },
            Ok((quiet(), quiet())),
        ),
        (
            "what tells of them has another address since, and what it told before is not known",
            |held| {
                for pod in [STABLE, CANARY] {
                    let other = told(RESTARTS, pod, "app").replace("told:8080", "other:8080");
                    hold(held, &other, flat(7.0, -5..=0));
                }
            },
            Err(GapKind::ShortWindow),
        ),
        (
            "a count that falls though its pod is the same",
            |held| {
                stable(held, RESTARTS);
                let mut fallen = flat(4.0, -40..=-5);
                fallen.extend(flat(1.0, 0..=0));
                hold(held, &told(RESTARTS, CANARY, "app"), fallen);
            },
            Err(GapKind::ResetUnproven),
        ),
        (
            "a canary that nobody tells of",
            |held| stable(held, RESTARTS),
            Err(GapKind::CanaryMissing),
        ),
        (
            "a stable that nobody tells of",
            |held| hold(held, &told(RESTARTS, CANARY, "app"), flat(0.0, -40..=0)),
            Err(GapKind::BaselineMissing),
        ),
        (
            "two that tell of the same pod",
            |held| {
                stable(held, RESTARTS);
                hold(held, &told(RESTARTS, CANARY, "app"), flat(0.0, -40..=0));
                let other = told(RESTARTS, CANARY, "app").replace("told:8080", "other:8080");
                hold(held, &other, flat(0.0, -40..=0));
            },
            Err(GapKind::ExtraSeries),
        ),
        (
            "more of them than seconds",
            |held| {
                stable(held, RESTARTS);
                let mut many = flat(0.0, -40..=-5);
                many.extend(flat(50.0, 0..=0));
                hold(held, &told(RESTARTS, CANARY, "app"), many);
            },
            Ok((arm(50.0, 10.0), quiet())),
        ),
    ];
    for (name, tweak, wanted) in cases {
        check(name, &after(CountPreset::Restarts, tweak).await, &wanted);
    }
}

#[tokio::test]
async fn kills_begin_anew_with_the_kubelet_and_with_every_container() {
    let cases: [(&str, Tweak, Wanted); 2] = [
        (
            "a kubelet that was started anew",
            |held| {
                stable(held, KILLS);
                let mut fallen = flat(4.0, -40..=-5);
                fallen.extend(flat(1.0, 0..=0));
                hold(held, &told(KILLS, CANARY, "app"), fallen);
                let start = r#"process_start_time_seconds{job="told",instance="told:8080",namespace="kube-system"}"#;
                #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
                hold(held, start, flat((T0 - 4) as f64, 0..=0));
            },
            Ok((arm(1.0, 10.0), arm(3.0, 10.0))),
        ),
        (
            "a container that takes the place of one that was killed",
            |held| {
                stable(held, KILLS);
                let mut first = flat(0.0, -40..=-10);
                first.extend(flat(1.0, -5..=-5));
                let named = |id: &str| told(KILLS, CANARY, "app").replace('}', &format!(r#",id="{id}"}}"#));
                hold(held, &named("one"), first);
                hold(held, &named("two"), flat(1.0, 0..=0));
            },
            Ok((arm(2.0, 5.0), arm(0.0, 10.0))),
        ),
    ];
    for (name, tweak, wanted) in cases {
        check(name, &after(CountPreset::OomKills, tweak).await, &wanted);
    }
}

#[tokio::test]
async fn exporters_may_be_scraped_once_a_minute() {
    let server = StandIn::start().await;
    for pod in [STABLE, CANARY] {
        server.hold(&told(RESTARTS, pod, "app"), flat(0.0, -40..=0));
    }
    let (mut plane, gates) = (server.plane(), counted(Some(CountPreset::Restarts), None));
    check(
        "the first",
        &only(&mut plane, server.now(0), &gates).await,
        &Ok((arm(0.0, 10.0), arm(0.0, 10.0))),
    );
    // every scrape of a minute and more fails, and the next one tells of all that time
    for (seconds, wanted) in [(10, 0.0), (60, 0.0)] {
        let answer = only(&mut plane, server.now(seconds), &gates).await;
        check(
            "a scrape is missing",
            &answer,
            &Ok((arm(0.0, wanted), arm(0.0, wanted))),
        );
    }
    server.with(|held| held.series.clear());
    for pod in [STABLE, CANARY] {
        server.hold(&told(RESTARTS, pod, "app"), samples(&[(65, 1.0)]));
    }
    let answer = only(&mut plane, server.now(70), &gates).await;
    check("the next scrape", &answer, &Ok((arm(1.0, 65.0), arm(1.0, 65.0))));
    server.with(|held| held.series.clear());
    for pod in [STABLE, CANARY] {
        server.hold(&told(RESTARTS, pod, "app"), samples(&[(65, 1.0)]));
    }
    for (seconds, stale) in [(240, false), (250, true)] {
        let answer = only(&mut plane, server.now(seconds), &gates).await;
        assert_eq!(
            matches!(answer.evidence, Evidence::Incomplete(_)),
            stale,
            "{seconds}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn counters_are_asked_for_by_pod_and_by_container() {
    let preset = |preset| counted(Some(preset), None);
    let own = counted(None, Some(r#"throttled_periods_total{container="app"}"#));
    for (gates, query) in [
        (
            preset(CountPreset::Restarts),
            r#"kube_pod_container_status_restarts_total{namespace="shop",pod=~"(?:checkout|checkout-canary)-.+"}[26s]"#,
        ),
        (
            preset(CountPreset::OomKills),
            r#"container_oom_events_total{container!="",namespace="shop",pod=~"(?:checkout|checkout-canary)-.+"}[26s]"#,
        ),
        (
            own,
            r#"throttled_periods_total{container="app",namespace="shop",pod=~"(?:checkout|checkout-canary)-.+"}[26s]"#,
        ),
    ] {
        let server = StandIn::start().await;
        only(&mut server.plane(), server.now(0), &gates).await;
        assert_eq!(server.asked(), [query]);
    }
}

#[test]
fn specs_that_cannot_be_asked_for_are_refused_by_field() {
    let spec = |preset, events: Option<&str>| CountSpec {
        preset,
        events: events.map(str::to_owned),
    };
    for (spec, field) in [
        (spec(None, None), "count:"),
        (spec(Some(CountPreset::Restarts), Some("crashes_total")), "count:"),
        (spec(None, Some("rate(crashes_total[5m])")), "count.events:"),
    ] {
        let error = spec.measure().expect_err(field).to_string();
        assert!(error.starts_with(field), "{error}");
    }
}
