//! Gauges are watched: they hold back, or abort where the policy says so, and prove nothing.
#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use proptest::prelude::*;

use crate::decision::{Evidence, GapKind, Judged, MethodName, Millis, Reason, Unit, Verdict};

use super::world::{percents, ratio_tick};
use super::{Analysis, Method, MetricPlan, Past, PlanError, Settings, Shape};

fn memory(abort: bool) -> MetricPlan {
    MetricPlan {
        method: Method::Guard {
            worse: 0.5,
            floor: 100e6,
            abort,
        },
        ..MetricPlan::new("memory", Shape::Gauge)
    }
}

fn begun(plan: MetricPlan, past: Option<Past>) -> Analysis {
    let settings = Settings {
        past,
        ..Settings::default()
    };
    let mut analysis = Analysis::new(vec![plan], settings, percents(&[50, 95])).expect("a plan in range");
    analysis.begin_step(0, Millis(0));
    analysis
}

/// So many looks of ten seconds: medians in megabytes, and the canary's samples in each.
fn seen(analysis: &mut Analysis, looks: i64, [canary, stable]: [f64; 2], samples: f64) -> Judged {
    let first = analysis.seen(0).map_or(0, |at| at.0 / 1000);
    for look in 1..=looks {
        let counts = [canary * 1e6, samples, stable * 1e6, 9.0];
        analysis.observe(0, &ratio_tick(first + look * 10, counts));
    }
    analysis.judged(1, 0)
}

const HOLDS: Verdict = Verdict::Inconclusive(Reason::GuardExceeded);
const OPEN: Verdict = Verdict::Inconclusive(Reason::Undecided);
const FINE: Verdict = Verdict::Pass(Reason::NoHarm);

#[test]
fn a_gauge_holds_when_it_is_far_above_stables_and_the_floor_for_five_minutes_and_thirty_samples() {
    for (name, looks, levels, samples, wanted) in [
        ("as much as stable", 40, [200.0, 200.0], 1.0, FINE),
        ("exactly what is allowed", 40, [300.0, 200.0], 1.0, FINE),
        ("more, and below the floor", 40, [99.0, 10.0], 1.0, FINE),
        ("less than nothing to compare with", 40, [200.0, 0.0], 1.0, HOLDS),
        ("above for a look less than five minutes", 30, [301.0, 200.0], 1.0, OPEN),
        ("above for five minutes", 31, [301.0, 200.0], 1.0, HOLDS),
        (
            "above for long, seen seldom",
            29,
            [301.0, 200.0],
            0.0,
            Verdict::Inconclusive(Reason::TooFew),
        ),
        ("above for long, in too few samples", 40, [301.0, 200.0], 0.7, OPEN),
    ] {
        let judged = seen(&mut begun(memory(false), None), looks, levels, samples);
        assert_eq!(judged.verdict, wanted, "{name}: {}", judged.rule);
        assert_eq!(judged.no_harm, wanted == FINE, "{name}");
        let reading = &judged.readings[0];
        assert_eq!((reading.method, reading.unit), (MethodName::Guard, Unit::Samples));
        assert_eq!((reading.harm, reading.safety), ([0.0; 2], [0.0; 2]), "{name}");
    }
}

#[test]
fn it_aborts_only_where_the_policy_says_so_and_never_against_a_past_that_holds() {
    let past = |abort| Some(Past { abort });
    let aborts = Verdict::Fail(Reason::GuardExceeded);
    for (abort, past, wanted) in [
        (false, None, &HOLDS),
        (true, None, &aborts),
        (true, past(true), &aborts),
        (true, past(false), &HOLDS),
    ] {
        let mut analysis = begun(memory(abort), past);
        let judged = seen(&mut analysis, 40, [301.0, 200.0], 1.0);
        assert_eq!(&judged.verdict, wanted, "{abort} {past:?}: {}", judged.rule);
        assert_eq!(&analysis.verdict(0), wanted);
    }
}

