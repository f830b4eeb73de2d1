//! The real Helm.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::setting;

/// What Helm said.
pub struct Said {
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    pub fn expect_ok(self) -> String {
        assert!(self.ok, "helm failed: {}\n{}", self.err, self.out);
        self.out
    }
}

/// Where the program is, in suites that bring it.
pub fn directory() -> Option<PathBuf> {
    let program = std::env::var("TOLLGATE_E2E_HELM").ok()?;
    Path::new(&program).parent().map(Path::to_owned)
}

/// The environment that gives Helm a home of its own.
pub fn home() -> [(&'static str, PathBuf); 3] {
    let home = super::directory("TOLLGATE_E2E_LOGS").join("helm-home");
    ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"].map(|name| (name, home.join(name)))
}

/// Runs Helm in a namespace, with a home of its own.
pub async fn helm(namespace: &str, arguments: &[&str]) -> Said {
    let output = Command::new(setting("TOLLGATE_E2E_HELM"))
        .envs(home())
        .args(["--namespace", namespace])
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("helm; it comes with the rig");
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Said {
        ok: output.status.success(),
        out,
        err,
    }
}
