//! The policy in `config/policies`: every clause of it fires, by its own name and numbers.

use serde_json::{Value, json};

use crate::api::{ReleaseGate, parse};
use crate::decision::{Evidence, Millis, Reason, Tick, Verdict};
use crate::sources::{Answer, Measure};

use super::ruling::{BEGIN, answer, arm, blind, frozen, opened, spec, tick};
use super::{Trial, check, questions};

/// The shipped policy, strictly read, frozen with two steps.
fn shipped() -> Value {
    let text = include_str!("../../config/policies/numbers.yaml");
    let object: Value = serde_saphyr::from_str(text).expect("YAML");
    let gate: ReleaseGate = parse(&object).expect("a good gate");
    let mut policy = spec(&json!([]));
    policy["steps"] = json!([{"weight": 50}, {"weight": 100}]);
    policy["analysis"] = json!(gate.spec.analysis);
    policy["policy"] = json!(gate.spec.policy);
    check(&frozen(&policy)).expect("good rules");
    policy
}

/// Edges of the duration histogram as a plane chooses them: the one that is judged, then those around.
const EDGES: [f64; 6] = [0.25, 0.1, 0.25, 0.5, 1.0, 2.5];

/// One tick of the four metrics: failed of 1000 on canary and stable, and requests above each edge.
fn quarters(number: i64, failed: [[f64; 2]; 3], slow: [[f64; 5]; 2]) -> Vec<Answer> {
    let [errors, orders, payments] = failed;
    let arms = slow.map(|[a, b, c, d, e]| arm(&[b, a, b, c, d, e], 1000.0));
    let [canary, baseline] = arms;
    let durations = answer(Evidence::Complete(Tick {
        at: BEGIN + Millis::from_secs(10 * number),
        canary,
        baseline,
        baseline_pods: vec![],
    }));
    vec![
        tick(number, errors),
        durations,
        tick(number, orders),
        tick(number, payments),
    ]
}

/// Stable's durations: 700 up to 0.1 s, 230 up to 0.25, 60 up to 0.5, 9 up to 1.
const USUAL: [f64; 5] = [300.0, 70.0, 10.0, 1.0, 0.0];

#[test]
fn every_clause_of_the_shipped_policy_fires_by_its_own_name_and_numbers() {
    let even = [20.0, 20.0];
    let slower = [300.0, 80.0, 40.0, 1.0, 0.0];
    let cases = [
        ("all is well", [even; 3], USUAL, Verdict::Pass(Reason::Safe), ""),
        (
            "errors",
            [[22.6, 20.0], even, even],
            USUAL,
            Verdict::Inconclusive(Reason::RuleHolds),
            "rule error-rate-within-10-percent does not let it go on: metrics[\"http-errors\"].delta < 0.10, \
             as http-errors: delta 0.13",
        ),
        (
            "p95",
            [even; 3],
            slower,
            Verdict::Inconclusive(Reason::RuleHolds),
            "rule p95-within-20-percent does not let it go on: metrics[\"latency\"].quantileDelta < 0.20, \
             as latency: quantileDelta 0.31",
        ),
        (
            "success",
            [even, [32.0, 20.0], even],
            USUAL,
            Verdict::Inconclusive(Reason::RuleHolds),
            "rule business-success-within-1-percent does not let it go on: metrics[\"orders\"].successDelta > -0.01, \
             as orders: successDelta -0.0122",
        ),
        (
            "many errors",
            [[31.0, 20.0], even, even],
            USUAL,
            Verdict::Fail(Reason::RuleAborts),
            "rule error-rate-above-50-percent says abort: metrics[\"http-errors\"].delta > 0.50, \
             as http-errors: delta 0.55",
        ),
        (
            "payments",
            [even, even, [21.2, 20.0]],
            USUAL,
            Verdict::Fail(Reason::RuleAborts),
            "rule payment-failures-above-5-percent says abort: metrics[\"payments\"].delta > 0.05, \
             as payments: delta 0.06",
        ),
    ];
    for (name, failed, slow, verdict, words) in cases {
        // with margins so wide that the judge itself is content
        let mut policy = shipped();
        for metric in policy["analysis"]["metrics"].as_array_mut().expect("metrics") {
            metric["margin"] = json!({"abort": "300%", "promote": "400%"});
        }
        let mut trial = opened(&policy);
        let mut first = quarters(1, failed, [slow, USUAL]);
        first[1] = Answer {
            edges: Some(EDGES.to_vec()),
            ..blind()
        };
        trial.observe(first);
        for number in 2..=40 {
            trial.observe(quarters(number, failed, [slow, USUAL]));
        }
        let judged = trial.judged.expect("judged");
        assert_eq!(judged.verdict, verdict, "{name}: {}", judged.rule);
        assert!(judged.rule.starts_with(words), "{name}: {}", judged.rule);
    }
}

