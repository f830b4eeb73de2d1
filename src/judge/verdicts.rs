//! What is said when, by example.
#![expect(
    clippy::indexing_slicing,
    clippy::float_cmp,
    reason = "a test may panic, and means exactly equal"
)]

use crate::decision::{Arm, Evidence, GapKind, Judged, Millis, Reason, Tick, Verdict};

use super::world::{Dice, SERVICE, WEIGHTS, errors, percents, ratio_tick};
use super::{Analysis, Method, MetricPlan, PlanError, Settings, Shape};

/// Begun at 0 s at the first of these weights.
fn begun(plan: MetricPlan, weights: &[i64]) -> Analysis {
    let mut analysis = SERVICE.analysis(plan, weights, 0.01);
    analysis.begin_step(0, Millis(0));
    analysis
}

/// The same tick, again and again, every 10 s.
fn after(mut analysis: Analysis, step: usize, times: i64, counts: [f64; 4]) -> Judged {
    let first = analysis.seen(0).map_or(0, |at| at.0 / 1000);
    for tick in 1..=times {
        analysis.observe(0, &ratio_tick(first + tick * 10, counts));
    }
    analysis.judged(1, step)
}

fn limit(max: f64) -> MetricPlan {
    MetricPlan {
        method: Method::Limit { max, failures: 1 },
        min_sample: 100.0,
        ..errors()
    }
}

#[test]
fn a_verdict_follows_from_counts() {
    let sequential = || begun(errors(), &WEIGHTS);
    let last = || begun(errors(), &[95]);
    let limited = || begun(limit(0.05), &WEIGHTS);
    let natural = || {
        begun(
            MetricPlan {
                min_sample: 5000.0,
                ..errors()
            },
            &WEIGHTS,
        )
    };
    let strict = || {
        begun(
            MetricPlan {
                margin_promote: Some(0.15),
                ..errors()
            },
            &WEIGHTS,
        )
    };
    let cases = [
        (
            "healthy, but not proved within 15 %",
            after(strict(), 0, 60, [0.0, 20.0, 6.0, 1980.0]),
            Verdict::Inconclusive(Reason::Undecided),
        ),
        (
            "healthy, and enough of it",
            after(sequential(), 0, 60, [0.0, 20.0, 6.0, 1980.0]),
            Verdict::Pass(Reason::Safe),
        ),
        (
            "healthy so far",
            after(sequential(), 0, 2, [0.0, 20.0, 6.0, 1980.0]),
            Verdict::Inconclusive(Reason::TooFew),
        ),
        (
            "no request at all",
            after(sequential(), 0, 60, [0.0; 4]),
            Verdict::Inconclusive(Reason::TooFew),
        ),
        (
            "eight times worse",
            after(sequential(), 0, 30, [1.0, 40.0, 6.0, 1960.0]),
            Verdict::Fail(Reason::Harm),
        ),
        (
            "as bad as stable",
            after(sequential(), 0, 30, [30.0, 100.0, 300.0, 1000.0]),
            Verdict::Pass(Reason::Safe),
        ),
        (
            "more than a fifth fails",
            after(natural(), 0, 8, [12.0, 30.0, 0.0, 0.0]),
            Verdict::Fail(Reason::LimitExceeded),
        ),
        (
            "no harm at the last step",
            after(last(), 0, 6, [6.0, 1900.0, 0.0, 100.0]),
            Verdict::Pass(Reason::NoHarm),
        ),
        (
            "a quiet last step",
            after(last(), 0, 6, [0.0, 19.0, 0.0, 1.0]),
            Verdict::Inconclusive(Reason::TooFew),
        ),
        (
            "within a limit",
            after(limited(), 0, 4, [1.0, 30.0, 0.0, 0.0]),
            Verdict::Pass(Reason::Safe),
        ),
        (
            "over a limit",
            after(limited(), 0, 4, [3.0, 30.0, 90.0, 100.0]),
            Verdict::Fail(Reason::LimitExceeded),
        ),
        (
            "over a limit, too few to say",
            after(limited(), 0, 2, [3.0, 30.0, 0.0, 0.0]),
            Verdict::Inconclusive(Reason::TooFew),
        ),
    ];
    for (name, judged, wanted) in cases {
        assert_eq!(judged.verdict, wanted, "{name}: {}", judged.rule);
        assert_eq!(judged.readings.len(), 1);
        assert_eq!(judged.readings[0].verdict, wanted, "{name}");
        assert!(judged.blind_since.is_none(), "{name}");
    }
}

