//! Policies attached to the user's Service, which the canary's Service must have as well.
//!
//! `BackendTLSPolicy` says how to talk to pods, which is the same for the canary's: it is copied.
//! Any other kind may count or limit over all pods of its Service, so that two copies would mean
//! something else than one: then the release is refused, and the user attaches a second one.

use serde_json::{Value, json};

use crate::routers::canary_service;

use super::canary::canary_selector;
use super::labels;
use super::preflight::{Finding, Severity, titled};

/// The longest name of an object (a DNS subdomain).
const OBJECT_NAME: usize = 253;

/// What the policies attached to a Service mean for its canary.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attached {
    /// Copies for the canary's Service, owned by the gate: to be created before it.
    pub copies: Vec<Value>,
    /// Policies that cannot be copied.
    pub findings: Vec<Finding>,
}

/// Goes through policies of the Service's namespace, of any kind that uses `targetRefs` or
/// `targetRef`. A policy that names the canary's Service beside the user's needs nothing.
#[must_use]
pub fn attached(policies: &[Value], service: &str, gate: &str, uid: &str) -> Attached {
    let canary = canary_service(service);
    let mut result = Attached::default();
    for policy in policies.iter().filter(|policy| names(policy, service)) {
        // A policy of the same kind that already names the canary's Service is the user's answer,
        // or our own copy of an earlier pass, which is compared with the wanted one all the same.
        let theirs = |other: &&Value| other["kind"] == policy["kind"] && names(other, &canary) && !is_ours(other, uid);
        if policies.iter().any(|other| theirs(&other)) {
            continue;
        }
        if is_copied(policy) {
            result.copies.push(copy(policy, service, gate, uid));
        } else {
            result.findings.push(refusal(policy, service, &canary));
        }
    }
    result
}

fn is_copied(policy: &Value) -> bool {
    let version = policy["apiVersion"].as_str().unwrap_or_default();
    policy["kind"] == "BackendTLSPolicy" && version.starts_with("gateway.networking.k8s.io/")
}

fn is_ours(policy: &Value, uid: &str) -> bool {
    let owners = policy["metadata"]["ownerReferences"].as_array();
    owners.is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == uid))
}

fn targets(policy: &Value) -> impl Iterator<Item = &Value> {
    let many = policy["spec"]["targetRefs"].as_array().into_iter().flatten();
    many.chain(Some(&policy["spec"]["targetRef"]))
}

fn is_service(target: &Value, service: &str) -> bool {
    target["group"].as_str().unwrap_or_default().is_empty() && target["kind"] == "Service" && target["name"] == service
}

fn names(policy: &Value, service: &str) -> bool {
    targets(policy).any(|target| is_service(target, service))
}

fn copy(policy: &Value, service: &str, gate: &str, uid: &str) -> Value {
    let mut spec = policy["spec"].as_object().cloned().unwrap_or_default();
    let refs: Vec<Value> = targets(policy)
        .filter(|target| is_service(target, service))
        .map(|target| {
            let mut target = target.clone();
            target["name"] = json!(canary_service(service));
            target
        })
        .collect();
    if spec.remove("targetRef").is_some() {
        spec.insert("targetRef".to_owned(), refs.first().cloned().unwrap_or_default());
    } else {
        spec.insert("targetRefs".to_owned(), json!(refs));
    }
    let name = policy["metadata"]["name"].as_str().unwrap_or_default();
    json!({
        "apiVersion": policy["apiVersion"],
        "kind": policy["kind"],
        "metadata": {
            "name": labels::suffixed(name, OBJECT_NAME),
            "namespace": policy["metadata"]["namespace"],
            "labels": canary_selector(gate),
            "ownerReferences": [super::canary::owner(gate, uid)],
        },
        "spec": spec,
    })
}

fn refusal(policy: &Value, service: &str, canary: &str) -> Finding {
    let object = titled(policy["kind"].as_str().unwrap_or("Policy"), policy);
    Finding {
        severity: Severity::Refuses,
        sentence: format!(
            "{object} is attached to Service {service} and cannot be copied: attach one of the same kind to {canary}"
        ),
        object,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::needless_pass_by_value, reason = "builders of JSON read better so")]

    use super::*;

    fn policy(kind: &str, name: &str, spec: Value) -> Value {
        let version = if kind == "BackendTLSPolicy" {
            "gateway.networking.k8s.io/v1"
        } else {
            "example.io/v1"
        };
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "shop", "uid": "p"},
            "spec": spec, "status": {"ancestors": []}})
    }

    fn target(name: &str) -> Value {
        json!({"group": "", "kind": "Service", "name": name, "sectionName": "https"})
    }

    #[test]
    fn backend_tls_is_copied_for_the_canary_service_alone() {
        let tls = policy(
            "BackendTLSPolicy",
            "tls",
            json!({"targetRefs": [target("cart"), target("checkout")],
                "validation": {"hostname": "checkout.shop", "aFieldOfTomorrow": 1}}),
        );
        let found = attached(std::slice::from_ref(&tls), "checkout", "gate", "g1");
        assert_eq!(found.findings, vec![]);
        assert_eq!(
            found.copies,
            vec![json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy",
                "metadata": {"name": "tls-canary", "namespace": "shop",
                    "labels": {"tollgate.dev/gate": "gate", "tollgate.dev/role": "canary"},
                    "ownerReferences": [{"apiVersion": "tollgate.dev/v1alpha1", "kind": "ReleaseGate", "name": "gate",
                        "uid": "g1", "controller": true, "blockOwnerDeletion": false}]},
                "spec": {"targetRefs": [target("checkout-canary")],
                    "validation": {"hostname": "checkout.shop", "aFieldOfTomorrow": 1}},
            })]
        );
        let again = attached(&[tls, found.copies[0].clone()], "checkout", "gate", "g1");
        assert_eq!(again, found, "our own copy changes nothing");
    }

    #[test]
    fn a_policy_of_another_kind_refuses_the_release_until_the_canary_has_its_own() {
        let limit = policy(
            "BackendTrafficPolicy",
            "limit",
            json!({"targetRef": target("checkout")}),
        );
        let found = attached(std::slice::from_ref(&limit), "checkout", "gate", "g1");
        assert_eq!(found.copies, Vec::<Value>::new());
        assert_eq!(found.findings[0].severity, Severity::Refuses);
        assert_eq!(
            found.findings[0].sentence,
            "BackendTrafficPolicy shop/limit is attached to Service checkout and cannot be copied: \
             attach one of the same kind to checkout-canary"
        );
        let second = policy(
            "BackendTrafficPolicy",
            "second",
            json!({"targetRef": target("checkout-canary")}),
        );
        let both = policy(
            "BackendTrafficPolicy",
            "both",
            json!({"targetRefs": [target("checkout"), target("checkout-canary")]}),
        );
        assert_eq!(
            attached(&[limit, second], "checkout", "gate", "g1"),
            Attached::default()
        );
        assert_eq!(attached(&[both], "checkout", "gate", "g1"), Attached::default());
    }

    #[test]
    fn what_is_attached_to_something_else_does_not_matter() {
        for other in [
            json!({"targetRefs": [target("cart")]}),
            json!({"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "checkout"}]}),
            json!({"targetRefs": [{"group": "example.io", "kind": "Service", "name": "checkout"}]}),
            json!({}),
        ] {
            let found = attached(&[policy("BackendTrafficPolicy", "p", other)], "checkout", "gate", "g1");
            assert_eq!(found, Attached::default());
        }
    }
}
