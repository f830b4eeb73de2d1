//! The commands.

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
            Command::Manifests(args) => Ok(args.run()?),
        }
    }
}
