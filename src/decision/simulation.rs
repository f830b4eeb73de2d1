//! A world in which the machine's effects come true, to see where its decisions lead.

use super::{
    Attempt, CanaryFact, Deadlines, Decision, Effect, Facts, Judged, Mark, Millis, NoEvidencePolicy, OnInconclusive,
    Outcome, Percent, Plan, Reason, Request, Revision, RouteFact, SafeTarget, Split, Stage, State, Step, Then, Verb,
    Verdict, WorkloadFact, decide,
};

/// Time between two passes.
const TICK: Millis = Millis::from_secs(10);

pub(super) fn share(value: i64) -> Percent {
    Percent::try_from(value).expect("0 to 100")
}

pub(super) fn revision(name: &str) -> Revision {
    Revision(name.to_owned())
}

/// Five steps, holdback 5, one minute to five at each; evidence may be missing for two minutes.
pub(super) fn plan() -> Plan {
    let step = |weight| Step {
        weight: share(weight),
        min_window: Millis::from_secs(60),
        max_window: Millis::from_secs(300),
    };
    Plan {
        policy_hash: "policy".into(),
        patience: Millis::from_secs(30),
        steps: [1, 5, 25, 50, 100].map(step).to_vec(),
        holdback: share(5),
        on_inconclusive: OnInconclusive::Hold,
        on_no_evidence: NoEvidencePolicy {
            hold: Millis::from_secs(120),
            then: Then::Abort,
        },
        deadlines: Deadlines {
            ready: Millis::from_secs(60),
            route: Millis::from_secs(30),
            handover: Millis::from_secs(60),
            drain: Millis::from_secs(5),
        },
    }
}

/// What the judge says in this world, whatever step is asked about.
#[derive(Clone)]
pub(super) enum Judge {
    Says(Verdict),
    Blind,
    Silent,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) state: State,
    pub(super) now: Millis,
    pub(super) template: Revision,
    pub(super) held: bool,
    pub(super) released: bool,
    pub(super) rolled_out: bool,
    pub(super) gone: bool,
    pub(super) routes: Vec<(Split, Option<Mark>)>,
    pub(super) canary: Option<Revision>,
    pub(super) crashing: bool,
    /// Canary pods asked for; three are needed for any step but the first.
    pub(super) pods: i64,
    pub(super) judge: Judge,
    pub(super) programmed: bool,
    pub(super) suspended: bool,
    pub(super) deleted: bool,
    pub(super) disowned: bool,
    pub(super) request: Option<Request>,
    pub(super) answers: Vec<(String, bool, Reason)>,
    pub(super) weights: Vec<u8>,
    pub(super) reasons: Vec<Reason>,
}

impl World {
    /// At rest, `v1` adopted, a good judge.
    pub(super) fn new() -> Self {
        let mut world = Self {
            plan: plan(),
            state: State::default(),
            now: Millis::from_secs(1_000_000),
            template: revision("v1"),
            held: false,
            released: false,
            rolled_out: true,
            gone: false,
            routes: vec![(Split::AtRest, None), (Split::AtRest, None)],
            canary: None,
            crashing: false,
            pods: 3,
            judge: Judge::Says(Verdict::Pass(Reason::Safe)),
            programmed: true,
            suspended: false,
            deleted: false,
            disowned: false,
            request: None,
            answers: vec![],
            weights: vec![],
            reasons: vec![],
        };
        world.pass();
        assert_eq!(
            world.state.proven,
            Some(revision("v1")),
            "the first revision is adopted"
        );
        world
    }

    pub(super) fn pushed(mut self, name: &str) -> Self {
        self.push(name);
        self
    }

    pub(super) fn push(&mut self, name: &str) {
        self.template = revision(name);
        self.held = true;
    }

    pub(super) fn ask(&mut self, verb: Verb) {
        self.request = Some(Request {
            name: format!("{verb:?}"),
            verb,
            revision: None,
            by: "ada".into(),
            at: self.now,
        });
    }

