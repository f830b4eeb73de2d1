//! Marks, fences and owners: what stays on a route, and what others may do to it.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics has failed"
)]

use serde_json::{Value, json};

use super::note::Note;
use super::route::{handed_back, restored, split_at};
use super::route_tests::{checkout, ending, mark, percent, put_back, route, rules, split, weights};
use super::{Error, Keep, Pair, SPLIT_LABEL, facts, hand_back_due};
use crate::decision::{Mark, Reason, SafeTarget, Split};

#[test]
fn a_mark_is_obeyed_by_whoever_writes() {
    let canary = SafeTarget::Canary;
    let fenced = |epoch, weight| Mark {
        fenced: true,
        ..mark(epoch, weight)
    };
    let committed = |epoch, weight| Mark {
        safe: canary,
        ..mark(epoch, weight)
    };
    let superseded = |mut mark: Mark| {
        mark.record.reason = Reason::Superseded;
        mark
    };
    for (what, live, next, allowed) in [
        ("the same attempt goes on", mark(2, 5), mark(2, 25), true),
        ("the same attempt goes back", mark(2, 25), mark(2, 0), true),
        ("an earlier attempt raises", mark(2, 5), mark(1, 25), false),
        (
            "an earlier attempt lowers, but not to safety",
            mark(2, 25),
            mark(1, 5),
            false,
        ),
        ("an earlier attempt lowers to safety", mark(2, 25), mark(1, 0), true),
        ("a fenced attempt raises", fenced(2, 0), mark(2, 1), false),
        (
            "a fenced attempt is brought to safety again",
            fenced(2, 0),
            mark(2, 0),
            true,
        ),
        ("the next attempt passes the fence", fenced(2, 0), mark(3, 1), true),
        (
            "after the commit point, zero by a stale view",
            committed(2, 100),
            fenced(2, 0),
            false,
        ),
        (
            "after the commit point, a step by a stale view",
            committed(2, 100),
            mark(2, 50),
            false,
        ),
        (
            "after the commit point, zero by an earlier attempt",
            committed(2, 100),
            fenced(1, 0),
            false,
        ),
        (
            "after the commit point, a fence that takes it back",
            committed(2, 100),
            superseded(fenced(2, 0)),
            true,
        ),
        (
            "after the commit point, a fence of an earlier attempt that was superseded",
            committed(2, 100),
            superseded(fenced(1, 0)),
            false,
        ),
        (
            "after the commit point, its safe weight",
            committed(2, 50),
            mark(2, 100),
            true,
        ),
        ("the commit point", mark(2, 95), committed(2, 100), true),
    ] {
        let before = marked(&live);
        let written = split_at(&before, &checkout(), &next);
        if !allowed {
            let (attempt, weight, safe) = (next.epoch, next.weight.get(), live.safe.weight().get());
            let refused = Error::Fenced {
                attempt,
                weight,
                live: live.epoch,
                fenced: live.fenced,
                safe,
            };
            assert_eq!(written, Err(refused), "{what}");
            continue;
        }
        let read = facts(Some(&written.expect(what)), &checkout());
        let left = read.mark.expect("mark");
        let newer = next.epoch > live.epoch;
        assert_eq!(read.split, Split::At(next.weight), "{what}");
        assert_eq!(left.epoch, live.epoch.max(next.epoch), "{what}: never a lower epoch");
        assert!(newer || left.fenced || !live.fenced, "{what}: a fence stays");
        assert!(
            newer || live.safe != canary || left.safe == canary || next.takes_back(),
            "{what}: so does what is safe"
        );
        assert_eq!(left.record, next.record, "{what}: the record is the writer's");
    }
}

/// A route split in half that carries this mark.
fn marked(live: &Mark) -> Value {
    let started = route("[{backendRefs: [{name: checkout}]}]");
    let mut route = split_at(&started, &checkout(), &mark(live.epoch, 50)).expect("nothing forbids it");
    let note = Note::of(&route, &checkout()).expect("note");
    let text = Note {
        mark: live.clone(),
        ..note
    }
    .print();
    route["metadata"]["annotations"][checkout().annotation()] = text.into();
    route
}

#[test]
fn an_ending_attempt_does_not_end_a_later_one() {
    let shown = split_at(&route("[{backendRefs: [{name: checkout}]}]"), &checkout(), &mark(2, 5)).expect("free");
    let error = restored(&shown, &checkout(), ending(Keep::Nothing)).expect_err("attempt 2 is in flight");
    assert_eq!(
        error.to_string(),
        "attempt 1 may not write weight 0: the route carries attempt 2; only its safe weight, 0, may be written"
    );
}

