//! Reads the world: from caches where they are good enough, from the API server where they are not.

use std::sync::Arc;

use kube::{Api, ResourceExt};
use serde_json::Value;

use crate::api::{GateAction, ReleaseGate, labels};
use crate::decision::{CanaryFact, Facts, Millis, Request, RouteFact, Split, Stage, State};
use crate::routers;

use super::answers;
use super::canary;
use super::capacity;
use super::context::{Context, Error, bounded};
use super::frozen::Frozen;
use super::memory::GateKey;
use super::rest;
use super::survey;
use super::watch::{RouteKey, Workload};
use super::workload::SHOWN;

/// One gate with what was read for it.
pub struct Subject<'a> {
    /// The gate.
    pub gate: &'a ReleaseGate,
    /// Its key.
    pub key: GateKey,
    /// The machine's memory, as written last.
    pub state: State,
    /// The plan of the attempt in flight; at rest, the plan of the next one.
    pub frozen: Arc<Frozen>,
}

impl Subject<'_> {
    /// The Deployment's name.
    #[must_use]
    pub fn workload(&self) -> &str {
        &self.gate.spec.target.workload.name
    }

    /// The canary Deployment's name.
    #[must_use]
    pub fn canary(&self) -> String {
        canary::deployment_name(self.workload())
    }

    /// The pair whose traffic is split.
    #[must_use]
    pub fn pair(&self) -> routers::Pair {
        routers::Pair::new(&self.key.name, &self.key.namespace, &self.gate.spec.target.service)
    }

    /// The weight of the step the attempt was at before this pass.
    #[must_use]
    pub fn weight(&self) -> Option<crate::decision::Percent> {
        match self.state.attempt.as_ref()?.stage {
            Stage::Stepping(step) => Some(self.frozen.plan.weight_at(step)),
            _ => None,
        }
    }

    /// The step the machine is at, and the one it may go to.
    fn steps(&self) -> (Option<usize>, usize) {
        match self.state.attempt.as_ref().map(|attempt| attempt.stage) {
            Some(Stage::Stepping(step)) => (Some(step), step.saturating_add(1)),
            Some(Stage::HandingOver | Stage::Restoring) => (Some(usize::MAX), usize::MAX),
            _ => (None, 0),
        }
    }
}

/// Gathers the facts of one pass.
///
/// # Errors
/// When the API server does not answer: then nothing is known, and nothing is done.
pub async fn gather(context: &Context, subject: &Subject<'_>) -> Result<Facts, Error> {
    let workload = workload(context, subject).await?;
    let suspended = subject.gate.spec.suspend;
    let changed = |workload: &Arc<Workload>| workload.spec.revision != subject.state.proven;
    let begins = subject.state.attempt.is_some() || !suspended && workload.as_ref().is_some_and(changed);
    let (routes, preflight) = tokio::try_join!(routes(context, subject, begins), blocked(context, subject))?;
    Ok(Facts {
        leader: context.leadership.may_raise(tokio::time::Instant::now()),
        suspended,
        deleted: subject.gate.metadata.deletion_timestamp.is_some(),
        routes,
        canary: canary_fact(context, subject, workload.as_deref()),
        preflight,
        judged: context.judge.judged(&subject.key),
        request: request(context, subject),
        workload: workload.and_then(|live| rest::fact(&live, context.pauses, subject.state.proven.as_ref())),
    })
}

/// The user's Deployment. Before adoption it does not carry our label and is not watched.
async fn workload(context: &Context, subject: &Subject<'_>) -> Result<Option<Arc<Workload>>, Error> {
    if let Some(known) = context.workload(&subject.key.namespace, subject.workload()) {
        return Ok(Some(known));
    }
    let api: Api<Workload> = Api::namespaced(context.client.clone(), &subject.key.namespace);
    let read = bounded("read Deployment", api.get_opt(subject.workload())).await?;
    Ok(read.map(Arc::new))
}

/// Every route of the gate. At rest only those that carry a split are known, and nothing is asked;
/// a release reads each route once and then lives on the watch and on its own writes.
async fn routes(context: &Context, subject: &Subject<'_>, begins: bool) -> Result<Vec<RouteFact>, Error> {
    let pair = subject.pair();
    let mut facts = Vec::new();
    for reference in &subject.gate.spec.routes() {
        let key = route_key(subject, reference.kind.word(), &reference.name);
        let route = match context.routes.get(&key) {
            None if begins => {
                let read = context.router(&subject.key.namespace).read(reference).await?;
                let read = read.map(Arc::new);
                if let Some(route) = &read {
                    context.routes.note(key.clone(), Arc::clone(route));
                }
                read
            }
            known => known,
        };
        facts.push(match route {
            Some(route) => said(context, subject, (key, route), &pair),
            None if begins => RouteFact {
                split: Split::Missing,
                mark: None,
                programmed: false,
            },
            None => RouteFact {
                split: Split::AtRest,
                mark: None,
                programmed: true,
            },
        });
    }
    Ok(facts)
}

