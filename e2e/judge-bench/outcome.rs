//! How one release went, and what many of them say together.

use engine::judge::Analysis;
use serde::{Deserialize, Serialize};
use statrs::distribution::{Beta, ContinuousCDF as _};

use crate::worlds::{MINUTE, SECONDS, Seen, WEIGHTS};

/// How one release went.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Ticks until the abort.
    pub abort: Option<usize>,
    /// Ticks until everything was passed.
    pub completed: Option<usize>,
    /// Requests that the canary served, and errors beyond stable's rate among them.
    pub requests: f64,
    pub excess: f64,
    /// Ticks that each step took, when it was passed.
    pub passed: [Option<usize>; WEIGHTS.len()],
    /// The first forecast of each step: ticks since the step began, and ticks still needed.
    pub forecast: [Option<(f64, f64)>; WEIGHTS.len()],
    /// Time the judge took.
    pub nanos: u64,
}

impl Outcome {
    pub fn serve(&mut self, seen: &Seen) {
        if !seen.lost {
            self.requests += seen.arms[1];
            self.excess += seen.excess;
        }
    }

    pub fn pass(&mut self, step: usize, ticks: usize) {
        self.passed[step] = Some(ticks);
    }

    /// Remembers the forecast that stands after the first minute of a step.
    pub fn foresee(&mut self, step: usize, ticks: usize, analysis: &Analysis) {
        if ticks != MINUTE {
            return;
        }
        let judged = analysis.judged(1, step);
        let need = judged.readings.first().and_then(|reading| reading.need);
        let seconds = need.and_then(|need| need.seconds);
        self.forecast[step] = seconds.map(|seconds| (ticks as f64, seconds / SECONDS));
    }
}

/// A figure and what it may be with 95 % confidence. In JSON a list of the three, with six digits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "[f64; 3]", into = "[f64; 3]")]
pub struct Figure {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl From<[f64; 3]> for Figure {
    fn from([value, low, high]: [f64; 3]) -> Self {
        Self { value, low, high }
    }
}

impl From<Figure> for [f64; 3] {
    fn from(Figure { value, low, high }: Figure) -> Self {
        [value, low, high].map(|number| format!("{number:.5e}").parse().unwrap())
    }
}

/// A share with its Clopper–Pearson interval.
pub fn share(events: usize, total: usize) -> Option<Figure> {
    if total == 0 {
        return None;
    }
    let (k, n) = (events as f64, total as f64);
    let low = if events == 0 {
        0.0
    } else {
        Beta::new(k, n - k + 1.0).unwrap().inverse_cdf(0.025)
    };
    let high = if events == total {
        1.0
    } else {
        Beta::new(k + 1.0, n - k).unwrap().inverse_cdf(0.975)
    };
    Some(Figure {
        value: k / n,
        low,
        high,
    })
}

/// A mean with its normal interval.
pub fn mean(values: &[f64]) -> Option<Figure> {
    if values.is_empty() {
        return None;
    }
    let n = values.len() as f64;
    let value = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|one| (one - value) * (one - value)).sum::<f64>() / (n - 1.0).max(1.0);
    let off = 1.96 * (variance / n).sqrt();
    Some(Figure {
        value,
        low: value - off,
        high: value + off,
    })
}

/// A quantile with the interval that the order of the values gives.
pub fn quantile(values: &[f64], part: f64) -> Option<Figure> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let off = 1.96 * (n * part * (1.0 - part)).sqrt();
    let at = |rank: f64| sorted.get(rank.clamp(0.0, (n - 1.0).max(0.0)) as usize).copied();
    Some(Figure {
        value: at(n * part)?,
        low: at(n * part - off)?,
        high: at(n * part + off)?,
    })
}

/// Ticks as minutes.
pub fn minutes(ticks: f64) -> f64 {
    ticks * SECONDS / 60.0
}
