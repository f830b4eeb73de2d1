//! The canary's Deployment and Service, made from the user's and the held template.
//!
//! Both are copies with what must differ changed, so that fields nobody here knows take part in
//! the trial as well. The selectors are ours alone (gate and role): they stay the same from one
//! revision to the next, as a Deployment's selector has to.

use kube::core::SelectorExt;
use serde_json::{Value, json};

use crate::api::labels::{GATE, PREFIX, REVISION, ROLE, ROLE_CANARY};
use crate::decision::Revision;
use crate::routers::canary_service;

use super::labels::{self, Keep, Labels, Relabelled};

/// The longest name of a canary Deployment. A pod's name begins with the first 58 characters of
/// `<deployment>-<hash>-`; with 57 and the dash, a canary pod is told from a stable one by name.
const DEPLOYMENT_NAME: usize = 57;

/// Annotations that speak of one object, or make other tools act on it: not for copies.
const UNCOPIED: [&str; 7] = [
    PREFIX,
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/",
    "argocd.argoproj.io/",
    "meta.helm.sh/",
    "kustomize.toolkit.fluxcd.io/",
    // The user's host name would resolve to the canary.
    "external-dns.alpha.kubernetes.io/",
];

/// Fields of a Service that reach beyond the cluster, or that only one Service can have.
const UNCOPIED_SERVICE_FIELDS: [&str; 10] = [
    "clusterIP",
    "clusterIPs",
    "externalIPs",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "allocateLoadBalancerNodePorts",
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
];

/// What a canary is made from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The gate's name.
    pub gate: &'a str,
    /// The gate's uid: the canary is deleted with it.
    pub uid: &'a str,
    /// The user's Deployment as it was read.
    pub deployment: &'a Value,
    /// The user's Service as it was read.
    pub service: &'a Value,
    /// The held pod template, as the API server gave it.
    pub template: &'a Value,
    /// The template's revision.
    pub revision: &'a Revision,
    /// Which labels the canary keeps.
    pub keep: Keep,
}

/// Why no canary can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Pods cannot be told from what else is behind the name.
    #[error("Service {0} has no selector: name a Service that selects the workload's pods")]
    NoSelector(String),
    /// The name points outside the cluster.
    #[error("Service {0} is of type ExternalName: name a Service that selects the workload's pods")]
    External(String),
    /// Its traffic goes elsewhere.
    #[error("Service {service} selects {missing}, which the pods of Deployment {deployment} do not carry")]
    Unrelated {
        /// The Service.
        service: String,
        /// The Deployment.
        deployment: String,
        /// The part of the selector that does not match.
        missing: String,
    },
    /// Canary pods would count as stable ones.
    #[error(
        "{object} would select the canary's pods as well ({selector}): \
         let it select by a label with a value that can be given the suffix -canary"
    )]
    Entangled {
        /// Kind and name of what selects.
        object: String,
        /// Its selector.
        selector: String,
    },
    /// Stable pods would count as canary ones.
    #[error("the pod template carries the label {0}, which is Tollgate's own: remove it")]
    Reserved(String),
}

/// A canary that is certain not to mix with stable.
#[derive(Debug, Clone, PartialEq)]
pub struct Canary {
    deployment: Value,
    service: Value,
    pod_labels: Labels,
}

/// The name of the canary's Deployment: `<name>-canary`, shortened with a hash beyond 57
/// characters.
#[must_use]
pub fn deployment_name(workload: &str) -> String {
    labels::suffixed(workload, DEPLOYMENT_NAME)
}

