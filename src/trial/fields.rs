//! What a gate says about its analysis reaches the judge, the source or the machine.

use std::collections::BTreeSet;

use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::api::{CanaryAnalysis, CanaryAnalysisSpec};
use crate::decision::{Arm, Evidence, Judged, Millis, Plan, Promote, Reason, Tick, Verdict};
use crate::judge::Method;
use crate::sources::Answer;

use super::plans::settings;
use super::{Trial, plans, questions};

/// A ratio and a histogram by selectors of their own and a preset, each with its method, everything
/// else by default.
fn spec() -> Value {
    json!({
        "revision": "0123456789",
        "epoch": 1,
        "target": {
            "workload": "checkout",
            "service": "checkout",
            "canaryWorkload": "checkout-canary",
            "canaryService": "checkout-canary",
            "stablePods": 2,
        },
        "steps": [{"weight": 5}, {"weight": 100}],
        "analysis": {"metrics": [
            {"name": "orders", "ratio": {"bad": "orders_failed_total", "total": "orders_total"}},
            {"name": "pay", "histogram": {"selector": "pay_seconds"}, "limit": "50%"},
            {"name": "ranked", "ratio": {"preset": "http-errors"}, "mannWhitney": {}},
            {"name": "queue", "gauge": {"selector": "queue_length", "floor": 100}},
        ]},
        "policy": {"rules": [
            {"name": "go", "promoteWhen": "metrics.orders.delta < 0.1"},
            {"name": "wait", "holdWhen": "metrics.orders.delta > 0.2"},
            {"name": "stop", "abortWhen": "metrics.orders.delta > 0.5"},
        ]},
    })
}

fn read(spec: &Value) -> CanaryAnalysisSpec {
    serde_json::from_value(spec.clone()).expect("a spec")
}

/// Everything that judge, source and machine are told, in one text.
fn told(spec: &Value) -> String {
    let spec = read(spec).sealed();
    let plan = Plan {
        policy_hash: String::new(),
        ..spec.plan().expect("a plan")
    };
    let plans = plans(&spec).expect("plans");
    let (questions, settings) = (questions(&spec).expect("questions"), settings(&spec).expect("settings"));
    let rules = super::rules::Rules::read(&spec).expect("rules");
    let past = super::plans::past(&spec).expect("a baseline");
    format!("{plan:?} {plans:?} {settings:?} {questions:?} {rules:?} {past:?}")
}

/// Paths of all fields below a node of a schema; an item of a list is written `[]`.
fn leaves(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Some(items) = schema.get("items") {
        return leaves(items, &format!("{path}[]"), found);
    }
    match schema.get("properties").and_then(Value::as_object) {
        Some(fields) => fields
            .iter()
            .for_each(|(name, field)| leaves(field, &format!("{path}.{name}"), found)),
        None => {
            found.insert(path.to_owned());
        }
    }
}

#[derive(PartialEq, Debug)]
enum Goes {
    /// What judge, source or machine are told changes.
    There,
    /// Nothing that decides may change: it is for people, or it has only one value, or it chooses
    /// the source before any question is asked.
    Elsewhere,
}

type Change = fn(&mut Value);

