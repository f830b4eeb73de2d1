//! What many releases say together, as tables for people and as JSON for machines.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::outcome::{Figure, Outcome, mean, minutes, quantile, share};
use crate::worlds::{MINUTE, WEIGHTS, World};

/// Everything a run has found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    pub seed: u64,
    /// The revision that was run, where git says so.
    #[serde(default)]
    pub revision: Option<String>,
    /// Releases per scenario.
    pub releases: u64,
    pub rows: Vec<Row>,
}

/// One judge in one scenario.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub world: String,
    pub scenario: String,
    pub judge: String,
    /// Aborted, and since when it was right to abort; before that moment it was not.
    pub aborted: Option<Figure>,
    #[serde(rename = "tooEarly")]
    pub early: Option<Figure>,
    /// Minutes from the fault to the abort.
    #[serde(rename = "delayMinutes")]
    pub delay: Delay,
    #[serde(rename = "canaryRequests")]
    pub requests: Option<Figure>,
    #[serde(rename = "excessErrors")]
    pub excess: Option<Figure>,
    /// Passed everything, and minutes until then.
    pub promoted: Option<Figure>,
    #[serde(rename = "minutesToTheEnd")]
    pub time: Time,
    /// Passed each step, of all releases; minutes that each step took.
    #[serde(rename = "passedStep")]
    pub passed: [Option<Figure>; WEIGHTS.len()],
    #[serde(rename = "stepMinutesP50")]
    pub steps: [Option<Figure>; WEIGHTS.len()],
    /// Forecast of a step's length after its first minute, divided by what it took.
    #[serde(rename = "forecastOverActualP50")]
    pub forecast: Option<Figure>,
    /// Microseconds of computing per release.
    #[serde(rename = "microsPerRelease")]
    pub micros: f64,
}

/// Of those that were aborted.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Delay {
    pub mean: Option<Figure>,
    pub p50: Option<Figure>,
    pub p90: Option<Figure>,
}

/// Of those that passed everything.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Time {
    pub p50: Option<Figure>,
    pub p90: Option<Figure>,
}

impl Row {
    pub fn new([world, scenario, judge]: [&str; 3], onset: usize, outcomes: &[Outcome]) -> Self {
        let runs = outcomes.len();
        let onset = onset * MINUTE;
        let late: Vec<f64> = outcomes
            .iter()
            .filter_map(|one| one.abort.filter(|at| *at > onset))
            .map(|at| minutes((at - onset) as f64))
            .collect();
        let early = outcomes
            .iter()
            .filter(|one| one.abort.is_some_and(|at| at <= onset))
            .count();
        let ends: Vec<f64> = outcomes
            .iter()
            .filter_map(|one| one.completed)
            .map(|at| minutes(at as f64))
            .collect();
        let of_step = |step: usize| {
            outcomes
                .iter()
                .filter_map(|one| one.passed[step])
                .map(|ticks| minutes(ticks as f64))
                .collect::<Vec<_>>()
        };
        let all = |value: fn(&Outcome) -> f64| mean(&outcomes.iter().map(value).collect::<Vec<_>>());
        let nanos: u64 = outcomes.iter().map(|one| one.nanos).sum();
        Self {
            world: world.to_owned(),
            scenario: scenario.to_owned(),
            judge: judge.to_owned(),
            aborted: share(late.len(), runs),
            early: (onset > 0).then(|| share(early, runs)).flatten(),
            delay: Delay {
                mean: mean(&late),
                p50: quantile(&late, 0.5),
                p90: quantile(&late, 0.9),
            },
            requests: all(|one| one.requests),
            excess: all(|one| one.excess),
            promoted: share(ends.len(), runs),
            time: Time {
                p50: quantile(&ends, 0.5),
                p90: quantile(&ends, 0.9),
            },
            passed: std::array::from_fn(|step| share(of_step(step).len(), runs)),
            steps: std::array::from_fn(|step| quantile(&of_step(step), 0.5)),
            forecast: quantile(&forecasts(outcomes), 0.5),
            micros: nanos as f64 / 1000.0 / runs as f64,
        }
    }

