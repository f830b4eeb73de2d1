//! The shell blocks of the page about Argo Rollouts, run as they are written. The namespace is the
//! scenario's; Argo Rollouts' own Deployment is one without pods, because the rig runs it as a process;
//! and what the page asks from a pod, with an image from outside, is asked here.

use serde_json::json;

use crate::support::page::blocks;
use crate::support::space::{Space, real};
use crate::support::{PATIENCE, eventually};

/// Argo Rollouts as its installation leaves it, as far as the page changes it.
async fn argo_rollouts(space: &Space) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argo-rollouts"}});
    space.kubectl_apply(&namespace).await.expect_ok();
    let labels = json!({"app.kubernetes.io/name": "argo-rollouts"});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "argo-rollouts"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "argo-rollouts", "image": "quay.io/argoproj/argo-rollouts:v1.9.2"}]},
        }},
    });
    let apply = ["apply", "-n", "argo-rollouts", "-f", "-"];
    space.kubectl(&apply, Some(&deployment)).await.expect_ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_works_as_it_is_written() {
    real("argo-page", async |space| {
        let _operator = space.answering().await;
        let _certified = space.rollouts().await;
        argo_rollouts(space).await;
        let page = include_str!("../../docs/argo-rollouts.md");
        let [start, watch, ask] = blocks(page, "sh").try_into().expect("the page has three blocks");

        println!("{}", space.shell(start).await.unwrap());
        let read = [
            "get",
            "deployment",
            "argo-rollouts",
            "-n",
            "argo-rollouts",
            "-o",
            "json",
        ];
        let live: serde_json::Value = serde_json::from_str(&space.kubectl(&read, None).await.expect_ok()).unwrap();
        let pod = &live["spec"]["template"]["spec"];
        let (container, volume) = (&pod["containers"][0], &pod["volumes"][0]);
        assert_eq!(
            (&container["env"][0]["name"], &container["env"][0]["value"]),
            (&json!("SSL_CERT_DIR"), &json!("/etc/ssl/certs:/etc/tollgate"))
        );
        assert_eq!(container["volumeMounts"][0]["mountPath"], "/etc/tollgate");
        assert_eq!(volume["configMap"]["name"], "tollgate-ca");
        let trusted = "kubectl -n argo-rollouts get configmap tollgate-ca -o jsonpath='{.data.ca\\.crt}'";
        let trusted = space.shell(trusted).await.unwrap();
        assert!(trusted.starts_with("-----BEGIN CERTIFICATE-----"), "{trusted}");

        space.shell(watch).await.unwrap();

        let (_, arguments) = ask.split_once(" -- ").expect("the page runs curl in a pod");
        let here = arguments
            .replace("tollgate-hooks.tollgate-system.svc", super::rollouts::HOOKS)
            .replace("/shop/", &format!("/{}/", space.name));
        assert!(
            here.contains(super::rollouts::HOOKS) && here.contains(&space.name),
            "{here}"
        );
        // The token comes a moment after its Secret.
        let answer = eventually("Tollgate knows who asks", PATIENCE, async || {
            let said = space.shell(&format!("curl {here}")).await?;
            if said.trim_end().ends_with("\n401") {
                Err(said)
            } else {
                Ok(said)
            }
        })
        .await;
        let (body, code) = answer.trim_end().rsplit_once('\n').unwrap();
        assert!(["404", "409"].contains(&code), "never a 200: {answer}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(body["error"].is_string(), "{body}");
        println!("{answer}");
        let timed = here.replace("%{http_code}", "%{time_total}");
        let answer = space.shell(&format!("curl {timed}")).await.unwrap();
        let (_, seconds) = answer.trim_end().rsplit_once('\n').unwrap();
        println!("answered in {seconds} s, with a new TLS connection");

        let delete = ["delete", "namespace", "argo-rollouts", "--wait=false"];
        space.kubectl(&delete, None).await.expect_ok();
    })
    .await;
}