#[test]
fn numbers_of_a_proof_of_harm_are_those_of_its_rule() {
    let mut analysis = begun(errors(), &WEIGHTS);
    for tick in 1..=3 {
        analysis.observe(0, &ratio_tick(tick * 10, [0.0, 40.0, 6.0, 1960.0]));
    }
    analysis.begin_step(1, Millis::from_secs(30));
    let judged = (4..30)
        .find_map(|tick| {
            analysis.observe(0, &ratio_tick(tick * 10, [4.0, 40.0, 6.0, 1960.0]));
            let judged = analysis.judged(1, 1);
            (judged.verdict == Verdict::Fail(Reason::Harm)).then_some(judged)
        })
        .expect("harm");
    let [failed, all] = judged.readings[0].canary;
    let said = format!("http-errors: {failed} of {all} requests failed on canary");
    assert!(judged.rule.starts_with(&said), "{said}: {}", judged.rule);
    assert!(all > failed * 10.0, "the first step's requests are counted too: {said}");
}

#[test]
fn a_rule_names_its_metric_and_its_numbers() {
    let cases = [
        (
            after(begun(errors(), &WEIGHTS), 0, 30, [1.0, 40.0, 6.0, 1960.0]).rule,
            "http-errors: 7 of 280 requests failed on canary, 42 of 13,720 on stable: ratio 8.17, 99 % certain above 1.10 times stable",
        ),
        (
            after(begun(limit(0.05), &WEIGHTS), 0, 4, [3.0, 30.0, 0.0, 0.0]).rule,
            "http-errors: 12 of 120 requests failed on canary: above the limit of 5 %",
        ),
        (
            after(begun(errors(), &WEIGHTS), 0, 1, [0.0, 0.0, 0.0, 0.0]).rule,
            "http-errors: 0 of 0 requests failed on canary, 0 of 0 on stable: needs about 458 more requests",
        ),
        (
            after(begun(errors(), &[95]), 0, 6, [6.0, 1900.0, 1.0, 100.0]).rule,
            "http-errors: 36 of 11,400 requests failed on canary, 6 of 600 on stable: no harm seen, 95 % certain below 1.52 times stable",
        ),
        (
            begun(errors(), &WEIGHTS).judged(1, 0).rule,
            "http-errors: no complete evidence: no tick yet",
        ),
        (begun(errors(), &WEIGHTS).judged(1, 2).rule, "step 3 has not begun"),
    ];
    for (rule, wanted) in cases {
        assert_eq!(rule, wanted);
    }
}

#[test]
fn silence_is_not_evidence_and_changes_no_count() {
    let mut analysis = begun(errors(), &WEIGHTS);
    assert_eq!(
        analysis.judged(1, 0).blind_since,
        Some(Millis(0)),
        "nothing has been seen since the start"
    );
    analysis.observe(0, &ratio_tick(10, [0.0, 20.0, 6.0, 1980.0]));
    let before = analysis.judged(1, 0);
    for _ in 0..3 {
        analysis.observe(0, &Evidence::missing(GapKind::Timeout, "no answer in 5 s"));
    }
    let blind = analysis.judged(1, 0);
    assert_eq!(blind.verdict, Verdict::Inconclusive(Reason::NoEvidence));
    assert_eq!(
        blind.blind_since,
        Some(Millis::from_secs(10)),
        "blind since the last complete tick"
    );
    assert_eq!(blind.rule, "http-errors: no complete evidence: Timeout");
    assert_eq!(
        (blind.readings[0].canary, blind.readings[0].harm),
        (before.readings[0].canary, before.readings[0].harm)
    );
    assert_eq!(blind.evidence_hash, before.evidence_hash);
    analysis.observe(0, &ratio_tick(10, [20.0, 20.0, 6.0, 1980.0]));
    assert_eq!(
        analysis.judged(1, 0),
        blind,
        "a tick that was counted is not counted again"
    );
    analysis.observe(0, &ratio_tick(40, [0.0, 60.0, 18.0, 5940.0]));
    let seeing = analysis.judged(1, 0);
    assert_eq!((seeing.blind_since, seeing.readings[0].canary), (None, [0.0, 80.0]));
    assert_ne!(seeing.evidence_hash, before.evidence_hash);
}

