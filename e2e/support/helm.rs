//! The real Helm.

use std::process::Stdio;

use tokio::process::Command;

use super::{directory, setting};

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

/// Runs Helm in a namespace, with a home of its own.
pub async fn helm(namespace: &str, arguments: &[&str]) -> Said {
    let home = directory("TOLLGATE_E2E_LOGS").join("helm-home");
    let mut command = Command::new(setting("TOLLGATE_E2E_HELM"));
    for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(name, home.join(name));
    }
    let output = command
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
