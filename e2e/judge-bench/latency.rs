//! W9: durations with a heavy tail, seen through a classic histogram.
//!
//! 98 % of the requests are lognormal around 80 ms, 2 % come from a Pareto tail above 400 ms. The
//! buckets are the default ones of Prometheus clients. Tollgate judges three tails, at the edges
//! nearest to stable's p50, p90 and p99; the peers compare quantiles, as their documentation does.

use std::time::Instant;

use engine::decision::{Arm, Evidence, Millis, Tick, Verdict};
use engine::judge::{Analysis, MetricPlan, Settings, Shape};
use engine::mann_whitney;
use statrs::distribution::{ContinuousCDF as _, Normal};

use crate::draw::Dice;
use crate::outcome::Outcome;
use crate::worlds::{MINUTE, SECONDS, STEP, Seen, WEIGHTS};
use crate::{EAGER, TO_THE_END, USUAL, ours};

const EDGES: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const BUCKETS: usize = EDGES.len() + 1;
const REQUESTS_PER_SECOND: f64 = 200.0;
type Buckets = [f64; BUCKETS];

/// What is true of the canary's durations.
#[derive(Debug, Clone, Copy)]
pub struct Slowness {
    pub name: &'static str,
    /// All durations are this many times stable's.
    pub scale: f64,
    /// Share of the slow path; stable's is 2 %.
    pub slow: f64,
}

pub const SCENARIOS: [Slowness; 4] = [
    Slowness {
        name: "healthy",
        scale: 1.0,
        slow: 0.02,
    },
    Slowness {
        name: "all 1.10x slower",
        scale: 1.1,
        slow: 0.02,
    },
    Slowness {
        name: "all 1.25x slower",
        scale: 1.25,
        slow: 0.02,
    },
    Slowness {
        name: "slow path 2 % to 4 %",
        scale: 1.0,
        slow: 0.04,
    },
];

/// Share of the requests that are no slower than each edge.
fn cumulated(slowness: &Slowness) -> Buckets {
    let normal = Normal::standard();
    std::array::from_fn(|bucket| {
        let Some(edge) = EDGES.get(bucket) else { return 1.0 };
        let edge = edge / slowness.scale;
        let tail = if edge > 0.4 { 1.0 - (0.4 / edge).powf(1.5) } else { 0.0 };
        (1.0 - slowness.slow) * normal.cdf((edge / 0.08).ln() / 0.6) + slowness.slow * tail
    })
}

/// The buckets whose upper edges are nearest to stable's p50, p90 and p99.
fn tails() -> [usize; 3] {
    let known = cumulated(&SCENARIOS[0]);
    [0.5, 0.9, 0.99].map(|part| {
        let off = |bucket: &usize| (known[*bucket] - part).abs();
        (0..EDGES.len())
            .min_by(|one, other| off(one).total_cmp(&off(other)))
            .unwrap()
    })
}

/// Per tick, the buckets of canary and stable.
fn draw(dice: &mut Dice, slowness: &Slowness, weight: u8) -> [Buckets; 2] {
    let share = f64::from(weight) / 100.0;
    let mut arm = |slowness: &Slowness, share: f64| {
        let (upto, mut below) = (cumulated(slowness), 0.0);
        upto.map(|upto| {
            let part = upto - below;
            below = upto;
            dice.poisson(REQUESTS_PER_SECOND * SECONDS * share * part)
        })
    };
    [arm(slowness, share), arm(&SCENARIOS[0], 1.0 - share)]
}

fn seen(ticks: &[Buckets; 2]) -> Seen {
    Seen {
        arms: [0.0, ticks[0].iter().sum(), 0.0, 0.0],
        ..Seen::default()
    }
}

/// One release, judge by judge.
pub fn release(slowness: &Slowness, mut dice: Dice, paced: Dice) -> Vec<Outcome> {
    let ticks: Vec<[Buckets; 2]> = (0..WEIGHTS.len() * STEP)
        .map(|at| draw(&mut dice, slowness, WEIGHTS[at / STEP]))
        .collect();
    let mut all: Vec<Outcome> = PEERS
        .iter()
        .map(|(_, rule)| {
            let before = Instant::now();
            let abort = rule(&ticks);
            let nanos = before.elapsed().as_nanos() as u64;
            let mut outcome = Outcome {
                abort,
                nanos,
                ..Outcome::default()
            };
            ticks
                .iter()
                .take(abort.unwrap_or(ticks.len()))
                .for_each(|tick| outcome.serve(&seen(tick)));
            outcome.completed = abort.is_none().then_some(ticks.len());
            outcome
        })
        .collect();
    all.push(fixed(0.0, &ticks));
    all.push(fixed(0.1, &ticks));
    all.push(to_the_end(slowness, paced));
    all
}

/// What the judges are called, in the order of [`release`].
pub fn names() -> Vec<&'static str> {
    PEERS
        .iter()
        .map(|(name, _)| *name)
        .chain([EAGER, USUAL, TO_THE_END])
        .collect()
}

fn analysis(margin: f64) -> Analysis {
    let plan = MetricPlan {
        margin_abort: margin,
        ..MetricPlan::new("latency", Shape::Histogram { tails: 3, shown: 2 })
    };
    Analysis::new(vec![plan], Settings::default(), ours::weights()).unwrap()
}

fn tick(at: usize, buckets: &[Buckets; 2], tails: [usize; 3]) -> Evidence<Tick> {
    let arm = |buckets: &Buckets| Arm {
        events: tails.map(|tail| buckets.iter().skip(tail + 1).sum()).to_vec(),
        total: buckets.iter().sum(),
    };
    Evidence::Complete(Tick {
        at: Millis((at as i64 + 1) * 10_000),
        canary: arm(&buckets[0]),
        baseline: arm(&buckets[1]),
        baseline_pods: Vec::new(),
    })
}

