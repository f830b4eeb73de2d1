//! The invariants of the machine, said once and used by every proof: by the enumeration of all
//! abstract states and by the random walks. Written from the rules, not from the machine.

use super::{
    Attempt, Decision, Effect, Facts, Judged, Mark, Millis, OnInconclusive, Outcome, Percent, Plan, Reason, Request,
    SafeTarget, Split, Stage, State, Verb, Verdict, decide,
};

/// Everything that one pass is given.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) plan: Plan,
    pub(super) state: State,
    pub(super) facts: Facts,
    pub(super) now: Millis,
}

impl Case {
    pub(super) fn decide(&self) -> Decision {
        decide(&self.plan, &self.state, &self.facts, self.now)
    }

    fn exposure(&self) -> Percent {
        let shares = self.facts.routes.iter().map(|route| route.split.exposure());
        shares.max().unwrap_or_default()
    }

    fn exposed(&self) -> bool {
        self.exposure() > Percent::ZERO
    }

    /// Whether a write gives the canary more on any route.
    fn raises(&self, mark: &Mark) -> bool {
        let there = self.facts.routes.iter().filter(|route| route.split != Split::Missing);
        there.clone().any(|route| mark.weight > route.split.exposure())
    }

    /// The world after the effects came true, the state not stored.
    pub(super) fn acted(&self, effects: &[Effect]) -> Self {
        let mut after = self.clone();
        for effect in effects {
            after.perform(effect);
        }
        after
    }

    /// The same with the state stored.
    pub(super) fn came_true(&self, decision: &Decision) -> Self {
        let mut after = self.acted(&decision.effects);
        after.state = decision.state.clone();
        after
    }

    fn perform(&mut self, effect: &Effect) {
        match effect {
            Effect::Adopt | Effect::Freeze | Effect::GuardStable | Effect::ScaleCanary { .. } | Effect::Disown => {}
            Effect::Write(mark) => self.write(mark),
            Effect::Release => {
                let handover = self.state.attempt.is_some();
                if let Some(workload) = &mut self.facts.workload {
                    (workload.held, workload.released, workload.rolled_out) = (false, handover, false);
                }
            }
            Effect::Restore => {
                for route in &mut self.facts.routes {
                    if route.split.names_canary() {
                        route.split = Split::AtRest;
                    }
                    route.mark = route.mark.take().filter(|mark| mark.fenced);
                }
            }
            Effect::Remove => {
                self.facts.canary = super::CanaryFact::default();
            }
            Effect::Answer { .. } => self.facts.request = None,
        }
    }

    /// As the router writes: a later attempt, a fence and a commit point stay.
    fn write(&mut self, mark: &Mark) {
        for route in &mut self.facts.routes {
            if route.split == Split::Missing {
                continue;
            }
            let mut next = mark.clone();
            if let Some(live) = route.mark.as_ref().filter(|live| live.epoch >= mark.epoch) {
                let later = live.epoch > mark.epoch;
                let committed = live.safe == SafeTarget::Canary && (later || !mark.takes_back());
                if (later || live.fenced || committed) && mark.weight != live.safe.weight() {
                    continue;
                }
                next.epoch = live.epoch;
                next.fenced = live.fenced || mark.fenced && !later;
                if later || committed {
                    next.safe = live.safe;
                }
            }
            route.split = Split::At(next.weight);
            route.mark = Some(next);
        }
    }
}

/// What an attempt's state and marks say together.
struct Trial<'a> {
    attempt: &'a Attempt,
    marks: Vec<&'a Mark>,
}

impl<'a> Trial<'a> {
    fn of(case: &'a Case) -> Option<Self> {
        let attempt = case.state.attempt.as_ref()?;
        let marks = case.facts.routes.iter().filter_map(|route| route.mark.as_ref());
        Some(Self {
            attempt,
            marks: marks.filter(|mark| mark.epoch == attempt.epoch).collect(),
        })
    }

    fn early(&self) -> bool {
        matches!(self.attempt.stage, Stage::Preparing | Stage::Stepping(_))
    }

    fn fenced(&self) -> bool {
        self.marks.iter().any(|mark| mark.fenced)
    }

    fn aborted(&self) -> bool {
        matches!(self.attempt.stage, Stage::Aborting(_) | Stage::Rejected(_)) || self.early() && self.fenced()
    }

    fn committed(&self) -> bool {
        let marked = || self.marks.iter().any(|mark| mark.safe == SafeTarget::Canary);
        matches!(self.attempt.stage, Stage::HandingOver | Stage::Restoring)
            || self.early() && !self.fenced() && marked()
    }

