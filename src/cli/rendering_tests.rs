//! What people and scripts see, from objects as the API server gives them.

use serde_json::{Value, json};

use super::act::{Told, not_on_trial, sentence};
use super::cluster::Trouble;
use super::explain::{explain, text};
use super::snapshot::{Kind, Snapshot, View};
use super::story::story;
use super::tree::tree;
use super::units::at;
use super::wait::{Ending, Goal, Watched, code};
use super::watch::is_at_rest;
use crate::api::{Answer, GateStatus};
use crate::controller::revision::revision;
use crate::decision::{Millis, Verb};

fn now() -> Millis {
    at("2026-01-31T12:05:10Z").expect("a time")
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

fn objects(kind: Kind, values: Vec<Value>) -> (Kind, Vec<kube::api::DynamicObject>) {
    let parsed = values
        .into_iter()
        .map(|value| serde_json::from_value(value).expect("an object"));
    (kind, parsed.collect())
}

fn gate(status: &Value) -> Value {
    json!({
        "apiVersion": "tollgate.dev/v1alpha1", "kind": "ReleaseGate",
        "metadata": {"name": "checkout", "namespace": "shop", "uid": "g1"},
        "spec": {
            "target": {"workload": {"name": "checkout"}, "service": "checkout"},
            "traffic": {"gatewayAPI": {"routes": [{"name": "checkout"}]}}},
        "status": status,
    })
}

fn stepping(more: &Value) -> Value {
    let mut status = json!({
        "stable": "aaaaaaaaaa", "revision": "bbbbbbbbbb", "step": "2/5", "weight": 5, "decision": "Hold",
        "reason": "MinWindow", "message": "The step's shortest stay has not passed.", "epoch": 3,
        "attempt": {"revision": "bbbbbbbbbb", "epoch": 3, "stage": "Stepping", "atStep": 1, "decisions": 2,
            "since": "2026-01-31T12:01:00.000Z", "window": "2026-01-31T12:01:10.000Z"},
        "analysis": {"name": "checkout-3", "uid": "a1"}});
    json_patch::merge(&mut status, more);
    status
}

fn analysis() -> Value {
    json!({
        "apiVersion": "tollgate.dev/v1alpha1", "kind": "CanaryAnalysis",
        "metadata": {"name": "checkout-3", "namespace": "shop"},
        "spec": {
            "revision": "bbbbbbbbbb", "epoch": 3, "policyHash": "5f2c",
            "target": {"workload": "checkout", "service": "checkout",
                "canaryWorkload": "checkout-canary", "canaryService": "checkout-canary"},
            "steps": [{"weight": 1}, {"weight": 5}, {"weight": 25}, {"weight": 50}, {"weight": 100}],
            "analysis": {"metrics": [{"name": "http-errors", "owner": "team-checkout", "rationale": "money",
                "ratio": {"preset": "gateway-errors"}, "margin": {"abort": "10%"}}]}},
        "status": {
            "verdict": "Inconclusive", "reason": "Undecided", "rule": "http-errors: neither is shown",
            "judgedStep": 1, "judgedAt": "2026-01-31T12:05:00.000Z", "evidenceHash": "e4d1",
            "readings": [{"metric": "http-errors", "verdict": "Inconclusive", "reason": "Undecided",
                "canary": [37.0, 1204.0], "baseline": [61.0, 22870.0], "ratio": 11.5, "interval": [6.7, 18.9],
                "harm": [5.2, 7.6], "safety": [-1.0, 3.0], "needsRequests": 12400.0, "needsSeconds": 540.0,
                "gaps": [{"kind": "Stale", "detail": "the newest sample is 40 s old"}]}],
            "decisions": [
                {"id": "3-1", "at": "2026-01-31T12:00:00.000Z", "outcome": "Promote", "reason": "Started",
                    "step": 0, "from": 0, "to": 1, "rule": ""},
                {"id": "3-2", "at": "2026-01-31T12:01:00.000Z", "outcome": "Promote", "reason": "Requested",
                    "step": 1, "from": 1, "to": 5, "rule": "asked for", "by": "alice"}]}})
}

fn workload(name: &str, replicas: i64, ready: i64, image: &str, held: bool) -> Value {
    let mut labels = json!({"tollgate.dev/gate": "checkout"});
    if held {
        labels["tollgate.dev/held"] = "checkout".into();
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "spec": {"replicas": replicas, "paused": held,
            "template": {"spec": {"containers": [{"name": "app", "image": image}]}}},
        "status": {"readyReplicas": ready}})
}

