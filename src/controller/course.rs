//! The trial of one revision whose traffic somebody else moves: what is recorded about it next.
//!
//! The machine decides here too, by the same rules as for a gate: it is shown a route that says
//! what the mover has done, and what it would write on that route is not written but told. Nothing
//! here knows a clock or a network.

use crate::api::{AttemptStatus, Invalid, TrialStatus, clip, millis, moment};
use crate::decision::{
    Attempt, Facts, Judged, Mark, Millis, Outcome, Percent, Plan, Reason, Record, Revision, SafeTarget, Stage, State,
    decide,
};
use crate::routers::Course;

/// Longest sentence, in bytes of JSON.
const RULE: usize = 512;

/// What was recorded about the newest trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Trialled {
    /// The revision it is compared with.
    pub stable: String,
    /// The attempt: always at rest before its first weight, at a step, or refused.
    pub attempt: Attempt,
    /// The weight it has reached.
    pub weight: i64,
    /// What is told.
    pub told: Told,
}

/// What is told about a revision at its weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Go on, wait or go back.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// As a sentence.
    pub rule: String,
    /// Since when.
    pub at: Millis,
}

impl Told {
    fn new(outcome: Outcome, reason: Reason, rule: impl AsRef<str>, at: Millis) -> Self {
        let rule = clip(rule.as_ref(), RULE);
        Self {
            outcome,
            reason,
            rule,
            at,
        }
    }

    fn waits(reason: Reason, at: Millis) -> Self {
        Self::new(Outcome::Hold, reason, reason.sentence(), at)
    }
}

impl Trialled {
    /// As it is stored.
    #[must_use]
    pub fn status(&self) -> TrialStatus {
        TrialStatus {
            stable: self.stable.clone(),
            attempt: AttemptStatus::from(&self.attempt),
            weight: self.weight,
            decision: self.told.outcome,
            reason: self.told.reason.word().to_owned(),
            rule: self.told.rule.clone(),
            at: moment(self.told.at),
        }
    }

    /// As it was stored.
    ///
    /// # Errors
    /// When the status was not written by us.
    pub fn read(status: &TrialStatus) -> Result<Self, Invalid> {
        let unknown = || Invalid::new("status.trial.reason", &status.reason, "a reason of ours");
        Ok(Self {
            stable: status.stable.clone(),
            attempt: Attempt::try_from(&status.attempt)?,
            weight: status.weight,
            told: Told {
                outcome: status.decision,
                reason: Reason::from_word(&status.reason).ok_or_else(unknown)?,
                rule: status.rule.clone(),
                at: millis("status.trial.at", &status.at)?,
            },
        })
    }

    /// The step that is being judged.
    #[must_use]
    pub fn step(&self) -> Option<usize> {
        match self.attempt.stage {
            Stage::Stepping(step) => Some(step),
            _ => None,
        }
    }
}

/// Follows the mover: what is on trial now, and at which step. `epoch` is the highest number so far.
#[must_use]
pub fn follow(plan: &Plan, (known, epoch): (Option<&Trialled>, i64), course: &Course, now: Millis) -> Option<Trialled> {
    if !course.is_release() {
        return known.map(|known| ended(known, course, now));
    }
    let mut trial = match known.filter(|known| known.attempt.revision.0 == course.newest && !is_retried(known, course))
    {
        Some(known) => known.clone(),
        None => begun(course, epoch.saturating_add(1), now),
    };
    trial.stable.clone_from(&course.stable);
    if let Stage::Rejected(_) = trial.attempt.stage {
        // That it was lowered shows that a later weight is a new try.
        trial.weight = if course.aborted { 0 } else { trial.weight };
        return Some(trial);
    }
    if course.aborted {
        let rule = "whoever moves the traffic went back to stable";
        trial.attempt = trial.attempt.entered(Stage::Rejected(Reason::ForeignEdit), now);
        trial.told = Told::new(Outcome::Abort, Reason::ForeignEdit, rule, now);
        trial.weight = 0;
        return Some(trial);
    }
    if course.weight == trial.weight {
        return Some(trial);
    }
    trial.weight = course.weight;
    let step = plan
        .steps
        .iter()
        .position(|step| i64::from(step.weight) == course.weight);
    if let Some(step) = step {
        trial.attempt = trial.attempt.entered(Stage::Stepping(step), now);
        trial.told = Told::waits(Reason::TooFew, now);
    } else {
        let steps: Vec<_> = plan
            .steps
            .iter()
            .map(|step| i64::from(step.weight).to_string())
            .collect();
        let rule = format!(
            "the traffic is at {} %, which is none of the steps: {}",
            course.weight,
            steps.join(", ")
        );
        trial.attempt = trial.attempt.entered(Stage::Preparing, now);
        trial.told = Told::new(Outcome::Hold, Reason::Invalid, rule, now);
    }
    Some(trial)
}