const FIELDS: [(&str, Goes, Change); 51] = [
    ("steps[].weight", Goes::There, |s| s["steps"][0]["weight"] = json!(6)),
    ("steps[].minWindow", Goes::There, |s| {
        s["steps"][0]["minWindow"] = json!("7m");
    }),
    ("steps[].maxWindow", Goes::There, |s| {
        s["steps"][0]["maxWindow"] = json!("70m");
    }),
    ("analysis.source", Goes::Elsewhere, |s| {
        s["analysis"]["source"] = json!("other");
    }),
    ("analysis.baseline.concurrent", Goes::Elsewhere, |s| {
        s["analysis"]["baseline"] = json!({"concurrent": {}});
    }),
    ("analysis.baseline.previousWindow.length", Goes::There, |s| {
        s["analysis"]["baseline"] = json!({"previousWindow": {"length": "1h"}});
    }),
    ("analysis.baseline.previousWindow.abort", Goes::There, |s| {
        s["analysis"]["baseline"] = json!({"previousWindow": {"length": "1h", "abort": true}});
    }),
    ("analysis.baseline.sameWindow.ago", Goes::There, |s| {
        s["analysis"]["baseline"] = json!({"sameWindow": {"ago": "168h"}});
    }),
    ("analysis.baseline.sameWindow.abort", Goes::There, |s| {
        s["analysis"]["baseline"] = json!({"sameWindow": {"ago": "168h", "abort": true}});
    }),
    ("analysis.holdback", Goes::There, |s| {
        s["analysis"]["holdback"] = json!(10);
    }),
    ("analysis.slo", Goes::There, |s| s["analysis"]["slo"] = json!("99.9%")),
    ("analysis.minWindow", Goes::There, |s| {
        s["analysis"]["minWindow"] = json!("6m");
    }),
    ("analysis.maxWindow", Goes::There, |s| {
        s["analysis"]["maxWindow"] = json!("3h");
    }),
    ("analysis.minSample", Goes::There, |s| {
        s["analysis"]["minSample"] = json!(50);
    }),
    ("analysis.metrics[].name", Goes::There, |s| {
        s["analysis"]["metrics"][1]["name"] = json!("bills");
    }),
    ("analysis.metrics[].owner", Goes::Elsewhere, |s| {
        s["analysis"]["metrics"][0]["owner"] = json!("ada");
    }),
    ("analysis.metrics[].rationale", Goes::Elsewhere, |s| {
        s["analysis"]["metrics"][0]["rationale"] = json!("because");
    }),
    ("analysis.metrics[].ratio.preset", Goes::There, |s| {
        s["analysis"]["metrics"][0]["ratio"] = json!({"preset": "http-errors"});
    }),
    ("analysis.metrics[].ratio.bad", Goes::There, |s| {
        s["analysis"]["metrics"][0]["ratio"]["bad"] = json!("orders_lost_total");
    }),
    ("analysis.metrics[].ratio.good", Goes::There, |s| {
        s["analysis"]["metrics"][0]["ratio"] = json!({"good": "orders_failed_total", "total": "orders_total"});
    }),
    ("analysis.metrics[].ratio.total", Goes::There, |s| {
        s["analysis"]["metrics"][0]["ratio"]["total"] = json!("orders_all_total");
    }),
    ("analysis.metrics[].histogram.preset", Goes::There, |s| {
        s["analysis"]["metrics"][1]["histogram"] = json!({"preset": "http-duration"});
    }),
    ("analysis.metrics[].histogram.selector", Goes::There, |s| {
        s["analysis"]["metrics"][1]["histogram"]["selector"] = json!("pay_ms");
    }),
    ("analysis.metrics[].histogram.quantile", Goes::There, |s| {
        s["analysis"]["metrics"][1]["histogram"]["quantile"] = json!(0.95);
    }),
    ("analysis.metrics[].histogram.edges[]", Goes::There, |s| {
        s["analysis"]["metrics"][1]["histogram"]["edges"] = json!([0.1, 0.5]);
    }),
    ("analysis.metrics[].histogram.native", Goes::There, |s| {
        s["analysis"]["metrics"][1]["histogram"]["native"] = json!(true);
    }),
    ("analysis.metrics[].count.preset", Goes::There, |s| {
        s["analysis"]["metrics"][0] = json!({"name": "orders", "count": {"preset": "restarts"}});
    }),
    ("analysis.metrics[].count.events", Goes::There, |s| {
        s["analysis"]["metrics"][0] = json!({"name": "orders", "count": {"events": "crashes_total"}});
    }),
    ("analysis.metrics[].gauge.preset", Goes::There, |s| {
        s["analysis"]["metrics"][3]["gauge"] = json!({"preset": "cpu", "floor": 100});
    }),
    ("analysis.metrics[].gauge.selector", Goes::There, |s| {
        s["analysis"]["metrics"][3]["gauge"]["selector"] = json!("other_length");
    }),
    ("analysis.metrics[].gauge.worse", Goes::There, |s| {
        s["analysis"]["metrics"][3]["gauge"]["worse"] = json!("60%");
    }),
    ("analysis.metrics[].gauge.floor", Goes::There, |s| {
        s["analysis"]["metrics"][3]["gauge"]["floor"] = json!(101);
    }),
    ("analysis.metrics[].gauge.abort", Goes::There, |s| {
        s["analysis"]["metrics"][3]["gauge"]["abort"] = json!(true);
    }),
    ("analysis.metrics[].margin.abort", Goes::There, |s| {
        s["analysis"]["metrics"][0]["margin"] = json!({"abort": "20%"});
    }),
    ("analysis.metrics[].margin.promote", Goes::There, |s| {
        s["analysis"]["metrics"][0]["margin"] = json!({"promote": "30%"});
    }),
    ("analysis.metrics[].limit", Goes::There, |s| {
        s["analysis"]["metrics"][0]["limit"] = json!("1%");
    }),
    ("analysis.metrics[].consecutiveFailures", Goes::There, |s| {
        s["analysis"]["metrics"][1]["consecutiveFailures"] = json!(3);
    }),
    ("analysis.metrics[].mannWhitney.window", Goes::There, |s| {
        s["analysis"]["metrics"][2]["mannWhitney"]["window"] = json!("20m");
    }),
    ("analysis.metrics[].mannWhitney.points", Goes::There, |s| {
        s["analysis"]["metrics"][2]["mannWhitney"]["points"] = json!(20);
    }),
    ("analysis.metrics[].promote", Goes::There, |s| {
        s["analysis"]["metrics"][0]["promote"] = json!("NoHarm");
    }),
    ("analysis.metrics[].dispersion", Goes::There, |s| {
        s["analysis"]["metrics"][0]["dispersion"] = json!(2);
    }),
    ("analysis.sampleRatio.dispersion", Goes::There, |s| {
        s["analysis"]["sampleRatio"] = json!({"dispersion": 7});
    }),
    ("policy.onInconclusive", Goes::There, |s| {
        s["policy"]["onInconclusive"] = json!("Abort");
    }),
    ("policy.onNoEvidence.hold", Goes::There, |s| {
        s["policy"]["onNoEvidence"]["hold"] = json!("1m");
    }),
    ("policy.onNoEvidence.then", Goes::There, |s| {
        s["policy"]["onNoEvidence"]["then"] = json!("Hold");
    }),
    ("policy.rules[].name", Goes::There, |s| {
        s["policy"]["rules"][0]["name"] = json!("onwards");
    }),
    ("policy.rules[].owner", Goes::Elsewhere, |s| {
        s["policy"]["rules"][0]["owner"] = json!("ada");
    }),
    ("policy.rules[].rationale", Goes::Elsewhere, |s| {
        s["policy"]["rules"][0]["rationale"] = json!("because");
    }),
    ("policy.rules[].promoteWhen", Goes::There, |s| {
        s["policy"]["rules"][0]["promoteWhen"] = json!("metrics.orders.delta < 0.2");
    }),
    ("policy.rules[].holdWhen", Goes::There, |s| {
        s["policy"]["rules"][1]["holdWhen"] = json!("metrics.orders.delta > 0.3");
    }),
    ("policy.rules[].abortWhen", Goes::There, |s| {
        s["policy"]["rules"][2]["abortWhen"] = json!("metrics.orders.delta > 0.6");
    }),
];

