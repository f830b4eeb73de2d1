//! How often the judge is wrong and how fast it is right, beside the rules of its peers.
//!
//! Seeded and without a network. `judge-bench` runs 500 releases per scenario, prints a line per
//! world and fails when a goal is missed beyond doubt; `judge-bench --long` runs 10,000, prints all
//! tables and fails when a goal may be missed; `--tables`, `--releases N` and `--world W1` choose.
//! All tables and all figures are in `target/judge-bench.md` and `.json` in any case, and
//! `judge-bench --write docs` makes what is committed of them: the page, the figures, the pictures.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench fails by panicking")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::many_single_char_names,
    reason = "counts are small, and a, n, b, m are what the specification calls them"
)]

mod cost;
mod draw;
mod goals;
mod latency;
mod ours;
mod outcome;
mod page;
mod peers;
mod pictures;
mod recording;
mod report;
mod summary;
mod vectors;
mod worlds;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use draw::Dice;
use goals::Strictness;
use latency::Slowness;
use ours::Setup;
use outcome::Outcome;
use recording::Recording;
use report::{Results, Row};
use worlds::{Nature, Scenario, World};

/// Every draw of every run depends on it.
const SEED: u64 = 20_261_121;

/// What Tollgate is called in the tables.
const EAGER: &str = "**Tollgate**, abort margin 0 %";
const USUAL: &str = "**Tollgate**, abort margin 10 %";
const COLD: &str = "**Tollgate**, abort margin 0 %, nothing known before";
const BY_ROUTE: &str = "**Tollgate**, abort margin 0 %, a metric per route";
const TO_THE_END: &str = "**Tollgate**, its own pace, margin 10 %";
const WITH_OBJECTIVE: &str = "**Tollgate**, its own pace, margin 10 %, objective of 99.9 %";

/// One judge: how it is called, and how it judges a release.
type Judge = (&'static str, Box<dyn Fn(&Scenario, &Recording, u64) -> Outcome + Sync>);

fn of_tollgate(name: &'static str, setup: Setup) -> Judge {
    (name, Box::new(move |_, recording, _| ours::fixed(&setup, recording)))
}

fn of_tollgate_paced(name: &'static str, setup: Setup) -> Judge {
    let judge = move |scenario: &Scenario, _: &Recording, run| {
        let dice = Dice::new(SEED, &format!("paced {}", scenario.name), run);
        ours::paced(&setup, scenario, dice)
    };
    (name, Box::new(judge))
}

fn judges(scenario: &Scenario) -> Vec<Judge> {
    let mut all: Vec<Judge> = peers::ALL
        .iter()
        .map(|(name, rule)| -> Judge {
            (
                name,
                Box::new(move |scenario, recording, _| {
                    let before = Instant::now();
                    let abort = rule(recording, scenario.ratio);
                    let nanos = before.elapsed().as_nanos() as u64;
                    let mut outcome = Outcome {
                        abort,
                        nanos,
                        ..Outcome::default()
                    };
                    let served = abort.unwrap_or(recording.ticks.len());
                    recording.ticks.iter().take(served).for_each(|seen| outcome.serve(seen));
                    outcome.completed = abort.is_none().then_some(served);
                    outcome
                }),
            )
        })
        .collect();
    // how many pods the canary has is known wherever stable's are
    let setup = |margin| Setup {
        margin,
        canary_pods: if scenario.pods { &worlds::CANARY_PODS } else { &[] },
        // without an error there is no rate to compare with
        error_budget: (scenario.rate <= 0.0).then_some(0.001),
        ..Setup::default()
    };
    all.push(of_tollgate(EAGER, setup(0.0)));
    all.push(of_tollgate(USUAL, setup(0.1)));
    if scenario.pods {
        all.push(of_tollgate(
            COLD,
            Setup {
                cold: true,
                ..setup(0.0)
            },
        ));
    }
    if scenario.nature == Nature::Routes {
        all.push(of_tollgate(
            BY_ROUTE,
            Setup {
                by_route: true,
                ..setup(0.0)
            },
        ));
    }
    if scenario.onset == 0 {
        all.push(of_tollgate_paced(TO_THE_END, setup(0.1)));
    }
    if scenario.told {
        let objective = Setup {
            error_budget: Some(0.001),
            ..setup(0.1)
        };
        all.push(of_tollgate_paced(WITH_OBJECTIVE, objective));
    }
    all
}

/// What judging all releases gives, judge by judge, on all processors.
fn outcomes(judges: usize, releases: u64, release: impl Fn(u64) -> Vec<Outcome> + Sync) -> Vec<Vec<Outcome>> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let release = &release;
    std::thread::scope(|scope| {
        let part = move |first: u64| {
            (first..releases)
                .step_by(threads as usize)
                .map(release)
                .collect::<Vec<_>>()
        };
        let handles: Vec<_> = (0..threads).map(|first| scope.spawn(move || part(first))).collect();
        let mut all = vec![Vec::new(); judges];
        for handle in handles {
            let Ok(found) = handle.join() else {
                panic!("a release could not be judged")
            };
            for (judge, outcome) in found.into_iter().flat_map(|one| one.into_iter().enumerate()) {
                all[judge].push(outcome);
            }
        }
        all
    })
}

