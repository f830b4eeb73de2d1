//! The commands.

pub mod controller;
pub mod manifests;

use clap::{Parser, Subcommand};

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
    /// Run the operator
    Controller(controller::Args),
    /// Print or write everything a cluster needs: definitions, rights, policies, the operator
    Manifests(manifests::Args),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// What went wrong, for people.
    pub fn run(self) -> Result<(), Box<dyn std::error::Error>> {
        match self.command {
            Command::Controller(args) => runtime()?.block_on(args.run()),
            Command::Manifests(args) => Ok(args.run()?),
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}
