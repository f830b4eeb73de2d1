//! The CanaryAnalysis as the record of one attempt: verdict, numbers, decisions, judge's memory.

use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::api::{AnalysisStatus, CanaryAnalysis, Condition, DecisionEntry, MetricReading};
use crate::decision::{Judged, Outcome, Reason, Record};

use super::context::{Context, Error};
use super::crash::Write;
use super::memory::GateKey;
use super::objects;

/// Saves what is known about the attempt of a gate: at every transition, with what was judged when
/// it was decided, and now and then. One write carries the decisions, the verdict and the judge's
/// memory; when nothing of that is new, none is made.
///
/// # Errors
/// When the API server refuses. Nothing depends on it at once: it is tried at the next occasion.
pub async fn save(context: &Context, key: &GateKey, judged: Option<&Judged>) -> Result<(), Error> {
    let Some((name, records, recorded)) = context.memory.attempt(key) else {
        return Ok(());
    };
    if judged.is_none() && (recorded || records.is_empty()) {
        return Ok(());
    }
    let status = status(judged, &records, context.judge.snapshot(key));
    let mut value = json!(status);
    if let Some(fields) = value.as_object_mut() {
        // A judge that has ended says nothing new; what it said last stays.
        if judged.is_none() {
            fields.retain(|field, _| ["conditions", "decisions", "observedGeneration"].contains(&field.as_str()));
        }
    }
    context.precedence.give_way().await;
    let api = objects::writes::<CanaryAnalysis>(&context.client, &key.namespace);
    let patch = json!({"status": value});
    let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
    match context
        .write(Write::AnalysisStatus, api.patch_status(&name, &params, &patch))
        .await
    {
        Ok(_) => {
            context.memory.recorded(key, &records);
            context.judge.saved(key, context.now());
            Ok(())
        }
        Err(Error::Kube(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

fn status(judged: Option<&Judged>, records: &[Record], memory: Option<String>) -> AnalysisStatus {
    let mut status = AnalysisStatus {
        observed_generation: 1,
        conditions: conditions(records.last()),
        decisions: records.iter().map(DecisionEntry::from).collect(),
        judge_state: memory,
        ..AnalysisStatus::default()
    };
    if let Some(judged) = judged {
        status.judged(judged);
        status.readings = judged.readings.iter().map(MetricReading::from).collect();
    }
    status
}

/// kstatus, by the newest decision: Stalled when the revision was refused, Ready when it passed or
/// the attempt ended otherwise, Reconciling before.
fn conditions(newest: Option<&Record>) -> Vec<Condition> {
    let Some(record) = newest else {
        return Vec::new();
    };
    let ended = matches!(
        record.reason,
        Reason::Committed | Reason::Superseded | Reason::Reverted | Reason::Unheld | Reason::Deleted
    );
    let refused = record.outcome == Outcome::Abort && !ended;
    let condition = |type_, is| Condition::new(type_, is, 1, record.at, (record.reason.word(), &record.rule));
    let mut conditions = vec![condition("Ready", ended)];
    if refused {
        conditions.push(condition("Stalled", true));
    } else if !ended {
        conditions.push(condition("Reconciling", true));
    }
    conditions
}