fn fixed(margin: f64, ticks: &[[Buckets; 2]]) -> Outcome {
    let (mut analysis, mut outcome, tails) = (analysis(margin), Outcome::default(), tails());
    for (at, buckets) in ticks.iter().enumerate() {
        if at.is_multiple_of(STEP) {
            analysis.begin_step(at / STEP, Millis(at as i64 * 10_000));
        }
        outcome.serve(&seen(buckets));
        let evidence = tick(at, buckets, tails);
        let before = Instant::now();
        analysis.observe(0, &evidence);
        outcome.nanos += before.elapsed().as_nanos() as u64;
        if analysis.failed().is_some() {
            outcome.abort = Some(at + 1);
            return outcome;
        }
    }
    outcome.completed = Some(ticks.len());
    outcome
}

fn to_the_end(slowness: &Slowness, mut dice: Dice) -> Outcome {
    let (mut analysis, mut outcome, tails) = (analysis(0.1), Outcome::default(), tails());
    let (mut step, mut since) = (0, 0);
    analysis.begin_step(0, Millis(0));
    for at in 0..ours::PATIENCE {
        let buckets = draw(&mut dice, slowness, WEIGHTS[step]);
        outcome.serve(&seen(&buckets));
        let evidence = tick(at, &buckets, tails);
        let before = Instant::now();
        analysis.observe(0, &evidence);
        let verdict = analysis.verdict(step);
        outcome.nanos += before.elapsed().as_nanos() as u64;
        outcome.foresee(step, at - since, &analysis);
        match verdict {
            Verdict::Fail(_) => {
                outcome.abort = Some(at + 1);
                return outcome;
            }
            Verdict::Pass(_) if at + 1 - since >= ours::MIN_WINDOW => {
                outcome.pass(step, at + 1 - since);
                if step + 1 == WEIGHTS.len() {
                    outcome.completed = Some(at + 1);
                    return outcome;
                }
                (step, since) = (step + 1, at + 1);
                analysis.begin_step(step, Millis((at as i64 + 1) * 10_000));
            }
            _ => {}
        }
    }
    outcome
}

/// A rule on the buckets of all ticks: the tick after which it aborts.
type Rule = fn(&[[Buckets; 2]]) -> Option<usize>;

const PEERS: &[(&str, Rule)] = &[
    (
        "Argo Rollouts: p99 above 1.25 times stable's in a minute, failureLimit 0",
        |ticks| limit(ticks, 0.99, 0, true),
    ),
    ("Argo Rollouts: p99, failureLimit 3", |ticks| {
        limit(ticks, 0.99, 3, true)
    }),
    ("Argo Rollouts: p95, failureLimit 3", |ticks| {
        limit(ticks, 0.95, 3, true)
    }),
    (
        "Flagger: p99 above 1.25 times stable's in a minute, 5 failed checks",
        |ticks| limit(ticks, 0.99, 4, false),
    ),
    ("Kayenta: p99, 15 points of a minute, at the end of a step", |ticks| {
        kayenta(ticks, 0.99)
    }),
    ("Kayenta: p95, 15 points of a minute, at the end of a step", |ticks| {
        kayenta(ticks, 0.95)
    }),
];

/// The quantile as Prometheus interpolates it.
fn quantile(buckets: &Buckets, part: f64) -> f64 {
    let wanted = part * buckets.iter().sum::<f64>();
    let mut below = 0.0;
    for (bucket, count) in buckets.iter().enumerate() {
        if below + count >= wanted && *count > 0.0 {
            let low = bucket.checked_sub(1).map_or(0.0, |before| EDGES[before]);
            let high = EDGES.get(bucket).copied().unwrap_or(low);
            return low + (high - low) * (wanted - below) / count;
        }
        below += count;
    }
    f64::NAN
}

/// The quantile of both arms, minute by minute.
fn minutes(ticks: &[[Buckets; 2]], part: f64) -> Vec<[f64; 2]> {
    let arm = |ticks: &[[Buckets; 2]], arm: usize| {
        let sum: Buckets = std::array::from_fn(|bucket| ticks.iter().map(|tick| tick[arm][bucket]).sum());
        quantile(&sum, part)
    };
    ticks
        .chunks(MINUTE)
        .map(|ticks| [arm(ticks, 0), arm(ticks, 1)])
        .collect()
}

fn limit(ticks: &[[Buckets; 2]], part: f64, allowed: usize, per_step: bool) -> Option<usize> {
    let mut failed = 0;
    for (minute, [canary, stable]) in minutes(ticks, part).into_iter().enumerate() {
        if per_step && minute.is_multiple_of(STEP / MINUTE) {
            failed = 0;
        }
        failed += usize::from(canary > 1.25 * stable);
        if failed > allowed {
            return Some((minute + 1) * MINUTE);
        }
    }
    None
}

fn kayenta(ticks: &[[Buckets; 2]], part: f64) -> Option<usize> {
    let milliseconds =
        |points: &[[f64; 2]], arm: usize| points.iter().map(|point| 1000.0 * point[arm]).collect::<Vec<_>>();
    let points = minutes(ticks, part);
    let mut steps = points.chunks(STEP / MINUTE);
    let found = steps.position(|points| mann_whitney::is_high(&milliseconds(points, 0), &milliseconds(points, 1), 1.0));
    found.map(|step| (step + 1) * STEP)
}
