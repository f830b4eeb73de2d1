//! Performs effects, one at a time. Each may be repeated: it looks first whether it is done.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::{ReleaseGate, labels};
use crate::decision::{Attempt, Decision, Effect, Mark, SafeTarget};
use crate::routers::gateway_api::Written;
use crate::routers::{self, RouteRef};

use super::answers;
use super::canary;
use super::context::{Context, Error, bounded};
use super::crash::Write;
use super::frozen;
use super::gather::{Subject, needed, route_key};
use super::guard;
use super::objects;
use super::rest;
use super::watch::Workload;
use super::workload;

/// Performs one effect.
///
/// # Errors
/// When it could not be done; nothing that follows it may be done then.
pub async fn perform(
    context: &Context,
    subject: &Subject<'_>,
    facts: &crate::decision::Facts,
    decision: &Decision,
    effect: &Effect,
) -> Result<(), Error> {
    match effect {
        Effect::Adopt => adopt(context, subject).await,
        Effect::Freeze => freeze(context, subject, decision).await,
        Effect::GuardStable => guard::guard(context, subject, attempt(decision)?).await,
        Effect::ScaleCanary { step } => scale(context, subject, decision, *step).await,
        Effect::Write(mark) => write(context, subject, facts, mark).await,
        Effect::Release => release(context, subject, decision).await,
        Effect::Restore => restore(context, subject, decision).await,
        Effect::Remove => remove(context, subject).await,
        Effect::Disown => disown(context, subject).await,
        Effect::Answer { name, granted, reason } => answers::answer(context, subject, name, (*granted, *reason)).await,
    }
}

/// Whether a mark takes back a commit point that is on a route.
fn takes_back(facts: &crate::decision::Facts, mark: &Mark) -> bool {
    let committed = |live: &Mark| live.epoch == mark.epoch && live.safe == SafeTarget::Canary;
    mark.takes_back()
        && facts
            .routes
            .iter()
            .any(|route| route.mark.as_ref().is_some_and(committed))
}

