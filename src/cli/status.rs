//! `tollgate status`: where gates are, as a tree.

use serde::Serialize;

use super::cluster::{Cluster, Output, Place, Trouble};
use super::paint::{print, print_json, tell};
use super::snapshot::{Scope, Snapshot};
use super::story::{Story, story};
use super::tree::tree;
use super::units::now;

/// Shows gates as trees: revisions, pods, routes with weights, holds, requests, and what comes next.
///
/// The JSON holds `gates` (one object per gate) and `notes` (what could not be read).
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tollgate status checkout -n shop")]
pub struct Args {
    /// One gate; by default all of the namespace
    gate: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["gate", "namespace"])]
    all_namespaces: bool,
    #[command(flatten)]
    place: Place,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What `status -o json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Printed {
    gates: Vec<Story>,
    notes: Vec<String>,
}

impl Args {
    /// Reads and prints.
    ///
    /// # Errors
    /// What is wrong, and what to do about it.
    pub async fn run(self) -> Result<(), Trouble> {
        let cluster = Cluster::connect(&self.place).await?;
        let namespace = (!self.all_namespaces).then(|| cluster.namespace.clone());
        let scope = Scope {
            namespace: namespace.clone(),
        };
        let snapshot = Snapshot::read(&cluster, &scope).await?;
        let now = now();
        let views = match &self.gate {
            None => snapshot.views(),
            Some(name) => vec![snapshot.find(name).ok_or_else(|| Trouble::NoSuchGate {
                name: name.clone(),
                namespace: cluster.namespace.clone(),
                known: snapshot.gates(),
            })?],
        };
        let gates: Vec<Story> = views.iter().map(|view| story(view, now)).collect();
        if self.output == Output::Json {
            return print_json(&Printed {
                gates,
                notes: snapshot.notes,
            });
        }
        if gates.is_empty() {
            tell(&match namespace {
                Some(namespace) => format!("no gates in namespace {namespace}; -A looks in all of them"),
                None => "no gates in this cluster".to_owned(),
            });
        }
        let trees: Vec<String> = gates.iter().map(|story| tree(story, now)).collect();
        print(&trees.join("\n"))?;
        for note in &snapshot.notes {
            tell(&format!("note: {note}"));
        }
        Ok(())
    }
}