fn of_failures(world: &str, scenario: &Scenario, releases: u64) -> Vec<Row> {
    let judges = judges(scenario);
    let place = format!("{world} {}", scenario.name);
    let all = outcomes(judges.len(), releases, |run| {
        let recording = Recording::make(scenario, Dice::new(SEED, &place, run));
        judges
            .iter()
            .map(|(_, judge)| judge(scenario, &recording, run))
            .collect()
    });
    let rows = judges.iter().zip(&all);
    rows.map(|((judge, _), outcomes)| Row::new([world, scenario.name, judge], scenario.onset, outcomes))
        .collect()
}

fn of_latency(world: &str, slowness: &Slowness, releases: u64) -> Vec<Row> {
    let names = latency::names();
    let all = outcomes(names.len(), releases, |run| {
        let dice = |place: &str| Dice::new(SEED, &format!("{world} {} {place}", slowness.name), run);
        latency::release(slowness, dice("fixed"), dice("paced"))
    });
    let rows = names.iter().zip(&all);
    rows.map(|(judge, outcomes)| Row::new([world, slowness.name, judge], 0, outcomes))
        .collect()
}

/// Where a run leaves its tables and figures.
const KEPT: &str = "target/judge-bench";

struct Arguments {
    releases: u64,
    world: Option<String>,
    strictness: Strictness,
    /// Whether all tables are printed.
    tables: bool,
    /// Where to write what is committed of the last run, instead of running.
    write: Option<PathBuf>,
}

fn arguments() -> Arguments {
    let mut parsed = Arguments {
        releases: 500,
        world: None,
        strictness: Strictness::BeyondDoubt,
        tables: false,
        write: None,
    };
    let mut given = std::env::args().skip(1);
    while let Some(word) = given.next() {
        match word.as_str() {
            "--long" => (parsed.releases, parsed.strictness, parsed.tables) = (10_000, Strictness::Proved, true),
            "--tables" => parsed.tables = true,
            "--releases" => parsed.releases = given.next().and_then(|count| count.parse().ok()).unwrap(),
            "--world" => parsed.world = given.next(),
            "--write" => parsed.write = Some(given.next().unwrap().into()),
            other => {
                panic!("{other:?}: only --long, --tables, --releases N, --world W and --write DIRECTORY are known")
            }
        }
    }
    parsed
}

/// The revision that is run, where there is one.
fn revision() -> Option<String> {
    let said = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output()
        .ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    (!text.trim().is_empty()).then(|| text.trim().to_owned())
}

fn of_world(world: &World, releases: u64) -> Vec<Row> {
    if world.id == "W9" {
        let scenarios = latency::SCENARIOS.iter();
        return scenarios
            .flat_map(|slowness| of_latency(world.id, slowness, releases))
            .collect();
    }
    let scenarios = world.scenarios.iter();
    scenarios
        .flat_map(|scenario| of_failures(world.id, scenario, releases))
        .collect()
}

fn main() {
    let arguments = arguments();
    if let Some(into) = &arguments.write {
        return page::write(&last(), into);
    }
    let missed = run(&arguments);
    std::process::exit(i32::from(missed));
}

/// Runs all worlds that are asked for; says whether a goal was missed.
fn run(arguments: &Arguments) -> bool {
    vectors::hold();
    let worlds = worlds::all();
    let mut results = Results {
        seed: SEED,
        revision: revision(),
        releases: arguments.releases,
        rows: Vec::new(),
    };
    println!("{}", summary::head(&results));
    let wanted = |world: &&World| arguments.world.as_deref().is_none_or(|chosen| chosen == world.id);
    for world in worlds.iter().filter(wanted) {
        let found = of_world(world, arguments.releases);
        results.rows.extend(found);
        let checked = goals::check(&results.rows, arguments.strictness);
        println!("{}", summary::of_world(world, &results, &checked));
        keep(&results, &worlds);
    }
    let checked = goals::check(&results.rows, arguments.strictness);
    if arguments.tables {
        println!("\n{}\n{}", report::tables(&worlds, &results), goals::table(&checked));
    }
    println!("\n{}", cost::measure(Dice::new(SEED, "cost", 0)));
    let doubt = match arguments.strictness {
        Strictness::BeyondDoubt => "as far as so few releases can tell",
        Strictness::Proved => "with their whole intervals",
    };
    println!("{}", summary::of_goals(&checked, doubt));
    println!("All tables: {KEPT}.md. All figures: {KEPT}.json.");
    checked.iter().any(|goal| !goal.kept)
}

/// Keeps what was found so far.
fn keep(results: &Results, worlds: &[World]) {
    let path = Path::new(KEPT);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path.with_extension("md"), report::tables(worlds, results)).unwrap();
    std::fs::write(path.with_extension("json"), report::json(results)).unwrap();
}

/// What the last run has kept.
fn last() -> Results {
    let text = std::fs::read_to_string(Path::new(KEPT).with_extension("json")).unwrap();
    serde_json::from_str(&text).unwrap()
}
