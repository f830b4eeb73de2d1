//! `kubectl`, for what people and pipelines do with it.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::space::Space;

/// What it said.
pub struct Answer {
    pub ok: bool,
    /// Standard output and standard error.
    pub text: String,
}

impl Answer {
    pub fn expect_ok(self) -> String {
        assert!(self.ok, "kubectl failed: {}", self.text);
        self.text
    }
}

impl Space {
    /// Runs it in this namespace, with an object on standard input if one is given.
    pub async fn kubectl(&self, arguments: &[&str], input: Option<&Value>) -> Answer {
        let mut command = Command::new("kubectl");
        command
            .args(["--namespace", &self.name])
            .args(arguments)
            .kill_on_drop(true);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl");
        let mut stdin = child.stdin.take().unwrap();
        if let Some(input) = input {
            stdin.write_all(input.to_string().as_bytes()).await.unwrap();
        }
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Answer {
            ok: output.status.success(),
            text: text.concat(),
        }
    }

    /// `kubectl apply`, client-side.
    pub async fn kubectl_apply(&self, object: &Value) -> Answer {
        self.kubectl(&["apply", "-f", "-"], Some(object)).await
    }

    /// `kubectl replace`.
    pub async fn kubectl_replace(&self, object: &Value) -> Answer {
        self.kubectl(&["replace", "-f", "-"], Some(object)).await
    }
}
