//! How many canary pods a weight needs, and keeping stable from shrinking while one is in flight.
//!
//! An abort sends all traffic back to stable within a second, which no autoscaler can follow: so
//! stable keeps the size it had, at 5 % of the traffic too. Scaling up stays allowed.

use serde_json::{Value, json};

use super::drift::{Write, escaped};
use crate::decision::Percent;

/// The field manager of the guard. Its own name, so that taking it off is applying nothing.
pub const GUARD: &str = "tollgate-capacity";

/// Remembers what scale-down said before the guard; beside it, who owned that.
const BEFORE: &str = "tollgate.dev/scale-down-before";

/// Stops KEDA from scaling a target in, by the autoscaler it makes and by itself to zero. Since
/// KEDA 2.18; older versions ignore it.
const KEDA_PAUSE: &str = "autoscaling.keda.sh/paused-scale-in";

const SELECT_POLICY: &str = "/spec/behavior/scaleDown/selectPolicy";

/// Pods that the canary needs before it is given this share: the same share of the larger of
/// stable's sizes at the start of the release and now, rounded up. At least one as soon as there
/// is any weight; never more than that size, unless stable has no pods at all.
#[must_use]
pub fn needed(weight: Percent, stable_at_start: i64, stable_now: i64) -> i64 {
    weight.pods_of(stable_at_start.max(stable_now))
}

/// Whether a `HorizontalPodAutoscaler` or a KEDA `ScaledObject` scales this Deployment.
#[must_use]
pub fn scales(autoscaler: &Value, deployment: &str) -> bool {
    let target = &autoscaler["spec"]["scaleTargetRef"];
    // A ScaledObject may leave both out; an autoscaler/v2 always names the kind.
    let kind = target["kind"].as_str().unwrap_or("Deployment");
    let version = target["apiVersion"].as_str().unwrap_or("apps/v1");
    kind == "Deployment" && version.split('/').next() == Some("apps") && target["name"] == deployment
}

/// The write that keeps an autoscaler from shrinking its target. `None` when it cannot, or when
/// somebody else sees to it: KEDA for the autoscalers that it makes.
#[must_use]
pub fn guard(autoscaler: &Value) -> Option<Write> {
    let mut body = named(autoscaler);
    if is_keda(autoscaler) {
        if autoscaler["metadata"]["annotations"][KEDA_PAUSE] == "true" {
            return None;
        }
        body["metadata"]["annotations"] = json!({KEDA_PAUSE: "true"});
        return Some(apply(body));
    }
    if is_made_by_keda(autoscaler)
        || autoscaler
            .pointer(SELECT_POLICY)
            .is_some_and(|policy| policy == "Disabled")
    {
        return None;
    }
    body["metadata"]["annotations"] = json!({BEFORE: Before::of(autoscaler).to_string()});
    body["spec"] = json!({"behavior": {"scaleDown": {"selectPolicy": "Disabled"}}});
    Some(apply(body))
}

/// The write that lets an autoscaler shrink its target as its owner wanted. `None` when there is
/// nothing of ours in it.
#[must_use]
pub fn unguard(autoscaler: &Value) -> Option<Write> {
    let before = autoscaler["metadata"]["annotations"][BEFORE].as_str();
    let Some(before) = before.filter(|_| !is_keda(autoscaler)) else {
        return manages(autoscaler, |manager| manager == GUARD, "").then(|| apply(named(autoscaler)));
    };
    let ours = autoscaler
        .pointer(SELECT_POLICY)
        .is_some_and(|policy| policy == "Disabled");
    let before: Before = serde_json::from_str(before).unwrap_or_default();
    let others = manages(autoscaler, |manager| manager != GUARD, "/f:spec/f:behavior");
    match before {
        // Whoever changed it since has the last word; we only let go.
        _ if !ours => Some(apply(named(autoscaler))),
        // The API server filled in the rest of `behavior` when we wrote a part of it.
        Before { behavior: false, .. } if !others => Some(patch(
            autoscaler,
            GUARD,
            json!({"op": "remove", "path": "/spec/behavior"}),
        )),
        // A field that nobody owns becomes `Max` again: that is its default.
        Before {
            policy: Some(policy),
            manager,
            ..
        } if policy != "Max" => Some(patch(
            autoscaler,
            manager.as_deref().unwrap_or(GUARD),
            json!({"op": "replace", "path": SELECT_POLICY, "value": policy}),
        )),
        Before { .. } => Some(apply(named(autoscaler))),
    }
}

