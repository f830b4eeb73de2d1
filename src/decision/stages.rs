//! The rules of each stage, in the order in which a release passes through them.

use super::machine::{Move, Pass};
use super::requests::behind;
use super::{
    Attempt, Decision, Effect, HoldSince, Judged, Mark, Millis, OnInconclusive, Outcome, Percent, Reason, RouteFact,
    SafeTarget, Split, Stage, State, Then, Verdict,
};

/// The next step's pods are asked for so long before this step may be over at the earliest, counted
/// from its weight: most pods are ready by then, and not idle for much longer.
const AHEAD: Millis = Millis::from_secs(60);

impl Pass<'_> {
    /// The canary is brought up without traffic. Ready pods and a clean pre-flight open the way.
    pub(super) fn preparing(&self, state: &State, attempt: &Attempt) -> Decision {
        let blocked = self.obstacle(attempt).or(attempt.hold.map(|hold| hold.reason));
        if let Some(reason) = blocked.or(self.facts.preflight) {
            return self.stay(state, attempt, reason);
        }
        if self.carries(attempt, self.facts.canary.needed_next) {
            return self.raise(state, attempt, 0, Reason::Started);
        }
        let begun = Attempt {
            scaling: attempt.scaling.or(Some(attempt.since)),
            ..attempt.clone()
        };
        self.wait_for_pods(state, &begun, 0)
    }

    /// What ends the trial at once: harm was shown, or users meet a canary without pods.
    pub(super) fn harmed(&self, attempt: &Attempt) -> Option<Reason> {
        let Stage::Stepping(_) = attempt.stage else {
            return None;
        };
        if self.exposed() && self.facts.canary.ready == 0 {
            return Some(Reason::CanaryLost);
        }
        // At whatever step it was seen: after a crash the routes may tell of another one than the judge.
        let judged = self.facts.judged.as_ref();
        match judged.filter(|judged| judged.epoch == attempt.epoch)?.verdict {
            Verdict::Fail(reason) => Some(reason),
            Verdict::Pass(_) | Verdict::Inconclusive(_) => None,
        }
    }

    /// A weight is written and no harm is shown: what is missing comes first, then what is proved.
    pub(super) fn stepping(&self, state: &State, attempt: &Attempt, step: usize) -> Decision {
        let judged = self.judged(attempt, step);
        if let Some(decision) = self.blind(state, attempt, judged) {
            return decision;
        }
        if let Some(decision) = self.split_differs(state, attempt, step) {
            return decision;
        }
        if let Some(reason) = self.waiting(attempt).or_else(|| self.obstacle(attempt)) {
            return self.stay(state, attempt, reason);
        }
        let decision = self.on_evidence(state, attempt, step);
        self.ahead(decision, attempt, step)
    }

    /// Nothing stands in the way: what the evidence says.
    fn on_evidence(&self, state: &State, attempt: &Attempt, step: usize) -> Decision {
        let judged = self.judged(attempt, step);
        let Some(judged) = judged.filter(|judged| judged.at >= attempt.since) else {
            // Evidence from before the weight was written speaks of another weight.
            return self.look_again(self.stay(state, attempt, Reason::RouteNotProgrammed));
        };
        if judged.blind_since.is_some() || !self.fresh(judged) {
            return self.look_again(self.stay(state, attempt, Reason::NoEvidence));
        }
        match attempt.window {
            None => self.open_window(state, attempt, step, judged),
            Some(since) => self.in_window(state, attempt, (step, since), judged),
        }
    }

    /// The window begins when the gateways have taken the weight up and requests arrive.
    fn open_window(&self, state: &State, attempt: &Attempt, step: usize, judged: &Judged) -> Decision {
        if let Some(decision) = self.not_programmed(state, attempt) {
            return decision;
        }
        if !judged.receiving {
            return self.look_again(self.stay(state, attempt, Reason::TooFew));
        }
        let opened = Attempt {
            window: Some(self.now),
            ..attempt.clone()
        };
        let mut decision = self.look_again(self.stay(state, &opened, Reason::MinWindow));
        if let Some(planned) = self.plan.steps.get(step) {
            let over = self.now + planned.min_window;
            decision.wake_at = decision.wake_at.map(|again| again.min(over));
        }
        decision
    }

    /// Asks for the pods of the next step when this one may soon be over, so that the raise need not
    /// wait for them; not for a step that is held or blind, and not twice.
    fn ahead(&self, mut decision: Decision, attempt: &Attempt, step: usize) -> Decision {
        let goes_on = matches!(
            decision.reason,
            Reason::RouteNotProgrammed | Reason::TooFew | Reason::MinWindow | Reason::Undecided
        );
        let canary = &self.facts.canary;
        let asked = canary.revision.as_ref() != Some(&attempt.revision) || canary.desired >= canary.needed_next;
        let Some(planned) = self.plan.steps.get(step).filter(|_| goes_on && !asked) else {
            return decision;
        };
        let ask_at = attempt.since + planned.min_window - AHEAD;
        if self.now >= ask_at {
            decision.effects.push(Effect::ScaleCanary {
                step: step.saturating_add(1),
            });
        } else {
            decision.wake_at = Some(decision.wake_at.map_or(ask_at, |at| at.min(ask_at)));
        }
        decision
    }

    /// Waits for gateways that have not taken the weight up, until the deadline.
    fn not_programmed(&self, state: &State, attempt: &Attempt) -> Option<Decision> {
        if attempt.window.is_some() || self.facts.routes.iter().all(|route| route.programmed) {
            return None;
        }
        let deadline = attempt.since + self.plan.deadlines.route;
        if self.now >= deadline {
            return Some(self.abort(state, attempt, Reason::RouteDeadline));
        }
        let mut decision = self.stay(state, attempt, Reason::RouteNotProgrammed);
        decision.wake_at = Some(deadline);
        Some(decision)
    }

    /// Evidence is complete and fresh: go on, end, or wait.
    fn in_window(&self, state: &State, attempt: &Attempt, (step, since): (usize, Millis), judged: &Judged) -> Decision {
        let Some(planned) = self.plan.steps.get(step) else {
            return self.abort(state, attempt, Reason::Invalid);
        };
        let stayed = self.now - since;
        if stayed < planned.min_window {
            let mut decision = self.stay(state, attempt, Reason::MinWindow);
            decision.wake_at = Some(since + planned.min_window);
            return decision;
        }
        if let Verdict::Pass(reason) = judged.verdict {
            return self.advance(state, attempt, step, reason);
        }
        if stayed < planned.max_window {
            let mut decision = self.stay(state, attempt, judged.verdict.reason());
            decision.wake_at = Some(since + planned.max_window);
            return decision;
        }
        match self.plan.on_inconclusive {
            OnInconclusive::Abort => self.abort(state, attempt, Reason::Inconclusive),
            OnInconclusive::NoHarm if judged.no_harm => self.advance(state, attempt, step, Reason::NoHarm),
            OnInconclusive::NoHarm | OnInconclusive::Hold => self.stay(state, attempt, Reason::Inconclusive),
        }
    }

    /// Since when there is no complete evidence; nothing when there is. A judge that has not spoken
    /// for longer than the plan's patience counts as blind from its last word on.
    pub(super) fn blind_since(&self, attempt: &Attempt, judged: Option<&Judged>) -> Option<Millis> {
        let last_word = judged.map_or(attempt.since, |judged| judged.at.max(attempt.since));
        match judged.and_then(|judged| judged.blind_since) {
            Some(since) => Some(since.max(attempt.since)),
            None => (self.now - last_word > self.plan.patience).then_some(last_word),
        }
    }

    /// No complete evidence: hold, and after the deadline what the policy says. Never raises.
    fn blind(&self, state: &State, attempt: &Attempt, judged: Option<&Judged>) -> Option<Decision> {
        let since = self.blind_since(attempt, judged)?;
        let deadline = since + self.plan.on_no_evidence.hold;
        if self.now >= deadline && self.plan.on_no_evidence.then == Then::Abort {
            return Some(self.abort(state, attempt, Reason::EvidenceDeadline));
        }
        if self.split_is_foreign(attempt) || self.still_raised(attempt) {
            return None;
        }
        let waiting = self.waiting(attempt);
        // A canary behind a gateway that has not followed cannot be seen: that is why, then.
        if waiting.is_none()
            && let Some(mut decision) = self.not_programmed(state, attempt)
        {
            decision.wake_at = decision.wake_at.map(|at| at.min(deadline));
            return Some(decision);
        }
        let mut decision = self.stay(state, attempt, waiting.unwrap_or(Reason::NoEvidence));
        decision.wake_at = (self.plan.on_no_evidence.then == Then::Abort).then_some(deadline);
        Some(decision)
    }

    /// The routes do not say what was written. A write that was cut off is finished; an edit by
    /// somebody else is a fact: down is accepted, up goes to zero, and either is held.
    fn split_differs(&self, state: &State, attempt: &Attempt, step: usize) -> Option<Decision> {
        let raised = self.still_raised(attempt);
        if self.intact(attempt, step) && !raised {
            return None;
        }
        if !raised && self.facts.routes.iter().any(|route| route.split == Split::Missing) {
            return Some(self.stay(state, attempt, Reason::RouteMissing));
        }
        if let Some(newest) = self.cut_off(attempt, step) {
            if let Some(reason) = self.obstacle(attempt) {
                return Some(self.stay(state, attempt, reason));
            }
            let mut decision = self.stay(state, attempt, Reason::RouteNotProgrammed);
            decision.effects.push(Effect::Write(newest.clone()));
            return Some(self.look_again(decision));
        }
        let edited = attempt.hold.filter(|hold| hold.reason == Reason::ForeignEdit);
        let hold = edited.or(Some(HoldSince {
            reason: Reason::ForeignEdit,
            since: self.now,
        }));
        let waiting = Attempt {
            hold,
            window: None,
            decisions: attempt.decisions.saturating_add(i64::from(raised)),
            ..attempt.clone()
        };
        let mut decision = self.stay(state, &waiting, Reason::ForeignEdit);
        if raised {
            let zero = Move {
                fenced: false,
                step,
                outcome: Outcome::Hold,
                ..Move::to_zero(attempt, Reason::ForeignEdit)
            };
            decision.effects.push(Effect::Write(self.mark(attempt, &zero)));
        }
        Some(decision)
    }

    /// The mark of a write that reached some routes and not the others: its window has not begun.
    pub(super) fn cut_off(&self, attempt: &Attempt, step: usize) -> Option<&Mark> {
        let settled = self.intact(attempt, step) || self.still_raised(attempt) || self.split_is_foreign(attempt);
        let newest = self.newest(attempt.epoch).filter(|mark| mark.step == step);
        newest.filter(|_| !settled && attempt.hold.is_none() && attempt.window.is_none())
    }

    /// Whether somebody gave the canary more than was written, or a route has not been lowered yet
    /// since somebody did.
    fn still_raised(&self, attempt: &Attempt) -> bool {
        self.raised_by_others(attempt) || self.exposed() && self.lowered(attempt.epoch).is_some()
    }

    /// Whether a route differs from its own mark: a write of ours that was cut off leaves routes
    /// that agree with an older mark, or before the first window one that was never written.
    fn split_is_foreign(&self, attempt: &Attempt) -> bool {
        let first = attempt.window.is_none() && attempt.stage == Stage::Stepping(0);
        self.facts.routes.iter().any(|route| match &route.mark {
            Some(mark) if mark.epoch == attempt.epoch => route.split != Split::At(mark.weight),
            _ => !(first && route.split == Split::AtRest),
        })
    }

    /// Whether somebody gave the canary more than was written.
    fn raised_by_others(&self, attempt: &Attempt) -> bool {
        self.facts.routes.iter().any(|route| {
            let written = route.mark.as_ref().filter(|mark| mark.epoch == attempt.epoch);
            route.split.exposure() > written.map_or(Percent::ZERO, |mark| mark.weight)
        })
    }

    /// Past the commit point: the canary carries everything while stable becomes the new revision.
    pub(super) fn handing_over(&self, state: &State, attempt: &Attempt) -> Decision {
        let Some(workload) = &self.facts.workload else {
            return self.guard_handover(state, attempt, Reason::WorkloadMissing);
        };
        // Also when the routes are restored already, and only that could not be stored; but never
        // before the commit point is: without a mark on the routes nothing else would tell of it.
        if workload.rolled_out && !workload.held {
            if behind(state, attempt) {
                return self.stay(state, attempt, Reason::Committed);
            }
            let state = State {
                proven: Some(attempt.revision.clone()),
                ..state.clone()
            };
            let attempt = attempt.moved(Stage::Restoring, self.now);
            let mut decision = self.stay(&state, &attempt, Reason::Committed);
            decision.effects.push(Effect::Restore);
            decision.wake_at = Some(self.now + self.plan.deadlines.drain);
            return decision;
        }
        if !self.all_committed(attempt) {
            return self.guard_handover(state, attempt, Reason::Committed);
        }
        if workload.held {
            let mut decision = self.stay(state, attempt, Reason::Committed);
            decision.effects.push(Effect::Release);
            return decision;
        }
        let deadline = attempt.since + self.plan.deadlines.handover;
        let late = self.now >= deadline;
        let mut decision = self.stay(
            state,
            attempt,
            if late {
                Reason::HandoverDeadline
            } else {
                Reason::Committed
            },
        );
        decision.wake_at = (!late).then_some(deadline);
        decision
    }

    /// Keeps all traffic at the canary, which is the safe target now.
    pub(super) fn guard_handover(&self, state: &State, attempt: &Attempt, reason: Reason) -> Decision {
        let missing = self.facts.routes.iter().any(|route| route.split == Split::Missing);
        let reason = if missing { Reason::RouteMissing } else { reason };
        if self.outdated(attempt) {
            return self.stay(state, attempt, Reason::ForeignEdit);
        }
        let mut decision = self.stay(state, attempt, reason);
        if !self
            .facts
            .routes
            .iter()
            .all(|route| route.split == Split::Missing || committed(attempt, route))
        {
            decision
                .effects
                .push(Effect::Write(self.committed(attempt, Reason::Committed)));
        }
        decision
    }

    fn all_committed(&self, attempt: &Attempt) -> bool {
        self.facts.routes.iter().all(|route| committed(attempt, route))
    }

    /// The route is the user's again; the canary goes after its last requests.
    pub(super) fn restoring(&self, state: &State, attempt: &Attempt) -> Decision {
        if self.exposed() || self.marks(attempt.epoch).next().is_some() {
            let attempt = Attempt {
                since: self.now,
                ..attempt.clone()
            };
            let mut decision = self.stay(state, &attempt, Reason::Committed);
            decision.effects.push(Effect::Restore);
            decision.wake_at = Some(self.now + self.plan.deadlines.drain);
            return decision;
        }
        let drained = attempt.since + self.plan.deadlines.drain;
        if self.now < drained {
            let mut decision = self.stay(state, attempt, Reason::Committed);
            decision.wake_at = Some(drained);
            return decision;
        }
        let state = State {
            attempt: None,
            ..state.clone()
        };
        let mut decision = self.keep(&state, vec![Effect::Remove], Reason::Completed);
        decision.outcome = Outcome::Promote;
        decision
    }

    /// Weight 0 first, then the last requests, then the pods.
    pub(super) fn aborting(&self, state: &State, attempt: &Attempt, reason: Reason) -> Decision {
        let unfenced = self.marks(attempt.epoch).any(|mark| !mark.fenced);
        if self.exposed() || unfenced {
            let mut decision = self.stay(state, attempt, reason);
            decision
                .effects
                .push(Effect::Write(self.mark(attempt, &Move::to_zero(attempt, reason))));
            decision.outcome = Outcome::Abort;
            decision.wake_at = Some(self.now + self.plan.deadlines.drain);
            return decision;
        }
        let drained = attempt.since + self.plan.deadlines.drain;
        if self.now < drained {
            let mut decision = self.stay(state, attempt, reason);
            decision.outcome = Outcome::Abort;
            decision.wake_at = Some(drained);
            return decision;
        }
        let over = matches!(
            reason,
            Reason::Superseded | Reason::Reverted | Reason::Deleted | Reason::Unheld
        );
        let next = (!over).then(|| attempt.moved(Stage::Rejected(reason), self.now));
        let mut decision = self.keep(
            &State {
                attempt: next,
                ..state.clone()
            },
            vec![Effect::Restore, Effect::Remove],
            reason,
        );
        decision.outcome = Outcome::Abort;
        decision
    }

    /// The refused template stays held. Whoever gives it traffic again is corrected.
    pub(super) fn rejected(&self, state: &State, attempt: &Attempt, reason: Reason) -> Decision {
        let mut decision = self.stay(state, attempt, Reason::Rejected);
        decision.outcome = Outcome::Abort;
        if self.exposed() {
            decision
                .effects
                .push(Effect::Write(self.mark(attempt, &Move::to_zero(attempt, reason))));
        } else if self.facts.routes.iter().any(|route| route.split.names_canary()) {
            decision.effects.push(Effect::Restore);
        } else if self.facts.canary.exists {
            decision.effects.push(Effect::Remove);
        }
        decision
    }

    // ---- what the rules ask ----

    /// What the judge said about this step of this attempt.
    pub(super) fn judged(&self, attempt: &Attempt, step: usize) -> Option<&Judged> {
        self.facts
            .judged
            .as_ref()
            .filter(|judged| judged.epoch == attempt.epoch && judged.step == step)
    }

    /// A hold that only a person ends.
    fn waiting(&self, attempt: &Attempt) -> Option<Reason> {
        attempt
            .hold
            .map(|hold| hold.reason)
            .or_else(|| self.facts.suspended.then_some(Reason::Suspended))
    }

    fn fresh(&self, judged: &Judged) -> bool {
        self.now - judged.at <= self.plan.patience
    }

    /// The judge wakes the machine when it has something to say; this is for when it has not.
    fn look_again(&self, mut decision: Decision) -> Decision {
        decision.wake_at = Some(self.now + self.plan.patience);
        decision
    }
}

/// Whether a route carries the commit point of an attempt, with the weight that belongs to it.
fn committed(attempt: &Attempt, route: &RouteFact) -> bool {
    let mark = route
        .mark
        .as_ref()
        .filter(|mark| mark.epoch == attempt.epoch && mark.safe == SafeTarget::Canary);
    mark.is_some_and(|mark| route.split == Split::At(mark.weight))
}