#[test]
fn the_shipped_policy_holds_a_small_sample_and_missing_telemetry_by_name() {
    let mut trial = opened(&shipped());
    let rule = "rule sample-and-telemetry says hold: release.evidence != \"complete\", as release: evidence ";
    let mut few = quarters(1, [[0.0, 20.0]; 3], [USUAL, USUAL]);
    for (place, answer) in few.iter_mut().enumerate() {
        let Evidence::Complete(tick) = &mut answer.evidence else {
            continue;
        };
        tick.canary = arm(&vec![0.0; if place == 1 { 6 } else { 1 }], 100.0);
    }
    few[1].edges = Some(EDGES.to_vec());
    trial.observe(few);
    let judged = trial.judged.clone().expect("judged");
    assert_eq!(judged.verdict, Verdict::Inconclusive(Reason::TooFew));
    assert!(judged.rule.starts_with(&format!("{rule}tooFew; ")), "{}", judged.rule);
    for number in 2..=40 {
        let mut answers = quarters(number, [[20.0, 20.0]; 3], [USUAL, USUAL]);
        answers[3] = blind();
        trial.observe(answers);
    }
    let judged = trial.judged.expect("judged");
    assert_eq!(judged.verdict, Verdict::Inconclusive(Reason::NoEvidence));
    assert!(
        judged.rule.starts_with(&format!("{rule}noEvidence; ")),
        "{}",
        judged.rule
    );
}

#[test]
fn the_edges_around_a_quantile_are_asked_for_only_when_a_rule_reads_it() {
    let mut unread = shipped();
    unread["policy"] = json!({});
    for (policy, around) in [(shipped(), true), (unread, false)] {
        let asked = questions(&frozen(&policy)).expect("questions");
        let Measure::Tails(tails) = asked[1].measure.clone() else {
            panic!("a histogram");
        };
        assert_eq!(tails == tails.clone().with_surroundings(), around);
    }
}

#[test]
fn what_is_counted_around_a_quantile_is_part_of_the_evidence_and_survives_a_restart() {
    let policy = shipped();
    let even = [[20.0, 20.0]; 3];
    let run = |slow: [f64; 5], restart: bool| {
        let mut trial = opened(&policy);
        let mut first = quarters(1, even, [slow, USUAL]);
        first[1] = Answer {
            edges: Some(EDGES.to_vec()),
            ..blind()
        };
        trial.observe(first);
        for number in 2..=35 {
            if restart && number == 17 {
                let saved = trial.snapshot().expect("a memory");
                trial = Trial::open(("shop", "checkout"), &frozen(&policy), Some(&saved)).expect("a trial");
                trial.begin_step(0, BEGIN);
            }
            trial.observe(quarters(number, even, [slow, USUAL]));
        }
        trial.judged.expect("judged")
    };
    assert_eq!(run(USUAL, true), run(USUAL, false));
    let [a, _, c, d, e] = USUAL;
    // the edge that is judged counts the same, those around it do not
    let other = [a, 70.0, c + 20.0, d, e];
    assert_ne!(run(other, false).evidence_hash, run(USUAL, false).evidence_hash);
}
