//! What the release does when a process, a person or somebody else comes in between.

use super::simulation::{Judge, World, revision, share};
use super::{Decision, Effect, Facts, Mark, Millis, Outcome, Reason, Split, Stage, Verb, Verdict, decide};

/// What a pass must do at once although somebody waits for an answer.
#[test]
fn a_request_never_delays_the_way_to_zero_and_never_opens_one_up() {
    type Event = fn(&mut World);
    let cases: [(&str, Verb, Event, bool); 7] = [
        (
            "harm, while a promotion waits for pods",
            Verb::Promote,
            |w| w.judge = Judge::Says(Verdict::Fail(Reason::Harm)),
            false,
        ),
        (
            "harm, while a person holds",
            Verb::Hold,
            |w| w.judge = Judge::Says(Verdict::Fail(Reason::Harm)),
            false,
        ),
        (
            "pods lost, while a promotion waits for them",
            Verb::Promote,
            |w| w.crashing = true,
            false,
        ),
        (
            "a promotion of a gate that is being deleted",
            Verb::Promote,
            |w| w.deleted = true,
            false,
        ),
        (
            "a promotion of a template that is not there any more",
            Verb::Promote,
            |w| w.template = revision("v3"),
            false,
        ),
        (
            "an abort and harm",
            Verb::Abort,
            |w| w.judge = Judge::Says(Verdict::Fail(Reason::Harm)),
            true,
        ),
        (
            "a request to an aborted release that got traffic again",
            Verb::Retry,
            |w| {
                w.ask(Verb::Abort);
                w.run(30);
                w.routes[0].0 = Split::At(share(50));
                w.ask(Verb::Promote);
                w.answers.clear();
            },
            false,
        ),
    ];
    for (case, verb, event, granted) in cases {
        let mut world = World::new().pushed("v2");
        world.judge = Judge::Says(Verdict::Inconclusive(Reason::Undecided));
        world.run(100);
        world.ask(verb);
        event(&mut world);
        world.pass();
        assert_eq!(world.exposure(), 0, "{case}");
        let answers: Vec<bool> = world.answers.iter().map(|(_, granted, _)| *granted).collect();
        assert_eq!(answers, [granted], "{case}");
    }
}

#[test]
fn a_promotion_is_used_once_even_if_the_process_ends_before_the_answer() {
    let mut world = World::new().pushed("v2");
    world.judge = Judge::Says(Verdict::Inconclusive(Reason::Undecided));
    world.run(100);
    let before = world.state.clone();
    world.ask(Verb::Promote);
    let request = world.request.clone();
    world.pass();
    assert_eq!(world.weights, [1, 5]);
    (world.state, world.request) = (before, request);
    world.answers.clear();
    world.run(60);
    assert_eq!((world.exposure(), world.answers.len()), (5, 1), "{:?}", world.answers);
    assert!(world.answers.iter().all(|(_, granted, _)| *granted));
}

#[test]
fn a_hold_after_a_foreign_edit_outlives_the_process_that_could_not_store_it() {
    let mut world = World::new().pushed("v2");
    world.run(100);
    let before = world.state.clone();
    world.routes[0].0 = Split::At(share(90));
    world.pass();
    assert_eq!(world.exposure(), 0);
    world.state = before;
    world.run(300);
    assert_eq!(
        (world.exposure(), world.reasons.last()),
        (0, Some(&Reason::ForeignEdit))
    );
}

#[test]
fn a_first_weight_that_was_taken_away_is_held_and_not_passed() {
    let mut world = World::new().pushed("v2");
    world.judge = Judge::Says(Verdict::Inconclusive(Reason::Undecided));
    world.run(40);
    assert_eq!((world.exposure(), world.stage()), (1, Some(Stage::Stepping(0))));
    world.judge = Judge::Says(Verdict::Pass(Reason::Safe));
    world.state.attempt.as_mut().expect("in flight").window = None;
    world.routes = vec![(Split::AtRest, None), (Split::AtRest, None)];
    world.run(100);
    assert_eq!(
        (world.exposure(), world.reasons.last()),
        (0, Some(&Reason::ForeignEdit))
    );
}

#[test]
fn after_an_abort_that_somebody_undid_the_route_is_put_back_and_keeps_the_fence() {
    let mut world = World::new().pushed("v2");
    world.run(100);
    world.ask(Verb::Abort);
    world.run(30);
    world.routes[0].0 = Split::At(share(50));
    world.run(30);
    let at_rest = |(split, mark): &(Split, Option<Mark>)| {
        *split == Split::AtRest && mark.as_ref().is_some_and(|mark| mark.fenced)
    };
    assert!(world.routes.iter().all(at_rest), "{:?}", world.routes);
}

#[test]
fn no_two_decisions_share_a_number() {
    let mut world = World::new().pushed("v2");
    world.run(100);
    world.routes[0].0 = Split::At(share(90));
    let first = world.pass();
    world.ask(Verb::Resume);
    let second = world.pass();
    let id = |decision: &Decision| match decision.effects.first() {
        Some(Effect::Write(mark)) => mark.record.id.clone(),
        other => panic!("a write, not {other:?}"),
    };
    assert_ne!(id(&first), id(&second));
}

