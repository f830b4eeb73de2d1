//! Routes before, during and after a release, as people and gateways write them.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics has failed"
)]

use serde_json::{Value, json};

use super::route::{handed_back, restored, split_at};
use super::{Ending, Error, Keep, Pair, facts};
use crate::decision::{Mark, Millis, Outcome, Percent, Reason, Record, Revision, SafeTarget, Split};

pub(super) fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

pub(super) fn percent(value: u8) -> Percent {
    Percent::try_from(i64::from(value)).expect("0 to 100")
}

pub(super) fn checkout() -> Pair {
    Pair::new("checkout", "shop", "checkout")
}

fn cart() -> Pair {
    Pair::new("cart", "shop", "cart")
}

pub(super) fn mark(epoch: i64, weight: u8) -> Mark {
    let record = Record {
        id: format!("{epoch}-1"),
        at: Millis(1_800_000_000_000),
        outcome: Outcome::Promote,
        reason: Reason::Safe,
        revision: Revision("0123456789".into()),
        step: 1,
        from: percent(1),
        to: percent(weight),
        rule: "http-errors: 12 of 10,000 against 11 of 10,000".into(),
        evidence_hash: "e".repeat(64),
        policy_hash: "p".repeat(64),
        by: None,
    };
    Mark {
        epoch,
        fenced: false,
        step: 1,
        weight: percent(weight),
        safe: SafeTarget::Stable,
        record,
    }
}

/// A route with these rules, as YAML.
pub(super) fn route(rules: &str) -> Value {
    let manager = |name: &str, fields: Value| {
        json!({"manager": name, "operation": "Apply", "apiVersion": "gateway.networking.k8s.io/v1",
               "time": "2026-11-21T16:00:45Z", "fieldsType": "FieldsV1", "fieldsV1": fields})
    };
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": "checkout", "namespace": "shop", "resourceVersion": "7", "generation": 3,
            "annotations": {"team": "checkout"},
            "managedFields": [manager("argocd-controller", json!({"f:spec": {"f:parentRefs": {}, "f:rules": {}}}))],
        },
        "spec": {"parentRefs": [{"name": "web"}], "rules": yaml(rules)},
    })
}

pub(super) fn rules(route: &Value) -> &Value {
    route.pointer("/spec/rules").expect("rules")
}

/// The weights of one rule as `name:weight`, `name` alone where it is omitted.
pub(super) fn weights(route: &Value, rule: usize) -> String {
    let backends = route
        .pointer(&format!("/spec/rules/{rule}/backendRefs"))
        .and_then(Value::as_array);
    let word = |b: &Value| {
        let name = b["name"].as_str().expect("name");
        b.get("weight").map_or(name.to_owned(), |w| format!("{name}:{w}"))
    };
    backends
        .expect("backends")
        .iter()
        .map(word)
        .collect::<Vec<_>>()
        .join(" ")
}

pub(super) fn split(route: &Value, pair: &Pair, weight: u8) -> Value {
    split_at(route, pair, &mark(1, weight)).expect("nothing forbids it")
}

/// The end of attempt 1.
pub(super) fn ending(keep: Keep) -> Ending {
    Ending { attempt: 1, keep }
}

/// Restored and handed back, as the API server would have it after both writes.
pub(super) fn put_back(route: &Value, pair: &Pair) -> Value {
    let restored = restored(route, pair, ending(Keep::Fence)).expect("the same attempt");
    handed_back(&restored, pair, Keep::Fence).unwrap_or(restored)
}