fn route(stable: i64, canary: i64) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "checkout", "namespace": "shop", "generation": 2},
        "spec": {"parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": [
            {"name": "checkout", "weight": stable}, {"name": "checkout-canary", "weight": canary}]}]},
        "status": {"parents": [{"parentRef": {"name": "gw"}, "controllerName": "x",
            "conditions": [{"type": "Accepted", "status": "True", "observedGeneration": 2},
                {"type": "ResolvedRefs", "status": "True", "observedGeneration": 2}]}]}})
}

fn view(status: &Value, others: Vec<(Kind, Vec<Value>)>) -> View {
    let mut snapshot = Snapshot::default();
    let all = std::iter::once((Kind::Gate, vec![gate(status)])).chain(others);
    for (kind, values) in all {
        let (kind, values) = objects(kind, values);
        snapshot.insert(kind, &values);
    }
    snapshot.find("checkout").expect("the gate")
}

fn in_flight() -> View {
    let action = json!({
        "apiVersion": "tollgate.dev/v1alpha1", "kind": "GateAction",
        "metadata": {"name": "checkout-promote-x7k2p", "namespace": "shop", "creationTimestamp": "2026-01-31T12:05:07Z"},
        "spec": {"gate": "checkout", "verb": "Promote", "reason": "known errors", "signer": "alice"}});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "c1", "namespace": "shop", "labels": {"tollgate.dev/gate": "checkout"}},
        "status": {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}});
    view(
        &stepping(&json!({})),
        vec![
            (
                Kind::Workload,
                vec![
                    workload("checkout", 3, 3, "checkout:2", true),
                    workload("checkout-canary", 2, 1, "checkout:2", false),
                ],
            ),
            (Kind::HttpRoute, vec![route(95, 5)]),
            (Kind::Analysis, vec![analysis()]),
            (Kind::Action, vec![action]),
            (Kind::Pod, vec![pod]),
        ],
    )
}

#[test]
fn a_release_in_flight_is_a_tree_of_revisions_routes_requests_and_what_comes_next() {
    let drawn = tree(&story(&in_flight(), now()), now());
    assert_eq!(
        plain(&drawn),
        "shop/checkout  step 2 of 5 at 5 % for 4m10s, Hold: MinWindow\n\
         │  The step's shortest stay has not passed.\n\
         ├─ stable  aaaaaaaaaa  3/3 pods ready\n\
         ├─ canary  bbbbbbbbbb  1/2 pods ready  checkout:2  CrashLoopBackOff\n\
         ├─ HTTPRoute checkout\n\
         │  └─ checkout 95 %, checkout-canary 5 %\n\
         ├─ asked: Promote by alice 3s ago, not answered yet (checkout-promote-x7k2p): known errors\n\
         └─ waits for the step's shortest stay, until 12:06:10Z (in 1m); then the evidence decides\n"
    );
}

#[test]
fn at_rest_only_the_stable_revision_is_shown() {
    let status = json!({"stable": "aaaaaaaaaa", "weight": 0, "decision": "Hold", "reason": "AtRest",
        "message": "No release is in flight.", "epoch": 3});
    let view = view(
        &status,
        vec![(Kind::Workload, vec![workload("checkout", 3, 3, "checkout:1", false)])],
    );
    assert_eq!(
        plain(&tree(&story(&view, now()), now())),
        "shop/checkout  AtRest\n\
         │  No release is in flight.\n\
         ├─ stable  aaaaaaaaaa  3/3 pods ready  checkout:1\n\
         └─ HTTPRoute checkout  not there, or not to be read\n"
    );
}

