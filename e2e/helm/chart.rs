//! What the chart renders.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::{HOME, documents, helm, ours};

/// Rendered with these arguments, by kind and name.
async fn rendered(arguments: &[&str]) -> BTreeMap<String, Value> {
    let chart = ours();
    let all = [&["template", "tollgate", chart.to_str().unwrap()], arguments].concat();
    by_name(documents(&helm(&all).await.expect_ok()))
}

/// What is applied without Helm.
fn plain(directories: &[&str]) -> BTreeMap<String, Value> {
    let mut objects = Vec::new();
    for directory in directories {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        for entry in std::fs::read_dir(directory).unwrap() {
            objects.extend(documents(&std::fs::read_to_string(entry.unwrap().path()).unwrap()));
        }
    }
    let mut objects = by_name(objects);
    objects.remove("Namespace tollgate-system");
    objects
}

fn by_name(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let count = objects.len();
    let name = |object: &Value| {
        let [kind, name] =
            [&object["kind"], &object["metadata"]["name"]].map(|field| field.as_str().unwrap().to_owned());
        format!("{kind} {name}")
    };
    let named: BTreeMap<_, _> = objects.into_iter().map(|object| (name(&object), object)).collect();
    assert_eq!(named.len(), count, "every object once");
    named
}

/// Takes away what only the chart has: the Job before an uninstall with its rights, and the mark on the
/// definitions.
fn without_hooks(mut objects: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let before = objects.len();
    objects.retain(|_, object| object["metadata"]["annotations"]["helm.sh/hook"] != "pre-delete");
    assert_eq!(before - objects.len(), 4, "Job, account, role, binding");
    for (name, object) in &mut objects {
        if name.starts_with("CustomResourceDefinition ") {
            let kept = object["metadata"]["annotations"].as_object_mut().unwrap();
            assert_eq!(kept.remove("helm.sh/resource-policy"), Some(json!("keep")), "{name}");
            if kept.is_empty() {
                object["metadata"].as_object_mut().unwrap().remove("annotations");
            }
        }
    }
    objects
}

fn same(found: &BTreeMap<String, Value>, expected: &BTreeMap<String, Value>) {
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "the same objects"
    );
    for (name, object) in found {
        assert_eq!(object, &expected[name], "{name}");
    }
}

#[tokio::test]
async fn without_values_it_is_what_is_applied_without_helm() {
    let found = without_hooks(rendered(&[]).await);
    same(&found, &plain(&["crds", "config/install"]));
}

#[tokio::test]
async fn on_an_older_cluster_the_hold_is_the_webhook() {
    let mut expected = plain(&["crds", "config/install"]);
    expected.retain(|name, _| !name.contains("AdmissionPolicy"));
    expected.extend(plain(&["config/before-1.36"]));
    let mut found = without_hooks(rendered(&["--kube-version", "1.35.0"]).await);
    let deployment = found.get_mut("Deployment tollgate").unwrap();
    let env = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        .as_array_mut()
        .unwrap();
    let last = env.pop();
    assert_eq!(
        last,
        Some(json!({"name": "TOLLGATE_HOLD", "value": "webhook"})),
        "so that a change restarts it"
    );
    same(&found, &expected);

    let named = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy";
    let known = rendered(&["--kube-version", "1.35.0", "--api-versions", named]).await;
    assert!(
        known.contains_key("MutatingAdmissionPolicy hold.tollgate.dev"),
        "where the API server has it"
    );
}

#[tokio::test]
async fn where_nothing_may_be_installed_deployments_are_paused_at_rest() {
    let found = rendered(&["--set", "hold=paused"]).await;
    assert!(
        found
            .keys()
            .all(|name| !name.contains("Admission") && !name.contains("Webhook")),
        "{:?}",
        found.keys()
    );
    let env = &found["Deployment tollgate"]["spec"]["template"]["spec"]["containers"][0]["env"];
    assert!(
        env.as_array()
            .unwrap()
            .contains(&json!({"name": "TOLLGATE_HOLD", "value": "paused"})),
        "{env}"
    );
}

