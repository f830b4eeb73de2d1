//! The operator as a process: its own program, under its own account.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::space::Space;
use super::{PATIENCE, eventually};

/// How an operator is started.
#[derive(Clone, Default)]
pub struct Start {
    /// The replica's name, also of its log.
    pub pod: String,
    /// More of the environment.
    pub env: Vec<(String, String)>,
}

impl Start {
    pub fn named(pod: &str) -> Self {
        Self {
            pod: pod.into(),
            ..Self::default()
        }
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// A running operator; it dies with the test.
pub struct Operator {
    child: Child,
    url: String,
    log: PathBuf,
}

impl Space {
    /// Starts an operator for this namespace and waits until it works.
    pub async fn operator(&self) -> Operator {
        let operator = self.operator_as(&Start::named("one")).await;
        operator.until_ready().await;
        operator
    }

    /// Starts an operator. It may die at once, when it is told to.
    pub async fn operator_as(&self, start: &Start) -> Operator {
        let kubeconfig = kubeconfig(self).await;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = self.logs.join(format!("operator-{}.log", start.pod));
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command
            .arg("controller")
            .args([
                "--watch-namespace",
                &self.name,
                "--lease",
                &self.name,
                "--lease-seconds",
                "6",
            ])
            .args([
                "--listen",
                &format!("127.0.0.1:{port}"),
                "--pod",
                &start.pod,
                "--log-format",
                "text",
            ])
            .arg("--audit-file")
            .arg(self.logs.join(format!("audit-{}.jsonl", start.pod)))
            .env("KUBECONFIG", kubeconfig)
            .envs(start.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .kill_on_drop(true);
        let mut known = self.operators.lock().unwrap();
        if !known.contains(&log) {
            known.push(log.clone());
        }
        Operator {
            child: command.spawn().expect("the operator's program"),
            url: format!("http://127.0.0.1:{port}"),
            log,
        }
    }
}

/// Credentials of the operator's own account.
async fn kubeconfig(space: &Space) -> PathBuf {
    let path = space.logs.join("operator.kubeconfig");
    if path.exists() {
        return path;
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(space.client.clone(), "tollgate-system");
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": {}});
    let request: TokenRequest = serde_json::from_value(request).unwrap();
    let answer: TokenRequest = accounts
        .create_subresource("token", "tollgate", &PostParams::default(), &request)
        .await
        .expect("a token for the operator");
    let token = answer.status.expect("a token").token;
    let own = Kubeconfig::read().expect("KUBECONFIG");
    let mut config: Value = serde_json::to_value(own).unwrap();
    for user in config["users"].as_array_mut().unwrap() {
        user["user"] = json!({"token": token});
    }
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

impl Operator {
    /// Waits until it has filled its caches.
    pub async fn until_ready(&self) {
        let url = format!("{}/readyz", self.url);
        eventually("the operator is ready", PATIENCE, async || {
            match reqwest::get(&url).await {
                Ok(answer) if answer.status().is_success() => Ok(()),
                Ok(answer) => Err(answer.status().to_string()),
                Err(error) => Err(format!("{error}; its log is {}", self.log.display())),
            }
        })
        .await;
    }

    /// Its own numbers, as Prometheus reads them.
    pub async fn metrics(&self) -> String {
        self.numbers().await.expect("an answer")
    }

    async fn numbers(&self) -> Result<String, reqwest::Error> {
        reqwest::get(format!("{}/metrics", self.url)).await?.text().await
    }

    /// Waits until it leads; it may not even listen yet.
    pub async fn until_leading(&self) {
        eventually("the operator leads", PATIENCE, async || {
            let numbers = self.numbers().await.map_err(|error| error.to_string())?;
            let leads = numbers.lines().any(|line| line == "tollgate_leader 1");
            leads.then_some(()).ok_or_else(|| "it does not".to_owned())
        })
        .await;
    }

    async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("a running operator").to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().await.unwrap();
        assert!(sent.success(), "kill -s {name} {pid}");
    }

    /// Ends it without a chance to do anything more.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks it to stop, and waits until it has.
    pub async fn stop(mut self) {
        self.signal("TERM").await;
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let ended = ended.expect("the operator stops").unwrap();
        assert!(
            ended.success(),
            "the operator stopped with {ended}; its log is {}",
            self.log.display()
        );
    }

    /// Waits until it is dead by itself, and says how it died.
    pub async fn until_dead(&mut self, patience: std::time::Duration) -> Option<std::process::ExitStatus> {
        tokio::time::timeout(patience, self.child.wait())
            .await
            .ok()
            .map(Result::unwrap)
    }

    /// Stops its clock, so to say.
    pub async fn freeze(&self) {
        self.signal("STOP").await;
    }

    /// Lets it go on as if nothing had happened.
    pub async fn thaw(&self) {
        self.signal("CONT").await;
    }

    pub fn log(&self) -> &Path {
        &self.log
    }
}
