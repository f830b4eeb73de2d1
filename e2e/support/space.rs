//! A namespace for one scenario, with everything a scenario does in it.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::FutureExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use serde_json::{Value, json};

use super::objects::{self, resource, resource_version};
use super::world::World;
use super::{PATIENCE, directory, eventually, setting};

/// Who writes the team's objects.
pub const TEAM: &str = "team";

/// One scenario's namespace.
pub struct Space {
    pub name: String,
    pub client: Client,
    /// Where logs of this scenario go.
    pub logs: PathBuf,
    /// Kubelet, gateway and traffic, where they are played.
    pub world: Option<World>,
    pub(super) operators: Mutex<Vec<PathBuf>>,
}

/// Tells a scenario in a namespace of its own, with kubelet, gateway and traffic played.
pub async fn played(name: &str, body: impl AsyncFnOnce(&Space)) {
    let mut space = Space::new(own(name)).await;
    space.world = Some(World::start(&space).await);
    space.tell(body).await;
}

/// Tells a scenario in a namespace of its own, on a cluster that has everything.
pub async fn real(name: &str, body: impl AsyncFnOnce(&Space)) {
    Space::new(own(name)).await.tell(body).await;
}

/// The same in the very namespace that a page names, which no other scenario may use.
pub async fn real_in(name: &str, body: impl AsyncFnOnce(&Space)) {
    Space::new(name.to_owned()).await.tell(body).await;
}

/// A name that no other run has.
fn own(name: &str) -> String {
    format!("{name}-{}", std::process::id() % 10_000)
}