/// Whether a refused revision that had been taken back is given traffic again.
fn is_retried(known: &Trialled, course: &Course) -> bool {
    matches!(known.attempt.stage, Stage::Rejected(_)) && known.weight == 0 && !course.aborted && course.weight > 0
}

/// A revision is on its way; it has no traffic yet.
fn begun(course: &Course, epoch: i64, now: Millis) -> Trialled {
    Trialled {
        stable: course.stable.clone(),
        attempt: Attempt {
            revision: Revision(course.newest.clone()),
            epoch,
            stage: Stage::Preparing,
            since: now,
            window: None,
            scaling: None,
            hold: None,
            decisions: 0,
        },
        weight: 0,
        told: Told::waits(Reason::CanaryNotReady, now),
    }
}

/// No revision is on its way: the last one is what runs, or it was replaced.
fn ended(known: &Trialled, course: &Course, now: Millis) -> Trialled {
    let mut trial = known.clone();
    if trial.attempt.revision.0 == course.stable {
        if trial.told.reason != Reason::Completed {
            trial.attempt = trial.attempt.entered(Stage::Preparing, now);
            trial.weight = 100;
            trial.told = Told::new(Outcome::Promote, Reason::Completed, Reason::Completed.sentence(), now);
        }
    } else if trial.told.outcome != Outcome::Abort {
        trial.attempt = trial.attempt.entered(Stage::Rejected(Reason::Reverted), now);
        trial.weight = 0;
        trial.told = Told::new(Outcome::Abort, Reason::Reverted, Reason::Reverted.sentence(), now);
    }
    trial
}

/// What one look comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// What is to be recorded.
    pub trial: Trialled,
    /// The decision, when it is a new one that says more than to wait.
    pub record: Option<Record>,
    /// When to look again, even if nothing happens.
    pub wake_at: Option<Millis>,
}

/// Decides about a revision at its step. That it may go on holds while the evidence says so; an
/// abort holds for good.
#[must_use]
pub fn look(plan: &Plan, trial: &Trialled, judged: Option<Judged>, now: Millis) -> Look {
    let mut next = trial.clone();
    let Some(step) = trial.step() else {
        return Look {
            trial: next,
            record: None,
            wake_at: None,
        };
    };
    let facts = Facts::at_step(mark(plan, &trial.attempt, step), judged);
    let state = State {
        proven: Some(Revision(trial.stable.clone())),
        epoch: trial.attempt.epoch,
        attempt: Some(trial.attempt.clone()),
    };
    let decision = decide(plan, &state, &facts, now);
    let Some(written) = decision.written().map(|mark| mark.record.clone()) else {
        waits(
            &mut next,
            (decision.state.attempt, decision.reason),
            facts.judged.as_ref(),
            now,
        );
        return Look {
            trial: next,
            record: None,
            wake_at: decision.wake_at,
        };
    };
    if written.outcome == trial.told.outcome {
        return Look {
            trial: next,
            record: None,
            wake_at: None,
        };
    }
    let record = Record { step, ..written };
    next.attempt.decisions = next.attempt.decisions.saturating_add(1);
    next.told = Told::new(record.outcome, record.reason, &record.rule, now);
    if record.outcome == Outcome::Abort {
        next.attempt = next.attempt.entered(Stage::Rejected(record.reason), now);
    }
    Look {
        trial: next,
        record: Some(record),
        wake_at: None,
    }
}

/// Nothing is decided yet, or not any more: why, with the numbers where there are some.
fn waits(next: &mut Trialled, (attempt, reason): (Option<Attempt>, Reason), judged: Option<&Judged>, now: Millis) {
    // The mover waits for its own routes; what is missing here is the first tick since then.
    let reason = if reason == Reason::RouteNotProgrammed {
        Reason::TooFew
    } else {
        reason
    };
    let rule = match judged.filter(|judged| judged.verdict.reason() == reason) {
        Some(judged) if !judged.rule.is_empty() => judged.rule.as_str(),
        _ => reason.sentence(),
    };
    let same = next.told.outcome == Outcome::Hold && next.told.reason == reason;
    let at = if same { next.told.at } else { now };
    next.told = Told::new(Outcome::Hold, reason, rule, at);
    if let Some(attempt) = attempt.filter(|attempt| attempt.stage == next.attempt.stage) {
        next.attempt = attempt;
    }
}

