//! Whole attempts in a made-up service: how often the judge is wrong, and how fast it is right.

use crate::decision::{Evidence, Millis, Reason, Verdict};

use super::MetricPlan;
use super::world::{Dice, SERVICE, WEIGHTS, World, errors, share};

/// Runs `steps` of `ticks` each to the first failure: the tick at which it came.
fn first_failure(world: &World, plan: &MetricPlan, alpha: f64, ticks: i64, seed: u64) -> Option<i64> {
    let (mut dice, mut analysis) = (Dice(seed), world.analysis(plan.clone(), &WEIGHTS, alpha));
    let mut at = 0;
    for (step, weight) in WEIGHTS.iter().enumerate() {
        analysis.begin_step(step, Millis::from_secs(at * world.seconds));
        for _ in 0..ticks {
            at += 1;
            let tick = world.tick(&mut dice, Millis::from_secs(at * world.seconds), share(*weight));
            analysis.observe(0, &Evidence::Complete(tick));
            if analysis.failure.is_some() {
                return Some(at);
            }
        }
    }
    None
}

#[test]
fn good_releases_are_aborted_no_more_often_than_promised() {
    // at the very edge of the margin, where the promise is tightest, and with a loose promise,
    // so that a broken one shows in a few hundred releases
    let edge = MetricPlan {
        margin_abort: 0.0,
        ..errors()
    };
    let clumps = MetricPlan {
        dispersion: 3.0,
        ..edge.clone()
    };
    let coarse = World { seconds: 60, ..SERVICE };
    for (name, world, plan) in [
        ("independent", coarse, edge),
        ("clumps of 3", World { clump: 3.0, ..coarse }, clumps),
    ] {
        let aborted = (0..120)
            .filter(|seed| first_failure(&world, &plan, 0.2, 6, 1000 + seed).is_some())
            .count();
        assert!(
            aborted <= 24,
            "{name}: {aborted} of 120 aborted, promised are 24 at most"
        );
        assert!(
            aborted >= 3,
            "{name}: {aborted} of 120 aborted: a judge that sees nothing promises nothing"
        );
    }
}

#[test]
fn clumps_break_the_promise_when_dispersion_is_not_told() {
    let world = World {
        clump: 8.0,
        seconds: 60,
        ..SERVICE
    };
    let plan = MetricPlan {
        margin_abort: 0.0,
        ..errors()
    };
    let aborted = (0..20)
        .filter(|seed| first_failure(&world, &plan, 0.2, 10, *seed).is_some())
        .count();
    assert!(
        aborted > 4,
        "{aborted} of 20: the test above would not notice a lost dispersion"
    );
}

#[test]
fn three_times_the_errors_are_found_in_minutes() {
    let world = World { ratio: 3.0, ..SERVICE };
    let found: Vec<i64> = (0..20)
        .filter_map(|seed| first_failure(&world, &errors(), 0.01, 90, seed))
        .collect();
    assert_eq!(found.len(), 20, "every one is found");
    let mean = found.iter().sum::<i64>() / 20 * 10 / 60;
    assert!(mean <= 15, "found after {mean} min on average");
}

#[test]
fn a_healthy_release_passes_every_step_on_evidence() {
    let world = World { rps: 2000.0, ..SERVICE };
    let (mut dice, mut analysis) = (Dice(5), world.analysis(errors(), &WEIGHTS, 0.01));
    let mut at = 0;
    for (step, weight) in WEIGHTS.iter().enumerate() {
        analysis.begin_step(step, Millis::from_secs(at * 10));
        let mut forecast = None;
        let judged = loop {
            at += 1;
            let share = share(*weight);
            analysis.observe(
                0,
                &Evidence::Complete(world.tick(&mut dice, Millis::from_secs(at * 10), share)),
            );
            let judged = analysis.judged(1, step);
            if let Verdict::Pass(_) = judged.verdict {
                break judged;
            }
            forecast = forecast.or(judged.readings.first().and_then(|reading| reading.need));
            assert!(at < 360, "an hour has passed: {}", judged.rule);
        };
        let last = step + 1 == WEIGHTS.len();
        assert_eq!(
            judged.verdict,
            Verdict::Pass(if last { Reason::NoHarm } else { Reason::Safe })
        );
        if let Some(need) = forecast {
            assert!(need.requests > 0.0 && need.seconds.is_some_and(|seconds| seconds > 0.0));
        }
    }
}