#[test]
fn the_pair_splits_the_services_own_weight_exactly_and_others_keep_their_share() {
    for (what, before, during) in [
        (
            "weight left out",
            "[{name: checkout, port: 80}]",
            "checkout:95 checkout-canary:5",
        ),
        (
            "weight given",
            "[{name: checkout, port: 80, weight: 3}]",
            "checkout:285 checkout-canary:15",
        ),
        (
            "foreign backend before and after",
            "[{name: old, weight: 7}, {name: checkout}, {name: new, weight: 2}]",
            "old:700 checkout:95 checkout-canary:5 new:200",
        ),
        (
            "foreign weight left out",
            "[{name: checkout, weight: 9}, {name: old}]",
            "checkout:855 checkout-canary:45 old:100",
        ),
        (
            "foreign weight 0",
            "[{name: checkout}, {name: old, weight: 0}]",
            "checkout:95 checkout-canary:5 old:0",
        ),
        (
            "own namespace named",
            "[{name: checkout, namespace: shop}]",
            "checkout:95 checkout-canary:5",
        ),
        (
            "defaults written",
            "[{name: checkout, group: '', kind: Service, weight: 1}]",
            "checkout:95 checkout-canary:5",
        ),
        (
            "same name in another namespace is foreign",
            "[{name: checkout, namespace: old, weight: 1}, {name: checkout, weight: 1}]",
            "checkout:100 checkout:95 checkout-canary:5",
        ),
        (
            "same name of another kind is foreign",
            "[{name: checkout, kind: ServiceImport, group: x.io}, {name: checkout}]",
            "checkout:100 checkout:95 checkout-canary:5",
        ),
        (
            "listed twice",
            "[{name: checkout, port: 80}, {name: checkout, port: 81, weight: 2}]",
            "checkout:95 checkout-canary:5 checkout:190 checkout-canary:10",
        ),
        (
            "listed twice with the same port",
            "[{name: checkout, port: 80}, {name: checkout, port: 80, weight: 2}]",
            "checkout:95 checkout-canary:5 checkout:190 checkout-canary:10",
        ),
        (
            "largest weight",
            "[{name: checkout, weight: 10000}]",
            "checkout:950000 checkout-canary:50000",
        ),
        (
            "one of two without weight",
            "[{name: checkout, port: 80, weight: 0}, {name: checkout, port: 81}]",
            "checkout:0 checkout:95 checkout-canary:5",
        ),
        (
            "rule without the service",
            "[{name: old}, {name: new, weight: 2}]",
            "old new:2",
        ),
        (
            "service gets nothing from this rule",
            "[{name: checkout, weight: 0}, {name: old}]",
            "checkout:0 old",
        ),
    ] {
        let written = route(&format!(
            "[{{backendRefs: {before}}}, {{backendRefs: [{{name: checkout}}]}}]"
        ));
        let shown = split(&written, &checkout(), 5);
        assert_eq!(weights(&shown, 0), during, "{what}");
        assert_eq!(facts(Some(&shown), &checkout()).split, Split::At(percent(5)), "{what}");
        assert_eq!(put_back(&shown, &checkout()), written, "{what}");
    }
}

#[test]
fn filters_matches_and_unknown_fields_stay_and_the_canary_gets_the_backends_own() {
    let written = route(
        "
- name: pay
  matches: [{path: {type: PathPrefix, value: /pay}, headers: [{name: x-tier, value: gold}]}]
  filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}]
  timeouts: {request: 3s}
  someNewField: {kept: true}
  backendRefs:
  - name: checkout
    port: 8080
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: checkout, port: 80}}}]
    anotherNewField: [1, 2]
",
    );
    let shown = split(&written, &checkout(), 25);
    let mut expected = written.pointer("/spec/rules/0").expect("rule").clone();
    let mut stable = expected["backendRefs"][0].clone();
    let mut canary = stable.clone();
    stable["weight"] = 75.into();
    canary["weight"] = 25.into();
    canary["name"] = "checkout-canary".into();
    expected["backendRefs"] = json!([stable, canary]);
    assert_eq!(rules(&shown), &json!([expected]));
    assert_eq!(put_back(&shown, &checkout()), written);
}

#[test]
fn weight_0_and_weight_100_are_written_out_on_both_sides() {
    let shown = split(&route("[{backendRefs: [{name: checkout}]}]"), &checkout(), 5);
    assert_eq!(
        weights(&split(&shown, &checkout(), 0), 0),
        "checkout:100 checkout-canary:0"
    );
    assert_eq!(
        weights(&split(&shown, &checkout(), 100), 0),
        "checkout:0 checkout-canary:100"
    );
}

#[test]
fn weight_0_does_not_bring_a_canary_into_a_route_that_names_none() {
    let written = route("[{backendRefs: [{name: checkout}]}]");
    let mut fence = mark(1, 0);
    fence.fenced = true;
    let fenced = split_at(&written, &checkout(), &fence).expect("weight 0 is safe");
    assert_eq!(rules(&fenced), rules(&written));
    assert_eq!(facts(Some(&fenced), &checkout()).mark, Some(fence));
    assert!(fenced.pointer("/metadata/labels").is_none());
}