/// What scale-down said before the guard.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
struct Before {
    /// Whether there was any `spec.behavior`.
    behavior: bool,
    /// `spec.behavior.scaleDown.selectPolicy`.
    policy: Option<String>,
    /// The field manager that owned the policy.
    manager: Option<String>,
}

impl Before {
    fn of(autoscaler: &Value) -> Self {
        let owner = managers(autoscaler).find(|entry| {
            entry["fieldsV1"]
                .pointer("/f:spec/f:behavior/f:scaleDown/f:selectPolicy")
                .is_some()
        });
        Self {
            behavior: !autoscaler["spec"]["behavior"].is_null(),
            policy: autoscaler
                .pointer(SELECT_POLICY)
                .and_then(Value::as_str)
                .map(ToOwned::to_owned),
            manager: owner.and_then(|entry| entry["manager"].as_str()).map(ToOwned::to_owned),
        }
    }
}

impl std::fmt::Display for Before {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", json!(self))
    }
}

fn is_keda(autoscaler: &Value) -> bool {
    autoscaler["kind"] == "ScaledObject"
}

fn is_made_by_keda(autoscaler: &Value) -> bool {
    let owners = autoscaler["metadata"]["ownerReferences"].as_array();
    owners.is_some_and(|owners| owners.iter().any(|owner| owner["kind"] == "ScaledObject"))
}

fn managers(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["managedFields"].as_array().into_iter().flatten()
}

/// Whether a field manager of this kind owns something at this path of its fields.
fn manages(object: &Value, who: impl Fn(&str) -> bool, path: &str) -> bool {
    managers(object)
        .any(|entry| entry["manager"].as_str().is_some_and(&who) && entry["fieldsV1"].pointer(path).is_some())
}

fn named(autoscaler: &Value) -> Value {
    json!({
        "apiVersion": autoscaler["apiVersion"],
        "kind": autoscaler["kind"],
        "metadata": {
            "name": autoscaler["metadata"]["name"],
            "namespace": autoscaler["metadata"]["namespace"],
        },
    })
}

fn apply(body: Value) -> Write {
    Write::Apply {
        manager: GUARD.to_owned(),
        body,
    }
}

