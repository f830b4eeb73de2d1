//! The gatekeeper: one pass over one gate, from facts to effects. It never queries metrics.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::controller::Action;

use crate::api::ReleaseGate;
use crate::decision::{Decision, Facts, Millis, Outcome, Reason, Stage, State, decide};

use super::answers;
use super::apply;
use super::context::{Context, Error};
use super::frozen::{self, Frozen};
use super::gather::{self, Subject};
use super::memory::GateKey;
use super::objects::Gate;
use super::report;
use super::status;

/// Looks again at a gate at rest this often, in case a watch has missed something.
const RESYNC: Duration = Duration::from_secs(600);

/// Tries an abort again this soon: everybody waits for weight 0.
const URGENT: Duration = Duration::from_millis(500);

/// Looks again this soon while the machine is moving.
const SETTLING: Duration = Duration::from_millis(1);

/// Looks again before anything else: a release has begun and is to be prepared.
const AT_ONCE: Duration = Duration::ZERO;

/// Looks again this soon after a conflict.
const CONFLICT: Duration = Duration::from_millis(50);

/// One pass; two where a release begins. It is prepared before others begin, so that of a hundred at
/// once the first need not wait for the last.
///
/// # Errors
/// When the pass could not be finished; [`on_error`] says when to try again.
pub async fn reconcile(guarded: Arc<Gate>, context: Arc<Context>) -> Result<Action, Error> {
    match &guarded.0 {
        Ok(gate) => {
            let next = pass(gate, &context).await?;
            if next == Action::requeue(AT_ONCE) {
                return pass(gate, &context).await;
            }
            Ok(next)
        }
        Err(invalid) => {
            let key = GateKey {
                namespace: invalid.metadata.namespace.clone().unwrap_or_default(),
                name: invalid.metadata.name.clone().unwrap_or_default(),
            };
            status::quarantine(&context, &key, invalid.metadata.generation, &invalid.error).await?;
            Ok(Action::await_change())
        }
    }
}

/// When to try again after a failed pass: at once after a conflict, else ever later, up to 30 s;
/// but an abort that could not be written is tried twice a second.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "the queue calls it so")]
pub fn on_error(guarded: Arc<Gate>, error: &Error, context: Arc<Context>) -> Action {
    let (key, uid) = match &guarded.0 {
        Ok(gate) => (frozen::key(gate), gate.uid().unwrap_or_default()),
        Err(_) => return Action::requeue(Duration::from_secs(30)),
    };
    context.metrics.failed(error.fault());
    if error.is_conflict() {
        return Action::requeue(CONFLICT);
    }
    let (mut failures, mut urgent) = (0, false);
    context.memory.update(&key, &uid, |known| {
        known.failures = known.failures.saturating_add(1);
        (failures, urgent) = (known.failures, known.urgent);
    });
    tracing::warn!(gate = %key, %error, failures, "pass not finished");
    if urgent {
        return Action::requeue(URGENT);
    }
    Action::requeue(Duration::from_secs(1 << failures.min(5)).min(Duration::from_secs(30)))
}

async fn pass(gate: &ReleaseGate, context: &Context) -> Result<Action, Error> {
    let key = frozen::key(gate);
    let uid = gate.uid().unwrap_or_default();
    let state = match status::state(context, gate, &key) {
        Ok(state) => state,
        Err(invalid) => return stalled(context, gate, &key, &invalid.to_string()).await,
    };
    if gate.metadata.deletion_timestamp.is_some() && !apply::has_finalizer(gate) {
        context.memory.forget(&key);
        context.judge.dismiss(&key);
        return Ok(Action::await_change());
    }
    let frozen = match plan(context, gate, &key, &state).await? {
        Ok(frozen) => frozen,
        Err(invalid) => return stalled(context, gate, &key, &invalid).await,
    };
    context.memory.accept(&key);
    let subject = Subject {
        gate,
        key,
        state,
        frozen,
    };
    let facts = gather::gather(context, &subject).await?;
    recall(context, &subject, &facts);
    let decision = decide(&subject.frozen.plan, &subject.state, &facts, context.now());
    perform(context, &subject, &facts, &decision).await?;
    context.memory.update(&subject.key, &uid, |known| known.failures = 0);
    Ok(next(&subject, &decision, context.now()))
}

/// The record of a decision is on the route first: one that a process did not live to save anywhere
/// else is saved with the next.
fn recall(context: &Context, subject: &Subject<'_>, facts: &Facts) {
    let Some(attempt) = &subject.state.attempt else { return };
    let uid = subject.gate.uid().unwrap_or_default();
    let marks = facts.routes.iter().filter_map(|route| route.mark.as_ref());
    for mark in marks.filter(|mark| mark.epoch == attempt.epoch) {
        context
            .memory
            .update(&subject.key, &uid, |known| known.note(&mark.record));
    }
}