#[test]
fn counts_that_cannot_be_counts_are_no_evidence() {
    let bad = [
        [-1.0, 20.0, 0.0, 10.0],
        [f64::NAN, 20.0, 0.0, 10.0],
        [21.0, 20.0, 0.0, 10.0],
        [0.0, 20.0, 0.0, f64::INFINITY],
    ];
    for counts in bad {
        let judged = after(begun(errors(), &WEIGHTS), 0, 1, counts);
        assert_eq!(judged.verdict, Verdict::Inconclusive(Reason::NoEvidence), "{counts:?}");
        assert_eq!(judged.readings[0].gaps[0].kind, GapKind::NotACount, "{counts:?}");
    }
}

#[test]
fn one_blind_metric_blocks_a_pass_and_never_hides_harm() {
    let plans = vec![errors(), MetricPlan::new("orders", Shape::Ratio)];
    let healthy = [0.0, 100.0, 6.0, 1980.0];
    for (counts, wanted) in [
        (healthy, Verdict::Inconclusive(Reason::NoEvidence)),
        ([20.0, 100.0, 6.0, 1980.0], Verdict::Fail(Reason::Harm)),
    ] {
        let mut analysis = Analysis::new(plans.clone(), Settings::default(), percents(&WEIGHTS)).expect("a plan");
        analysis.begin_step(0, Millis(0));
        for at in 1..=60 {
            analysis.observe(0, &ratio_tick(at * 10, counts));
            analysis.observe(1, &Evidence::missing(GapKind::Unreachable, "connection refused"));
        }
        let judged = analysis.judged(1, 0);
        assert_eq!(judged.verdict, wanted, "{}", judged.rule);
        assert!(!judged.no_harm);
    }
}

#[test]
fn a_failure_stands_whatever_follows() {
    let mut analysis = begun(errors(), &WEIGHTS);
    let mut at = 0;
    while analysis.failure.is_none() {
        at += 10;
        analysis.observe(0, &ratio_tick(at, [3.0, 20.0, 6.0, 1980.0]));
    }
    let first = analysis.judged(1, 0);
    for _ in 0..200 {
        at += 10;
        analysis.observe(0, &ratio_tick(at, [0.0, 1000.0, 6.0, 1000.0]));
    }
    assert_eq!(
        (analysis.judged(1, 0).verdict, analysis.judged(1, 0).rule),
        (first.verdict, first.rule)
    );
}

#[test]
fn a_new_step_starts_safety_anew_and_carries_harm_on() {
    let mut analysis = begun(errors(), &WEIGHTS);
    for at in 1..=60 {
        analysis.observe(0, &ratio_tick(at * 10, [0.0, 20.0, 6.0, 1980.0]));
    }
    let before = analysis.judged(1, 0);
    assert!(before.receiving);
    assert_eq!(before.verdict, Verdict::Pass(Reason::Safe));
    analysis.begin_step(1, Millis::from_secs(603));
    let begun = analysis.judged(1, 1);
    assert_eq!(
        (begun.readings[0].safety[0], begun.readings[0].canary),
        (0.0, [0.0, 0.0])
    );
    assert!(
        (begun.readings[0].harm[0] - before.readings[0].harm[0]).abs() < 0.1,
        "harm carries on"
    );
    assert!(!begun.receiving);
    analysis.observe(0, &ratio_tick(610, [0.0, 20.0, 6.0, 1980.0]));
    assert!(
        !analysis.judged(1, 1).receiving,
        "this tick began before the weight was written"
    );
    analysis.observe(0, &ratio_tick(620, [0.0, 100.0, 6.0, 1900.0]));
    assert_eq!(analysis.judged(1, 1).readings[0].canary, [0.0, 100.0]);
    let told = analysis.clone();
    analysis.begin_step(1, Millis::from_secs(630));
    assert_eq!(analysis, told, "telling a step again changes nothing");
}

