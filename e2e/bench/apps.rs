//! The apps that are released: a namespace each with Deployment, Service, route and gate.

use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tollgate::api::{ConditionStatus, ReleaseGate};

/// Calls in flight at the same time.
pub const AT_ONCE: usize = 32;

/// One app; everything of it has this name, its namespace too.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct App(pub String);

impl App {
    /// What a team has before a release, and a gate whose windows are short.
    pub fn objects(&self) -> Vec<Value> {
        let name = &self.0;
        let meta = json!({"name": name, "namespace": name});
        vec![
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
            deployment(&meta, 2),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": meta,
                "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80}]}}),
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": meta,
                "spec": {"parentRefs": [{"name": "public"}], "rules": [{"backendRefs": [{"name": name, "port": 80}]}]}}),
            gate(&meta, false),
        ]
    }

    /// What a team has that uses no gate.
    pub fn ungated(&self) -> Vec<Value> {
        let mut objects = self.objects();
        objects.truncate(2);
        objects
    }

    /// Changes the image.
    pub async fn release(&self, client: &Client, image: &str) {
        push(client, (&self.0, &self.0), image).await;
    }
}

fn deployment(meta: &Value, replicas: i64) -> Value {
    let app = json!({"app": meta["name"]});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {
        "replicas": replicas, "selector": {"matchLabels": app},
        "template": {"metadata": {"labels": app}, "spec": {"containers": [{"name": "app", "image": "app:v1"}]}}}})
}

/// Five steps of about ten seconds: a window opens with the first reading of a step, and three
/// seconds later the step is over, in time for the next reading.
fn gate(meta: &Value, suspend: bool) -> Value {
    json!({"apiVersion": "tollgate.dev/v1alpha1", "kind": "ReleaseGate", "metadata": meta, "spec": {
        "suspend": suspend,
        "target": {"workload": {"name": meta["name"]}, "service": meta["name"]},
        "traffic": {"gatewayAPI": {"routes": [{"name": meta["name"]}]}},
        "analysis": {"slo": "99%", "minWindow": "3s", "maxWindow": "3s", "metrics": [
            {"name": "errors", "ratio": {"preset": "gateway-errors"}},
            {"name": "latency", "histogram": {"preset": "gateway-duration"}}]},
        "policy": {"onInconclusive": "NoHarm"},
        "deadlines": {"drain": "3s"}}})
}

/// A gate that only rests, with a Deployment without pods; a suspended one holds every template.
pub fn resting(name: &str, namespace: &str, suspend: bool) -> Vec<Value> {
    let meta = json!({"name": name, "namespace": namespace});
    vec![deployment(&meta, 0), gate(&meta, suspend)]
}

/// Changes the image of a Deployment.
pub async fn push(client: &Client, (namespace, name): (&str, &str), image: &str) {
    let api: Api<k8s_openapi::api::apps::v1::Deployment> = Api::namespaced(client.clone(), namespace);
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}}});
    api.patch(name, &PatchParams::default(), &Patch::Strategic(&patch))
        .await
        .expect("a new image");
}

/// Gives the gates of apps the drain that gates have by default, and waits until that is seen.
pub async fn drain_by_default(client: &Client, apps: &[App]) {
    for App(name) in apps {
        let api: Api<ReleaseGate> = Api::namespaced(client.clone(), name);
        let patch = json!({"spec": {"deadlines": {"drain": null}}});
        api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .expect("the gate");
    }
    let is_seen = |gate: &&ReleaseGate| {
        let seen = gate.status.as_ref().map(|status| status.observed_generation);
        seen == gate.metadata.generation
    };
    let all = gates(client).await.len();
    until(client, "see the drain", all, is_seen).await;
}

/// The source: read every 10 s.
pub fn source() -> Value {
    json!({"apiVersion": "tollgate.dev/v1alpha1", "kind": "EvidenceSource", "metadata": {"name": "prometheus"}, "spec": {
        "default": true,
        "prometheus": {"url": "http://198.18.0.1:9090", "intervalSeconds": 10, "scrapeSeconds": 2}}})
}

/// Creates an object.
pub async fn create(client: &Client, object: &Value) {
    let text = |field: &str| object[field].as_str().expect("a field").to_owned();
    let (group, version) = match text("apiVersion").split_once('/') {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => (String::new(), text("apiVersion")),
    };
    let plural = format!("{}s", text("kind").to_lowercase());
    let gvk = kube::core::GroupVersionKind::gvk(&group, &version, &text("kind"));
    let resource = ApiResource::from_gvk_with_plural(&gvk, &plural);
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let body = serde_json::from_value(object.clone()).expect("an object");
    api.create(&PostParams::default(), &body)
        .await
        .unwrap_or_else(|error| panic!("create {object}: {error}"));
}

/// Creates many sets of objects, each set in order.
pub async fn create_all(client: &Client, sets: Vec<Vec<Value>>) {
    futures::stream::iter(sets)
        .for_each_concurrent(AT_ONCE, async |set| {
            for object in &set {
                create(client, object).await;
            }
        })
        .await;
}

/// All gates.
pub async fn gates(client: &Client) -> Vec<ReleaseGate> {
    let api: Api<ReleaseGate> = Api::all(client.clone());
    api.list(&ListParams::default()).await.expect("the gates").items
}

/// Waits until as many gates are Ready as are wanted, and were not before with the same revision.
pub async fn until_ready(client: &Client, wanted: usize, before: &[ReleaseGate], limit: Duration) {
    let stable = |gate: &ReleaseGate| gate.status.as_ref().and_then(|status| status.stable.clone());
    let is_new = |gate: &ReleaseGate| {
        let old = before.iter().find(|old| old.uid() == gate.uid());
        old.is_none_or(|old| stable(old) != stable(gate))
    };
    let ready = is_ready();
    let is_ready = |gate: &&ReleaseGate| ready(gate) && is_new(gate);
    let deadline = Instant::now() + limit;
    loop {
        let all = gates(client).await;
        let ready = all.iter().filter(is_ready).count();
        if ready >= wanted {
            return;
        }
        if Instant::now() > deadline {
            let stuck = all.iter().find(|gate| !is_ready(gate)).map(|gate| &gate.status);
            panic!("{ready} of {wanted} gates are ready after {limit:?}; one of the others: {stuck:#?}");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Waits until so many gates are as they should.
pub async fn until(client: &Client, what: &str, wanted: usize, is_so: impl Fn(&&ReleaseGate) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        let so = gates(client).await.iter().filter(&is_so).count();
        if so >= wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{so} of {wanted} gates {what} after 300 s");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Whether a gate is Ready.
pub fn is_ready() -> impl Fn(&&ReleaseGate) -> bool {
    |gate| {
        let conditions = gate.status.iter().flat_map(|status| &status.conditions);
        let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
        ready.any(|condition| condition.status == ConditionStatus::True)
    }
}

/// Whether a gate has this reason.
pub fn is(reason: tollgate::decision::Reason) -> impl Fn(&&ReleaseGate) -> bool {
    move |gate| {
        let known = gate.status.as_ref().and_then(|status| status.reason.as_deref());
        known == Some(reason.word())
    }
}
