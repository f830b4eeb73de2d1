//! The gate's status: the machine's memory, and the same for people. One write per change.

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::api::{AnalysisRef, Condition, GateStatus, Invalid, ReleaseGate, StageWord, clipped, kept_times};
use crate::decision::{Attempt, Decision, Effect, Facts, Millis, Outcome, Reason, Stage, State};

use super::context::{Context, Error};
use super::crash::Write;
use super::gather::Subject;
use super::memory::{GateKey, Known};
use super::objects;

/// How often ordinary waiting is told anew.
const REFRESH: Millis = Millis::from_secs(15);

/// A change that comes this soon is waited for, before ordinary waiting is told at all.
const SOON: Millis = Millis::from_secs(5);

/// The machine's memory of a gate: what was written last, unless the watch shows something newer.
///
/// # Errors
/// [`Invalid`] when the status was not written by us.
pub fn state(context: &Context, gate: &ReleaseGate, key: &GateKey) -> Result<State, Invalid> {
    let known = context
        .memory
        .read(key, &gate.uid().unwrap_or_default(), |known| known.written.clone());
    if let Some((version, state)) = known
        && newer(&version, gate.resource_version().as_deref())
    {
        return Ok(state);
    }
    gate.status
        .as_ref()
        .map_or_else(|| Ok(State::default()), GateStatus::state)
}

/// Whether `ours` is a later version than `theirs`, or the same.
fn newer(ours: &str, theirs: Option<&str>) -> bool {
    let number = |version: &str| version.parse::<u64>().ok();
    match (number(ours), theirs.and_then(number)) {
        (Some(ours), Some(theirs)) => ours >= theirs,
        _ => false,
    }
}

/// Writes the status if it says anything new, as a compare-and-swap on the version that was read:
/// a replica that has lost the lease cannot overwrite its successor's memory.
///
/// # Errors
/// When the API server refuses; after a conflict the gate is read again.
pub async fn store(context: &Context, subject: &Subject<'_>, facts: &Facts, decision: &Decision) -> Result<(), Error> {
    let gate = subject.gate;
    let uid = gate.uid().unwrap_or_default();
    let status = render(context, subject, facts, decision);
    let brief = brief(context, subject, facts);
    let due = context.memory.read(&subject.key, &uid, |known| {
        due(known, (gate.status.as_ref(), &status), (decision, brief), context.now())
    });
    match due {
        Due::Never => return Ok(()),
        Due::Later => {
            let state = decision.state.clone();
            context.memory.update(&subject.key, &uid, |known| {
                if let Some((_, written)) = &mut known.written {
                    *written = state;
                }
            });
            return Ok(());
        }
        Due::Now => {}
    }
    if moves(decision) {
        context.precedence.give_way().await;
    }
    let theirs = gate.resource_version();
    let ours = context.memory.read(&subject.key, &uid, |known| {
        let (ours, _) = known.written.as_ref()?;
        newer(ours, theirs.as_deref()).then(|| ours.clone())
    });
    let version = ours.or(theirs).unwrap_or_default();
    let patch = patch(&version, &status);
    let api = objects::writes::<ReleaseGate>(&context.client, &subject.key.namespace);
    let name = &subject.key.name;
    let written = context
        .write(
            Write::Status,
            api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)),
        )
        .await;
    match written {
        Ok(written) => {
            let version = written.resource_version().unwrap_or_default();
            let now = context.now();
            context.memory.update(&subject.key, &uid, |known| {
                known.written = Some((version, decision.state.clone()));
                known.shown = Some(status);
                known.told_at = now;
            });
            Ok(())
        }
        Err(error) => {
            context.memory.update(&subject.key, &uid, |known| {
                known.written = None;
                known.shown = None;
            });
            Err(error)
        }
    }
}

/// When a status is to be written.
enum Due {
    Now,
    /// With the next one.
    Later,
    /// It says nothing new.
    Never,
}

fn due(
    known: &Known,
    (found, status): (Option<&GateStatus>, &GateStatus),
    (decision, brief): (&Decision, bool),
    now: Millis,
) -> Due {
    let shown = known.shown.as_ref();
    if shown.or(found).is_some_and(|shown| same(shown, status)) {
        return Due::Never;
    }
    let told = shown.is_some_and(|shown| shown.observed_generation == status.observed_generation);
    let waits = shown.is_some_and(|shown| is_at(shown) == is_at(status))
        && ordinary(known, &decision.state, decision.reason, brief)
        && is_early(now, known.told_at, decision.wake_at);
    if told && (waits || passing(known, decision)) {
        Due::Later
    } else {
        Due::Now
    }
}

/// Whether a weight was written in this pass: the status only tells of it, and may come later.
fn moves(decision: &Decision) -> bool {
    decision.written().is_some()
}

