//! The figures as a table and as JSON, and whether every target is met.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::requests::What;

/// Where the figures are written.
const FILE: &str = "target/bench.json";

/// What is asked of a figure.
#[derive(Debug, Clone, Copy)]
pub enum Wanted {
    /// Not more than this.
    AtMost(f64),
    /// Nothing; it is told for comparison.
    Nothing,
}

#[derive(Serialize)]
struct Row {
    name: String,
    ours: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<f64>,
    met: bool,
    /// Argo Rollouts with raised limits | Flagger, in the same scenario on a machine like it.
    #[serde(skip_serializing_if = "String::is_empty")]
    peers: String,
}

/// Requests of one kind, verb and resource.
#[derive(Serialize)]
struct Share {
    #[serde(flatten)]
    what: What,
    number: f64,
}

/// All figures.
#[derive(Serialize)]
pub struct Report {
    binary: String,
    rows: Vec<Row>,
    requests: BTreeMap<String, Vec<Share>>,
}

impl Report {
    /// Without figures yet.
    pub fn new(binary: &Path) -> Self {
        let binary = binary.display().to_string();
        Self {
            binary,
            rows: Vec::new(),
            requests: BTreeMap::new(),
        }
    }

    /// Takes a figure down, and says it.
    pub fn add(&mut self, name: &str, ours: f64, wanted: Wanted, peers: &str) {
        let (target, met) = match wanted {
            Wanted::AtMost(limit) => (Some(limit), ours <= limit),
            Wanted::Nothing => (None, true),
        };
        eprintln!("bench: {name}: {ours:.3}");
        self.rows.push(Row {
            name: name.to_owned(),
            ours,
            target,
            met,
            peers: peers.to_owned(),
        });
    }

    /// Takes down which requests were made, shared by so many.
    pub fn detail(&mut self, name: &str, requests: BTreeMap<What, f64>, among: f64) {
        let shares = requests.into_iter().map(|(what, number)| Share {
            what,
            number: number / among,
        });
        self.requests.insert(name.to_owned(), shares.collect());
    }

    /// Prints the table and writes the file; false when a target is missed.
    pub fn finish(&self) -> bool {
        println!("{:<66} {:>9} {:>7}  {:<6} Argo | Flagger", "", "ours", "target", "met");
        for row in &self.rows {
            let target = row.target.map_or_else(String::new, |target| format!("{target}"));
            let met = match (row.target, row.met) {
                (None, _) => "",
                (_, true) => "yes",
                (_, false) => "NO",
            };
            println!("{:<66} {:>9.2} {target:>7}  {met:<6} {}", row.name, row.ours, row.peers);
        }
        for (name, requests) in &self.requests {
            println!("\nAPI requests of {name}:");
            for Share { what, number } in requests {
                let refused = what
                    .refused
                    .map_or_else(String::new, |code| format!(" refused with {code}"));
                let kind = what.kind.word();
                println!("  {number:>7.2}  {kind:<6} {:<7} {}{refused}", what.verb, what.resource);
            }
        }
        let json = serde_json::to_string_pretty(self).expect("figures");
        // Cargo may build elsewhere.
        let folder = std::path::Path::new(FILE).parent().expect("a folder");
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(FILE, json + "\n"))
            .unwrap_or_else(|error| panic!("{FILE}: {error}"));
        let missed = self.rows.iter().filter(|row| !row.met).count();
        println!("\n{missed} targets missed; {} measured; {FILE}", self.binary);
        missed == 0
    }
}

/// The value below which this share of all lies; not a number, when there are none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let place = (share * values.len() as f64).ceil() as usize;
    values.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