#[test]
fn every_field_of_the_schema_reaches_the_judge_the_source_or_the_machine() {
    let crd = serde_json::to_value(CanaryAnalysis::crd()).expect("a definition");
    let schema = crd
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties")
        .expect("a schema");
    let mut written = BTreeSet::new();
    for root in ["steps", "analysis", "policy"] {
        leaves(&schema[root], root, &mut written);
    }
    let known: BTreeSet<String> = FIELDS.iter().map(|(path, ..)| (*path).to_owned()).collect();
    assert_eq!(
        written, known,
        "the fields that can be written, and those of this table"
    );
    let before = told(&spec());
    for (path, goes, change) in FIELDS {
        let mut changed = spec();
        change(&mut changed);
        let reached = told(&changed) != before;
        assert_eq!(reached, goes == Goes::There, "{path}");
    }
}

#[test]
fn a_count_is_watched_unless_a_proof_is_asked_for_and_requests_say_nothing_of_it() {
    for (more, promote) in [
        (json!({}), Promote::NoHarm),
        (json!({"margin": {"abort": "50%"}}), Promote::NoHarm),
        (json!({"margin": {"promote": "100%"}}), Promote::Safe),
        (json!({"promote": "Safe"}), Promote::Safe),
        (json!({"promote": "NoHarm"}), Promote::NoHarm),
    ] {
        let mut spec = spec();
        let mut metric = json!({"name": "orders", "count": {"preset": "restarts"}});
        json_patch::merge(&mut metric, &more);
        spec["analysis"]["metrics"][0] = metric;
        spec["analysis"]["minSample"] = json!(77);
        spec["analysis"]["slo"] = json!("99.9%");
        let plans = plans(&read(&spec)).expect("plans");
        assert_eq!(plans[0].promote, promote, "{more}");
        let samples: Vec<f64> = plans.iter().map(|plan| plan.min_sample).collect();
        assert_eq!(samples, [300.0, 77.0, 77.0, 1.0]);
        assert_eq!(plans[0].error_budget, None);
    }
}

