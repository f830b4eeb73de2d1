//! The operator watched by a real Prometheus: alerts load, and every expression is answered.

use std::path::PathBuf;

use serde_json::Value;

use super::ours;
use crate::support::{PATIENCE, directory, eventually, setting};

fn prometheus(path: &str) -> String {
    setting("TOLLGATE_E2E_PROMETHEUS") + path
}

async fn asked(path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
    let url = reqwest::Url::parse_with_params(&prometheus(path), parameters).unwrap();
    let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
    answer.json().await.map_err(|error| error.to_string())
}

/// The chart's alerts in the rig's Prometheus.
fn loaded() -> PathBuf {
    let targets = directory("TOLLGATE_E2E_TARGETS");
    targets.parent().unwrap().join("prometheus-rules.d/tollgate.yaml")
}

/// Gives Prometheus the alerts, waits until it has looked at each, and evaluates the dashboard. Nothing may
/// fire that says the operator is unwell.
pub async fn by_prometheus() {
    std::fs::copy(ours().join("files/rules.yaml"), loaded()).unwrap();
    let reload = reqwest::Client::new()
        .post(prometheus("/-/reload"))
        .send()
        .await
        .unwrap();
    assert!(reload.status().is_success(), "{}", reload.text().await.unwrap());
    eventually(
        "every alert is evaluated and the operator is well",
        PATIENCE,
        async || {
            let answer = asked("/api/v1/rules", &[]).await?;
            let rules = answer["data"]["groups"][0]["rules"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let name = |rule: &Value| rule["name"].to_string();
            let unread: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").map(name).collect();
            let unwell = [
                "Down",
                "ReplicaMissing",
                "NoLeader",
                "TwoLeaders",
                "WritesRefused",
                "AuditLinesDropped",
            ];
            let unwell = unwell.map(|word| format!("\"Tollgate{word}\""));
            let active = rules.iter().filter(|rule| rule["state"] != "inactive").map(name);
            let active: Vec<_> = active.filter(|name| unwell.contains(name)).collect();
            if rules.len() > 10 && unread.is_empty() && active.is_empty() {
                Ok(())
            } else {
                Err(format!("{} rules; not ok: {unread:?}; active: {active:?}", rules.len()))
            }
        },
    )
    .await;

    let dashboard = std::fs::read_to_string(ours().join("files/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    for target in panels.filter_map(|panel| panel["targets"].as_array()).flatten() {
        let expression = target["expr"].as_str().unwrap().replace("$__rate_interval", "1m");
        let answer = asked("/api/v1/query", &[("query", &expression)]).await.unwrap();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
    }
    let two = asked("/api/v1/query", &[("query", "count(tollgate_build_info)")])
        .await
        .unwrap();
    assert_eq!(two["data"]["result"][0]["value"][1], "2", "{two}");
}
