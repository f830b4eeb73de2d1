//! Analyses whose traffic somebody else moves: follows their Rollouts, has the judge look, and
//! records what it comes to. It writes the status of analyses and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::api::{GroupVersionKind, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, PredicateConfig, WatchStreamExt, controller, predicates};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::api::{
    AnalysisStatus, Arms, CanaryAnalysis, CanaryAnalysisSpec, Condition, DecisionEntry, Invalid, kept_times, labels,
};
use crate::decision::{Judged, Millis, Record};
use crate::routers::{Rollout, external};
use crate::trial::Trial;

use super::context::{Context, Error};
use super::course::{self, Trialled};
use super::crash::Write;
use super::judge::Turn;
use super::memory::GateKey;
use super::objects;
use super::run::{self, Scope, Watched};

/// Passes at the same time.
const CONCURRENCY: u16 = 16;

/// A status that tells of ordinary waiting is written at most this often, ...
const REFRESH: Millis = Millis::from_secs(15);

/// ... and the judge's memory with the newest numbers at least this often.
const SAVE: Millis = Millis::from_secs(60);

/// Looks again at a quiet analysis this often, in case a watch has missed something.
const RESYNC: Duration = Duration::from_secs(600);

/// Most decisions that are kept.
const DECISIONS: usize = 20;

/// The caches and what keeps them fresh.
pub struct Caches {
    /// Analyses that stand alone.
    pub analyses: Store<CanaryAnalysis>,
    /// Rollouts, if the cluster has them.
    pub rollouts: Store<Rollout>,
    streams: (Watched<CanaryAnalysis>, Watched<Rollout>),
    filled: CancellationToken,
}

/// Prepares the watches; they begin when they are polled.
#[must_use]
pub fn caches(client: &Client, scope: &Scope) -> Caches {
    // What a gate froze carries the gate's label, and is read by its name.
    let alone = run::config().labels(&format!("!{}", labels::GATE));
    let (analyses, analysis_stream, filled) = run::cache(scope.api::<CanaryAnalysis>(client), alone);
    let (rollouts, rollout_stream, _) = run::cache(scope.api::<Rollout>(client), run::config());
    let gvk = GroupVersionKind::gvk(external::GROUP, external::VERSION, "Rollout");
    let client = client.clone();
    let rollout_stream = futures::stream::once(async move { run::until_served(&client, &gvk).await })
        .flat_map(|()| futures::stream::empty())
        .chain(rollout_stream)
        .boxed();
    Caches {
        analyses,
        rollouts,
        streams: (analysis_stream, rollout_stream),
        filled,
    }
}

impl Caches {
    /// Waits until the analyses have been seen once. Without their Rollouts they say to wait.
    pub fn ready(&self) -> impl Future<Output = ()> + Send + 'static {
        let filled = self.filled.clone();
        async move { filled.cancelled().await }
    }
}

/// What passes share.
struct Shared {
    context: Arc<Context>,
    rollouts: Store<Rollout>,
    /// What was written last, with its version: the watch may still show an older one.
    written: Mutex<HashMap<GateKey, Written>>,
}

/// A status as we know it.
#[derive(Clone)]
struct Written {
    uid: String,
    version: String,
    status: AnalysisStatus,
    at: Millis,
}

/// Runs passes until it is told to stop.
pub async fn run(
    context: Arc<Context>,
    caches: Caches,
    woken: tokio::sync::mpsc::UnboundedReceiver<GateKey>,
    stop: CancellationToken,
) {
    let Caches {
        analyses,
        rollouts,
        streams,
        ..
    } = caches;
    let (changed, moved) = streams;
    let leadership = context.leadership.clone();
    let shared = Arc::new(Shared {
        context,
        rollouts,
        written: Mutex::default(),
    });
    let named = analyses.clone();
    let concerned = move |rollout: Rollout| {
        let names = |analysis: &CanaryAnalysis| {
            let external = analysis.spec.external.as_ref();
            analysis.namespace() == rollout.namespace()
                && external.is_some_and(|external| external.rollout == rollout.name_any())
        };
        let found = named.state_filter(|analysis| names(analysis));
        found
            .iter()
            .map(|analysis| ObjectRef::from_obj(&**analysis))
            .collect::<Vec<_>>()
    };
    let changed = changed.predicate_filter(predicates::generation, PredicateConfig::default());
    let woken = UnboundedReceiverStream::new(woken).filter_map(async |key| {
        let name = key.is_alone()?;
        Some(ObjectRef::new(name).within(&key.namespace))
    });
    Controller::for_stream(changed, analyses)
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .watches_stream(moved, concerned)
        .reconcile_on(woken)
        .reconcile_all_on(run::leading(leadership))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(pass, on_error, shared)
        .for_each(|result| async {
            if let Err(error) = result {
                tracing::debug!(%error, "queue of analyses");
            }
        })
        .await;
}

