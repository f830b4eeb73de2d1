//! The chart, with the real Helm on a whole node: what it renders, and what an operator's life does to releases.

mod chart;
mod life;
mod page;
mod watched;

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

use crate::support::helm::Said;
use crate::support::space::Space;
use crate::support::{PATIENCE, eventually};

/// The page about it.
const PAGE: &str = include_str!("../../docs/install.md");

/// Where the operator lives.
const HOME: &str = "tollgate-system";

/// The chart as it is in the tree.
fn ours() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/tollgate")
}

/// Runs Helm where the operator lives.
async fn helm(arguments: &[&str]) -> Said {
    crate::support::helm::helm(HOME, arguments).await
}

/// The operator's pods that are ready.
async fn pods(space: &Space) -> Vec<Pod> {
    let api: Api<Pod> = Api::namespaced(space.client.clone(), HOME);
    let found = api
        .list(&ListParams::default().labels("app.kubernetes.io/name=tollgate"))
        .await
        .expect("pods");
    let ready = |pod: &Pod| {
        let status = pod.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref());
        pod.metadata.deletion_timestamp.is_none()
            && conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
    };
    found.items.into_iter().filter(ready).collect()
}

/// A pod's own numbers.
async fn numbers(pod: &Pod) -> Result<String, String> {
    let ip = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ip.clone())
        .ok_or("no address")?;
    let answer = reqwest::get(format!("http://{ip}:8080/metrics"))
        .await
        .map_err(|error| error.to_string())?;
    answer.text().await.map_err(|error| error.to_string())
}

/// Waits until so many replicas are ready and one of them leads.
async fn until_led(space: &Space, replicas: usize) {
    eventually("all replicas are ready and one leads", PATIENCE, async || {
        let pods = pods(space).await;
        let mut leaders = 0;
        for pod in &pods {
            let numbers = numbers(pod).await?;
            leaders += usize::from(numbers.lines().any(|line| line == "tollgate_leader 1"));
        }
        if (pods.len(), leaders) == (replicas, 1) {
            Ok(())
        } else {
            Err(format!("{} ready, {leaders} leading", pods.len()))
        }
    })
    .await;
}

/// The objects in a stream of YAML; empty documents are none.
fn documents(text: &str) -> Vec<Value> {
    let parts = text.split("\n---").map(|part| part.trim_start_matches("---"));
    parts
        .map(|part| serde_saphyr::from_str::<Value>(part).unwrap_or_else(|error| panic!("{error}: {part}")))
        .filter(Value::is_object)
        .collect()
}