    pub(super) fn facts(&self) -> Facts {
        let (epoch, step) = match &self.state.attempt {
            Some(Attempt {
                epoch,
                stage: Stage::Stepping(step),
                ..
            }) => (*epoch, *step),
            Some(attempt) => (attempt.epoch, 0),
            None => (0, 0),
        };
        let judged = |verdict, blind_since| Judged {
            epoch,
            step,
            at: self.now,
            verdict,
            receiving: self.exposure() > 0,
            blind_since,
            no_harm: false,
            rule: "rule".into(),
            evidence_hash: "hash".into(),
            readings: vec![],
        };
        let ready = if self.canary.is_some() && !self.crashing { 3 } else { 0 };
        Facts {
            leader: true,
            suspended: self.suspended,
            deleted: self.deleted,
            workload: (!self.gone).then(|| WorkloadFact {
                template: self.template.clone(),
                held: self.held,
                released: self.released,
                rolled_out: self.rolled_out && !self.held,
                adopted: true,
            }),
            routes: self
                .routes
                .iter()
                .map(|(split, mark)| RouteFact {
                    split: *split,
                    mark: mark.clone(),
                    programmed: self.programmed,
                })
                .collect(),
            canary: CanaryFact {
                revision: self.canary.clone(),
                ready,
                desired: self.pods,
                needed: 1,
                needed_next: 3,
                exists: self.canary.is_some(),
            },
            preflight: None,
            judged: match &self.judge {
                Judge::Says(verdict) => Some(judged(verdict.clone(), None)),
                Judge::Blind => Some(judged(
                    Verdict::Inconclusive(Reason::NoEvidence),
                    Some(Millis::from_secs(1_000_000)),
                )),
                Judge::Silent => None,
            },
            request: self.request.clone(),
        }
    }

    pub(super) fn exposure(&self) -> u8 {
        self.routes
            .iter()
            .map(|(split, _)| split.exposure().get())
            .max()
            .unwrap_or(0)
    }

    pub(super) fn pass(&mut self) -> Decision {
        let decision = decide(&self.plan, &self.state, &self.facts(), self.now);
        for effect in &decision.effects {
            self.perform(effect);
        }
        self.state = decision.state.clone();
        if self.reasons.last() != Some(&decision.reason) {
            self.reasons.push(decision.reason);
        }
        decision
    }

    pub(super) fn perform(&mut self, effect: &Effect) {
        match effect {
            Effect::Adopt | Effect::Freeze | Effect::GuardStable => {}
            Effect::ScaleCanary { .. } => self.canary = Some(self.template.clone()),
            Effect::Write(mark) => {
                for route in self.routes.iter_mut().filter(|(split, _)| *split != Split::Missing) {
                    *route = (Split::At(mark.weight), Some(mark.clone()));
                }
                self.weights.push(mark.weight.get());
            }
            Effect::Release => (self.held, self.released) = (false, self.state.attempt.is_some()),
            Effect::Restore => {
                self.released = false;
                for (split, mark) in &mut self.routes {
                    if split.names_canary() {
                        *split = Split::AtRest;
                    }
                    *mark = mark.take().filter(|mark| mark.fenced);
                }
            }
            Effect::Remove => self.canary = None,
            Effect::Disown => self.disowned = true,
            Effect::Answer { name, granted, reason } => {
                self.answers.push((name.clone(), *granted, *reason));
                self.request = None;
            }
        }
    }

    /// Passes at every tick for so long.
    pub(super) fn run(&mut self, secs: i64) {
        let end = self.now + Millis::from_secs(secs);
        while self.now < end {
            self.pass();
            self.now = self.now + TICK;
        }
    }

    pub(super) fn stage(&self) -> Option<Stage> {
        self.state.attempt.as_ref().map(|attempt| attempt.stage)
    }