/// Performs the effects in order, then stores the state, then tells others.
async fn perform(context: &Context, subject: &Subject<'_>, facts: &Facts, decision: &Decision) -> Result<(), Error> {
    let uid = subject.gate.uid().unwrap_or_default();
    let urgent = decision.outcome == Outcome::Abort;
    let steps = matches!(stage(&subject.state), Some(Stage::Stepping(_)));
    context.memory.update(&subject.key, &uid, |known| {
        known.urgent = urgent;
        // The canary stands; should it have to be made again, it is read again.
        known.built = known.built.take().filter(|_| !steps);
    });
    let heard = context.judge.heard(&subject.key);
    let paused = context.judge.pause(&subject.key);
    for effect in &decision.effects {
        apply::perform(context, subject, facts, decision, effect).await?;
    }
    context.judge.step(&subject.key, &decision.state);
    drop(paused);
    // What follows only tells of it.
    let acted = heard.map(|heard| heard.elapsed());
    if !facts.leader {
        context.judge.dismiss(&subject.key);
        return Ok(());
    }
    if apply::is_gone(subject, decision) {
        answers::forget_all(context, &subject.key).await;
        apply::let_go(context, subject.gate).await?;
        context.memory.forget(&subject.key);
        context.judge.dismiss(&subject.key);
        if let Some(github) = &context.github {
            github.forget(&uid);
        }
        return Ok(());
    }
    status::store(context, subject, facts, decision).await?;
    context.judge.follow(context, subject, &decision.state);
    report::tell(context, subject, facts, decision, acted).await;
    if decision.state.attempt.is_none() {
        context.memory.rest(&subject.key);
        gather::forget_routes(context, subject);
    }
    Ok(())
}

/// The plan to decide by: frozen for an attempt in flight, drafted at rest.
async fn plan(
    context: &Context,
    gate: &ReleaseGate,
    key: &GateKey,
    state: &State,
) -> Result<Result<Arc<Frozen>, String>, Error> {
    let uid = gate.uid().unwrap_or_default();
    let Some(attempt) = &state.attempt else {
        let revision = crate::decision::Revision(String::new());
        let (of, asked) = (
            (uid.as_str(), gate.metadata.generation),
            context.asked(&gate.spec.analysis),
        );
        let draft = |asked| frozen::draft(gate, asked, (&revision, 0, 0));
        let drafted = context.memory.draft(of, asked.clone(), draft);
        let leaving = drafted.is_err() && gate.metadata.deletion_timestamp.is_some();
        return Ok(match leaving.then(|| frozen::bare(gate)).flatten() {
            Some(bare) => frozen::draft(&bare, asked, (&revision, 0, 0)).map(Arc::new),
            None => drafted,
        }
        .map_err(|invalid| invalid.to_string()));
    };
    let known = context.memory.read(key, &uid, |known| known.frozen.clone());
    if let Some(known) = known.filter(|known| known.spec.epoch == attempt.epoch && known.object.is_some()) {
        return Ok(Ok(known));
    }
    let read = match frozen::read(context, gate, attempt).await? {
        Some(read) => read,
        None => frozen::freeze(context, gate, attempt, stable_pods(context, gate, key)).await?,
    };
    let read = Arc::new(read);
    context.memory.update(key, &uid, |known| {
        known.frozen = Some(Arc::clone(&read));
        known.records.clone_from(&read.decided);
    });
    Ok(Ok(read))
}

/// Stable's size now.
#[must_use]
pub fn stable_pods(context: &Context, gate: &ReleaseGate, key: &GateKey) -> i64 {
    context
        .workload(&key.namespace, &gate.spec.target.workload.name)
        .map_or(1, |workload| workload.desired())
}

async fn stalled(context: &Context, gate: &ReleaseGate, key: &GateKey, message: &str) -> Result<Action, Error> {
    status::quarantine(context, key, gate.metadata.generation, message).await?;
    Ok(Action::await_change())
}

fn stage(state: &State) -> Option<Stage> {
    state.attempt.as_ref().map(|attempt| attempt.stage)
}

/// When to look again: soon while the machine is moving, at its wake time, or at the resync.
fn next(subject: &Subject<'_>, decision: &Decision, now: Millis) -> Action {
    if subject.state.attempt.is_none() && decision.state.attempt.is_some() {
        return Action::requeue(AT_ONCE);
    }
    let moved = decision.state != subject.state;
    let settling = matches!(
        stage(&decision.state),
        None | Some(Stage::Preparing | Stage::HandingOver | Stage::Rejected(_))
    );
    if moved && settling {
        return Action::requeue(SETTLING);
    }
    if decision.reason == Reason::WorkloadMissing || decision.reason == Reason::NotRolledOut {
        return Action::requeue(Duration::from_secs(5));
    }
    match decision.wake_at {
        Some(at) => {
            let wait = u64::try_from((at - now).0).unwrap_or(0).max(1);
            Action::requeue(Duration::from_millis(wait).min(RESYNC))
        }
        None => Action::requeue(RESYNC),
    }
}