#[test]
fn what_is_asked_of_another_revision_is_refused_and_changes_nothing() {
    for verb in [Verb::Promote, Verb::Hold, Verb::Resume, Verb::Abort, Verb::Retry] {
        for (named, other) in [("0123456789", true), ("9876543210", false), ("987654", false)] {
            let mut world = World::new().pushed("9876543210");
            world.judge = Judge::Says(Verdict::Inconclusive(Reason::Undecided));
            world.run(100);
            let (before, exposure) = (world.state.clone(), world.exposure());
            world.ask(verb);
            world.request.as_mut().expect("asked").revision = Some(named.to_owned());
            world.pass();
            let answers: Vec<_> = world.answers.iter().map(|(_, _, reason)| *reason).collect();
            assert_eq!(
                answers == [Reason::OtherRevision],
                other,
                "{verb:?} {named}: {answers:?}"
            );
            if other {
                assert_eq!((&world.state, world.exposure()), (&before, exposure), "{verb:?}");
            }
        }
    }
}

/// A leader that ends between the commit point and the release of the hold, and then a push.
fn committed_but_not_released() -> World {
    let mut world = World::new().pushed("v2");
    world.rolled_out = false;
    while world.exposure() < 100 {
        let before = world.state.clone();
        let held = world.held;
        world.pass();
        if world.exposure() == 100 {
            (world.state, world.held, world.released) = (before, held, false);
        }
        world.now = world.now + Millis::from_secs(10);
    }
    assert_eq!(world.stage(), Some(Stage::Stepping(4)));
    world
}

#[test]
fn a_push_before_the_hold_is_released_goes_back_to_stable_and_starts_over() {
    for (name, reason) in [("v3", Reason::Superseded), ("v1", Reason::Reverted)] {
        let mut world = committed_but_not_released();
        world.push(name);
        let decision = world.pass();
        assert_eq!(
            (world.exposure(), decision.outcome, decision.reason),
            (0, Outcome::Abort, reason),
            "{name}"
        );
        world.rolled_out = true;
        world.now = world.now + Millis::from_secs(10);
        if name == "v1" {
            world.run(60);
            assert!(world.at_rest() && !world.held, "{name}: {:?}", world.reasons);
        } else {
            world.run(600);
            assert_eq!(world.state.proven, Some(revision("v3")), "{:?}", world.reasons);
            assert_eq!(world.state.epoch, 2);
        }
    }
}

#[test]
fn once_the_hold_was_released_the_canary_keeps_the_traffic_whatever_is_pushed() {
    type Before = fn(&mut World);
    let cases: [(&str, Before); 3] = [
        ("the release is seen on the Deployment", |w| w.released = true),
        ("the release was stored", |w| {
            w.pass();
            assert_eq!(w.stage(), Some(Stage::HandingOver));
            w.released = false;
        }),
        ("nothing is held", |_| {}),
    ];
    for (case, before) in cases {
        let mut world = committed_but_not_released();
        before(&mut world);
        world.push("v3");
        world.held = case != "nothing is held";
        world.run(60);
        assert_eq!(world.exposure(), 100, "{case}: {:?}", world.reasons);
    }
}

#[test]
fn a_write_cut_off_between_two_routes_is_finished_and_never_undone() {
    let mut world = World::new().pushed("v2");
    world.run(100);
    let before = world.state.clone();
    let old = world.routes[1].clone();
    world.run(70);
    assert_eq!(world.exposure(), 25);
    world.state = before;
    world.routes[1] = old;
    world.judge = Judge::Says(Verdict::Inconclusive(Reason::Undecided));
    world.run(30);
    assert!(
        world.routes.iter().all(|(split, _)| *split == Split::At(share(25))),
        "{:?}",
        world.routes
    );
    assert_eq!(world.stage(), Some(Stage::Stepping(2)));
}

#[test]
fn after_a_foreign_edit_a_resume_starts_from_the_first_step() {
    let mut world = World::new().pushed("v2");
    world.run(200);
    assert_eq!(world.exposure(), 25);
    world.routes[0].0 = Split::At(share(0));
    world.run(30);
    assert_eq!(world.reasons.last(), Some(&Reason::ForeignEdit));
    world.weights.clear();
    world.ask(Verb::Resume);
    world.run(900);
    assert_eq!(world.weights, [1, 5, 25, 50, 95, 100]);
}

#[test]
fn a_template_that_somebody_lets_through_ends_its_trial_and_is_trusted() {
    for (until, fails) in [(0, false), (100, false), (100, true)] {
        let mut world = World::new().pushed("v2");
        world.run(until);
        if fails {
            world.judge = Judge::Says(Verdict::Fail(Reason::Harm));
            world.run(60);
            assert_eq!(world.stage(), Some(Stage::Rejected(Reason::Harm)));
        }
        world.pass();
        world.held = false;
        world.run(60);
        assert_eq!(
            (world.state.proven.clone(), world.exposure(), world.at_rest()),
            (Some(revision("v2")), 0, true),
            "after {until} s, refused: {fails}"
        );
        assert!(world.reasons.contains(&Reason::Unheld), "and it is said");
    }
}

#[test]
fn what_holds_the_next_change_is_put_back_at_rest() {
    let world = World::new();
    let mut facts = world.facts();
    let adopted = |facts: &Facts| decide(&world.plan, &world.state, facts, world.now).effects;
    assert_eq!(adopted(&facts), []);
    if let Some(workload) = &mut facts.workload {
        workload.adopted = false;
    }
    assert_eq!(adopted(&facts), [Effect::Adopt]);
}
