//! Tells others what was decided: events, metrics, the audit export, GitHub. None of them can hold
//! a release up.

use std::time::Duration;

use kube::Resource;

use crate::decision::{Attempt, Decision, Facts, Outcome, Percent, Reading, Reason, Stage, Verdict};
use crate::github::{self, ReportState};

use super::context::Context;
use super::gather::Subject;
use super::record;

/// Tells what a pass came to. Called after the effects are done and the state is stored. `acted` is
/// how long after the tick that it decided on was counted the effects were done.
pub async fn tell(
    context: &Context,
    subject: &Subject<'_>,
    facts: &Facts,
    decision: &Decision,
    acted: Option<Duration>,
) {
    context.metrics.held(&subject.key.to_string(), held(decision));
    if decision.state == subject.state {
        return;
    }
    context.metrics.decided(decision.outcome, decision.reason);
    if decision.reason == Reason::Unheld
        && let Some(proven) = &decision.state.proven
        && subject.state.proven.as_ref() != Some(proven)
    {
        let (gate, text) = (subject.gate.object_ref(&()), format!("It is revision {proven}."));
        context
            .events
            .held(&gate, decision.state.epoch, 0, Reason::Unheld, &text);
    }
    let record = decision.written().map(|mark| mark.record.clone());
    if let Some(record) = &record {
        context.audit.record(&subject.key.namespace, &subject.key.name, record);
        if record.outcome == Outcome::Abort
            && is_measured(record.reason)
            && let Some(acted) = acted
        {
            context.metrics.aborted(acted);
        }
    }
    if told(subject, decision) {
        if let Some(record) = &record {
            context
                .events
                .decided(&subject.gate.object_ref(&()), subject.state.epoch, record);
        }
        report_to_github(context, subject, facts, decision);
        if let Err(error) = record::save(context, &subject.key, facts.judged.as_ref()).await {
            tracing::warn!(gate = %subject.key, %error, "the analysis was not saved");
        }
    }
    tracing::info!(
        gate = %subject.key,
        outcome = decision.outcome.word(),
        reason = decision.reason.word(),
        stage = ?decision.state.attempt.as_ref().map(|attempt| attempt.stage),
        rule = record.as_ref().map(|record| record.rule.as_str()),
        "decided"
    );
}

/// Why a release waits; nothing when it does not.
fn held(decision: &Decision) -> Option<Reason> {
    let waits = decision.outcome == Outcome::Hold && decision.state.attempt.is_some();
    waits.then_some(decision.reason)
}

/// Whether the numbers decided.
const fn is_measured(reason: Reason) -> bool {
    matches!(reason, Reason::Harm | Reason::LimitExceeded | Reason::RuleAborts)
}

/// Whether people want to hear of it: a stage or a step was reached, or a release ended.
fn told(subject: &Subject<'_>, decision: &Decision) -> bool {
    let stage = |state: &crate::decision::State| state.attempt.as_ref().map(|attempt| (attempt.epoch, attempt.stage));
    let (before, after) = (stage(&subject.state), stage(&decision.state));
    let quiet = matches!(after, Some((_, Stage::Restoring | Stage::Rejected(_))));
    before != after && !quiet
}

fn report_to_github(context: &Context, subject: &Subject<'_>, facts: &Facts, decision: &Decision) {
    let (Some(reporter), Some(target)) = (&context.github, subject.gate.spec.github.as_ref()) else {
        return;
    };
    let Some(attempt) = decision.state.attempt.as_ref().or(subject.state.attempt.as_ref()) else {
        return;
    };
    let state = match (decision.reason, attempt.stage) {
        (Reason::Completed, _) => ReportState::Completed,
        (Reason::Superseded | Reason::Reverted, _) => ReportState::Superseded,
        (_, Stage::Aborting(_) | Stage::Rejected(_)) => ReportState::Aborted,
        (_, Stage::Preparing) => ReportState::Preparing,
        (_, Stage::Stepping(_) | Stage::HandingOver | Stage::Restoring) => ReportState::Stepping,
    };
    let Some(sha) = commit(context, subject, attempt) else {
        return;
    };
    let reading = facts.judged.as_ref().and_then(|judged| deciding(&judged.readings));
    let why = why(decision, reading);
    let numbers = numbers(subject, attempt, (reading, &why));
    reporter.submit(github::Report {
        gate_uid: subject.gate.metadata.uid.clone().unwrap_or_default(),
        gate: subject.key.to_string(),
        repository: target.repository.clone(),
        environment: target
            .environment
            .clone()
            .unwrap_or_else(|| subject.gate.spec.environment.clone()),
        sha,
        revision: attempt.revision.0.clone(),
        description: github::describe(state, &numbers),
        state,
        log_url: None,
    });
}