#[test]
fn a_metric_has_as_many_tails_as_its_question_counts() {
    let cases = [
        (json!({}), 3),
        (json!({"quantile": 0.9}), 1),
        (json!({"edges": [0.5, 0.1, 0.5]}), 2),
    ];
    for (histogram, tails) in cases {
        let mut spec = spec();
        for (field, value) in histogram.as_object().expect("fields") {
            spec["analysis"]["metrics"][1]["histogram"][field] = value.clone();
        }
        let plans = plans(&read(&spec)).expect("plans");
        assert_eq!(plans[1].tails(), tails, "{histogram}");
        assert_eq!(plans[1].shown(), tails - 1, "{histogram}");
    }
}

/// When the first step of [`opened`] begins.
const BEGIN: Millis = Millis::from_secs(1_000_000);

/// A trial by this plan, at its first step.
fn opened(spec: &Value) -> Trial {
    let mut trial = Trial::open(("shop", "checkout"), &read(spec).sealed(), None).expect("a trial");
    trial.begin_step(0, BEGIN);
    trial
}

/// What is said of a canary that fails more often than stable, tick by tick.
fn judged(spec: &Value) -> Judged {
    let mut trial = opened(spec);
    let arm = |bad, total| Arm {
        events: vec![bad],
        total,
    };
    for tick in 1..=2 {
        let tick = Tick {
            at: BEGIN + Millis::from_secs(10 * tick),
            canary: arm(3.0, 100.0),
            baseline: arm(57.0, 1900.0),
            baseline_pods: vec![],
        };
        trial.observe(vec![Answer {
            evidence: Evidence::Complete(tick),
            edges: None,
            age: None,
            past: vec![],
        }]);
    }
    trial.judged.expect("judged")
}

#[test]
fn a_limit_decides_alone_and_by_its_minimum_sample() {
    let cases = [
        ("5%", 150, Verdict::Pass(Reason::Safe)),
        ("2%", 150, Verdict::Fail(Reason::LimitExceeded)),
        ("2%", 500, Verdict::Inconclusive(Reason::TooFew)),
    ];
    for (limit, sample, verdict) in cases {
        let mut spec = spec();
        spec["analysis"]["minSample"] = json!(sample);
        let ratio = spec["analysis"]["metrics"][0].clone();
        spec["analysis"]["metrics"] = json!([ratio]);
        spec["policy"] = json!({});
        spec["analysis"]["metrics"][0]["limit"] = json!(limit);
        let judged = judged(&spec);
        assert_eq!(judged.verdict, verdict, "{limit} of {sample}: {}", judged.rule);
    }
}

