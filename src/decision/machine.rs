//! The machine: the only place that decides whether a release goes on, waits or ends.
//!
//! [`decide`] is a pure function of the frozen plan, what was remembered, what was read and the
//! time. It never acts; the controller performs the effects in order, ends the pass at the first
//! that fails, and stores the state only after the last. So every effect may be repeated, and
//! what is stored may lag behind the route but never run ahead of it: on the next pass the marks
//! on the routes speak first.

use super::{
    Attempt, Decision, Effect, Facts, HoldSince, Mark, Millis, Outcome, Plan, Reason, Record, Revision, RouteFact,
    SafeTarget, Split, Stage, State, Verb, WorkloadFact,
};

/// How long an abort may stay undone before a replica that does not lead brings the weight down.
const STANDBY: Millis = Millis::from_secs(5);

/// Decides one pass.
///
/// Not considered: who may ask for what (the API server and policy have judged that before a
/// request becomes a fact), and any text.
#[must_use]
pub fn decide(plan: &Plan, state: &State, facts: &Facts, now: Millis) -> Decision {
    let pass = Pass { plan, facts, now };
    if !facts.leader {
        return pass.stand_by(state);
    }
    match &state.attempt {
        None => pass.at_rest(state),
        Some(attempt) => pass.in_flight(state, &pass.caught_up(attempt)),
    }
}

/// The arguments of one pass, so that rules need not hand them on.
pub(super) struct Pass<'a> {
    pub(super) plan: &'a Plan,
    pub(super) facts: &'a Facts,
    pub(super) now: Millis,
}

