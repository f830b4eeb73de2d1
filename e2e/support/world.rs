//! Kubelet, gateway and traffic of one namespace, played: pods become ready, routes are programmed,
//! requests are shared out by the weights of the route and counted as Traefik counts them, and restarts
//! as kube-state-metrics does.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt as _};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use rand::SeedableRng as _;
use rand_distr::{Distribution as _, Poisson};
use rand_pcg::Pcg64;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::directory;
use super::objects::resource_version;
use super::space::Space;

/// Between two shares of requests.
const TICK: Duration = Duration::from_millis(100);

/// What is played in one namespace. Ends when it is dropped.
pub struct World {
    shared: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
    targets: PathBuf,
}

struct State {
    space: String,
    /// Requests a second, of all routes together.
    rate: f64,
    /// Share of failed requests by service.
    errors: HashMap<String, f64>,
    /// Where the number of requests and of failures is left to chance.
    chance: Option<Pcg64>,
    /// Requests so far by service and code.
    counts: BTreeMap<(String, &'static str), f64>,
    routes: BTreeMap<String, Value>,
    /// Every weight of the canary that the route `checkout` has had, in order; `None` without a split.
    weights: Vec<Option<i64>>,
    /// Ready pods by name, and whether they are canaries.
    ready: HashMap<String, bool>,
    /// Images whose pods never become ready.
    broken: BTreeSet<String>,
    /// Pods that are not ready any more.
    down: BTreeSet<String>,
    /// Routes that the gateway does not program.
    unprogrammed: BTreeSet<String>,
    /// Whether the gateway has metrics.
    visible: bool,
    /// How often a second each of the canary's pods is started again.
    crashes: f64,
    /// How often each pod was.
    restarts: BTreeMap<String, f64>,
}

impl World {
    pub async fn start(space: &Space) -> Self {
        let shared = Arc::new(Mutex::new(State {
            space: space.name.clone(),
            rate: 20_000.0,
            errors: HashMap::from(["checkout", "checkout-canary"].map(|name| (name.to_owned(), 0.001))),
            chance: None,
            counts: BTreeMap::new(),
            routes: BTreeMap::new(),
            weights: vec![],
            ready: HashMap::new(),
            broken: BTreeSet::new(),
            down: BTreeSet::new(),
            unprogrammed: BTreeSet::new(),
            visible: true,
            crashes: 0.0,
            restarts: BTreeMap::new(),
        }));
        let mut tasks = JoinSet::new();
        tasks.spawn(kubelet(space.api("Pod"), Arc::clone(&shared)));
        tasks.spawn(gateway(space.api("HTTPRoute"), Arc::clone(&shared)));
        tasks.spawn(traffic(Arc::clone(&shared)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let page = Arc::clone(&shared);
        let metrics = axum::routing::get(move || async move { page.lock().unwrap().page() });
        let app = axum::Router::new().route("/metrics", metrics);
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        let targets = directory("TOLLGATE_E2E_TARGETS").join(format!("{}.json", space.name));
        let unfinished = targets.with_extension("new");
        std::fs::write(&unfinished, json!([{"targets": [address.to_string()]}]).to_string()).unwrap();
        std::fs::rename(unfinished, &targets).unwrap();
        Self {
            shared,
            _tasks: tasks,
            targets,
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.lock().unwrap());
    }

    /// The share of the canary's requests that fail from now on.
    pub fn canary_fails(&self, share: f64) {
        self.change(|state| {
            state.errors.insert("checkout-canary".into(), share);
        });
    }

    /// From now on every request fails by chance, with the same chance on stable and canary, and by
    /// chance goes to one of them: the gateway of the rig splits evenly, which a real one need not.
    pub fn fails_by_chance(&self, share: f64, seed: usize) {
        self.change(|state| {
            state.errors.values_mut().for_each(|errors| *errors = share);
            state.chance = Some(Pcg64::seed_from_u64(u64::try_from(seed).unwrap()));
        });
    }

    /// The canary's pods crash so often a second from now on, and are started again.
    pub fn canary_crashes(&self, often: f64) {
        self.change(|state| state.crashes = often);
    }

    /// Requests a second from now on.
    pub fn rate(&self, rate: f64) {
        self.change(|state| state.rate = rate);
    }

    /// Pods with this image never become ready.
    pub fn breaks(&self, image: String) {
        self.change(|state| {
            state.broken.insert(image);
        });
    }

    /// One of stable's pods is not ready any more, for good.
    pub async fn takes_down_a_stable_pod(&self, space: &Space) {
        let stable = self.pods(false).into_iter().next().expect("a ready stable pod");
        self.take_down(space, &stable).await;
    }

    /// None of the canary's pods is ready any more, for good.
    pub async fn takes_down_the_canary(&self, space: &Space) {
        for pod in self.pods(true) {
            self.take_down(space, &pod).await;
        }
    }

    /// Ready pods of stable or of the canary.
    fn pods(&self, canary: bool) -> Vec<String> {
        let state = self.shared.lock().unwrap();
        let ready = state.ready.iter().filter(|(_, role)| **role == canary);
        ready.map(|(name, _)| name.clone()).collect()
    }

    async fn take_down(&self, space: &Space, pod: &str) {
        self.change(|state| {
            state.down.insert(pod.to_owned());
        });
        let ready =
            json!({"type": "Ready", "status": "False", "lastTransitionTime": jiff::Timestamp::now().to_string()});
        let patch = Patch::Merge(json!({"status": {"conditions": [ready]}}));
        space
            .api("Pod")
            .patch_status(pod, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Whether the gateway programs a route; from its next version on.
    pub fn programs(&self, route: &str, programs: bool) {
        self.change(|state| {
            if programs {
                state.unprogrammed.remove(route);
            } else {
                state.unprogrammed.insert(route.to_owned());
            }
        });
    }

    /// Whether the gateway's metrics name these services.
    pub fn visible(&self, visible: bool) {
        self.change(|state| state.visible = visible);
    }

    /// Requests that found no ready pod.
    pub fn lost(&self) -> f64 {
        let state = self.shared.lock().unwrap();
        let lost = state.counts.iter().filter(|((_, code), _)| *code == "503");
        lost.map(|(_, count)| count).sum()
    }

    /// Every weight that the route `checkout` has had, up to this version of it at least; `None` before the
    /// gateway has seen that one.
    pub(super) fn weights(&self, version: u64) -> Option<Vec<Option<i64>>> {
        let state = self.shared.lock().unwrap();
        let seen = state.routes.get("checkout").map(resource_version);
        seen.filter(|seen| *seen >= version).map(|_| state.weights.clone())
    }

    /// Forgets the weights so far, except the last.
    pub(super) fn forget_weights(&self) {
        self.change(|state| {
            let last = state.weights.pop();
            state.weights = last.into_iter().collect();
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        std::fs::remove_file(&self.targets).ok();
    }
}

/// The canary's weight out of 100 in the first rule that names it.
pub fn canary_weight(route: &Value) -> Option<i64> {
    let rules = route["spec"]["rules"].as_array()?;
    rules.iter().find_map(|rule| {
        let backends = rule["backendRefs"].as_array()?;
        let weight = |name: &str| {
            let backend = backends.iter().find(|backend| backend["name"] == name)?;
            Some(backend["weight"].as_i64().unwrap_or(1))
        };
        let (stable, canary) = (weight("checkout")?, weight("checkout-canary")?);
        Some(canary * 100 / (stable + canary).max(1))
    })
}

impl State {
    fn note_route(&mut self, route: Value) {
        let name = route["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if name == "checkout" {
            let weight = canary_weight(&route);
            if self.weights.last() != Some(&weight) {
                self.weights.push(weight);
            }
        }
        self.routes.insert(name, route);
    }

    /// Shares out the requests of so many seconds, and starts pods again.
    fn pass(&mut self, seconds: f64) {
        for (pod, canary) in &self.ready {
            let crashes = if *canary { self.crashes } else { 0.0 };
            *self.restarts.entry(pod.clone()).or_default() += crashes * seconds;
        }
        let serves = |canary: bool| self.ready.values().any(|role| *role == canary);
        let (stable, canary) = (serves(false), serves(true));
        if !stable && self.counts.is_empty() {
            return; // the team's service does not run yet
        }
        let rules: Vec<&Value> = self
            .routes
            .values()
            .filter_map(|route| route["spec"]["rules"].as_array())
            .flatten()
            .collect();
        let each = self.rate * seconds / f64::from(u32::try_from(rules.len().max(1)).unwrap());
        let mut served: Vec<(String, f64)> = vec![];
        for backends in rules.iter().filter_map(|rule| rule["backendRefs"].as_array()) {
            let weight = |backend: &Value| backend["weight"].as_f64().unwrap_or(1.0);
            let all: f64 = backends.iter().map(weight).sum();
            for backend in backends.iter().filter(|backend| weight(backend) > 0.0) {
                let name = backend["name"].as_str().unwrap_or_default().to_owned();
                served.push((name, each * weight(backend) / all));
            }
        }
        for (name, requests) in served {
            let up = if name.ends_with("-canary") { canary } else { stable };
            let fails = self.errors.get(&name).copied().unwrap_or(0.0);
            let parts = if up {
                [("200", requests * (1.0 - fails)), ("500", requests * fails)]
            } else {
                [("503", requests), ("500", 0.0)]
            };
            for (code, part) in parts {
                let part = match &mut self.chance {
                    Some(chance) if part > 0.0 => Poisson::new(part).unwrap().sample(chance),
                    _ => part,
                };
                *self.counts.entry((name.clone(), code)).or_default() += part;
            }
        }
    }

    /// What Prometheus reads.
    fn page(&self) -> String {
        let mut page = "# TYPE traefik_service_requests_total counter\n".to_owned();
        for ((service, code), count) in self.counts.iter().filter(|_| self.visible) {
            let name = format!("{}-{service}-http-80@kubernetesgateway", self.space);
            let count = count.floor();
            writeln!(
                page,
                "traefik_service_requests_total{{code=\"{code}\",method=\"GET\",protocol=\"http\",service=\"{name}\"}} {count}"
            )
            .unwrap();
        }
        // as kube-state-metrics tells of the pods that are there
        page.push_str("# TYPE kube_pod_container_status_restarts_total counter\n");
        for (pod, restarts) in self.restarts.iter().filter(|(pod, _)| self.ready.contains_key(*pod)) {
            let (namespace, restarts) = (&self.space, restarts.floor());
            let labels = format!("namespace=\"{namespace}\",pod=\"{pod}\",container=\"checkout\"");
            writeln!(page, "kube_pod_container_status_restarts_total{{{labels}}} {restarts}").unwrap();
        }
        page
    }
}

async fn traffic(shared: Arc<Mutex<State>>) {
    let mut last = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        shared.lock().unwrap().pass((now - last).as_secs_f64());
        last = now;
    }
}

type Event = watcher::Event<DynamicObject>;

/// Every version of every object of a kind, and whether it exists.
fn watch(api: Api<DynamicObject>) -> impl Stream<Item = (Value, bool)> + Send + Unpin {
    let events = watcher(api, watcher::Config::default()).default_backoff();
    let seen = |event: Result<Event, watcher::Error>| {
        let (object, exists) = match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => (object, true),
            Ok(Event::Delete(object)) => (object, false),
            Ok(_) | Err(_) => return None,
        };
        Some((serde_json::to_value(object).unwrap(), exists))
    };
    events.filter_map(move |event| std::future::ready(seen(event))).boxed()
}

/// Pods run as soon as they exist, unless their image is broken.
async fn kubelet(api: Api<DynamicObject>, shared: Arc<Mutex<State>>) {
    let status = api.clone();
    let mut pods = watch(api);
    while let Some((pod, exists)) = pods.next().await {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let canary = pod["metadata"]["labels"]["tollgate.dev/role"] == "canary";
        let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        {
            let mut state = shared.lock().unwrap();
            if !exists || pod["metadata"]["deletionTimestamp"].is_string() {
                state.ready.remove(&name);
                continue;
            }
            let down = state.down.contains(&name);
            if is_ready(&pod) && !down {
                state.ready.insert(name, canary);
                continue;
            }
            if down || state.broken.contains(image) {
                state.ready.remove(&name);
                continue;
            }
            // it serves before anybody is told that it does
            state.ready.insert(name.clone(), canary);
        }
        let now = jiff::Timestamp::now().to_string();
        let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
        let patch = json!({"status": {
            "phase": "Running", "startTime": now,
            "conditions": [condition("PodScheduled"), condition("ContainersReady"), condition("Ready")],
        }});
        // A pod that is gone meanwhile is seen as deleted next.
        status
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .ok();
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| {
        all.iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    })
}

/// Every version of a route is programmed as soon as it is written, unless it is not to be.
async fn gateway(api: Api<DynamicObject>, shared: Arc<Mutex<State>>) {
    let status = api.clone();
    let mut routes = watch(api);
    while let Some((route, exists)) = routes.next().await {
        let name = route["metadata"]["name"].as_str().unwrap().to_owned();
        {
            let mut state = shared.lock().unwrap();
            if !exists {
                state.routes.remove(&name);
                continue;
            }
            state.note_route(route.clone());
            if state.unprogrammed.contains(&name) {
                continue;
            }
        }
        let generation = &route["metadata"]["generation"];
        if route["status"]["parents"][0]["conditions"][0]["observedGeneration"] == *generation {
            continue;
        }
        let now = jiff::Timestamp::now().to_string();
        let condition = |kind: &str| {
            json!({"type": kind, "status": "True", "reason": kind, "message": "", "lastTransitionTime": now,
                "observedGeneration": generation})
        };
        let patch = json!({"status": {"parents": [{
            "parentRef": route["spec"]["parentRefs"][0],
            "controllerName": "tollgate.test/gateway",
            "conditions": [condition("Accepted"), condition("ResolvedRefs")],
        }]}});
        status
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .ok();
    }
}