    pub(super) fn at_rest(&self) -> bool {
        self.state.attempt.is_none()
            && self.routes.iter().all(|(split, _)| *split == Split::AtRest)
            && self.canary.is_none()
    }
}

#[test]
fn a_good_release_passes_every_step_and_leaves_the_route_as_it_was() {
    let mut world = World::new().pushed("v2");
    world.run(900);
    assert_eq!(world.weights, [1, 5, 25, 50, 95, 100]);
    assert!(world.at_rest() && !world.held);
    assert_eq!(world.state.proven, Some(revision("v2")));
    assert!(world.reasons.contains(&Reason::Completed), "{:?}", world.reasons);
}

/// With windows shorter than the time between two readings nothing else wakes the machine.
#[test]
fn a_step_is_looked_at_again_when_its_window_is_over() {
    let mut world = World::new().pushed("v2");
    while world
        .state
        .attempt
        .as_ref()
        .is_none_or(|attempt| attempt.window.is_none())
    {
        world.pass();
    }
    for (window, wakes_after) in [(7, 7), (60, 30)] {
        world.plan.steps[0].min_window = Millis::from_secs(window);
        world.state.attempt.as_mut().expect("in flight").window = None;
        let wakes = world.pass().wake_at.map(|at| at - world.now);
        assert_eq!(wakes, Some(Millis::from_secs(wakes_after)), "a window of {window} s");
    }
}

/// How long after a weight the next step's pods are asked for; passes at every wake time, and when
/// the watch shows what was written.
fn asked_ahead(min_window: i64, held: bool) -> Option<i64> {
    let mut world = World::new().pushed("v2");
    world.plan.steps[0].min_window = Millis::from_secs(min_window);
    world.plan.steps[0].max_window = Millis::from_secs(min_window + 600);
    world.judge = Judge::Says(Verdict::Inconclusive(Reason::Undecided));
    world.pods = 1;
    for _ in 0..30 {
        let decision = world.pass();
        let attempt = decision.state.attempt.as_ref()?;
        world.suspended = held && attempt.stage != Stage::Preparing;
        if decision.effects.contains(&Effect::ScaleCanary { step: 1 }) {
            return Some((world.now - attempt.since).0 / 1000);
        }
        if decision.outcome == Outcome::Promote {
            continue;
        }
        world.now = decision.wake_at.map_or(world.now, |at| at.max(world.now));
    }
    None
}

#[test]
fn pods_for_the_next_step_are_asked_for_before_its_time_and_never_while_held() {
    for (min_window, asked) in [(7, 0), (60, 0), (61, 1), (300, 240)] {
        assert_eq!(
            asked_ahead(min_window, false),
            Some(asked),
            "a window of {min_window} s"
        );
    }
    assert_eq!(asked_ahead(300, true), None);
}

#[test]
fn a_bad_release_goes_to_zero_at_once_and_its_template_stays_held() {
    let mut world = World::new().pushed("v2");
    world.run(100);
    assert_eq!(world.exposure(), 5);
    world.judge = Judge::Says(Verdict::Fail(Reason::Harm));
    let decision = world.pass();
    assert_eq!(
        (decision.outcome, decision.reason, world.exposure()),
        (Outcome::Abort, Reason::Harm, 0)
    );
    world.run(60);
    assert_eq!(world.stage(), Some(Stage::Rejected(Reason::Harm)));
    assert!(world.held && world.canary.is_none());
    world.judge = Judge::Says(Verdict::Pass(Reason::Safe));
    world.run(600);
    assert_eq!(
        world.exposure(),
        0,
        "a refused revision never gets traffic again by itself"
    );
}

