//! Git's manifests are applied again and again through a whole release.

use std::time::Duration;

use serde_json::Value;

use super::passing::{WHOLE, promoted};
use crate::support::objects::{self, deployment, image};
use crate::support::space::{Space, TEAM, played};
use crate::support::{PATIENCE, eventually, setting};

/// How a pipeline writes.
#[derive(Clone, Copy, Debug)]
enum Writer {
    ForcedApply,
    ClientSide,
    Replace,
}

impl Writer {
    async fn write(self, space: &Space, object: &Value) {
        match self {
            Self::ForcedApply => drop(space.try_apply(object, TEAM, true).await.expect("a forced apply")),
            Self::ClientSide => drop(space.kubectl_apply(object).await.expect_ok()),
            Self::Replace => {
                // It may meet a write of the operator between its own reading and writing.
                eventually("replace", PATIENCE, async || {
                    let answer = space.kubectl_replace(object).await;
                    if answer.ok { Ok(()) } else { Err(answer.text) }
                })
                .await;
            }
        }
    }

    /// The same at the very beginning.
    async fn begin(self, space: &Space, object: &Value) {
        match self {
            Self::ForcedApply | Self::ClientSide => self.write(space, object).await,
            Self::Replace => drop(space.kubectl(&["create", "-f", "-"], Some(object)).await.expect_ok()),
        }
    }
}

async fn whole_release(name: &str, writer: Writer) {
    played(name, async |space| {
        space
            .apply(&objects::source(&space.name, &setting("TOLLGATE_E2E_PROMETHEUS")))
            .await;
        for object in [objects::service(), space.route(), deployment("v1", 2)] {
            writer.begin(space, &object).await;
        }
        space.until_rolled_out("v1").await;
        let route = space.the("HTTPRoute", "checkout").await;
        let _operator = space.operator().await;
        space.adopted(&space.gate()).await;

        let again = async {
            loop {
                for object in [deployment("v2", 2), space.route()] {
                    writer.write(space, &object).await;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = again => {}
            _ = promoted(space, "v2") => {}
        }

        assert_eq!(space.weights().await, WHOLE, "no fight, no drift, no bypass");
        assert_eq!(space.asked_for().await, [image("v2")]);
        let after = space.the("HTTPRoute", "checkout").await;
        assert_eq!(after["spec"], route["spec"]);
        let mut changed = space.route();
        changed["spec"]["rules"][0]["backendRefs"][0]["weight"] = serde_json::json!(7);
        match writer {
            Writer::ForcedApply => drop(space.apply(&changed).await),
            other => other.write(space, &changed).await,
        }
        let after = space.the("HTTPRoute", "checkout").await;
        assert_eq!(
            after["spec"]["rules"][0]["backendRefs"][0]["weight"], 7,
            "the team owns its route again"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forced_apply_of_git_changes_nothing_about_a_release() {
    whole_release("git-apply", Writer::ForcedApply).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_side_apply_of_git_changes_nothing_about_a_release() {
    whole_release("git-client", Writer::ClientSide).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replace_by_git_changes_nothing_about_a_release() {
    whole_release("git-replace", Writer::Replace).await;
}
