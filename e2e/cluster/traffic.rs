//! Load through the gateway, counted by the client and at the pods.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::support::space::Space;
use crate::support::{PATIENCE, eventually, setting};

/// A running load generator; it ends with the test.
pub struct Load {
    child: Child,
    /// What it prints.
    lines: PathBuf,
}

impl Space {
    /// Sends so many requests a second to the team's host from now on.
    pub async fn load(&self, rate: u32) -> Load {
        self.load_traced(rate, "").await
    }

    /// The same, and notes when each answer of one version came.
    pub async fn load_traced(&self, rate: u32, version: &str) -> Load {
        let gateway = setting("TOLLGATE_E2E_GATEWAY");
        self.until_served(&gateway).await;
        let lines = self.logs.join("load.json");
        let mut command = Command::new("load");
        command
            .args(["-summary", "-duration", "20m", "-max-requests", "10000000"])
            .args([
                "-url",
                &format!("{gateway}/"),
                "-host",
                &self.host(),
                "-rate",
                &rate.to_string(),
                "-trace",
                version,
            ])
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&lines).unwrap())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        let child = command.spawn().expect("the load generator; it comes with the rig");
        Load { child, lines }
    }

    async fn until_served(&self, gateway: &str) {
        let client = reqwest::Client::new();
        eventually("the gateway serves the route", PATIENCE, async || {
            let answer = client
                .get(format!("{gateway}/"))
                .header("Host", self.host())
                .send()
                .await;
            match answer {
                Ok(answer) if answer.headers().contains_key("X-Version") => Ok(()),
                Ok(answer) => Err(answer.status().to_string()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }
}

impl Load {
    /// Ends it, and says what the client has seen in all.
    pub async fn stop(self) -> Value {
        self.stop_traced().await.0
    }

    /// The same, and when the answers of the traced version came, in milliseconds since 1970.
    pub async fn stop_traced(mut self) -> (Value, Vec<i64>) {
        let pid = self.child.id().expect("the load generator is running").to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &pid]).status().await.unwrap();
        assert!(sent.success(), "the load generator had ended");
        let ended = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        ended.expect("the load generator ends").unwrap();
        let text = std::fs::read_to_string(&self.lines).unwrap();
        let mut lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect();
        let summary = lines.pop().expect("a summary");
        (
            summary,
            lines.iter().filter_map(|line| line["answered"].as_i64()).collect(),
        )
    }
}

/// Requests so far, by pod; a pod that is gone keeps its last count.
#[derive(Default)]
pub struct Counts {
    pods: BTreeMap<String, (bool, u64)>,
    client: reqwest::Client,
}

impl Counts {
    /// Reads every pod's own counter and adds up: stable's requests and the canary's.
    pub async fn read(&mut self, space: &Space) -> (u64, u64) {
        for pod in space.list("Pod").await {
            let Some(ip) = pod["status"]["podIP"].as_str() else {
                continue;
            };
            let canary = pod["metadata"]["labels"]["tollgate.dev/role"] == "canary";
            let url = format!("http://{ip}:8080/metrics");
            let Ok(answer) = self.client.get(url).timeout(Duration::from_secs(2)).send().await else {
                continue;
            };
            let text = answer.text().await.unwrap_or_default();
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            let seen = self.pods.entry(name).or_insert((canary, 0));
            seen.1 = seen.1.max(requests(&text));
        }
        let sum = |role: bool| -> u64 { self.pods.values().filter(|pod| pod.0 == role).map(|pod| pod.1).sum() };
        (sum(false), sum(true))
    }
}

fn requests(page: &str) -> u64 {
    let lines = page.lines().filter(|line| line.starts_with("http_requests_total{"));
    lines
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}
