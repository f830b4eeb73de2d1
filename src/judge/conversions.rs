//! Where success is what is counted: the rarer outcome is judged, whichever it is.
#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use crate::decision::{Arm, Evidence, Millis, Reason, Tick, Verdict};

use super::world::{Dice, errors, percents, ratio_tick};
use super::{Analysis, Method, MetricPlan, PlanError, Settings, Shape};

fn orders() -> MetricPlan {
    MetricPlan::new("orders", Shape::Conversion)
}

fn begun(plan: MetricPlan) -> Analysis {
    let mut analysis = Analysis::new(vec![plan], Settings::default(), percents(&[50, 95])).expect("a plan in range");
    known(&mut analysis, 450.0);
    analysis.begin_step(0, Millis(0));
    analysis
}

/// Five hundred of stable's requests before the release, so many of them bad.
fn known(analysis: &mut Analysis, bad: f64) {
    analysis.observe(0, &ratio_tick(0, [0.0, 0.0, bad, 500.0]));
}

/// Successes are seldom: `rates` of the requests succeed, on the canary and on stable.
fn tick(dice: &mut Dice, at: i64, rates: [f64; 2]) -> Evidence<Tick> {
    let mut arm = |rate: f64| {
        let total = dice.poisson(1000.0);
        Arm {
            events: vec![total - dice.poisson(total * rate).min(total)],
            total,
        }
    };
    Evidence::Complete(Tick {
        at: Millis::from_secs(at * 10),
        canary: arm(rates[0]),
        baseline: arm(rates[1]),
        baseline_pods: Vec::new(),
    })
}

/// The first verdict of a step of an hour that is not Inconclusive.
fn verdict(plan: &MetricPlan, rates: [f64; 2], seed: u64) -> (Option<Verdict>, String) {
    let (mut dice, mut analysis) = (Dice(seed), begun(plan.clone()));
    for at in 1..=360 {
        analysis.observe(0, &tick(&mut dice, at, rates));
        let judged = analysis.judged(1, 0);
        if !matches!(judged.verdict, Verdict::Inconclusive(_)) {
            return (Some(judged.verdict), judged.rule);
        }
    }
    (None, analysis.judged(1, 0).rule)
}

#[test]
fn fewer_successes_are_harm_and_more_of_them_are_not() {
    let narrow = MetricPlan {
        margin_promote: Some(0.05),
        ..orders()
    };
    for (name, plan, rates, wanted) in [
        (
            "a third lost",
            orders(),
            [0.06, 0.09],
            Some(Verdict::Fail(Reason::Harm)),
        ),
        (
            "a third lost of few",
            orders(),
            [0.006, 0.009],
            Some(Verdict::Fail(Reason::Harm)),
        ),
        ("as many", orders(), [0.09, 0.09], Some(Verdict::Pass(Reason::Safe))),
        (
            "a third more",
            orders(),
            [0.12, 0.09],
            Some(Verdict::Pass(Reason::Safe)),
        ),
        ("between both margins", narrow, [0.085, 0.092], None),
    ] {
        let (verdict, rule) = verdict(&plan, rates, 7);
        assert_eq!(verdict, wanted, "{name}: {rule}");
    }
}

#[test]
fn canaries_at_the_margin_are_aborted_and_passed_no_more_often_than_promised() {
    let plan = MetricPlan {
        margin_promote: Some(0.2),
        ..orders()
    };
    let failed = |rates, wanted: fn(&Verdict) -> bool| {
        let verdicts = (0..100).map(|seed| verdict(&plan, rates, 100 + seed).0);
        verdicts.flatten().filter(wanted).count()
    };
    // nine of ten successes are what the margin tolerates, and eight of ten are not safe
    let aborted = failed([0.09, 0.1], |verdict| matches!(verdict, Verdict::Fail(_)));
    assert!(aborted <= 4, "{aborted} of 100 aborted, promised is 1 %");
    let passed = failed([0.08, 0.1], |verdict| matches!(verdict, Verdict::Pass(_)));
    assert!(passed <= 11, "{passed} of 100 passed, promised are 5 %");
}

