//! What is read from the cluster for people to look at: objects as they are, one view per gate.
//!
//! Only the gates must be readable. What else cannot be read is noted and left out, so that half
//! a picture is shown rather than none.

use std::collections::BTreeMap;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::cluster::{CALL, Cluster, Question, Trouble};
use crate::api::{CanaryAnalysis, GateAction, ReleaseGate, labels};
use crate::controller::canary::deployment_name;
use crate::routers::{Pair, RouteKind, RouteRef};

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `ReleaseGates`.
    Gate,
    /// `CanaryAnalyses`.
    Analysis,
    /// `GateActions`.
    Action,
    /// Adopted Deployments and their canaries.
    Workload,
    /// The canaries' pods.
    Pod,
    /// `HTTPRoutes`.
    HttpRoute,
    /// `GRPCRoutes`.
    GrpcRoute,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Gate,
        Self::Analysis,
        Self::Action,
        Self::Workload,
        Self::Pod,
        Self::HttpRoute,
        Self::GrpcRoute,
    ];

    /// The kind as the API server knows it.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        let route = |kind: RouteKind| {
            let known = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", kind.word());
            ApiResource::from_gvk_with_plural(&known, kind.plural())
        };
        match self {
            Self::Gate => ApiResource::erase::<ReleaseGate>(&()),
            Self::Analysis => ApiResource::erase::<CanaryAnalysis>(&()),
            Self::Action => ApiResource::erase::<GateAction>(&()),
            Self::Workload => ApiResource::erase::<k8s_openapi::api::apps::v1::Deployment>(&()),
            Self::Pod => ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&()),
            Self::HttpRoute => route(RouteKind::Http),
            Self::GrpcRoute => route(RouteKind::Grpc),
        }
    }

    /// Which of them are meant, by their labels.
    #[must_use]
    pub fn selector(self) -> Option<String> {
        match self {
            Self::Workload => Some(labels::GATE.to_owned()),
            Self::Pod => Some(format!("{},{}={}", labels::GATE, labels::ROLE, labels::ROLE_CANARY)),
            _ => None,
        }
    }
}

/// Where is looked.
#[derive(Debug, Clone)]
pub struct Scope {
    /// One namespace, or all.
    pub namespace: Option<String>,
}

impl Scope {
    /// The objects of a kind in this scope.
    #[must_use]
    pub fn api(&self, cluster: &Cluster, kind: Kind) -> Api<DynamicObject> {
        let resource = kind.resource();
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, &resource),
            None => Api::all_with(cluster.client.clone(), &resource),
        }
    }
}

/// The objects of one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    objects: BTreeMap<Kind, Vec<Value>>,
    /// What could not be read, one sentence each.
    pub notes: Vec<String>,
}

/// One gate with everything that belongs to it.
#[derive(Debug, Clone)]
pub struct View {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The gate, or why it cannot be understood.
    pub gate: Result<ReleaseGate, String>,
    /// The record of the last attempt.
    pub analysis: Option<CanaryAnalysis>,
    /// What was asked of it and not answered, oldest first.
    pub pending: Vec<GateAction>,
    /// The user's Deployment, if it is adopted and can be read.
    pub stable: Option<Value>,
    /// The canary's.
    pub canary: Option<Value>,
    /// The canary's pods.
    pub pods: Vec<Value>,
    /// The gate's routes, in its order; nothing for one that is not there or cannot be read.
    pub routes: Vec<(RouteRef, Option<Value>)>,
}

impl Snapshot {
    /// Reads everything once.
    ///
    /// # Errors
    /// When the gates cannot be read.
    pub async fn read(cluster: &Cluster, scope: &Scope) -> Result<Self, Trouble> {
        let reading = futures::future::join_all(Kind::ALL.map(|kind| list(cluster, scope, kind)));
        let answers = cluster.patiently(reading).await;
        let mut snapshot = Self::default();
        for (kind, answer) in Kind::ALL.into_iter().zip(answers) {
            match answer {
                Ok(objects) => snapshot.insert(kind, &objects),
                Err(error) if kind == Kind::Gate => return Err(error),
                Err(error) => snapshot.missing(kind, &error),
            }
        }
        Ok(snapshot)
    }

    /// Takes over the objects of a kind.
    pub fn insert(&mut self, kind: Kind, objects: &[DynamicObject]) {
        let values = objects.iter().filter_map(|object| serde_json::to_value(object).ok());
        self.objects.insert(kind, values.collect());
    }

