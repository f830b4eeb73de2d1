//! The admission policies: rules that the API server itself keeps while the operator is down.
//!
//! All of them fail closed, match by labels that only the operator sets or by our own kinds, and
//! let the operator through. None of them is needed to lower a weight. They are CEL without
//! parameters on purpose: a policy with a parameter kind refuses every matching write after a
//! restart of the API server until that kind has been discovered again.
//!
//! | policy | keeps |
//! |---|---|
//! | hold | an unproven template of an adopted Deployment paused, and our labels on it |
//! | split | rules and marks of a route while a release is in flight, but for canary weight 0 |
//! | handover | the template of a Deployment that is being brought to a proven revision, for a bounded time |
//! | signer | the true name of whoever creates a GateAction |
//! | status | the status of our kinds for the operator |

use super::labels::{GATE, HANDOVER, HELD, MARK_PREFIX, OPERATOR_USER, SPLIT};

/// All policies with their bindings, as one YAML stream.
#[must_use]
pub fn policies() -> String {
    let parts = [HOLD, SPLIT_POLICY, HANDOVER_POLICY, SIGNER, STATUS];
    let text = parts.map(str::trim_start).join("---\n");
    [
        ("{GATE}", GATE),
        ("{HELD}", HELD),
        ("{HANDOVER}", HANDOVER),
        ("{SPLIT}", SPLIT),
        ("{MARK}", MARK_PREFIX),
        ("{OPERATOR}", OPERATOR_USER),
    ]
    .iter()
    .fold(text, |text, (name, value)| text.replace(name, value))
}

/// The write that changes the template pauses it and labels it. Labels, not annotations: an
/// annotation can be taken off through the status subresource. `paused` set here belongs to no
/// field manager, so no later apply takes it off.
const HOLD: &str = r#"
# Hold: the write that changes the pod template of an adopted Deployment pauses it, so an unproven
# revision never rolls out, whoever writes it and however. The way out when the operator is gone
# for good: delete this binding, then `kubectl rollout resume`.
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata:
  name: hold.tollgate.dev
spec:
  failurePolicy: Fail
  reinvocationPolicy: IfNeeded
  matchConstraints:
    objectSelector:
      matchExpressions: [{key: {GATE}, operator: Exists}]
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], resources: [deployments], operations: [UPDATE], scope: "*"}
  matchConditions:
  - name: not-the-operator
    expression: request.userInfo.username != "{OPERATOR}"
  - name: adopted
    expression: "'{GATE}' in oldObject.metadata.?labels.orValue({})"
  variables:
  - name: gate
    expression: oldObject.metadata.labels["{GATE}"]
  - name: hold
    expression: >-
      object.spec.template != oldObject.spec.template
      || "{HELD}" in oldObject.metadata.labels
  - name: handover
    expression: oldObject.metadata.labels[?"{HANDOVER}"]
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >-
        variables.hold
        ? Object{
            metadata: Object.metadata{labels: {"{GATE}": variables.gate, "{HELD}": variables.gate}},
            spec: Object.spec{paused: true}}
        : Object{metadata: Object.metadata{labels: {"{GATE}": variables.gate}}}
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >-
        variables.handover.hasValue()
        ? Object{metadata: Object.metadata{labels: {"{HANDOVER}": variables.handover.value()}}}
        : Object{}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata:
  name: hold.tollgate.dev
spec:
  policyName: hold.tollgate.dev
"#;

/// Rules and marks stay as they are, whatever else is written. The emergency edit is taken as it
/// is: the same backends in the same places, where a canary's weight may become 0, the weight of
/// its stable may then be anything, and no other weight moves.
const SPLIT_POLICY: &str = r#"
# Split: while a release is in flight, writes by others keep the rules of the route, our label and
# our marks; everything else in them goes through. One edit of the rules is taken from anyone: a
# canary's weight set to 0 in every rule (its stable's weight may change with it). The way out when
# the operator is gone for good: delete this binding, then apply the route again.
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata:
  name: split.tollgate.dev