    /// The step whose weight was written last, if one was.
    fn step(&self) -> Option<usize> {
        let stored = match self.attempt.stage {
            Stage::Stepping(step) => Some(step),
            _ => None,
        };
        self.marks.iter().map(|mark| mark.step).max().max(stored)
    }

    /// What is asked of it; not what is asked of another revision.
    fn request<'b>(&self, case: &'b Case) -> Option<&'b Request> {
        let request = case.facts.request.as_ref()?;
        let named = request.revision.as_ref();
        named
            .is_none_or(|named| self.attempt.revision.0 == *named)
            .then_some(request)
    }

    /// What the judge says about that step.
    fn judged<'b>(&self, case: &'b Case) -> Option<&'b Judged> {
        let step = self.step()?;
        let judged = case.facts.judged.as_ref()?;
        (judged.epoch == self.attempt.epoch && judged.step == step).then_some(judged)
    }
}

/// Everything that is wrong with a decision; empty when it keeps every invariant.
pub(super) fn violations(case: &Case, decision: &Decision) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    let mut never = |what: &'static str, is: bool| {
        if is {
            wrong.push(what);
        }
    };
    let mut answers = 0;
    for (at, effect) in decision.effects.iter().enumerate() {
        let before = || case.acted(decision.effects.get(..at).unwrap_or_default());
        match effect {
            Effect::Write(mark) => never_written(case, mark, &mut never),
            Effect::Release => never(
                "released a template that is neither proven nor committed",
                !releasable(&before(), decision),
            ),
            Effect::Disown => never("let go of a route that is not at rest", !restable(case)),
            Effect::Restore => never("restored a route that is still needed", !restorable(case)),
            Effect::Remove => never("removed a canary that has traffic", before().exposed()),
            Effect::ScaleCanary { .. } => never(
                "scaled for an attempt that is over",
                !Trial::of(case).is_some_and(|trial| trial.early()),
            ),
            Effect::Answer { name, granted, .. } => {
                answers += 1;
                never(
                    "granted what was asked of another revision",
                    *granted && Trial::of(case).is_none_or(|trial| trial.request(case).is_none()),
                );
                never(
                    "answered what nobody asked",
                    case.facts.request.as_ref().is_none_or(|request| request.name != *name),
                );
            }
            Effect::Adopt | Effect::Freeze | Effect::GuardStable => {}
        }
        never(
            "did more than lower without the lease",
            !case.facts.leader && !lowers(case, effect),
        );
    }
    never("answered twice", answers > 1);
    never(
        "did not go to weight 0 at once",
        must_be_zero(case) && !begins_with_zero(decision),
    );
    never(
        "the number of an attempt fell or was used again",
        !counts_up(case, decision),
    );
    never(
        "trusted a revision that did not earn it",
        !trust_is_earned(case, decision),
    );
    never(
        "an abort was taken back",
        Trial::of(case).is_some_and(|trial| trial.aborted()) && case.facts.leader && revived(decision),
    );
    wrong
}

