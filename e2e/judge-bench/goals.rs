//! What the judge promises, and whether it keeps it.

use std::fmt::Write as _;

use crate::outcome::Figure;
use crate::report::Row;
use crate::{EAGER, TO_THE_END, WITH_OBJECTIVE};

/// What is measured of a row.
type Measure = fn(&Row) -> Option<Figure>;

/// One promise about one row.
struct Goal {
    number: &'static str,
    /// World, scenario and judge.
    place: [&'static str; 3],
    what: &'static str,
    measure: Measure,
    /// The figure is to be at least, and at most, this.
    least: f64,
    most: f64,
}

/// How strictly goals are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// Few releases: fails only when the goal is missed beyond doubt.
    BeyondDoubt,
    /// Many: fails when the goal may be missed.
    Proved,
}

/// Worlds in which a healthy canary must be left alone, and how often it may not be.
const HEALTHY: [(&str, &str, f64); 11] = [
    ("W1", "healthy", 0.01),
    ("W1", "healthy, gaps and NaN", 0.01),
    ("W2", "healthy", 0.01),
    ("W3", "healthy", 0.015),
    ("W4", "healthy", 0.01),
    ("W5", "healthy", 0.01),
    ("W7", "healthy", 0.01),
    ("W8", "healthy", 0.01),
    ("W9", "healthy", 0.01),
    ("W10", "healthy", 0.01),
    ("W11", "healthy", 0.01),
];

/// What is to be found, how soon, at what cost: at most so much.
const FOUND: [(&str, [&str; 3], &str, Measure, f64); 10] = [
    ("G2", ["W1", "3x", EAGER], "minutes, mean", delay, 12.0),
    ("G2", ["W1", "3x", EAGER], "canary requests", |row| row.requests, 1800.0),
    ("G2", ["W1", "3x", EAGER], "excess errors", |row| row.excess, 11.0),
    ("G3", ["W1", "1.5x", EAGER], "minutes, mean", delay, 33.0),
    ("G3", ["W1", "10x", EAGER], "minutes, mean", delay, 1.7),
    ("G4", ["W9", "all 1.25x slower", EAGER], "minutes, mean", delay, 2.0),
    ("G4", ["W9", "all 1.10x slower", EAGER], "minutes, mean", delay, 9.0),
    (
        "G4",
        ["W9", "slow path 2 % to 4 %", EAGER],
        "minutes, mean",
        delay,
        13.0,
    ),
    (
        "G5",
        ["W6", "3x from minute 37", EAGER],
        "minutes after onset, mean",
        delay,
        2.0,
    ),
    (
        "G6",
        ["W1", "healthy", TO_THE_END],
        "minutes to the end, median",
        |row| row.time.p50,
        45.0,
    ),
];

fn delay(row: &Row) -> Option<Figure> {
    row.delay.mean
}

fn goals() -> Vec<Goal> {
    let mut all = Vec::new();
    let mut add = |number, place, what, measure, [least, most]: [f64; 2]| {
        all.push(Goal {
            number,
            place,
            what,
            measure,
            least,
            most,
        });
    };
    let aborted: Measure = |row| row.aborted;
    for (world, scenario, most) in HEALTHY {
        add("G1", [world, scenario, EAGER], "aborted", aborted, [0.0, most]);
        add("G1", [world, scenario, TO_THE_END], "aborted", aborted, [0.0, most]);
    }
    for (number, place, what, measure, most) in FOUND {
        add(number, place, what, measure, [0.0, most]);
    }
    add("G3", ["W1", "1.5x", EAGER], "found", aborted, [0.99, 1.0]);
    let forecast: Measure = |row| row.forecast;
    add(
        "G6",
        ["W1", "healthy", TO_THE_END],
        "forecast / actual, median",
        forecast,
        [0.6, 1.4],
    );
    let passed: [(&'static str, &'static str, Measure); 3] = [
        ("3x", "passed step 2, at whose margin it is", |row| row.passed[1]),
        ("1.4x", "passed step 3, at whose margin it is", |row| row.passed[2]),
        ("1.2x", "passed step 4, at whose margin it is", |row| row.passed[3]),
    ];
    for judge in [TO_THE_END, WITH_OBJECTIVE] {
        for (scenario, what, measure) in passed {
            add("G6", ["W1", scenario, judge], what, measure, [0.0, 0.05]);
        }
    }
    all
}

/// A goal whose row is there, and what was measured.
pub struct Checked {
    goal: Goal,
    /// Nothing when nothing was measured, which is no goal kept.
    figure: Option<Figure>,
    pub kept: bool,
}

/// Every goal of which the row is there.
pub fn check(rows: &[Row], strictness: Strictness) -> Vec<Checked> {
    let checked = |goal: Goal| {
        let row = rows.iter().find(|row| row.place() == goal.place)?;
        let figure = (goal.measure)(row);
        let kept = figure.is_some_and(|Figure { low, high, .. }| match strictness {
            Strictness::Proved => low >= goal.least && high <= goal.most,
            Strictness::BeyondDoubt => high >= goal.least && low <= goal.most,
        });
        Some(Checked { goal, figure, kept })
    };
    goals().into_iter().filter_map(checked).collect()
}

impl Checked {
    pub fn world(&self) -> &str {
        self.goal.place[0]
    }

    fn wanted(&self) -> String {
        let Goal { least, most, .. } = self.goal;
        if least > 0.0 {
            format!("{least} to {most}")
        } else {
            format!("≤ {most}")
        }
    }

    fn measured(&self) -> String {
        let said = |Figure { value, low, high }| format!("{value:.4} [{low:.4}, {high:.4}]");
        self.figure.map_or_else(|| "nothing".into(), said)
    }

    /// What is broken, in one line.
    pub fn sentence(&self) -> String {
        let Goal {
            number, place, what, ..
        } = &self.goal;
        let [world, scenario, judge] = place;
        let (measured, wanted) = (self.measured(), self.wanted());
        format!("{number}: {world} {scenario}, {judge}: {what} is {measured}, wanted {wanted}")
    }
}

/// A line per goal, as Markdown.
pub fn table(all: &[Checked]) -> String {
    let mut out = String::from("| goal | where | what | wanted | measured [95 %] | |\n|---|---|---|---|---|---|\n");
    for checked in all {
        let Goal {
            number, place, what, ..
        } = &checked.goal;
        let [world, scenario, judge] = place;
        let said = if checked.kept { "kept" } else { "**MISSED**" };
        let (wanted, measured) = (checked.wanted(), checked.measured());
        let _ = writeln!(
            out,
            "| {number} | {world} {scenario}, {judge} | {what} | {wanted} | {measured} | {said} |"
        );
    }
    out
}