#[test]
fn writing_twice_equals_writing_once() {
    let once = split(
        &route("[{backendRefs: [{name: checkout}, {name: old, weight: 3}]}]"),
        &checkout(),
        5,
    );
    assert_eq!(split(&once, &checkout(), 5), once);
    let back = put_back(&once, &checkout());
    assert_eq!(put_back(&back, &checkout()), back);
}

#[test]
fn what_the_rules_say_is_read_from_the_rules_alone() {
    let pair = "{name: checkout, weight: 95}, {name: checkout-canary, weight: 5}";
    for (what, rules, says) in [
        (
            "untouched",
            "[{backendRefs: [{name: checkout}]}]".to_owned(),
            Split::AtRest,
        ),
        ("split", format!("[{{backendRefs: [{pair}]}}]"), Split::At(percent(5))),
        (
            "canary first",
            "[{backendRefs: [{name: checkout-canary, weight: 1}, {name: checkout, weight: 3}]}]".into(),
            Split::At(percent(25)),
        ),
        (
            "all to the canary",
            "[{backendRefs: [{name: checkout, weight: 0}, {name: checkout-canary, weight: 9}]}]".into(),
            Split::At(percent(100)),
        ),
        (
            "stable taken out",
            "[{backendRefs: [{name: checkout-canary, weight: 9}]}]".into(),
            Split::At(percent(100)),
        ),
        (
            "weights of both left out",
            "[{backendRefs: [{name: checkout}, {name: checkout-canary}]}]".into(),
            Split::At(percent(50)),
        ),
        (
            "not a whole percent",
            "[{backendRefs: [{name: checkout, weight: 2}, {name: checkout-canary, weight: 1}]}]".into(),
            Split::Uneven(percent(34)),
        ),
        (
            "both at 0",
            "[{backendRefs: [{name: checkout, weight: 0}, {name: checkout-canary, weight: 0}]}]".into(),
            Split::At(percent(0)),
        ),
        (
            "a rule added without the canary",
            format!("[{{backendRefs: [{pair}]}}, {{backendRefs: [{{name: checkout}}]}}]"),
            Split::Uneven(percent(5)),
        ),
        (
            "rules disagree",
            format!(
                "[{{backendRefs: [{pair}]}}, {{backendRefs: [{{name: checkout, weight: 4}}, {{name: checkout-canary, weight: 1}}]}}]"
            ),
            Split::Uneven(percent(20)),
        ),
        (
            "a rule that gives the service nothing",
            format!("[{{backendRefs: [{pair}]}}, {{backendRefs: [{{name: checkout, weight: 0}}, {{name: old}}]}}]"),
            Split::At(percent(5)),
        ),
        (
            "a rule of somebody else",
            format!("[{{backendRefs: [{pair}]}}, {{backendRefs: [{{name: old}}]}}, {{}}]"),
            Split::At(percent(5)),
        ),
        (
            "service never named",
            "[{backendRefs: [{name: old}]}]".into(),
            Split::Missing,
        ),
        (
            "service gets nothing anywhere",
            "[{backendRefs: [{name: checkout, weight: 0}, {name: old}]}]".into(),
            Split::Missing,
        ),
        ("no rules", "[]".into(), Split::Missing),
    ] {
        assert_eq!(facts(Some(&route(&rules)), &checkout()).split, says, "{what}");
    }
    assert_eq!(facts(None, &checkout()).split, Split::Missing);
}

#[test]
fn shapes_that_no_api_server_would_store_are_read_without_harm() {
    for odd in [
        json!(null),
        json!({}),
        json!({"metadata": [], "spec": {"rules": 3}}),
        json!({"metadata": {"annotations": "no"}, "spec": {"rules": [null, 1, "x", {"backendRefs": {}}, {"backendRefs": [null, 7, {}]}]}}),
        json!({"metadata": {}, "spec": {"rules": [{"backendRefs": [
            {"name": "checkout", "weight": -5}, {"name": "checkout-canary", "weight": 1e300}, {"name": 4, "weight": "x"}]}]}}),
    ] {
        let read = facts(Some(&odd), &checkout());
        assert!(!read.programmed);
        let _ = split_at(&odd, &checkout(), &mark(1, 5));
        let _ = restored(&odd, &checkout(), ending(Keep::Nothing));
    }
}

