//! The rules of others, rebuilt from their documentation. They see the same recording, and in the
//! last step the same 5 % held back. That spares them a baseline of the past, which makes any
//! shared incident a false abort; but a small baseline is hard on the rank test with short points
//! and on plug-in variances, so that most of their false aborts fall into that step.

use engine::mann_whitney;
use statrs::function::gamma::ln_gamma;

use crate::recording::Recording;
use crate::worlds::{MINUTE, STEP, WEIGHTS};

/// Minutes in a step.
const BLOCKS: usize = STEP / MINUTE;
const ALPHA: f64 = 0.01;
const STEPS: f64 = WEIGHTS.len() as f64;

/// A rule: the tick after which it aborts.
pub type Rule = fn(&Recording, f64) -> Option<usize>;

/// Name and rule of every peer. The second argument is the true ratio, for the oracle alone.
pub const ALL: &[(&str, Rule)] = &[
    (
        "Argo Rollouts: ratio above 1.5 in a minute, failureLimit 0 (its default)",
        |recording, _| limit(recording, 0, true),
    ),
    ("Argo Rollouts: the same, failureLimit 3", |recording, _| {
        limit(recording, 3, true)
    }),
    (
        "Flagger: ratio above 1.5 in a minute, 5 failed checks",
        |recording, _| limit(recording, 4, false),
    ),
    (
        "Kayenta: 15 points of a minute, at the end of a step",
        |recording, _| kayenta(&blocks(&arms(recording), MINUTE), MINUTE, false),
    ),
    ("Kayenta: the same, baseline as large as the canary", |recording, _| {
        kayenta(&blocks(&recording.even, MINUTE), MINUTE, false)
    }),
    ("Kayenta: points of 10 s, looked at every minute", |recording, _| {
        kayenta(&blocks(&arms(recording), 1), 1, true)
    }),
    ("exact binomial at the end of a step, α/5", |recording, _| {
        exact(recording)
    }),
    ("Lindon–Malek, every tick, α/5", |recording, _| {
        multinomial(recording)
    }),
    ("mSPRT, every tick, α/5", |recording, _| msprt(recording)),
    ("oracle: SPRT that is told the ratio", oracle),
];

/// What was answered; nothing where the answer was lost.
fn arms(recording: &Recording) -> Vec<[f64; 4]> {
    let counted = recording
        .ticks
        .iter()
        .map(|seen| if seen.lost { [0.0; 4] } else { seen.arms });
    counted.collect()
}

fn blocks(ticks: &[[f64; 4]], size: usize) -> Vec<[f64; 4]> {
    let sum = |ticks: &[[f64; 4]]| std::array::from_fn(|count| ticks.iter().map(|tick| tick[count]).sum());
    ticks.chunks(size).map(sum).collect()
}

/// Events and requests since the step began, after every tick, with the canary's share.
fn in_step(recording: &Recording) -> impl Iterator<Item = (usize, [f64; 4], f64)> {
    let mut sum = [0.0; 4];
    arms(recording).into_iter().enumerate().map(move |(at, tick)| {
        if at.is_multiple_of(STEP) {
            sum = [0.0; 4];
        }
        for (sum, count) in sum.iter_mut().zip(tick) {
            *sum += count;
        }
        (at + 1, sum, f64::from(WEIGHTS[at / STEP]) / 100.0)
    })
}

/// A point estimate against 1.5 times stable, every minute; too many failures abort. Argo counts
/// them per analysis, that is per step, and takes NaN for whatever the expression says (here: not
/// above); Flagger counts over the whole rollout, and NaN too.
fn limit(recording: &Recording, allowed: usize, per_step: bool) -> Option<usize> {
    let mut failed = 0;
    for (minute, [a, n, b, m]) in blocks(&arms(recording), MINUTE).into_iter().enumerate() {
        if per_step && minute.is_multiple_of(BLOCKS) {
            failed = 0;
        }
        let above = a / n > 1.5 * (b / m);
        failed += usize::from(if per_step { above } else { above || n <= 0.0 || m <= 0.0 });
        if failed > allowed {
            return Some((minute + 1) * MINUTE);
        }
    }
    None
}

