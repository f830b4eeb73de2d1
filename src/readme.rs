//! The README under test: every command, file, target and object that it names is there.

use std::collections::BTreeSet;
use std::path::Path;

use clap::CommandFactory as _;
use serde_json::Value;

use crate::api::{self, EvidenceSource, ReleaseGate};
use crate::cli::Cli;

const README: &str = include_str!("../README.md");
const DEMO: &str = include_str!("../e2e/demo");
const MAKEFILE: &str = include_str!("../Makefile");

/// A code block: the word behind its fence, empty for an indented one, and its lines.
struct Block {
    language: String,
    lines: Vec<String>,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut fenced = false;
    let mut indented = false;
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            fenced = !fenced;
            indented = false;
            if fenced {
                let language = language.to_owned();
                blocks.push(Block {
                    language,
                    lines: vec![],
                });
            }
        } else if fenced {
            blocks.last_mut().expect("begun").lines.push(line.to_owned());
        } else if let Some(code) = line.strip_prefix("    ") {
            if !indented {
                let language = String::new();
                blocks.push(Block {
                    language,
                    lines: vec![],
                });
            }
            indented = true;
            blocks.last_mut().expect("begun").lines.push(code.to_owned());
        } else {
            indented = false;
        }
    }
    blocks
}

/// Lines that a reader would type: of shell and of indented blocks, and what the demo suggests.
fn typed() -> Vec<String> {
    let shell = |block: &Block| block.language.is_empty() || block.language == "sh";
    let blocks = blocks(README);
    let lines = blocks
        .iter()
        .filter(|block| shell(block))
        .flat_map(|block| &block.lines);
    let hints = DEMO.lines().filter_map(|line| line.strip_prefix("  e2e/rig/inside "));
    let all: Vec<String> = lines
        .map(String::as_str)
        .chain(hints)
        .map(|line| line.trim().to_owned())
        .collect();
    assert!(all.len() > 5, "the commands were found: {all:?}");
    all
}

/// What stands in single back quotes, outside of code blocks.
fn quoted() -> Vec<&'static str> {
    let outside = README.split("\n```").step_by(2);
    outside.flat_map(|text| text.split('`').skip(1).step_by(2)).collect()
}

/// A line's words as a shell sees them: single quotes keep words together, `#` begins a remark.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (place, part) in line.split('\'').enumerate() {
        if place % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    let remark = words.iter().position(|word| word.starts_with('#'));
    words.truncate(remark.unwrap_or(words.len()));
    words
}

fn there(path: &str) -> bool {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists()
}

fn none(what: &str, missing: &[String]) {
    assert!(missing.is_empty(), "{what}:\n{}", missing.join("\n"));
}

#[test]
fn every_make_target_exists() {
    let targets: BTreeSet<&str> = MAKEFILE
        .lines()
        .filter_map(|line| {
            line.split_once(": ")
                .or_else(|| line.strip_suffix(':').map(|name| (name, "")))
        })
        .map(|(name, _)| name)
        .collect();
    let typed = typed();
    let named = typed.iter().map(String::as_str).chain(quoted());
    let named: Vec<&str> = named.filter_map(|text| text.strip_prefix("make ")).collect();
    assert!(named.contains(&"demo") && named.contains(&"test"), "{named:?}");
    let missing: Vec<String> = named
        .iter()
        .filter(|target| !targets.contains(target.split_whitespace().next().unwrap_or_default()))
        .map(|target| format!("make {target}"))
        .collect();
    none("targets that the Makefile does not have", &missing);
}

#[test]
fn every_tollgate_command_is_understood() {
    let mut wrong = Vec::new();
    let mut understood = 0;
    for line in typed() {
        let line = line.replace("cargo run -- ", "tollgate ");
        let words = words(&line);
        if words
            .first()
            .is_none_or(|word| word.rsplit('/').next() != Some("tollgate"))
        {
            continue;
        }
        understood += 1;
        if let Err(error) = Cli::command().try_get_matches_from(&words) {
            wrong.push(format!("{line}: {error}"));
        }
    }
    assert!(understood > 5, "the commands of README and demo were found");
    let known: BTreeSet<String> = Cli::command()
        .get_subcommands()
        .map(|each| each.get_name().to_owned())
        .collect();
    for text in quoted() {
        if let Some(rest) = text.strip_prefix("tollgate ")
            && !known.contains(rest.split_whitespace().next().unwrap_or_default())
        {
            wrong.push(text.to_owned());
        }
    }
    none("commands that tollgate does not understand", &wrong);
}

#[test]
fn every_file_exists() {
    let links = README.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let links = links.filter(|link| !link.starts_with("http") && !link.starts_with('#'));
    let typed = typed();
    let applied = typed.iter().flat_map(|line| {
        let words = words(line);
        let pairs = words
            .windows(2)
            .filter(|pair| pair[0] == "-f" || pair[0] == "--recording");
        pairs.map(|pair| pair[1].clone()).collect::<Vec<_>>()
    });
    let rooms = ["src", "e2e", "config", "crds"];
    let paths = quoted().into_iter().filter(|text| {
        let first = text.split('/').next().unwrap_or_default();
        rooms.contains(&first) && !text.contains(' ')
    });
    let named: BTreeSet<String> = links.chain(paths).map(str::to_owned).chain(applied).collect();
    assert!(named.len() > 10, "{named:?}");
    let missing: Vec<String> = named.into_iter().filter(|path| !there(path)).collect();
    none("files that are not there", &missing);
}

#[test]
fn every_object_is_accepted() {
    let mut gates = 0;
    let demo = include_str!("../e2e/demo-gate.yaml");
    let sample = include_str!("../config/sample.yaml");
    let examples = blocks(README)
        .into_iter()
        .filter(|block| block.language == "yaml")
        .map(|block| block.lines.join("\n"));
    for text in examples.chain([demo.to_owned(), sample.to_owned()]) {
        for object in text.split("\n---\n") {
            let value: Value = serde_saphyr::from_str(object).expect(object);
            if value["kind"] == "ReleaseGate" {
                let gate: ReleaseGate = api::parse(&value).expect(object);
                gate.spec.terms().plan().expect(object);
                gates += 1;
            } else {
                let source: EvidenceSource = api::parse(&value).expect(object);
                assert!(source.spec.prometheus.is_some(), "{object}");
            }
        }
    }
    assert_eq!(gates, 4, "the smallest gate, a full one, the demo's and the sample");
}

#[test]
fn the_smallest_gate_is_ten_lines() {
    let smallest = blocks(README)
        .into_iter()
        .find(|block| block.language == "yaml")
        .expect("a gate");
    assert!(smallest.lines.len() <= 10, "{} lines", smallest.lines.len());
}

#[test]
fn the_first_thing_to_run_prints_what_is_shown() {
    let first = typed().into_iter().find(|line| line.starts_with("cargo run -- "));
    let first = first.expect("a command to begin with");
    assert_eq!(
        first,
        "cargo run -- replay config/recordings/gate.yaml --recording config/recordings/bad.json"
    );
    let shown = blocks(README)
        .into_iter()
        .find(|block| block.language == "text")
        .expect("its output");
    // A test of `tollgate replay` holds the file to what the command prints.
    assert_eq!(
        shown.lines.join("\n") + "\n",
        include_str!("../config/recordings/bad.txt")
    );
}