/// The commit of an attempt: as it was frozen, and what the Deployment says only while it carries
/// the revision on trial.
fn commit(context: &Context, subject: &Subject<'_>, attempt: &Attempt) -> Option<String> {
    let frozen = context.frozen(subject, attempt.epoch);
    frozen
        .and_then(|frozen| frozen.spec.commit.clone())
        .or_else(|| context.commit(subject.gate, &attempt.revision))
}

/// The metric that decided: the one that failed, else the one that is missing, else the one that is
/// furthest from safe.
fn deciding(readings: &[Reading]) -> Option<&Reading> {
    let rank = |reading: &Reading| match reading.verdict {
        Verdict::Fail(_) => 0,
        Verdict::Inconclusive(Reason::NoEvidence) => 1,
        Verdict::Inconclusive(_) => 2,
        Verdict::Pass(_) => 3,
    };
    let safety = |reading: &Reading| reading.safety[0] - reading.safety[1];
    readings
        .iter()
        .min_by(|a, b| rank(a).cmp(&rank(b)).then(safety(a).total_cmp(&safety(b))))
}

/// The reason's word, with the metric or the person behind it.
fn why(decision: &Decision, reading: Option<&Reading>) -> String {
    let word = decision.reason.word();
    let by = decision.written().and_then(|mark| mark.record.by.clone());
    let metric = reading
        .filter(|_| is_measured(decision.reason) || decision.reason == Reason::EvidenceDeadline)
        .map(|reading| reading.metric.clone());
    by.or(metric)
        .map_or_else(|| word.to_owned(), |behind| format!("{word}: {behind}"))
}

/// The numbers of the metric that decided, and where the release is.
fn numbers<'a>(
    subject: &Subject<'_>,
    attempt: &Attempt,
    (reading, why): (Option<&Reading>, &'a str),
) -> github::Numbers<'a> {
    let plan = &subject.frozen.plan;
    let step = if let Stage::Stepping(step) = attempt.stage {
        Some(step)
    } else {
        None
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of requests"
    )]
    let requests = reading
        .filter(|reading| reading.unit.is_requests())
        .map(|reading| reading.canary[1] as u64);
    github::Numbers {
        weight: step.map(|step| plan.weight_at(step)).or_else(|| subject.weight()),
        requests,
        ratio: reading.and_then(|reading| reading.ratio),
        next: step
            .map(|step| plan.weight_at(step.saturating_add(1)))
            .filter(|next| *next > Percent::ZERO),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(metric: &str, verdict: Verdict, safety: f64) -> Reading {
        Reading {
            metric: metric.to_owned(),
            method: crate::decision::MethodName::Sequential,
            unit: crate::decision::Unit::Requests,
            verdict,
            canary: [0.0; 2],
            baseline: [0.0; 2],
            ratio: None,
            interval: None,
            difference: None,
            dispersion: 1.0,
            harm: [0.0; 2],
            safety: [safety, 3.0],
            need: None,
            gaps: vec![],
        }
    }

    #[test]
    fn the_metric_that_decided_is_told_about() {
        let open = || Verdict::Inconclusive(Reason::Undecided);
        let cases = [
            (
                vec![
                    reading("errors", open(), -9.0),
                    reading("latency", Verdict::Fail(Reason::Harm), 1.0),
                ],
                Some("latency"),
            ),
            (
                vec![
                    reading("errors", open(), -9.0),
                    reading("latency", Verdict::Inconclusive(Reason::NoEvidence), 0.0),
                ],
                Some("latency"),
            ),
            (
                vec![reading("errors", open(), 1.0), reading("latency", open(), 0.5)],
                Some("latency"),
            ),
            (
                vec![
                    reading("errors", Verdict::Pass(Reason::Safe), 3.5),
                    reading("latency", open(), 4.0),
                ],
                Some("latency"),
            ),
            (vec![], None),
        ];
        for (readings, expected) in cases {
            assert_eq!(deciding(&readings).map(|reading| reading.metric.as_str()), expected);
        }
    }
}