/// What happens in flight, and where the release is two minutes later: exposure and stage.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn whatever_goes_wrong_in_flight_the_release_never_climbs() {
    type Event = fn(&mut World);
    let rejected = |reason| Some(Stage::Rejected(reason));
    let cases: Vec<(&str, Event, u8, Option<Stage>)> = vec![
        (
            "nothing decides",
            |w| w.judge = Judge::Says(Verdict::Inconclusive(Reason::Undecided)),
            5,
            Some(Stage::Stepping(1)),
        ),
        (
            "the judge is blind",
            |w| w.judge = Judge::Blind,
            0,
            rejected(Reason::EvidenceDeadline),
        ),
        (
            "the judge is silent",
            |w| w.judge = Judge::Silent,
            0,
            rejected(Reason::EvidenceDeadline),
        ),
        (
            "the gateway does not follow, and so nothing is seen",
            |w| (w.programmed, w.judge) = (false, Judge::Blind),
            0,
            rejected(Reason::RouteDeadline),
        ),
        (
            "the gate is suspended",
            |w| w.suspended = true,
            5,
            Some(Stage::Stepping(1)),
        ),
        (
            "suspended, then harm",
            |w| {
                w.suspended = true;
                w.judge = Judge::Says(Verdict::Fail(Reason::Harm));
            },
            0,
            rejected(Reason::Harm),
        ),
        ("a person holds", |w| w.ask(Verb::Hold), 5, Some(Stage::Stepping(1))),
        (
            "a person aborts",
            |w| w.ask(Verb::Abort),
            0,
            rejected(Reason::Requested),
        ),
        (
            "the canary crashes",
            |w| w.crashing = true,
            0,
            rejected(Reason::CanaryLost),
        ),
        (
            "the canary is raised by hand",
            |w| w.routes[0].0 = Split::At(share(90)),
            0,
            Some(Stage::Stepping(1)),
        ),
        (
            "the canary is lowered by hand",
            |w| w.routes[0].0 = Split::At(share(0)),
            5,
            Some(Stage::Stepping(1)),
        ),
        (
            "the split is removed by hand",
            |w| w.routes[0] = (Split::AtRest, None),
            5,
            Some(Stage::Stepping(1)),
        ),
        (
            "a rule is added by hand",
            |w| w.routes[1].0 = Split::Uneven(share(5)),
            5,
            Some(Stage::Stepping(1)),
        ),
        (
            "a route is deleted",
            |w| w.routes[1] = (Split::Missing, None),
            5,
            Some(Stage::Stepping(1)),
        ),
        (
            "the Deployment is deleted",
            |w| w.gone = true,
            5,
            Some(Stage::Stepping(1)),
        ),
        ("the template goes back", |w| w.template = revision("v1"), 0, None),
    ];
    for (case, event, exposure, stage) in cases {
        let mut world = World::new().pushed("v2");
        world.run(100);
        assert_eq!((world.exposure(), world.stage()), (5, Some(Stage::Stepping(1))));
        event(&mut world);
        world.run(130);
        assert!(
            world.exposure() <= exposure,
            "{case}: {:?} {:?}",
            world.weights,
            world.reasons
        );
        assert_eq!(world.stage(), stage, "{case}: {:?}", world.reasons);
    }
}

#[test]
fn a_newer_template_goes_back_to_stable_at_once_and_starts_over() {
    let mut world = World::new().pushed("v2");
    world.run(100);
    world.push("v3");
    world.pass();
    assert_eq!(world.exposure(), 0);
    world.judge = Judge::Says(Verdict::Inconclusive(Reason::Undecided));
    world.run(60);
    let attempt = world.state.attempt.clone().expect("a new attempt");
    assert_eq!(
        (attempt.revision, attempt.epoch, attempt.stage),
        (revision("v3"), 2, Stage::Stepping(0))
    );
}

#[test]
fn a_gate_deleted_in_flight_or_after_an_abort_never_rolls_the_template_out() {
    for judge in [
        Judge::Says(Verdict::Pass(Reason::Safe)),
        Judge::Says(Verdict::Fail(Reason::Harm)),
    ] {
        let mut world = World::new().pushed("v2");
        world.run(80);
        world.judge = judge;
        world.run(30);
        world.deleted = true;
        world.run(60);
        assert!(world.disowned && world.held && world.at_rest(), "{:?}", world.reasons);
    }
}