/// What a route says about the pair; a version is looked through once.
fn said(
    context: &Context,
    subject: &Subject<'_>,
    (key, route): (RouteKey, Arc<Value>),
    pair: &routers::Pair,
) -> RouteFact {
    let uid = subject.gate.uid().unwrap_or_default();
    let known = context.memory.read(&subject.key, &uid, |known| {
        let (read, of, fact) = known.said.get(&key)?;
        (Arc::ptr_eq(read, &route) && of == pair).then(|| fact.clone())
    });
    known.unwrap_or_else(|| {
        let fact = routers::facts(Some(&route), pair);
        context.memory.update(&subject.key, &uid, |known| {
            known.said.insert(key, (route, pair.clone(), fact.clone()));
        });
        fact
    })
}

/// Forgets the routes of a gate at rest: without a split they are not watched, and what is known of
/// them grows old.
pub fn forget_routes(context: &Context, subject: &Subject<'_>) {
    let pair = subject.pair();
    for reference in &subject.gate.spec.routes() {
        let key = route_key(subject, reference.kind.word(), &reference.name);
        let is_ours = |route: Arc<Value>| {
            let fact = routers::facts(Some(&route), &pair);
            fact.split != Split::AtRest || fact.mark.is_some()
        };
        if !context.routes.get(&key).is_some_and(is_ours) {
            context.routes.forget(&key);
        }
    }
}

/// The key of a gate's route.
#[must_use]
pub fn route_key(subject: &Subject<'_>, kind: &str, name: &str) -> RouteKey {
    (subject.key.namespace.clone(), kind.to_owned(), name.to_owned())
}

/// The canary's pods, and how many each weight needs.
fn canary_fact(context: &Context, subject: &Subject<'_>, stable: Option<&Workload>) -> CanaryFact {
    let uid = subject.gate.uid().unwrap_or_default();
    let removed = context.memory.read(&subject.key, &uid, |known| known.removed);
    let gone = removed.is_some_and(|at| context.now() - at < SHOWN);
    let live = context
        .workload(&subject.key.namespace, &subject.canary())
        .filter(|_| !gone);
    let (at, next) = subject.steps();
    let pods = |step| needed(subject, stable, step);
    let base = CanaryFact {
        needed: at.map_or(0, pods),
        needed_next: pods(next),
        ..CanaryFact::default()
    };
    match live {
        Some(live) if live.metadata.deletion_timestamp.is_none() => CanaryFact {
            revision: live
                .label(labels::REVISION)
                .map(|revision| crate::decision::Revision(revision.to_owned())),
            ready: live.status.available_replicas,
            desired: live.desired(),
            exists: true,
            ..base
        },
        _ => base,
    }
}

/// Pods the canary needs before the weight of a step may be written. Beyond the last step it
/// carries everything.
#[must_use]
pub fn needed(subject: &Subject<'_>, stable: Option<&Workload>, step: usize) -> i64 {
    let plan = &subject.frozen.plan;
    let weight = if step < plan.steps.len() {
        plan.weight_at(step)
    } else {
        crate::decision::Percent::ALL
    };
    capacity::needed(weight, subject.frozen.stable_pods, stable.map_or(0, Workload::desired))
}

/// What stands in the way, looked for while the release is being prepared and again every 30 s
/// while it does.
async fn blocked(context: &Context, subject: &Subject<'_>) -> Result<Option<crate::decision::Reason>, Error> {
    const AGAIN: Millis = Millis::from_secs(30);
    let Some(attempt) = subject
        .state
        .attempt
        .as_ref()
        .filter(|attempt| attempt.stage == Stage::Preparing)
    else {
        return Ok(None);
    };
    let uid = subject.gate.uid().unwrap_or_default();
    let now = context.now();
    let known = context.memory.read(&subject.key, &uid, |known| known.preflight.clone());
    if let Some(known) = known.filter(|known| known.epoch == attempt.epoch && now - known.at < AGAIN) {
        return Ok(known.blocks);
    }
    let found = Box::pin(survey::look(context, subject, attempt)).await?;
    let blocks = found.blocks;
    context
        .memory
        .update(&subject.key, &uid, |known| known.preflight = Some(found));
    Ok(blocks)
}

/// The oldest request that has not been answered.
fn request(context: &Context, subject: &Subject<'_>) -> Option<Request> {
    let ours = |action: &GateAction| {
        answers::is_asked_of(action, &subject.key)
            && action.status.as_ref().is_none_or(|status| status.answer.is_none())
            && !context.answered(action)
    };
    let oldest = context
        .actions
        .state_filter(|action| ours(action))
        .into_iter()
        .min_by_key(|action| (action.creation_timestamp(), action.name_any()))?;
    Some(Request {
        name: oldest.name_any(),
        verb: oldest.spec.verb,
        revision: oldest.spec.revision.clone(),
        by: oldest.spec.signer.clone().unwrap_or_else(|| "unknown".to_owned()),
        at: oldest
            .creation_timestamp()
            .map_or(Millis(0), |time| Millis(time.0.as_millisecond())),
    })
}