#[test]
fn every_wait_says_what_for_and_until_when() {
    let held =
        json!({"reason": "ForeignEdit", "attempt": {"hold": "ForeignEdit", "holdSince": "2026-01-31T12:03:10.000Z"}});
    let stage = |stage: &str| json!({"attempt": {"stage": stage, "atStep": null, "window": null}});
    let late = json!({"reason": "Undecided", "attempt": {"window": "2026-01-31T11:00:00.000Z"}});
    let over = json!({"reason": "Inconclusive", "attempt": {"window": "2026-01-31T09:00:00.000Z"}});
    let mut rejected = stage("Rejected");
    rejected["attempt"]["why"] = "Harm".into();
    let mut aborting = stage("Aborting");
    aborting["attempt"]["why"] = "Harm".into();
    for (change, wanted, person) in [
        (
            json!({}),
            "the step's shortest stay, until 12:06:10Z (in 1m); then the evidence decides",
            false,
        ),
        (
            late,
            "a clear verdict (about 12,400 more requests, about 9m), until 13:00:00Z (in 54m50s); then Hold, for a person",
            false,
        ),
        (over, "a person: tollgate promote or abort checkout", true),
        (held, "a person: tollgate resume, promote or abort checkout", true),
        (
            json!({"reason": "NoEvidence"}),
            "complete evidence; then Abort after 15m without it",
            false,
        ),
        (
            json!({"reason": "RouteNotProgrammed", "attempt": {"window": null}}),
            "the gateway to take the weight up, until 12:06:00Z (in 50s); then Abort",
            false,
        ),
        (
            stage("Preparing"),
            "the canary's pods to be ready, until 12:11:00Z (in 5m50s); then Abort",
            false,
        ),
        (
            stage("HandingOver"),
            "stable to run revision bbbbbbbbbb, until 12:31:00Z (in 25m50s); then a person is called; the canary keeps the traffic",
            false,
        ),
        (
            aborting,
            "requests under way to end, until 12:01:30Z (due); then the canary is removed and the revision stays refused",
            false,
        ),
        (rejected, "another revision, or tollgate retry checkout", true),
    ] {
        let view = view(&stepping(&change), vec![(Kind::Analysis, vec![analysis()])]);
        let next = story(&view, now()).head.next.expect("it waits");
        assert_eq!(
            (next.sentence(now()).as_str(), next.needs_person),
            (wanted, person),
            "{change}"
        );
    }
}

#[test]
fn a_gate_that_cannot_be_understood_is_shown_as_such() {
    let broken = json!({"apiVersion": "tollgate.dev/v1alpha1", "kind": "ReleaseGate",
        "metadata": {"name": "checkout", "namespace": "shop"}, "spec": {"target": 7}});
    let mut snapshot = Snapshot::default();
    let (kind, values) = objects(Kind::Gate, vec![broken]);
    snapshot.insert(kind, &values);
    let drawn = plain(&tree(&story(&snapshot.views()[0], now()), now()));
    assert!(
        drawn.starts_with("shop/checkout  Invalid\n│  the gate cannot be understood: "),
        "{drawn}"
    );
}

#[test]
fn scripts_find_the_same_fields_under_stable_names() {
    let value = serde_json::to_value(story(&in_flight(), now())).expect("JSON");
    for (pointer, wanted) in [
        ("/namespace", json!("shop")),
        ("/gate", json!("checkout")),
        ("/decision", json!("Hold")),
        ("/reason", json!("MinWindow")),
        ("/weight", json!(5)),
        ("/release/stage", json!("Stepping")),
        ("/release/step", json!(2)),
        ("/release/steps", json!(5)),
        ("/stable/pods", json!({"ready": 3, "desired": 3})),
        ("/canary/revision", json!("bbbbbbbbbb")),
        ("/routes/0/state", json!("Split")),
        (
            "/routes/0/rules/0/backends/1",
            json!({"service": "checkout-canary", "weight": 5, "basisPoints": 500}),
        ),
        ("/pending/0/verb", json!("Promote")),
        ("/next/until", json!("2026-01-31T12:06:10.000Z")),
        ("/next/needsPerson", json!(false)),
    ] {
        assert_eq!(value.pointer(pointer), Some(&wanted), "{pointer}");
    }
}

