//! What is installed in place of the policies on API servers before Kubernetes 1.36.

use super::admission;
use super::labels::{GATE, HANDOVER, HELD, HOLD, NAMESPACE, OPERATOR_USER, WEBHOOK};

/// The policies that such an API server knows, and the hold as a webhook, as one YAML stream.
#[must_use]
pub fn before_policies() -> String {
    let validating = admission::policies();
    let validating = validating
        .split("---\n")
        .filter(|document| !document.contains("\nkind: MutatingAdmissionPolicy"));
    let hold = [
        ("{GATE}", GATE),
        ("{HELD}", HELD),
        ("{HANDOVER}", HANDOVER),
        ("{HOLD}", HOLD),
        ("{NAMESPACE}", NAMESPACE),
        ("{WEBHOOK}", WEBHOOK),
        ("{OPERATOR}", OPERATOR_USER),
    ]
    .iter()
    .fold(HOLD_BY_WEBHOOK.to_owned(), |text, (name, value)| {
        text.replace(name, value)
    });
    std::iter::once(hold.as_str())
        .chain(validating)
        .collect::<Vec<_>>()
        .join("---\n")
}

/// The Secret is installed empty, so that the operator needs no right to create Secrets; a role
/// cannot limit `create` to a name.
const HOLD_BY_WEBHOOK: &str = r#"# For API servers without MutatingAdmissionPolicy: Kubernetes 1.30 to 1.35. Apply this file in place
# of config/install/2-admission.yaml, not beside it:
#
#   kubectl apply -f crds/ -f config/install/0-namespace.yaml -f config/install/1-access.yaml \
#     -f config/before-1.36/2-admission.yaml -f config/install/3-operator.yaml
#
# Hold: the operator itself answers the API server when the template of an adopted Deployment or our
# labels on it change, and while it is held, by the same rule as the policy. It fails closed: while
# no replica answers, those writes are refused; all others, and every Deployment that is not adopted,
# are untouched. The operator makes the certificate, keeps it in the Secret below, renews it, and
# fills in caBundle.
#
# What is missing on such clusters: nothing keeps the split of a route against other writers (their
# edits are noticed, and a raise is undone), and nothing fills in spec.signer of a GateAction: whoever
# writes one by hand puts their own name there.
#
# After an upgrade to 1.36: apply config/install/2-admission.yaml, then
#   kubectl delete mutatingwebhookconfiguration {HOLD}
# and restart the operator. The way out when the operator is gone for good: the same deletion, then
# `kubectl rollout resume`.
apiVersion: v1
kind: Secret
metadata:
  name: {WEBHOOK}
  namespace: {NAMESPACE}
type: Opaque
---
apiVersion: v1
kind: Service
metadata:
  name: {WEBHOOK}
  namespace: {NAMESPACE}
spec:
  selector: {app.kubernetes.io/name: tollgate}
  ports:
  - {name: hold, port: 443, targetPort: hold}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata:
  name: {HOLD}
webhooks:
- name: {HOLD}
  admissionReviewVersions: [v1]
  clientConfig:
    service: {name: {WEBHOOK}, namespace: {NAMESPACE}, path: /admission/hold, port: 443}
  failurePolicy: Fail
  matchPolicy: Equivalent
  reinvocationPolicy: IfNeeded
  sideEffects: None
  timeoutSeconds: 5
  objectSelector:
    matchExpressions: [{key: {GATE}, operator: Exists}]
  rules:
  - {apiGroups: [apps], apiVersions: [v1], resources: [deployments], operations: [UPDATE], scope: "*"}
  matchConditions:
  # so that the operator can take a hold off, and give Deployments up, without its own webhook
  - name: not-the-operator
    expression: request.userInfo.username != "{OPERATOR}"
  # every other write would go through as it is: it need not wait for an answer
  - name: concerns-the-hold
    expression: >-
      object.spec.template != oldObject.spec.template
      || "{HELD}" in oldObject.metadata.?labels.orValue({})
      || ["{GATE}", "{HANDOVER}"].exists(label,
        object.metadata.?labels[?label] != oldObject.metadata.?labels[?label])
---
# The operator's rights for its webhook: one configuration and one Secret, both by name.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {WEBHOOK}
rules:
# to have the API server trust the certificate
- {apiGroups: [admissionregistration.k8s.io], resources: [mutatingwebhookconfigurations], resourceNames: [{HOLD}], verbs: [get, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {WEBHOOK}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {WEBHOOK}}
subjects:
- {kind: ServiceAccount, name: tollgate, namespace: {NAMESPACE}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {WEBHOOK}
  namespace: {NAMESPACE}
rules:
# the certificate, shared by all replicas
- {apiGroups: [""], resources: [secrets], resourceNames: [{WEBHOOK}], verbs: [get, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {WEBHOOK}
  namespace: {NAMESPACE}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {WEBHOOK}}
subjects:
- {kind: ServiceAccount, name: tollgate, namespace: {NAMESPACE}}
"#;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn documents() -> Vec<Value> {
        let text = before_policies();
        text.split("---\n")
            .map(|document| serde_saphyr::from_str(document).expect("YAML"))
            .collect()
    }

    fn only(kind: &str) -> Value {
        let mut found = documents();
        found.retain(|object| object["kind"] == kind);
        assert_eq!(found.len(), 1, "{kind}");
        found.remove(0)
    }

    #[test]
    fn an_older_api_server_knows_every_kind_in_it() {
        let kinds: Vec<_> = documents().iter().map(|object| object["kind"].clone()).collect();
        assert!(!kinds.contains(&json!("MutatingAdmissionPolicy")), "{kinds:?}");
        assert!(!kinds.contains(&json!("MutatingAdmissionPolicyBinding")), "{kinds:?}");
        let validating = |kind: &str| kinds.iter().filter(|known| **known == json!(kind)).count();
        assert_eq!(validating("ValidatingAdmissionPolicy"), 3, "handover, signer, status");
        assert_eq!(validating("ValidatingAdmissionPolicyBinding"), 3);
    }

    #[test]
    fn the_webhook_fails_closed_and_concerns_adopted_deployments_only() {
        let webhook = only("MutatingWebhookConfiguration")["webhooks"][0].take();
        let selector = json!({"matchExpressions": [{"key": GATE, "operator": "Exists"}]});
        let rules = json!([{"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"],
            "operations": ["UPDATE"], "scope": "*"}]);
        for (field, expected) in [
            ("name", json!(HOLD)),
            ("failurePolicy", json!("Fail")),
            ("matchPolicy", json!("Equivalent")),
            ("reinvocationPolicy", json!("IfNeeded")),
            ("sideEffects", json!("None")),
            ("timeoutSeconds", json!(5)),
            ("objectSelector", selector),
            ("rules", rules),
        ] {
            assert_eq!(webhook[field], expected, "{field}");
        }
        assert!(webhook.get("namespaceSelector").is_none());
    }

    #[test]
    fn its_rights_are_for_one_configuration_and_one_secret_by_name() {
        for (kind, name) in [("ClusterRole", HOLD), ("Role", WEBHOOK)] {
            let role = only(kind);
            let rules = role["rules"].as_array().expect("rules");
            assert_eq!(rules.len(), 1);
            assert_eq!(rules[0]["resourceNames"], json!([name]), "{kind}");
        }
    }
}