#[expect(clippy::needless_pass_by_value, reason = "the queue calls it so")]
fn on_error(analysis: Arc<CanaryAnalysis>, error: &Error, shared: Arc<Shared>) -> Action {
    shared.context.metrics.failed(error.fault());
    tracing::warn!(analysis = %analysis.name_any(), %error, "the analysis was not brought up to date");
    shared.forget(&key(&analysis));
    Action::requeue(Duration::from_secs(1))
}

fn key(analysis: &CanaryAnalysis) -> GateKey {
    GateKey::alone(&analysis.namespace().unwrap_or_default(), &analysis.name_any())
}

impl Shared {
    fn forget(&self, key: &GateKey) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn known(&self, analysis: &CanaryAnalysis) -> Written {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = analysis.uid().unwrap_or_default();
        written
            .get(&key(analysis))
            .filter(|known| known.uid == uid)
            .cloned()
            .unwrap_or_else(|| Written {
                uid,
                version: analysis.resource_version().unwrap_or_default(),
                status: analysis.status.clone().unwrap_or_default(),
                at: Millis(0),
            })
    }
}

/// One pass over one analysis.
async fn pass(analysis: Arc<CanaryAnalysis>, shared: Arc<Shared>) -> Result<Action, Error> {
    let (context, key) = (&shared.context, key(&analysis));
    let Some(external) = &analysis.spec.external else {
        return Ok(Action::await_change());
    };
    if !context.leadership.may_raise(tokio::time::Instant::now()) {
        context.judge.dismiss(&key);
        shared.forget(&key);
        return Ok(Action::await_change());
    }
    let known = shared.known(&analysis);
    let now = context.now();
    let mut status = known.status.clone();
    let generation = analysis.metadata.generation.unwrap_or_default();
    let found = shared
        .rollouts
        .get(&ObjectRef::new(&external.rollout).within(&key.namespace));
    let (told, record, wake_at) = match step(context, &analysis, found.as_deref(), &mut status, now) {
        Ok((record, wake_at)) => (Ok(found.is_some()), record, wake_at),
        Err(invalid) => (Err(invalid.to_string()), None, None),
    };
    status.observed_generation = generation;
    conditions(&mut status, (generation, &external.rollout), told, now);
    if let Some(record) = &record {
        context.audit.record(&key.namespace, &analysis.name_any(), record);
        context.metrics.decided(record.outcome, record.reason);
        tracing::info!(analysis = %key, outcome = record.outcome.word(), reason = record.reason.word(), rule = record.rule, "decided");
    }
    if is_due(&known, &status, now) {
        status.judge_state = context.judge.snapshot(&key).or(status.judge_state);
        store(&shared, (&analysis, &known), status, now).await?;
    }
    let wait = wake_at.map_or(RESYNC, |at| {
        Duration::from_millis(u64::try_from((at - now).0).unwrap_or(0).max(1))
    });
    Ok(Action::requeue(wait.min(RESYNC)))
}

/// Follows the Rollout and decides; what is to be recorded goes into `status`.
fn step(
    context: &Context,
    analysis: &CanaryAnalysis,
    rollout: Option<&Rollout>,
    status: &mut AnalysisStatus,
    now: Millis,
) -> Result<(Option<Record>, Option<Millis>), Invalid> {
    let key = key(analysis);
    let known = status.trial.as_ref().map(Trialled::read).transpose()?;
    let asked = context.asked(&analysis.spec.analysis);
    let mut spec = analysis.spec.clone();
    (spec.interval_seconds, spec.scrape_seconds) = (asked.interval, asked.scrape);
    let spec = spec.sealed();
    let plan = spec.plan()?;
    let Some(course) = rollout.and_then(Rollout::course) else {
        return Ok((None, None));
    };
    let epoch = known.as_ref().map_or(0, |known| known.attempt.epoch);
    let Some(trial) = course::follow(&plan, (known.as_ref(), epoch), &course, now) else {
        return Ok((None, None));
    };
    let begun = known
        .as_ref()
        .is_none_or(|known| known.attempt.epoch != trial.attempt.epoch);
    if begun {
        // What was measured speaks of another revision.
        *status = AnalysisStatus {
            decisions: std::mem::take(&mut status.decisions),
            conditions: std::mem::take(&mut status.conditions),
            ..AnalysisStatus::default()
        };
    }
    let judged = attend(
        context,
        (&key, &spec, &asked.name),
        &trial,
        (rollout, status.judge_state.as_deref()),
    )?;
    if let Some(judged) = &judged {
        status.judged(judged);
    }
    let look = course::look(&plan, &trial, judged, now);
    if look.trial.step().is_none() {
        context.judge.dismiss(&key);
    }
    if let Some(record) = &look.record {
        status.decisions.push(DecisionEntry::from(record));
        let surplus = status.decisions.len().saturating_sub(DECISIONS);
        status.decisions.drain(..surplus);
    }
    status.trial = Some(look.trial.status());
    Ok((look.record, look.wake_at))
}

