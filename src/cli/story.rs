//! Where a gate is, as one value: what `status -o json` prints and what the tree is drawn from.

use serde::Serialize;
use serde_json::Value;

use super::next::{Next, next};
use super::snapshot::{View, text};
use crate::api::{CanaryAnalysis, ConditionStatus, GateStatus, ReleaseGate, StageWord, labels};
use crate::controller::canary::deployment_name;
use crate::controller::revision;
use crate::decision::{Millis, Outcome, Reason, Split, Verb};
use crate::routers;

/// Which gate, what was said of it last, and what it waits for. What is not known is absent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// Namespace.
    pub namespace: String,
    /// Name of the gate.
    pub gate: String,
    /// The last decision: Promote, Hold or Abort.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Outcome>,
    /// Why, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, with names and numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What it waits for; absent at rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
}

impl Head {
    /// What a gate and the record of its last attempt say.
    #[must_use]
    pub fn of(gate: &ReleaseGate, analysis: Option<&CanaryAnalysis>, now: Millis) -> Self {
        let status = gate.status.clone().unwrap_or_default();
        Self {
            namespace: gate.metadata.namespace.clone().unwrap_or_default(),
            gate: gate.metadata.name.clone().unwrap_or_default(),
            decision: status.decision,
            reason: status.reason,
            message: status.message,
            next: next(gate, analysis, now),
        }
    }
}

/// One gate. Field names are stable; what is not known is absent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    /// Which gate, and what was said of it last.
    #[serde(flatten)]
    pub head: Head,
    /// The canary's share in percent, as the operator last read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<i64>,
    /// Whether the gate's kill switch is on.
    pub suspended: bool,
    /// The release in flight, or the refused one that is still in the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// A hold that needs a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// The trusted revision.
    pub stable: Arm,
    /// The revision on trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Arm>,
    /// The gate's routes, in its order.
    pub routes: Vec<Route>,
    /// What was asked and not answered, oldest first.
    pub pending: Vec<Pending>,
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// The revision on trial.
    pub revision: String,
    /// The attempt's number.
    pub epoch: i64,
    /// Preparing, Stepping, `HandingOver`, Restoring, Aborting or Rejected.
    pub stage: String,
    /// Since when it is there.
    pub since: String,
    /// The step, from 1, while stepping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<i64>,
    /// Planned steps.
    pub steps: usize,
    /// Why it was aborted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A hold that does not end by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Why, in one word.
    pub reason: String,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// One side of the comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Arm {
    /// Its revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Its Deployment.
    pub workload: String,
    /// Its Service.
    pub service: String,
    /// Images of its containers, where they are known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// Its pods; absent when they cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<Pods>,
    /// What keeps pods from being ready, like `CrashLoopBackOff`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
}

/// Pods of a Deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pods {
    /// Ready.
    pub ready: i64,
    /// Asked for.
    pub desired: i64,
}

/// A route of the gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// `HTTPRoute` or `GRPCRoute`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `AtRest` (the canary is not named), Split, Uneven (rules disagree), Missing (no such route, or
    /// no rule names the service) or Unread.
    pub state: String,
    /// Whether its gateways report that they have taken up what it says; absent when unread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programmed: Option<bool>,
    /// Rules that name the service or its canary.
    pub rules: Vec<Rule>,
}

/// A rule of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Its place in the route, from 0.
    pub index: usize,
    /// Every backend with its weight.
    pub backends: Vec<Backend>,
}

/// A backend of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// Name of the Service.
    pub service: String,
    /// Its weight as it is written; an absent one counts 1.
    pub weight: i64,
    /// Its share of the rule's requests in hundredths of a percent.
    pub basis_points: i64,
}

/// What somebody asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// The `GateAction`.
    pub name: String,
    /// What was asked.
    pub verb: Verb,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The story of one gate.
#[must_use]
pub fn story(view: &View, now: Millis) -> Story {
    match &view.gate {
        Ok(gate) => understood(view, gate, now),
        Err(error) => unreadable(view, error),
    }
}

