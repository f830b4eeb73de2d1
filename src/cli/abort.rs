//! `tollgate abort`: all traffic back to stable, even when nobody answers.

use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _};
use std::time::Duration;

use super::act::{self, Told};
use super::cluster::{Cluster, Output, Trouble};
use super::emergency;
use super::exit;
use super::paint::{print, print_json, tell};
use crate::decision::Verb;
use crate::routers::{Pair, RouteKind, RouteRef};

/// An abort has no time to lose: after so long somebody else has to do it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reading the gate may take so long before the abort is asked for without it.
const LOOK: Duration = Duration::from_secs(3);

/// Sends all traffic back to stable and refuses the revision.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tollgate abort checkout -n shop --reason 'orders fall'\n  \
    tollgate abort checkout -n shop --by-hand\n  \
    tollgate abort checkout -n shop --by-hand --route HTTPRoute/checkout --service checkout")]
pub struct Args {
    #[command(flatten)]
    ask: act::Args,
    /// When the operator does not answer within 5 s, write the canary's weight 0 on every route
    /// of the gate yourself (your own rights apply)
    #[arg(long)]
    by_hand: bool,
    /// When the gate cannot be read: a route, NAME or KIND/NAME; may be repeated
    #[arg(long, value_name = "ROUTE", requires_all = ["service", "by_hand"], value_parser = route)]
    route: Vec<RouteRef>,
    /// When the gate cannot be read: the Service
    #[arg(long, value_name = "SERVICE", requires = "route")]
    service: Option<String>,
}

fn route(text: &str) -> Result<RouteRef, String> {
    let (kind, name) = text.split_once('/').unwrap_or(("HTTPRoute", text));
    let kind = match kind.to_lowercase().trim_end_matches('s') {
        "httproute" => RouteKind::Http,
        "grpcroute" => RouteKind::Grpc,
        _ => return Err("a route is named like checkout, HTTPRoute/checkout or GRPCRoute/checkout".to_owned()),
    };
    Ok(RouteRef {
        kind,
        name: name.to_owned(),
    })
}

/// Where the edit would have to be made.
struct Place {
    routes: Vec<RouteRef>,
    pair: Pair,
}

impl Args {
    /// Asks for the abort, and does it by hand where that is wanted and needed.
    ///
    /// # Errors
    /// When nothing could be asked and nothing done.
    pub async fn run(mut self) -> Result<u8, Trouble> {
        self.ask.wait = self.ask.wait.min(PATIENCE);
        let cluster = Cluster::connect(&self.ask.place).await?;
        let place = match tokio::time::timeout(LOOK, self.place(&cluster)).await {
            Ok(place) => place,
            Err(_) => Err(Trouble::Other("the gate could not be read in time".to_owned())),
        };
        if let (Err(error @ Trouble::NoSuchGate { .. }), true) = (&place, self.route.is_empty()) {
            return Err(Trouble::Usage(error.to_string()));
        }
        let mut told = Told::asked(&cluster, &self.ask.gate, Verb::Abort);
        let failed = self.asked(&cluster, &mut told).await.err();
        if told.answer.is_some() || (failed.is_none() && self.ask.wait.is_zero() && !self.by_hand) {
            self.ask.report(&told)?;
            return Ok(told.code());
        }
        tell(&match &failed {
            Some(error) => format!("tollgate: the abort could not be asked for: {error}"),
            None => format!(
                "tollgate: no answer within {} s: is the operator running? kubectl get pods -n {}",
                self.ask.wait.as_secs(),
                crate::api::labels::NAMESPACE
            ),
        });
        let place = place.map_err(|error| {
            Trouble::Usage(format!(
                "{error}\n  without the gate, name its routes and service: --by-hand --route NAME --service NAME"
            ))
        })?;
        if self.by_hand || confirmed(&place) {
            return self.edit(&cluster, &place, told).await;
        }
        self.advise(&cluster, &place, &told).await?;
        Ok(if failed.is_some() {
            exit::NOT_ASKED
        } else {
            exit::NO_ANSWER
        })
    }

    async fn asked(&self, cluster: &Cluster, told: &mut Told) -> Result<(), Trouble> {
        let name = act::create(cluster, &self.ask, Verb::Abort).await?;
        told.action = Some(name.clone());
        if let Some(status) = act::answer(cluster, &name, self.ask.wait, &self.ask.gate).await? {
            told.answered(status);
        }
        Ok(())
    }

    async fn place(&self, cluster: &Cluster) -> Result<Place, Trouble> {
        if let Some(service) = &self.service {
            return Ok(Place {
                routes: self.route.clone(),
                pair: Pair::new(&self.ask.gate, &cluster.namespace, service),
            });
        }
        let gate = act::find(cluster, &self.ask.gate).await?;
        Ok(Place {
            routes: gate.spec.routes(),
            pair: Pair::new(&self.ask.gate, &cluster.namespace, &gate.spec.target.service),
        })
    }

    async fn edit(&self, cluster: &Cluster, place: &Place, mut told: Told) -> Result<u8, Trouble> {
        told.by_hand = emergency::carry_out(cluster, &place.routes, &place.pair).await;
        let done = told.by_hand.iter().all(|outcome| outcome.done);
        if self.ask.output == Output::Json {
            print_json(&told)?;
        } else {
            print(&by_hand(&told.by_hand, &place.pair))?;
        }
        Ok(if done { exit::DONE } else { exit::NOT_ASKED })
    }

    async fn advise(&self, cluster: &Cluster, place: &Place, told: &Told) -> Result<(), Trouble> {
        if self.ask.output == Output::Json {
            print_json(told)?;
        }
        let lines = emergency::advise(cluster, &place.routes, &place.pair).await;
        if lines.is_empty() {
            tell(&format!(
                "{} has no weight on the routes that can be read",
                place.pair.canary
            ));
            return Ok(());
        }
        tell("to take all traffic from the canary yourself, repeat with --by-hand, or:");
        for line in lines {
            tell(&format!("  {line}"));
        }
        Ok(())
    }
}

/// What was done by hand, for people.
#[must_use]
pub fn by_hand(outcomes: &[emergency::Outcome], pair: &Pair) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let word = if outcome.done { "done" } else { "NOT DONE" };
        let _ = writeln!(
            text,
            "{} {}/{}: {word}: {}",
            outcome.kind, pair.namespace, outcome.name, outcome.message
        );
        if let Some(line) = &outcome.kubectl {
            let _ = writeln!(text, "  {line}");
        }
    }
    if outcomes.iter().all(|outcome| outcome.done) {
        text.push_str(
            "the revision is not refused yet: when the operator is back, it answers the abort, or holds the release \
             (ForeignEdit) until somebody aborts or resumes it\n",
        );
    }
    text
}

/// Asks the person at the terminal; nobody there means no.
fn confirmed(place: &Place) -> bool {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() || !std::io::stderr().is_terminal() {
        return false;
    }
    let names: Vec<_> = place
        .routes
        .iter()
        .map(|at| format!("{} {}", at.kind.word(), at.name))
        .collect();
    tell(&format!(
        "write weight 0 for {} on {} yourself now? [y/N]",
        place.pair.canary,
        names.join(", ")
    ));
    let mut line = String::new();
    stdin.lock().read_line(&mut line).is_ok() && matches!(line.trim(), "y" | "Y" | "yes")
}
