//! The commands, one file each, and what they share: `cluster` (connection and errors), `snapshot`
//! (what is read), `story` and `next` (what it means), `tree` and `paint` (how it looks), `exit`.

mod abort;
mod act;
mod chart;
mod cluster;
mod completions;
pub mod controller;
mod emergency;
mod exit;
mod explain;
mod findings;
mod forecast;
mod lint;
pub mod manifests;
mod monitoring;
mod next;
mod operator;
mod paint;
mod placed;
mod plot;
#[cfg(test)]
mod rendering_tests;
mod replay;
#[cfg(test)]
mod replay_tests;
mod retold;
mod snapshot;
mod status;
mod story;
mod timeline;
mod tree;
mod uninstall;
mod units;
mod wait;
mod watch;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::cluster::Trouble;
use crate::decision::Verb;

/// Releases pass step by step on measured evidence.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show where gates are: revisions, pods, routes, weights, what comes next
    Status(status::Args),
    /// Show a gate live
    Watch(watch::Args),
    /// Explain why a gate is where it is, with every number behind it
    Explain(explain::Args),
    /// Go to the next step now, past a hold; needs a reason
    #[command(after_help = "Example: tollgate promote checkout -n shop --reason 'errors are from the old client'")]
    Promote(act::Args),
    /// Keep the weight as it is until resumed
    #[command(after_help = "Example: tollgate hold checkout -n shop --reason 'incident 4711'")]
    Hold(act::Args),
    /// Go on after a hold
    #[command(after_help = "Example: tollgate resume checkout -n shop")]
    Resume(act::Args),
    /// Send all traffic back to stable and refuse the revision
    Abort(abort::Args),
    /// Try a refused revision again
    #[command(after_help = "Example: tollgate retry checkout -n shop --reason 'the database is back'")]
    Retry(act::Args),
    /// Wait until a release is completed, rejected, held or at rest
    Wait(wait::Args),
    /// Try a policy on history: recorded, or of a live Prometheus
    Replay(replay::Args),
    /// Check gates before they are applied
    Lint(lint::Args),
    /// Remove every gate, so that the operator can be uninstalled without a trace on the routes
    Uninstall(uninstall::Args),
    /// Run the operator
    Controller(controller::Args),
    /// Print or write everything a cluster needs: definitions, rights, policies, the operator
    Manifests(manifests::Args),
    /// Print completions for a shell
    Completions(completions::Args),
}

/// Parses the arguments of this process, runs the command and says what went wrong.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let command = named(arguments.first().map(OsString::as_os_str));
    let parsed = command
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(cli) => cli.run(),
        Err(error) => error.exit(),
    }
}

/// Help speaks of `kubectl tollgate` when kubectl started us as its plugin.
fn named(program: Option<&OsStr>) -> clap::Command {
    let name = program.map(Path::new).and_then(Path::file_stem).and_then(OsStr::to_str);
    match name {
        Some("kubectl-tollgate") => Cli::command().bin_name("kubectl tollgate"),
        _ => Cli::command(),
    }
}

impl Cli {
    /// Runs the command; errors are said on standard error.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let done = match self.command {
            Command::Controller(args) => return served(args),
            Command::Manifests(args) => args.run().map(|()| exit::DONE),
            Command::Completions(args) => args.run().map(|()| exit::DONE),
            Command::Lint(args) => args.run(),
            command => asked(command),
        };
        match done {
            Ok(code) => ExitCode::from(code),
            Err(Trouble::ClosedPipe) => ExitCode::SUCCESS,
            Err(error) => {
                paint::tell(&format!("tollgate: {error}"));
                ExitCode::from(exit::NOT_ASKED)
            }
        }
    }
}

/// A command that talks to a cluster and ends.
fn asked(command: Command) -> Result<u8, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Status(args) => args.run().await.map(|()| exit::DONE),
            Command::Watch(args) => args.run().await.map(|()| exit::DONE),
            Command::Explain(args) => args.run().await.map(|()| exit::DONE),
            Command::Promote(args) => {
                if args.reason.as_ref().is_none_or(|reason| reason.trim().is_empty()) {
                    return Err(Trouble::Usage(
                        "promote goes past a hold: say why with --reason 'TEXT', it stays in the record".to_owned(),
                    ));
                }
                args.run(Verb::Promote).await
            }
            Command::Hold(args) => args.run(Verb::Hold).await,
            Command::Resume(args) => args.run(Verb::Resume).await,
            Command::Abort(args) => args.run().await,
            Command::Retry(args) => args.run(Verb::Retry).await,
            Command::Wait(args) => args.run().await,
            Command::Replay(args) => args.run().await,
            Command::Uninstall(args) => args.run().await,
            Command::Controller(_) | Command::Manifests(_) | Command::Completions(_) | Command::Lint(_) => {
                Ok(exit::DONE)
            }
        }
    })
}

/// The operator, until it is told to stop. It waits for others nearly all of its time, and one thread
/// spares it the memory and the wake-ups of several.
fn served(args: controller::Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(args.run()),
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            paint::tell(&format!("tollgate: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_speaks_as_it_was_called() {
        for (program, wanted) in [
            ("/usr/bin/tollgate", "tollgate"),
            ("/usr/local/bin/kubectl-tollgate", "kubectl tollgate"),
        ] {
            let help = named(Some(OsStr::new(program))).render_usage().to_string();
            assert!(help.starts_with(&format!("Usage: {wanted} ")), "{help}");
        }
    }

    #[test]
    fn arguments_that_do_not_fit_are_refused() {
        for (arguments, accepted) in [
            ("tollgate status -A", true),
            ("tollgate status checkout -A", false),
            ("tollgate hold checkout --wait", true),
            ("tollgate hold checkout --wait=30s", true),
            ("tollgate hold checkout --wait=soon", false),
            (
                "tollgate abort checkout --by-hand --route HTTPRoute/a --service checkout",
                true,
            ),
            (
                "tollgate abort checkout --by-hand --route Ingress/a --service checkout",
                false,
            ),
            ("tollgate abort checkout --route a --service checkout", false),
            ("tollgate wait checkout --for completed --timeout 5m", true),
            ("tollgate wait checkout --for luck", false),
        ] {
            assert_eq!(
                Cli::try_parse_from(arguments.split(' ')).is_ok(),
                accepted,
                "{arguments}"
            );
        }
    }
}