/// A gate whose object this program cannot read: it says so and nothing else.
fn unreadable(view: &View, error: &str) -> Story {
    Story {
        head: Head {
            namespace: view.namespace.clone(),
            gate: view.name.clone(),
            decision: None,
            reason: Some(Reason::Invalid.word().to_owned()),
            message: Some(format!("the gate cannot be understood: {error}")),
            next: None,
        },
        weight: None,
        suspended: false,
        release: None,
        hold: None,
        stable: Arm {
            revision: None,
            workload: String::new(),
            service: String::new(),
            images: Vec::new(),
            pods: None,
            troubles: Vec::new(),
        },
        canary: None,
        routes: Vec::new(),
        pending: Vec::new(),
    }
}

fn understood(view: &View, gate: &ReleaseGate, now: Millis) -> Story {
    let status = gate.status.clone().unwrap_or_default();
    let steps = match &view.analysis {
        Some(analysis) => analysis.spec.steps.len(),
        None => gate.spec.steps.len(),
    };
    let release = status.attempt.as_ref().map(|attempt| Release {
        revision: attempt.revision.clone(),
        epoch: attempt.epoch,
        stage: stage(attempt.stage).to_owned(),
        since: attempt.since.clone(),
        step: attempt.at_step.map(|step| step.saturating_add(1)),
        steps,
        why: attempt.why.clone(),
    });
    let head = Head::of(gate, view.analysis.as_ref(), now);
    Story {
        weight: status.weight,
        suspended: gate.spec.suspend,
        hold: hold(&status, head.next.as_ref()),
        stable: stable(view, gate, &status),
        canary: canary(view, gate, release.as_ref()),
        routes: view
            .routes
            .iter()
            .map(|(at, route)| self::route(view, at, route.as_ref()))
            .collect(),
        pending: view.pending.iter().map(pending).collect(),
        release,
        head,
    }
}

/// The word of a stage.
#[must_use]
pub const fn stage(stage: StageWord) -> &'static str {
    match stage {
        StageWord::Preparing => "Preparing",
        StageWord::Stepping => "Stepping",
        StageWord::HandingOver => "HandingOver",
        StageWord::Restoring => "Restoring",
        StageWord::Aborting => "Aborting",
        StageWord::Rejected => "Rejected",
    }
}

/// A hold that the machine remembers, or one that only a person can end.
fn hold(status: &GateStatus, next: Option<&Next>) -> Option<Hold> {
    let attempt = status.attempt.as_ref()?;
    if let Some(reason) = &attempt.hold {
        return Some(Hold {
            reason: reason.clone(),
            since: attempt.hold_since.clone(),
        });
    }
    if attempt.stage == StageWord::Rejected || !next?.needs_person {
        return None;
    }
    let held = |type_: &str| {
        status
            .conditions
            .iter()
            .find(|condition| condition.type_ == type_ && condition.status == ConditionStatus::True)
    };
    Some(Hold {
        reason: status.reason.clone()?,
        since: held("Held").map(|condition| condition.last_transition_time.0.to_string()),
    })
}

fn stable(view: &View, gate: &ReleaseGate, status: &GateStatus) -> Arm {
    let held = view.stable.as_ref().is_some_and(is_held);
    Arm {
        revision: status.stable.clone(),
        workload: gate.spec.target.workload.name.clone(),
        service: gate.spec.target.service.clone(),
        // a held template is the canary's already
        images: view.stable.as_ref().filter(|_| !held).map(images).unwrap_or_default(),
        pods: view.stable.as_ref().map(pods),
        troubles: Vec::new(),
    }
}

fn canary(view: &View, gate: &ReleaseGate, release: Option<&Release>) -> Option<Arm> {
    let release = release.filter(|release| release.stage != "Rejected" || view.canary.is_some())?;
    let target = &gate.spec.target;
    Some(Arm {
        revision: Some(release.revision.clone()),
        workload: deployment_name(&target.workload.name),
        service: routers::canary_service(&target.service),
        images: view.canary.as_ref().map(images).unwrap_or_default(),
        pods: view.canary.as_ref().map(pods),
        troubles: troubles(&view.pods),
    })
}

