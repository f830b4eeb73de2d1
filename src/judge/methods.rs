//! The method of ranks, the sample ratio, pods and shares, by example.
#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use crate::decision::{Arm, Evidence, Judged, Millis, Promote, Reason, Tick, Verdict};

use super::e1::{Margin, Process, Round, Side};
use super::world::{Dice, WEIGHTS, errors, percents, ratio_tick};
use super::{Analysis, Method, MetricPlan, SampleRatioPlan, Settings, Shape};

fn begun(plan: MetricPlan, settings: Settings) -> Analysis {
    let mut analysis = Analysis::new(vec![plan], settings, percents(&WEIGHTS)).expect("a plan in range");
    analysis.begin_step(0, Millis(0));
    analysis
}

/// Seen every minute.
fn minutely() -> Settings {
    Settings {
        interval: Millis::from_secs(60),
        ..Settings::default()
    }
}

fn ranks(points: u32) -> MetricPlan {
    let window = Millis::from_secs(i64::from(points) * 60);
    MetricPlan {
        method: Method::MannWhitney { window, points },
        min_sample: 100.0,
        ..errors()
    }
}

/// So many minutes in which the canary fails `bad` of 1,000 requests, and a little more every
/// other minute, as stable does with 10.
fn minutes(analysis: &mut Analysis, count: i64, bad: f64) -> Judged {
    let first = analysis.seen(0).map_or(0, |at| at.0 / 1000);
    for minute in 1..=count {
        let wobble = f64::from(u8::from(minute % 2 == 0));
        let counts = [bad + wobble, 1000.0, 10.0 + wobble, 1000.0];
        analysis.observe(0, &ratio_tick(first + minute * 60, counts));
    }
    analysis.judged(1, 0)
}

#[test]
fn a_window_of_ranks_is_judged_when_it_is_full() {
    let after = |count, bad| minutes(&mut begun(ranks(15), minutely()), count, bad);
    let cases = [
        (
            "a point is missing",
            after(14, 30.0),
            Verdict::Inconclusive(Reason::Undecided),
        ),
        ("three times stable's", after(15, 30.0), Verdict::Fail(Reason::Harm)),
        ("as good as stable", after(15, 10.0), Verdict::Pass(Reason::Safe)),
        ("better than stable", after(15, 3.0), Verdict::Pass(Reason::Safe)),
        (
            "the next window has begun",
            after(20, 10.0),
            Verdict::Pass(Reason::Safe),
        ),
    ];
    for (name, judged, wanted) in cases {
        assert_eq!(judged.verdict, wanted, "{name}: {}", judged.rule);
    }
    let mut analysis = begun(ranks(15), minutely());
    minutes(&mut analysis, 15, 10.0);
    let second = minutes(&mut analysis, 15, 30.0);
    assert_eq!(second.verdict, Verdict::Fail(Reason::Harm), "a later window counts too");
    assert_eq!(
        second.rule,
        "http-errors: 614 of 30,000 requests failed on canary, 314 of 30,000 on stable: higher by the rank test of a full window"
    );
}

#[test]
fn a_window_with_an_idle_arm_says_nothing() {
    let mut analysis = begun(ranks(15), minutely());
    for minute in 1..=30 {
        let canary = if minute % 3 == 0 { 1000.0 } else { 0.0 };
        analysis.observe(0, &ratio_tick(minute * 60, [0.0, canary, 10.0, 1000.0]));
    }
    let judged = analysis.judged(1, 0);
    assert_eq!(
        judged.verdict,
        Verdict::Inconclusive(Reason::Undecided),
        "{}",
        judged.rule
    );
}

#[test]
fn the_largest_window_is_stored_in_two_kilobytes() {
    let mut analysis = begun(ranks(40), minutely());
    minutes(&mut analysis, 39, 10.0);
    let stored = serde_json::to_string(&analysis).expect("text");
    assert!(stored.len() <= 2048, "{} bytes: {stored}", stored.len());
    let mut restored: Analysis = serde_json::from_str(&stored).expect("an analysis");
    assert_eq!(minutes(&mut restored, 5, 30.0), minutes(&mut analysis, 5, 30.0));
}