/// Has the judge look at the two ReplicaSets, and says what it has found so far.
fn attend(
    context: &Context,
    (key, spec, source): (&GateKey, &CanaryAnalysisSpec, &str),
    trial: &Trialled,
    (rollout, saved): (Option<&Rollout>, Option<&str>),
) -> Result<Option<Judged>, Invalid> {
    let Some(step) = trial.step() else {
        return Ok(None);
    };
    let attempt = &trial.attempt;
    let name = spec
        .external
        .as_ref()
        .map(|external| external.rollout.as_str())
        .unwrap_or_default();
    context.judge.attend(key, (attempt.epoch, step, attempt.since), || {
        let resolved = CanaryAnalysisSpec {
            revision: attempt.revision.0.clone(),
            epoch: attempt.epoch,
            target: Arms {
                workload: Rollout::replica_set(name, &trial.stable),
                canary_workload: Rollout::replica_set(name, &attempt.revision.0),
                stable_pods: rollout.and_then(|rollout| rollout.spec.replicas).unwrap_or(1),
                ..Arms::default()
            },
            ..spec.clone()
        };
        let opened = Trial::open((&key.namespace, &key.name), &resolved, saved)?;
        Ok((opened, Turn::of(spec, source.to_owned())))
    })
}

/// Ready: the plan can be followed. Stalled: it cannot, or there is no Rollout of that name.
fn conditions(
    status: &mut AnalysisStatus,
    (generation, rollout): (i64, &str),
    told: Result<bool, String>,
    now: Millis,
) {
    let wrong = match told {
        Ok(true) => None,
        Ok(false) => Some((
            "WorkloadMissing",
            format!("there is no Rollout {rollout} in this namespace"),
        )),
        Err(invalid) => Some(("Invalid", invalid)),
    };
    let condition = |type_: &str, is: bool, why: (&str, &str)| Condition::new(type_, is, generation, now, why);
    let made = match &wrong {
        None => vec![condition(
            "Ready",
            true,
            ("Followed", "every new revision is judged by this plan"),
        )],
        Some((reason, message)) => vec![
            condition("Ready", false, (reason, message)),
            condition("Stalled", true, (reason, message)),
        ],
    };
    status.conditions = kept_times(made, &status.conditions);
}

/// Whether a status says enough that is new to be written now.
fn is_due(known: &Written, status: &AnalysisStatus, now: Millis) -> bool {
    let gist = |status: &AnalysisStatus| {
        let trial = status
            .trial
            .clone()
            .map(|trial| (trial.attempt, trial.weight, trial.decision, trial.stable));
        (status.observed_generation, status.conditions.clone(), trial)
    };
    if gist(&known.status) != gist(status) {
        return true;
    }
    let stepping = status
        .trial
        .as_ref()
        .is_some_and(|trial| trial.attempt.at_step.is_some());
    let age = now - known.at;
    known.status != *status && age >= REFRESH || stepping && status.judged_at != known.status.judged_at && age >= SAVE
}

/// Writes a status as a compare-and-swap on the version that was read.
async fn store(
    shared: &Shared,
    (analysis, known): (&CanaryAnalysis, &Written),
    status: AnalysisStatus,
    now: Millis,
) -> Result<(), Error> {
    let key = key(analysis);
    let api = objects::writes::<CanaryAnalysis>(&shared.context.client, &key.namespace);
    let mut value = json!(status);
    nulls(&mut value, &json!(known.status));
    let patch = json!({"metadata": {"resourceVersion": known.version}, "status": value});
    let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
    let name = analysis.name_any();
    let written = shared
        .context
        .write(Write::AnalysisStatus, api.patch_status(&name, &params, &patch))
        .await?;
    let written = Written {
        uid: known.uid.clone(),
        version: written.resource_version().unwrap_or_default(),
        status,
        at: now,
    };
    shared
        .written
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(key, written);
    Ok(())
}

/// Names what is gone from an object, and from the objects in it: a merge takes away only what is null.
fn nulls(new: &mut serde_json::Value, old: &serde_json::Value) {
    let (Some(new), Some(old)) = (new.as_object_mut(), old.as_object()) else {
        return;
    };
    for (field, before) in old {
        match new.get_mut(field) {
            Some(after) => nulls(after, before),
            None => {
                new.insert(field.clone(), serde_json::Value::Null);
            }
        }
    }
}