/// A rule with this path and these backends.
fn rule(path: &str, backends: &str) -> String {
    format!("{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{backends}]}}")
}

#[test]
fn edits_by_others_in_flight_are_seen_and_put_right() {
    let a = rule("/a", "{name: checkout}, {name: old, weight: 2}");
    let b = rule("/b", "{name: checkout, weight: 4}");
    let written = format!("[{a}, {b}]");
    let pair = "{name: checkout, weight: 95}, {name: checkout-canary, weight: 5}, {name: old, weight: 200}";
    let a5 = rule("/a", pair);
    let b5 = rule(
        "/b",
        "{name: checkout, weight: 380}, {name: checkout-canary, weight: 20}",
    );
    let other_weights = "[{backendRefs: [{name: checkout, weight: 8}, {name: old, weight: 2}]}]".to_owned();
    let raised = rule("/b", "{name: checkout, weight: 1}, {name: checkout-canary, weight: 9}");
    let canary_only = rule("/b", "{name: checkout-canary, weight: 20}");
    let (a_bare, b_bare) = (
        rule("/a", "{name: checkout, weight: 95}, {name: old, weight: 200}"),
        rule("/b", "{name: checkout, weight: 380}"),
    );
    let filtered5 = "{name: checkout, weight: 380, filters: [{type: URLRewrite}]}, {name: checkout-canary, weight: 20}";
    let filtered = rule("/b", "{name: checkout, weight: 4, filters: [{type: URLRewrite}]}");
    let added = "{backendRefs: [{name: checkout}]}";
    let gone = "[{backendRefs: [{name: old, weight: 2}]}]".to_owned();
    for (what, edited, says, after) in [
        (
            "nothing",
            format!("[{a5}, {b5}]"),
            Split::At(percent(5)),
            written.clone(),
        ),
        (
            "rules reordered",
            format!("[{b5}, {a5}]"),
            Split::At(percent(5)),
            format!("[{b}, {a}]"),
        ),
        ("git applied again", written.clone(), Split::AtRest, written.clone()),
        (
            "git applied with other weights",
            other_weights.clone(),
            Split::AtRest,
            other_weights,
        ),
        (
            "canary raised by hand",
            format!("[{a5}, {raised}]"),
            Split::Uneven(percent(90)),
            written.clone(),
        ),
        (
            "canary taken out, our weights left",
            format!("[{a_bare}, {b_bare}]"),
            Split::AtRest,
            written.clone(),
        ),
        (
            "matches changed: the weight that was left out is lost, its share is not",
            format!("[{}, {b5}]", rule("/c", pair)),
            Split::At(percent(5)),
            format!(
                "[{}, {b}]",
                rule("/c", "{name: checkout, weight: 1}, {name: old, weight: 2}")
            ),
        ),
        (
            "a filter on stable only",
            format!("[{a5}, {}]", rule("/b", filtered5)),
            Split::At(percent(5)),
            format!("[{a}, {filtered}]"),
        ),
        (
            "stable taken out of a rule",
            format!("[{a5}, {canary_only}]"),
            Split::Uneven(percent(100)),
            written,
        ),
        (
            "a rule added",
            format!("[{added}, {a5}, {b5}]"),
            Split::Uneven(percent(5)),
            format!("[{added}, {a}, {b}]"),
        ),
        ("service taken out", gone.clone(), Split::Missing, gone),
    ] {
        let mut route = split(&route(&format!("[{a}, {b}]")), &checkout(), 5);
        route["spec"]["rules"] = yaml(&edited);
        assert_eq!(facts(Some(&route), &checkout()).split, says, "{what}");
        assert_eq!(rules(&put_back(&route, &checkout())), &yaml(&after), "{what}: restored");
        if says != Split::Missing {
            let again = split(&route, &checkout(), 5);
            assert_eq!(
                facts(Some(&again), &checkout()).split,
                Split::At(percent(5)),
                "{what}: written again"
            );
            assert_eq!(
                rules(&put_back(&again, &checkout())),
                &yaml(&after),
                "{what}: written again and restored"
            );
        }
    }
}

