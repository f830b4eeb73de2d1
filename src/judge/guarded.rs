//! A baseline of a past time holds where one of the same time would abort.
#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use crate::decision::{Judged, Millis, Reason, Verdict};

use super::world::{WEIGHTS, errors, percents, ratio_tick};
use super::{Analysis, Method, MetricPlan, Past, Settings};

fn begun(plan: &MetricPlan, past: Option<Past>) -> Analysis {
    let settings = Settings {
        past,
        ..Settings::default()
    };
    let mut analysis = Analysis::new(vec![plan.clone()], settings, percents(&WEIGHTS)).expect("a plan in range");
    analysis.begin_step(0, Millis(0));
    analysis
}

/// So many ticks of these counts, on what was counted before.
fn counted(analysis: &mut Analysis, times: i64, counts: [f64; 4]) -> Judged {
    let first = analysis.seen(0).map_or(0, |at| at.0 / 1000);
    for tick in 1..=times {
        analysis.observe(0, &ratio_tick(first + tick * 10, counts));
    }
    analysis.judged(1, 0)
}

const HARMFUL: [f64; 4] = [1.0, 40.0, 6.0, 1960.0];
const HEALTHY: [f64; 4] = [0.0, 20.0, 6.0, 1980.0];

fn ranks() -> MetricPlan {
    MetricPlan {
        method: Method::MannWhitney {
            window: Millis::from_secs(200),
            points: 20,
        },
        min_sample: 100.0,
        ..errors()
    }
}

fn limit() -> MetricPlan {
    MetricPlan {
        method: Method::Limit { max: 0.01, failures: 1 },
        min_sample: 100.0,
        ..errors()
    }
}

#[test]
fn harm_against_a_past_holds_and_aborts_only_where_the_policy_says_so() {
    let (harm, safe) = (Verdict::Fail(Reason::Harm), Verdict::Pass(Reason::Safe));
    let over = Verdict::Fail(Reason::LimitExceeded);
    let worse = Verdict::Inconclusive(Reason::WorseThanPast);
    let cases = [
        ("harm", errors(), HARMFUL, &harm, &worse),
        ("health", errors(), HEALTHY, &safe, &safe),
        ("ranks show harm", ranks(), HARMFUL, &harm, &worse),
        ("over a limit of its own", limit(), HARMFUL, &over, &over),
        (
            "certainly above the guard",
            errors(),
            [12.0, 30.0, 0.0, 0.0],
            &over,
            &over,
        ),
    ];
    for (name, plan, counts, concurrent, guard) in cases {
        for (past, wanted) in [
            (None, concurrent),
            (Some(Past { abort: true }), concurrent),
            (Some(Past { abort: false }), guard),
        ] {
            let mut analysis = begun(&plan, past);
            let judged = counted(&mut analysis, 60, counts);
            assert_eq!(&judged.verdict, wanted, "{name}, {past:?}: {}", judged.rule);
            assert_eq!(&judged.readings[0].verdict, wanted, "{name}, {past:?}");
            assert_eq!(&analysis.verdict(0), wanted, "{name}, {past:?}");
            assert_eq!(
                analysis.failed().is_some(),
                matches!(wanted, Verdict::Fail(_)),
                "{name}"
            );
            assert_eq!(judged.no_harm, matches!(wanted, Verdict::Pass(_)), "{name}, {past:?}");
        }
    }
}

#[test]
fn what_holds_says_the_numbers_of_the_whole_attempt_and_why_it_does_not_abort() {
    let judged = counted(&mut begun(&errors(), Some(Past { abort: false })), 30, HARMFUL);
    let [failed, all] = judged.readings[0].canary;
    assert_eq!((failed, all), (30.0, 1200.0));
    let said = "http-errors: 30 of 1,200 requests failed on canary, 180 of 58,800 on stable: ratio 8.17, 99 % certain \
                above 1.10 times stable; held, as a past baseline aborts only where the policy says so";
    assert_eq!(judged.rule, said);
}

#[test]
fn a_hold_ends_with_its_evidence_and_nothing_of_it_is_kept() {
    let mut analysis = begun(&errors(), Some(Past { abort: false }));
    let mut ticks = 0;
    while analysis.verdict(0) != Verdict::Inconclusive(Reason::WorseThanPast) {
        counted(&mut analysis, 1, [1.0, 20.0, 6.0, 1980.0]);
        ticks += 1;
        assert!(ticks < 100, "harm is seen");
    }
    // stored and restored in the middle of the hold, the same follows bit for bit
    let text = serde_json::to_string(&analysis).expect("text");
    let mut restored: Analysis = serde_json::from_str(&text).expect("an analysis");
    let mut held = 0;
    while analysis.verdict(0) == Verdict::Inconclusive(Reason::WorseThanPast) {
        counted(&mut analysis, 1, HEALTHY);
        counted(&mut restored, 1, HEALTHY);
        held += 1;
        assert!(held < 2000, "the evidence fades");
    }
    assert_eq!(
        serde_json::to_string(&analysis).expect("text"),
        serde_json::to_string(&restored).expect("text")
    );
    assert_eq!(analysis.judged(1, 0), restored.judged(1, 0));
    assert_eq!(analysis.failed(), None);
    analysis.begin_step(1, Millis::from_secs((ticks + held) * 10));
    let judged = (0..200)
        .map(|_| {
            counted(&mut analysis, 1, [0.0, 100.0, 6.0, 1980.0]);
            analysis.verdict(1)
        })
        .find(|verdict| matches!(verdict, Verdict::Pass(_)));
    assert_eq!(judged, Some(Verdict::Pass(Reason::Safe)));
}

#[test]
fn silence_hides_harm_against_a_past_and_a_canary_without_a_request_is_missed_by_its_share() {
    let mut analysis = begun(&errors(), Some(Past { abort: false }));
    counted(&mut analysis, 30, HARMFUL);
    let gap = crate::decision::Evidence::missing(crate::decision::GapKind::BaselineMissing, "no series");
    analysis.observe(0, &gap);
    assert_eq!(analysis.verdict(0), Verdict::Inconclusive(Reason::NoEvidence));
    // at 95 % of the traffic, of 21 requests of stable's in the past about 20 come now
    for (requests, reason) in [(20.0, Reason::TooFew), (22.0, Reason::NoEvidence)] {
        let settings = Settings {
            past: Some(Past { abort: false }),
            ..Settings::default()
        };
        let mut analysis = Analysis::new(vec![errors()], settings, percents(&[95])).expect("a plan in range");
        analysis.begin_step(0, Millis(0));
        let judged = counted(&mut analysis, 1, [0.0, 0.0, 0.0, requests]);
        assert_eq!(
            judged.verdict,
            Verdict::Inconclusive(reason),
            "{requests}: {}",
            judged.rule
        );
    }
}
