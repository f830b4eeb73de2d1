//! Events over time, like restarts: pod-seconds stand where requests do elsewhere.
#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use crate::decision::{Judged, Millis, Promote, Reason, Unit, Verdict};

use super::world::{Dice, errors, percents, ratio_tick, restarts};
use super::{Analysis, Method, MetricPlan, PlanError, SampleRatioPlan, Settings, Shape};

fn begun(plans: &[MetricPlan], weights: &[i64]) -> Analysis {
    let settings = Settings {
        sample_ratio: Some(SampleRatioPlan::default()),
        ..Settings::default()
    };
    let mut analysis = Analysis::new(plans.to_vec(), settings, percents(weights)).expect("plans in range");
    analysis.begin_step(0, Millis(0));
    analysis
}

/// So many ticks of ten seconds, in each of which one pod of the canary and nine of stable are seen,
/// and this is what happens to them.
fn seen(analysis: &mut Analysis, ticks: i64, [canary, stable]: [f64; 2]) -> Judged {
    let first = analysis.seen(0).map_or(0, |at| at.0 / 1000);
    for tick in 1..=ticks {
        analysis.observe(0, &ratio_tick(first + tick * 10, [canary, 10.0, stable, 90.0]));
    }
    analysis.judged(1, 0)
}

#[test]
fn a_count_is_judged_over_pod_time_and_says_so() {
    let proof = MetricPlan {
        margin_promote: Some(1.0),
        promote: Promote::Safe,
        ..restarts()
    };
    let (no_harm, harm) = (Verdict::Pass(Reason::NoHarm), Verdict::Fail(Reason::Harm));
    let few = Verdict::Inconclusive(Reason::TooFew);
    let open = Verdict::Inconclusive(Reason::Undecided);
    let cases = [
        (
            "quiet on both sides, for too short",
            restarts(),
            (29, [0.0, 0.0]),
            &few,
            "0 in 5 pod-minutes on canary, 0 in 44 pod-minutes on stable: needs about 10 more pod-seconds, about 10 s",
        ),
        (
            "quiet on both sides",
            restarts(),
            (30, [0.0, 0.0]),
            &no_harm,
            "0 in 5 pod-minutes on canary, 0 in 45 pod-minutes on stable: no harm seen, 95 % certain below 35.9 per pod-hour",
        ),
        (
            "a quiet service of which a proof is asked",
            proof.clone(),
            (360, [0.0, 0.0]),
            &open,
            "0 in 60 pod-minutes on canary, 0 in 9 pod-hours on stable: neither safety nor harm is shown yet",
        ),
        (
            "one that is busy, and is proved",
            proof,
            (360, [1.0, 9.0]),
            &Verdict::Pass(Reason::Safe),
            ": 95 % certain below 2.00 times stable",
        ),
        (
            "a crash loop",
            restarts(),
            (5, [1.0, 0.0]),
            &harm,
            " on stable: 99 % certain above 1.10 times stable",
        ),
        (
            "more events than seconds",
            restarts(),
            (1, [50.0, 0.0]),
            &harm,
            "50 in 10 pod-seconds on canary, 0 in 2 pod-minutes on stable: 99 % certain above 1.10 times stable",
        ),
    ];
    for (name, plan, (ticks, events), verdict, said) in cases {
        let judged = seen(&mut begun(&[plan], &[10, 95]), ticks, events);
        assert_eq!(&judged.verdict, verdict, "{name}: {}", judged.rule);
        assert!(judged.rule.starts_with("restarts: "), "{name}: {}", judged.rule);
        assert!(judged.rule.ends_with(said), "{name}: {}", judged.rule);
        assert_eq!(judged.readings[0].unit, Unit::PodSeconds, "{name}");
    }
}

#[test]
fn what_is_known_of_requests_is_not_asked_of_pod_time() {
    // at 50 % a canary without a request is missed, and one that a count does not see is not
    let mut analysis = begun(&[restarts(), errors()], &[50, 95]);
    for at in 1..=60 {
        analysis.observe(0, &ratio_tick(at * 10, [0.0, 10.0, 0.0, 90.0]));
        analysis.observe(1, &ratio_tick(at * 10, [1.0, 1000.0, 1.0, 1000.0]));
    }
    let judged = analysis.judged(1, 0);
    // nine pods of stable's for one of the canary's are no sample ratio: requests are
    assert_ne!(judged.verdict.reason(), Reason::SampleRatio, "{}", judged.rule);
    assert_ne!(judged.verdict.reason(), Reason::NoEvidence, "{}", judged.rule);
    assert!(judged.receiving);
    // pods that are there have not received a request
    let mut analysis = begun(&[restarts(), errors()], &[50, 95]);
    analysis.observe(0, &ratio_tick(10, [0.0, 10.0, 0.0, 90.0]));
    analysis.observe(1, &ratio_tick(10, [0.0, 0.0, 0.0, 10.0]));
    assert!(!analysis.judged(1, 0).receiving);
    // but where nothing else is known, they have to do
    assert!(seen(&mut begun(&[restarts()], &[50, 95]), 1, [0.0, 0.0]).receiving);
}

#[test]
fn counts_of_a_high_rate_are_never_taken_for_shares() {
    // seven events in ten pod-seconds: as a share E2 would play them, and say more than is true
    let mut analysis = begun(&[restarts()], &[10, 95]);
    let judged = seen(&mut analysis, 120, [7.0, 63.0]);
    assert!(judged.no_harm, "{}", judged.rule);
    assert_eq!(judged.readings[0].difference, None);
    assert!(judged.readings[0].interval.is_some());
}

#[test]
fn limits_and_ranks_need_requests() {
    for method in [
        Method::Limit { max: 0.1, failures: 1 },
        Method::MannWhitney {
            window: Millis::from_secs(300),
            points: 30,
        },
    ] {
        let plan = MetricPlan { method, ..restarts() };
        let refused = Analysis::new(vec![plan], Settings::default(), percents(&[50]));
        assert!(matches!(refused, Err(PlanError::Method { .. })), "{refused:?}");
    }
}

/// How many of 60 canaries that are as good as stable are aborted in a day, looked at every other minute.
fn aborted(clump: f64, dispersion: f64) -> usize {
    let release = |seed: &u64| {
        let (mut dice, plan) = (
            Dice(*seed),
            MetricPlan {
                dispersion,
                ..restarts()
            },
        );
        let mut analysis = begun(&[plan], &[10, 95]);
        (1..=720).any(|look| {
            // a restart an hour and pod
            let mut events = |pods: f64| clump * dice.poisson(pods / 30.0 / clump);
            let counts = [events(1.0), 120.0, events(9.0), 1080.0];
            analysis.observe(0, &ratio_tick(look * 120, counts));
            analysis.failed().is_some()
        })
    };
    (0..60).filter(release).count()
}

#[test]
fn good_canaries_are_aborted_no_more_often_than_promised() {
    for (name, clump, dispersion, least, most) in [
        ("pods that crash by themselves", 1.0, 1.0, 0, 2),
        ("loops of five that nobody told about", 5.0, 1.0, 3, 60),
        ("loops of five", 5.0, 5.0, 0, 2),
    ] {
        let found = aborted(clump, dispersion);
        assert!((least..=most).contains(&found), "{name}: {found} of 60");
    }
}

#[test]
fn a_count_passes_without_proof_unless_one_is_asked_for() {
    assert_eq!(MetricPlan::new("restarts", Shape::Count).promote, Promote::NoHarm);
    assert_eq!(MetricPlan::new("errors", Shape::Ratio).promote, Promote::Safe);
}