    /// Notes that a kind cannot be read. A kind that the cluster does not know has no objects.
    pub fn missing(&mut self, kind: Kind, error: &Trouble) {
        if !matches!(error, Trouble::NotInstalled) {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            self.notes
                .push(format!("{} are not shown: {first}", kind.resource().plural));
        }
    }

    /// Every gate, ordered by namespace and name.
    #[must_use]
    pub fn views(&self) -> Vec<View> {
        let mut views: Vec<View> = self.of(Kind::Gate).map(|gate| self.view(gate)).collect();
        views.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        views
    }

    /// One gate.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<View> {
        let gate = self.of(Kind::Gate).find(|gate| text(gate, "/metadata/name") == name)?;
        Some(self.view(gate))
    }

    /// Names of all gates.
    #[must_use]
    pub fn gates(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .of(Kind::Gate)
            .map(|gate| text(gate, "/metadata/name").to_owned())
            .collect();
        names.sort();
        names
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.objects.get(&kind).into_iter().flatten()
    }

    fn named(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Value> {
        let is = |object: &&Value| text(object, "/metadata/name") == name && in_namespace(object, namespace);
        self.of(kind).find(is)
    }

    fn view(&self, object: &Value) -> View {
        let namespace = text(object, "/metadata/namespace").to_owned();
        let name = text(object, "/metadata/name").to_owned();
        let mut view = View {
            gate: serde_json::from_value(object.clone()).map_err(|error| error.to_string()),
            analysis: None,
            pending: self.pending(&namespace, &name),
            stable: None,
            canary: None,
            pods: Vec::new(),
            routes: Vec::new(),
            namespace,
            name,
        };
        let Ok(gate) = &view.gate else {
            return view;
        };
        let target = &gate.spec.target;
        let canary = deployment_name(&target.workload.name);
        let workload = |name: &str| self.named(Kind::Workload, &view.namespace, name).cloned();
        view.stable = workload(&target.workload.name);
        view.canary = workload(&canary);
        let ours = |pod: &&Value| {
            in_namespace(pod, &view.namespace)
                && pod.pointer("/metadata/labels").and_then(|all| all.get(labels::GATE))
                    == Some(&view.name.clone().into())
        };
        view.pods = self.of(Kind::Pod).filter(ours).cloned().collect();
        view.routes = gate
            .spec
            .routes()
            .into_iter()
            .map(|at| self.route(&view.namespace, at))
            .collect();
        view.analysis = gate
            .status
            .as_ref()
            .and_then(|status| status.analysis.as_ref())
            .and_then(|analysis| self.named(Kind::Analysis, &view.namespace, &analysis.name))
            .and_then(parsed);
        view
    }

    fn route(&self, namespace: &str, at: RouteRef) -> (RouteRef, Option<Value>) {
        let kind = match at.kind {
            RouteKind::Http => Kind::HttpRoute,
            RouteKind::Grpc => Kind::GrpcRoute,
        };
        let route = self.named(kind, namespace, &at.name).cloned();
        (at, route)
    }

    fn pending(&self, namespace: &str, gate: &str) -> Vec<GateAction> {
        let mut actions: Vec<GateAction> = self
            .of(Kind::Action)
            .filter(|action| in_namespace(action, namespace))
            .filter_map(parsed::<GateAction>)
            .filter(|action| action.spec.gate == gate)
            .filter(|action| action.status.as_ref().is_none_or(|status| status.answer.is_none()))
            .collect();
        actions.sort_by_key(|action| (action.creation_timestamp(), action.name_any()));
        actions
    }
}

impl View {
    /// The pair whose traffic is split.
    #[must_use]
    pub fn pair(&self) -> Option<Pair> {
        let gate = self.gate.as_ref().ok()?;
        Some(Pair::new(&self.name, &self.namespace, &gate.spec.target.service))
    }
}

/// The text at a place of an object; empty when there is none.
#[must_use]
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn in_namespace(object: &Value, namespace: &str) -> bool {
    text(object, "/metadata/namespace") == namespace
}

fn parsed<K: DeserializeOwned>(object: &Value) -> Option<K> {
    serde_json::from_value(object.clone()).ok()
}

async fn list(cluster: &Cluster, scope: &Scope, kind: Kind) -> Result<Vec<DynamicObject>, Trouble> {
    let resource = kind.resource();
    let question = Question {
        verb: "list",
        resource: &resource.plural,
        namespace: scope.namespace.as_deref().unwrap_or_default(),
    };
    let params = kind
        .selector()
        .map_or_else(ListParams::default, |selector| ListParams::default().labels(&selector));
    let api = scope.api(cluster, kind);
    Ok(cluster.bounded(CALL, question, api.list(&params)).await?.items)
}
