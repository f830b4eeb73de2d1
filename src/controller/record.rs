//! The CanaryAnalysis as the record of one attempt: verdict, numbers, decisions, judge's memory.

use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::api::{AnalysisStatus, CanaryAnalysis, Condition, DecisionEntry, MetricReading};
use crate::decision::{Judged, Outcome, Percent, Reason, Record};

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
        conditions: conditions(records),
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
fn conditions(records: &[Record]) -> Vec<Condition> {
    let Some((record, before)) = records.split_last() else {
        return Vec::new();
    };
    let ended = has_passed(record, before)
        || matches!(
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

/// Whether a decision is that of the commit point. It bears the judge's reason; what tells it from the
/// one that began its step is that the step had begun already. (Without a holdback both give the canary
/// everything.)
fn has_passed(record: &Record, before: &[Record]) -> bool {
    let goes_on = |one: &Record| one.outcome == Outcome::Promote && one.step == record.step;
    record.to == Percent::ALL && goes_on(record) && before.iter().any(goes_on)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ConditionStatus;
    use crate::decision::{Millis, Revision};

    fn record(outcome: Outcome, reason: Reason, step: usize, to: i64) -> Record {
        Record {
            id: "1-0".into(),
            at: Millis(0),
            outcome,
            reason,
            revision: Revision("r2".into()),
            step,
            from: Percent::ZERO,
            to: Percent::try_from(to).expect("a percentage"),
            rule: "why".into(),
            evidence_hash: String::new(),
            policy_hash: String::new(),
            by: None,
        }
    }

    #[test]
    fn a_record_is_ready_when_its_attempt_is_over_and_stalled_when_it_was_refused() {
        use Outcome::{Abort, Promote};
        let began = |step, to| record(Promote, Reason::Safe, step, to);
        let cases = [
            ("in flight", vec![began(0, 5), began(1, 95)], "Reconciling"),
            (
                "at 100 % without a holdback",
                vec![began(0, 5), began(1, 100)],
                "Reconciling",
            ),
            (
                "past the commit point",
                vec![began(0, 5), began(1, 95), record(Promote, Reason::NoHarm, 1, 100)],
                "Ready",
            ),
            (
                "the same without a holdback",
                vec![began(1, 100), record(Promote, Reason::Safe, 1, 100)],
                "Ready",
            ),
            (
                "refused",
                vec![began(0, 5), record(Abort, Reason::Harm, 0, 0)],
                "Stalled",
            ),
            (
                "replaced",
                vec![began(0, 5), record(Abort, Reason::Superseded, 0, 0)],
                "Ready",
            ),
            (
                "taken back",
                vec![began(0, 5), record(Abort, Reason::Reverted, 0, 0)],
                "Ready",
            ),
        ];
        for (what, records, expected) in cases {
            let found = conditions(&records);
            let is: Vec<_> = found
                .iter()
                .filter(|one| one.status == ConditionStatus::True)
                .map(|one| one.type_.as_str())
                .collect();
            assert_eq!(is, [expected], "{what}");
        }
        assert!(conditions(&[]).is_empty(), "nothing was decided yet");
    }
}
