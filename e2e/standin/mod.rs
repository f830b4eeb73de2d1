//! The GitHub stand-in as a test uses it: started on a free port, steered by its control calls, ended with the test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tollgate::github::{Credentials, SecretString, Settings};

/// The commit that its repository `acme/shop` has.
pub const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// A running stand-in; ends with the test that started it.
pub struct Standin {
    _child: tokio::process::Child,
    /// Where its API is.
    pub url: String,
    control: String,
    /// For calls that others make.
    pub http: reqwest::Client,
}

/// Installs what the stand-in needs, once for all tests.
fn installed() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/standin");
        if !folder.join("node_modules/openapi-backend").is_dir() {
            let mut npm = Command::new("npm");
            npm.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
                .current_dir(&folder);
            let status = npm.stdin(Stdio::null()).status();
            let status = status.unwrap_or_else(|error| panic!("npm is needed for the GitHub stand-in: {error}"));
            assert!(
                status.success(),
                "`npm ci` failed in {}; its messages are above",
                folder.display()
            );
        }
        folder
    })
}

impl Standin {
    pub async fn start() -> Self {
        Self::start_at("").await
    }

    pub async fn start_at(prefix: &str) -> Self {
        let mut node = tokio::process::Command::new("node");
        node.arg("server.mjs")
            .current_dir(installed())
            .env("STANDIN_PREFIX", prefix)
            .env("STANDIN_TETHERED", "1");
        node.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = node
            .spawn()
            .unwrap_or_else(|error| panic!("Node 20 is needed for the GitHub stand-in: {error}"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines
            .next_line()
            .await
            .unwrap()
            .expect("the stand-in ended before it listened");
        let ready: Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        let standin = Self {
            _child: child,
            url: text("url"),
            control: text("control"),
            http: reqwest::Client::new(),
        };
        standin
            .control("seed", &json!({"repository": "acme/shop", "branches": {"main": SHA}}))
            .await;
        standin
    }

    pub async fn control(&self, name: &str, body: &Value) -> Value {
        let answer = self
            .http
            .post(format!("{}/{name}", self.control))
            .json(body)
            .send()
            .await
            .unwrap();
        answer.json().await.unwrap()
    }

    pub async fn fault(&self, fault: Value) {
        self.control("fault", &fault).await;
    }

    /// Everything GitHub knows, the newest deployment first.
    pub async fn deployments(&self) -> Vec<Value> {
        self.control("deployments", &json!({}))
            .await
            .as_array()
            .unwrap()
            .clone()
    }

    pub async fn calls(&self, operation: &str) -> usize {
        let journal = self.control("journal", &json!({})).await;
        journal
            .as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["operation"] == operation)
            .count()
    }

    /// No call and no answer broke GitHub's contract.
    pub async fn verify(&self) {
        let found = self.control("verify", &json!({})).await;
        assert_eq!(found["ok"], true, "{found:#}");
        assert!(found["calls"].as_u64().unwrap() > 0, "nothing was called");
    }

    pub async fn app(&self) -> Credentials {
        let app = self.control("app", &json!({})).await;
        let private_key = SecretString::from(app["private_key"].as_str().unwrap().to_owned());
        Credentials::App {
            id: app["app_id"].as_u64().unwrap(),
            private_key,
            installation: None,
        }
    }

    pub fn settings(&self, credentials: Credentials) -> Settings {
        let (connect_timeout, call_timeout) = (Duration::from_secs(10), Duration::from_secs(10));
        Settings {
            url: self.url.clone(),
            credentials,
            connect_timeout,
            call_timeout,
        }
    }
}
