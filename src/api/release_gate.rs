//! ReleaseGate: the standing policy for one workload in one environment.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gate_status::GateStatus;
use super::policy::{Analysis, Deadlines, Policy, Step, default_steps};
use crate::routers;

/// What is asked of every new revision of one workload before it gets all the traffic.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "tollgate.dev",
    version = "v1alpha1",
    kind = "ReleaseGate",
    namespaced,
    status = "GateStatus",
    shortname = "rg",
    category = "all",
    category = "tollgate",
    derive = "PartialEq",
    doc = "The standing policy for the releases of one workload: a changed Deployment is held, gets traffic in steps, and is promoted, held or aborted on evidence.",
    printcolumn(name = "REVISION", type_ = "string", json_path = ".status.revision", description = "the revision on trial, or the trusted one"),
    printcolumn(name = "STEP", type_ = "string", json_path = ".status.step"),
    printcolumn(name = "WEIGHT", type_ = "integer", json_path = ".status.weight", description = "the canary's share in percent"),
    printcolumn(name = "DECISION", type_ = "string", json_path = ".status.decision"),
    printcolumn(name = "REASON", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "STABLE", type_ = "string", json_path = ".status.stable", priority = 1),
    printcolumn(name = "WORKLOAD", type_ = "string", json_path = ".spec.target.workload.name", priority = 1),
    printcolumn(name = "MESSAGE", type_ = "string", json_path = ".status.message", priority = 1),
    validation = Rule::new("self.metadata.name.size() <= 52").message("a gate's name has at most 52 characters, so that what is made for it can be named after it"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.steps.all(step, duration(has(step.minWindow) ? step.minWindow : self.analysis.minWindow) <= duration(has(step.maxWindow) ? step.maxWindow : self.analysis.maxWindow))")
    .message("a step's minWindow must not be longer than its maxWindow; what a step leaves out comes from analysis"))]
pub struct ReleaseGateSpec {
    /// The environment this gate stands for, as reports name it.
    #[serde(default = "production")]
    #[schemars(length(min = 1, max = 63))]
    pub environment: String,
    /// The kill switch: holds everything except an abort.
    #[serde(default)]
    pub suspend: bool,
    /// What is released.
    pub target: Target,
    /// Where its traffic is split.
    pub traffic: Traffic,
    /// The planned stops. Default: 1, 5, 25, 50, 100 %.
    #[serde(default = "default_steps")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = Rule::new("self.map(step, step.weight).isSorted() && self.all(a, self.exists_one(b, b.weight == a.weight))").message("the weights of the steps must rise"),
        validation = Rule::new("self.size() == 0 || self[self.size() - 1].weight == 100").message("the last step's weight must be 100"),
    )]
    pub steps: Vec<Step>,
    /// How canary and baseline are compared.
    #[serde(default)]
    pub analysis: Analysis,
    /// What happens when the evidence does not say.
    #[serde(default)]
    pub policy: Policy,
    /// How the canary is made.
    #[serde(default)]
    pub canary: Canary,
    /// How long Tollgate waits for others.
    #[serde(default)]
    pub deadlines: Deadlines,
    /// Reports each step of a release to GitHub deployments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github: Option<GitHub>,
}

fn production() -> String {
    "production".into()
}

/// What is released.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The workload whose pod template is judged.
    #[x_kube(validation = Rule::new("self.name == oldSelf.name").message("a gate keeps its workload: delete it and make another").reason(Reason::FieldValueForbidden))]
    pub workload: WorkloadRef,
    /// The Service that sends traffic to it, in the same namespace.
    #[schemars(length(min = 1, max = 56), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a gate keeps its service: delete it and make another").reason(Reason::FieldValueForbidden))]
    pub service: String,
}

/// A workload in the gate's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// Always apps/v1.
    #[serde(default = "apps_v1")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new("self == 'apps/v1'").message("the workload must be an apps/v1 Deployment"))]
    pub api_version: String,
    /// Always Deployment.
    #[serde(default = "deployment")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new("self == 'Deployment'").message("the workload must be an apps/v1 Deployment"))]
    pub kind: String,
    /// Its name; with `-canary` appended it names the canary, so at most 56 characters.
    #[schemars(length(min = 1, max = 56), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

fn apps_v1() -> String {
    "apps/v1".into()
}

fn deployment() -> String {
    "Deployment".into()
}

/// Where traffic is split. Exactly one.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Traffic {
    /// By the weights of Gateway API routes.
    #[serde(rename = "gatewayAPI")]
    GatewayApi(GatewayApi),
}

/// Routes of the Gateway API, in the gate's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GatewayApi {
    /// Every route that sends traffic to the service. In each of them the rules that name the
    /// service carry the pair during a release; everything else in them stays untouched.
    #[schemars(length(min = 1, max = 16))]
    pub routes: Vec<RouteRef>,
}

/// One route.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RouteRef {
    /// HTTPRoute or GRPCRoute. Default: HTTPRoute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<RouteKind>,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

impl ReleaseGateSpec {
    /// The routes as the routers know them, in the gate's order.
    #[must_use]
    pub fn routes(&self) -> Vec<routers::RouteRef> {
        let Traffic::GatewayApi(gateway) = &self.traffic;
        let route = |route: &RouteRef| routers::RouteRef {
            kind: match route.kind.unwrap_or_default() {
                RouteKind::HTTPRoute => routers::RouteKind::Http,
                RouteKind::GRPCRoute => routers::RouteKind::Grpc,
            },
            name: route.name.clone(),
        };
        gateway.routes.iter().map(route).collect()
    }
}

/// A kind of route.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteKind {
    /// HTTP requests.
    #[default]
    HTTPRoute,
    /// gRPC calls.
    GRPCRoute,
}

/// How the canary is made.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Canary {
    /// Labels of the canary's pods. Suffixed: those that the Service selects by get `-canary`
    /// appended, so that only the route sends traffic to the canary. Shared: the template's labels
    /// as they are; then the Service sends in-cluster traffic to the canary too.
    pub labels: CanaryLabels,
}

/// Labels of the canary's pods.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CanaryLabels {
    /// Those that the Service selects by get `-canary` appended.
    #[default]
    Suffixed,
    /// The template's labels as they are.
    Shared,
}

/// Where releases are reported on GitHub.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GitHub {
    /// Owner and name, like octo-org/checkout.
    #[schemars(
        length(min = 3, max = 140),
        regex(pattern = "^[A-Za-z0-9][-A-Za-z0-9]*/[-._A-Za-z0-9]+$")
    )]
    pub repository: String,
    /// The environment on GitHub. Default: spec.environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub environment: Option<String>,
    /// The annotation or label of the Deployment that holds the commit's SHA, read when a release
    /// begins: write it together with the template. Default: tollgate.dev/commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub commit_from: Option<String>,
}