/// What the mover's route says: it stands at this step.
fn mark(plan: &Plan, attempt: &Attempt, step: usize) -> Mark {
    let weight = plan.weight_at(step);
    Mark {
        epoch: attempt.epoch,
        fenced: false,
        step,
        weight,
        safe: SafeTarget::Stable,
        record: Record {
            id: format!("{}-{}", attempt.epoch, attempt.decisions),
            at: attempt.since,
            outcome: Outcome::Promote,
            reason: Reason::Started,
            revision: attempt.revision.clone(),
            step,
            from: Percent::ZERO,
            to: weight,
            rule: String::new(),
            evidence_hash: String::new(),
            policy_hash: plan.policy_hash.clone(),
            by: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::CanaryAnalysisSpec;
    use crate::decision::Verdict;

    fn plan() -> Plan {
        let spec: Value = json!({"external": {"rollout": "checkout"}, "steps": [{"weight": 25}, {"weight": 50}, {"weight": 100}],
            "analysis": {"minWindow": "30s", "maxWindow": "10m", "metrics": [{"name": "errors", "ratio": {"preset": "http-errors"}}]},
            "policy": {"onNoEvidence": {"hold": "5m", "then": "Abort"}}});
        let spec: CanaryAnalysisSpec = serde_json::from_value(spec).expect("a spec");
        spec.sealed().plan().expect("a plan")
    }

    fn course(newest: &str, weight: i64) -> Course {
        Course {
            stable: "old".to_owned(),
            newest: newest.to_owned(),
            weight,
            aborted: false,
        }
    }

    fn at(seconds: i64) -> Millis {
        Millis::from_secs(1_000_000 + seconds)
    }

    /// A trial that has reached 25 % at second 0.
    fn at_25() -> Trialled {
        let begun = follow(&plan(), (None, 0), &course("new", 0), at(-5)).expect("a trial");
        follow(&plan(), (Some(&begun), 1), &course("new", 25), at(0)).expect("a trial")
    }

    fn judged(trial: &Trialled, verdict: Verdict, seconds: i64) -> Judged {
        Judged {
            epoch: trial.attempt.epoch,
            step: trial.step().unwrap_or_default(),
            at: at(seconds),
            verdict,
            receiving: true,
            blind_since: None,
            no_harm: false,
            rule: "errors: 3 of 1,000 against 3 of 1,000".to_owned(),
            evidence_hash: "e".repeat(64),
            readings: vec![],
        }
    }

    #[test]
    fn a_trial_goes_where_the_mover_goes() {
        let trial = at_25();
        assert_eq!((trial.attempt.epoch, trial.step(), trial.weight), (1, Some(0), 25));
        assert_eq!(trial.told.outcome, Outcome::Hold);
        let same = follow(&plan(), (Some(&trial), 1), &course("new", 25), at(60)).expect("a trial");
        assert_eq!(same, trial, "nothing has moved");
        let further = follow(&plan(), (Some(&trial), 1), &course("new", 50), at(60)).expect("a trial");
        assert_eq!((further.step(), further.attempt.since), (Some(1), at(60)));
        let astray = follow(&plan(), (Some(&trial), 1), &course("new", 30), at(60)).expect("a trial");
        assert_eq!((astray.step(), astray.told.reason), (None, Reason::Invalid));
        assert!(
            astray.told.rule.contains("30 %") && astray.told.rule.contains("25, 50, 100"),
            "{}",
            astray.told.rule
        );
        let newer = follow(&plan(), (Some(&trial), 1), &course("newer", 0), at(60)).expect("a trial");
        assert_eq!(
            (newer.attempt.epoch, newer.step(), newer.told.outcome),
            (2, None, Outcome::Hold)
        );
        assert!(
            follow(&plan(), (None, 0), &course("old", 100), at(0)).is_none(),
            "nothing is on trial"
        );
        let done = Course {
            stable: "new".to_owned(),
            ..course("new", 100)
        };
        let done = follow(&plan(), (Some(&trial), 1), &done, at(60)).expect("a trial");
        assert_eq!(
            (done.told.outcome, done.told.reason),
            (Outcome::Promote, Reason::Completed)
        );
        let back = follow(&plan(), (Some(&trial), 1), &course("old", 100), at(60)).expect("a trial");
        assert_eq!(
            (back.told.outcome, back.told.reason),
            (Outcome::Abort, Reason::Reverted)
        );
    }

    #[test]
    fn what_was_taken_back_is_tried_again_only_after_it_was_seen_to_be_taken_back() {
        let trial = at_25();
        let harm = look(
            &plan(),
            &trial,
            Some(judged(&trial, Verdict::Fail(Reason::Harm), 5)),
            at(5),
        );
        let refused = harm.trial;
        assert_eq!(
            (refused.told.outcome, refused.attempt.stage),
            (Outcome::Abort, Stage::Rejected(Reason::Harm))
        );
        let before_the_mover_asks = follow(&plan(), (Some(&refused), 1), &course("new", 25), at(9)).expect("a trial");
        assert_eq!(before_the_mover_asks, refused);
        let aborted = Course {
            aborted: true,
            ..course("new", 0)
        };
        let taken_back = follow(&plan(), (Some(&refused), 1), &aborted, at(12)).expect("a trial");
        assert_eq!((taken_back.weight, taken_back.told.outcome), (0, Outcome::Abort));
        let again = follow(&plan(), (Some(&taken_back), 1), &course("new", 25), at(60)).expect("a trial");
        assert_eq!((again.attempt.epoch, again.told.outcome), (2, Outcome::Hold));
        let by_a_person = follow(&plan(), (Some(&trial), 1), &aborted, at(12)).expect("a trial");
        assert_eq!(
            (by_a_person.told.outcome, by_a_person.told.reason),
            (Outcome::Abort, Reason::ForeignEdit)
        );
    }

    #[test]
    fn the_machine_decides_here_as_at_a_gate() {
        let trial = at_25();
        let windowed = look(
            &plan(),
            &trial,
            Some(judged(&trial, Verdict::Inconclusive(Reason::TooFew), 5)),
            at(5),
        )
        .trial;
        assert_eq!(windowed.attempt.window, Some(at(5)), "requests are seen");
        let passes = |seconds| Some(judged(&trial, Verdict::Pass(Reason::Safe), seconds));
        for (name, judged, now, outcome, reason) in [
            ("too early", passes(10), 10, Outcome::Hold, Reason::MinWindow),
            ("safe", passes(40), 40, Outcome::Promote, Reason::Safe),
            (
                "harm",
                Some(judged(&trial, Verdict::Fail(Reason::Harm), 10)),
                10,
                Outcome::Abort,
                Reason::Harm,
            ),
            (
                "too few",
                Some(judged(&trial, Verdict::Inconclusive(Reason::TooFew), 40)),
                40,
                Outcome::Hold,
                Reason::TooFew,
            ),
            ("old words", passes(40), 140, Outcome::Hold, Reason::NoEvidence),
            ("silence", None, 200, Outcome::Hold, Reason::NoEvidence),
            (
                "silence for too long",
                None,
                400,
                Outcome::Abort,
                Reason::EvidenceDeadline,
            ),
        ] {
            let look = look(&plan(), &windowed, judged, at(now));
            assert_eq!(
                (look.trial.told.outcome, look.trial.told.reason),
                (outcome, reason),
                "{name}"
            );
            assert_eq!(look.record.is_some(), outcome != Outcome::Hold, "{name}");
            if let Some(record) = look.record {
                assert_eq!(
                    (record.id.as_str(), record.step, record.from.get()),
                    ("1-0", 0, 25),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn a_promise_holds_while_the_evidence_does_and_no_longer() {
        let trial = at_25();
        let windowed = look(
            &plan(),
            &trial,
            Some(judged(&trial, Verdict::Inconclusive(Reason::TooFew), 5)),
            at(5),
        )
        .trial;
        let safe = |seconds| Some(judged(&trial, Verdict::Pass(Reason::Safe), seconds));
        let promised = look(&plan(), &windowed, safe(40), at(40)).trial;
        let again = look(&plan(), &promised, safe(50), at(50));
        assert_eq!((again.record, &again.trial), (None, &promised), "said once");
        let blind = look(&plan(), &promised, safe(40), at(140)).trial;
        assert_eq!(
            (blind.told.outcome, blind.told.reason),
            (Outcome::Hold, Reason::NoEvidence)
        );
        let harm = look(
            &plan(),
            &promised,
            Some(judged(&trial, Verdict::Fail(Reason::Harm), 50)),
            at(50),
        );
        assert_eq!(harm.trial.told.outcome, Outcome::Abort);
        assert_eq!(harm.record.expect("a record").id, "1-1");
        let after = look(&plan(), &harm.trial, safe(60), at(60)).trial;
        assert_eq!(after.told.outcome, Outcome::Abort, "for good");
    }

    #[test]
    fn a_trial_is_read_as_it_was_stored() {
        for trial in [at_25(), look(&plan(), &at_25(), None, at(1000)).trial] {
            assert_eq!(Trialled::read(&trial.status()).expect("as stored"), trial);
        }
        let mut other = at_25().status();
        other.reason = "Mood".to_owned();
        assert!(Trialled::read(&other).is_err_and(|invalid| invalid.field == "status.trial.reason"));
    }
}