#[test]
fn a_canary_that_should_have_been_seen_is_blind_and_one_that_is_rare_is_quiet() {
    for (baseline, blind) in [(150.0, false), (4_000.0, true)] {
        let mut analysis = begun(errors(), &WEIGHTS);
        analysis.observe(0, &ratio_tick(10, [0.0, 0.0, 0.0, baseline]));
        let judged = analysis.judged(1, 0);
        assert_eq!(judged.blind_since.is_some(), blind, "{baseline}: {}", judged.rule);
        let reason = if blind { Reason::NoEvidence } else { Reason::TooFew };
        assert_eq!(judged.verdict, Verdict::Inconclusive(reason), "{baseline}");
        analysis.observe(0, &ratio_tick(20, [0.0, 1.0, 0.0, 100.0]));
        assert_eq!(
            analysis.judged(1, 0).blind_since,
            None,
            "one request is enough to be seen"
        );
    }
}

#[test]
fn requests_of_an_attempt_before_this_one_are_not_counted() {
    let failing = |at| ratio_tick(at, [20.0, 40.0, 0.0, 100.0]);
    let quiet = |at| ratio_tick(at, [0.0, 0.0, 0.0, 100.0]);
    let cases = [
        ("before the first weight", vec![failing(10)], false),
        (
            "late, from before the first weight",
            vec![quiet(10), failing(20)],
            false,
        ),
        (
            "around it, after another attempt",
            vec![failing(20), failing(30)],
            false,
        ),
        ("around it, after nothing", vec![quiet(20), failing(30)], true),
        ("after it", vec![failing(20), failing(30), failing(40)], true),
    ];
    for (case, ticks, counted) in cases {
        let mut analysis = SERVICE.analysis(errors(), &WEIGHTS, 0.01);
        analysis.begin_step(0, Millis::from_secs(25));
        for tick in ticks {
            analysis.observe(0, &tick);
        }
        let fails = matches!(analysis.judged(1, 0).verdict, Verdict::Fail(_));
        assert_eq!(fails, counted, "{case}: {}", analysis.judged(1, 0).rule);
    }
}

#[test]
fn a_step_that_begins_again_counts_anew_without_more_capital() {
    let mut analysis = begun(errors(), &WEIGHTS);
    analysis.observe(0, &ratio_tick(10, [0.0, 20.0, 6.0, 1980.0]));
    analysis.begin_step(1, Millis::from_secs(12));
    analysis.observe(0, &ratio_tick(20, [0.0, 20.0, 6.0, 1980.0]));
    let harm = analysis.judged(1, 1).readings[0].harm;
    for step in [0, 1] {
        analysis.begin_step(step, Millis::from_secs(20));
        let again = analysis.judged(1, step);
        assert_eq!(
            (again.readings[0].canary, again.receiving),
            ([0.0, 0.0], false),
            "step {step}"
        );
        assert_eq!(again.readings[0].harm, harm, "step {step}");
    }
    analysis.begin_step(0, Millis::from_secs(20));
    analysis.observe(0, &ratio_tick(30, [0.0, 20.0, 6.0, 1980.0]));
    assert_eq!(
        analysis.judged(1, 0).readings[0].canary,
        [0.0, 20.0],
        "it is judged again"
    );
}

#[test]
fn every_tail_of_a_histogram_must_be_safe_and_any_may_show_harm() {
    let plan = MetricPlan::new("latency", Shape::Histogram { tails: 3, shown: 1 });
    let cases = [
        ([50.0, 10.0, 1.0], Verdict::Pass(Reason::Safe)),
        ([50.0, 10.0, 8.0], Verdict::Fail(Reason::Harm)),
        ([80.0, 10.0, 1.0], Verdict::Fail(Reason::Harm)),
    ];
    for (slow, wanted) in cases {
        let mut analysis = begun(plan.clone(), &[25, 95]);
        for at in 1..=240 {
            analysis.observe(
                0,
                &Evidence::Complete(Tick {
                    at: Millis::from_secs(at * 10),
                    canary: Arm {
                        events: slow.to_vec(),
                        total: 100.0,
                    },
                    baseline: Arm {
                        events: vec![150.0, 30.0, 3.0],
                        total: 300.0,
                    },
                    baseline_pods: Vec::new(),
                }),
            );
        }
        let judged = analysis.judged(1, 0);
        assert_eq!(judged.verdict, wanted, "{slow:?}: {}", judged.rule);
        assert_eq!(
            judged.readings[0].canary[0],
            10.0 * judged.readings[0].canary[1] / 100.0,
            "the shown tail"
        );
    }
}