#[test]
fn a_split_that_is_not_the_intended_one_holds_and_never_hides_harm() {
    let settings = Settings {
        sample_ratio: Some(SampleRatioPlan::default()),
        ..Settings::default()
    };
    let after = |settings: &Settings, counts| {
        let mut analysis = begun(errors(), settings.clone());
        for at in 1..=120 {
            analysis.observe(0, &ratio_tick(at * 10, counts));
        }
        analysis.judged(1, 0)
    };
    let (right, wrong, harmful) = (
        [0.0, 20.0, 6.0, 1980.0],
        [0.0, 40.0, 6.0, 1960.0],
        [4.0, 40.0, 6.0, 1960.0],
    );
    let cases = [
        (after(&settings, right), Verdict::Pass(Reason::Safe)),
        (after(&settings, wrong), Verdict::Inconclusive(Reason::SampleRatio)),
        (after(&settings, harmful), Verdict::Fail(Reason::Harm)),
        (after(&Settings::default(), wrong), Verdict::Pass(Reason::Safe)),
    ];
    for (judged, wanted) in cases {
        assert_eq!(judged.verdict, wanted, "{}", judged.rule);
    }
    let held = after(&settings, wrong);
    assert_eq!(held.rule, "2 % of the requests reach the canary instead of 1 %");
    assert!(!held.no_harm);
}

#[test]
fn the_split_is_not_looked_at_until_a_step_has_settled() {
    let after = |settle| {
        let sample_ratio = SampleRatioPlan {
            settle: Millis::from_secs(settle),
            ..SampleRatioPlan::default()
        };
        let settings = Settings {
            sample_ratio: Some(sample_ratio),
            ..Settings::default()
        };
        let mut analysis = begun(errors(), settings);
        // 20 s that are still split as before, and then as they should be
        for (at, canary) in [(10, 0.0), (20, 0.0), (30, 200.0), (40, 200.0)] {
            analysis.observe(0, &ratio_tick(at, [0.0, canary, 60.0, 20_000.0 - canary]));
        }
        analysis.judged(1, 0).verdict
    };
    assert_eq!(after(0), Verdict::Inconclusive(Reason::SampleRatio));
    assert_eq!(after(20), Verdict::Pass(Reason::Safe));
}

#[test]
fn windows_above_a_limit_count_in_a_row() {
    let after = |failures, bad: &[f64]| {
        let plan = MetricPlan {
            method: Method::Limit { max: 0.05, failures },
            min_sample: 100.0,
            ..errors()
        };
        let mut analysis = begun(plan, Settings::default());
        for (tick, bad) in (1..).zip(bad) {
            analysis.observe(0, &ratio_tick(tick * 10, [*bad, 100.0, 0.0, 0.0]));
        }
        analysis.judged(1, 0)
    };
    let (failed, passed) = (Verdict::Fail(Reason::LimitExceeded), Verdict::Pass(Reason::Safe));
    for (name, failures, bad, wanted) in [
        ("one suffices", 1, vec![0.0, 6.0], failed.clone()),
        (
            "one of two",
            2,
            vec![0.0, 6.0],
            Verdict::Inconclusive(Reason::Undecided),
        ),
        ("interrupted", 2, vec![6.0, 0.0, 6.0, 0.0], passed),
        ("in a row", 2, vec![0.0, 6.0, 6.0], failed.clone()),
        ("a failure stands", 2, vec![6.0, 6.0, 0.0], failed),
    ] {
        let judged = after(failures, &bad);
        assert_eq!(judged.verdict, wanted, "{name}: {}", judged.rule);
    }
    assert_eq!(
        after(2, &[0.0, 6.0, 7.0]).rule,
        "http-errors: 7 of 100 requests failed on canary: above the limit of 5 %, 2 times in a row"
    );
}

#[test]
fn a_metric_that_needs_no_proof_passes_on_no_harm_and_says_so() {
    let after = |promote, counts| {
        let plan = MetricPlan {
            promote,
            margin_promote: (promote == Promote::Safe).then_some(0.15),
            ..errors()
        };
        let mut analysis = begun(plan, Settings::default());
        for tick in 1..=60 {
            analysis.observe(0, &ratio_tick(tick * 10, counts));
        }
        analysis.judged(1, 0)
    };
    let (healthy, spotless) = ([0.0, 20.0, 6.0, 1980.0], [0.0, 20.0, 0.0, 1980.0]);
    let cases = [
        (Promote::Safe, healthy, Verdict::Inconclusive(Reason::Undecided)),
        (Promote::NoHarm, healthy, Verdict::Pass(Reason::NoHarm)),
        (
            Promote::NoHarm,
            [0.0, 2.0, 6.0, 198.0],
            Verdict::Inconclusive(Reason::TooFew),
        ),
        (Promote::NoHarm, [1.0, 20.0, 6.0, 1980.0], Verdict::Fail(Reason::Harm)),
    ];
    for (promote, counts, wanted) in cases {
        let judged = after(promote, counts);
        assert_eq!(judged.verdict, wanted, "{promote:?} {counts:?}: {}", judged.rule);
    }
    let said = |counts| after(Promote::NoHarm, counts).rule;
    assert!(
        said(healthy).ends_with("no harm seen, 95 % certain below 1.44 times stable"),
        "{}",
        said(healthy)
    );
    assert!(
        said(spotless).ends_with("no harm seen, no upper bound known"),
        "{}",
        said(spotless)
    );
}