impl Pass<'_> {
    /// Without the lease nothing rises. An abort that was recorded and is still undone is
    /// carried out by whoever is alive: lowering to the safe target needs no authority.
    fn stand_by(&self, state: &State) -> Decision {
        let mut effects = Vec::new();
        let mut wake_at = None;
        if let Some(attempt) = &state.attempt
            && let Stage::Aborting(reason) = attempt.stage
            && self.exposed()
        {
            let due = attempt.since + STANDBY;
            if self.now >= due {
                effects.push(Effect::Write(self.mark(attempt, &Move::to_zero(attempt, reason))));
            } else {
                wake_at = Some(due);
            }
        }
        Decision {
            state: state.clone(),
            effects,
            outcome: Outcome::Hold,
            reason: Reason::NotLeader,
            wake_at,
        }
    }

    /// No release in flight: adopt, release what is proven, or begin.
    fn at_rest(&self, state: &State) -> Decision {
        if let Some(tidy) = self.left_over(state) {
            return tidy;
        }
        if self.facts.deleted {
            return self.keep(state, vec![Effect::Disown], Reason::Deleted);
        }
        let Some(workload) = &self.facts.workload else {
            return self.keep(state, vec![], Reason::WorkloadMissing);
        };
        if let Some(request) = &self.facts.request {
            let effect = Effect::Answer {
                name: request.name.clone(),
                granted: false,
                reason: Reason::AtRest,
            };
            return self.keep(state, vec![effect], Reason::AtRest);
        }
        match &state.proven {
            None if workload.held || !workload.rolled_out => self.keep(state, vec![], Reason::NotRolledOut),
            None => self.trust(state, workload, Reason::Adopted),
            Some(proven) if *proven == workload.template && workload.held => {
                self.keep(state, vec![Effect::Release], Reason::Reverted)
            }
            Some(proven) if *proven == workload.template => {
                let lost = (!workload.adopted).then_some(Effect::Adopt);
                self.keep(state, lost.into_iter().collect(), Reason::AtRest)
            }
            Some(_) if !workload.held => self.trust(state, workload, Reason::Unheld),
            Some(_) if self.facts.suspended => self.keep(state, vec![], Reason::Suspended),
            Some(_) => self.begin(state, &workload.template),
        }
    }

    /// What an interrupted ending left behind, if anything. A fence is not a left-over.
    fn left_over(&self, state: &State) -> Option<Decision> {
        let mut effects = Vec::new();
        let ours =
            |route: &RouteFact| route.split.names_canary() || route.mark.as_ref().is_some_and(|mark| !mark.fenced);
        if self.facts.routes.iter().any(ours) {
            effects.push(Effect::Restore);
        }
        if self.facts.canary.exists {
            effects.push(Effect::Remove);
        }
        (!effects.is_empty()).then(|| self.keep(state, effects, Reason::AtRest))
    }

    /// Trusts the template that runs, and says whether that was meant to happen.
    fn trust(&self, state: &State, workload: &WorkloadFact, reason: Reason) -> Decision {
        let state = State {
            proven: Some(workload.template.clone()),
            ..state.clone()
        };
        self.keep(&state, vec![Effect::Adopt], reason)
    }

    /// Begins an attempt with a number of its own.
    fn begin(&self, state: &State, revision: &Revision) -> Decision {
        let epoch = state
            .epoch
            .saturating_add(1)
            .max(self.highest_epoch().saturating_add(1));
        let attempt = Attempt {
            revision: revision.clone(),
            epoch,
            stage: Stage::Preparing,
            since: self.now,
            window: None,
            scaling: None,
            hold: None,
            decisions: 0,
        };
        let state = State {
            epoch,
            attempt: Some(attempt),
            ..state.clone()
        };
        self.keep(&state, vec![Effect::Freeze], Reason::Started)
    }

    /// An attempt exists: what ends it comes first, then what people ask, then the stage itself. A
    /// request about another revision changes nothing and is refused.
    fn in_flight(&self, state: &State, attempt: &Attempt) -> Decision {
        if let Some(stray) = self.stray(attempt) {
            let facts = Facts {
                request: None,
                ..self.facts.clone()
            };
            let pass = Pass { facts: &facts, ..*self };
            let mut decision = pass.in_flight(state, attempt);
            decision.effects.push(stray);
            return decision;
        }
        let ended = self.ended(state, attempt);
        let granted = if ended.is_none() {
            self.granted(state, attempt)
        } else {
            None
        };
        let is_granted = granted.is_some();
        let decision = ended
            .or(granted)
            .or_else(|| self.overtaken(state, attempt))
            .unwrap_or_else(|| self.in_stage(state, attempt));
        self.answered(state, attempt, (is_granted, decision))
    }

    pub(super) fn in_stage(&self, state: &State, attempt: &Attempt) -> Decision {
        match attempt.stage {
            Stage::Preparing => self.preparing(state, attempt),
            Stage::Stepping(step) => self.stepping(state, attempt, step),
            Stage::HandingOver => self.handing_over(state, attempt),
            Stage::Restoring => self.restoring(state, attempt),
            Stage::Aborting(reason) => self.aborting(state, attempt, reason),
            Stage::Rejected(reason) => self.rejected(state, attempt, reason),
        }
    }

    /// The attempt as the routes tell it: they are written before the state is stored, so a mark
    /// of the same attempt may be ahead and is then believed. Never the reverse. A weight that was
    /// lowered after a foreign edit is held, even when that could not be stored any more.
    fn caught_up(&self, attempt: &Attempt) -> Attempt {
        let mut attempt = attempt.clone();
        let (fences, others): (Vec<_>, Vec<_>) = self.marks(attempt.epoch).partition(|mark| mark.fenced);
        for mark in fences.into_iter().chain(others) {
            let moved = match attempt.stage {
                Stage::Preparing | Stage::Stepping(_) if mark.fenced => Some(Stage::Aborting(mark.record.reason)),
                Stage::Preparing | Stage::Stepping(_) if mark.safe == SafeTarget::Canary => Some(Stage::HandingOver),
                Stage::Preparing => Some(Stage::Stepping(mark.step)),
                Stage::Stepping(step) if mark.step > step || mark.record.at > attempt.since => {
                    Some(Stage::Stepping(mark.step))
                }
                _ => None,
            };
            if let Some(stage) = moved {
                attempt = attempt.moved(stage, mark.record.at);
            }
        }
        let edited = attempt.hold.is_some_and(|hold| hold.reason == Reason::ForeignEdit);
        if let Some(mark) = self.lowered(attempt.epoch)
            && matches!(attempt.stage, Stage::Stepping(_))
            && !edited
        {
            attempt.hold = Some(HoldSince {
                reason: Reason::ForeignEdit,
                since: mark.record.at,
            });
        }
        attempt
    }

    /// What ends an attempt before the commit point, whatever is held, asked for or missing: harm,
    /// a person, the deletion of the gate, another template, or a template that got through.
    fn ended(&self, state: &State, attempt: &Attempt) -> Option<Decision> {
        if !matches!(attempt.stage, Stage::Preparing | Stage::Stepping(_)) {
            return None;
        }
        let asked = self
            .facts
            .request
            .as_ref()
            .filter(|request| request.verb == Verb::Abort);
        let reason = self
            .harmed(attempt)
            .or(asked.map(|_| Reason::Requested))
            .or(self.facts.deleted.then_some(Reason::Deleted))
            .or_else(|| self.replaced(state, attempt))
            .or_else(|| self.got_through(attempt))?;
        Some(self.abort(state, attempt, reason))
    }

    /// After the end of a trial: what no longer matters is forgotten. After the commit point a newer
    /// template stays held while the canary carries the traffic; but as long as the hold was not
    /// released, stable runs what it always did with all its pods, and everything goes back to it.
    fn overtaken(&self, state: &State, attempt: &Attempt) -> Option<Decision> {
        match attempt.stage {
            Stage::Rejected(_) if !self.exposed() => {
                let reason = (self.facts.deleted.then_some(Reason::Deleted))
                    .or_else(|| self.replaced(state, attempt))
                    .or_else(|| self.got_through(attempt))?;
                Some(self.forget(state, reason))
            }
            Stage::HandingOver => {
                let reason = self.replaced(state, attempt)?;
                let retreats = self.unreleased(state) && !self.outdated(attempt);
                Some(if retreats {
                    self.abort(state, attempt, reason)
                } else {
                    self.guard_handover(state, attempt, reason)
                })
            }
            _ => None,
        }
    }

    /// Whether the hold is on as it was before the commit point. The state that says otherwise is
    /// stored after the release, and the release leaves its trace on the Deployment: either is enough
    /// to know that stable may have begun to change.
    fn unreleased(&self, state: &State) -> bool {
        let stored = state.attempt.as_ref().map(|attempt| attempt.stage);
        stored != Some(Stage::HandingOver)
            && self
                .facts
                .workload
                .as_ref()
                .is_some_and(|workload| workload.held && !workload.released)
    }

    /// Whether the template changed again: what was measured speaks of something else now.
    fn replaced(&self, state: &State, attempt: &Attempt) -> Option<Reason> {
        let workload = self.facts.workload.as_ref()?;
        if workload.template == attempt.revision {
            return None;
        }
        let back = state.proven.as_ref() == Some(&workload.template);
        Some(if back { Reason::Reverted } else { Reason::Superseded })
    }

    /// Whether somebody took the hold off the template on trial: stable is becoming what it is compared
    /// with, so the trial proves nothing any more.
    fn got_through(&self, attempt: &Attempt) -> Option<Reason> {
        let workload = self.facts.workload.as_ref()?;
        let loose = workload.template == attempt.revision && !workload.held && !workload.released;
        loose.then_some(Reason::Unheld)
    }

    /// Ends the memory of an attempt.
    pub(super) fn forget(&self, state: &State, reason: Reason) -> Decision {
        let state = State {
            attempt: None,
            ..state.clone()
        };
        self.keep(&state, vec![], reason)
    }

    // ---- what the rules are made of ----

    /// Writes weight 0 with a fence, and starts the way back. Unconditional; also where no weight
    /// was written yet, because a leader that slept may be about to write the first one.
    pub(super) fn abort(&self, state: &State, attempt: &Attempt, reason: Reason) -> Decision {
        let effects = vec![Effect::Write(self.mark(attempt, &Move::to_zero(attempt, reason)))];
        let attempt = attempt.moved(Stage::Aborting(reason), self.now);
        let mut decision = self.enter(state, attempt, effects, reason);
        decision.outcome = Outcome::Abort;
        decision.wake_at = Some(self.now + self.plan.deadlines.drain);
        decision
    }

    /// Goes to the next step, or past the commit point; waits for pods first.
    pub(super) fn advance(&self, state: &State, attempt: &Attempt, step: usize, reason: Reason) -> Decision {
        if !self.carries(attempt, self.facts.canary.needed_next) {
            return self.wait_for_pods(state, attempt, step.saturating_add(1));
        }
        if self.plan.is_last(step) {
            self.commit(state, attempt, reason)
        } else {
            self.raise(state, attempt, step.saturating_add(1), reason)
        }
    }

    /// Asks for the pods of a step and waits for them, until the deadline.
    pub(super) fn wait_for_pods(&self, state: &State, attempt: &Attempt, step: usize) -> Decision {
        let since = attempt.scaling.unwrap_or(self.now);
        let deadline = since + self.plan.deadlines.ready;
        if self.now >= deadline {
            return self.abort(state, attempt, Reason::CanaryDeadline);
        }
        let attempt = Attempt {
            scaling: Some(since),
            ..attempt.clone()
        };
        let mut decision = self.stay(state, &attempt, Reason::CanaryNotReady);
        if attempt.stage == Stage::Preparing && !self.facts.canary.exists {
            decision.effects.push(Effect::GuardStable);
        }
        decision.effects.push(Effect::ScaleCanary { step });
        decision.wake_at = Some(deadline);
        decision
    }

    /// Writes the weight of a step.
    pub(super) fn raise(&self, state: &State, attempt: &Attempt, step: usize, reason: Reason) -> Decision {
        let mark = self.mark(
            attempt,
            &Move {
                outcome: Outcome::Promote,
                reason,
                step,
                to: self.plan.weight_at(step),
                safe: SafeTarget::Stable,
                fenced: false,
            },
        );
        let attempt = attempt.moved(Stage::Stepping(step), self.now);
        let mut decision = self.enter(state, attempt, vec![Effect::Write(mark)], reason);
        decision.outcome = Outcome::Promote;
        decision.wake_at = Some(self.now + self.plan.patience);
        decision
    }

    /// The commit point: from here the canary is the safe target, and the hold may go.
    fn commit(&self, state: &State, attempt: &Attempt, reason: Reason) -> Decision {
        let mark = self.committed(attempt, reason);
        let attempt = attempt.moved(Stage::HandingOver, self.now);
        let mut decision = self.enter(
            state,
            attempt,
            vec![Effect::Write(mark), Effect::Release],
            Reason::Committed,
        );
        decision.outcome = Outcome::Promote;
        decision.wake_at = Some(self.now + self.plan.deadlines.handover);
        decision
    }

    /// The mark of the commit point.
    pub(super) fn committed(&self, attempt: &Attempt, reason: Reason) -> Mark {
        self.mark(
            attempt,
            &Move {
                outcome: Outcome::Promote,
                reason,
                step: self.plan.steps.len().saturating_sub(1),
                to: SafeTarget::Canary.weight(),
                safe: SafeTarget::Canary,
                fenced: false,
            },
        )
    }

    /// Keeps the attempt where it is.
    pub(super) fn stay(&self, state: &State, attempt: &Attempt, reason: Reason) -> Decision {
        let state = State {
            attempt: Some(attempt.clone()),
            ..state.clone()
        };
        self.keep(&state, vec![], reason)
    }

    /// Stores an attempt that has moved, counting the decision.
    fn enter(&self, state: &State, attempt: Attempt, effects: Vec<Effect>, reason: Reason) -> Decision {
        self.keep(
            &State {
                attempt: Some(attempt),
                ..state.clone()
            },
            effects,
            reason,
        )
    }

    /// A decision that holds.
    #[expect(clippy::unused_self, reason = "reads as a rule beside the others")]
    pub(super) fn keep(&self, state: &State, effects: Vec<Effect>, reason: Reason) -> Decision {
        Decision {
            state: state.clone(),
            effects,
            outcome: Outcome::Hold,
            reason,
            wake_at: None,
        }
    }

    /// The mark and the record of a move.
    pub(super) fn mark(&self, attempt: &Attempt, to: &Move) -> Mark {
        let judged = self
            .facts
            .judged
            .as_ref()
            .filter(|judged| judged.epoch == attempt.epoch);
        let by = self
            .facts
            .request
            .as_ref()
            .filter(|_| to.reason == Reason::Requested)
            .map(|request| request.by.clone());
        let record = Record {
            id: format!("{}-{}", attempt.epoch, attempt.decisions),
            at: self.now,
            outcome: to.outcome,
            reason: to.reason,
            revision: attempt.revision.clone(),
            step: to.step,
            from: self.exposure(),
            to: to.to,
            rule: self.rule(attempt, to.reason, by.as_deref()),
            evidence_hash: judged.map(|judged| judged.evidence_hash.clone()).unwrap_or_default(),
            policy_hash: self.plan.policy_hash.clone(),
            by,
        };
        Mark {
            epoch: attempt.epoch,
            fenced: to.fenced,
            step: to.step,
            weight: to.to,
            safe: to.safe,
            record,
        }
    }

    /// What stands in the way of every raise, whoever asks for it.
    pub(super) fn obstacle(&self, attempt: &Attempt) -> Option<Reason> {
        if self.facts.workload.is_none() {
            Some(Reason::WorkloadMissing)
        } else if self.facts.suspended {
            Some(Reason::Suspended)
        } else if self.facts.routes.iter().any(|route| route.split == Split::Missing) {
            Some(Reason::RouteMissing)
        } else if self.outdated(attempt) {
            Some(Reason::ForeignEdit)
        } else {
            None
        }
    }

    /// Whether a later attempt has written: what is remembered is old.
    pub(super) fn outdated(&self, attempt: &Attempt) -> bool {
        self.highest_epoch() > attempt.epoch
    }

    /// Whether the canary runs the revision on trial with enough ready pods, and at least one.
    pub(super) fn carries(&self, attempt: &Attempt, needed: i64) -> bool {
        let canary = &self.facts.canary;
        canary.revision.as_ref() == Some(&attempt.revision) && canary.ready >= needed.max(1)
    }

    /// The newest mark, if it lowered the weight because somebody else had raised it.
    pub(super) fn lowered(&self, epoch: i64) -> Option<&Mark> {
        self.newest(epoch)
            .filter(|mark| !mark.fenced && mark.record.reason == Reason::ForeignEdit)
    }

    /// What was written last.
    pub(super) fn newest(&self, epoch: i64) -> Option<&Mark> {
        self.marks(epoch).max_by_key(|mark| (mark.record.at, mark.step))
    }

    /// Marks of this attempt.
    pub(super) fn marks(&self, epoch: i64) -> impl Iterator<Item = &Mark> {
        self.facts
            .routes
            .iter()
            .filter_map(|route| route.mark.as_ref())
            .filter(move |mark| mark.epoch == epoch)
    }

    /// Whether every route says what was written last for this step.
    pub(super) fn intact(&self, attempt: &Attempt, step: usize) -> bool {
        self.facts.routes.iter().all(|route| {
            let mark = route
                .mark
                .as_ref()
                .filter(|mark| mark.epoch == attempt.epoch && mark.step == step);
            mark.is_some_and(|mark| route.split == Split::At(mark.weight))
        })
    }

    /// The largest share that reaches the canary on any route.
    pub(super) fn exposure(&self) -> super::Percent {
        self.facts
            .routes
            .iter()
            .map(|route| route.split.exposure())
            .max()
            .unwrap_or_default()
    }

    /// Whether the canary gets traffic on any route.
    pub(super) fn exposed(&self) -> bool {
        self.exposure() > super::Percent::ZERO
    }

    /// The highest attempt that any route remembers: a fence is never passed by a lower number.
    fn highest_epoch(&self) -> i64 {
        self.facts
            .routes
            .iter()
            .filter_map(|route| route.mark.as_ref())
            .map(|mark| mark.epoch)
            .max()
            .unwrap_or(0)
    }
}

/// Where a write goes and why.
pub(super) struct Move {
    pub(super) outcome: Outcome,
    pub(super) reason: Reason,
    pub(super) step: usize,
    pub(super) to: super::Percent,
    pub(super) safe: SafeTarget,
    pub(super) fenced: bool,
}

impl Move {
    /// All traffic to stable, for good: this attempt never raises again.
    pub(super) fn to_zero(attempt: &Attempt, reason: Reason) -> Self {
        let step = if let Stage::Stepping(step) = attempt.stage {
            step
        } else {
            0
        };
        let to = SafeTarget::Stable.weight();
        Self {
            outcome: Outcome::Abort,
            reason,
            step,
            to,
            safe: SafeTarget::Stable,
            fenced: true,
        }
    }
}
