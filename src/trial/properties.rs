//! What holds for any rules and any ticks; and that the CEL library answers rules as we do.

use std::collections::HashMap;

use cel::{Context, Program, Value as Cel};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::decision::{Judged, Verdict};

use super::Trial;
use super::clause::{Clause, Described};
use super::environment::{Environment, FIELDS, Known, Of, Values, WHOLES};
use super::ruling::{BEGIN, blind, frozen, opened, spec, tick};

/// The judge and the rules over these ticks; one per pair of metrics, `None` where it is missing.
fn driven(spec: &Value, ticks: &[[Option<[f64; 2]>; 2]], restart_at: Option<usize>) -> Vec<Judged> {
    let frozen = frozen(spec);
    let mut trial = opened(spec);
    let mut said = Vec::new();
    for (place, pair) in ticks.iter().enumerate() {
        let number = i64::try_from(place).expect("few") + 1;
        if restart_at == Some(place) {
            let saved = trial.snapshot().expect("a memory");
            trial = Trial::open(("shop", "checkout"), &frozen, Some(&saved)).expect("a trial");
            trial.begin_step(0, BEGIN);
        }
        let answers = pair.map(|failed| failed.map_or_else(blind, |failed| tick(number, failed)));
        trial.observe(answers.to_vec());
        said.push(trial.judged.clone().expect("judged"));
    }
    said
}

/// The larger, the more a verdict permits.
fn permits(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Fail(_) => 0,
        Verdict::Inconclusive(_) => 1,
        Verdict::Pass(_) => 2,
    }
}

/// Expressions that can be read, with what is written for a metric's name left open.
fn expressions() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        (-2.0..3.0).prop_map(|value: f64| format!("{value:.3}")),
        Just("0".to_owned()),
        (1..70_000_i32).prop_map(|value| value.to_string()),
        prop::sample::select(FIELDS.to_vec())
            .prop_filter("of ratios", |(.., of, _)| *of != Of::Quantiles)
            .prop_flat_map(|(field, ..)| prop::sample::select(vec!["FIRST", "OTHER"])
                .prop_map(move |metric| format!("metrics[\"{metric}\"].{field}"))),
        prop::sample::select(WHOLES.map(|(field, _)| format!("release.{field}")).to_vec()),
    ];
    let sum = (
        number.clone(),
        prop::sample::select(vec!["+", "-", "*", "/"]),
        number.clone(),
    );
    let term = prop_oneof![3 => number, 1 => sum.prop_map(|(one, sign, other)| format!("({one} {sign} {other})"))];
    let signs = prop::sample::select(vec!["<", "<=", ">", ">=", "==", "!="]);
    let comparison = (term.clone(), signs, term).prop_map(|(one, sign, other)| format!("{one} {sign} {other}"));
    let state = prop::sample::select(vec!["complete", "tooFew", "noEvidence"])
        .prop_map(|state| format!("metrics[\"FIRST\"].evidence == \"{state}\""));
    let leaf = prop_oneof![4 => comparison, 1 => state, 1 => Just("true".to_owned())];
    leaf.prop_recursive(3, 10, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one} || {other})")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one} && {other})")),
            inner.prop_map(|inner| format!("!({inner})")),
        ]
    })
}

fn policies() -> impl Strategy<Value = Vec<(String, &'static str)>> {
    let effect = prop::sample::select(vec!["promoteWhen", "holdWhen", "abortWhen"]);
    prop::collection::vec((expressions(), effect), 1..4)
}

fn written(policy: &[(String, &str)], [first, other]: [&str; 2]) -> Value {
    let rule = |(place, (text, effect)): (usize, &(String, &str))| {
        let text = text.replace("FIRST", first).replace("OTHER", other);
        json!({"name": format!("rule-{place}"), *effect: text})
    };
    policy.iter().enumerate().map(rule).collect()
}

