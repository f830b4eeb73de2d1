//! Random walks through the simulated world: every pass keeps every invariant, and when the faults
//! stop, the release comes to an end or says what it waits for.

use proptest::prelude::*;

use super::simulation::{Judge, World, revision, share};
use super::violations::{Case, violations};
use super::{Millis, Reason, Split, Stage, Verb, Verdict};

/// What may happen between two passes.
const EVENTS: [fn(&mut World); 24] = [
    |_| {},
    |w| w.judge = Judge::Says(Verdict::Pass(Reason::Safe)),
    |w| w.judge = Judge::Says(Verdict::Pass(Reason::Safe)),
    |w| w.judge = Judge::Says(Verdict::Inconclusive(Reason::Undecided)),
    |w| w.judge = Judge::Says(Verdict::Fail(Reason::Harm)),
    |w| w.judge = Judge::Blind,
    |w| w.judge = Judge::Silent,
    |w| w.crashing = !w.crashing,
    |w| w.programmed = !w.programmed,
    |w| w.suspended = !w.suspended,
    |w| w.gone = !w.gone,
    |w| w.rolled_out = !w.rolled_out,
    |w| w.push("v3"),
    |w| w.push("v2"),
    |w| w.push("v1"),
    |w| w.routes[0].0 = Split::At(share(97)),
    |w| w.routes[1].0 = Split::At(share(0)),
    |w| w.routes[0] = (Split::AtRest, None),
    |w| w.routes[1] = (Split::Missing, None),
    |w| w.ask(Verb::Promote),
    |w| w.ask(Verb::Hold),
    |w| w.ask(Verb::Resume),
    |w| w.ask(Verb::Abort),
    |w| w.ask(Verb::Retry),
];

/// One pass of which only the first `effects` are performed; the state is stored after the last.
fn pass(world: &mut World, effects: usize) -> Vec<&'static str> {
    let case = Case {
        plan: world.plan.clone(),
        state: world.state.clone(),
        facts: world.facts(),
        now: world.now,
    };
    let decision = case.decide();
    decision
        .effects
        .iter()
        .take(effects)
        .for_each(|effect| world.perform(effect));
    if effects >= decision.effects.len() {
        world.state = decision.state.clone();
        world.reasons.push(decision.reason);
    }
    violations(&case, &decision)
}

/// Whether nothing is left to do, or a person has to say how to go on.
fn is_settled(world: &World) -> bool {
    world.state.attempt.as_ref().map_or(world.at_rest(), |attempt| {
        matches!(attempt.stage, Stage::Rejected(_)) || attempt.hold.is_some()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_pass_of_every_walk_keeps_the_invariants_and_every_release_ends(
        walk in prop::collection::vec((0..EVENTS.len(), 1..40_i64, prop_oneof![4 => Just(9_usize), 1 => 0..3_usize]), 1..60)
    ) {
        let mut world = World::new().pushed("v2");
        for (event, secs, effects) in walk {
            EVENTS[event](&mut world);
            world.now = world.now + Millis::from_secs(secs);
            let wrong = pass(&mut world, effects);
            prop_assert!(wrong.is_empty(), "{wrong:?}: {:?}, {:?}", world.reasons, world.routes);
        }
        world.judge = Judge::Says(Verdict::Pass(Reason::Safe));
        (world.crashing, world.programmed, world.suspended, world.gone) = (false, true, false, false);
        world.rolled_out = true;
        for (split, _) in world.routes.iter_mut().filter(|(split, _)| *split == Split::Missing) {
            *split = Split::AtRest;
        }
        for _ in 0..200 {
            world.now = world.now + Millis::from_secs(10);
            let wrong = pass(&mut world, 9);
            prop_assert!(wrong.is_empty(), "{wrong:?}: {:?}, {:?}", world.reasons, world.routes);
        }
        prop_assert!(is_settled(&world), "{:?}: {:?}, {:?}", world.state, world.reasons.last(), world.routes);
        prop_assert!(world.template != revision("v1") || !world.held, "the proven template is released");
    }
}

#[test]
fn harm_ends_a_release_whose_resume_was_written_and_not_stored() {
    let mut world = World::new().pushed("v2");
    let (promote, edit, resume, harm) = (19, 15, 21, 4);
    for (event, effects) in [
        (0, 9),
        (edit, 9),
        (edit, 9),
        (promote, 9),
        (edit, 9),
        (resume, 1),
        (harm, 9),
    ] {
        EVENTS[event](&mut world);
        world.now = world.now + Millis::from_secs(1);
        assert_eq!(pass(&mut world, effects), [""; 0], "{:?}", world.reasons);
    }
    assert_eq!((world.exposure(), world.reasons.last()), (0, Some(&Reason::Harm)));
}
