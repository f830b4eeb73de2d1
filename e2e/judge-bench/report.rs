//! What many releases say together, as tables for people and as JSON for machines.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use crate::outcome::{Figure, Outcome, mean, minutes, quantile, share};
use crate::worlds::{MINUTE, WEIGHTS};

/// One judge in one scenario.
#[derive(Debug, Clone)]
pub struct Row {
    pub world: &'static str,
    pub scenario: &'static str,
    pub judge: &'static str,
    /// Aborted, and since when it was right to abort; before that moment it was not.
    pub aborted: Option<Figure>,
    pub early: Option<Figure>,
    /// Minutes from the fault to the abort: mean, median, 90 %.
    pub delay: [Option<Figure>; 3],
    pub requests: Option<Figure>,
    pub excess: Option<Figure>,
    /// Passed everything, and minutes until then: median, 90 %.
    pub promoted: Option<Figure>,
    pub time: [Option<Figure>; 2],
    /// Passed each step, of all releases; minutes that each step took.
    pub passed: [Option<Figure>; WEIGHTS.len()],
    pub steps: [Option<Figure>; WEIGHTS.len()],
    /// Forecast of a step's length after its first minute, divided by what it took.
    pub forecast: Option<Figure>,
    /// Microseconds of computing per release.
    pub micros: f64,
}

impl Row {
    pub fn new(
        (world, scenario, judge): (&'static str, &'static str, &'static str),
        onset: usize,
        outcomes: &[Outcome],
    ) -> Self {
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
            world,
            scenario,
            judge,
            aborted: share(late.len(), runs),
            early: (onset > 0).then(|| share(early, runs)).flatten(),
            delay: [mean(&late), quantile(&late, 0.5), quantile(&late, 0.9)],
            requests: all(|one| one.requests),
            excess: all(|one| one.excess),
            promoted: share(ends.len(), runs),
            time: [quantile(&ends, 0.5), quantile(&ends, 0.9)],
            passed: std::array::from_fn(|step| share(of_step(step).len(), runs)),
            steps: std::array::from_fn(|step| quantile(&of_step(step), 0.5)),
            forecast: quantile(&forecasts(outcomes), 0.5),
            micros: nanos as f64 / 1000.0 / runs as f64,
        }
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

fn plain(figure: Option<Figure>, places: usize) -> String {
    figure.map_or_else(|| "–".into(), |figure| grouped(figure.value, places))
}

fn percent(figure: Option<Figure>) -> String {
    figure.map_or_else(
        || "–".into(),
        |Figure { value, low, high }| format!("{:.2} [{:.2}, {:.2}]", 100.0 * value, 100.0 * low, 100.0 * high),
    )
}

/// A number with thousands separated.
fn grouped(value: f64, places: usize) -> String {
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

/// The table of a world, as Markdown.
pub fn table(id: &str, name: &str, rows: &[Row]) -> String {
    let mut out = format!("\n### {id}: {name}\n");
    let mut scenario = "";
    for row in rows {
        if row.scenario != scenario {
            scenario = row.scenario;
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
            plain(row.delay[0], 1),
            plain(row.delay[1], 1),
            plain(row.delay[2], 1),
            plain(row.requests, 0),
            plain(row.excess, 1),
            row.promoted
                .map_or_else(|| "–".into(), |promoted| format!("{:.2}", 100.0 * promoted.value)),
            plain(row.time[0], 1),
            plain(row.time[1], 1),
            grouped(row.micros, 0),
        );
    }
    out
}

/// Everything about a row.
pub fn json(row: &Row) -> Value {
    json!({
        "world": row.world, "scenario": row.scenario, "judge": row.judge,
        "aborted": row.aborted, "tooEarly": row.early,
        "delayMinutes": {"mean": row.delay[0], "p50": row.delay[1], "p90": row.delay[2]},
        "canaryRequests": row.requests, "excessErrors": row.excess,
        "promoted": row.promoted, "minutesToTheEnd": {"p50": row.time[0], "p90": row.time[1]},
        "passedStep": row.passed, "stepMinutesP50": row.steps, "forecastOverActualP50": row.forecast,
        "microsPerRelease": row.micros,
    })
}

impl Serialize for Figure {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.value, self.low, self.high].serialize(serializer)
    }
}
