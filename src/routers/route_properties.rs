//! What holds for every route, not only for those that came to mind.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics has failed"
)]

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::route::{restored, split_at};
use super::route_tests::{checkout, ending, mark, percent, put_back, route};
use super::{Keep, Pair, facts};
use crate::decision::Split;

fn backend() -> impl Strategy<Value = Value> {
    let weight = prop_oneof![Just(0), 1..=3_i64, 1..=10_000_i64];
    let name = prop::sample::select(vec!["checkout", "cart", "old", "new"]);
    let namespace = option::weighted(0.2, prop::sample::select(vec!["shop", "elsewhere"]));
    let kind = option::weighted(0.2, prop::sample::select(vec!["Service", "ServiceImport"]));
    let port = option::of(80..=81_i64);
    (name, namespace, kind, port, option::of(weight), any::<bool>()).prop_map(
        |(name, ns, kind, port, weight, filter)| {
            let mut backend = json!({"name": name});
            for (field, value) in [
                ("namespace", ns.map(Value::from)),
                ("kind", kind.map(Value::from)),
                ("port", port.map(Value::from)),
                ("weight", weight.map(Value::from)),
                ("filters", filter.then(|| json!([{"type": "URLRewrite", "new": null}]))),
            ] {
                if let Some(value) = value {
                    backend[field] = value;
                }
            }
            backend
        },
    )
}

/// Rules of which several may be the same but for their weights.
fn any_rules() -> impl Strategy<Value = Vec<Value>> {
    let path = prop::sample::select(vec!["/", "/a"]);
    let rule = (path, option::weighted(0.9, vec(backend(), 0..5))).prop_map(|(path, backends)| {
        let mut rule = json!({"matches": [{"path": {"value": path}}]});
        if let Some(backends) = backends {
            rule["backendRefs"] = backends.into();
        }
        rule
    });
    vec(rule, 0..5)
}

fn with_rules(rules: &[Value]) -> Value {
    let mut route = route("[]");
    route["spec"]["rules"] = rules.into();
    route
}

fn backends(rule: &Value) -> &[Value] {
    rule["backendRefs"].as_array().map_or(&[], Vec::as_slice)
}

fn is_service(backend: &Value, name: &str) -> bool {
    let or = |field: &str, default: &str| backend.get(field).and_then(Value::as_str).unwrap_or(default) == default;
    backend["name"] == name && or("kind", "Service") && or("namespace", "shop")
}

fn gets_traffic(rules: &[Value]) -> bool {
    rules
        .iter()
        .flat_map(backends)
        .any(|b| is_service(b, "checkout") && b.get("weight") != Some(&json!(0)))
}

