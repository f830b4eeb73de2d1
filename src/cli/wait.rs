//! `tollgate wait`: lets a pipeline wait for a release, with exit codes.

use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::{WatchStreamExt, watcher};
use serde::Serialize;

use super::act;
use super::cluster::{Cluster, Output, Place, Question, Trouble};
use super::exit;
use super::next::next;
use super::paint::{print, print_json, tell};
use super::units::{duration, now, span};
use crate::api::{GateStatus, ReleaseGate, StageWord};
use crate::controller::revision;

/// How often it is said how things are.
const PROGRESS: Duration = Duration::from_secs(5);

/// Waits until a release is where it should be.
///
/// Exit code 0: there; 1: ended otherwise; 2: could not be asked; 3: not in time.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tollgate wait checkout -n shop --for completed --timeout 30m")]
pub struct Args {
    /// The gate
    gate: String,
    /// What to wait for
    #[arg(long = "for", value_enum, default_value_t, value_name = "GOAL")]
    goal: Goal,
    /// How long
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    timeout: Duration,
    /// The revision that is meant; by default the one that the Deployment asks for
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    #[command(flatten)]
    place: Place,
    /// How to print the end
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What can be waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Goal {
    /// The revision has all the traffic and is trusted
    #[default]
    Completed,
    /// The revision is refused and has no traffic
    Rejected,
    /// The release needs a person
    Held,
    /// Nothing is in flight, whatever came of it
    Rest,
}

/// How a wait ended: what `-o json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    /// Whether the goal was reached.
    pub reached: bool,
    /// Completed, Rejected, Held, Superseded, Reverted, Rest, Deleted or Timeout.
    pub end: &'static str,
    /// The revision that was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Why, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What a wait knows between two looks at the gate.
#[derive(Debug, Clone)]
pub struct Watched {
    /// What is waited for.
    pub goal: Goal,
    /// The revision that is waited for, once it is known.
    pub revision: Option<String>,
    /// A release is about to begin: at rest is not yet the end.
    pub expected: bool,
}

impl Watched {
    /// One look at the gate: the end, or nothing while it has to be waited for.
    pub fn look(&mut self, status: &GateStatus, needs_person: bool) -> Option<Ending> {
        let end = self.ended(status, needs_person)?;
        Some(Ending {
            reached: self.reached(end),
            end,
            revision: self.revision.clone(),
            reason: status.reason.clone(),
            message: status.message.clone(),
        })
    }

    fn ended(&mut self, status: &GateStatus, needs_person: bool) -> Option<&'static str> {
        let Some(attempt) = &status.attempt else {
            let trusted = self.revision.is_some() && status.stable == self.revision;
            return match (trusted, self.expected, &self.revision) {
                (true, _, _) => Some("Completed"),
                (false, true, _) => None,
                (false, false, None) => Some("Rest"),
                (false, false, Some(_)) => Some("Reverted"),
            };
        };
        let revision = self.revision.get_or_insert_with(|| attempt.revision.clone());
        if *revision != attempt.revision {
            return (!self.expected).then_some("Superseded");
        }
        self.expected = false;
        match attempt.stage {
            StageWord::Rejected => Some("Rejected"),
            StageWord::Preparing | StageWord::Stepping if needs_person && self.goal == Goal::Held => Some("Held"),
            _ => None,
        }
    }

    /// A gate that was at rest from the beginning has its last release completed.
    fn reached(&self, end: &str) -> bool {
        match self.goal {
            Goal::Completed => matches!(end, "Completed" | "Rest"),
            Goal::Rejected => end == "Rejected",
            Goal::Held => end == "Held",
            Goal::Rest => matches!(end, "Completed" | "Rejected" | "Rest" | "Reverted"),
        }
    }
}

