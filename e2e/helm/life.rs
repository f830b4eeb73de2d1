//! Installed, upgraded in mid-release, uninstalled in mid-release, installed again: users notice nothing.

use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use serde_json::{Value, json};

use super::watched::by_prometheus;
use super::{HOME, helm, ours, until_led};
use crate::core::at_weight;
use crate::core::endings::left_paused_behind;
use crate::core::passing::{nothing_is_left, promoted};
use crate::support::objects::{image, with};
use crate::support::page::blocks;
use crate::support::setting;
use crate::support::space::{Space, real};

/// What Helm may take, all in all.
const LIMIT: &str = "180s";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releases_live_through_an_upgrade_and_services_through_an_uninstall() {
    real("helm", async |space| {
        restricted_home(space).await;
        let old = older(&space.logs);
        install(&old).await;
        until_led(space, 2).await;
        by_prometheus().await;

        space.team(2).await;
        let route = space.the("HTTPRoute", "checkout").await;
        space.adopted(&patient(space, "45s")).await;
        let load = space.load(200).await;

        upgraded_in_mid_release(space).await;
        uninstalled_in_mid_release(space, &route).await;
        installed_again(space).await;
        taken_away_and_cleared_by_hand(space, &route).await;

        let seen = load.stop().await;
        assert_eq!((&seen["errors"], &seen["lost"]), (&json!(0), &json!(0)), "{seen}");
        println!("{} requests, none failed, none lost", seen["answered"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_api_server_cannot_hold_the_chart_installs_a_webhook_that_does() {
    real("helm-webhook", async |space| {
        restricted_home(space).await;
        let chart = ours();
        let arguments = ["install", "tollgate", chart.to_str().unwrap(), "--set", "hold=webhook"];
        helm(&[&arguments[..], &["--wait", "--timeout", LIMIT]].concat())
            .await
            .expect_ok();
        until_led(space, 2).await;
        let trusted = |hook: &Value| hook["webhooks"][0]["clientConfig"]["caBundle"].is_string();
        space
            .until(
                "the webhook is trusted",
                "MutatingWebhookConfiguration",
                "hold.tollgate.dev",
                trusted,
            )
            .await;
        let policies = [
            "get",
            "mutatingadmissionpolicies,validatingadmissionpolicies",
            "-o",
            "name",
        ];
        let policies = space.kubectl(&policies, None).await.expect_ok();
        assert!(
            !policies.contains("hold.tollgate.dev"),
            "the webhook alone holds: {policies}"
        );

        space.team(2).await;
        space.adopted(&patient(space, "4s")).await;
        let load = space.load(200).await;
        let pushed = space.push("v2").await;
        assert_eq!(pushed["spec"]["paused"], true, "held in the very write");
        promoted(space, "v2").await;
        helm(&["uninstall", "tollgate", "--wait", "--timeout", LIMIT])
            .await
            .expect_ok();
        nothing_of_it(space).await;
        let free = space.push("v3").await;
        assert_eq!(free["spec"]["paused"], Value::Null, "nobody holds any more");
        space.until_rolled_out("v3").await;
        let seen = load.stop().await;
        assert_eq!((&seen["errors"], &seen["lost"]), (&json!(0), &json!(0)), "{seen}");
    })
    .await;
}

/// A gate whose release stays at 25 % for so long.
fn patient(space: &Space, stay: &str) -> Value {
    let steps = json!([{"weight": 5}, {"weight": 25, "minWindow": stay, "maxWindow": "20m"}, {"weight": 100}]);
    let analysis = json!({"minSample": 30, "minWindow": "4s", "maxWindow": "90s"});
    with(space.gate(), &json!({"spec": {"steps": steps, "analysis": analysis}}))
}

/// The namespace as an administrator makes it who is strict.
async fn restricted_home(space: &Space) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": HOME, "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
    }});
    space.kubectl(&["apply", "-f", "-"], Some(&namespace)).await.expect_ok();
}

/// The chart of the commit before, with one definition that differs for sure.
fn older(logs: &Path) -> PathBuf {
    let old = logs.join("older-chart");
    let copied = std::process::Command::new("cp")
        .args(["-r", &setting("TOLLGATE_E2E_OLDER_CHART")])
        .arg(&old)
        .status()
        .unwrap();
    assert!(copied.success());
    let path = old.join("templates/crds.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let differs = text.replace("- rg\n", "- oldrg\n");
    assert_ne!(text, differs, "the short name of gates was found");
    std::fs::write(path, differs).unwrap();
    old
}

async fn install(chart: &Path) {
    let chart = chart.to_str().unwrap();
    let said = helm(&["install", "tollgate", chart, "--wait", "--timeout", LIMIT]).await;
    let notes = said.expect_ok();
    assert!(
        notes.contains("kind: EvidenceSource") && notes.contains("kind: ReleaseGate"),
        "what to do next: {notes}"
    );
}

async fn definition(space: &Space) -> CustomResourceDefinition {
    let api: Api<CustomResourceDefinition> = Api::all(space.client.clone());
    api.get("releasegates.tollgate.dev")
        .await
        .expect("the definition of gates")
}

/// The other image comes while the canary has 25 %; the same attempt goes on and completes.
async fn upgraded_in_mid_release(space: &Space) {
    let before = definition(space).await;
    assert_eq!(before.spec.names.short_names, Some(vec!["oldrg".to_owned()]));
    space.push("v2").await;
    at_weight(space, 25).await;
    let attempt = space.the("ReleaseGate", "checkout").await["status"]["epoch"].clone();

    let chart = ours();
    let arguments = [
        "upgrade",
        "tollgate",
        chart.to_str().unwrap(),
        "--set",
        "image.tag=next",
    ];
    helm(&[&arguments[..], &["--wait", "--timeout", LIMIT]].concat())
        .await
        .expect_ok();

    let status = space.the("ReleaseGate", "checkout").await["status"].clone();
    assert_eq!(
        (&status["weight"], &status["epoch"]),
        (&json!(25), &attempt),
        "still on its way: {status}"
    );
    let after = definition(space).await;
    assert_eq!(after.metadata.uid, before.metadata.uid, "in place");
    assert_eq!(after.spec.names.short_names, Some(vec!["rg".to_owned()]));
    until_led(space, 2).await;
    for pod in super::pods(space).await {
        let image = pod.spec.unwrap().containers.remove(0).image;
        assert_eq!(image.as_deref(), Some("tollgate:next"));
    }
    let status = promoted(space, "v2").await;
    assert_eq!(status["epoch"], attempt, "one attempt: {status}");
}

/// The canary has 25 % of the traffic when the operator is taken away.
async fn uninstalled_in_mid_release(space: &Space, route: &Value) {
    space.apply(&patient(space, "10m")).await;
    space.push("v3").await;
    at_weight(space, 25).await;

    helm(&["uninstall", "tollgate", "--wait", "--timeout", LIMIT])
        .await
        .expect_ok();

    let after = space.the("HTTPRoute", "checkout").await;
    assert_eq!(after["spec"], route["spec"], "the route is the team's");
    for field in ["labels", "annotations"] {
        assert_eq!(after["metadata"][field], route["metadata"][field], "no mark is left");
    }
    left_paused_behind(space, "v2").await;
    assert!(
        space.list("ReleaseGate").await.is_empty(),
        "gates are gone, their definition is not"
    );
    definition(space).await;
    nothing_of_it(space).await;
}

/// Nothing that the chart made is there but the definitions.
async fn nothing_of_it(space: &Space) {
    let kinds = "deployment,job,serviceaccount,role,rolebinding,poddisruptionbudget,networkpolicy,service,secret";
    let wide = "clusterrole,clusterrolebinding,mutatingadmissionpolicy,mutatingadmissionpolicybinding,\
                validatingadmissionpolicy,validatingadmissionpolicybinding,mutatingwebhookconfiguration";
    for (kinds, place) in [(kinds, &["--namespace", HOME][..]), (wide, &[])] {
        let list = [&["get", kinds, "-o", "name"], place].concat();
        let text = space.kubectl(&list, None).await.expect_ok();
        let left: Vec<_> = text.lines().filter(|line| line.contains("tollgate")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// The team decides what becomes of the template that waits, and the gate comes back from git.
async fn installed_again(space: &Space) {
    install(&ours()).await;
    until_led(space, 2).await;
    space.push("v2").await;
    space
        .kubectl(&["rollout", "resume", "deployment/checkout"], None)
        .await
        .expect_ok();
    space.until_rolled_out("v2").await;
    let status = space.adopted(&patient(space, "4s")).await;
    assert_eq!(status["weight"], 0, "{status}");
    space.push("v3").await;
    promoted(space, "v3").await;
}

/// Without its hooks an uninstall leaves everything as it is; `docs/install.md` says what to type then.
async fn taken_away_and_cleared_by_hand(space: &Space, route: &Value) {
    space.apply(&patient(space, "10m")).await;
    space.push("v2").await;
    at_weight(space, 25).await;
    helm(&["uninstall", "tollgate", "--no-hooks", "--wait", "--timeout", LIMIT])
        .await
        .expect_ok();
    at_weight(space, 25).await;
    space.the("ReleaseGate", "checkout").await;

    std::fs::write(space.desk().join("route.yaml"), space.route().to_string()).unwrap();
    let by_hand = blocks(super::PAGE, "sh").pop().unwrap();
    assert!(by_hand.contains("finalizers"), "{by_hand}");
    space.shell(by_hand).await.unwrap();
    let after = space.the("HTTPRoute", "checkout").await;
    assert_eq!(after["spec"], route["spec"], "the route is the team's");
    nothing_is_left(space).await;
    let live = space.the("Deployment", "checkout").await;
    assert_eq!(
        (&live["metadata"]["labels"], &live["spec"]["paused"]),
        (&Value::Null, &json!(true))
    );
    assert_eq!(space.asked_for().await, [image("v3")], "not rolled out");
}