#[test]
fn what_the_plan_does_not_ask_for_is_not_stored_and_need_not_be() {
    let mut analysis = begun(errors(), Settings::default());
    analysis.observe(0, &ratio_tick(10, [0.0, 20.0, 6.0, 1980.0]));
    let mut stored = serde_json::to_value(&analysis).expect("text");
    let keys = |value: &serde_json::Value| {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    // as it was before there were rank tests, sample ratios and room for pods
    let analysis_keys = ["course", "failure", "metrics", "plans", "settings", "weights"];
    assert_eq!(keys(&stored), analysis_keys);
    assert_eq!(keys(&stored["settings"]), ["alpha", "beta", "harmBudget", "interval"]);
    let metric_keys = [
        "baselineEvents",
        "blindSince",
        "chain",
        "dispersion",
        "gaps",
        "harm",
        "last",
        "likelihood",
        "minutes",
        "phi",
        "safety",
        "step",
        "stepSince",
        "total",
        "unvisited",
    ];
    assert_eq!(keys(&stored["metrics"][0]), metric_keys);
    let restored: Analysis = serde_json::from_value(stored.take()).expect("an analysis");
    assert_eq!(restored, analysis);
}

/// An hour of stable pods, each with its own rate for ever, and then a canary of twice the rate.
fn harm_with(canary_pods: Vec<u32>, spread: f64) -> f64 {
    let mut dice = Dice(9);
    let settings = Settings {
        canary_pods,
        ..Settings::default()
    };
    let mut analysis = Analysis::new(vec![errors()], settings, percents(&WEIGHTS)).expect("a plan");
    let mut pods = |at: i64| {
        let pod = |place: u8, dice: &mut Dice| Arm {
            events: vec![dice.poisson(3.0 * (1.0 + spread * (f64::from(place) - 7.5)))],
            total: 1000.0,
        };
        let pods: Vec<Arm> = (0..16).map(|place| pod(place, &mut dice)).collect();
        let events = pods.iter().map(|pod| pod.events[0]).sum();
        Evidence::Complete(Tick {
            at: Millis::from_secs(at),
            canary: Arm {
                events: vec![if at > 3600 { 1.0 } else { 0.0 }],
                total: if at > 3600 { 150.0 } else { 0.0 },
            },
            baseline: Arm {
                events: vec![events],
                total: 16_000.0,
            },
            baseline_pods: pods,
        })
    };
    for minute in 1..=60 {
        analysis.observe(0, &pods(minute * 60));
    }
    analysis.begin_step(0, Millis::from_secs(3600));
    for minute in 61..=80 {
        analysis.observe(0, &pods(minute * 60));
    }
    let stored = serde_json::to_string(&analysis).expect("text");
    assert!(stored.len() <= 2048, "{} bytes: {stored}", stored.len());
    analysis.judged(1, 0).readings[0].harm[0]
}

#[test]
fn a_canary_of_one_pod_among_uneven_pods_is_given_more_room() {
    let told = harm_with(vec![1; 5], 0.1);
    let untold = harm_with(Vec::new(), 0.1);
    let many = harm_with(vec![50; 5], 0.1);
    assert!(told < many && many < untold, "{told}, {many}, {untold}");
    let even = harm_with(vec![1; 5], 0.0);
    assert!(even > told, "pods that are alike need no room: {even}, {told}");
}

#[test]
fn shares_of_a_third_are_judged_with_far_fewer_requests_than_rare_events_would_need() {
    let counts = [7.0, 20.0, 693.0, 1980.0];
    let after = |error_budget| {
        let plan = MetricPlan {
            error_budget,
            margin_promote: Some(0.3),
            ..MetricPlan::new("slow", Shape::Ratio)
        };
        let mut analysis = begun(plan, Settings::default());
        let passed = |at: &i64| {
            analysis.observe(0, &ratio_tick(at * 10, counts));
            matches!(analysis.judged(1, 0).verdict, Verdict::Pass(_))
        };
        (1..600).find(passed).expect("safe")
    };
    // the same by the process for rare events
    let [a, n, b, m] = counts;
    let margin = Margin {
        side: Side::Lower,
        ratio: 1.3,
        extra: 0.0,
    };
    let mut process = Process::new();
    process.stake(1.0);
    let proved = |_: &i64| {
        process.play(&Round::new(&margin, [n, m]), [a, b], 1.0, None);
        process.log_e() >= libm::log(20.0)
    };
    let rare = (1..600).find(proved).expect("safe");
    let shares = after(None);
    assert!(3 * shares < 2 * rare, "{shares} ticks against {rare}");
    // an objective that the service misses anyway counts only until a tick has shown that
    assert!(after(Some(0.001)) < rare);
}