spec:
  failurePolicy: Fail
  reinvocationPolicy: IfNeeded
  matchConstraints:
    objectSelector:
      matchExpressions: [{key: {SPLIT}, operator: Exists}]
    resourceRules:
    - {apiGroups: [gateway.networking.k8s.io], apiVersions: ["*"], resources: [httproutes, grpcroutes], operations: [UPDATE], scope: "*"}
  matchConditions:
  - name: not-the-operator
    expression: request.userInfo.username != "{OPERATOR}"
  - name: split
    expression: "'{SPLIT}' in oldObject.metadata.?labels.orValue({})"
  variables:
  - name: before
    expression: oldObject.spec.?rules.orValue([])
  - name: after
    expression: object.spec.?rules.orValue([])
  # canaries whose weight is 0 wherever the new rules name them
  - name: zeroed
    expression: >-
      variables.after.map(r, r.?backendRefs.orValue([]).filter(b, b.name.endsWith("-canary") && b.?weight.orValue(1) == 0).map(b, b.name))
      .flatten()
      .filter(name, variables.after.all(r, r.?backendRefs.orValue([]).all(b, b.name != name || b.?weight.orValue(1) == 0)))
  - name: emergency
    expression: >-
      variables.zeroed.size() > 0
      && variables.after.size() == variables.before.size()
      && variables.after.all(i, r,
        r.?backendRefs.orValue([]).size() == variables.before[i].?backendRefs.orValue([]).size()
        && r.?backendRefs.orValue([]).all(j, b,
          b.name == variables.before[i].backendRefs[j].name
          && (b.?weight == variables.before[i].backendRefs[j].?weight
            || b.name in variables.zeroed
            || (b.name + "-canary") in variables.zeroed)))
  - name: marksBefore
    expression: oldObject.metadata.?annotations.orValue({}).transformMap(k, v, k.startsWith("{MARK}"), v)
  - name: marksAfter
    expression: object.metadata.?annotations.orValue({}).transformMap(k, v, k.startsWith("{MARK}"), v)
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: >-
        variables.emergency ? [] : [JSONPatch{op: "add", path: "/spec/rules", value: variables.before}]
  - patchType: JSONPatch
    jsonPatch:
      expression: >-
        (has(object.metadata.labels) ? [] : [JSONPatch{op: "add", path: "/metadata/labels", value: {}}])
        + [JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("{SPLIT}"), value: oldObject.metadata.labels["{SPLIT}"]}]
  - patchType: JSONPatch
    jsonPatch:
      expression: >-
        (has(object.metadata.annotations) || variables.marksBefore.size() == 0
          ? [] : [JSONPatch{op: "add", path: "/metadata/annotations", value: {}}])
        + variables.marksAfter.transformList(k, v, !(k in variables.marksBefore),
          JSONPatch{op: "remove", path: "/metadata/annotations/" + jsonpatch.escapeKey(k)})
        + variables.marksBefore.transformList(k, v,
          JSONPatch{op: "add", path: "/metadata/annotations/" + jsonpatch.escapeKey(k), value: v})
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata:
  name: split.tollgate.dev
spec:
  policyName: split.tollgate.dev
"#;

/// CEL has no clock, so the time is the one that the API server itself stamps on the write: every
/// change of a field gives its manager's entry in `managedFields` the current time before admission
/// runs. The bound therefore holds while the operator is dead. Whoever forges a later time there
/// can end the wait early; the hold still applies to what they write.
const HANDOVER_POLICY: &str = r#"
# Handover: while a release is being completed, its Deployment carries {HANDOVER} with the
# Unix time at which this ends at the latest. Until then nobody but the operator changes the pod
# template; the time compared is the one the API server stamps on the write, so the refusal ends by
# itself even if the operator is gone.
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: handover.tollgate.dev
spec:
  failurePolicy: Fail
  matchConstraints:
    objectSelector:
      matchExpressions: [{key: {HANDOVER}, operator: Exists}]
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], resources: [deployments], operations: [UPDATE], scope: "*"}
  matchConditions:
  - name: not-the-operator
    expression: request.userInfo.username != "{OPERATOR}"
  - name: template-changes
    expression: object.spec.template != oldObject.spec.template
  - name: in-handover
    expression: oldObject.metadata.?labels.orValue({})[?"{HANDOVER}"].orValue("").matches("^[0-9]{1,11}$")
  variables:
  - name: ends
    expression: timestamp(int(oldObject.metadata.labels["{HANDOVER}"]))
  validations:
  - expression: >-
      object.metadata.?managedFields.orValue([]).exists(entry, has(entry.time) && timestamp(string(entry.time)) > variables.ends)
    messageExpression: >-
      "a release of this Deployment is being completed; its template can be changed when that is done, at the latest after " + string(variables.ends)
    reason: Forbidden
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: handover.tollgate.dev
spec:
  policyName: handover.tollgate.dev
  validationActions: [Deny]
"#;

