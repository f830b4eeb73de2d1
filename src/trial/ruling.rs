//! Rules as a gate states them, driven by ticks: what they refuse, when they speak, and what it does.

use serde_json::{Value, json};

use crate::api::{CanaryAnalysisSpec, Invalid};
use crate::decision::{Arm, Evidence, GapKind, Judged, Millis, Reason, Tick, Verdict};
use crate::sources::Answer;

use super::{Trial, check};

/// When the first step begins.
pub(super) const BEGIN: Millis = Millis::from_secs(1_000_000);

/// A gate's frozen policy: 50 and 100 %, windows of one minute, errors and durations.
pub(super) fn spec(rules: &Value) -> Value {
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
        "steps": [{"weight": 50}, {"weight": 100}],
        "analysis": {
            "minWindow": "1m",
            "minSample": 1000,
            "metrics": [
                {"name": "errors", "ratio": {"preset": "http-errors"}, "margin": {"abort": "900%", "promote": "900%"}},
                {"name": "slow-pays", "ratio": {"bad": "slow_total", "total": "pays_total"}, "margin": {"abort": "900%", "promote": "900%"}},
            ],
        },
        "policy": {"rules": rules},
    })
}

pub(super) fn frozen(spec: &Value) -> CanaryAnalysisSpec {
    serde_json::from_value::<CanaryAnalysisSpec>(spec.clone())
        .expect("a spec")
        .sealed()
}

pub(super) fn opened(spec: &Value) -> Trial {
    let mut trial = Trial::open(("shop", "checkout"), &frozen(spec), None).expect("a trial");
    trial.begin_step(0, BEGIN);
    trial
}

pub(super) fn answer(evidence: Evidence<Tick>) -> Answer {
    Answer {
        evidence,
        edges: None,
        age: None,
        past: Vec::new(),
    }
}

pub(super) fn arm(events: &[f64], total: f64) -> Arm {
    Arm {
        events: events.to_vec(),
        total,
    }
}

/// A tick of ten seconds in which so many of 1000 requests failed on canary and stable.
pub(super) fn tick(number: i64, [canary, stable]: [f64; 2]) -> Answer {
    answer(Evidence::Complete(Tick {
        at: BEGIN + Millis::from_secs(10 * number),
        canary: arm(&[canary], 1000.0),
        baseline: arm(&[stable], 1000.0),
        baseline_pods: vec![],
    }))
}

pub(super) fn blind() -> Answer {
    answer(Evidence::missing(GapKind::Timeout, "query timed out"))
}

/// The same tick for both metrics.
fn both(trial: &mut Trial, number: i64, failed: [f64; 2]) -> Judged {
    trial.observe(vec![tick(number, failed), tick(number, failed)]);
    trial.judged.clone().expect("judged")
}

/// Ten minutes of equal arms, after which the judge is sure.
fn healthy(rules: &Value) -> Judged {
    let mut trial = opened(&spec(rules));
    for number in 1..60 {
        both(&mut trial, number, [20.0, 20.0]);
    }
    both(&mut trial, 60, [20.0, 20.0])
}

#[test]
fn without_rules_the_judges_word_stands_and_with_them_it_is_only_made_more_cautious() {
    assert_eq!(healthy(&json!([])).verdict, Verdict::Pass(Reason::Safe));
    let delta = |field: &str, text: &str| json!([{"name": "mine", field: text}]);
    let (safe, holds) = (Verdict::Pass(Reason::Safe), Verdict::Inconclusive(Reason::RuleHolds));
    let aborts = Verdict::Fail(Reason::RuleAborts);
    let unanswered = Verdict::Inconclusive(Reason::RuleUnanswered);
    for (field, text, verdict) in [
        ("promoteWhen", "metrics.errors.delta < 0.1", &safe),
        ("promoteWhen", "metrics.errors.delta < -0.1", &holds),
        ("promoteWhen", "true", &safe),
        ("promoteWhen", "false", &holds),
        ("holdWhen", "metrics.errors.delta < 0.1", &holds),
        ("holdWhen", "metrics.errors.upper > 100", &safe),
        ("abortWhen", "metrics.errors.upper < 100", &aborts),
        ("abortWhen", "metrics[\"slow-pays\"].delta >= 0", &aborts),
        ("abortWhen", "metrics.errors.lower > 1", &safe),
        (
            "abortWhen",
            "metrics.errors.delta / metrics.errors.delta > 0",
            &unanswered,
        ),
        ("holdWhen", "metrics.errors.delta / 0 > 0", &unanswered),
        (
            "promoteWhen",
            "!(metrics.errors.ratio / metrics.errors.difference > 0)",
            &unanswered,
        ),
    ] {
        let judged = healthy(&delta(field, text));
        assert_eq!(&judged.verdict, verdict, "{field} {text}: {}", judged.rule);
        assert_eq!(judged.no_harm, verdict == &safe, "{field} {text}");
        assert_eq!(
            judged.rule.starts_with("rule mine "),
            verdict != &safe,
            "{}",
            judged.rule
        );
    }
}