/// The stage that a status tells.
fn is_at(status: &GateStatus) -> Option<(StageWord, Option<i64>)> {
    let attempt = status.attempt.as_ref();
    attempt.map(|attempt| (attempt.stage, attempt.at_step))
}

/// Whether ordinary waiting was told a moment ago, or something else will soon be worth telling.
fn is_early(now: Millis, told_at: Millis, wake_at: Option<Millis>) -> bool {
    now - told_at < REFRESH || wake_at.is_some_and(|at| at - now < SOON)
}

/// Whether evidence is missing for no longer than it may be in health: a tick that straddles a
/// change of the weight, or comes late.
fn brief(context: &Context, subject: &Subject<'_>, facts: &Facts) -> bool {
    let since = facts.judged.as_ref().and_then(|judged| judged.blind_since);
    since.is_some_and(|since| context.now() - since <= subject.frozen.plan.patience)
}

/// Whether a release only goes on waiting as before: then its status need not be written at once.
/// When a window began and since when pods are awaited may be forgotten by a crash: the wait then
/// begins anew, and nothing rises earlier.
fn ordinary(known: &Known, state: &State, reason: Reason, brief: bool) -> bool {
    let core = |state: &State| {
        let mut state = state.clone();
        if let Some(attempt) = &mut state.attempt {
            (attempt.window, attempt.scaling) = (None, None);
        }
        state
    };
    let same = known
        .written
        .as_ref()
        .is_some_and(|(_, written)| core(written) == core(state));
    let shown = known.shown.as_ref().and_then(|shown| shown.reason.clone());
    let before = shown.as_deref().and_then(Reason::from_word);
    let waits = reason.is_ordinary() || reason == Reason::NoEvidence && brief;
    same && waits && before.is_some_and(Reason::is_ordinary)
}

/// Whether a refused release has just been put away: the pass that follows at once says so, in one
/// write. A crash in between puts away again what is away.
fn passing(known: &Known, decision: &Decision) -> bool {
    let refused = |state: &State| {
        let stage = state.attempt.as_ref().map(|attempt| attempt.stage);
        matches!(stage, Some(Stage::Rejected(_)))
    };
    let before = known.written.as_ref().is_some_and(|(_, written)| !refused(written));
    before && refused(&decision.state)
}

/// A merge patch in which what is absent is taken away.
fn patch(version: &str, status: &GateStatus) -> serde_json::Value {
    let mut value = json!(status);
    let blank = [
        "stable", "revision", "step", "weight", "decision", "reason", "message", "attempt", "analysis", "github",
    ];
    if let Some(fields) = value.as_object_mut() {
        for field in blank {
            fields.entry(field).or_insert(serde_json::Value::Null);
        }
        if let Some(attempt) = fields.get_mut("attempt").and_then(serde_json::Value::as_object_mut) {
            for field in ["atStep", "why", "window", "scaling", "hold", "holdSince"] {
                attempt.entry(field).or_insert(serde_json::Value::Null);
            }
        }
    }
    json!({"metadata": {"resourceVersion": version}, "status": value})
}

/// Says that an object cannot be understood. Others are not concerned.
///
/// # Errors
/// When the API server refuses.
pub async fn quarantine(context: &Context, key: &GateKey, generation: Option<i64>, message: &str) -> Result<(), Error> {
    let now = context.now();
    let generation = generation.unwrap_or(0);
    if context.memory.is_refused(key, generation, message) {
        return Ok(());
    }
    let conditions = vec![
        condition("Ready", false, generation, now, (Reason::Invalid, message)),
        condition("Stalled", true, generation, now, (Reason::Invalid, message)),
    ];
    let status = json!({"status": {
        "observedGeneration": generation,
        "reason": Reason::Invalid.word(),
        "message": clipped(message),
        "conditions": conditions,
    }});
    if !context.leadership.may_raise(tokio::time::Instant::now()) {
        return Ok(());
    }
    tracing::warn!(gate = %key, message, "the gate cannot be understood");
    let api = objects::writes::<ReleaseGate>(&context.client, &key.namespace);
    let name = &key.name;
    context
        .write(
            Write::Status,
            api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)),
        )
        .await?;
    context.memory.refuse(key, generation, message);
    Ok(())
}

/// Whether two statuses say the same, times of transition apart.
fn same(shown: &GateStatus, status: &GateStatus) -> bool {
    let bare = |status: &GateStatus| {
        let mut status = status.clone();
        for condition in &mut status.conditions {
            condition.last_transition_time =
                k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
        }
        status
    };
    bare(shown) == bare(status)
}

