//! The one binary.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Set up in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    // The one crypto library of all TLS here; a second call could only come from ourselves.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tollgate::cli::main()
}
