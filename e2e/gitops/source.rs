//! Git, as Flux sees it: archives that a source object names, which this test serves and writes itself.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::Path as At;
use axum::http::StatusCode;
use axum::routing::get;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::support::helm::helm;
use crate::support::objects::image;
use crate::support::space::Space;

#[derive(Default)]
struct Store {
    files: HashMap<String, Vec<u8>>,
    /// How often each was fetched.
    fetched: HashMap<String, usize>,
}

/// A server of archives; ends when it is dropped.
pub struct Source {
    url: String,
    store: Arc<Mutex<Store>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Source {
    pub async fn start() -> Self {
        let store = Arc::new(Mutex::new(Store::default()));
        let served = Arc::clone(&store);
        let answer = move |At(name): At<String>| {
            let served = Arc::clone(&served);
            async move {
                let mut store = served.lock().unwrap();
                *store.fetched.entry(name.clone()).or_default() += 1;
                store.files.get(&name).cloned().ok_or(StatusCode::NOT_FOUND)
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().route("/{name}", get(answer));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, store, task }
    }

    /// How often Flux came for this revision: once a reconciliation.
    pub fn fetched(&self, revision: &str) -> usize {
        let store = self.store.lock().unwrap();
        store.fetched.get(&format!("{revision}.tgz")).copied().unwrap_or(0)
    }

    /// The team pushes manifests to git.
    pub async fn push(&self, space: &Space, revision: &str, manifests: &[Value]) {
        let tree = space.logs.join(format!("git-{revision}"));
        std::fs::create_dir_all(&tree).unwrap();
        for manifest in manifests {
            let name = format!("{}.yaml", manifest["kind"].as_str().unwrap());
            std::fs::write(tree.join(name), manifest.to_string()).unwrap();
        }
        let archive = space.logs.join(format!("{revision}.tgz"));
        let mut tar = Command::new("tar");
        tar.arg("-czf").arg(&archive).arg("-C").arg(&tree).arg(".");
        assert!(tar.status().await.expect("tar").success());
        self.publish(space, revision, &archive, "main").await;
    }

    /// The team publishes its chart.
    pub async fn publish_chart(&self, space: &Space, version: &str, chart: &Path) {
        let to = space.logs.to_str().unwrap().to_owned();
        let arguments = [
            "package",
            chart.to_str().unwrap(),
            "--version",
            version,
            "--destination",
            &to,
        ];
        helm(&space.name, &arguments).await.expect_ok();
        let archive = space.logs.join(format!("checkout-{version}.tgz"));
        self.publish(space, version, &archive, version).await;
    }

    /// Names an archive in the source object `git`, as source-controller does when it has found one.
    async fn publish(&self, space: &Space, revision: &str, archive: &Path, tag: &str) {
        let bytes = std::fs::read(archive).unwrap();
        let digest = format!("sha256:{:x}", Sha256::digest(&bytes));
        let (name, size) = (format!("{revision}.tgz"), bytes.len());
        self.store.lock().unwrap().files.insert(name.clone(), bytes);
        let source = json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "OCIRepository",
            "metadata": {"name": "git"},
            "spec": {"url": "oci://registry.test/git", "interval": "1h"},
        });
        let live = space.apply(&source).await;
        let now = jiff::Timestamp::now().to_string();
        let status = json!({"status": {
            "observedGeneration": live["metadata"]["generation"],
            "artifact": {
                "url": format!("{}/{name}", self.url), "path": name, "size": size, "digest": digest,
                "revision": format!("{tag}@{digest}"), "lastUpdateTime": now,
            },
            "conditions": [{"type": "Ready", "status": "True", "reason": "Succeeded", "message": revision,
                "lastTransitionTime": now, "observedGeneration": live["metadata"]["generation"]}],
        }});
        let api = space.api("OCIRepository");
        api.patch_status("git", &PatchParams::default(), &Patch::Merge(status))
            .await
            .expect("the source's status");
    }
}

/// The team's objects as a chart with one value, `tag`.
pub fn chart(space: &Space, manifests: &[Value]) -> std::path::PathBuf {
    let chart = space.logs.join("chart");
    std::fs::create_dir_all(chart.join("templates")).unwrap();
    std::fs::write(
        chart.join("Chart.yaml"),
        "{apiVersion: v2, name: checkout, version: 0.1.0}\n",
    )
    .unwrap();
    std::fs::write(chart.join("values.yaml"), "tag: v1\n").unwrap();
    for manifest in manifests {
        let [kind, name] = [&manifest["kind"], &manifest["metadata"]["name"]].map(|field| field.as_str().unwrap());
        let name = format!("{kind}-{name}.yaml");
        let text = manifest.to_string().replace(&image("v1"), &image("{{ .Values.tag }}"));
        std::fs::write(chart.join("templates").join(name), text).unwrap();
    }
    chart
}