#[test]
fn the_metrics_of_the_documentation_are_judged_as_it_says() {
    let text = include_str!("../../docs/judge.md");
    let blocks = text
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let metrics = blocks.filter(|block| block.starts_with("metrics:")).flat_map(|block| {
        let written: Value = serde_saphyr::from_str(block).expect("YAML");
        written["metrics"].as_array().cloned().expect("metrics")
    });
    let mut spec = spec();
    spec["analysis"]["metrics"] = metrics.collect();
    let plans = plans(&read(&spec)).expect("plans");
    let methods = plans.iter().map(|plan| (plan.method, plan.promote, plan.dispersion));
    let (window, points) = (Millis::from_secs(1800), 30);
    let guard = |floor, abort| Method::Guard {
        worse: if abort { 1.0 } else { 0.5 },
        floor,
        abort,
    };
    let wanted = [
        (Method::Sequential, Promote::NoHarm, 1.0),
        (Method::Sequential, Promote::NoHarm, 1.0),
        (Method::Sequential, Promote::NoHarm, 1.0),
        (guard(500e6, false), Promote::NoHarm, 1.0),
        (guard(1000.0, true), Promote::NoHarm, 1.0),
        (Method::Sequential, Promote::Safe, 3.0),
        (Method::Sequential, Promote::NoHarm, 1.0),
        (Method::Sequential, Promote::Safe, 1.0),
        (Method::Limit { max: 0.01, failures: 3 }, Promote::Safe, 1.0),
        (Method::MannWhitney { window, points }, Promote::Safe, 1.0),
    ];
    assert_eq!(methods.collect::<Vec<_>>(), wanted);
}

#[test]
fn stable_is_read_of_the_time_that_the_baseline_says_also_after_a_restart() {
    for (baseline, hours, past) in [
        (json!({"concurrent": {}}), 0, None),
        (json!({"previousWindow": {"length": "60m"}}), 1, Some(false)),
        (json!({"sameWindow": {"ago": "168h", "abort": true}}), 168, Some(true)),
    ] {
        let mut spec = spec();
        spec["analysis"]["baseline"] = baseline.clone();
        let trial = opened(&spec);
        let saved = trial.snapshot().expect("a memory");
        let again = Trial::open(("shop", "checkout"), &read(&spec).sealed(), Some(&saved)).expect("a trial");
        assert_eq!(trial.subscription.ago, Millis::from_secs(hours * 3600), "{baseline}");
        assert_eq!(again.subscription.ago, trial.subscription.ago, "{baseline}");
        let settings = settings(&read(&spec)).expect("settings");
        assert_eq!(settings.past.map(|past| past.abort), past, "{baseline}");
    }
}

#[test]
fn the_canary_has_the_pods_that_its_weight_takes() {
    let mut spec = spec();
    spec["target"]["stablePods"] = json!(20);
    spec["steps"] = json!([{"weight": 1}, {"weight": 5}, {"weight": 25}, {"weight": 50}, {"weight": 100}]);
    assert_eq!(settings(&read(&spec)).expect("settings").canary_pods, [1, 1, 5, 10, 19]);
}

#[test]
fn the_split_settles_for_a_look_and_a_scrape_and_is_watched_where_the_gate_says_so() {
    let mut spec = spec();
    assert_eq!(settings(&read(&spec)).expect("settings").sample_ratio, None);
    spec["analysis"]["sampleRatio"] = json!({});
    let watched = settings(&read(&spec)).expect("settings").sample_ratio.expect("watched");
    assert_eq!((watched.settle, watched.dispersion), (Millis::from_secs(25), 100.0));
}