fn courses() -> impl Strategy<Value = Vec<[Option<[f64; 2]>; 2]>> {
    let counts = prop_oneof![
        4 => Just(Some([20.0, 20.0])),
        1 => (0..60_i32, 0..60_i32).prop_map(|(a, b)| Some([f64::from(a), f64::from(b)])),
        1 => Just(None),
    ];
    let pair = (counts.clone(), counts).prop_map(|(one, other)| [one, other]);
    prop_oneof![
        prop::collection::vec(pair, 1..30),
        Just(vec![[Some([20.0, 20.0]); 2]; 40]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_rules_permit_more_than_the_judge_alone(policy in policies(), ticks in courses()) {
        let alone = driven(&spec(&json!([])), &ticks, None);
        let ruled = driven(&spec(&written(&policy, ["errors", "slow-pays"])), &ticks, None);
        for (alone, ruled) in alone.iter().zip(&ruled) {
            prop_assert!(permits(&ruled.verdict) <= permits(&alone.verdict), "{:?} of {:?}", ruled, alone);
            prop_assert!(alone.no_harm || !ruled.no_harm);
            prop_assert_eq!(alone.blind_since, ruled.blind_since);
            if let Verdict::Fail(_) = alone.verdict {
                prop_assert_eq!(&ruled.verdict, &alone.verdict);
            }
        }
    }

    #[test]
    fn a_restart_changes_no_bit_of_what_rules_say(policy in policies(), ticks in courses(), at in 0..30_usize) {
        let spec = spec(&written(&policy, ["errors", "slow-pays"]));
        prop_assert_eq!(driven(&spec, &ticks, Some(at)), driven(&spec, &ticks, None));
    }

    #[test]
    fn names_decide_nothing(policy in policies(), ticks in courses()) {
        let before = spec(&written(&policy, ["errors", "slow-pays"]));
        let mut after = spec(&written(&policy, ["abort", "x"]));
        after["analysis"]["metrics"][0]["name"] = json!("abort");
        after["analysis"]["metrics"][1]["name"] = json!("x");
        let verdicts = |spec| driven(spec, &ticks, None).into_iter().map(|judged| judged.verdict).collect::<Vec<_>>();
        prop_assert_eq!(verdicts(&before), verdicts(&after));
    }
}

/// What the CEL library answers, with numbers that are all known.
fn library(text: &str, values: &Environment) -> Result<bool, String> {
    let metric = |index: usize| {
        let numbers = FIELDS.iter().filter_map(|(name, field, ..)| {
            let value = values.metrics.get(index)?.get(*field)?;
            Some(((*name).to_owned(), Cel::Float(value)))
        });
        let known = Cel::from(values.known(Some(index)).text());
        numbers
            .chain([("evidence".to_owned(), known)])
            .collect::<HashMap<_, _>>()
    };
    let metrics: HashMap<String, HashMap<String, Cel>> = [("errors", 0), ("slow-pays", 1)]
        .map(|(name, index)| (name.to_owned(), metric(index)))
        .into();
    let wholes = WHOLES.map(|(name, whole)| (name.to_owned(), Cel::Float(values.whole(whole))));
    let mut context = Context::default();
    context.add_variable_from_value("metrics", metrics);
    context.add_variable_from_value("release", HashMap::from(wholes));
    let program = Program::compile(text).map_err(|error| format!("{text}: {error:?}"))?;
    match program.execute(&context) {
        Ok(Cel::Bool(answer)) => Ok(answer),
        other => Err(format!("{text}: {other:?}")),
    }
}

/// Whole numbers as CEL's doubles: in a rule 1 and 1.0 are the same.
fn doubles(text: &str) -> String {
    let point = |word: &str| {
        if word.chars().all(|next| next.is_ascii_digit()) {
            ".0"
        } else {
            ""
        }
    };
    let split = text.split_inclusive([' ', '(', ')']).map(|part| {
        let word = part.trim_end_matches([' ', '(', ')']);
        let rest = part.get(word.len()..).unwrap_or_default();
        let point = if word.is_empty() { "" } else { point(word) };
        format!("{word}{point}{rest}")
    });
    split.collect()
}

proptest! {
    #[test]
    fn where_we_have_an_answer_the_cel_library_has_the_same(text in expressions(), counts in prop::array::uniform4(1..500_i32)) {
        let text = doubles(&text.replace("FIRST", "errors").replace("OTHER", "slow-pays"));
        let [a, b, lower, wide] = counts.map(f64::from);
        let values = Values {
            known: if a < 100.0 { Known::TooFew } else { Known::Complete },
            unit: crate::decision::Unit::Requests,
            counts: [a, 1000.0, b, 2000.0],
            bounds: [lower / 500.0, lower / 500.0 + wide].map(Some),
            difference: Some([-lower / 500.0, wide / 500.0]),
            quantiles: None,
        };
        let environment = Environment { metrics: vec![values.clone(), values], weight: 25.0, step: 2.0, minutes: lower };
        let described = ["errors", "slow-pays"].map(|name| Described { name: name.to_owned(), ratio: true, quantile: false, gauge: false });
        let clause = Clause::read(&text, &described).map_err(|fault| TestCaseError::fail(format!("{text}: {fault}")))?;
        if let Ok(answer) = clause.answer(&environment) {
            prop_assert_eq!(library(&text, &environment), Ok(answer));
        }
    }
}
