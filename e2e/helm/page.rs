//! The shell blocks of the page about installing, run as they are written, in the namespace `shop` of its
//! sample. The suite has made the image and loaded it into the node under the name that the page gives it.

use serde_json::{Value, json};

use super::{HOME, PAGE, pods, until_led};
use crate::core::endings::left_paused_behind;
use crate::support::eventually;
use crate::support::objects::image;
use crate::support::page::blocks;
use crate::support::space::{Space, real_in};

/// The image that the page installs.
const IMAGE: &str = "registry.example.com/tollgate:0.1.0";
/// Longer than anything on the page takes.
const LIMIT: std::time::Duration = std::time::Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_works_as_it_is_written() {
    real_in("shop", async |space| {
        let [
            make,
            copy,
            helm,
            sample,
            plain,
            upgrade,
            leave,
            left,
            leave_plain,
            _by_hand,
        ] = blocks(PAGE, "sh").try_into().expect("the page has ten blocks");
        assert!(make.starts_with("make image") && copy.starts_with("skopeo copy") && copy.contains(IMAGE));
        nothing_yet(space).await;
        space.serving(2).await;

        run(space, helm).await;
        installed(space).await;
        let namespace = space.the("Namespace", HOME).await;
        let level = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
        assert_eq!(level, "restricted");
        run(space, sample).await;
        held(space).await;
        run(space, upgrade).await;
        installed(space).await;
        run(space, leave).await;
        named_as_left_paused(space, left).await;
        taken_back(space).await;

        nothing_yet(space).await;
        run(space, plain).await;
        installed(space).await;
        run(space, sample).await;
        held(space).await;
        run(space, plain).await; // which is the upgrade, too
        installed(space).await;
        let said = run(space, leave_plain).await;
        assert!(said.contains("shop/checkout") && said.contains("left paused"), "{said}");
        left_paused_behind(space, "v1").await;
        let kinds =
            "kubectl get crds,clusterroles,mutatingadmissionpolicies,validatingadmissionpolicies,namespaces -o name";
        let kinds = run(space, kinds).await;
        assert!(!kinds.contains("tollgate"), "{kinds}");
        taken_back(space).await;
    })
    .await;
}

/// Runs a block, which may take its time but not for ever.
async fn run(space: &Space, block: &str) -> String {
    let began = std::time::Instant::now();
    let said = tokio::time::timeout(LIMIT, space.shell(block)).await;
    let said = said.unwrap_or_else(|_| panic!("not within {LIMIT:?}: {block}"));
    println!("{}\n{:.1} s\n", block.trim_end(), began.elapsed().as_secs_f64());
    said.unwrap_or_else(|error| panic!("{block}\n{error}"))
}

/// As on a cluster that has never had it. The page says that definitions go by `kubectl delete -f crds`.
async fn nothing_yet(space: &Space) {
    let definitions = "kubectl delete -f crds";
    assert!(PAGE.contains(definitions));
    run(space, &format!("{definitions} --ignore-not-found")).await;
    run(space, &format!("kubectl delete namespace {HOME} --ignore-not-found")).await;
}

/// Two replicas of the image that the page names, one of which leads.
async fn installed(space: &Space) {
    until_led(space, 2).await;
    for pod in pods(space).await {
        let image = pod.spec.unwrap().containers.remove(0).image;
        assert_eq!(image.as_deref(), Some(IMAGE));
    }
}

/// A pushed template waits.
async fn held(space: &Space) {
    let pushed = space.push("v2").await;
    assert_eq!(pushed["spec"]["paused"], true, "held in the very write");
    space
        .until_gate("a release is in flight", |status| status["attempt"].is_object())
        .await;
    assert_eq!(space.asked_for().await, [image("v1")], "not rolled out");
}

/// The page's command finds the Deployment and says its note.
async fn named_as_left_paused(space: &Space, command: &str) {
    left_paused_behind(space, "v1").await;
    let live = space.the("Deployment", "checkout").await;
    let note = live["metadata"]["annotations"]["tollgate.dev/left-paused"]
        .as_str()
        .unwrap();
    assert_eq!(run(space, command).await, format!("shop/checkout: {note}\n"));
}

/// The old template first, then resumed: nothing changes, and nothing is listed any more.
async fn taken_back(space: &Space) {
    space.push("v1").await;
    run(space, "kubectl -n shop rollout resume deployment/checkout").await;
    space.until_rolled_out("v1").await;
    eventually("only the old pods", crate::support::PATIENCE, async || {
        let asked = space.asked_for().await;
        if asked == [image("v1")] {
            Ok(())
        } else {
            Err(format!("{asked:?}"))
        }
    })
    .await;
    let live = space.the("Deployment", "checkout").await;
    assert_eq!(live["spec"]["paused"], Value::Null);
    assert_eq!(live["metadata"]["labels"], json!(null));
}