impl Args {
    /// Waits; gives the exit code.
    ///
    /// # Errors
    /// When the gate cannot be read.
    pub async fn run(self) -> Result<u8, Trouble> {
        let cluster = Cluster::connect(&self.place).await?;
        let gate = act::find(&cluster, &self.gate).await?;
        let revision = match &self.revision {
            Some(revision) => Some(revision.clone()),
            None => wanted(&cluster, &gate).await,
        };
        let mut watched = Watched {
            goal: self.goal,
            expected: revision.is_some(),
            revision,
        };
        let waited = tokio::time::timeout(self.timeout, self.follow(&cluster, &mut watched)).await;
        let end = match waited {
            Ok(end) => end?,
            Err(_) => Ending {
                reached: false,
                end: "Timeout",
                revision: watched.revision.clone(),
                reason: None,
                message: Some(format!("not {:?} within {} s", self.goal, self.timeout.as_secs())),
            },
        };
        self.report(&end)?;
        Ok(code(&end))
    }

    fn report(&self, end: &Ending) -> Result<(), Trouble> {
        if self.output == Output::Json {
            return print_json(end);
        }
        print(&sentence(&self.gate, end))
    }

    async fn follow(&self, cluster: &Cluster, watched: &mut Watched) -> Result<Ending, Trouble> {
        let api: Api<ReleaseGate> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let mut gates = std::pin::pin!(watcher::watch_object(api, &self.gate).default_backoff());
        let mut progress = tokio::time::interval_at(tokio::time::Instant::now() + PROGRESS, PROGRESS);
        let begun = now();
        let mut line = "nothing is known yet".to_owned();
        loop {
            let seen = tokio::select! {
                seen = gates.try_next() => seen,
                _ = progress.tick() => {
                    tell(&format!("{}: {line} ({} so far)", self.gate, span(now() - begun)));
                    continue;
                }
            };
            let gate = match seen {
                Ok(Some(Some(gate))) => gate,
                Ok(Some(None)) => return Ok(deleted(watched)),
                Ok(None) => return Err(Trouble::Other("the watch ended".to_owned())),
                Err(error) => {
                    line = format!("the gate cannot be watched at the moment: {error}");
                    continue;
                }
            };
            let Some(status) = &gate.status else { continue };
            let needs_person = next(&gate, None, now()).is_some_and(|next| next.needs_person);
            if let Some(end) = watched.look(status, needs_person) {
                return Ok(end);
            }
            line = how(status);
        }
    }
}

fn deleted(watched: &Watched) -> Ending {
    Ending {
        reached: false,
        end: "Deleted",
        revision: watched.revision.clone(),
        reason: None,
        message: Some("the gate was deleted".to_owned()),
    }
}

/// How things are, in one line.
fn how(status: &GateStatus) -> String {
    let step = status
        .step
        .as_ref()
        .map_or_else(String::new, |step| format!("step {step}, "));
    format!(
        "{step}weight {} %, {}: {}",
        status.weight.unwrap_or(0),
        status.decision.map_or("-", crate::decision::Outcome::word),
        status.reason.as_deref().unwrap_or("-")
    )
}

/// How it ended, in one line.
#[must_use]
pub fn sentence(gate: &str, end: &Ending) -> String {
    let revision = end
        .revision
        .as_ref()
        .map_or_else(String::new, |revision| format!(" revision {revision}"));
    let reason = end
        .reason
        .as_ref()
        .map_or_else(String::new, |reason| format!(" ({reason})"));
    let message = end
        .message
        .as_ref()
        .map_or_else(String::new, |message| format!(": {message}"));
    format!("{gate}{revision}: {}{reason}{message}\n", end.end)
}

/// 0 reached, 1 ended otherwise, 3 not in time.
#[must_use]
pub fn code(end: &Ending) -> u8 {
    match (end.reached, end.end) {
        (true, _) => exit::DONE,
        (false, "Timeout") => exit::NO_ANSWER,
        (false, _) => exit::NOT_DONE,
    }
}

/// The revision that the Deployment asks for, whether it is on trial already or not. Whoever may
/// not read Deployments waits for what the gate says.
async fn wanted(cluster: &Cluster, gate: &ReleaseGate) -> Option<String> {
    let resource = ApiResource::erase::<Deployment>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
    let question = Question {
        verb: "get",
        resource: "deployments",
        namespace: &cluster.namespace,
    };
    let workload = cluster
        .ask(question, api.get(&gate.spec.target.workload.name))
        .await
        .ok()?;
    let template = workload.data.pointer("/spec/template")?;
    Some(revision::revision(template).0)
}