#[tokio::test]
async fn every_value_reaches_the_objects() {
    let values = [
        "image.repository=registry.test/tollgate,image.tag=v7,image.pullPolicy=Always,replicas=3",
        "resources.limits.memory=1Gi,watchNamespace=shop,github.secret=github,github.url=https://github.test/api",
        "env[0].name=HTTPS_PROXY,env[0].value=http://proxy:3128,pod.nodeSelector.disk=fast,pod.priorityClassName=high",
        "pod.imagePullSecrets[0].name=pull,pod.tolerations[0].operator=Exists",
        "pod.affinity.nodeAffinity.x=y,networkPolicy.egress[0].ports[0].port=9090",
        "monitoring.serviceMonitor=true,monitoring.rules=true,monitoring.dashboard=true,monitoring.labels.release=prometheus",
        "uninstall.timeoutSeconds=77",
    ];
    let arguments: Vec<&str> = values.iter().flat_map(|value| ["--set", value]).collect();
    let found = rendered(&arguments).await;
    let deployment = &found["Deployment tollgate"]["spec"];
    let pod = &deployment["template"]["spec"];
    let container = &pod["containers"][0];
    let env = |name: &str| {
        let all = container["env"].as_array().unwrap().iter();
        all.clone()
            .find(|one| one["name"] == name)
            .map(|one| one["value"].clone())
    };
    let job = &found["Job tollgate-uninstall"]["spec"];
    let policy = &found["NetworkPolicy tollgate"]["spec"];
    for (found, expected) in [
        (&deployment["replicas"], json!(3)),
        (&container["image"], json!("registry.test/tollgate:v7")),
        (&container["imagePullPolicy"], json!("Always")),
        (&container["resources"]["limits"]["memory"], json!("1Gi")),
        (&pod["nodeSelector"], json!({"disk": "fast"})),
        (&pod["priorityClassName"], json!("high")),
        (&pod["imagePullSecrets"], json!([{"name": "pull"}])),
        (&pod["tolerations"], json!([{"operator": "Exists"}])),
        (&pod["affinity"], json!({"nodeAffinity": {"x": "y"}})),
        (&policy["policyTypes"], json!(["Ingress", "Egress"])),
        (&policy["egress"][2], json!({"ports": [{"port": 9090}]})),
        (&job["activeDeadlineSeconds"], json!(107)),
        (
            &job["template"]["spec"]["containers"][0]["image"],
            json!("registry.test/tollgate:v7"),
        ),
        (
            &job["template"]["spec"]["containers"][0]["args"],
            json!(["uninstall", "--yes", "--timeout", "77s", "--namespace", "shop"]),
        ),
        (&json!(env("TOLLGATE_WATCH_NAMESPACE")), json!("shop")),
        (&json!(env("TOLLGATE_GITHUB_SECRET")), json!("github")),
        (&json!(env("TOLLGATE_GITHUB_URL")), json!("https://github.test/api")),
        (&json!(env("HTTPS_PROXY")), json!("http://proxy:3128")),
    ] {
        assert_eq!(found, &expected);
    }
    let mut monitoring = plain(&["config/monitoring"]);
    for (name, expected) in &mut monitoring {
        if name.starts_with("ServiceMonitor") || name.starts_with("PrometheusRule") {
            expected["metadata"]["labels"] = json!({"release": "prometheus"});
        }
        assert_eq!(&found[name], expected, "{name}");
    }
    assert_eq!(monitoring.len(), 4);
}

#[tokio::test]
async fn what_is_not_wanted_is_left_out() {
    let off = "networkPolicy.enabled=false,uninstall.removeGates=false";
    let found = rendered(&["--set", off]).await;
    assert!(
        found
            .keys()
            .all(|name| !name.starts_with("NetworkPolicy") && !name.starts_with("Job")),
        "{:?}",
        found.keys()
    );
    let elsewhere = rendered(&["--namespace", "elsewhere"]).await;
    for (name, object) in &elsewhere {
        assert!(
            !object.to_string().contains(HOME),
            "{name} names a namespace that is not the release's"
        );
    }
}

#[tokio::test]
async fn values_that_nothing_reads_are_refused_by_name() {
    let chart = ours();
    let chart = chart.to_str().unwrap();
    for (value, named) in [
        ("replica=3", "replica"),
        ("image.tga=1", "tga"),
        ("replicas=0", "replicas"),
        ("hold=never", "hold"),
        ("watchNamespace=Shop", "watchNamespace"),
        ("uninstall.timeoutSeconds=soon", "timeoutSeconds"),
    ] {
        let said = helm(&["template", "tollgate", chart, "--set", value]).await;
        assert!(!said.ok && said.err.contains(named), "{value}: {}", said.err);
    }
    helm(&["lint", "--strict", chart]).await.expect_ok();
}