#[test]
fn gates_share_a_rule_and_leave_in_any_order() {
    let written = route("[{backendRefs: [{name: cart}, {name: checkout, weight: 3}, {name: old, weight: 2}]}]");
    let both = split(&split(&written, &checkout(), 5), &cart(), 25);
    assert_eq!(
        weights(&both, 0),
        "cart:75 cart-canary:25 checkout:285 checkout-canary:15 old:200"
    );
    assert_eq!(facts(Some(&both), &checkout()).split, Split::At(percent(5)));
    assert_eq!(facts(Some(&both), &cart()).split, Split::At(percent(25)));
    assert_eq!(
        weights(&split(&both, &checkout(), 50), 0),
        "cart:75 cart-canary:25 checkout:150 checkout-canary:150 old:200"
    );

    for (first, last, between) in [
        (checkout(), cart(), "cart:75 cart-canary:25 checkout:300 old:200"),
        (cart(), checkout(), "cart:100 checkout:285 checkout-canary:15 old:200"),
    ] {
        let one = put_back(&both, &first);
        assert_eq!(weights(&one, 0), between);
        assert_eq!(
            one.pointer("/metadata/labels/tollgate.dev~1split"),
            Some(&json!("in-flight"))
        );
        assert_eq!(
            facts(Some(&one), &first).mark,
            None,
            "nothing of the gate that left stays"
        );
        assert_eq!(put_back(&one, &last), written);
    }
}

#[test]
fn a_second_gate_of_the_same_service_leaves_the_split_of_the_first_alone() {
    let second = Pair::new("second", "shop", "checkout");
    let written = split_at(
        &route("[{backendRefs: [{name: checkout, port: 80}]}]"),
        &checkout(),
        &mark(1, 5),
    )
    .expect("the first gate's split");
    let fact = facts(Some(&written), &second);
    assert_eq!(
        (fact.split, fact.mark),
        (Split::Missing, None),
        "it is not the second's"
    );
    let ending = Ending {
        attempt: 0,
        keep: Keep::Nothing,
    };
    assert_eq!(restored(&written, &second, ending).as_ref(), Ok(&written));
    for weight in [0, 5] {
        let error = split_at(&written, &second, &mark(9, weight)).expect_err("a refusal");
        assert_eq!(error, Error::Taken("checkout".into()));
    }
}

#[test]
fn a_weight_that_cannot_be_split_exactly_is_refused_unless_the_write_is_safe() {
    let written =
        route("[{backendRefs: [{name: old}]}, {backendRefs: [{name: checkout}, {name: old, weight: 10001}]}]");
    let error = split_at(&written, &checkout(), &mark(1, 5)).expect_err("1,000,100 is too much");
    assert_eq!(
        error,
        Error::TooHeavy {
            rule: 1,
            backend: "old".into(),
            weight: 10001
        }
    );
    assert_eq!(
        error.to_string(),
        "spec.rules[1]: backend \"old\" has weight 10001; at most 10000 can be split exactly, because the Gateway API \
         takes no weight above 1000000: write smaller weights in the same proportion"
    );
    let mut edited = written.clone();
    edited["spec"]["rules"][1]["backendRefs"] =
        yaml("[{name: checkout, weight: 7}, {name: checkout-canary, weight: 3}, {name: old, weight: 10001}]");
    let zero = split_at(&edited, &checkout(), &mark(1, 0)).expect("all to stable needs no hundredths");
    assert_eq!(weights(&zero, 1), "checkout:10 checkout-canary:0 old:10001");
}

#[test]
fn a_route_that_gives_the_service_nothing_can_be_fenced_but_not_split() {
    let written = route("[{backendRefs: [{name: old}]}]");
    assert_eq!(
        split_at(&written, &checkout(), &mark(1, 5)),
        Err(Error::NoService("checkout".into()))
    );
    let fenced = split_at(
        &written,
        &checkout(),
        &Mark {
            fenced: true,
            ..mark(1, 0)
        },
    )
    .expect("safe");
    assert!(facts(Some(&fenced), &checkout()).mark.expect("mark").fenced);
    assert_eq!(rules(&fenced), rules(&written));
}