impl Space {
    async fn new(name: String) -> Self {
        let client = Client::try_default()
            .await
            .expect("a cluster: these tests are started by e2e/run");
        let logs = directory("TOLLGATE_E2E_LOGS").join(&name);
        std::fs::create_dir_all(&logs).unwrap();
        let space = Self {
            name,
            client,
            logs,
            world: None,
            operators: Mutex::default(),
        };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space.name}});
        let made: DynamicObject = serde_json::from_value(namespace).unwrap();
        let api = Api::<DynamicObject>::all_with(space.client.clone(), &resource("Namespace"));
        api.create(&PostParams::default(), &made).await.unwrap();
        space
    }

    async fn tell(self, body: impl AsyncFnOnce(&Self)) {
        let told = AssertUnwindSafe(body(&self)).catch_unwind().await;
        if told.is_err() {
            self.report().await;
        }
        self.clear().await;
        if let Err(failure) = told {
            std::panic::resume_unwind(failure);
        }
    }

    /// What helps to understand a failure.
    async fn report(&self) {
        for kind in ["ReleaseGate", "HTTPRoute", "Deployment", "GateAction", "CanaryAnalysis"] {
            for object in self.list(kind).await {
                let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let path = self.logs.join(format!("{kind}-{name}.json"));
                std::fs::write(path, format!("{object:#}")).unwrap();
                if kind == "ReleaseGate" {
                    println!("{} {name}: {:#}", kind, object["status"]);
                }
            }
        }
        for log in self.operators.lock().unwrap().iter() {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            println!("{}, its end:", log.display());
            for line in lines.iter().skip(lines.len().saturating_sub(25)) {
                println!("  {line}");
            }
        }
    }

    /// Removes everything; finalizers too, as the operator that would take them off may be gone.
    async fn clear(&self) {
        for object in self.list("ReleaseGate").await {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            self.patch("ReleaseGate", name, json!({"metadata": {"finalizers": null}}))
                .await
                .ok();
        }
        let all = |kind| Api::<DynamicObject>::all_with(self.client.clone(), &resource(kind));
        all("EvidenceSource")
            .delete(&self.name, &DeleteParams::default())
            .await
            .ok();
        all("Namespace")
            .delete(&self.name, &DeleteParams::background())
            .await
            .ok();
    }

    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        match kind {
            "EvidenceSource" | "Namespace" | "MutatingWebhookConfiguration" => {
                Api::all_with(self.client.clone(), &resource(kind))
            }
            kind => Api::namespaced_with(self.client.clone(), &self.name, &resource(kind)),
        }
    }

    /// What is played; only in `core`.
    pub fn world(&self) -> &World {
        self.world.as_ref().expect("a played world")
    }

    /// Every weight of the canary that the route has had so far; `None` while it is as the team wrote it.
    /// The played gateway learns of a write a moment after others do, so that is waited for.
    pub async fn weights(&self) -> Vec<Option<i64>> {
        let version = resource_version(&self.the("HTTPRoute", "checkout").await);
        eventually("the gateway follows", PATIENCE, async || {
            let behind = || format!("it has not seen version {version} of the route");
            self.world().weights(version).ok_or_else(behind)
        })
        .await
    }

    /// Forgets the weights so far, except the last.
    pub async fn forget_weights(&self) {
        self.weights().await;
        self.world().forget_weights();
    }

    pub async fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let found = self.api(kind).get_opt(name).await;
        let found = found.unwrap_or_else(|error| panic!("reading {kind} {name}: {error}"));
        found.map(|object| serde_json::to_value(object).unwrap())
    }

    /// The object, which has to be there.
    pub async fn the(&self, kind: &str, name: &str) -> Value {
        self.get(kind, name)
            .await
            .unwrap_or_else(|| panic!("there is no {kind} {name}"))
    }

    /// The newest decision in the record of the release that a gate's status names.
    pub async fn last_decision(&self, status: &Value) -> Value {
        let name = status["analysis"]["name"].as_str().expect("a record");
        let analysis = self.the("CanaryAnalysis", name).await;
        let decisions = analysis["status"]["decisions"].as_array();
        decisions.and_then(|all| all.last()).expect("a decision").clone()
    }

    pub async fn list(&self, kind: &str) -> Vec<Value> {
        let found = self.api(kind).list(&ListParams::default()).await;
        let items = found.map(|list| list.items).unwrap_or_default();
        items
            .into_iter()
            .map(|object| serde_json::to_value(object).unwrap())
            .collect()
    }

    /// Creates an object as this field manager.
    pub async fn create(&self, object: &Value) -> Result<Value, Error> {
        let kind = object["kind"].as_str().unwrap();
        let typed: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        let made = self.api(kind).create(&PostParams::default(), &typed).await?;
        Ok(serde_json::to_value(made).unwrap())
    }

    /// Server-side apply as the team.
    pub async fn apply(&self, object: &Value) -> Value {
        self.try_apply(object, TEAM, false)
            .await
            .unwrap_or_else(|error| panic!("applying {object}: {error}"))
    }

    /// Server-side apply.
    pub async fn try_apply(&self, object: &Value, manager: &str, force: bool) -> Result<Value, Error> {
        let kind = object["kind"].as_str().unwrap();
        let name = object["metadata"]["name"].as_str().unwrap();
        let mut params = PatchParams::apply(manager);
        params.force = force;
        let made = self.api(kind).patch(name, &params, &Patch::Apply(object)).await?;
        Ok(serde_json::to_value(made).unwrap())
    }

    /// A merge patch, as somebody in a hurry.
    pub async fn patch(&self, kind: &str, name: &str, patch: Value) -> Result<Value, Error> {
        let params = PatchParams {
            field_manager: Some("hurry".into()),
            ..PatchParams::default()
        };
        let made = self.api(kind).patch(name, &params, &Patch::Merge(patch)).await?;
        Ok(serde_json::to_value(made).unwrap())
    }

    pub async fn delete(&self, kind: &str, name: &str) {
        self.api(kind).delete(name, &DeleteParams::background()).await.unwrap();
    }

    /// Waits until an object is as it should be.
    pub async fn until(&self, what: &str, kind: &str, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        eventually(what, PATIENCE, async || match self.get(kind, name).await {
            Some(object) if is(&object) => Ok(object),
            Some(object) if kind == "ReleaseGate" => Err(format!("{}", object["status"])),
            Some(object) => Err(format!("{object}")),
            None => Err(format!("there is no {kind} {name}")),
        })
        .await
    }

    /// Waits until the gate's status is as it should be.
    pub async fn until_gate(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let gate = self
            .until(what, "ReleaseGate", "checkout", |gate| is(&gate["status"]))
            .await;
        gate["status"].clone()
    }

    /// The host of the team's route.
    pub fn host(&self) -> String {
        format!("checkout.{}.test", self.name)
    }

    /// The team's route as git has it.
    pub fn route(&self) -> Value {
        objects::route("checkout", &self.host())
    }

    /// The gate of most scenarios.
    pub fn gate(&self) -> Value {
        objects::gate(&self.name)
    }

    /// The team's objects and where evidence comes from, all of it running; no gate yet.
    pub async fn team(&self, replicas: u32) {
        self.apply(&objects::source(&self.name, &setting("TOLLGATE_E2E_PROMETHEUS")))
            .await;
        self.serving(replicas).await;
    }

    /// The team's objects as they are on a cluster without Tollgate, all of it running.
    pub async fn serving(&self, replicas: u32) {
        self.apply(&objects::service()).await;
        self.apply(&self.route()).await;
        self.apply(&objects::deployment("v1", replicas)).await;
        self.until_rolled_out("v1").await;
    }

    /// A gate, waited for until it trusts what runs.
    pub async fn adopted(&self, gate: &Value) -> Value {
        self.apply(gate).await;
        self.until_gate("the gate adopts the Deployment", |status| status["stable"].is_string())
            .await
    }

    /// Waits until every pod of the Deployment runs this image.
    pub async fn until_rolled_out(&self, tag: &str) {
        let what = format!("{tag} is rolled out");
        self.until(&what, "Deployment", "checkout", |live| {
            let (spec, status) = (&live["spec"], &live["status"]);
            let all = |field: &str| status[field] == spec["replicas"];
            spec["template"]["spec"]["containers"][0]["image"] == objects::image(tag).as_str()
                && spec["paused"] != true
                && status["observedGeneration"] == live["metadata"]["generation"]
                && ["replicas", "updatedReplicas", "availableReplicas"]
                    .into_iter()
                    .all(all)
        })
        .await;
    }

    /// Somebody changes the image.
    pub async fn push(&self, tag: &str) -> Value {
        let template = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "checkout", "image": objects::image(tag)}
        ]}}}});
        let params = PatchParams {
            field_manager: Some("pipeline".into()),
            ..PatchParams::default()
        };
        let made = self
            .api("Deployment")
            .patch("checkout", &params, &Patch::Strategic(template))
            .await;
        serde_json::to_value(made.expect("a push")).unwrap()
    }

    /// Somebody asks for something, and it is answered.
    pub async fn ask(&self, verb: &str) -> Value {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", verb.to_lowercase(), ASKED.fetch_add(1, Ordering::Relaxed));
        self.answer(&objects::action(&name, verb, "the test wants it")).await
    }

    /// Creates a request and waits for its answer.
    pub async fn answer(&self, action: &Value) -> Value {
        let name = self.create(action).await.unwrap()["metadata"]["name"].clone();
        let name = name.as_str().unwrap().to_owned();
        self.until("the request is answered", "GateAction", &name, |action| {
            action["status"]["answer"].is_string()
        })
        .await
    }

    /// Images of the pods that the Deployment's own ReplicaSets ask for.
    pub async fn asked_for(&self) -> Vec<String> {
        let sets =
            self.list("ReplicaSet").await.into_iter().filter(|set| {
                set["metadata"]["ownerReferences"][0]["name"] == "checkout" && set["spec"]["replicas"] != 0
            });
        let image = |set: Value| {
            set["spec"]["template"]["spec"]["containers"][0]["image"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        sets.map(image).collect()
    }
}
