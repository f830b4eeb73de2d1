//! The plan of an attempt: frozen in a CanaryAnalysis, and read back from it.

use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::{Api, Resource, ResourceExt};

use crate::api::{
    Analysis, Arms, CanaryAnalysis, CanaryAnalysisSpec, DecisionEntry, GateRef, Invalid, ReleaseGate, labels,
};
use crate::decision::{Attempt, Millis, Plan, Record, Revision};
use crate::routers::canary_service;
use crate::trial;

use super::canary;
use super::context::{Context, Error, bounded};
use super::crash::Write;
use super::memory::GateKey;

/// A plan with what belongs to it.
#[derive(Debug, Clone)]
pub struct Frozen {
    /// What the machine goes by.
    pub plan: Plan,
    /// The whole of it.
    pub spec: CanaryAnalysisSpec,
    /// Stable's size when the attempt began.
    pub stable_pods: i64,
    /// The judge's memory as it was saved last, if it was.
    pub judge_state: Option<String>,
    /// The decisions that the CanaryAnalysis had when it was read.
    pub decided: Vec<Record>,
    /// Name and uid of the CanaryAnalysis; none at rest.
    pub object: Option<(String, String)>,
}

/// The source that an attempt is judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its name.
    pub name: String,
    /// Seconds between two looks at it.
    pub interval: i64,
    /// Seconds between two of its scrapes.
    pub scrape: i64,
}

/// The plan that an attempt of this gate would get now.
///
/// # Errors
/// [`Invalid`] naming the field of the gate.
pub fn draft(
    gate: &ReleaseGate,
    asked: Asked,
    (revision, epoch, stable_pods): (&Revision, i64, i64),
) -> Result<Frozen, Invalid> {
    let target = &gate.spec.target;
    let spec = CanaryAnalysisSpec {
        gate: Some(GateRef {
            name: gate.name_any(),
            uid: gate.uid().unwrap_or_default(),
        }),
        external: None,
        revision: revision.0.clone(),
        commit: None,
        epoch,
        target: Arms {
            workload: target.workload.name.clone(),
            service: target.service.clone(),
            canary_workload: canary::deployment_name(&target.workload.name),
            canary_service: canary_service(&target.service),
            stable_pods,
        },
        steps: gate.spec.steps.clone(),
        analysis: Analysis {
            source: Some(asked.name),
            ..gate.spec.analysis.clone()
        },
        policy: gate.spec.policy.clone(),
        canary: gate.spec.canary.clone(),
        deadlines: gate.spec.deadlines.clone(),
        interval_seconds: asked.interval,
        scrape_seconds: asked.scrape,
        offset_milliseconds: 0,
        policy_hash: String::new(),
    }
    .sealed();
    trial::check(&spec)?;
    Ok(Frozen {
        plan: spec.plan()?,
        stable_pods,
        judge_state: None,
        decided: vec![],
        object: None,
        spec,
    })
}

/// The gate with defaults for everything but what it is about. A gate that goes must find its way
/// out, whatever else cannot be understood about it.
#[must_use]
pub fn bare(gate: &ReleaseGate) -> Option<ReleaseGate> {
    let spec = serde_json::json!({"target": gate.spec.target, "traffic": gate.spec.traffic});
    let spec = serde_json::from_value(spec).ok()?;
    Some(ReleaseGate { spec, ..gate.clone() })
}

/// The name of an attempt's CanaryAnalysis: fixed, so that creating it twice is creating it once.
#[must_use]
pub fn name(gate: &str, epoch: i64) -> String {
    format!("{gate}-{epoch}")
}

/// Freezes a plan for an attempt, or finds it frozen.
///
/// # Errors
/// When the API server refuses, or an object of that name is not this attempt's.
pub async fn freeze(
    context: &Context,
    gate: &ReleaseGate,
    attempt: &Attempt,
    stable_pods: i64,
) -> Result<Frozen, Error> {
    let mut draft = draft(
        gate,
        context.asked(&gate.spec.analysis),
        (&attempt.revision, attempt.epoch, stable_pods),
    )
    .map_err(|error| Error::Refused(error.to_string()))?;
    draft.spec.commit = context.commit(gate, &attempt.revision);
    draft.spec.offset_milliseconds = context
        .judge
        .next_offset(Millis::from_secs(draft.spec.interval_seconds))
        .0;
    let name = name(&gate.name_any(), attempt.epoch);
    let mut object = CanaryAnalysis::new(&name, draft.spec);
    object.metadata = ObjectMeta {
        owner_references: gate.controller_owner_ref(&()).map(|owner| vec![owner]),
        labels: Some([(labels::GATE.to_owned(), gate.name_any())].into()),
        ..object.metadata
    };
    let api = api(context, gate);
    forget_old(context, gate, &api, attempt.epoch).await?;
    let created = context
        .write(Write::Freeze, api.create(&PostParams::default(), &object))
        .await;
    match created {
        Ok(object) => thaw(&object),
        Err(error) if error.is_conflict() => read(context, gate, attempt).await?.ok_or(Error::Conflict(name)),
        Err(error) => Err(error),
    }
}

/// Attempts whose record is kept.
const KEPT: i64 = 20;

/// Removes the record that is one too old. The audit log keeps its decisions.
async fn forget_old(context: &Context, gate: &ReleaseGate, api: &Api<CanaryAnalysis>, epoch: i64) -> Result<(), Error> {
    if epoch <= KEPT {
        return Ok(());
    }
    let old = name(&gate.name_any(), epoch - KEPT);
    match context
        .write(Write::Freeze, api.delete(&old, &DeleteParams::background()))
        .await
    {
        Ok(_) => Ok(()),
        Err(Error::Kube(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Reads the plan of an attempt; nothing, when it was never frozen or has been deleted.
///
/// # Errors
/// When the API server does not answer, or the object cannot be understood.
pub async fn read(context: &Context, gate: &ReleaseGate, attempt: &Attempt) -> Result<Option<Frozen>, Error> {
    let name = name(&gate.name_any(), attempt.epoch);
    match bounded("read CanaryAnalysis", api(context, gate).get_opt(&name)).await? {
        Some(object) if object.spec.revision == attempt.revision.0 => thaw(&object).map(Some),
        Some(object) => Err(Error::Refused(format!(
            "CanaryAnalysis {name} is about revision {}, not {}; delete it",
            object.spec.revision, attempt.revision
        ))),
        None => Ok(None),
    }
}

fn thaw(object: &CanaryAnalysis) -> Result<Frozen, Error> {
    let plan = object.spec.plan().map_err(|error| Error::Refused(error.to_string()))?;
    let record = |entry: &DecisionEntry| entry.record(&object.spec.revision, &object.spec.policy_hash).ok();
    let decisions = object.status.iter().flat_map(|status| &status.decisions);
    Ok(Frozen {
        decided: decisions.filter_map(record).collect(),
        plan,
        stable_pods: object.spec.target.stable_pods,
        judge_state: object.status.as_ref().and_then(|status| status.judge_state.clone()),
        object: Some((object.name_any(), object.uid().unwrap_or_default())),
        spec: object.spec.clone(),
    })
}

fn api(context: &Context, gate: &ReleaseGate) -> Api<CanaryAnalysis> {
    Api::namespaced(context.client.clone(), &gate.namespace().unwrap_or_default())
}

/// The key of a gate.
#[must_use]
pub fn key(gate: &ReleaseGate) -> GateKey {
    GateKey {
        namespace: gate.namespace().unwrap_or_default(),
        name: gate.name_any(),
    }
}
