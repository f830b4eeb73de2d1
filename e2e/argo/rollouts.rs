//! Argo Rollouts' controller as a process, and a team's Rollout.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::support::eventually;
use crate::support::objects::{self, with};
use crate::support::operator::{Operator, Start};
use crate::support::space::Space;
use crate::support::{PATIENCE, setting};

/// Where the operator answers.
pub const HOOKS: &str = "127.0.0.1:8444";

/// A running controller; it dies with the test.
pub struct Rollouts(Child);

impl Rollouts {
    /// Ends it without a chance to do anything more.
    pub async fn kill(mut self) {
        self.0.kill().await.unwrap();
    }
}

impl Space {
    /// Starts an operator that answers other tools, and waits until it works.
    pub async fn answering(&self) -> Operator {
        let start = Start::named("one")
            .env("TOLLGATE_HOOKS_LISTEN", HOOKS)
            .env("TOLLGATE_HOOKS_HOST", "127.0.0.1");
        let operator = self.operator_as(&start).await;
        operator.until_ready().await;
        operator
    }

    /// Starts the controller of Argo Rollouts for this namespace. It trusts the operator's certificate
    /// as the page about it says.
    pub async fn rollouts(&self) -> Rollouts {
        let trusted = self.logs.join("trusted");
        std::fs::create_dir_all(&trusted).unwrap();
        let authority = "jsonpath={.data.ca\\.crt}";
        let found = eventually("the operator has made a certificate", PATIENCE, async || {
            let arguments = [
                "get",
                "secret",
                "tollgate-hooks",
                "-n",
                "tollgate-system",
                "-o",
                authority,
            ];
            let output = Command::new("kubectl").args(arguments).output().await.unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            if text.is_empty() {
                Err("it has not".to_owned())
            } else {
                Ok(text)
            }
        })
        .await;
        let decoded: k8s_openapi::ByteString = serde_json::from_value(json!(found)).unwrap();
        std::fs::write(trusted.join("ca.crt"), decoded.0).unwrap();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.logs.join("rollouts.log"))
            .unwrap();
        let child = Command::new(setting("TOLLGATE_E2E_ROLLOUTS"))
            .args(["--namespaced", "--namespace", &self.name, "--leader-elect=false"])
            .args(["--healthzPort", "18080", "--metricsPort", "18090"])
            .env("SSL_CERT_DIR", format!("/etc/ssl/certs:{}", trusted.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("Argo Rollouts");
        Rollouts(child)
    }

    /// The team's objects with a Rollout in place of the Deployment, all of it running.
    pub async fn rollout_team(&self, rollout: &Value) {
        self.apply(&objects::source(&self.name, &setting("TOLLGATE_E2E_PROMETHEUS")))
            .await;
        self.apply(&objects::service()).await;
        self.apply(&self.route()).await;
        self.apply(rollout).await;
        self.until("the Rollout runs", "Rollout", "checkout", |live| {
            live["status"]["phase"] == "Healthy" && live["status"]["availableReplicas"] == 4
        })
        .await;
    }

    /// What is shipped for Argo Rollouts, as people apply it.
    pub async fn asking(&self) {
        for file in ["access.yaml", "analysis-template.yaml"] {
            let path = format!("{}/config/argo-rollouts/{file}", env!("CARGO_MANIFEST_DIR"));
            self.kubectl(&["apply", "-f", &path], None).await.expect_ok();
        }
    }

    /// How the shipped example judges, with short waits.
    pub fn judged_by(&self, difference: &Value) -> Value {
        let path = format!("{}/config/argo-rollouts/analysis.yaml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let shipped: Value = serde_saphyr::from_str(&text).unwrap();
        let usual = json!({"spec": {
            "analysis": {"source": self.name, "slo": "99%", "minSample": 100, "minWindow": "5s", "maxWindow": "60s"},
            "policy": {"onInconclusive": "NoHarm", "onNoEvidence": {"hold": "30s", "then": "Abort"}},
        }});
        with(with(shipped, &usual), difference)
    }

    /// Somebody changes the image of the Rollout.
    pub async fn push_rollout(&self, tag: &str) {
        let patch =
            json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": objects::image(tag)}]);
        let arguments = ["patch", "rollout", "checkout", "--type=json", "-p", &patch.to_string()];
        self.kubectl(&arguments, None).await.expect_ok();
    }

    /// Waits until the Rollout has come so far.
    pub async fn until_rollout(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let found = self
            .until(what, "Rollout", "checkout", |live| is(&live["status"]))
            .await;
        found["status"].clone()
    }

    /// What the analysis says about the trial.
    pub async fn trial(&self) -> Value {
        self.the("CanaryAnalysis", "checkout").await["status"]["trial"].clone()
    }
}

/// The team's Rollout as the page about Argo Rollouts shows it; only the image and the address that is
/// asked are others.
pub fn rollout_of_the_page() -> Value {
    let page = include_str!("../../docs/argo-rollouts.md");
    let block = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let mut rollout: Value = serde_saphyr::from_str(block.expect("the page shows a Rollout")).unwrap();
    rollout["spec"]["template"] = objects::deployment("v1", 4)["spec"]["template"].clone();
    let steps = rollout["spec"]["strategy"]["canary"]["steps"].as_array_mut().unwrap();
    let asking = steps
        .iter_mut()
        .filter_map(|step| step.pointer_mut("/analysis/args")?.as_array_mut());
    let asked = asking
        .map(|args| args.insert(0, json!({"name": "url", "value": format!("https://{HOOKS}")})))
        .count();
    assert_eq!(asked, 2, "{rollout}");
    rollout
}

/// The same, asking something else.
pub fn rollout_that_asks(analysis: &Value) -> Value {
    let mut rollout = rollout_of_the_page();
    for step in rollout["spec"]["strategy"]["canary"]["steps"].as_array_mut().unwrap() {
        if step.get("analysis").is_some() {
            step["analysis"] = analysis.clone();
        }
    }
    rollout
}

/// Whether a Rollout went back to stable.
pub fn is_back(status: &Value) -> bool {
    status["abort"] == true && status["phase"] == "Degraded"
}

/// Whether a Rollout runs the newest revision everywhere.
pub fn is_promoted(status: &Value) -> bool {
    status["phase"] == "Healthy" && status["currentPodHash"] == status["stableRS"]
}