#[test]
fn a_rule_never_promotes_what_the_judge_would_hold() {
    let mut trial = opened(&spec(&json!([{"name": "always", "promoteWhen": "true"}])));
    let judged = both(&mut trial, 1, [120.0, 20.0]);
    assert_eq!(judged.verdict.reason(), Reason::Undecided, "{}", judged.rule);
    let mut trial = opened(&spec(&json!([{"name": "always", "promoteWhen": "true"}])));
    for number in 1..=60 {
        both(&mut trial, number, [300.0, 20.0]);
    }
    assert!(matches!(trial.judged.expect("judged").verdict, Verdict::Fail(_)));
}

#[test]
fn abort_comes_before_hold_and_hold_before_promote_and_an_abort_stands() {
    let rules = json!([
        {"name": "go", "promoteWhen": "metrics.errors.delta < 0"},
        {"name": "unanswered", "promoteWhen": "1 / 0 > 1"},
        {"name": "wait", "holdWhen": "metrics.errors.canaryRequests < 63000"},
        {"name": "stop", "abortWhen": "metrics.errors.canaryRequests > 64000"},
    ]);
    let mut trial = opened(&spec(&rules));
    let mut said = Vec::new();
    for number in 1..=65 {
        said.push(both(&mut trial, number, [20.0, 20.0]));
    }
    let at = |number: usize| {
        said.get(number - 1)
            .map(|judged| (&judged.verdict, judged.rule.as_str()))
    };
    let holds = Verdict::Inconclusive(Reason::RuleHolds);
    let unanswered = Verdict::Inconclusive(Reason::RuleUnanswered);
    let aborts = Verdict::Fail(Reason::RuleAborts);
    let stop = "rule stop says abort: metrics.errors.canaryRequests > 64000, as errors: canaryRequests 65,000 \
                (1,300 of 65,000 on canary, 1,300 of 65,000 on stable)";
    let wait = "rule wait says hold: metrics.errors.canaryRequests < 63000, as errors: canaryRequests 62,000 \
                (1,240 of 62,000 on canary, 1,240 of 62,000 on stable)";
    let open = "rule unanswered cannot be answered: 1 / 0 > 1, as its arithmetic has no finite result";
    assert_eq!(at(62), Some((&holds, wait)));
    assert_eq!(at(64), Some((&unanswered, open)));
    assert_eq!(at(65), Some((&aborts, stop)));
    trial.observe(vec![blind(), blind()]);
    trial.begin_step(1, BEGIN + Millis::from_secs(660));
    let later = both(&mut trial, 67, [20.0, 20.0]);
    assert_eq!((&later.verdict, later.rule.as_str()), (&aborts, stop));
}

#[test]
fn an_estimate_is_looked_at_once_per_window_and_with_the_minimum_sample() {
    let rules = json!([{"name": "far", "abortWhen": "metrics.errors.delta > 0.5"}]);
    // bad in the middle of the first window only, and good at its end
    let mut trial = opened(&spec(&rules));
    for (number, failed) in [(1, 20.0), (2, 60.0), (3, 5.0), (4, 5.0), (5, 5.0), (6, 20.0)] {
        let judged = both(&mut trial, number, [failed, 20.0]);
        assert!(
            !matches!(judged.verdict, Verdict::Fail(_)),
            "tick {number}: {}",
            judged.rule
        );
    }
    // bad right after the look: seen when the second window ends, not before
    for number in 7..=12 {
        let judged = both(&mut trial, number, [60.0, 20.0]);
        let fails = judged.verdict == Verdict::Fail(Reason::RuleAborts);
        assert_eq!(fails, number == 12, "tick {number}: {}", judged.rule);
    }
    // the same with a minimum sample that is reached later
    let mut few = spec(&rules);
    few["analysis"]["minSample"] = json!(9000);
    let mut trial = opened(&few);
    for number in 1..=9 {
        let judged = both(&mut trial, number, [60.0, 20.0]);
        let fails = judged.verdict == Verdict::Fail(Reason::RuleAborts);
        assert_eq!(fails, number == 9, "tick {number}: {}", judged.rule);
    }
}

