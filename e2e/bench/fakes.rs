//! What the rig's `core` has not: a kubelet, and a gateway.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::exporter::Traffic;

/// A pod is ready this long after it was made.
const READY: Duration = Duration::from_secs(2);

/// The canary's share of an app's traffic, as it changed.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// When.
    pub at: SystemTime,
    /// Percent.
    pub weight: f64,
}

/// What the gateway knows of one app.
#[derive(Debug, Default)]
pub struct Flow {
    /// Every change of the split.
    pub changes: Vec<Change>,
    /// What has been served.
    pub traffic: Traffic,
    /// Whether the canary fails.
    pub is_bad: bool,
}

impl Flow {
    /// The canary's share now, in percent.
    pub fn weight(&self) -> f64 {
        self.changes.last().map_or(0.0, |change| change.weight)
    }
}

/// What the gateway knows, by app.
pub type World = Arc<Mutex<HashMap<String, Flow>>>;

/// When pods became ready, by namespace.
pub type Ready = Arc<Mutex<HashMap<String, Vec<SystemTime>>>>;

/// Makes every pod ready in time.
pub async fn kubelet(client: Client, ready: Ready) {
    let mut seen = HashSet::new();
    let pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default());
    let watched = pods.default_backoff().applied_objects().try_for_each(|pod| {
        if seen.insert(pod.uid()) {
            tokio::spawn(make_ready(client.clone(), pod, ready.clone()));
        }
        std::future::ready(Ok(()))
    });
    watched.await.expect("the watch of pods");
}

async fn make_ready(client: Client, pod: Pod, ready: Ready) {
    tokio::time::sleep(READY).await;
    let namespace = pod.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
    let conditions: Vec<_> = ["Initialized", "ContainersReady", "Ready"].map(condition).into();
    let status = json!({"status": {"phase": "Running", "conditions": conditions}});
    match api
        .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(&status))
        .await
    {
        Ok(_) => {
            let mut ready = ready.lock().unwrap();
            ready.entry(namespace).or_default().push(SystemTime::now());
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => panic!("pod {}: {error}", pod.name_any()),
    }
}

/// Takes every route up at once, and reports it.
pub async fn gateway(client: Client, world: World) {
    let gvk = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute");
    let kind = ApiResource::from_gvk_with_plural(&gvk, "httproutes");
    let routes: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let watched = watcher(routes, watcher::Config::default())
        .default_backoff()
        .applied_objects();
    let taken_up = watched.try_for_each(|route| {
        let (name, weight) = (route.name_any(), weight(&route.data));
        let mut world = world.lock().unwrap();
        let flow = world.entry(name).or_default();
        if flow
            .changes
            .last()
            .is_none_or(|last| (last.weight - weight).abs() > 0.01)
        {
            flow.traffic.advance(flow.weight(), flow.is_bad);
            flow.changes.push(Change {
                at: SystemTime::now(),
                weight,
            });
        }
        if route.data.pointer("/status/parents/0/conditions/0/observedGeneration")
            != Some(&json!(route.metadata.generation))
        {
            tokio::spawn(report(client.clone(), kind.clone(), route));
        }
        std::future::ready(Ok(()))
    });
    taken_up.await.expect("the watch of routes");
}

/// The canary's share of a route's traffic in percent.
fn weight(route: &Value) -> f64 {
    let backends = route.pointer("/spec/rules/0/backendRefs").and_then(Value::as_array);
    let sum = |canary: Option<bool>| -> f64 {
        let backends = backends.into_iter().flatten().filter(|backend| {
            let is_canary = backend["name"].as_str().is_some_and(|name| name.ends_with("-canary"));
            canary.is_none_or(|wanted| wanted == is_canary)
        });
        backends.map(|backend| backend["weight"].as_f64().unwrap_or(1.0)).sum()
    };
    100.0 * sum(Some(true)) / sum(None).max(1.0)
}

async fn report(client: Client, kind: ApiResource, route: DynamicObject) {
    let api: Api<DynamicObject> = Api::namespaced_with(client, &route.namespace().unwrap_or_default(), &kind);
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "reason": kind, "message": "", "lastTransitionTime": now,
               "observedGeneration": route.metadata.generation})
    };
    let status = json!({"status": {"parents": [{
        "parentRef": route.data["spec"]["parentRefs"][0],
        "controllerName": "bench.test/gateway",
        "conditions": [condition("Accepted"), condition("ResolvedRefs")]}]}});
    api.patch_status(&route.name_any(), &PatchParams::default(), &Patch::Merge(&status))
        .await
        .expect("a report about a route");
}