#[test]
fn every_request_is_answered_once_and_only_what_fits_is_granted() {
    let in_flight = || {
        let mut world = World::new().pushed("v2");
        world.judge = Judge::Says(Verdict::Inconclusive(Reason::Undecided));
        world.run(100);
        world
    };
    let rejected = || {
        let mut world = in_flight();
        world.ask(Verb::Abort);
        world.run(60);
        world.answers.clear();
        world
    };
    let cases: [(&str, World, Verb, bool); 8] = [
        ("at rest nothing can be promoted", World::new(), Verb::Promote, false),
        ("in flight a person may promote", in_flight(), Verb::Promote, true),
        ("nothing to resume", in_flight(), Verb::Resume, false),
        ("a hold", in_flight(), Verb::Hold, true),
        ("an abort", in_flight(), Verb::Abort, true),
        ("no retry of what is not refused", in_flight(), Verb::Retry, false),
        ("a retry of what is refused", rejected(), Verb::Retry, true),
        ("no promotion of what is refused", rejected(), Verb::Promote, false),
    ];
    for (case, mut world, verb, granted) in cases {
        world.ask(verb);
        world.pass();
        world.run(30);
        let answers: Vec<bool> = world.answers.iter().map(|(_, granted, _)| *granted).collect();
        assert_eq!(answers, [granted], "{case}");
    }
}

#[test]
fn after_the_commit_point_the_traffic_stays_at_the_canary_until_stable_is_ready() {
    let mut world = World::new().pushed("v2");
    world.rolled_out = false;
    world.run(900);
    assert_eq!(
        (world.stage(), world.exposure(), world.held),
        (Some(Stage::HandingOver), 100, false)
    );
    assert_eq!(world.reasons.last(), Some(&Reason::HandoverDeadline));
    world.judge = Judge::Says(Verdict::Fail(Reason::Harm));
    world.ask(Verb::Abort);
    world.run(60);
    assert_eq!((world.stage(), world.exposure()), (Some(Stage::HandingOver), 100));
    world.routes[0].0 = Split::At(share(0));
    world.run(30);
    assert_eq!(world.exposure(), 100);
    world.rolled_out = true;
    world.run(60);
    assert!(world.at_rest());
}

#[test]
fn an_unheld_change_is_adopted_and_a_held_return_is_released() {
    let mut world = World::new();
    world.template = revision("v2");
    world.pass();
    assert_eq!(
        (world.state.proven.clone(), world.reasons.last()),
        (Some(revision("v2")), Some(&Reason::Unheld))
    );
    world.held = true;
    world.pass();
    assert!(!world.held, "a restart of the proven template is released at once");
}

#[test]
fn without_the_lease_only_an_old_abort_is_carried_out() {
    let mut world = World::new().pushed("v2");
    world.run(100);
    let mut facts = world.facts();
    facts.leader = false;
    for judge in [Verdict::Pass(Reason::Safe), Verdict::Fail(Reason::Harm)] {
        if let Some(judged) = &mut facts.judged {
            judged.verdict = judge;
        }
        let decision = decide(&world.plan, &world.state, &facts, world.now + Millis::from_secs(100));
        assert!(decision.effects.is_empty());
    }
    let mut aborted = world.state.clone();
    if let Some(attempt) = &mut aborted.attempt {
        (attempt.stage, attempt.since) = (Stage::Aborting(Reason::Harm), world.now);
    }
    let later = |secs| decide(&world.plan, &aborted, &facts, world.now + Millis::from_secs(secs)).effects;
    assert!(later(4).is_empty());
    assert!(matches!(later(5).as_slice(), [Effect::Write(mark)] if mark.weight == SafeTarget::Stable.weight()));
}