#[test]
fn a_bound_is_looked_at_at_every_tick() {
    let rules = json!([{"name": "sure", "abortWhen": "metrics.errors.lower > 1.2"}]);
    let mut trial = opened(&spec(&rules));
    let fails = |judged: Judged| judged.verdict == Verdict::Fail(Reason::RuleAborts);
    let first = (1..=5).find(|number| fails(both(&mut trial, *number, [40.0, 20.0])));
    assert!(
        first.is_some_and(|number| number < 6),
        "before the first window ends: {first:?}"
    );
}

#[test]
fn until_its_window_is_over_a_rule_holds_and_says_when_it_is_due() {
    let rules = json!([{"name": "near", "promoteWhen": "metrics.errors.delta < 0.1"}]);
    let mut slow = spec(&rules);
    slow["analysis"]["minWindow"] = json!("20m");
    let mut trial = opened(&slow);
    for number in 1..60 {
        both(&mut trial, number, [20.0, 20.0]);
    }
    let judged = both(&mut trial, 60, [20.0, 20.0]);
    assert_eq!(judged.verdict, Verdict::Inconclusive(Reason::MinWindow));
    assert_eq!(judged.rule, "rule near is not due yet: it is looked at once per window");
    assert!(!judged.no_harm);
}

#[test]
fn a_rule_that_reads_missing_evidence_neither_passes_nor_aborts_and_says_so() {
    for (field, text) in [
        ("promoteWhen", "metrics.errors.delta < 0.1"),
        ("holdWhen", "metrics.errors.delta > 0.1"),
        ("abortWhen", "metrics.errors.delta > -1"),
        ("abortWhen", "metrics.errors.canaryRequests > 0"),
        ("promoteWhen", "!(metrics.errors.lower > 100)"),
    ] {
        let mut trial = opened(&spec(&json!([{"name": "mine", field: text}])));
        for number in 1..=60 {
            trial.observe(vec![blind(), tick(number, [20.0, 20.0])]);
        }
        let judged = trial.judged.expect("judged");
        assert_eq!(judged.verdict, Verdict::Inconclusive(Reason::NoEvidence), "{text}");
        let says = format!("rule mine cannot be answered: {text}, as ");
        assert!(judged.rule.starts_with(&says), "{}", judged.rule);
        assert!(
            judged.rule.contains("of errors is not known: no complete evidence"),
            "{}",
            judged.rule
        );
        assert!(
            judged.rule.contains("; errors: no complete evidence: Timeout"),
            "{}",
            judged.rule
        );
    }
    // what decides without the missing number decides
    let mut trial = opened(&spec(&json!([
        {"name": "mine", "abortWhen": "metrics.errors.upper > 9 || metrics[\"slow-pays\"].canaryRequests > 5000"},
    ])));
    for number in 1..=6 {
        trial.observe(vec![blind(), tick(number, [20.0, 20.0])]);
    }
    assert_eq!(trial.judged.expect("judged").verdict, Verdict::Fail(Reason::RuleAborts));
}

#[test]
fn no_errors_on_stable_are_no_measure_and_none_on_both_are_no_difference() {
    let rules = json!([{"name": "mine", "abortWhen": "metrics.errors.delta > 0.5"}]);
    for (canary, reason) in [(0.0, Reason::Undecided), (1.0, Reason::RuleUnanswered)] {
        let mut trial = opened(&spec(&rules));
        for number in 1..=6 {
            both(&mut trial, number, [canary, 0.0]);
        }
        let judged = trial.judged.expect("judged");
        let said = judged
            .rule
            .contains("rule mine cannot be answered: metrics.errors.delta > 0.5, as delta of errors is not known: stable has no such events");
        assert_eq!(said, reason == Reason::RuleUnanswered, "{}", judged.rule);
        assert!(!matches!(judged.verdict, Verdict::Fail(_)), "{}", judged.rule);
    }
}

