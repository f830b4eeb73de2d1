//! Gauges of pods, row by row.

use super::metric::MetricQuery;
use super::stand_in::{CANARY, Held, STABLE, StandIn, arm, gate, kinds, labels, only, samples};
use super::subscription::{Answer, Subscription};
use super::{Gauge, GaugePreset};
use crate::decision::{Arm, Evidence, GapKind};

const OTHERS: [&str; 3] = [
    "checkout-7d9f8b6c5d-zk2vw",
    "checkout-7d9f8b6c5d-bbbbb",
    "checkout-7d9f8b6c5d-ccccc",
];

fn asked(preset: Option<GaugePreset>, selector: Option<&str>) -> Vec<Subscription> {
    let query = MetricQuery {
        name: "level".to_owned(),
        measure: Gauge::measure(preset, selector).expect("a gauge"),
    };
    vec![gate("shop", "checkout", vec![query])]
}

/// A series that has these values at the last three scrapes.
fn hold(held: &mut Held, metric: &str, (pod, more): (&str, &str), values: [f64; 3]) {
    let name = format!(r#"{metric}{{job="pods",instance="node",namespace="shop",pod="{pod}"{more}}}"#);
    let [first, second, third] = values;
    let samples = samples(&[(-10, first), (-5, second), (0, third)]);
    held.series.push((labels(&name), samples));
}

fn queues(held: &mut Held, canary: [f64; 3]) {
    for (pod, level) in OTHERS.into_iter().chain([STABLE]).zip([1.0, 100.0, 7.0, 5.0]) {
        hold(held, "queue_length", (pod, ""), [level; 3]);
    }
    hold(held, "queue_length", (CANARY, ""), canary);
}

async fn after(gates: &[Subscription], tweak: fn(&mut Held)) -> (Answer, Vec<String>) {
    let server = StandIn::start().await;
    server.with(tweak);
    (only(&mut server.plane(), server.now(0), gates).await, server.asked())
}

#[tokio::test]
async fn an_arm_has_the_median_of_its_pods_and_says_how_many_samples_that_is() {
    type Wanted = Result<(Arm, Arm), GapKind>;
    type Tweak = fn(&mut Held);
    let queue = || asked(None, Some("queue_length"));
    let cases: [(&str, Vec<Subscription>, Tweak, Wanted); 7] = [
        (
            "the mean of each pod since it was looked at last, and the middle of the pods",
            queue(),
            |held| queues(held, [900.0, 20.0, 30.0]),
            Ok((arm(25.0, 2.0), arm(6.0, 8.0))),
        ),
        (
            "a gauge that falls is no counter",
            queue(),
            |held| queues(held, [900.0, 20.0, 0.0]),
            Ok((arm(10.0, 2.0), arm(6.0, 8.0))),
        ),
        (
            "several series of a pod are added up",
            queue(),
            |held| {
                queues(held, [1.0; 3]);
                hold(held, "queue_length", (CANARY, r#",queue="other""#), [4.0; 3]);
            },
            Ok((arm(5.0, 2.0), arm(6.0, 8.0))),
        ),
        (
            "not a number",
            queue(),
            |held| queues(held, [1.0, 1.0, f64::NAN]),
            Err(GapKind::NotACount),
        ),
        (
            "less than nothing",
            queue(),
            |held| queues(held, [1.0, -1.0, 1.0]),
            Err(GapKind::NotACount),
        ),
        (
            "no pod of the canary",
            queue(),
            |held| hold(held, "queue_length", (STABLE, ""), [1.0; 3]),
            Err(GapKind::CanaryMissing),
        ),
        (
            "cores are seconds over seconds",
            asked(Some(GaugePreset::Cpu), None),
            |held| {
                let metric = "container_cpu_usage_seconds_total";
                let seconds = [(STABLE, [100.0, 101.0, 102.0]), (CANARY, [50.0, 52.0, 55.0])];
                for (pod, values) in seconds {
                    hold(held, metric, (pod, r#",container="app""#), values);
                    // the pod as a whole is not counted again
                    hold(held, metric, (pod, ""), values);
                }
            },
            Ok((arm(0.5, 2.0), arm(0.2, 2.0))),
        ),
    ];
    for (name, gates, tweak, wanted) in cases {
        let (answer, asked) = after(&gates, tweak).await;
        match (&answer.evidence, &wanted) {
            (Evidence::Complete(tick), Ok((canary, baseline))) => {
                assert_eq!((&tick.canary, &tick.baseline), (canary, baseline), "{name}");
                assert!(tick.baseline_pods.is_empty(), "{name}");
            }
            (_, Err(kind)) => assert_eq!(kinds(&answer), [*kind], "{name}"),
            (evidence, Ok(_)) => panic!("{name}: {evidence:?}"),
        }
        assert_eq!(asked.len(), 1, "{name}: {asked:?}");
    }
}

#[tokio::test]
async fn the_presets_ask_for_containers_of_pods() {
    for (preset, metric) in [
        (GaugePreset::Memory, "container_memory_working_set_bytes"),
        (GaugePreset::Cpu, "container_cpu_usage_seconds_total"),
    ] {
        let (_, queries) = after(&asked(Some(preset), None), |_| {}).await;
        let query =
            format!(r#"{metric}{{container!="",namespace="shop",pod=~"(?:checkout|checkout-canary)-.+"}}[26s]"#);
        assert_eq!(queries, [query]);
    }
}

#[test]
fn gauges_that_cannot_be_asked_for_are_refused_by_field() {
    for (preset, selector, field) in [
        (None, None, "gauge:"),
        (Some(GaugePreset::Memory), Some("queue_length"), "gauge:"),
        (None, Some("deriv(queue_length[5m])"), "gauge.selector:"),
    ] {
        let error = Gauge::measure(preset, selector).expect_err(field).to_string();
        assert!(error.starts_with(field), "{error}");
    }
}