#[test]
fn a_fence_stays_at_rest_until_the_gate_goes() {
    let written = route("[{backendRefs: [{name: checkout}]}]");
    let shown = split(&written, &checkout(), 5);
    let fence = Mark {
        fenced: true,
        ..mark(1, 0)
    };
    let aborted = split_at(&shown, &checkout(), &fence).expect("abort");
    let rest = put_back(&aborted, &checkout());
    assert_eq!(rules(&rest), rules(&written));
    let read = facts(Some(&rest), &checkout());
    assert_eq!((read.split, read.mark), (Split::AtRest, Some(fence)));
    assert_eq!(
        split_at(&rest, &checkout(), &mark(1, 1)).map(|_| ()),
        Err(Error::Fenced {
            attempt: 1,
            weight: 1,
            live: 1,
            fenced: true,
            safe: 0,
        })
    );
    let size = rest["metadata"]["annotations"][checkout().annotation()]
        .as_str()
        .expect("fence")
        .len();
    assert!(size < 1024, "{size}");
    let gone = restored(&rest, &checkout(), ending(Keep::Nothing)).expect("the same attempt");
    assert_eq!(gone, written);
}

#[test]
fn the_label_is_there_exactly_while_a_canary_is_named() {
    let written = route("[{backendRefs: [{name: checkout}]}]");
    let label = |r: &Value| r["metadata"]["labels"].get(SPLIT_LABEL).cloned();
    let shown = split(&written, &checkout(), 5);
    assert_eq!(label(&shown), Some("in-flight".into()));
    assert_eq!(label(&split(&shown, &checkout(), 0)), Some("in-flight".into()));
    let restored = restored(&shown, &checkout(), ending(Keep::Fence)).expect("the same attempt");
    assert_eq!(label(&restored), None);
    assert!(
        restored.pointer("/metadata/labels").is_none(),
        "an empty map is not left behind"
    );
}

#[test]
fn a_crash_before_the_hand_back_is_seen_and_repaired() {
    let written = route("[{backendRefs: [{name: checkout}]}]");
    let mut shown = split(&written, &checkout(), 5);
    // What the API server does with the fields that a writer changes.
    shown["metadata"]["managedFields"] = json!([
        {"manager": "argocd-controller", "operation": "Apply", "apiVersion": "gateway.networking.k8s.io/v1",
         "time": "2026-11-21T16:00:45Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:parentRefs": {}}}},
        {"manager": "tollgate", "operation": "Update", "apiVersion": "gateway.networking.k8s.io/v1",
         "time": "2026-11-21T16:00:47Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:rules": {}}}},
        {"manager": "traefik", "operation": "Update", "apiVersion": "gateway.networking.k8s.io/v1", "subresource": "status",
         "time": "2026-11-21T16:00:47Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {}}},
    ]);
    let mut next = split(&shown, &checkout(), 25);
    next["metadata"]["managedFields"] = shown["metadata"]["managedFields"].clone();
    let crashed = restored(&next, &checkout(), ending(Keep::Fence)).expect("the same attempt");
    assert_eq!(rules(&crashed), rules(&written));
    assert!(hand_back_due(&crashed, &checkout()));
    assert!(
        facts(Some(&crashed), &checkout()).mark.is_some(),
        "the machine still sees a mark, and restores again"
    );
    assert_eq!(
        restored(&crashed, &checkout(), ending(Keep::Fence)).as_ref(),
        Ok(&crashed),
        "which changes nothing more"
    );

    let mut back = handed_back(&crashed, &checkout(), Keep::Fence).expect("due");
    assert!(!hand_back_due(&back, &checkout()));
    let fields = back["metadata"]["managedFields"].as_array_mut().expect("list");
    assert_eq!(fields.pop().expect("status")["manager"], "traefik");
    assert_eq!(back, written);
}

