//! The one binary.

use std::process::ExitCode;

/// Gives memory back after a burst of releases, which the system's allocator keeps in many arenas.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The one crypto library of all TLS here; a second call could only come from ourselves.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tollgate::cli::main()
}