#[test]
fn what_cannot_be_understood_is_refused_with_what_would_be_accepted() {
    let names = "metrics[\"errors\"], metrics[\"slow-pays\"]";
    for (text, accepted) in [
        ("metrics.mistakes.delta < 1", names),
        ("metrics[\"slow\"].delta < 1", names),
        ("metrics.slow-pays.delta < 1", names),
        ("metrics.errors.detla < 1", "delta, "),
        ("metrics.errors.quantileDelta < 1", "successDelta, not quantileDelta"),
        ("release.wait < 1", "evidence, weight, step, minutes, sample, not wait"),
        ("errors.delta < 1", names),
        ("metrics.errors < 1", "like .delta"),
        ("metrics[1].delta < 1", "the name of a metric in quotes"),
        ("metrics.errors.delta", "true or false, not a number"),
        ("metrics.errors.evidence", "true or false, not a state of evidence"),
        (
            "release.evidence == \"toofew\"",
            "\"complete\", \"tooFew\", \"noEvidence\", not \"toofew\"",
        ),
        (
            "release.evidence == 1",
            "compares the like, not a state of evidence with a number",
        ),
        ("metrics.errors.delta < \"1\"", "a number in the place of a text"),
        (
            "metrics.errors.delta < 0.1 < 0.2",
            "a number in the place of true or false",
        ),
        ("!metrics.errors.delta", "true or false, not a number"),
        ("metrics.errors.delta < 10%", "without '%'; 10 % is written 0.1"),
        ("metrics.exists(m, m.delta > 1)", "without functions"),
        ("size(\"a\") > 0", "without functions"),
        ("has(metrics.errors)", "without functions"),
        (
            "[1][0] > 0",
            "a number, a text in quotes, metrics or release in the place of [",
        ),
        ("release.weight > 1u", "a number like 0.1 or 500 in the place of 1u"),
        ("release.weight > 1e999", "a number like 0.1 or 500"),
        ("release.weight >", "goes on after its last operator"),
        ("(release.weight > 1", "with ) before the end"),
        ("release.weight > 1)", "ends before )"),
        ("release.weight = 1", "without '='"),
        ("release.evidence == \"complete", "text that ends with \""),
        ("release.evidence == \"com\\plete\"", "without \\"),
        ("", "goes on after its last operator"),
    ] {
        let spec = frozen(&spec(&json!([{"name": "mine", "abortWhen": text}])));
        let Err(Invalid {
            field,
            value,
            accepted: told,
        }) = check(&spec)
        else {
            panic!("accepted: {text}");
        };
        assert_eq!(
            (field.as_str(), value.as_str()),
            ("spec.policy.rules[mine].abortWhen", text)
        );
        assert!(told.contains(accepted), "{text}: {told}");
    }
}

#[test]
fn rules_have_one_purpose_and_a_name_of_their_own() {
    for (rules, field) in [
        (json!([{"name": "mine"}]), "spec.policy.rules[mine].promoteWhen"),
        (
            json!([{"name": "mine", "promoteWhen": "true", "holdWhen": "true"}]),
            "spec.policy.rules[mine].promoteWhen",
        ),
        (
            json!([{"name": "mine", "holdWhen": "true"}, {"name": "mine", "abortWhen": "true"}]),
            "spec.policy.rules[1].name",
        ),
    ] {
        let refused = check(&frozen(&spec(&rules))).map_err(|invalid| invalid.field);
        assert_eq!(refused, Err(field.to_owned()));
    }
}

#[test]
fn texts_that_choke_other_parsers_are_refused_at_once() {
    let dense = "!!(!!!!!!(!!!!(((((!!(!!(!!!!((".repeat(16);
    for text in [
        dense + "1",
        "(".repeat(512),
        "-".repeat(511) + "1",
        "1+".repeat(255) + "1",
        "1".repeat(513),
    ] {
        let spec = frozen(&spec(&json!([{"name": "mine", "abortWhen": text}])));
        let refused = check(&spec).expect_err("refused").accepted;
        assert!(refused.contains(" at most "), "{refused}");
    }
}