/// Two policies: one fills the name in, the other refuses a wrong one where the first is missing
/// (API servers before 1.36).
const SIGNER: &str = r#"
# Signer: a GateAction carries the name of whoever created it, as the API server knows them.
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata:
  name: signer.tollgate.dev
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules:
    - {apiGroups: [tollgate.dev], apiVersions: ["*"], resources: [gateactions], operations: [CREATE], scope: "*"}
  matchConditions:
  - name: has-a-spec
    expression: has(object.spec)
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: >-
        [JSONPatch{op: "add", path: "/spec/signer", value: request.userInfo.username}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata:
  name: signer.tollgate.dev
spec:
  policyName: signer.tollgate.dev
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: signer.tollgate.dev
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [tollgate.dev], apiVersions: ["*"], resources: [gateactions], operations: [CREATE], scope: "*"}
  validations:
  - expression: object.spec.?signer.orValue("") == request.userInfo.username
    messageExpression: >-
      "spec.signer must be " + request.userInfo.username + ", who is asking"
    reason: Forbidden
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: signer.tollgate.dev
spec:
  policyName: signer.tollgate.dev
  validationActions: [Deny]
"#;

/// Status is authority: what it says about a fence or a proven revision is believed.
const STATUS: &str = r#"
# Status: nobody but the operator writes the status of our kinds, whatever their role allows.
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: status.tollgate.dev
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [tollgate.dev], apiVersions: ["*"], resources: ["*/status"], operations: [UPDATE], scope: "*"}
  validations:
  - expression: request.userInfo.username == "{OPERATOR}"
    messageExpression: >-
      "status of " + request.kind.kind + " objects is written by the operator alone; to ask something of a gate, create a GateAction"
    reason: Forbidden
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: status.tollgate.dev
spec:
  policyName: status.tollgate.dev
  validationActions: [Deny]
"#;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn documents() -> Vec<Value> {
        let text = policies();
        text.split("\n---\n")
            .map(|document| serde_saphyr::from_str(document).expect("YAML"))
            .collect()
    }

    #[test]
    fn every_policy_fails_closed_and_has_its_binding() {
        let all = documents();
        let of = |kind: &str| {
            all.iter()
                .filter(|object| object["kind"] == kind)
                .cloned()
                .collect::<Vec<_>>()
        };
        for kind in ["MutatingAdmissionPolicy", "ValidatingAdmissionPolicy"] {
            let (policies, bindings) = (of(kind), of(&format!("{kind}Binding")));
            assert_eq!(policies.len(), 3, "{kind}");
            assert_eq!(policies.len(), bindings.len(), "{kind}");
            for (policy, binding) in policies.iter().zip(&bindings) {
                let name = &policy["metadata"]["name"];
                assert_eq!(policy["apiVersion"], "admissionregistration.k8s.io/v1", "{name}");
                assert_eq!(policy["spec"]["failurePolicy"], "Fail", "{name}");
                assert!(policy["spec"].get("paramKind").is_none(), "{name}");
                assert_eq!(&binding["spec"]["policyName"], name);
            }
        }
    }

    #[test]
    fn no_policy_reaches_beyond_adopted_objects_and_our_kinds() {
        for policy in documents()
            .iter()
            .filter(|object| object["spec"].get("matchConstraints").is_some())
        {
            let name = &policy["metadata"]["name"];
            let constraints = &policy["spec"]["matchConstraints"];
            let label = &constraints["objectSelector"]["matchExpressions"][0];
            let rules = constraints["resourceRules"].as_array().expect("rules");
            assert!(!rules.is_empty(), "{name}");
            for rule in rules {
                let ours = rule["apiGroups"][0] == "tollgate.dev";
                let adopted = label["operator"] == "Exists"
                    && label["key"]
                        .as_str()
                        .is_some_and(|key| key.starts_with("tollgate.dev/"));
                assert!(ours || adopted, "{name}");
                let updates = rule["operations"]
                    .as_array()
                    .expect("operations")
                    .iter()
                    .all(|operation| operation == "UPDATE");
                assert!(ours || updates, "{name} concerns updates alone");
            }
        }
    }

    #[test]
    fn no_placeholder_is_left() {
        let text = policies();
        for word in ["{GATE}", "{HELD}", "{HANDOVER}", "{SPLIT}", "{MARK}", "{OPERATOR}"] {
            assert!(!text.contains(word), "{word}");
        }
        assert_eq!(
            text.matches(OPERATOR_USER).count(),
            4,
            "hold, split, handover and status let the operator through"
        );
    }
}