/// JSON of any shape, with the words that the router looks for.
fn any_json() -> impl Strategy<Value = Value> {
    let words = vec![
        "metadata",
        "annotations",
        "labels",
        "traffic.tollgate.dev/checkout",
        "traffic.tollgate.dev/cart",
        "managedFields",
        "spec",
        "rules",
        "backendRefs",
        "name",
        "checkout",
        "checkout-canary",
        "weight",
        "namespace",
        "shop",
        "mark",
        "split",
        "original",
        "weights",
        "owners",
        "manager",
        "tollgate",
        "fieldsV1",
        "f:spec",
        "f:rules",
        "parentRefs",
        "status",
    ];
    let word = prop::sample::select(words);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(7, 64, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((word.clone(), inner), 0..6).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_written_the_user_gets_back_what_the_user_wrote(rules in any_rules(), steps in vec(0..=100_u8, 1..4)) {
        let written = with_rules(&rules);
        let mut now = written.clone();
        for step in steps {
            match split_at(&now, &checkout(), &mark(1, step)) {
                Ok(next) => now = next,
                Err(_) => prop_assert!(!gets_traffic(&rules)),
            }
            prop_assert_eq!(put_back(&now, &checkout()), written.clone());
        }
    }

    #[test]
    fn every_rule_is_split_exactly(rules in any_rules(), step in 1..=100_u8) {
        prop_assume!(gets_traffic(&rules));
        let now = split_at(&with_rules(&rules), &checkout(), &mark(1, step)).expect("the service gets traffic");
        prop_assert_eq!(facts(Some(&now), &checkout()).split, Split::At(percent(step)));
        for (before, after) in rules.iter().zip(now["spec"]["rules"].as_array().expect("rules")) {
            let touched = backends(before).iter().any(|b| is_service(b, "checkout") && b.get("weight") != Some(&json!(0)));
            if !touched {
                prop_assert_eq!(before, after);
                continue;
            }
            let mut after = backends(after).iter();
            for old in backends(before) {
                let had = old.get("weight").map_or(1, |w| w.as_i64().expect("integer"));
                let new = after.next().expect("as many").get("weight").and_then(Value::as_i64).expect("written out");
                if is_service(old, "checkout") && had > 0 {
                    let canary = after.next().expect("canary");
                    let share = canary["weight"].as_i64().expect("written out");
                    prop_assert_eq!(&canary["name"], "checkout-canary");
                    prop_assert_eq!((new + share, share), (had * 100, had * i64::from(step)));
                } else {
                    prop_assert_eq!(new, had * 100);
                }
            }
            prop_assert_eq!(after.next(), None);
        }
    }

    #[test]
    fn writing_twice_changes_nothing_more(rules in any_rules(), step in 0..=100_u8) {
        if let Ok(once) = split_at(&with_rules(&rules), &checkout(), &mark(1, step)) {
            prop_assert_eq!(split_at(&once, &checkout(), &mark(1, step)), Ok(once));
        }
    }

    #[test]
    fn gates_come_and_go_in_any_order(
        rules in any_rules(),
        moves in vec((any::<bool>(), option::of(0..=100_u8)), 1..8),
    ) {
        let written = with_rules(&rules);
        let gates = [checkout(), Pair::new("cart", "shop", "cart")];
        let gate = |first: bool| if first { &gates[0] } else { &gates[1] };
        let mut now = written.clone();
        for (who, to) in moves {
            match to {
                Some(step) => now = split_at(&now, gate(who), &mark(1, step)).unwrap_or(now),
                None => now = put_back(&now, gate(who)),
            }
        }
        for order in [[true, false], [false, true]] {
            let back = order.into_iter().fold(now.clone(), |r, who| put_back(&r, gate(who)));
            prop_assert_eq!(back, written.clone());
        }
    }

    #[test]
    fn rules_are_found_again_in_any_order((rules, shuffled) in any_rules().prop_flat_map(|mut rules| {
        for (i, rule) in rules.iter_mut().enumerate() {
            rule["matches"][0]["path"]["value"] = format!("/{i}").into();
        }
        let order: Vec<usize> = (0..rules.len()).collect();
        (Just(rules), Just(order).prop_shuffle())
    }), step in 0..=100_u8) {
        if let Ok(mut now) = split_at(&with_rules(&rules), &checkout(), &mark(1, step)) {
            let split: Vec<Value> = shuffled.iter().map(|i| now["spec"]["rules"][i].clone()).collect();
            now["spec"]["rules"] = split.into();
            let expected: Vec<Value> = shuffled.iter().map(|i| rules[*i].clone()).collect();
            prop_assert_eq!(put_back(&now, &checkout()), with_rules(&expected));
        }
    }

    #[test]
    fn no_json_and_no_annotation_makes_it_fail_otherwise_than_by_an_error(odd in any_json(), note in ".{0,200}", step in 0..=100_u8) {
        let mut noted = with_rules(&[json!({"backendRefs": [{"name": "checkout"}]})]);
        noted["metadata"]["annotations"] = json!({checkout().annotation(): note, "traffic.tollgate.dev/cart": odd.to_string()});
        let mut inside = route("[]");
        inside["spec"] = odd.clone();
        let mut listed = route("[]");
        listed["spec"]["rules"] = json!([odd.clone(), {"backendRefs": [odd.clone()]}]);
        for odd in [odd, noted, inside, listed] {
            let _ = facts(Some(&odd), &checkout());
            let _ = split_at(&odd, &checkout(), &mark(1, step));
            let _ = restored(&odd, &checkout(), ending(Keep::Nothing)).map(|r| super::route::handed_back(&r, &checkout(), Keep::Nothing));
        }
    }
}