#[test]
fn a_break_begins_anew_and_what_holds_ends_with_what_it_saw() {
    let above = [301.0, 200.0];
    let mut analysis = begun(memory(false), None);
    seen(&mut analysis, 30, above, 1.0);
    seen(&mut analysis, 1, [200.0, 200.0], 1.0);
    assert_eq!(seen(&mut analysis, 30, above, 1.0).verdict, OPEN, "one look below");
    // nobody knows what it was meanwhile
    analysis.observe(0, &Evidence::missing(GapKind::Stale, "40 s old"));
    assert_eq!(analysis.verdict(0), Verdict::Inconclusive(Reason::NoEvidence));
    assert_eq!(
        seen(&mut analysis, 30, above, 1.0).verdict,
        OPEN,
        "a look without evidence"
    );
    // a look without a sample is no break, and another step is none either
    analysis.observe(0, &ratio_tick(analysis.seen(0).expect("seen").0 / 1000 + 10, [0.0; 4]));
    analysis.begin_step(1, analysis.seen(0).expect("seen"));
    let first = analysis.seen(0).expect("seen").0 / 1000;
    analysis.observe(0, &ratio_tick(first + 10, [301e6, 1.0, 200e6, 9.0]));
    let judged = analysis.judged(1, 1);
    assert_eq!(judged.verdict, HOLDS, "{}", judged.rule);
    assert_eq!(
        judged.rule,
        "memory: median 301 M on canary, 200 M on stable: above 1.50 times stable and 100 M for 5 min; guard, no error rate claimed"
    );
    analysis.observe(0, &ratio_tick(first + 20, [299e6, 1.0, 200e6, 9.0]));
    let judged = analysis.judged(1, 1);
    assert_eq!(judged.verdict, FINE);
    assert!((judged.readings[0].ratio.expect("both are known") - 1.495).abs() < 1e-9);
    assert_eq!(
        judged.rule,
        "memory: median 299 M on canary, 200 M on stable: not above what is allowed; guard, no error rate claimed"
    );
}

#[test]
fn a_guard_is_for_gauges_and_gauges_are_for_guards() {
    let guard = memory(false).method;
    for (shape, method) in [
        (Shape::Ratio, guard),
        (Shape::Count, guard),
        (Shape::Gauge, Method::Sequential),
        (Shape::Gauge, Method::Limit { max: 0.1, failures: 1 }),
    ] {
        let plan = MetricPlan {
            method,
            ..MetricPlan::new("memory", shape)
        };
        let refused = Analysis::new(vec![plan], Settings::default(), percents(&[50]));
        assert!(
            matches!(refused, Err(PlanError::Method { .. })),
            "{shape:?} {refused:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_stored_goes_on_bit_for_bit_and_without_evidence_nothing_passes(
        looks in prop::collection::vec((0.0..1e9_f64, 0..9_u32, 0.0..1e9_f64, any::<bool>()), 1..80),
    ) {
        let mut live = begun(memory(true), None);
        for (at, (canary, samples, stable, missing)) in (1..).zip(looks) {
            let tick = ratio_tick(at * 10, [canary, f64::from(samples), stable, 9.0]);
            let missing = missing && at % 7 == 0;
            let evidence = if missing { Evidence::missing(GapKind::Stale, "old") } else { tick };
            let stored = serde_json::to_string(&live).unwrap();
            prop_assert!(stored.len() <= 2048, "{} bytes", stored.len());
            let mut restored: Analysis = serde_json::from_str(&stored).unwrap();
            for analysis in [&mut live, &mut restored] {
                analysis.observe(0, &evidence);
            }
            prop_assert_eq!(&restored, &live);
            prop_assert_eq!(live.verdict(0), live.judged(1, 0).verdict);
            prop_assert!(!missing || !matches!(live.verdict(0), Verdict::Pass(_)));
        }
    }
}