/// Puts the finalizer on the gate, and our label on the Deployment with the pause where that is the
/// hold, on the very version that was read: a template that changed meanwhile is not adopted unseen.
/// What a gate before left as a note goes: from here on this gate speaks for the template.
async fn adopt(context: &Context, subject: &Subject<'_>) -> Result<(), Error> {
    if !has_finalizer(subject.gate) {
        let mut finalizers = subject.gate.finalizers().to_vec();
        finalizers.push(labels::FINALIZER.to_owned());
        let patch = json!({"metadata": {"resourceVersion": subject.gate.resource_version(), "finalizers": finalizers}});
        let api = objects::writes::<ReleaseGate>(&context.client, &subject.key.namespace);
        let name = &subject.key.name;
        context
            .write(
                Write::Finalizer,
                api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)),
            )
            .await?;
    }
    let api = deployments(context, subject);
    let live: Workload = bounded("read Deployment", api.get(subject.workload())).await?;
    let ours = live.label(labels::GATE) == Some(subject.key.name.as_str());
    if let Some(other) = live.label(labels::GATE).filter(|_| !ours) {
        return Err(Error::Refused(format!(
            "Deployment {} belongs to gate {other:?}; a Deployment has one gate",
            subject.workload()
        )));
    }
    let mut patch = json!({"metadata": {
        "resourceVersion": live.metadata.resource_version,
        "labels": {labels::GATE: subject.key.name},
        "annotations": {labels::LEFT_PAUSED: null},
    }});
    let pauses = context.pauses && rest::pause(&live, subject.state.proven.as_ref(), &mut patch);
    if ours && !pauses {
        return Ok(());
    }
    let params = PatchParams {
        field_manager: Some(routers::FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    context
        .write(
            Write::Adopt,
            api.patch(subject.workload(), &params, &Patch::Merge(&patch)),
        )
        .await
        .map(drop)
}

async fn freeze(context: &Context, subject: &Subject<'_>, decision: &Decision) -> Result<(), Error> {
    let attempt = attempt(decision)?;
    let pods = super::gatekeeper::stable_pods(context, subject.gate, &subject.key);
    let frozen = frozen::freeze(context, subject.gate, attempt, pods).await?;
    let uid = subject.gate.uid().unwrap_or_default();
    context.memory.update(&subject.key, &uid, |known| {
        known.frozen = Some(Arc::new(frozen));
        known.preflight = None;
        known.records.clear();
    });
    Ok(())
}

/// Makes or scales the canary for a step.
async fn scale(context: &Context, subject: &Subject<'_>, decision: &Decision, step: usize) -> Result<(), Error> {
    let attempt = attempt(decision)?;
    let stable = context.workload(&subject.key.namespace, subject.workload());
    let pods = needed(subject, stable.as_deref(), step);
    workload::ensure(context, subject, attempt, pods).await
}

/// Writes a mark and its weight on every route that does not carry them yet, each by a
/// compare-and-swap on the version that the decision was made on.
async fn write(
    context: &Context,
    subject: &Subject<'_>,
    facts: &crate::decision::Facts,
    mark: &Mark,
) -> Result<(), Error> {
    let pair = subject.pair();
    let router = context.router(&subject.key.namespace);
    // Raising needs the lease, and so does taking a commit point back: another leader may have
    // released the hold since the facts were gathered.
    if mark.weight != mark.safe.weight() || takes_back(facts, mark) {
        ask_for_lease(context)?;
    }
    for (at, fact) in subject.gate.spec.routes().iter().zip(&facts.routes) {
        // A fence goes on every route that is there, also where nothing was written yet: a leader
        // that slept may be about to write the first weight.
        if mark.fenced && fact.split == crate::decision::Split::Missing {
            continue;
        }
        let route = known_route(context, subject, at).await?;
        let written = context
            .write(Write::WriteRoute, router.apply(at, &route, &pair, mark))
            .await;
        note_route(context, subject, at, written)?;
    }
    let uid = subject.gate.uid().unwrap_or_default();
    context
        .memory
        .update(&subject.key, &uid, |known| known.note(&mark.record));
    Ok(())
}

/// Looks once more whether this process leads, right before a write that only the leader may make.
fn ask_for_lease(context: &Context) -> Result<(), Error> {
    let leads = context.leadership.may_raise(Instant::now());
    let refused = || Error::Refused("the lease has run out since the facts were gathered".into());
    leads.then_some(()).ok_or_else(refused)
}

/// Takes the hold off: tests that the template is the proven one, and that nobody wrote since. Needs
/// the lease: another leader may have taken the commit point back since the facts were gathered,
/// because another template was pushed, and then again the one on trial.
async fn release(context: &Context, subject: &Subject<'_>, decision: &Decision) -> Result<(), Error> {
    ask_for_lease(context)?;
    let proven = decision
        .state
        .attempt
        .as_ref()
        .map(|attempt| &attempt.revision)
        .or(decision.state.proven.as_ref());
    let conflict = || Error::Conflict(format!("Deployment {}", subject.workload()));
    let live = if let Some(live) = context.workload(&subject.key.namespace, subject.workload()) {
        live
    } else {
        let api = deployments(context, subject);
        Arc::new(bounded("read Deployment", api.get(subject.workload())).await?)
    };
    if live.spec.revision.as_ref() != proven {
        return Err(conflict());
    }
    let handover = subject.frozen.plan.deadlines.handover;
    let until = decision
        .state
        .attempt
        .as_ref()
        .map(|_| (context.now() + handover).0 / 1000);
    let Some(patch) = released(&live, until) else {
        return Ok(());
    };
    let patch: json_patch::Patch = serde_json::from_value(patch).map_err(|error| Error::Refused(error.to_string()))?;
    let params = PatchParams {
        field_manager: Some(routers::FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let patch = Patch::Json::<()>(patch);
    let api = objects::writes::<Deployment>(&context.client, &subject.key.namespace);
    let released = context
        .write(Write::Release, api.patch(subject.workload(), &params, &patch))
        .await;
    match released {
        // A failed test of a JSON patch is 422 without causes: the watch is behind.
        Err(Error::Kube(kube::Error::Api(status)))
            if status.code == 422 && status.details.as_ref().is_none_or(|details| details.causes.is_empty()) =>
        {
            Err(conflict())
        }
        other => other.map(drop),
    }
}

/// The patch that takes the hold off; during a handover it says until when.
fn released(live: &Workload, until: Option<i64>) -> Option<Value> {
    let held = live.label(labels::HELD).is_some();
    let paused = live.spec.paused;
    if !held && !paused {
        return None;
    }
    let key = |label: &str| label.replace('~', "~0").replace('/', "~1");
    let mut patch =
        vec![json!({"op": "test", "path": "/metadata/resourceVersion", "value": live.metadata.resource_version})];
    if held {
        patch.push(json!({"op": "remove", "path": format!("/metadata/labels/{}", key(labels::HELD))}));
    }
    if live.label(labels::PAUSED).is_some() {
        patch.push(json!({"op": "remove", "path": format!("/metadata/labels/{}", key(labels::PAUSED))}));
    }
    if paused {
        patch.push(json!({"op": "remove", "path": "/spec/paused"}));
    }
    if let Some(until) = until {
        patch.push(json!({"op": "add", "path": format!("/metadata/labels/{}", key(labels::HANDOVER)), "value": until.to_string()}));
    }
    Some(Value::Array(patch))
}

/// Puts every route back, and lets the Deployment's template change again.
async fn restore(context: &Context, subject: &Subject<'_>, decision: &Decision) -> Result<(), Error> {
    let epoch = subject
        .state
        .attempt
        .as_ref()
        .map_or(subject.state.epoch, |attempt| attempt.epoch);
    let keep = if decision.outcome == crate::decision::Outcome::Abort {
        routers::Keep::Fence
    } else {
        routers::Keep::Nothing
    };
    let ending = routers::Ending { attempt: epoch, keep };
    for at in &subject.gate.spec.routes() {
        if let Some(route) = context.routes.get(&route_key(subject, at.kind.word(), &at.name)) {
            put_back(context, subject, (at, route), ending).await?;
        }
    }
    workload::end_handover(context, subject).await
}

/// Takes the pair out of one route, then hands its rules back.
async fn put_back(
    context: &Context,
    subject: &Subject<'_>,
    (at, route): (&RouteRef, Arc<Value>),
    ending: routers::Ending,
) -> Result<(), Error> {
    let pair = subject.pair();
    let router = context.router(&subject.key.namespace);
    let restored = context
        .write(Write::Restore, router.restore(at, &route, &pair, ending))
        .await;
    let restored = note_route(context, subject, at, restored)?;
    if !routers::hand_back_due(&restored, &pair) {
        return Ok(());
    }
    let back = context
        .write(Write::HandBack, router.hand_back(at, &restored, &pair, ending.keep))
        .await;
    note_route(context, subject, at, back).map(drop)
}

/// Removes the canary and lets stable shrink again.
async fn remove(context: &Context, subject: &Subject<'_>) -> Result<(), Error> {
    guard::lift(context, subject).await?;
    remove_copies(context, subject).await?;
    let resources = [
        (workload::deployment(), subject.canary()),
        (workload::service(), subject.pair().canary),
    ];
    for (resource, name) in resources {
        let api: Api<objects::Answer> = Api::namespaced_with(context.client.clone(), &subject.key.namespace, &resource);
        let params = DeleteParams::background();
        match context.write(Write::Remove, api.delete(&name, &params)).await {
            Ok(_) => {}
            Err(Error::Kube(kube::Error::Api(status))) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let (uid, now) = (subject.gate.uid().unwrap_or_default(), context.now());
    context.memory.update(&subject.key, &uid, |known| {
        (known.removed, known.asked) = (Some(now), None);
    });
    Ok(())
}

/// Removes the copies of attached policies; after a restart by label, because they are not known.
async fn remove_copies(context: &Context, subject: &Subject<'_>) -> Result<(), Error> {
    let Some(kind) = &context.optional.backend_tls else {
        return Ok(());
    };
    let known = workload::copies(context, subject, subject.state.epoch);
    if known.is_some_and(|copies| copies.is_empty()) {
        return Ok(());
    }
    let api = workload::api(context, &subject.key.namespace, kind);
    let ours = canary::canary_selector(&subject.key.name);
    let selector: Vec<String> = ours.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let ours = ListParams::default().labels(&selector.join(","));
    let params = DeleteParams::background();
    context
        .write(Write::Remove, api.delete_collection(&params, &ours))
        .await
        .map(drop)
}

/// Takes the fence of the last attempt off the routes, and our labels and the pause at rest off the
/// Deployment. A held template stays paused, and an annotation says why.
async fn disown(context: &Context, subject: &Subject<'_>) -> Result<(), Error> {
    let ending = routers::Ending {
        attempt: i64::MAX,
        keep: routers::Keep::Nothing,
    };
    for at in &subject.gate.spec.routes() {
        let route = context.router(&subject.key.namespace).read(at).await?;
        if let Some(route) = route.filter(|route| routers::is_marked(route, &subject.pair())) {
            put_back(context, subject, (at, Arc::new(route)), ending).await?;
        }
    }
    let api = deployments(context, subject);
    let Some(live) = bounded("read Deployment", api.get_opt(subject.workload())).await? else {
        return Ok(());
    };
    if live.label(labels::GATE) != Some(subject.key.name.as_str()) {
        return Ok(());
    }
    let proven = subject.state.proven.as_ref().filter(|_| context.pauses);
    let waits = live.label(labels::HELD).is_some() || rest::is_held(&live, proven);
    let why = waits.then(|| {
        format!(
            "gate {} was deleted before this template was proven; `kubectl rollout resume` rolls it out",
            subject.key.name
        )
    });
    let mut patch = json!({"metadata": {
        "resourceVersion": live.metadata.resource_version,
        "labels": {labels::GATE: null, labels::HELD: null, labels::HANDOVER: null, labels::PAUSED: null},
        "annotations": {labels::LEFT_PAUSED: why},
    }});
    rest::resume(&live, waits, &mut patch);
    let params = PatchParams {
        field_manager: Some(routers::FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    context
        .write(
            Write::Disown,
            api.patch(subject.workload(), &params, &Patch::Merge(&patch)),
        )
        .await
        .map(drop)
}

/// Whether the gate carries our finalizer.
#[must_use]
pub fn has_finalizer(gate: &ReleaseGate) -> bool {
    gate.finalizers().iter().any(|name| name == labels::FINALIZER)
}

/// Whether everything of a gate that is being deleted is put back.
#[must_use]
pub fn is_gone(subject: &Subject<'_>, decision: &Decision) -> bool {
    subject.gate.metadata.deletion_timestamp.is_some() && decision.effects.contains(&Effect::Disown)
}

/// Takes the finalizer off: the gate may go.
///
/// # Errors
/// When the API server refuses for another reason than that the gate is gone already.
pub async fn let_go(context: &Context, gate: &ReleaseGate) -> Result<(), Error> {
    let finalizers: Vec<_> = gate
        .finalizers()
        .iter()
        .filter(|name| *name != labels::FINALIZER)
        .collect();
    let patch = json!({"metadata": {"resourceVersion": gate.resource_version(), "finalizers": finalizers}});
    let api = objects::writes::<ReleaseGate>(&context.client, &gate.namespace().unwrap_or_default());
    match context
        .write(
            Write::Finalizer,
            api.patch(&gate.name_any(), &PatchParams::default(), &Patch::Merge(&patch)),
        )
        .await
    {
        Ok(_) => Ok(()),
        Err(Error::Kube(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

fn attempt(decision: &Decision) -> Result<&Attempt, Error> {
    decision
        .state
        .attempt
        .as_ref()
        .ok_or_else(|| Error::Refused("no attempt is in flight".into()))
}

fn deployments(context: &Context, subject: &Subject<'_>) -> Api<Workload> {
    Api::namespaced(context.client.clone(), &subject.key.namespace)
}

async fn known_route(context: &Context, subject: &Subject<'_>, at: &RouteRef) -> Result<Arc<Value>, Error> {
    let key = route_key(subject, at.kind.word(), &at.name);
    if let Some(route) = context.routes.get(&key) {
        return Ok(route);
    }
    let read = context.router(&subject.key.namespace).read(at).await?;
    read.map(Arc::new)
        .ok_or_else(|| Error::Router(routers::Error::Gone(format!("{} {}", at.kind.word(), at.name))))
}

/// Keeps the answer of a write; after a conflict forgets the version that was too old.
fn note_route(
    context: &Context,
    subject: &Subject<'_>,
    at: &RouteRef,
    written: Result<Written, Error>,
) -> Result<Arc<Value>, Error> {
    let key = route_key(subject, at.kind.word(), &at.name);
    match written {
        Ok(written) => {
            let route = Arc::new(written.route);
            context.routes.note(key, Arc::clone(&route));
            Ok(route)
        }
        Err(error) => {
            context.routes.forget(&key);
            Err(error)
        }
    }
}
