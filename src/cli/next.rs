//! What a gate waits for, and until when.

use std::fmt::Write as _;

use serde::Serialize;

use super::units::{at, clock, span};
use crate::api::{CanaryAnalysis, ReleaseGate, VerdictWord, moment};
use crate::decision::{Attempt, Millis, OnInconclusive, Plan, Reason, Stage, Then};
use crate::judge::count;

/// What happens next, if nobody does anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Next {
    /// What is waited for.
    pub waits_for: String,
    /// Until when, RFC 3339; absent when there is no end to the wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// What happens then; absent when nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
    /// Whether a person has to do something.
    pub needs_person: bool,
}

impl Next {
    fn of(waits_for: impl Into<String>) -> Self {
        Self {
            waits_for: waits_for.into(),
            until: None,
            then: None,
            needs_person: false,
        }
    }

    fn person(waits_for: impl Into<String>) -> Self {
        Self {
            needs_person: true,
            ..Self::of(waits_for)
        }
    }

    /// For people: `a clear verdict, until 12:08:15Z (in 4m10s); then Hold, for a person`.
    #[must_use]
    pub fn sentence(&self, now: Millis) -> String {
        let mut text = self.waits_for.clone();
        if let Some(until) = self.until.as_deref().and_then(at) {
            let left = if until <= now {
                "due".to_owned()
            } else {
                format!("in {}", span(until - now))
            };
            let _ = write!(text, ", until {} ({left})", clock(until, now));
        }
        if let Some(then) = &self.then {
            let _ = write!(text, "; then {then}");
        }
        text
    }

    fn until(mut self, at: Millis, then: impl Into<String>) -> Self {
        self.until = Some(moment(at));
        self.then = Some(then.into());
        self
    }
}

/// What a gate waits for; nothing at rest.
#[must_use]
pub fn next(gate: &ReleaseGate, analysis: Option<&CanaryAnalysis>, now: Millis) -> Option<Next> {
    let status = gate.status.as_ref()?;
    let state = status.state().ok()?;
    let name = gate.metadata.name.as_deref().unwrap_or_default();
    let reason = status.reason.as_deref().unwrap_or_default();
    let Some(attempt) = &state.attempt else {
        return at_rest(gate, reason);
    };
    let frozen = analysis.filter(|analysis| analysis.spec.epoch == attempt.epoch);
    let plan = match frozen {
        Some(analysis) => analysis.spec.plan(),
        None => gate.spec.terms().plan(),
    };
    let plan = plan.ok()?;
    let course = Course {
        name,
        suspended: gate.spec.suspend,
        reason,
        attempt,
        plan: &plan,
        analysis: frozen,
        now,
    };
    Some(course.next())
}

fn at_rest(gate: &ReleaseGate, reason: &str) -> Option<Next> {
    let workload = &gate.spec.target.workload.name;
    let is = |known: Reason| reason == known.word();
    if is(Reason::NotRolledOut) {
        Some(Next::of(format!(
            "Deployment {workload} to be rolled out and not paused"
        )))
    } else if is(Reason::WorkloadMissing) {
        Some(Next::person(format!("Deployment {workload} to exist")))
    } else if is(Reason::Suspended) {
        Some(Next::person("spec.suspend to be false"))
    } else if is(Reason::Invalid) {
        Some(Next::person("the gate to be put right"))
    } else {
        None
    }
}

/// A release in flight.
struct Course<'a> {
    name: &'a str,
    suspended: bool,
    reason: &'a str,
    attempt: &'a Attempt,
    plan: &'a Plan,
    analysis: Option<&'a CanaryAnalysis>,
    now: Millis,
}

