//! Load through the gateway, counted by the client and at the pods.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::support::space::Space;
use crate::support::{PATIENCE, eventually, setting};

/// A running load generator; it ends with the test.
pub struct Load {
    child: Child,
}

impl Space {
    /// Sends so many requests a second to the team's host from now on.
    pub async fn load(&self, rate: u32) -> Load {
        let gateway = setting("TOLLGATE_E2E_GATEWAY");
        self.until_served(&gateway).await;
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
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        Load {
            child: command.spawn().expect("the load generator; it comes with the rig"),
        }
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
        let pid = self.child.id().expect("the load generator is running").to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &pid]).status().await.unwrap();
        assert!(sent.success(), "the load generator had ended");
        let output = tokio::time::timeout(Duration::from_secs(30), self.child.wait_with_output()).await;
        let output = output.expect("the load generator ends").unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let summary = text.lines().last().expect("a summary");
        serde_json::from_str(summary).unwrap_or_else(|error| panic!("{error}: {summary}"))
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
