//! A run in a few lines: what somebody who only wants to know whether all is well reads.

use crate::EAGER;
use crate::goals::Checked;
use crate::outcome::Figure;
use crate::report::{Results, Row, percent, plain};
use crate::worlds::World;

/// What the columns of the lines hold.
pub fn head(results: &Results) -> String {
    let Results { seed, releases, .. } = results;
    format!(
        "Tollgate with an abort margin of 0 % on the fixed schedule; {releases} releases per scenario, seed {seed}.\n\n{}",
        line(["world", "goals", "good ones aborted, %", "bad ones found, after"])
    )
}

/// One world in one line.
pub fn of_world(world: &World, results: &Results, checked: &[Checked]) -> String {
    let rows = || {
        results
            .rows
            .iter()
            .filter(|row| row.world == world.id && row.judge == EAGER)
    };
    let healthy = rows().find(|row| row.scenario == "healthy");
    let bad = || rows().filter(|row| !row.scenario.starts_with("healthy"));
    let fault = bad().find(|row| row.scenario == "3x").or_else(|| bad().next_back());
    let goals: Vec<&Checked> = checked.iter().filter(|goal| goal.world() == world.id).collect();
    let kept = goals.iter().filter(|goal| goal.kept).count();
    let said = match goals.len() {
        0 => "none".to_owned(),
        all if all == kept => format!("{kept} kept"),
        all => format!("{} of {all} MISSED", all - kept),
    };
    line([
        &format!("{:<4}{}", world.id, world.name),
        &said,
        &percent(healthy.and_then(|row| row.aborted)),
        &fault.map_or_else(|| "–".into(), found),
    ])
}

fn found(row: &Row) -> String {
    let share = row.aborted.map_or(0.0, |Figure { value, .. }| 100.0 * value);
    format!("{}: {share:.1} %, {} min", row.scenario, plain(row.delay.mean, 1))
}

fn line([world, goals, aborted, found]: [&str; 4]) -> String {
    format!("{world:<56}{goals:<16}{aborted:<24}{found}")
}

/// Whether the goals were kept, and which were not.
pub fn of_goals(checked: &[Checked], doubt: &str) -> String {
    let missed: Vec<String> = checked
        .iter()
        .filter(|goal| !goal.kept)
        .map(|goal| format!("MISSED {}", goal.sentence()))
        .collect();
    if missed.is_empty() {
        return format!("All {} goals are kept {doubt}.", checked.len());
    }
    format!(
        "{}\n{} of {} goals are MISSED.",
        missed.join("\n"),
        missed.len(),
        checked.len()
    )
}