#[test]
fn what_is_said_of_successes_speaks_of_successes_and_readings_of_bad_ones() {
    let plan = MetricPlan {
        margin_promote: Some(0.2),
        ..orders()
    };
    let mut analysis = begun(plan);
    analysis.observe(0, &ratio_tick(10, [18_000.0, 20_000.0, 18_100.0, 20_000.0]));
    let judged = analysis.judged(1, 0);
    assert_eq!(
        judged.rule,
        "orders: 2,000 of 20,000 requests succeeded on canary, 1,900 of 20,000 on stable: 95 % certain above 0.80 times stable"
    );
    assert_eq!(
        judged.readings[0].canary.map(f64::to_bits),
        [18_000.0, 20_000.0].map(f64::to_bits)
    );
    analysis.observe(0, &ratio_tick(20, [19_800.0, 20_000.0, 18_000.0, 20_000.0]));
    assert_eq!(
        analysis.judged(1, 0).rule,
        "orders: 2,200 of 40,000 requests succeeded on canary, 3,900 of 40,000 on stable: ratio 0.56, 99 % certain below 0.90 times stable"
    );
    let mut last = begun(orders());
    last.begin_step(1, Millis(0));
    last.observe(0, &ratio_tick(10, [1800.0, 2000.0, 1800.0, 2000.0]));
    let rule = last.judged(1, 1).rule;
    assert!(rule.contains("200 of 2,000 requests succeeded on canary"), "{rule}");
    assert!(rule.contains("more of all requests without success"), "{rule}");
}

#[test]
fn where_success_is_the_rule_the_failures_are_judged_like_any_errors() {
    let harm = |plan: MetricPlan| {
        let mut analysis = Analysis::new(vec![plan], Settings::default(), percents(&[50, 95])).expect("a plan");
        known(&mut analysis, 5.0);
        analysis.begin_step(0, Millis(0));
        for at in 1..=5 {
            analysis.observe(0, &ratio_tick(at * 10, [20.0, 1000.0, 10.0, 1000.0]));
        }
        let judged = analysis.judged(1, 0);
        (judged.readings[0].harm[0].to_bits(), judged.rule)
    };
    let (conversions, rule) = harm(orders());
    let (failures, _) = harm(MetricPlan {
        error_budget: None,
        ..errors()
    });
    assert_eq!(conversions, failures);
    assert!(
        rule.contains("100 of 5,000 requests did not succeed on canary"),
        "{rule}"
    );
}

#[test]
fn nothing_is_played_before_it_is_known_which_outcome_is_the_rarer_one() {
    let mut analysis = Analysis::new(vec![orders()], Settings::default(), percents(&[50, 95])).expect("a plan");
    analysis.begin_step(0, Millis(0));
    for (at, counted) in [(10, 0.0), (20, 0.0), (30, 300.0)] {
        analysis.observe(0, &ratio_tick(at, [300.0, 300.0, 225.0, 250.0]));
        // of a canary without any success nothing is said until stable has made 500 requests
        let judged = analysis.judged(1, 0);
        assert!(
            (judged.readings[0].canary[1] - counted).abs() < 1e-9,
            "{at}: {}",
            judged.rule
        );
        let stored = serde_json::to_string(&analysis).expect("text");
        analysis = serde_json::from_str(&stored).expect("an analysis");
        assert_eq!(serde_json::to_string(&analysis).expect("text"), stored);
    }
    assert_eq!(analysis.judged(1, 0).verdict, Verdict::Fail(Reason::Harm));
}

#[test]
fn a_limit_is_about_bad_ones_whichever_is_rarer_and_margins_have_a_most() {
    let limited = MetricPlan {
        method: Method::Limit { max: 0.95, failures: 1 },
        ..orders()
    };
    let mut analysis = begun(limited);
    analysis.observe(0, &ratio_tick(10, [970.0, 1000.0, 900.0, 1000.0]));
    assert_eq!(
        analysis.judged(1, 0).rule,
        "orders: 970 of 1,000 requests did not succeed on canary: above the limit of 95 %"
    );
    for (abort, promote, field) in [(0.91, None, "margin.abort"), (0.1, Some(0.91), "margin.promote")] {
        let plan = MetricPlan {
            margin_abort: abort,
            margin_promote: promote,
            ..orders()
        };
        let error = Analysis::new(vec![plan], Settings::default(), percents(&[50]));
        assert!(
            matches!(&error, Err(PlanError::Metric { field: named, .. }) if *named == field),
            "{field}: {error:?}"
        );
    }
}
