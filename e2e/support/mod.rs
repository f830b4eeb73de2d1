//! What the scenarios are told in: a namespace of their own, operators, a team's objects, and waiting.

pub mod helm;
pub mod kubectl;
pub mod lens;
pub mod objects;
pub mod operator;
pub mod page;
pub mod space;
pub mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a scenario waits for something that should happen. Generous, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// What `e2e/run` hands over.
pub fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: these tests are started by e2e/run"))
}

/// A directory that `e2e/run` hands over.
pub fn directory(name: &str) -> PathBuf {
    PathBuf::from(setting(name))
}

/// Looks again and again until it is so; the last answer says what was seen instead.
pub async fn eventually<T>(what: &str, patience: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + patience;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if Instant::now() > until => panic!("{what}: not within {patience:?}; instead: {seen}"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