#[test]
fn an_explanation_has_every_number_limit_owner_and_hash() {
    let view = in_flight();
    let explained = explain(view.gate.as_ref().expect("a gate"), view.analysis.as_ref(), now());
    assert_eq!(
        plain(&text(&explained, now())),
        "shop/checkout: Hold, MinWindow
  The step's shortest stay has not passed.
  waits for the step's shortest stay, until 12:06:10Z (in 1m); then the evidence decides

Stable    aaaaaaaaaa
On trial  bbbbbbbbbb, attempt 3, Stepping since 12:01:00Z (4m10s ago)
Step      1 → [5] → 25 → 50 → 100 %
Window    open since 12:01:10Z (4m ago)
Judged    Inconclusive of step 2 at 12:05:00Z (10s ago)
Rule      http-errors: neither is shown
Evidence  sha256 e4d1
Policy    sha256 5f2c  (checkout-3)

http-errors  Inconclusive, Undecided  Neither safety nor harm is shown yet.
  canary    37 of 1,204 failed (3.1 %)
  stable    61 of 22,870 failed (0.267 %)
  ratio     11.5 times stable's, 95 % interval 6.70 to 18.9
  harm      ███████░░░ e-value 181 of 1,998 needed
  safety    ░░░░░░░░░░ e-value 0.37 of 20.1 needed
  needs     about 12,400 more requests, about 9m
  missing   Stale: the newest sample is 40 s old
  allowed   abort above 10 % worse than stable, promote within the harm budget
  owner     team-checkout: money

Decisions
  12:00:00Z  3-1      0 →   1 %  Promote: Started
  12:01:00Z  3-2      1 →   5 %  Promote: Requested by alice  asked for
"
    );
}

#[test]
fn a_wait_ends_as_the_release_does() {
    let rest = json!({"stable": "bbbbbbbbbb", "reason": "AtRest"});
    let old = json!({"stable": "aaaaaaaaaa", "reason": "AtRest"});
    let running = stepping(&json!({}));
    let refused = stepping(&json!({"attempt": {"stage": "Rejected", "why": "Harm"}}));
    let newer = stepping(&json!({"attempt": {"revision": "cccccccccc"}}));
    let revision = Some("bbbbbbbbbb");
    for (name, goal, wanted, person, looks, end) in [
        (
            "completed",
            Goal::Completed,
            revision,
            false,
            vec![&running, &rest],
            Some(("Completed", 0)),
        ),
        (
            "completed long ago",
            Goal::Completed,
            revision,
            false,
            vec![&rest],
            Some(("Completed", 0)),
        ),
        ("not begun yet", Goal::Completed, revision, false, vec![&old], None),
        (
            "an older one is still refused",
            Goal::Completed,
            revision,
            false,
            vec![&newer],
            None,
        ),
        (
            "refused",
            Goal::Completed,
            revision,
            false,
            vec![&running, &refused],
            Some(("Rejected", 1)),
        ),
        (
            "as expected",
            Goal::Rejected,
            revision,
            false,
            vec![&running, &refused],
            Some(("Rejected", 0)),
        ),
        (
            "replaced",
            Goal::Completed,
            revision,
            false,
            vec![&running, &newer],
            Some(("Superseded", 1)),
        ),
        (
            "taken back",
            Goal::Completed,
            revision,
            false,
            vec![&running, &old],
            Some(("Reverted", 1)),
        ),
        ("at rest", Goal::Rest, None, false, vec![&old], Some(("Rest", 0))),
        ("held", Goal::Held, revision, true, vec![&running], Some(("Held", 0))),
        (
            "held, but that is not the goal",
            Goal::Completed,
            revision,
            true,
            vec![&running],
            None,
        ),
    ] {
        let mut watched = Watched {
            goal,
            revision: wanted.map(str::to_owned),
            expected: wanted.is_some(),
        };
        let ended = looks.into_iter().find_map(|status| {
            let status: GateStatus = serde_json::from_value(status.clone()).expect("a status");
            watched.look(&status, person)
        });
        assert_eq!(ended.as_ref().map(|end| (end.end, code(end))), end, "{name}");
    }
    let late = Ending {
        reached: false,
        end: "Timeout",
        revision: None,
        reason: None,
        message: None,
    };
    assert_eq!(code(&late), 3);
}

