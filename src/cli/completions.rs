//! `tollgate completions`: what a shell needs to complete our commands.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;
use super::cluster::Trouble;
use super::paint::print;

/// Prints completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: source <(tollgate completions bash)")]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Known,
}

/// Shells that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

impl Args {
    /// Prints them.
    ///
    /// # Errors
    /// When nobody reads.
    pub fn run(&self) -> Result<(), Trouble> {
        let shell = match self.shell {
            Known::Bash => Shell::Bash,
            Known::Zsh => Shell::Zsh,
            Known::Fish => Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "tollgate", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}
