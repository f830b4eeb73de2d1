//! The operator as a process: as its service account, with what the system counts of it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

const LISTEN: &str = "127.0.0.1:9901";

/// A running operator.
pub struct Operator {
    process: Child,
    log: PathBuf,
}

impl Operator {
    /// Starts it and waits until it is ready.
    pub async fn start(client: &Client, binary: &Path, rig: &Path) -> Self {
        let kubeconfig = rig.join("conf/operator.kubeconfig");
        std::fs::write(&kubeconfig, config(client, rig).await).expect("a kubeconfig");
        let log = rig.join("log/operator.log");
        let process = Command::new(binary)
            .args(["controller", "--listen", LISTEN, "--log-format", "json", "--audit-file"])
            .arg(rig.join("log/decisions.jsonl"))
            .env("KUBECONFIG", kubeconfig)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("a log"))
            .kill_on_drop(true)
            .spawn()
            .expect("the operator");
        for _ in 0..150 {
            let ready = reqwest::get(format!("http://{LISTEN}/readyz")).await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return Self { process, log };
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("the operator is not ready after 30 s; see {}", log.display());
    }

    /// Processor time so far, in milliseconds; the system counts in hundredths of a second.
    pub fn cpu(&self) -> f64 {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
        (ticks(11) + ticks(12)) * 10.0
    }

    /// Memory now (`VmRSS`) or at most (`VmHWM`), in MiB.
    pub fn memory(&self, field: &str) -> f64 {
        let status = self.proc("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .expect("the field");
        let kib: f64 = line.trim_matches([':', '\t', ' ', 'k', 'B']).parse().unwrap();
        kib / 1024.0
    }

    /// Lets the system forget how much memory was used at most.
    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").expect("clear_refs");
    }

    /// Lines of its log, with their times.
    pub fn log(&self) -> Vec<(SystemTime, Value)> {
        let text = std::fs::read_to_string(&self.log).expect("the log");
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let timed = lines.filter_map(|line| Some((crate::requests::time(line["timestamp"].as_str()?), line)));
        timed.collect()
    }

    /// Ends it in order.
    pub async fn stop(&mut self) {
        let pid = self.pid().to_string();
        Command::new("kill").arg(pid).status().await.expect("kill");
        let ended = tokio::time::timeout(Duration::from_secs(30), self.process.wait()).await;
        ended.expect("the operator stops in time").expect("its exit code");
    }

    fn pid(&self) -> u32 {
        self.process.id().expect("the operator runs")
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.pid())).expect("the operator runs")
    }
}

async fn config(client: &Client, rig: &Path) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), tollgate::api::labels::NAMESPACE);
    let wanted = TokenRequest {
        spec: Some(TokenRequestSpec {
            expiration_seconds: Some(7200),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let account = tollgate::api::labels::ACCOUNT;
    let params = PostParams::default();
    let made = accounts.create_token_request(account, &params, &wanted).await;
    let token = made.expect("a token").status.expect("a token").token;
    json!({"apiVersion": "v1", "kind": "Config", "current-context": "rig",
        "clusters": [{"name": "rig", "cluster": {
            "server": "https://198.18.0.1:6443", "certificate-authority": rig.join("pki/ca.crt")}}],
        "users": [{"name": "operator", "user": {"token": token}}],
        "contexts": [{"name": "rig", "context": {"cluster": "rig", "user": "operator"}}]})
    .to_string()
}