/// A minute of stable's pods, of which every third fails six requests at once.
fn clumped(minute: i64) -> Tick {
    let pods: Vec<Arm> = (0..6)
        .map(|pod| Arm {
            events: vec![if (pod + minute) % 3 == 0 { 6.0 } else { 0.0 }],
            total: 1000.0,
        })
        .collect();
    Tick {
        at: BEGIN - Millis::from_secs(60 * minute),
        canary: Arm {
            events: vec![0.0],
            total: 0.0,
        },
        baseline: Arm {
            events: vec![12.0],
            total: 6000.0,
        },
        baseline_pods: pods,
    }
}

#[test]
fn what_the_source_remembers_is_known_at_the_first_step_and_asked_for_once() {
    let mut spec = spec();
    let orders = spec["analysis"]["metrics"][0].clone();
    spec["analysis"]["metrics"] = json!([orders]);
    let told = |past: Vec<Tick>| {
        let mut trial = Trial::open(("shop", "checkout"), &read(&spec).sealed(), None).expect("a trial");
        assert_eq!(trial.subscription.unknown, BTreeSet::from([0]));
        trial.observe(vec![Answer {
            evidence: Evidence::Complete(clumped(0)),
            edges: None,
            age: None,
            past,
        }]);
        assert_eq!(trial.subscription.unknown, BTreeSet::new());
        let memory = trial.snapshot().expect("a memory");
        let mut restarted = Trial::open(("shop", "checkout"), &read(&spec).sealed(), Some(&memory)).expect("a trial");
        assert_eq!(restarted.subscription.unknown, BTreeSet::new());
        let dispersion = |trial: &mut Trial| {
            trial.begin_step(0, BEGIN + Millis::from_secs(5));
            trial.observe(vec![]);
            trial.judged.as_ref().expect("judged").readings[0].dispersion
        };
        let (before, after) = (dispersion(&mut trial), dispersion(&mut restarted));
        assert_eq!(before.to_bits(), after.to_bits());
        assert_eq!(trial.snapshot(), restarted.snapshot());
        before
    };
    assert!((told(vec![]) - 1.0).abs() < 1e-12, "nothing is known");
    let known = told((1..=60).rev().map(clumped).collect());
    assert!(known > 4.0, "{known}");
}

#[test]
fn the_memory_of_the_largest_analysis_fits_into_its_field() {
    let mut spec = spec();
    let metric = |number: usize| {
        let edges = [
            0.123_456_789,
            0.234_567_891,
            0.345_678_912,
            0.456_789_123,
            0.567_891_234,
        ];
        json!({"name": format!("{number}{}", "m".repeat(51)), "histogram": {"selector": "pay_seconds", "edges": edges}})
    };
    spec["analysis"]["metrics"] = (0..10).map(metric).collect();
    let read = |field: usize| {
        let name = format!("{field}{}", "m".repeat(51));
        format!("metrics[\"{name}\"].canaryShare * 1.7 > metrics[\"{name}\"].stableShare")
    };
    let rule = |number: usize| {
        let text = format!("{} || {}", read(number % 9), read(number % 9 + 1));
        json!({"name": format!("{number}{}", "r".repeat(50)), "holdWhen": text})
    };
    spec["policy"]["rules"] = (0..20).map(rule).collect();
    let mut trial = opened(&spec);
    let arm = |share: f64, total: f64| Arm {
        events: [0.5, 0.4, 0.3, 0.2, 0.1]
            .map(|tail| (tail * share * total).floor())
            .to_vec(),
        total,
    };
    for tick in 1..=720_i32 {
        let spread = f64::from(tick % 17) / 170.0;
        let tick = Tick {
            at: BEGIN + Millis::from_secs(10 * i64::from(tick)),
            canary: arm(1.0 - spread, 1234.0 + f64::from(tick)),
            baseline: arm(0.9 + spread, 123_456.0 + f64::from(tick)),
            baseline_pods: vec![arm(0.9 + spread, 20_576.0 + f64::from(tick)); 6],
        };
        let answer = Answer {
            evidence: Evidence::Complete(tick),
            edges: None,
            age: None,
            past: vec![],
        };
        trial.observe(vec![answer; 10]);
    }
    let memory = trial.snapshot().expect("a memory");
    assert!(memory.len() <= 49_152, "{} bytes", memory.len());
}