impl Course<'_> {
    fn next(&self) -> Next {
        let (attempt, deadlines) = (self.attempt, &self.plan.deadlines);
        match attempt.stage {
            Stage::Preparing | Stage::Stepping(_) if self.suspended => Next::person("spec.suspend to be false"),
            Stage::Preparing | Stage::Stepping(_) if attempt.hold.is_some() => {
                Next::person(format!("a person: tollgate resume, promote or abort {}", self.name))
            }
            Stage::Preparing => self.preparing(),
            Stage::Stepping(step) => self.stepping(step),
            Stage::HandingOver if self.is(Reason::HandoverDeadline) => Next::person(format!(
                "a person: stable does not reach revision {}; the canary keeps the traffic",
                attempt.revision
            )),
            Stage::HandingOver => Next::of(format!("stable to run revision {}", attempt.revision)).until(
                attempt.since + deadlines.handover,
                "a person is called; the canary keeps the traffic",
            ),
            Stage::Restoring => {
                Next::of("requests under way to end").until(attempt.since + deadlines.drain, "the canary is removed")
            }
            Stage::Aborting(_) => Next::of("requests under way to end").until(
                attempt.since + deadlines.drain,
                "the canary is removed and the revision stays refused",
            ),
            Stage::Rejected(_) => Next::person(format!("another revision, or tollgate retry {}", self.name)),
        }
    }

    fn is(&self, reason: Reason) -> bool {
        self.reason == reason.word()
    }

    fn preparing(&self) -> Next {
        if self.is(Reason::Preflight) {
            Next::person("what the message names to be put right")
        } else if self.is(Reason::RouteMissing) {
            Next::person("the gate's routes to exist and to name the service")
        } else if self.is(Reason::WorkloadMissing) {
            Next::person("the Deployment to exist")
        } else {
            let since = self.attempt.scaling.unwrap_or(self.attempt.since);
            Next::of("the canary's pods to be ready").until(since + self.plan.deadlines.ready, "Abort")
        }
    }

    fn stepping(&self, step: usize) -> Next {
        let (attempt, deadlines) = (self.attempt, &self.plan.deadlines);
        if self.is(Reason::NoEvidence) {
            return self.blind();
        }
        if let Some(since) = attempt.scaling {
            return Next::of("the canary's pods for the next weight").until(since + deadlines.ready, "Abort");
        }
        if self.is(Reason::RouteMissing) {
            return Next::person("the gate's routes to exist and to name the service");
        }
        let Some(since) = attempt.window else {
            return if self.is(Reason::RouteNotProgrammed) {
                Next::of("the gateway to take the weight up").until(attempt.since + deadlines.route, "Abort")
            } else {
                Next::of("the first requests to the canary")
            };
        };
        let Some(planned) = self.plan.steps.get(step) else {
            return Next::of("a decision");
        };
        let (shortest, longest) = (since + planned.min_window, since + planned.max_window);
        if self.now < shortest {
            Next::of("the step's shortest stay").until(shortest, "the evidence decides")
        } else if self.now < longest {
            let then = match self.plan.on_inconclusive {
                OnInconclusive::Hold => "Hold, for a person",
                OnInconclusive::Abort => "Abort",
                OnInconclusive::NoHarm => "Promote if no harm was seen, else Hold",
            };
            Next::of(format!("a clear verdict{}", self.forecast(step))).until(longest, then)
        } else {
            Next::person(format!("a person: tollgate promote or abort {}", self.name))
        }
    }

    fn blind(&self) -> Next {
        let policy = &self.plan.on_no_evidence;
        let then = match policy.then {
            Then::Abort => format!("Abort after {} without it", span(policy.hold)),
            Then::Hold => "the weight stays until a person decides".to_owned(),
        };
        Next {
            then: Some(then),
            ..Next::of("complete evidence")
        }
    }

    /// What the judge still needs for its slowest metric, as it was written down last.
    fn forecast(&self, step: usize) -> String {
        let status = self.analysis.and_then(|analysis| analysis.status.as_ref());
        let Some(status) = status.filter(|status| status.judged_step == i64::try_from(step).ok()) else {
            return String::new();
        };
        let open = status
            .readings
            .iter()
            .filter(|reading| reading.verdict != VerdictWord::Pass);
        let Some((unit, requests, seconds)) = open
            .filter_map(|reading| Some((reading.unit, reading.needs_requests?, reading.needs_seconds)))
            .max_by(|a, b| a.1.total_cmp(&b.1))
        else {
            return String::new();
        };
        let (more, unit) = unit.scaled(requests);
        match seconds {
            Some(seconds) if seconds.is_finite() && seconds < 1e8 => {
                format!(" (about {} more {unit}, about {})", count(more), span(whole(seconds)))
            }
            _ => format!(" (about {} more {unit})", count(more)),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "below 1e8 seconds, as the caller has seen"
)]
pub fn whole(seconds: f64) -> Millis {
    Millis::from_secs(seconds.round() as i64)
}