    /// World, scenario and judge.
    pub fn place(&self) -> [&str; 3] {
        [&self.world, &self.scenario, &self.judge]
    }
}

/// How far first forecasts were off, for steps that took longer than the shortest stay.
fn forecasts(outcomes: &[Outcome]) -> Vec<f64> {
    let of = |outcome: &Outcome| {
        let pairs = outcome.forecast.into_iter().zip(outcome.passed);
        pairs
            .filter_map(|(forecast, took)| {
                let ((at, more), took) = (forecast?, took? as f64);
                (took > 2.0 * MINUTE as f64).then(|| (at + more) / took)
            })
            .collect::<Vec<_>>()
    };
    outcomes.iter().flat_map(of).collect()
}

pub fn plain(figure: Option<Figure>, places: usize) -> String {
    figure.map_or_else(|| "–".into(), |figure| grouped(figure.value, places))
}

pub fn percent(figure: Option<Figure>) -> String {
    figure.map_or_else(
        || "–".into(),
        |Figure { value, low, high }| format!("{:.2} [{:.2}, {:.2}]", 100.0 * value, 100.0 * low, 100.0 * high),
    )
}

/// A number with thousands separated.
pub fn grouped(value: f64, places: usize) -> String {
    let text = format!("{value:.places$}");
    let (whole, rest) = text
        .split_once('.')
        .map_or((text.as_str(), String::new()), |(whole, rest)| {
            (whole, format!(".{rest}"))
        });
    let digits = whole.len();
    let mut out = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (digits - at).is_multiple_of(3) && digit != '-' && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out + &rest
}

/// The tables of all worlds that were run, as Markdown.
pub fn tables(worlds: &[World], results: &Results) -> String {
    worlds.iter().map(|world| table(world, results)).collect()
}

/// The tables of a world, scenario by scenario; nothing when it was not run.
pub fn table(world: &World, results: &Results) -> String {
    let mut out = String::new();
    let mut scenario = "";
    for row in results.rows.iter().filter(|row| row.world == world.id) {
        if out.is_empty() {
            let _ = write!(out, "\n### {}: {}\n", world.id, world.name);
        }
        if row.scenario != scenario {
            scenario = &row.scenario;
            let _ = write!(
                out,
                "\n**{scenario}**\n\n| judge | aborted % [95 %] | delay min: mean, p50, p90 | canary requests | excess errors | promoted % | min to the end: p50, p90 | µs |\n|---|---|---|---|---|---|---|---|\n"
            );
        }
        let early = row
            .early
            .map_or_else(String::new, |early| format!(", too early {:.2}", 100.0 * early.value));
        let _ = writeln!(
            out,
            "| {} | {}{early} | {}, {}, {} | {} | {} | {} | {}, {} | {} |",
            row.judge,
            percent(row.aborted),
            plain(row.delay.mean, 1),
            plain(row.delay.p50, 1),
            plain(row.delay.p90, 1),
            plain(row.requests, 0),
            plain(row.excess, 1),
            row.promoted
                .map_or_else(|| "–".into(), |promoted| format!("{:.2}", 100.0 * promoted.value)),
            plain(row.time.p50, 1),
            plain(row.time.p90, 1),
            grouped(row.micros, 0),
        );
    }
    out
}

/// All figures as JSON, a row per line.
pub fn json(results: &Results) -> String {
    let lines: Vec<String> = results
        .rows
        .iter()
        .map(|row| serde_json::to_string(row).unwrap())
        .collect();
    let head = Results {
        rows: Vec::new(),
        ..results.clone()
    };
    let empty = serde_json::to_string(&head).unwrap();
    let open = empty.strip_suffix("]}").unwrap();
    format!("{open}\n{}\n]}}\n", lines.join(",\n"))
}