/// The labels that select the canary of a gate, whatever its revision.
#[must_use]
pub fn canary_selector(gate: &str) -> Labels {
    [(GATE, gate_label(gate)), (ROLE, ROLE_CANARY.to_owned())]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// The gate's name as a label value: itself up to 63 characters, else its beginning and a hash.
#[must_use]
pub fn gate_label(gate: &str) -> String {
    labels::shortened(gate, labels::LABEL_LENGTH)
}

impl Canary {
    /// Makes the canary of a held template.
    ///
    /// # Errors
    /// When the canary's pods could not be kept apart from stable's.
    pub fn new(origin: &Origin) -> Result<Self, Refusal> {
        let before = labels::at(origin.template, "/metadata/labels");
        check_origin(origin, &before)?;
        let mut relabelled = Relabelled::new(before, origin.service, origin.deployment, origin.keep);
        relabelled.after.extend(canary_selector(origin.gate));
        relabelled.after.insert(REVISION.to_owned(), origin.revision.0.clone());
        check_apart(origin, &relabelled)?;
        Ok(Self {
            deployment: deployment(origin, &relabelled),
            service: service(origin),
            pod_labels: relabelled.after,
        })
    }

    /// The Deployment with this many pods, to be created or compared with the live one.
    #[must_use]
    pub fn deployment(&self, replicas: i64) -> Value {
        let mut deployment = self.deployment.clone();
        if let Some(spec) = deployment["spec"].as_object_mut() {
            spec.insert("replicas".to_owned(), json!(replicas));
        }
        deployment
    }

    /// The Service.
    #[must_use]
    pub const fn service(&self) -> &Value {
        &self.service
    }

    /// The labels of its pods.
    #[must_use]
    pub const fn pod_labels(&self) -> &Labels {
        &self.pod_labels
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

fn check_origin(origin: &Origin, before: &Labels) -> Result<(), Refusal> {
    let reserved = [GATE, ROLE, REVISION];
    if let Some(ours) = reserved.into_iter().find(|key| before.contains_key(*key)) {
        return Err(Refusal::Reserved(ours.to_owned()));
    }
    if origin.service["spec"]["type"] == "ExternalName" {
        return Err(Refusal::External(name(origin.service)));
    }
    let by_service = labels::service_selector(origin.service);
    if by_service.selects_all() {
        return Err(Refusal::NoSelector(name(origin.service)));
    }
    match by_service.into_iter().find(|part| !part.matches(before)) {
        None => Ok(()),
        Some(missing) => Err(Refusal::Unrelated {
            service: name(origin.service),
            deployment: name(origin.deployment),
            missing: missing.to_string(),
        }),
    }
}

fn check_apart(origin: &Origin, relabelled: &Relabelled) -> Result<(), Refusal> {
    let entangled = |kind: &str, object: &Value, selector: String| Refusal::Entangled {
        object: format!("{kind} {}", name(object)),
        selector,
    };
    let by_service = labels::service_selector(origin.service);
    if by_service.matches(&relabelled.after) {
        return Err(entangled("Service", origin.service, by_service.to_string()));
    }
    match labels::selector(&origin.deployment["spec"]["selector"]) {
        Ok(own) if !own.matches(&relabelled.after) => Ok(()),
        Ok(own) => Err(entangled("Deployment", origin.deployment, own.to_string())),
        Err(reason) => Err(entangled("Deployment", origin.deployment, reason)),
    }
}

/// Metadata of a copy: labels and annotations, ours, and the gate as controlling owner. The
/// labels are kept because admission may ask for some and because monitors select Services.
fn metadata(origin: &Origin, copied: &Value, name: &str) -> Value {
    let mut own_labels = labels::at(copied, "/metadata/labels");
    own_labels.retain(|key, _| !key.starts_with(PREFIX));
    own_labels.extend(canary_selector(origin.gate));
    own_labels.insert(REVISION.to_owned(), origin.revision.0.clone());
    let mut annotations = labels::at(copied, "/metadata/annotations");
    annotations.retain(|key, _| !UNCOPIED.iter().any(|prefix| key.starts_with(prefix)));
    json!({
        "name": name,
        "namespace": copied["metadata"]["namespace"],
        "labels": own_labels,
        "annotations": annotations,
        "ownerReferences": [owner(origin.gate, origin.uid)],
    })
}

/// The gate as controlling owner: what it made goes when it goes.
pub(super) fn owner(gate: &str, uid: &str) -> Value {
    json!({
        "apiVersion": "tollgate.dev/v1alpha1",
        "kind": "ReleaseGate",
        "name": gate,
        "uid": uid,
        "controller": true,
        "blockOwnerDeletion": false,
    })
}

fn deployment(origin: &Origin, relabelled: &Relabelled) -> Value {
    let mut spec = origin.deployment["spec"].as_object().cloned().unwrap_or_default();
    spec.insert(
        "selector".to_owned(),
        json!({"matchLabels": canary_selector(origin.gate)}),
    );
    spec.insert("template".to_owned(), template(origin, relabelled));
    // Written out: the user's is true while it is held, and ours must not stay so.
    spec.insert("paused".to_owned(), json!(false));
    spec.insert("replicas".to_owned(), json!(0));
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(origin, origin.deployment, &deployment_name(&name(origin.deployment))),
        "spec": spec,
    })
}

fn template(origin: &Origin, relabelled: &Relabelled) -> Value {
    let mut template = origin.template.clone();
    if let Some(fields) = template.as_object_mut() {
        let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.remove("creationTimestamp");
            metadata.insert("labels".to_owned(), json!(relabelled.after));
        }
    }
    let namespace = &origin.deployment["metadata"]["namespace"];
    let gate = gate_label(origin.gate);
    for selector in placement(&mut template["spec"], namespace) {
        relabelled.translate(&gate, selector);
    }
    template
}