/// Kayenta's rule on points of errors in percent; `ticks` per point.
fn kayenta(points: &[[f64; 4]], ticks: usize, peeking: bool) -> Option<usize> {
    let per_step = STEP / ticks;
    let every = if peeking { MINUTE / ticks } else { per_step };
    let percent = |events: f64, total: f64| (total > 0.0).then(|| 100.0 * events / total);
    for (step, points) in points.chunks(per_step).enumerate() {
        let canary: Vec<_> = points.iter().map(|point| percent(point[0], point[1])).collect();
        let stable: Vec<_> = points.iter().map(|point| percent(point[2], point[3])).collect();
        for seen in (every..=per_step).step_by(every).filter(|seen| *seen >= 10) {
            let known = |points: &[Option<f64>]| points.iter().take(seen).flatten().copied().collect::<Vec<_>>();
            let (canary, stable) = (known(&canary), known(&stable));
            if mann_whitney::score(0.0, &canary, &stable) > 2.2 && mann_whitney::is_high(&canary, &stable, 1.0) {
                return Some((step * per_step + seen) * ticks);
            }
        }
    }
    None
}

/// Given all errors of a step, how many are the canary's: exact, one look per step.
fn exact(recording: &Recording) -> Option<usize> {
    let ends = in_step(recording).filter(|(at, ..)| at.is_multiple_of(STEP));
    let mut hits = ends.filter(|(_, [a, n, b, m], _)| {
        let tail = if *a > 0.0 {
            statrs::function::beta::beta_reg(*a, b + 1.0, n / (n + m))
        } else {
            1.0
        };
        tail <= ALPHA / STEPS
    });
    hits.next().map(|(at, ..)| at)
}

/// Lindon and Malek: a mixture over the canary's share of the errors, anew in every step.
fn multinomial(recording: &Recording) -> Option<usize> {
    let mut hits = in_step(recording).filter(|(_, [a, _, b, _], share)| {
        bayes([*a, *b], *share, 100.0) >= (STEPS / ALPHA).ln() && a * (1.0 - share) > b * share
    });
    hits.next().map(|(at, ..)| at)
}

/// The logarithm of their Bayes factor against the intended share.
pub fn bayes([a, b]: [f64; 2], share: f64, concentration: f64) -> f64 {
    let (own, other) = (concentration * share, concentration * (1.0 - share));
    let mixed = ln_gamma(own + a) + ln_gamma(other + b) - ln_gamma(concentration + a + b);
    let start = ln_gamma(own) + ln_gamma(other) - ln_gamma(concentration);
    mixed - start - a * share.ln() - b * (1.0 - share).ln()
}

/// The mixture SPRT of the experimentation platforms: a normal difference with plug-in variance.
fn msprt(recording: &Recording) -> Option<usize> {
    const SPREAD: f64 = 0.003;
    let mut hits = in_step(recording).filter(|(_, [a, n, b, m], _)| {
        let (own, other) = (a / n, b / m);
        let variance = own * (1.0 - own) / n + other * (1.0 - other) / m;
        let off = own - other;
        normal(off, variance, SPREAD * SPREAD) >= (STEPS / ALPHA).ln() && off > 0.0 && *a >= 1.0
    });
    hits.next().map(|(at, ..)| at)
}

/// The logarithm of a normal mixture's ratio to nothing: of a difference with this variance, where the
/// mixture's own is `wide`.
pub fn normal(off: f64, variance: f64, wide: f64) -> f64 {
    0.5 * (variance / (variance + wide)).ln() + off * off * wide / (2.0 * variance * (variance + wide))
}

/// Wald's test of the true ratio against 1: nobody can be faster.
fn oracle(recording: &Recording, ratio: f64) -> Option<usize> {
    if ratio <= 1.0 {
        return None;
    }
    let mut log = 0.0;
    arms(recording)
        .into_iter()
        .position(|[a, n, b, m]| {
            if n + m > 0.0 {
                log += a * ratio.ln() - (a + b) * ((ratio * n + m) / (n + m)).ln();
            }
            log >= (1.0 / ALPHA).ln()
        })
        .map(|at| at + 1)
}
