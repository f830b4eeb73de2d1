//! Releases judged by Tollgate: the very code that the controller runs.

use std::time::Instant;

use engine::decision::{Arm, Evidence, GapKind, Millis, Percent, Tick, Verdict};
use engine::judge::{Analysis, MetricPlan, Settings, Shape};

use crate::draw::Dice;
use crate::outcome::Outcome;
use crate::recording::Recording;
use crate::worlds::{MINUTE, Maker, SECONDS, STEP, Scenario, Seen, WEIGHTS};

/// The shortest stay at a step, and when nobody waits any longer, in ticks.
pub const MIN_WINDOW: usize = 2 * MINUTE;
pub const PATIENCE: usize = 240 * MINUTE;
/// When the first weight is written: a whole minute, with room for history before it.
const BEGAN: i64 = 7_200_000;

/// How Tollgate is set up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup {
    /// The abort margin.
    pub margin: f64,
    /// Whether each route is a metric of its own.
    pub by_route: bool,
    /// How many pods the canary has at each step, where that is told.
    pub canary_pods: &'static [u32],
    /// The share of requests that may fail by the objective, where one is given.
    pub error_budget: Option<f64>,
    /// Whether the hour before the release is not known.
    pub cold: bool,
}

fn tick_ms() -> i64 {
    (SECONDS * 1000.0) as i64
}

fn analysis(setup: &Setup) -> Analysis {
    let plan = |name: &str| MetricPlan {
        margin_abort: setup.margin,
        error_budget: setup.error_budget,
        ..MetricPlan::new(name, Shape::Ratio)
    };
    let plans = if setup.by_route {
        vec![plan("first"), plan("second")]
    } else {
        vec![plan("errors")]
    };
    let settings = Settings {
        canary_pods: setup.canary_pods.to_vec(),
        ..Settings::default()
    };
    Analysis::new(plans, settings, weights()).unwrap()
}

/// The steps as the judge takes them.
pub fn weights() -> Vec<Percent> {
    WEIGHTS
        .map(|weight| Percent::try_from(i64::from(weight)).unwrap())
        .to_vec()
}

fn arm(events: f64, total: f64) -> Arm {
    Arm {
        events: vec![events],
        total,
    }
}

fn counted(at: i64, [a, n, b, m]: [f64; 4], pods: &[[f64; 2]]) -> Evidence<Tick> {
    Evidence::Complete(Tick {
        at: Millis(at),
        canary: arm(a, n),
        baseline: arm(b, m),
        baseline_pods: pods.iter().map(|pod| arm(pod[0], pod[1])).collect(),
    })
}

/// What the source answers for every metric.
fn answers(setup: &Setup, at: i64, seen: &Seen) -> Vec<Evidence<Tick>> {
    let metrics = if setup.by_route { 2 } else { 1 };
    if seen.lost {
        let mut nan = counted(at, [f64::NAN; 4], &[]);
        if at % 3 == 0 {
            nan = Evidence::missing(GapKind::Timeout, "no answer");
        }
        return vec![nan; metrics];
    }
    match seen.second {
        Some(second) if setup.by_route => {
            let first = std::array::from_fn(|count| seen.arms[count] - second[count]);
            vec![counted(at, first, &[]), counted(at, second, &[])]
        }
        _ => vec![counted(at, seen.arms, &seen.pods)],
    }
}

/// Tells the judge; returns how long it took.
fn tell(analysis: &mut Analysis, answers: &[Evidence<Tick>]) -> u64 {
    let before = Instant::now();
    for (index, answer) in answers.iter().enumerate() {
        analysis.observe(index, answer);
    }
    before.elapsed().as_nanos() as u64
}

fn recall(analysis: &mut Analysis, setup: &Setup, history: &[Seen]) {
    if setup.cold {
        return;
    }
    let start = BEGAN - 60_000 * history.len() as i64;
    for (minute, seen) in (1..).zip(history) {
        tell(analysis, &answers(setup, start + minute * 60_000, seen));
    }
}

/// The fixed schedule, on the same recording as everyone.
pub fn fixed(setup: &Setup, recording: &Recording) -> Outcome {
    let mut analysis = analysis(setup);
    recall(&mut analysis, setup, &recording.history);
    let mut outcome = Outcome::default();
    for (at, seen) in recording.ticks.iter().enumerate() {
        if at.is_multiple_of(STEP) {
            analysis.begin_step(at / STEP, Millis(BEGAN + at as i64 * tick_ms()));
        }
        outcome.serve(seen);
        let end = BEGAN + (at as i64 + 1) * tick_ms();
        outcome.nanos += tell(&mut analysis, &answers(setup, end, seen));
        if analysis.failed().is_some() {
            outcome.abort = Some(at + 1);
            return outcome;
        }
    }
    outcome.completed = Some(recording.ticks.len());
    outcome
}

/// To completion, at the pace of the evidence: the next step when this one is passed.
pub fn paced(setup: &Setup, scenario: &Scenario, dice: Dice) -> Outcome {
    let mut maker = Maker::new(scenario, dice);
    let mut analysis = analysis(setup);
    let history: Vec<Seen> = (0..if scenario.pods { crate::worlds::HISTORY } else { 0 })
        .map(|_| maker.history())
        .collect();
    recall(&mut analysis, setup, &history);
    let mut outcome = Outcome::default();
    let (mut step, mut since) = (0, 0);
    analysis.begin_step(0, Millis(BEGAN));
    for at in 0..PATIENCE {
        let seen = maker.tick(at, WEIGHTS[step]);
        outcome.serve(&seen);
        let end = BEGAN + (at as i64 + 1) * tick_ms();
        outcome.nanos += tell(&mut analysis, &answers(setup, end, &seen));
        let before = Instant::now();
        let verdict = analysis.verdict(step);
        outcome.nanos += before.elapsed().as_nanos() as u64;
        outcome.foresee(step, at - since, &analysis);
        match verdict {
            Verdict::Fail(_) => {
                outcome.abort = Some(at + 1);
                return outcome;
            }
            Verdict::Pass(_) if at + 1 - since >= MIN_WINDOW => {
                outcome.pass(step, at + 1 - since);
                if step + 1 == WEIGHTS.len() {
                    outcome.completed = Some(at + 1);
                    return outcome;
                }
                (step, since) = (step + 1, at + 1);
                analysis.begin_step(step, Millis(end));
            }
            _ => {}
        }
    }
    outcome
}