/// The label selectors that place a pod relative to others in its own namespace.
fn placement<'a>(spec: &'a mut Value, namespace: &Value) -> Vec<&'a mut Value> {
    let mut found = Vec::new();
    let Some(spec) = spec.as_object_mut() else {
        return found;
    };
    for (field, value) in spec.iter_mut() {
        match field.as_str() {
            "topologySpreadConstraints" => found.extend(each(value).filter_map(|each| each.get_mut("labelSelector"))),
            "affinity" => found.extend(
                terms(value)
                    .into_iter()
                    .filter_map(|term| own_selector(term, namespace)),
            ),
            _ => {}
        }
    }
    found
}

fn each(list: &mut Value) -> impl Iterator<Item = &mut Value> {
    list.as_array_mut().into_iter().flatten()
}

/// Every term of pod affinity and anti-affinity, required and preferred.
fn terms(affinity: &mut Value) -> Vec<&mut Value> {
    let kinds = affinity.as_object_mut().into_iter().flatten();
    let rules = kinds
        .filter(|(kind, _)| *kind == "podAffinity" || *kind == "podAntiAffinity")
        .filter_map(|(_, rules)| rules.as_object_mut())
        .flatten();
    let mut found = Vec::new();
    for (rule, list) in rules {
        match rule.as_str() {
            "preferredDuringSchedulingIgnoredDuringExecution" => {
                found.extend(each(list).filter_map(|weighted| weighted.get_mut("podAffinityTerm")));
            }
            _ => found.extend(each(list)),
        }
    }
    found
}

/// The selector of a term, unless the term speaks of other namespaces only.
fn own_selector<'a>(term: &'a mut Value, namespace: &Value) -> Option<&'a mut Value> {
    let elsewhere = term["namespaces"]
        .as_array()
        .is_some_and(|names| !names.is_empty() && !names.contains(namespace) && term["namespaceSelector"].is_null());
    if elsewhere { None } else { term.get_mut("labelSelector") }
}

