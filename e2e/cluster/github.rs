//! What GitHub hears of a release.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use super::gate;
use crate::core::passing::promoted;
use crate::support::operator::Start;
use crate::support::space::{Space, real};
use crate::support::{PATIENCE, eventually};

#[path = "../standin/mod.rs"]
#[allow(dead_code, reason = "shared with the tests of the reports themselves")]
mod standin;

use standin::{SHA, Standin};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn github_is_told_each_step_of_a_release() {
    real("github", async |space| {
        let github = Standin::start().await;
        let secrets: Api<Secret> = Api::namespaced(space.client.clone(), "tollgate-system");
        let secret = json!({"metadata": {"name": space.name}, "stringData": {"token": "ghp_of_the_test"}});
        secrets
            .create(&PostParams::default(), &serde_json::from_value(secret).unwrap())
            .await
            .unwrap();
        space.team(2).await;
        let start = Start::named("one")
            .env("TOLLGATE_GITHUB_SECRET", &space.name)
            .env("TOLLGATE_GITHUB_URL", &github.url);
        let operator = space.operator_as(&start).await;
        operator.until_ready().await;
        let reports = json!({"spec": {"github": {"repository": "acme/shop"}, "environment": "e2e"}});
        space.adopted(&gate(space, &reports)).await;
        let load = space.load(300).await;

        space
            .patch(
                "Deployment",
                "checkout",
                json!({"metadata": {"annotations": {"tollgate.dev/commit": SHA}}}),
            )
            .await
            .unwrap();
        space.push("v2").await;
        promoted(space, "v2").await;
        load.stop().await;

        let told = finished(&github).await;
        assert_eq!(
            (&told["sha"], &told["environment"]),
            (&json!(SHA), &json!("e2e")),
            "{told}"
        );
        let statuses = told["statuses"].as_array().unwrap();
        assert!(statuses.iter().any(|status| status["state"] == "in_progress"), "{told}");
        assert_eq!(statuses[0]["state"], "success", "the newest first: {told}");
        shown(space).await;
        github.verify().await;
        secrets.delete(&space.name, &DeleteParams::default()).await.unwrap();
    })
    .await;
}

/// The one deployment, when GitHub has heard of the end.
async fn finished(github: &Standin) -> Value {
    eventually("GitHub hears of the end", PATIENCE, async || {
        let all = github.deployments().await;
        let done = |one: &Value| one["statuses"][0]["state"] == "success";
        match &all[..] {
            [one] if done(one) => Ok(one.clone()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// The gate's status says where the report stands.
async fn shown(space: &Space) {
    space
        .until_gate("the gate names the deployment on GitHub", |status| {
            status["github"]["deployment"].is_number()
        })
        .await;
}
