//! A team's objects: one sample of each, and how to say what differs.

use kube::api::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

/// The image of the demo app with this tag; in `core` only the name matters.
pub fn image(tag: &str) -> String {
    format!("tollgate.test/demo-app:{tag}")
}

/// How to reach objects of a kind.
pub fn resource(kind: &str) -> ApiResource {
    let (group, version, plural) = match kind {
        "Namespace" => ("", "v1", "namespaces"),
        "ConfigMap" => ("", "v1", "configmaps"),
        "Pod" => ("", "v1", "pods"),
        "Event" => ("events.k8s.io", "v1", "events"),
        "Service" => ("", "v1", "services"),
        "Deployment" => ("apps", "v1", "deployments"),
        "ReplicaSet" => ("apps", "v1", "replicasets"),
        "HorizontalPodAutoscaler" => ("autoscaling", "v2", "horizontalpodautoscalers"),
        "HTTPRoute" => ("gateway.networking.k8s.io", "v1", "httproutes"),
        "BackendTLSPolicy" => ("gateway.networking.k8s.io", "v1", "backendtlspolicies"),
        "ReleaseGate" => ("tollgate.dev", "v1alpha1", "releasegates"),
        "CanaryAnalysis" => ("tollgate.dev", "v1alpha1", "canaryanalyses"),
        "GateAction" => ("tollgate.dev", "v1alpha1", "gateactions"),
        "MutatingWebhookConfiguration" => ("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations"),
        "EvidenceSource" => ("tollgate.dev", "v1alpha1", "evidencesources"),
        "Secret" => ("", "v1", "secrets"),
        "Rollout" => ("argoproj.io", "v1alpha1", "rollouts"),
        "AnalysisTemplate" => ("argoproj.io", "v1alpha1", "analysistemplates"),
        "OCIRepository" => ("source.toolkit.fluxcd.io", "v1", "ocirepositories"),
        "Kustomization" => ("kustomize.toolkit.fluxcd.io", "v1", "kustomizations"),
        "HelmRelease" => ("helm.toolkit.fluxcd.io", "v2", "helmreleases"),
        "AnalysisRun" => ("argoproj.io", "v1alpha1", "analysisruns"),
        other => panic!("the tests know no {other}"),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// Changes an object as a merge patch (RFC 7386) would.
pub fn with(mut object: Value, difference: &Value) -> Value {
    json_patch::merge(&mut object, difference);
    object
}

/// The team's Deployment.
pub fn deployment(tag: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "checkout"},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 60,
            "selector": {"matchLabels": {"app": "checkout"}},
            "template": {
                "metadata": {"labels": {"app": "checkout"}},
                "spec": {
                    "terminationGracePeriodSeconds": 15,
                    "containers": [{
                        "name": "checkout",
                        "image": image(tag),
                        "imagePullPolicy": "Never",
                        "ports": [{"name": "http", "containerPort": 8080}],
                        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1},
                        "lifecycle": {"preStop": {"sleep": {"seconds": 2}}},
                        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                    }],
                },
            },
        },
    })
}

/// The Service in front of it.
pub fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "checkout"},
        "spec": {"selector": {"app": "checkout"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    })
}

/// A route to it, as the team wrote it: without weights.
pub fn route(name: &str, host: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"name": "public", "namespace": "gateway"}],
            "hostnames": [host],
            "rules": [{"backendRefs": [{"name": "checkout", "port": 80}]}],
        },
    })
}

/// Where evidence comes from: a name of the test's own, because sources belong to the whole cluster.
pub fn source(name: &str, url: &str) -> Value {
    json!({
        "apiVersion": "tollgate.dev/v1alpha1", "kind": "EvidenceSource",
        "metadata": {"name": name},
        "spec": {"prometheus": {"url": url, "intervalSeconds": 1, "scrapeSeconds": 2, "timeoutSeconds": 5}},
    })
}

/// A gate whose waits are short and whose deadlines are long.
pub fn gate(source: &str) -> Value {
    json!({
        "apiVersion": "tollgate.dev/v1alpha1", "kind": "ReleaseGate",
        "metadata": {"name": "checkout"},
        "spec": {
            "target": {"workload": {"name": "checkout"}, "service": "checkout"},
            "traffic": {"gatewayAPI": {"routes": [{"name": "checkout"}]}},
            "analysis": {
                "source": source, "slo": "99%", "minSample": 200,
                "minWindow": "2s", "maxWindow": "60s",
            },
            "policy": {"onInconclusive": "NoHarm", "onNoEvidence": {"hold": "90s", "then": "Abort"}},
            "deadlines": {"ready": "90s", "route": "90s", "handover": "120s", "drain": "1s"},
        },
    })
}

/// An autoscaler of the Deployment that may go down to so many pods.
pub fn autoscaler(least: u32) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "checkout"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"},
            "minReplicas": least, "maxReplicas": 6,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}],
        },
    })
}

/// What someone asks of the gate.
pub fn action(name: &str, verb: &str, reason: &str) -> Value {
    json!({
        "apiVersion": "tollgate.dev/v1alpha1", "kind": "GateAction",
        "metadata": {"name": name},
        "spec": {"gate": "checkout", "verb": verb, "reason": reason},
    })
}

/// The version of an object as the API server gave it: it rises with each write of any object.
pub fn resource_version(object: &Value) -> u64 {
    let version = object["metadata"]["resourceVersion"].as_str();
    version.and_then(|version| version.parse().ok()).expect("a version")
}