/// Whether a Deployment's template is held, by admission or by a pause at rest.
#[must_use]
pub fn is_held(workload: &Value) -> bool {
    let label = |key: &str| workload.pointer("/metadata/labels")?.get(key)?.as_str();
    let changed = |runs| {
        let template = workload.pointer("/spec/template");
        template.is_some_and(|template| revision::revision(template).0 != runs)
    };
    let held = label(labels::HELD).is_some() || label(labels::PAUSED).is_some_and(changed);
    held && workload.pointer("/spec/paused").and_then(Value::as_bool) == Some(true)
}

fn pods(workload: &Value) -> Pods {
    let number = |pointer: &str| workload.pointer(pointer).and_then(Value::as_i64);
    Pods {
        ready: number("/status/readyReplicas").unwrap_or(0),
        desired: number("/spec/replicas").unwrap_or(1),
    }
}

fn images(workload: &Value) -> Vec<String> {
    list(workload, "/spec/template/spec/containers")
        .map(|container| text(container, "/image").to_owned())
        .filter(|image| !image.is_empty())
        .collect()
}

/// What keeps pods from being ready, each said once.
fn troubles(pods: &[Value]) -> Vec<String> {
    let waiting = pods
        .iter()
        .flat_map(|pod| list(pod, "/status/containerStatuses"))
        .map(|container| text(container, "/state/waiting/reason"))
        .filter(|reason| !matches!(*reason, "" | "ContainerCreating" | "PodInitializing"));
    let unplaced = pods
        .iter()
        .flat_map(|pod| list(pod, "/status/conditions"))
        .filter(|condition| text(condition, "/type") == "PodScheduled" && text(condition, "/status") == "False")
        .map(|condition| text(condition, "/reason"));
    let mut found: Vec<String> = waiting.chain(unplaced).map(str::to_owned).collect();
    found.sort();
    found.dedup();
    found
}

fn list<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn route(view: &View, at: &routers::RouteRef, route: Option<&Value>) -> Route {
    let facts = view.pair().map(|pair| routers::facts(route, &pair));
    let state = match (route, facts.as_ref().map(|facts| facts.split)) {
        (None, _) | (_, None) => "Unread",
        (_, Some(Split::AtRest)) => "AtRest",
        (_, Some(Split::At(_))) => "Split",
        (_, Some(Split::Uneven(_))) => "Uneven",
        (_, Some(Split::Missing)) => "Missing",
    };
    let rules = match (route, view.pair()) {
        (Some(route), Some(pair)) => rules(route, &pair),
        _ => Vec::new(),
    };
    Route {
        kind: at.kind.word().to_owned(),
        name: at.name.clone(),
        state: state.to_owned(),
        programmed: route.and(facts).map(|facts| facts.programmed),
        rules,
    }
}

fn rules(route: &Value, pair: &routers::Pair) -> Vec<Rule> {
    list(route, "/spec/rules")
        .enumerate()
        .map(|(index, rule)| Rule {
            index,
            backends: backends(rule),
        })
        .filter(|rule| {
            let ours = |backend: &Backend| backend.service == pair.service || backend.service == pair.canary;
            rule.backends.iter().any(ours)
        })
        .collect()
}

fn backends(rule: &Value) -> Vec<Backend> {
    let weight = |backend: &Value| backend.get("weight").and_then(Value::as_i64).unwrap_or(1);
    let total: i64 = list(rule, "/backendRefs").map(weight).fold(0, i64::saturating_add);
    list(rule, "/backendRefs")
        .map(|backend| Backend {
            service: text(backend, "/name").to_owned(),
            weight: weight(backend),
            basis_points: weight(backend).saturating_mul(10_000).checked_div(total).unwrap_or(0),
        })
        .collect()
}

fn pending(action: &crate::api::GateAction) -> Pending {
    Pending {
        name: action.metadata.name.clone().unwrap_or_default(),
        verb: action.spec.verb,
        signer: action.spec.signer.clone(),
        asked_at: action
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0.to_string()),
        reason: action.spec.reason.clone(),
    }
}
