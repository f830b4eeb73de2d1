//! Flux' controllers as processes, and what they say of their objects.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::support::page::blocks;
use crate::support::setting;
use crate::support::space::Space;

/// A running controller; it dies with the test.
pub struct Flux(#[expect(dead_code, reason = "held until the test ends")] Child);

/// The expressions that are shipped for Flux.
pub fn health_checks() -> Value {
    serde_saphyr::from_str(include_str!("../../config/flux/health-check-exprs.yaml")).unwrap()
}

/// The YAML of the page about these tools that begins with this line.
pub fn of_the_page(first: &str) -> Value {
    let blocks = blocks(super::PAGE, "yaml").into_iter();
    let mut found: Vec<_> = blocks.filter(|block| block.starts_with(first)).collect();
    assert_eq!(found.len(), 1, "one block of the page begins with {first}");
    serde_saphyr::from_str(found.remove(0)).unwrap()
}

impl Space {
    /// Starts kustomize-controller for this namespace, with more arguments if there are any.
    pub fn kustomize_controller(&self, arguments: &[&str]) -> Flux {
        self.flux("kustomize-controller", "TOLLGATE_E2E_KUSTOMIZE_CONTROLLER", arguments)
    }

    /// Starts helm-controller for this namespace.
    pub fn helm_controller(&self) -> Flux {
        self.flux("helm-controller", "TOLLGATE_E2E_HELM_CONTROLLER", &[])
    }

    fn flux(&self, name: &str, program: &str, arguments: &[&str]) -> Flux {
        let log = std::fs::File::create(self.logs.join(format!("{name}.log"))).unwrap();
        // A starting kustomize-controller clears away what others have left in the directory for such files.
        let scratch = self.logs.join(format!("{name}-tmp"));
        std::fs::create_dir_all(&scratch).unwrap();
        let child = Command::new(setting(program))
            .args(["--watch-all-namespaces=false", "--metrics-addr=0", "--health-addr=0"])
            .args(["--interval-jitter-percentage=0", "--log-level=debug"])
            .args(arguments)
            .env("RUNTIME_NAMESPACE", &self.name)
            .env("TMPDIR", scratch)
            .env("HELM_CACHE_HOME", self.logs.join("helm-cache"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        Flux(child.expect("Flux; it comes with the rig"))
    }

    /// Waits until Flux says this of one of its objects. `ready` is the condition's status.
    pub async fn until_flux(&self, what: &str, kind: &str, ready: &str, reason: &str) -> String {
        let said = self.until(what, kind, "checkout", |live| {
            let current = live["status"]["observedGeneration"] == live["metadata"]["generation"] || ready == "Unknown";
            let said = condition(live);
            current && said["status"] == ready && said["reason"] == reason
        });
        condition(&said.await)["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// The condition Ready.
pub fn condition(live: &Value) -> Value {
    let all = live["status"]["conditions"].as_array().into_iter().flatten();
    let found = all.clone().find(|one| one["type"] == "Ready");
    found.cloned().unwrap_or(Value::Null)
}

/// A Kustomization of all that is in git.
pub fn kustomization(space: &Space, spec: &Value) -> Value {
    let own = json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"name": "checkout"},
        "spec": {
            "interval": "10s", "path": "./", "prune": true, "targetNamespace": space.name,
            "sourceRef": {"kind": "OCIRepository", "name": "git"},
        },
    });
    crate::support::objects::with(own, &json!({"spec": spec}))
}
