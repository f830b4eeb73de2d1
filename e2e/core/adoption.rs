//! What happens when a Deployment gets a gate, and what holds it from then on.

use serde_json::{Value, json};

use crate::support::objects::{deployment, image};
use crate::support::space::played;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_revision_is_adopted_without_judgement_and_nothing_else_changes() {
    played("adopt", async |space| {
        space.team(2).await;
        let before = space.the("Deployment", "checkout").await;
        let route = space.the("HTTPRoute", "checkout").await;
        let _operator = space.operator().await;
        let status = space.adopted(&space.gate()).await;
        assert_eq!(
            (&status["weight"], &status["attempt"]),
            (&json!(0), &Value::Null),
            "{status}"
        );
        let after = space.the("Deployment", "checkout").await;
        assert_eq!(after["metadata"]["labels"], json!({"tollgate.dev/gate": "checkout"}));
        assert_eq!(after["spec"], before["spec"], "the spec is the team's");
        assert_eq!(
            space.the("HTTPRoute", "checkout").await["metadata"]["resourceVersion"],
            route["metadata"]["resourceVersion"]
        );
        let status = space
            .until_gate("the gate is ready", |status| ready(status) == "True")
            .await;
        assert!(
            status["conditions"]
                .as_array()
                .unwrap()
                .iter()
                .all(|one| one["type"] != "Stalled"),
            "{status}"
        );
        assert_eq!(space.asked_for().await, [image("v1")]);
    })
    .await;
}

fn ready(status: &Value) -> &str {
    let conditions = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    ready.and_then(|ready| ready["status"].as_str()).unwrap_or_default()
}

/// One way to get around the hold.
struct Attempt {
    how: &'static str,
    image: &'static str,
    held: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_around_the_hold_even_while_the_operator_is_down() {
    played("hold", async |space| {
        space.team(2).await;
        let operator = space.operator().await;
        space.adopted(&space.gate()).await;
        operator.stop().await;

        let seen = async |attempt: Attempt| {
            let live = space.the("Deployment", "checkout").await;
            let labels = &live["metadata"]["labels"];
            let how = attempt.how;
            assert_eq!(
                live["spec"]["template"]["spec"]["containers"][0]["image"],
                image(attempt.image).as_str(),
                "{how}"
            );
            assert_eq!(live["spec"]["paused"] == true, attempt.held, "{how}: paused");
            assert_eq!(labels["tollgate.dev/held"] == "checkout", attempt.held, "{how}: held");
            assert_eq!(labels["tollgate.dev/gate"], "checkout", "{how}");
            assert_eq!(space.asked_for().await, [image("v1")], "{how}: no new ReplicaSet");
        };
        let at_rest = |how| Attempt {
            how,
            image: "v1",
            held: false,
        };
        let held = |how, image| Attempt { how, image, held: true };
        let labels = |labels: Value| json!({"metadata": {"labels": labels}});
        let paused = |tag: &str| {
            let mut object = deployment(tag, 2);
            object["spec"]["paused"] = json!(false);
            object
        };

        space.apply(&deployment("v1", 2)).await;
        seen(at_rest("apply of the same manifest")).await;
        space
            .kubectl(&["scale", "deployment/checkout", "--replicas=3"], None)
            .await
            .expect_ok();
        seen(at_rest("scale at rest")).await;
        for how in ["client-side apply of a new image", "the same once more"] {
            space.kubectl_apply(&deployment("v2", 2)).await.expect_ok();
            seen(held(how, "v2")).await;
        }
        space
            .kubectl(&["rollout", "resume", "deployment/checkout"], None)
            .await
            .expect_ok();
        seen(held("kubectl rollout resume", "v2")).await;
        for label in ["tollgate.dev/held", "tollgate.dev/gate"] {
            space
                .patch("Deployment", "checkout", labels(json!({label: null})))
                .await
                .unwrap();
            seen(held("a label taken off", "v2")).await;
        }
        let everything = labels(json!({"tollgate.dev/held": null, "tollgate.dev/gate": null}));
        for subresource in ["status", "scale"] {
            let patch = everything.to_string();
            let arguments = [
                "patch",
                "deployment/checkout",
                "--subresource",
                subresource,
                "--type=merge",
                "-p",
                &patch,
            ];
            // Whether it is refused or accepted without effect is the API server's business.
            space.kubectl(&arguments, None).await;
            seen(held("a label taken off through a subresource", "v2")).await;
        }
        space.kubectl_replace(&deployment("v2", 2)).await.expect_ok();
        seen(held("replace with the bare manifest", "v2")).await;
        for how in [
            "forced apply of a new image that says paused: false",
            "the same once more",
        ] {
            space.try_apply(&paused("v3"), "argocd", true).await.unwrap();
            seen(held(how, "v3")).await;
        }
        space
            .kubectl(&["scale", "deployment/checkout", "--replicas=4"], None)
            .await
            .expect_ok();
        seen(held("scale while held", "v3")).await;
        space
            .until("stable scales while held", "Deployment", "checkout", |live| {
                live["status"]["availableReplicas"] == 4
            })
            .await;
        space.push("v1").await;
        seen(held("the old image again, nobody there to release it", "v1")).await;

        let _operator = space.operator().await;
        space.until_rolled_out("v1").await;
        seen(at_rest("released by the operator, because it is the proven template")).await;
    })
    .await;
}