/// What no write may be or do.
fn never_written(case: &Case, mark: &Mark, never: &mut impl FnMut(&'static str, bool)) {
    let Some(trial) = Trial::of(case) else {
        return never("I1: wrote without an attempt", true);
    };
    let zero = mark.weight == Percent::ZERO;
    let commits = mark.safe == SafeTarget::Canary;
    never(
        "I1: a write whose record tells something else",
        mark.record.to != mark.weight || mark.record.step != mark.step,
    );
    never(
        "I1: a write for another attempt or revision",
        mark.epoch != trial.attempt.epoch || mark.record.revision != trial.attempt.revision,
    );
    never(
        "I1: a write by another policy",
        mark.record.policy_hash != case.plan.policy_hash && !trial.marks.contains(&mark),
    );
    never(
        "I6: a weight that was never planned",
        !zero
            && mark.weight
                != if commits {
                    Percent::ALL
                } else {
                    case.plan.weight_at(mark.step)
                },
    );
    never("a fence with traffic", mark.fenced && !zero);
    never(
        "left the safe target after the commit point",
        trial.committed() && !(commits && mark.weight == Percent::ALL) && !is_retreat(case, mark),
    );
    if !case.raises(mark) {
        return;
    }
    never(
        "I4: raised an attempt that was aborted",
        trial.aborted() || trial.fenced() || mark.fenced,
    );
    never("I2: raised without the lease", !case.facts.leader);
    if trial.committed() {
        return;
    }
    never("I2: raised while the gate is being deleted", case.facts.deleted);
    never("I2: raised while suspended", case.facts.suspended);
    let template = case.facts.workload.as_ref().map(|workload| &workload.template);
    never(
        "I2: raised while the Deployment is missing or runs another template",
        template != Some(&trial.attempt.revision),
    );
    never(
        "I2: raised over a later attempt",
        case.facts
            .routes
            .iter()
            .filter_map(|route| route.mark.as_ref())
            .any(|live| live.epoch > mark.epoch),
    );
    never("I2: raised for no reason that counts", !is_earned(case, &trial, mark));
}

/// Whether a write takes a commit point back for another template, while the hold was never released
/// and that is known: neither the Deployment nor what was stored says that it was.
fn is_retreat(case: &Case, mark: &Mark) -> bool {
    let stored = case.state.attempt.as_ref();
    let early = stored.is_some_and(|stored| matches!(stored.stage, Stage::Preparing | Stage::Stepping(_)));
    let held = case.facts.workload.as_ref().is_some_and(|workload| {
        workload.held && !workload.released && stored.is_some_and(|stored| stored.revision != workload.template)
    });
    mark.takes_back() && mark.weight == Percent::ZERO && early && held
}

/// Whether something stands behind a raise: evidence, policy, a person, or an earlier decision.
fn is_earned(case: &Case, trial: &Trial<'_>, mark: &Mark) -> bool {
    if trial.marks.contains(&mark) {
        return true; // finishes on one route what is recorded on another
    }
    let canary = &case.facts.canary;
    let carried =
        |needed: i64| canary.revision.as_ref() == Some(&trial.attempt.revision) && canary.ready >= needed.max(1);
    let commits = mark.safe == SafeTarget::Canary;
    let resumed = trial.request(case).is_some_and(|request| request.verb == Verb::Resume);
    let resumable = trial.attempt.hold.is_none() || resumed;
    let Some(step) = trial.step() else {
        return trial.attempt.stage == Stage::Preparing
            && mark.step == 0
            && !commits
            && resumable
            && case.facts.preflight.is_none()
            && carried(canary.needed_next);
    };
    let next = if commits {
        mark.step == step && case.plan.is_last(step)
    } else {
        mark.step == step + 1
    };
    if let Some(request) = trial.request(case).filter(|_| mark.record.reason == Reason::Requested) {
        let named = mark.record.by.as_ref() == Some(&request.by);
        return named
            && match request.verb {
                Verb::Promote => next && carried(canary.needed_next),
                Verb::Resume => mark.step == 0 && !commits && carried(canary.needed),
                Verb::Approve | Verb::Hold | Verb::Abort | Verb::Retry => false,
            };
    }
    next && carried(canary.needed_next) && resumable && is_proved(case, trial, step)
}

/// Whether complete, fresh evidence for this step, or the policy's word at its end, lets it rise.
fn is_proved(case: &Case, trial: &Trial<'_>, step: usize) -> bool {
    let (Some(judged), Some(window), Some(planned)) =
        (trial.judged(case), trial.attempt.window, case.plan.steps.get(step))
    else {
        return false;
    };
    let complete =
        judged.blind_since.is_none() && case.now - judged.at <= case.plan.patience && judged.at >= trial.attempt.since;
    let stayed = case.now - window;
    complete
        && stayed >= planned.min_window
        && match judged.verdict {
            Verdict::Pass(_) => true,
            Verdict::Inconclusive(_) => {
                judged.no_harm && stayed >= planned.max_window && case.plan.on_inconclusive == OnInconclusive::NoHarm
            }
            Verdict::Fail(_) => false,
        }
}

/// I3: harm, a person's abort, lost pods, deletion and a new template before the commit point, and
/// whatever gives an aborted attempt traffic, whether suspended, held or blind.
fn must_be_zero(case: &Case) -> bool {
    let Some(trial) = Trial::of(case).filter(|_| case.facts.leader) else {
        return false;
    };
    if trial.aborted() {
        return case.exposed();
    }
    if trial.committed() {
        return false;
    }
    let judged = case.facts.judged.as_ref();
    let harm = trial.step().is_some()
        && judged
            .is_some_and(|judged| judged.epoch == trial.attempt.epoch && matches!(judged.verdict, Verdict::Fail(_)));
    let lost = trial.step().is_some() && case.exposed() && case.facts.canary.ready == 0;
    let asked = trial.request(case).is_some_and(|request| request.verb == Verb::Abort);
    let replaced =
        case.facts.workload.as_ref().is_some_and(|workload| {
            workload.template != trial.attempt.revision || !workload.held && !workload.released
        });
    harm || lost || asked || replaced || case.facts.deleted
}

fn begins_with_zero(decision: &Decision) -> bool {
    let zero = matches!(decision.effects.first(), Some(Effect::Write(mark)) if mark.fenced && mark.weight == Percent::ZERO && mark.safe == SafeTarget::Stable);
    let over = decision
        .state
        .attempt
        .as_ref()
        .is_some_and(|attempt| matches!(attempt.stage, Stage::Aborting(_) | Stage::Rejected(_)));
    zero && over && decision.outcome == Outcome::Abort
}

/// Without the lease: only weight 0, only for an abort that was recorded.
fn lowers(case: &Case, effect: &Effect) -> bool {
    let aborting = case
        .state
        .attempt
        .as_ref()
        .is_some_and(|attempt| matches!(attempt.stage, Stage::Aborting(_)));
    aborting && matches!(effect, Effect::Write(mark) if mark.fenced && mark.weight == Percent::ZERO)
}

fn releasable(before: &Case, decision: &Decision) -> bool {
    let Some(workload) = &before.facts.workload else {
        return false;
    };
    match &decision.state.attempt {
        None => before.state.proven.as_ref() == Some(&workload.template),
        Some(attempt) => {
            let agree = |mark: &Mark| mark.epoch == attempt.epoch && mark.safe == SafeTarget::Canary;
            workload.template == attempt.revision
                && attempt.stage == Stage::HandingOver
                && before
                    .facts
                    .routes
                    .iter()
                    .all(|route| route.split == Split::At(Percent::ALL) && route.mark.as_ref().is_some_and(agree))
        }
    }
}

fn restable(case: &Case) -> bool {
    let rest = |split: Split| matches!(split, Split::AtRest | Split::Missing);
    case.facts.deleted && case.state.attempt.is_none() && case.facts.routes.iter().all(|route| rest(route.split))
}

fn restorable(case: &Case) -> bool {
    let Some(trial) = Trial::of(case) else {
        return true;
    };
    if trial.aborted() {
        return true;
    }
    let through =
        case.facts.workload.as_ref().is_some_and(|workload| {
            workload.template == trial.attempt.revision && workload.rolled_out && !workload.held
        });
    trial.attempt.stage == Stage::Restoring || trial.committed() && through
}

fn counts_up(case: &Case, decision: &Decision) -> bool {
    let marks = case.facts.routes.iter().filter_map(|route| route.mark.as_ref());
    let highest = marks.map(|mark| mark.epoch).max().unwrap_or(0);
    let begun = decision.state.attempt.as_ref().filter(|_| case.state.attempt.is_none());
    decision.state.epoch >= case.state.epoch
        && begun.is_none_or(|attempt| attempt.epoch > case.state.epoch.max(highest))
}

fn trust_is_earned(case: &Case, decision: &Decision) -> bool {
    if decision.state.proven == case.state.proven {
        return true;
    }
    let Some(workload) = &case.facts.workload else {
        return false;
    };
    let through = Trial::of(case).is_none_or(|trial| trial.committed() && workload.rolled_out);
    decision.state.proven.as_ref() == Some(&workload.template) && !workload.held && through
}

fn revived(decision: &Decision) -> bool {
    decision
        .state
        .attempt
        .as_ref()
        .is_some_and(|attempt| !matches!(attempt.stage, Stage::Aborting(_) | Stage::Rejected(_)))
}

/// What is wrong with deciding again: I9 in both its forms.
pub(super) fn repeated(case: &Case, decision: &Decision) -> Vec<&'static str> {
    let splits = |case: &Case| case.facts.routes.iter().map(|route| route.split).collect::<Vec<_>>();
    let writes = |decision: &Decision| decision.effects.iter().any(|effect| matches!(effect, Effect::Write(_)));
    let mut wrong = Vec::new();
    let answers = decision
        .effects
        .iter()
        .any(|effect| matches!(effect, Effect::Answer { .. }));
    if decision.effects.is_empty() || case.facts.request.is_some() && !answers {
        return wrong; // a request that is left open is the next pass's business
    }
    // to end a trial is another decision, not the same again
    let ends = |next: &Decision| next.outcome == Outcome::Abort && decision.outcome != Outcome::Abort;
    let next = case.came_true(decision).decide();
    if writes(&next) && !ends(&next) {
        wrong.push("I9: wrote again after the write came true");
    }
    // the process ended before the answer, and nothing was stored
    let done: Vec<Effect> = decision
        .effects
        .iter()
        .filter(|effect| !matches!(effect, Effect::Answer { .. }))
        .cloned()
        .collect();
    let crashed = case.acted(&done);
    let redone = crashed.decide();
    if writes(&redone) && splits(&crashed.acted(&redone.effects)) != splits(&crashed) && !ends(&redone) {
        wrong.push("I9: acting twice differs from acting once");
    }
    wrong
}