#[test]
fn rules_go_back_to_an_owner_that_has_no_entry_left_and_are_left_to_one_that_took_them() {
    let mut shown = split(&route("[{backendRefs: [{name: checkout}]}]"), &checkout(), 5);
    let ours = json!({"manager": "tollgate", "operation": "Update", "apiVersion": "gateway.networking.k8s.io/v1",
                      "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {}}, "f:spec": {"f:rules": {}}}});
    shown["metadata"]["managedFields"] = json!([ours]);
    let back = put_back(&shown, &checkout());
    assert_eq!(
        back["metadata"]["managedFields"],
        json!([
            {"manager": "tollgate", "operation": "Update", "apiVersion": "gateway.networking.k8s.io/v1",
             "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {}}}},
            {"manager": "argocd-controller", "operation": "Apply", "apiVersion": "gateway.networking.k8s.io/v1",
             "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:rules": {}}}},
        ])
    );
    let taken = json!([{"manager": "kubectl-edit", "operation": "Update", "apiVersion": "gateway.networking.k8s.io/v1",
                        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:rules": {}}}}]);
    shown["metadata"]["managedFields"] = taken.clone();
    assert_eq!(put_back(&shown, &checkout())["metadata"]["managedFields"], taken);
}

#[test]
fn what_somebody_else_wrote_into_our_annotation_counts_as_no_mark() {
    let shown = split(&route("[{backendRefs: [{name: checkout}]}]"), &checkout(), 5);
    let ours = shown["metadata"]["annotations"][checkout().annotation()]
        .as_str()
        .expect("note")
        .to_owned();
    let too_long = format!("{ours}{}", " ".repeat(33 * 1024));
    let nested = "[".repeat(20_000);
    for hostile in [
        "",
        "null",
        "{}",
        "[]",
        "\u{0}",
        "{\"mark\":{}}",
        "{\"mark\":null}",
        too_long.as_str(),
        nested.as_str(),
        &ours.replace("\"weight\":5", "\"weight\":101"),
        &ours.replace("\"weight\":5", "\"weight\":4.5"),
        &ours.replace("\"epoch\":1", "\"epoch\":99999999999999999999"),
    ] {
        let mut route = shown.clone();
        route["metadata"]["annotations"][checkout().annotation()] = hostile.into();
        let read = facts(Some(&route), &checkout());
        assert_eq!((read.split, read.mark), (Split::At(percent(5)), None), "{hostile:.40}");
        let again = split_at(&route, &checkout(), &mark(1, 0)).expect("lowering needs no mark");
        assert_eq!(weights(&again, 0), "checkout:100 checkout-canary:0");
        assert_eq!(weights(&put_back(&again, &checkout()), 0), "checkout:1");
    }
    let mut route = shown.clone();
    route["metadata"]["annotations"][checkout().annotation()] = 7.into();
    assert_eq!(facts(Some(&route), &checkout()).mark, None);
}

#[test]
fn a_hostile_note_of_another_gate_cannot_take_our_service_or_weights_out_of_range() {
    let shown = split(
        &route("[{backendRefs: [{name: checkout, weight: 2}, {name: old}]}]"),
        &checkout(),
        5,
    );
    let note = Note::of(&shown, &checkout()).expect("note");
    let kept = note.split.clone().expect("split");
    for (service, canary) in [
        ("checkout", "old"),
        ("old", "checkout"),
        ("checkout-canary", "checkout"),
        ("x", "y"),
    ] {
        let mut split = kept.clone();
        (split.service, split.canary) = (service.into(), canary.into());
        for original in &mut split.original {
            original.weights = vec![Some(i64::MAX), Some(-1)];
        }
        let mut route = shown.clone();
        let text = Note {
            split: Some(split),
            ..note.clone()
        }
        .print();
        route["metadata"]["annotations"]["traffic.tollgate.dev/evil"] = text.into();
        let again = super::route::split_at(&route, &checkout(), &mark(1, 25)).expect("free");
        assert_eq!(
            weights(&again, 0),
            "checkout:150 checkout-canary:50 old:100",
            "{service}"
        );
    }
}

#[test]
fn long_texts_are_clipped_between_characters_and_the_mark_survives_the_trip() {
    let mut long = mark(1, 5);
    long.record.rule = "ü".repeat(5000);
    long.record.by = Some("someone@example.com".repeat(100));
    let shown = split_at(&route("[{backendRefs: [{name: checkout}]}]"), &checkout(), &long).expect("free");
    let text = shown["metadata"]["annotations"][checkout().annotation()]
        .as_str()
        .expect("note")
        .to_owned();
    assert!(text.len() < 2048 + 512, "{}", text.len());
    let read = facts(Some(&shown), &checkout()).mark.expect("mark");
    assert!(read.record.rule.ends_with('…') && read.record.rule.len() <= 1024);
    assert_eq!(
        Mark {
            record: long.record.clone(),
            ..read
        },
        long
    );
    let short = split(&route("[{backendRefs: [{name: checkout}]}]"), &checkout(), 5);
    assert_eq!(facts(Some(&short), &checkout()).mark, Some(mark(1, 5)));
}

#[test]
fn an_annotation_is_named_after_its_gate_within_63_characters() {
    let name = |gate: &str| Pair::new(gate, "shop", "checkout").annotation();
    assert_eq!(name("checkout"), "traffic.tollgate.dev/checkout");
    assert_eq!(name(&"g".repeat(63)).len(), "traffic.tollgate.dev/".len() + 63);
    let (long, other) = (format!("{}a", "g.".repeat(60)), format!("{}b", "g.".repeat(60)));
    for gate in [&long, &other] {
        let key = name(gate).trim_start_matches("traffic.tollgate.dev/").to_owned();
        assert!(
            key.len() <= 63 && key.ends_with(|c: char| c.is_ascii_alphanumeric()),
            "{key}"
        );
    }
    assert_ne!(name(&long), name(&other));
}