/// The way back in one write, for as long as the object is the one that was looked at.
fn patch(autoscaler: &Value, manager: &str, operation: Value) -> Write {
    let version = &autoscaler["metadata"]["resourceVersion"];
    Write::Patch {
        manager: manager.to_owned(),
        operations: vec![
            json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}),
            operation,
            json!({"op": "remove", "path": format!("/metadata/annotations/{}", escaped(BEFORE))}),
        ],
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::needless_pass_by_value, reason = "builders of JSON read better so")]

    use proptest::prelude::*;

    use super::*;

    fn percent(weight: i64) -> Percent {
        Percent::try_from(weight).expect("a weight")
    }

    #[test]
    fn the_canary_gets_its_share_of_the_larger_stable_rounded_up() {
        for (weight, at_start, now, expected) in [
            (0, 10, 10, 0),
            (1, 10, 10, 1),
            (5, 10, 10, 1),
            (25, 10, 10, 3),
            (50, 10, 10, 5),
            (95, 10, 10, 10),
            (95, 100, 100, 95),
            (100, 10, 10, 10),
            (50, 10, 4, 5),
            (50, 4, 10, 5),
            (1, 1, 1, 1),
            (1, 101, 0, 2),
            (100, 0, 0, 1),
            (1, -3, -1, 1),
            (100, i64::MAX, 0, i64::MAX),
        ] {
            assert_eq!(
                needed(percent(weight), at_start, now),
                expected,
                "{weight} % of {at_start}, {now}"
            );
        }
    }

    proptest! {
        #[test]
        fn capacity_never_falls_with_weight_or_size_and_is_never_short_or_more_than_stable(
            weight in 1_i64..=100, at_start in 1_i64..=i64::MAX, now in 0_i64..=i64::MAX,
        ) {
            let base = at_start.max(now);
            let pods = needed(percent(weight), at_start, now);
            prop_assert!((1..=base).contains(&pods));
            prop_assert!(i128::from(pods) * 100 >= i128::from(base) * i128::from(weight));
            prop_assert!(pods >= needed(percent(weight - 1), at_start, now));
            prop_assert!(needed(percent(weight), at_start.saturating_add(1), now) >= pods);
            prop_assert_eq!(needed(percent(100), at_start, now), base);
        }
    }

    #[test]
    fn an_autoscaler_is_ours_to_guard_when_it_scales_the_deployment() {
        for (target, expected) in [
            (
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"}),
                true,
            ),
            (json!({"name": "checkout"}), true),
            (
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart"}),
                false,
            ),
            (
                json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "checkout"}),
                false,
            ),
            (
                json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Deployment", "name": "checkout"}),
                false,
            ),
        ] {
            assert_eq!(
                scales(&json!({"spec": {"scaleTargetRef": target}}), "checkout"),
                expected,
                "{target}"
            );
        }
        assert!(!scales(&json!({}), "checkout"));
    }

    fn hpa(behavior: Value, managers: Value) -> Value {
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "checkout", "namespace": "shop", "resourceVersion": "7", "managedFields": managers},
            "spec": {"behavior": behavior, "maxReplicas": 10},
        })
    }

    /// What the API server makes of the guard: our field, and defaults where nothing was.
    fn guarded(mut hpa: Value) -> Value {
        let Some(Write::Apply { manager, body }) = guard(&hpa) else {
            panic!("no guard for {hpa}");
        };
        assert_eq!(manager, GUARD);
        assert_eq!(
            body["spec"],
            json!({"behavior": {"scaleDown": {"selectPolicy": "Disabled"}}})
        );
        hpa["metadata"]["annotations"] = body["metadata"]["annotations"].clone();
        hpa["spec"]["behavior"]["scaleUp"]["selectPolicy"] = json!("Max");
        hpa["spec"]["behavior"]["scaleDown"]["selectPolicy"] = json!("Disabled");
        let ours = json!({"manager": GUARD, "operation": "Apply", "fieldsV1":
            {"f:spec": {"f:behavior": {"f:scaleDown": {"f:selectPolicy": {}}}}}});
        let entries = &mut hpa["metadata"]["managedFields"];
        entries.as_array_mut().expect("managers").push(ours);
        hpa
    }

    fn operation(write: Option<Write>) -> (String, Value) {
        match write {
            Some(Write::Patch { manager, operations }) => {
                assert_eq!(
                    operations[0],
                    json!({"op": "test", "path": "/metadata/resourceVersion", "value": "7"})
                );
                assert_eq!(
                    operations[2]["path"],
                    "/metadata/annotations/tollgate.dev~1scale-down-before"
                );
                (manager, operations[1].clone())
            }
            other => panic!("{other:?}"),
        }
    }

    fn nothing(kind: &str, version: &str) -> Write {
        apply(json!({
            "apiVersion": version, "kind": kind, "metadata": {"name": "checkout", "namespace": "shop"}}))
    }

    #[test]
    fn an_autoscaler_without_behaviour_has_none_again_after_the_release() {
        let guarded = guarded(hpa(Value::Null, json!([])));
        assert_eq!(guard(&guarded), None, "written once");
        assert_eq!(
            operation(unguard(&guarded)),
            (GUARD.to_owned(), json!({"op": "remove", "path": "/spec/behavior"}))
        );
    }

    #[test]
    fn behaviour_that_its_owner_added_in_flight_stays() {
        let mut guarded = guarded(hpa(Value::Null, json!([])));
        let theirs = json!({"manager": "argocd", "fieldsV1": {"f:spec": {"f:behavior": {"f:scaleUp": {}}}}});
        let entries = &mut guarded["metadata"]["managedFields"];
        entries.as_array_mut().expect("managers").push(theirs);
        assert_eq!(
            unguard(&guarded),
            Some(nothing("HorizontalPodAutoscaler", "autoscaling/v2"))
        );
    }

    #[test]
    fn a_policy_is_put_back_in_its_owners_name_and_the_default_comes_back_by_itself() {
        let owner = json!([{"manager": "kubectl", "operation": "Update", "fieldsV1":
            {"f:spec": {"f:behavior": {"f:scaleDown": {"f:selectPolicy": {}}}}}}]);
        let min = guarded(hpa(json!({"scaleDown": {"selectPolicy": "Min"}}), owner.clone()));
        assert_eq!(
            operation(unguard(&min)),
            (
                "kubectl".to_owned(),
                json!({"op": "replace", "path": SELECT_POLICY, "value": "Min"})
            )
        );
        let max = guarded(hpa(json!({"scaleDown": {"selectPolicy": "Max"}}), owner));
        assert_eq!(
            unguard(&max),
            Some(nothing("HorizontalPodAutoscaler", "autoscaling/v2"))
        );
    }

    #[test]
    fn a_policy_that_was_changed_in_flight_is_guarded_again_and_left_at_the_end() {
        let mut changed = guarded(hpa(Value::Null, json!([])));
        changed["spec"]["behavior"]["scaleDown"]["selectPolicy"] = json!("Min");
        assert!(matches!(guard(&changed), Some(Write::Apply { .. })));
        assert_eq!(
            unguard(&changed),
            Some(nothing("HorizontalPodAutoscaler", "autoscaling/v2"))
        );
    }

    #[test]
    fn what_never_shrinks_or_was_never_guarded_is_not_written() {
        let never = hpa(json!({"scaleDown": {"selectPolicy": "Disabled"}}), json!([]));
        assert_eq!(guard(&never), None);
        assert_eq!(unguard(&never), None);
        assert_eq!(unguard(&hpa(Value::Null, json!([]))), None);
    }

    #[test]
    fn keda_is_told_by_its_annotation_and_its_autoscaler_left_alone() {
        let mut made = hpa(Value::Null, json!([]));
        made["metadata"]["ownerReferences"] = json!([{"kind": "ScaledObject", "name": "checkout"}]);
        assert_eq!(guard(&made), None);

        let mut object = json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
            "metadata": {"name": "checkout", "namespace": "shop"}, "spec": {}});
        assert_eq!(unguard(&object), None);
        let Some(Write::Apply { manager, body }) = guard(&object) else {
            panic!("no guard");
        };
        assert_eq!(manager, GUARD);
        assert_eq!(
            body["metadata"]["annotations"],
            json!({"autoscaling.keda.sh/paused-scale-in": "true"})
        );
        assert_eq!(body["spec"], Value::Null);

        object["metadata"]["annotations"] = body["metadata"]["annotations"].clone();
        assert_eq!(unguard(&object), None, "the user's own pause stays");
        object["metadata"]["managedFields"] = json!([{"manager": GUARD, "fieldsV1": {"f:metadata": {}}}]);
        assert_eq!(guard(&object), None);
        assert_eq!(unguard(&object), Some(nothing("ScaledObject", "keda.sh/v1alpha1")));
    }
}