#[test]
fn dispersion_is_learnt_from_pods_while_the_step_goes_on() {
    let mut dice = Dice(11);
    let mut untold = begun(errors(), &WEIGHTS);
    let mut told = untold.clone();
    for at in 1..=240 {
        let pods: Vec<Arm> = (0..6)
            .map(|_| Arm {
                events: vec![8.0 * dice.poisson(0.25)],
                total: 330.0,
            })
            .collect();
        let events = pods.iter().map(|pod| pod.events[0]).sum();
        for (analysis, baseline_pods) in [(&mut told, pods), (&mut untold, Vec::new())] {
            let (canary, baseline) = ([0.0, 20.0], [events, 1980.0]);
            let [canary, baseline] = [canary, baseline].map(|[events, total]| Arm {
                events: vec![events],
                total,
            });
            let at = Millis::from_secs(at * 10);
            analysis.observe(
                0,
                &Evidence::Complete(Tick {
                    at,
                    canary,
                    baseline,
                    baseline_pods,
                }),
            );
        }
    }
    let grown = |mut analysis: Analysis| {
        let before = analysis.judged(1, 0).readings[0].harm[0];
        for at in 241..=260 {
            analysis.observe(0, &ratio_tick(at * 10, [2.0, 20.0, 6.0, 1980.0]));
        }
        analysis.judged(1, 0).readings[0].harm[0] - before
    };
    let (told, untold) = (grown(told), grown(untold));
    assert!(told < untold / 4.0, "clumps of 8: {told} against {untold}");
}

#[test]
fn a_histogram_with_pods_is_stored_in_two_kilobytes_and_its_plan() {
    let (mut dice, mut analysis) = (
        Dice(3),
        begun(
            MetricPlan::new("latency", Shape::Histogram { tails: 3, shown: 1 }),
            &WEIGHTS,
        ),
    );
    for at in 1..=60 {
        let mut arm = |total: f64| Arm {
            events: [0.5, 0.1, 0.01]
                .map(|share| dice.poisson(total * share).min(total))
                .to_vec(),
            total,
        };
        analysis.observe(
            0,
            &Evidence::Complete(Tick {
                at: Millis::from_secs(at * 10),
                canary: arm(20.0),
                baseline: arm(1980.0),
                baseline_pods: (0..20).map(|_| arm(99.0)).collect(),
            }),
        );
    }
    let stored = serde_json::to_string(&analysis).unwrap();
    assert!(stored.len() <= 2048 + 370, "{} bytes: {stored}", stored.len());
    let restored: Analysis = serde_json::from_str(&stored).unwrap();
    assert_eq!(restored.judged(1, 0), analysis.judged(1, 0));
}

#[test]
fn what_cannot_be_judged_by_is_refused_by_name() {
    let weights = percents(&WEIGHTS);
    let judge = |plan, weights| {
        Analysis::new(vec![plan], Settings::default(), weights)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let cases = [
        (
            judge(
                MetricPlan {
                    margin_abort: -0.1,
                    ..errors()
                },
                weights.clone(),
            ),
            "metric \"http-errors\": margin.abort is -0.1; accepted is 0 to 100",
        ),
        (
            judge(
                MetricPlan {
                    margin_abort: f64::NAN,
                    ..errors()
                },
                weights.clone(),
            ),
            "metric \"http-errors\": margin.abort is NaN; accepted is 0 to 100",
        ),
        (
            judge(limit(1.0), weights.clone()),
            "metric \"http-errors\": limit is 1; accepted is 0 to below 1",
        ),
        (
            judge(errors(), percents(&[5, 5])),
            "the weights of the steps must rise, from 1 to 100, not [5, 5]",
        ),
        (
            judge(errors(), Vec::new()),
            "the weights of the steps must rise, from 1 to 100, not []",
        ),
    ];
    for (message, wanted) in cases {
        assert_eq!(message, wanted);
    }
    assert_eq!(
        Analysis::new(Vec::new(), Settings::default(), weights).unwrap_err(),
        PlanError::NoMetric
    );
}