#[test]
fn a_watch_ends_when_nothing_is_in_flight_and_nothing_is_about_to_begin() {
    let at_rest = json!({"stable": "aaaaaaaaaa", "reason": "AtRest"});
    let held = workload("checkout", 3, 3, "checkout:2", true);
    let template = revision(&held["spec"]["template"]).0;
    let refused =
        |revision: &str| stepping(&json!({"attempt": {"revision": revision, "stage": "Rejected", "why": "Harm"}}));
    let free = workload("checkout", 3, 3, "checkout:1", false);
    for (name, status, workload, ended) in [
        ("in flight", stepping(&json!({})), &held, false),
        ("at rest", at_rest.clone(), &free, true),
        ("about to begin", at_rest, &held, false),
        ("refused", refused(&template), &held, true),
        (
            "refused, and a newer one is about to begin",
            refused("bbbbbbbbbb"),
            &held,
            false,
        ),
    ] {
        let view = view(&status, vec![(Kind::Workload, vec![workload.clone()])]);
        assert_eq!(is_at_rest(&story(&view, now()), &view), ended, "{name}");
    }
}

#[test]
fn nothing_is_asked_for_a_revision_that_is_not_on_trial() {
    let at_rest = json!({"stable": "aaaaaaaaaa", "reason": "AtRest"});
    for (status, wanted, told) in [
        (stepping(&json!({})), "bbbbbbbbbb", None),
        (stepping(&json!({})), "bbbbbb", None),
        (
            stepping(&json!({})),
            "cccccccccc",
            Some("Revision cccccccccc is not on trial, bbbbbbbbbb is."),
        ),
        (
            at_rest,
            "aaaaaaaaaa",
            Some("Revision aaaaaaaaaa is not on trial; no release is in flight."),
        ),
    ] {
        let view = view(&status, vec![]);
        let gate = view.gate.expect("a gate");
        assert_eq!(not_on_trial(&gate, wanted).as_deref(), told);
    }
}

#[test]
fn an_answer_is_told_with_its_exit_code() {
    let told = |answer, action: Option<&str>| Told {
        namespace: "shop".into(),
        gate: "checkout".into(),
        verb: Verb::Promote,
        action: action.map(str::to_owned),
        answer,
        reason: Some("AtRest".into()),
        message: Some("No release is in flight.".into()),
        by_hand: vec![],
    };
    let wait = std::time::Duration::from_secs(10);
    for (told, wanted, code) in [
        (
            told(Some(Answer::Granted), Some("a")),
            "Promote shop/checkout: granted\n",
            0,
        ),
        (
            told(Some(Answer::Refused), Some("a")),
            "Promote shop/checkout: refused (AtRest) No release is in flight.\n",
            1,
        ),
        (
            told(None, Some("a")),
            "Promote shop/checkout: not answered within 10 s; it stays asked: kubectl get gateaction a -n shop\n",
            3,
        ),
    ] {
        assert_eq!((plain(&sentence(&told, wait)).as_str(), told.code()), (wanted, code));
    }
}

#[test]
fn errors_say_what_to_do() {
    let forbidden = |verb, resource: &str, namespace: &str| Trouble::Forbidden {
        verb,
        resource: resource.into(),
        namespace: namespace.into(),
    };
    let no_gate = |known: &[&str]| Trouble::NoSuchGate {
        name: "chekout".into(),
        namespace: "shop".into(),
        known: known.iter().map(|name| (*name).to_owned()).collect(),
    };
    for (trouble, wanted) in [
        (Trouble::NotInstalled, "tollgate manifests | kubectl apply"),
        (Trouble::NoConfig("x".into()), "set KUBECONFIG"),
        (no_gate(&["cart", "checkout"]), "gates there: cart, checkout"),
        (no_gate(&[]), "tollgate status -A"),
        (forbidden("create", "gateactions", "shop"), "--clusterrole=tollgate-act"),
        (forbidden("list", "releasegates", "shop"), "--clusterrole=tollgate-view"),
        (forbidden("list", "releasegates", ""), "name one namespace with -n"),
        (
            forbidden("patch", "httproutes", "shop"),
            "a role that may patch httproutes",
        ),
    ] {
        let text = trouble.to_string();
        assert!(text.contains(wanted), "{text}");
    }
}