fn render(context: &Context, subject: &Subject<'_>, facts: &Facts, decision: &Decision) -> GateStatus {
    let state = &decision.state;
    let attempt = state.attempt.as_ref();
    let mut status = GateStatus {
        observed_generation: subject.gate.metadata.generation.unwrap_or(0),
        ..GateStatus::default()
    };
    status.remember(state);
    status.step = attempt.and_then(|attempt| step(attempt, subject.frozen.plan.steps.len()));
    status.weight = Some(i64::from(weight(facts, decision)));
    status.decision = Some(decision.outcome);
    status.reason = Some(decision.reason.word().to_owned());
    let message = message(context, subject, facts, decision);
    status.analysis = context.frozen(subject, state.epoch).and_then(|frozen| {
        let (name, uid) = frozen.object.clone()?;
        Some(AnalysisRef { name, uid })
    });
    status.analysis = status
        .analysis
        .or_else(|| subject.gate.status.as_ref()?.analysis.clone());
    status.github = context.github_status(subject);
    status.conditions = conditions(subject, decision, &message, context.now());
    status.message = Some(message);
    status
}

/// The step as people count: from 1.
fn step(attempt: &Attempt, steps: usize) -> Option<String> {
    match attempt.stage {
        Stage::Preparing => Some(format!("0/{steps}")),
        Stage::Stepping(step) => Some(format!("{}/{steps}", step.saturating_add(1))),
        Stage::HandingOver | Stage::Restoring => Some(format!("{steps}/{steps}")),
        Stage::Aborting(_) | Stage::Rejected(_) => None,
    }
}

/// The canary's share after the effects of this pass.
fn weight(facts: &Facts, decision: &Decision) -> u8 {
    let mut weight = facts
        .routes
        .iter()
        .map(|route| route.split.exposure())
        .max()
        .unwrap_or_default();
    for effect in &decision.effects {
        match effect {
            Effect::Write(mark) => weight = mark.weight,
            Effect::Restore => weight = crate::decision::Percent::ZERO,
            _ => {}
        }
    }
    weight.get()
}

/// Why, with names and numbers.
fn message(context: &Context, subject: &Subject<'_>, facts: &Facts, decision: &Decision) -> String {
    let uid = subject.gate.uid().unwrap_or_default();
    let blocked = || {
        let found = |known: &Known| Some(known.preflight.as_ref()?.findings.join("; "));
        let found = context.memory.read(&subject.key, &uid, found);
        found.filter(|findings| !findings.is_empty())
    };
    let marked = || {
        facts
            .routes
            .iter()
            .find_map(|route| Some(route.mark.as_ref()?.record.rule.clone()))
    };
    let recorded = || {
        let newest = |known: &Known| known.records.last().map(|record| record.rule.clone());
        context.memory.read(&subject.key, &uid, newest).or_else(marked)
    };
    let judged = || {
        let rule = facts.judged.as_ref().map(|judged| judged.rule.clone());
        rule.filter(|rule| !rule.is_empty())
    };
    let told = match decision.reason {
        Reason::Preflight => blocked(),
        Reason::Rejected => {
            recorded().map(|rule| format!("{}. {}", rule.trim_end_matches('.'), decision.reason.sentence()))
        }
        Reason::NoEvidence => decision
            .state
            .attempt
            .as_ref()
            .and_then(|attempt| crate::decision::blindness(&subject.frozen.plan, attempt, facts, context.now())),
        _ if decision.outcome == Outcome::Abort => recorded(),
        Reason::Safe | Reason::NoHarm => judged(),
        _ => None,
    };
    clipped(&told.unwrap_or_else(|| decision.reason.sentence().to_owned()))
}

/// kstatus: Ready when nothing is in flight; Reconciling while a release is; Stalled when it was
/// refused or a person is needed; Held while a template is held.
fn conditions(subject: &Subject<'_>, decision: &Decision, message: &str, now: Millis) -> Vec<Condition> {
    let generation = subject.gate.metadata.generation.unwrap_or(0);
    let attempt = decision.state.attempt.as_ref();
    let refused = attempt.is_some_and(|attempt| matches!(attempt.stage, Stage::Rejected(_)));
    let in_flight = attempt.is_some() && !refused;
    let adopted = decision.state.proven.is_some();
    let why = (decision.reason, message);
    let mut wanted = vec![condition(
        "Ready",
        !in_flight && !refused && adopted,
        generation,
        now,
        why,
    )];
    if in_flight || !adopted {
        wanted.push(condition("Reconciling", true, generation, now, why));
    }
    if refused {
        wanted.push(condition("Stalled", true, generation, now, why));
    }
    if attempt.is_some() {
        let waits = decision.outcome == Outcome::Hold || refused;
        wanted.push(condition("Held", waits, generation, now, why));
    }
    let before = subject.gate.status.as_ref();
    kept_times(wanted, before.map_or(&[], |status| status.conditions.as_slice()))
}

fn condition(type_: &str, is: bool, generation: i64, now: Millis, (reason, message): (Reason, &str)) -> Condition {
    Condition::new(type_, is, generation, now, (reason.word(), message))
}
