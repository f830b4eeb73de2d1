//! The one binary.

use std::process::ExitCode;

use clap::Parser as _;
use tollgate::cli::Cli;

fn main() -> ExitCode {
    // The one crypto library of all TLS here; a second call could only come from ourselves.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate: {error}");
            ExitCode::FAILURE
        }
    }
}