/// A copy inside the cluster. A headless Service stays headless: its clients and gateways look
/// at the pods themselves.
fn service(origin: &Origin) -> Value {
    let mut spec = origin.service["spec"].as_object().cloned().unwrap_or_default();
    let headless = spec.get("clusterIP").is_some_and(|address| address == "None");
    for field in UNCOPIED_SERVICE_FIELDS {
        spec.remove(field);
    }
    if headless {
        spec.insert("clusterIP".to_owned(), json!("None"));
    }
    spec.insert("type".to_owned(), json!("ClusterIP"));
    spec.insert("selector".to_owned(), json!(canary_selector(origin.gate)));
    for port in spec.get_mut("ports").into_iter().flat_map(each) {
        if let Some(port) = port.as_object_mut() {
            port.remove("nodePort");
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(origin, origin.service, &canary_service(&name(origin.service))),
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::Service;
    use proptest::prelude::*;

    use super::*;
    use crate::controller::drift;

    fn deployment_of(match_labels: &Value, template: &Value) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "checkout", "namespace": "shop", "uid": "d1", "resourceVersion": "9", "generation": 4,
                "labels": {"team": "shop", "tollgate.dev/gate": "checkout", "tollgate.dev/held": "checkout"},
                "annotations": {
                    "team": "shop", "deployment.kubernetes.io/revision": "4", "tollgate.dev/note": "x",
                    "kubectl.kubernetes.io/last-applied-configuration": "{}", "argocd.argoproj.io/tracking-id": "x",
                },
            },
            "spec": {
                "replicas": 5, "paused": true, "progressDeadlineSeconds": 90, "selector": {"matchLabels": match_labels},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "aFieldOfTomorrow": 1}},
                "template": template,
            },
            "status": {"replicas": 5},
        })
    }

    fn template_of(labels: &Value) -> Value {
        json!({
            "metadata": {"labels": labels, "annotations": {"a": "b"}, "creationTimestamp": null},
            "spec": {"containers": [{"name": "app", "image": "checkout:2", "aFieldOfTomorrow": {}}]},
        })
    }

    fn service_of(selector: &Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "checkout", "namespace": "shop", "labels": {"monitored": "yes"},
                "annotations": {"traefik.io/x": "y", "external-dns.alpha.kubernetes.io/hostname": "shop.example"}},
            "spec": {
                "type": "LoadBalancer", "clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7"],
                "externalIPs": ["1.2.3.4"], "externalTrafficPolicy": "Local", "healthCheckNodePort": 30000,
                "allocateLoadBalancerNodePorts": true, "loadBalancerIP": "1.2.3.4", "loadBalancerClass": "x",
                "loadBalancerSourceRanges": ["10.0.0.0/8"], "internalTrafficPolicy": "Local",
                "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
                "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP",
                    "appProtocol": "kubernetes.io/h2c", "nodePort": 30001}],
                "selector": selector, "aFieldOfTomorrow": true,
            },
            "status": {"loadBalancer": {}},
        })
    }

    struct Case {
        gate: String,
        deployment: Value,
        service: Value,
        template: Value,
        keep: Keep,
    }

    impl Case {
        fn new(labels: &Value, by_deployment: &Value, by_service: &Value) -> Self {
            let template = template_of(labels);
            Self {
                gate: "checkout".to_owned(),
                deployment: deployment_of(by_deployment, &template),
                service: service_of(by_service),
                template,
                keep: Keep::Unselected,
            }
        }

        fn plain() -> Self {
            let app = json!({"app": "checkout"});
            Self::new(&json!({"app": "checkout", "tier": "web"}), &app, &app)
        }

        fn build(&self) -> Result<Canary, Refusal> {
            Canary::new(&Origin {
                gate: &self.gate,
                uid: "g1",
                deployment: &self.deployment,
                service: &self.service,
                template: &self.template,
                revision: &Revision("0123456789".to_owned()),
                keep: self.keep,
            })
        }

        fn canary(&self) -> Canary {
            self.build().expect("a canary")
        }
    }

    fn kept(canary: &Canary) -> Value {
        let labels = canary.pod_labels().iter();
        json!(
            labels
                .filter(|(key, _)| !key.starts_with(PREFIX))
                .collect::<std::collections::BTreeMap<_, _>>()
        )
    }

    #[test]
    fn the_canary_deployment_is_the_users_with_our_names_labels_and_owner() {
        let deployment = Case::plain().canary().deployment(2);
        let ours = json!({"tollgate.dev/gate": "checkout", "tollgate.dev/role": "canary"});
        assert_eq!(
            deployment,
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {
                    "name": "checkout-canary", "namespace": "shop", "annotations": {"team": "shop"},
                    "labels": {"team": "shop", "tollgate.dev/gate": "checkout", "tollgate.dev/role": "canary",
                        "tollgate.dev/revision": "0123456789"},
                    "ownerReferences": [{"apiVersion": "tollgate.dev/v1alpha1", "kind": "ReleaseGate",
                        "name": "checkout", "uid": "g1", "controller": true, "blockOwnerDeletion": false}],
                },
                "spec": {
                    "replicas": 2, "paused": false, "progressDeadlineSeconds": 90, "selector": {"matchLabels": ours},
                    "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "aFieldOfTomorrow": 1}},
                    "template": {
                        "metadata": {"annotations": {"a": "b"}, "labels": {
                            "app": "checkout-canary", "tier": "web", "tollgate.dev/gate": "checkout",
                            "tollgate.dev/role": "canary", "tollgate.dev/revision": "0123456789"}},
                        "spec": {"containers": [{"name": "app", "image": "checkout:2", "aFieldOfTomorrow": {}}]},
                    },
                },
            })
        );
        serde_json::from_value::<Deployment>(deployment).expect("a Deployment");
    }

    #[test]
    fn the_canary_service_has_the_same_ports_and_stays_inside_the_cluster() {
        let case = Case::plain();
        let service = case.canary().service().clone();
        assert_eq!(
            service["spec"],
            json!({
                "type": "ClusterIP", "internalTrafficPolicy": "Local",
                "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
                "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP",
                    "appProtocol": "kubernetes.io/h2c"}],
                "selector": {"tollgate.dev/gate": "checkout", "tollgate.dev/role": "canary"}, "aFieldOfTomorrow": true,
            })
        );
        assert_eq!(service["metadata"]["annotations"], json!({"traefik.io/x": "y"}));
        assert_eq!(service["metadata"]["labels"]["monitored"], "yes");
        assert_eq!(service["metadata"]["name"], "checkout-canary");
        serde_json::from_value::<Service>(service).expect("a Service");

        let mut headless = case;
        headless.service["spec"]["clusterIP"] = json!("None");
        let service = headless.canary().service().clone();
        assert_eq!(service["spec"]["clusterIP"], "None");
        assert_eq!(service["spec"]["clusterIPs"], Value::Null);
    }

    #[test]
    fn labels_change_where_service_or_deployment_select_by_them_and_nowhere_else() {
        let name = "app.kubernetes.io/name";
        let all = json!({name: "checkout", "part": "api", "tier": "web"});
        for (keep, by_deployment, by_service, expected) in [
            (
                Keep::Unselected,
                json!({name: "checkout", "part": "api"}),
                json!({name: "checkout", "part": "api"}),
                json!({name: "checkout-canary", "part": "api-canary", "tier": "web"}),
            ),
            // One label is enough; the application's name is kept, many things select by it.
            (
                Keep::AllButOne,
                json!({name: "checkout", "part": "api"}),
                json!({name: "checkout", "part": "api"}),
                json!({name: "checkout", "part": "api-canary", "tier": "web"}),
            ),
            // The one that both select by, so that one change is enough for both.
            (
                Keep::AllButOne,
                json!({name: "checkout"}),
                json!({name: "checkout", "part": "api"}),
                json!({name: "checkout-canary", "part": "api", "tier": "web"}),
            ),
            // The Service's label alone would leave the canary in the Deployment's selection.
            (
                Keep::Unselected,
                json!({"tier": "web"}),
                json!({name: "checkout"}),
                json!({name: "checkout-canary", "part": "api", "tier": "web-canary"}),
            ),
            (
                Keep::AllButOne,
                json!({"tier": "web", "part": "api"}),
                json!({name: "checkout"}),
                json!({name: "checkout-canary", "part": "api-canary", "tier": "web"}),
            ),
        ] {
            let mut case = Case::new(&all, &by_deployment, &by_service);
            case.keep = keep;
            assert_eq!(kept(&case.canary()), expected, "{keep:?} {by_deployment} {by_service}");
        }
    }

    #[test]
    fn what_cannot_be_kept_apart_is_refused_with_the_reason() {
        let change = |pointer: &str, value: Value| {
            let mut case = Case::plain();
            let (root, field) = pointer.split_once('|').expect("root|field");
            let root = match root {
                "service" => &mut case.service["spec"],
                "deployment" => &mut case.deployment["spec"]["selector"],
                _ => &mut case.template["metadata"]["labels"],
            };
            root[field] = value;
            case
        };
        let mut exists = change(
            "deployment|matchExpressions",
            json!([{"key": "tier", "operator": "Exists"}]),
        );
        exists.deployment["spec"]["selector"]["matchLabels"] = json!({});
        for (case, says) in [
            (
                change("service|type", json!("ExternalName")),
                "Service checkout is of type ExternalName",
            ),
            (
                change("service|selector", json!({})),
                "Service checkout has no selector",
            ),
            (
                change("service|selector", Value::Null),
                "Service checkout has no selector",
            ),
            (
                change("service|selector", json!({"app": "cart"})),
                "Service checkout selects app=cart",
            ),
            (
                change("template|tollgate.dev/role", json!("x")),
                "carries the label tollgate.dev/role",
            ),
            (
                exists,
                "Deployment checkout would select the canary's pods as well (tier)",
            ),
            (
                change(
                    "deployment|matchExpressions",
                    json!([{"key": "app", "operator": "Near"}]),
                ),
                "Deployment checkout",
            ),
        ] {
            let error = case.build().expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn long_names_are_shortened_so_that_pods_of_both_are_told_apart_by_name() {
        let long = "c".repeat(63);
        let other = format!("{}d", "c".repeat(62));
        for name in [
            "checkout",
            "a.b",
            &"c".repeat(50),
            &"c".repeat(51),
            &long,
            &"c".repeat(253),
        ] {
            let canary = deployment_name(name);
            let prefix = |deployment: &str| format!("{deployment}-").chars().take(58).collect::<String>();
            assert!(canary.len() <= 57 && canary.ends_with("-canary"), "{canary}");
            assert!(!format!("{name}-54d8f7b9c-").starts_with(&prefix(&canary)), "{canary}");
            assert!(prefix(&canary).ends_with("-canary-"), "{canary}");
        }
        assert_eq!(deployment_name(&"c".repeat(50)), format!("{}-canary", "c".repeat(50)));
        assert_ne!(deployment_name(&long), deployment_name(&other));
        assert_eq!(
            labels::suffixed(&format!("{}.{}", "c".repeat(44), "d".repeat(30)), 63).len(),
            62
        );
        assert_eq!(gate_label("checkout"), "checkout");
        assert_eq!(gate_label(&"g".repeat(253)).len(), 63);
    }

    #[test]
    fn spread_and_affinity_among_its_own_kind_follow_the_new_labels() {
        let mut case = Case::plain();
        let own = json!({"matchLabels": {"app": "checkout"}});
        let listed = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["checkout", "cart"]}]});
        let others = json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["checkout"]}]});
        let redis = json!({"matchLabels": {"app": "redis"}});
        let term = |selector: &Value| json!({"topologyKey": "zone", "labelSelector": selector});
        case.template["spec"]["topologySpreadConstraints"] = json!([term(&own), {"topologyKey": "node"}]);
        case.template["spec"]["affinity"] = json!({
            "nodeAffinity": {"required": []},
            "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term(&redis)]},
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    term(&listed), term(&others),
                    {"topologyKey": "zone", "namespaces": ["other"], "labelSelector": own},
                    {"topologyKey": "zone", "namespaces": ["other", "shop"], "labelSelector": own}],
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term(&own)}],
            },
        });
        let deployment = case.canary().deployment(1);
        let spec = &deployment["spec"]["template"]["spec"];
        let anti = &spec["affinity"]["podAntiAffinity"];
        let required = &anti["requiredDuringSchedulingIgnoredDuringExecution"];
        let preferred = &anti["preferredDuringSchedulingIgnoredDuringExecution"];
        let canary = json!({"matchLabels": {"app": "checkout-canary"}});
        let not_ours = json!({"key": "tollgate.dev/gate", "operator": "NotIn", "values": ["checkout"]});
        assert_eq!(
            spec["topologySpreadConstraints"],
            json!([term(&canary), {"topologyKey": "node"}])
        );
        assert_eq!(
            spec["affinity"]["podAffinity"],
            case.template["spec"]["affinity"]["podAffinity"]
        );
        assert_eq!(
            required[0]["labelSelector"]["matchExpressions"][0]["values"],
            json!(["cart", "checkout-canary"])
        );
        assert_eq!(
            required[1]["labelSelector"]["matchExpressions"],
            json!([others["matchExpressions"][0], not_ours])
        );
        assert_eq!(required[2]["labelSelector"], own, "other namespaces are none of ours");
        assert_eq!(required[3]["labelSelector"], canary);
        assert_eq!(preferred[0]["podAffinityTerm"]["labelSelector"], canary);
    }

    #[test]
    fn nothing_is_written_when_nothing_differs_and_the_user_scaling_is_no_difference() {
        let mut case = Case::plain();
        let canary = case.canary();
        assert_eq!(
            drift::write(&canary.deployment(2), Some(&canary.deployment(2))),
            Ok(None)
        );
        assert_eq!(drift::write(canary.service(), Some(canary.service())), Ok(None));
        case.deployment["spec"]["replicas"] = json!(50);
        case.deployment["spec"]["paused"] = json!(false);
        assert_eq!(case.canary(), canary);
        let scaled = drift::write(&canary.deployment(3), Some(&canary.deployment(2)));
        assert_eq!(
            scaled,
            Ok(Some(drift::Write::Patch {
                manager: "tollgate".to_owned(),
                operations: vec![json!({"op": "add", "path": "/spec/replicas", "value": 3})],
            }))
        );
    }

    /// Labels, and which of them Deployment and Service select by.
    fn workloads() -> impl Strategy<Value = (Labels, Labels, Labels, bool)> {
        let key = prop_oneof![Just("app".to_owned()), "[a-e]", "[a-z]{1,5}\\.io/[a-z]{1,5}"];
        let value = prop_oneof![
            4 => "[a-z]([-a-z0-9_.]{0,61}[a-z0-9])?",
            1 => Just(String::new()),
            1 => Just("canary".to_owned()),
        ];
        (
            proptest::collection::btree_map(key, (value, any::<bool>(), any::<bool>()), 1..6),
            any::<bool>(),
        )
            .prop_map(|(all, shared)| {
                let pick = |by: fn(&(String, bool, bool)) -> bool| {
                    let chosen = all.iter().filter(|(_, entry)| by(entry));
                    chosen
                        .map(|(key, entry)| (key.clone(), entry.0.clone()))
                        .collect::<Labels>()
                };
                (pick(|_| true), pick(|entry| entry.1), pick(|entry| entry.2), shared)
            })
    }

    fn is_label_value(value: &str) -> bool {
        let inner = value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
        value.len() <= 63 && inner && ends(value.chars().next()) && ends(value.chars().last())
    }

    proptest! {
        #[test]
        fn the_pods_of_stable_and_canary_are_never_mixed((all, by_deployment, by_service, shared) in workloads()) {
            let mut case = Case::new(&json!(all), &json!(by_deployment), &json!(by_service));
            case.keep = if shared { Keep::AllButOne } else { Keep::Unselected };
            if by_deployment.is_empty() || by_service.is_empty() {
                prop_assert!(case.build().is_err(), "what selects everything is refused");
                return Ok(());
            }
            let canary = case.build().expect("every label can be told apart");
            prop_assert_eq!(case.build().expect("twice the same"), canary.clone());
            let deployment = canary.deployment(1);
            let pods = labels::at(&deployment, "/spec/template/metadata/labels");
            prop_assert_eq!(&pods, canary.pod_labels());
            let own = labels::selector(&deployment["spec"]["selector"]).expect("a selector");
            let users = labels::selector(&case.deployment["spec"]["selector"]).expect("a selector");
            prop_assert!(own.matches(&pods) && labels::service_selector(canary.service()).matches(&pods));
            prop_assert!(!own.matches(&all) && !labels::service_selector(canary.service()).matches(&all));
            prop_assert!(!users.matches(&pods) && !labels::service_selector(&case.service).matches(&pods));
            prop_assert!(pods.values().all(|value| is_label_value(value)), "{:?}", pods);
            let untouched = |key: &String| !by_service.contains_key(key) && !by_deployment.contains_key(key);
            prop_assert!(all.iter().all(|(key, value)| !untouched(key) || pods[key] == *value));
        }

        #[test]
        fn who_kept_away_from_its_own_kind_still_does(
            (all, by_deployment, by_service, shared) in workloads(),
            operator in prop_oneof![Just("In"), Just("NotIn"), Just("Exists"), Just("DoesNotExist"), Just("Equal")],
            with_canary in any::<bool>(), with_own in any::<bool>(), index in any::<proptest::sample::Index>(),
        ) {
            prop_assume!(!by_deployment.is_empty() && !by_service.is_empty());
            let (key, value) = all.iter().nth(index.index(all.len())).expect("a label");
            let mut values = vec!["other".to_owned()];
            values.extend(with_own.then(|| value.clone()));
            values.extend(with_canary.then(|| labels::suffixed(value, 63)));
            let wanted = values.last().cloned().unwrap_or_default();
            let selector = match operator {
                "Equal" => json!({"matchLabels": {key: wanted}}),
                "In" | "NotIn" => json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}),
                _ => json!({"matchExpressions": [{"key": key, "operator": operator}]}),
            };
            let mut case = Case::new(&json!(all), &json!(by_deployment), &json!(by_service));
            case.keep = if shared { Keep::AllButOne } else { Keep::Unselected };
            case.template["spec"]["topologySpreadConstraints"] = json!([{"labelSelector": selector}]);
            let canary = case.canary();
            let after = &canary.deployment(1)["spec"]["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"];
            let found_stable = labels::selector(&selector).expect("a selector").matches(&all);
            let finds_canary = labels::selector(after).expect("a selector").matches(canary.pod_labels());
            prop_assert_eq!(found_stable, finds_canary, "{} → {}", selector, after);
        }
    }
}
