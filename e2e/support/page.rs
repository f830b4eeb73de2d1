//! Pages of the documentation: their blocks, and shell that is run as it is written.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::helm;
use super::space::Space;

/// The blocks of a page in this language, in order.
pub fn blocks(page: &'static str, language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let rest = page.split(fence.as_str()).skip(1);
    rest.filter_map(|rest| rest.split("```").next()).collect()
}

impl Space {
    /// Where commands of a page are run: a directory with a copy of what they read of the tree.
    pub fn desk(&self) -> PathBuf {
        let desk = self.logs.join("desk");
        if !desk.exists() {
            std::fs::create_dir_all(&desk).unwrap();
            let copied = std::process::Command::new("cp")
                .arg("-r")
                .args(["charts", "config", "crds"])
                .arg(&desk)
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status();
            assert!(copied.unwrap().success());
        }
        desk
    }

    /// Runs a piece of shell as a reader of a page does, with `tollgate` and `helm` at hand. Where the page
    /// says `-n shop`, it is done in this namespace. Standard output, or all that was said when it fails.
    pub async fn shell(&self, text: &str) -> Result<String, String> {
        let text = text.replace("-n shop", &format!("-n {}", self.name));
        let ours = Path::new(env!("CARGO_BIN_EXE_tollgate")).parent().unwrap();
        let mut programs = vec![ours.to_owned()];
        programs.extend(helm::directory());
        programs.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", &text])
            .current_dir(self.desk())
            .env("PATH", std::env::join_paths(programs).unwrap())
            .envs(helm::home())
            .kill_on_drop(true);
        let output = command.output().await.unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if output.status.success() {
            Ok(out)
        } else {
            Err(format!("{out}{err}"))
        }
    }
}
