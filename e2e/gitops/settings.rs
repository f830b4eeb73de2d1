//! What the page has people set in Argo CD, by its commands as they are written: merged into what is set
//! already, and found where Argo CD 3 looks for it.

use std::path::Path;

use serde_json::{Value, json};

use super::PAGE;
use crate::support::page::blocks;
use crate::support::space::{Space, real_in};

/// Argo CD as it is installed, as far as the page changes it: its two ConfigMaps, with a setting each of
/// somebody's own, and the controller that takes the limit of a sync from the second.
async fn argo_cd(space: &Space) {
    let part = json!({"app.kubernetes.io/part-of": "argocd"});
    let controller = json!({"app.kubernetes.io/name": "argocd-application-controller"});
    let limit = json!({
        "name": "ARGOCD_APPLICATION_CONTROLLER_SYNC_TIMEOUT",
        "valueFrom": {"configMapKeyRef": {
            "name": "argocd-cmd-params-cm", "key": "controller.sync.timeout.seconds", "optional": true,
        }},
    });
    for object in [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "labels": part},
            "data": {"url": "https://argocd.test", "resource.customizations.health.cert-manager.io_Certificate": "return {}"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cmd-params-cm", "labels": part},
            "data": {"server.insecure": "true"}}),
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "argocd-application-controller"},
        "spec": {"replicas": 0, "serviceName": "argocd", "selector": {"matchLabels": controller}, "template": {
            "metadata": {"labels": controller},
            "spec": {"containers": [{"name": "controller", "image": "quay.io/argoproj/argocd:v3", "env": [limit]}]},
        }}}),
    ] {
        space.kubectl_apply(&object).await.expect_ok();
    }
}

/// What is set of a kind's, taken apart as Argo CD does: type of customization, group and kind.
fn customization(key: &str) -> Option<(&str, &str, &str)> {
    let (what, of) = key.strip_prefix("resource.customizations.")?.split_once('.')?;
    let (group, kind) = of.split_once('_')?;
    Some((what, group, kind))
}

fn script(group: &str, kind: &str, file: &str) -> Value {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/argo-cd");
    let path = config.join(group).join(kind).join(file);
    json!(std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// The customizations are those of `config/argo-cd`, each under the key of its kind.
fn has_our_customizations(data: &Value) {
    let mut seen = vec![];
    for (key, value) in data.as_object().unwrap() {
        let Some((what, group, kind)) = customization(key).filter(|(_, group, _)| *group != "cert-manager.io") else {
            continue;
        };
        seen.push(format!("{what} {group}/{kind}"));
        let inner = || serde_saphyr::from_str::<Value>(value.as_str().unwrap()).unwrap();
        match what {
            "health" => assert_eq!(*value, script(group, kind, "health.lua"), "{key}"),
            "actions" => {
                assert_eq!(inner()["discovery.lua"], script(group, kind, "actions/discovery.lua"));
                for action in inner()["definitions"].as_array().unwrap() {
                    let file = format!("actions/{}/action.lua", action["name"].as_str().unwrap());
                    assert_eq!(action["action.lua"], script(group, kind, &file), "{file}");
                }
            }
            "ignoreDifferences" => assert_eq!(inner(), json!({"managedFieldsManagers": ["tollgate"]}), "{key}"),
            other => panic!("Argo CD knows no customization {other}"),
        }
    }
    let expected = [
        "actions tollgate.dev/ReleaseGate",
        "health tollgate.dev/CanaryAnalysis",
        "health tollgate.dev/ReleaseGate",
        "ignoreDifferences gateway.networking.k8s.io/GRPCRoute",
        "ignoreDifferences gateway.networking.k8s.io/HTTPRoute",
    ];
    seen.sort();
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_page_sets_in_argo_cd_is_merged_and_is_where_argo_cd_looks() {
    real_in("argocd", async |space| {
        argo_cd(space).await;
        let before = space.the("ConfigMap", "argocd-cm").await;
        let [merge, limit] = blocks(PAGE, "sh").try_into().expect("two pieces of shell");

        space.shell(merge).await.unwrap();
        let after = space.the("ConfigMap", "argocd-cm").await;
        assert_eq!(after["metadata"]["labels"], before["metadata"]["labels"]);
        for (key, value) in before["data"].as_object().unwrap() {
            assert_eq!(after["data"][key], *value, "{key} is left alone");
        }
        has_our_customizations(&after["data"]);

        space.shell(limit).await.unwrap();
        let read = ["get", "statefulset", "argocd-application-controller", "-o", "json"];
        let live: Value = serde_json::from_str(&space.kubectl(&read, None).await.expect_ok()).unwrap();
        let template = &live["spec"]["template"];
        assert!(template["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"].is_string());
        let from = &template["spec"]["containers"][0]["env"][0]["valueFrom"]["configMapKeyRef"];
        let parameters = space.the("ConfigMap", from["name"].as_str().unwrap()).await["data"].clone();
        let seconds = parameters[from["key"].as_str().unwrap()].as_str().unwrap();
        assert!(seconds.parse::<u32>().unwrap() > 3600, "{seconds}");
        assert_eq!(parameters["server.insecure"], "true", "left alone");
    })
    .await;
}
