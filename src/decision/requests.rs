//! What people ask of a release in flight. Every request is answered once, granted or not.

use super::machine::Pass;
use super::{Attempt, Decision, Effect, HoldSince, Millis, Outcome, Reason, Stage, State, Verb};

impl Pass<'_> {
    /// What a request comes to that fits the stage. An abort is not asked about here: it is not
    /// refused before the commit point.
    pub(super) fn granted(&self, state: &State, attempt: &Attempt) -> Option<Decision> {
        let request = self.facts.request.as_ref()?;
        match (request.verb, attempt.stage) {
            (Verb::Hold, Stage::Preparing | Stage::Stepping(_)) => {
                let hold = Some(HoldSince {
                    reason: Reason::Requested,
                    since: self.now,
                });
                let waiting = Attempt {
                    hold,
                    ..attempt.clone()
                };
                Some(self.in_stage(state, &waiting))
            }
            // A hold that began after the request is not what the person wanted to end. The API
            // server tells the time of a request in whole seconds.
            (Verb::Resume, Stage::Preparing | Stage::Stepping(_))
                if attempt
                    .hold
                    .is_some_and(|hold| request.at + Millis::from_secs(1) > hold.since) =>
            {
                self.resume(state, attempt)
            }
            (Verb::Retry, Stage::Rejected(_)) if !self.exposed() => Some(self.forget(state, Reason::Requested)),
            (Verb::Promote, Stage::Stepping(step))
                if self.intact(attempt, step)
                    && !edited(attempt)
                    && self.obstacle(attempt).is_none()
                    && !behind(state, attempt) =>
            {
                Some(self.advance(state, attempt, step, Reason::Requested))
            }
            _ => None,
        }
    }

    /// Goes on after a hold. Whoever edited the split by hand gets the ladder from its first step.
    fn resume(&self, state: &State, attempt: &Attempt) -> Option<Decision> {
        if !edited(attempt) || attempt.stage == Stage::Preparing {
            let resumed = Attempt {
                hold: None,
                ..attempt.clone()
            };
            return Some(self.in_stage(state, &resumed));
        }
        if self.obstacle(attempt).is_some() {
            return None;
        }
        if !self.carries(attempt, self.facts.canary.needed) {
            return Some(self.wait_for_pods(state, attempt, 0));
        }
        Some(self.raise(state, attempt, 0, Reason::Requested))
    }

    /// The refusal of a request that names another revision than the one on trial.
    pub(super) fn stray(&self, attempt: &Attempt) -> Option<Effect> {
        let request = self.facts.request.as_ref()?;
        let named = request.revision.as_ref()?;
        (!attempt.revision.is_named(named)).then(|| Effect::Answer {
            name: request.name.clone(),
            granted: false,
            reason: Reason::OtherRevision,
        })
    }

    /// Whether the routes say that the open request was carried out before that could be stored or
    /// answered: one consent moves a release by one step.
    fn carried_out(&self, state: &State, attempt: &Attempt) -> bool {
        behind(state, attempt)
            && self.facts.request.as_ref().is_some_and(|request| {
                self.marks(attempt.epoch)
                    .any(|mark| mark.record.reason == Reason::Requested && mark.record.at >= request.at)
            })
    }

    /// The decision with the answer to the open request, if there is one. What waits for pods, for
    /// weight 0 or for a write that was cut off leaves it open, so that it is not lost.
    pub(super) fn answered(
        &self,
        state: &State,
        attempt: &Attempt,
        (granted, mut decision): (bool, Decision),
    ) -> Decision {
        let Some(request) = &self.facts.request else {
            return decision;
        };
        let scales = (request.verb == Verb::Promote || edited(attempt))
            && decision
                .effects
                .iter()
                .any(|effect| matches!(effect, Effect::ScaleCanary { .. }));
        let rezeroes = request.verb == Verb::Retry && matches!(attempt.stage, Stage::Rejected(_)) && self.exposed();
        let finishes = request.verb == Verb::Promote
            && matches!(attempt.stage, Stage::Stepping(step) if self.cut_off(attempt, step).is_some())
            && !behind(state, attempt)
            && decision.outcome == Outcome::Hold;
        if granted && scales || rezeroes || finishes {
            return decision;
        }
        let before = matches!(attempt.stage, Stage::Preparing | Stage::Stepping(_));
        let (granted, reason) = match request.verb {
            Verb::Abort if before => (true, Reason::Requested),
            Verb::Promote | Verb::Resume if self.carried_out(state, attempt) => (true, Reason::Requested),
            _ if granted && decision.outcome != Outcome::Abort => (true, Reason::Requested),
            _ if before && decision.outcome == Outcome::Abort => (false, decision.reason),
            _ => (false, self.refusal(attempt)),
        };
        decision.effects.push(Effect::Answer {
            name: request.name.clone(),
            granted,
            reason,
        });
        decision
    }

    /// Why a request that does not fit the stage is not granted.
    fn refusal(&self, attempt: &Attempt) -> Reason {
        match attempt.stage {
            Stage::Preparing => Reason::CanaryNotReady,
            Stage::Stepping(_) => self
                .obstacle(attempt)
                .or(attempt.hold.map(|hold| hold.reason))
                .unwrap_or(Reason::Undecided),
            Stage::HandingOver | Stage::Restoring => Reason::Committed,
            Stage::Aborting(reason) | Stage::Rejected(reason) => reason,
        }
    }
}

/// Whether the release is held because somebody else changed the split: then only a resume goes on.
fn edited(attempt: &Attempt) -> bool {
    attempt.hold.is_some_and(|hold| hold.reason == Reason::ForeignEdit)
}

/// Whether the routes know of a move that is not stored yet: a promotion asked for before it, or
/// carried out by it, is not one for the step after it.
pub(super) fn behind(state: &State, attempt: &Attempt) -> bool {
    let stored = state.attempt.as_ref();
    stored.is_some_and(|stored| (stored.stage, stored.since) != (attempt.stage, attempt.since))
}
