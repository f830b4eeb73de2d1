//! Somebody else edits the route while a release is in flight.

use serde_json::{Value, json};

use super::passing::rejected;
use super::{at_weight, lingering};
use crate::support::space::{Space, played};
use crate::support::world::canary_weight;

/// The pair in its only rule, written by hand.
fn rules(stable: i64, canary: i64) -> Value {
    json!([{"backendRefs": [
        {"name": "checkout", "port": 80, "weight": stable},
        {"name": "checkout-canary", "port": 80, "weight": canary},
    ]}])
}

fn reordered() -> Value {
    let mut rules = rules(75, 25);
    rules[0]["backendRefs"].as_array_mut().unwrap().reverse();
    rules
}

fn removed() -> Value {
    json!([{"backendRefs": [{"name": "checkout", "port": 80}]}])
}

async fn replace(space: &Space, rules: Value, who: &[&str]) {
    let patch = json!([{"op": "replace", "path": "/spec/rules", "value": rules}]).to_string();
    let mut arguments = vec!["patch", "httproute/checkout", "--type=json", "-p", &patch];
    arguments.extend_from_slice(who);
    space.kubectl(&arguments, None).await.expect_ok();
}

/// The one user whom the policies let through: a write as this user is what a write by anybody
/// would be without the policies.
const UNCHECKED: [&str; 2] = ["--as", "system:serviceaccount:tollgate-system:tollgate"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_split_stays_whatever_others_write_except_for_weight_zero() {
    played("split", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        space.adopted(&lingering(space)).await;
        space.push("v2").await;
        at_weight(space, 25).await;
        let before = space.the("HTTPRoute", "checkout").await;
        for (how, rules) in [
            ("up", rules(10, 90)),
            ("removed", removed()),
            ("reordered", reordered()),
            ("down, not to 0", rules(99, 1)),
        ] {
            replace(space, rules, &[]).await;
            let after = space.the("HTTPRoute", "checkout").await;
            for field in ["spec", "metadata"] {
                let field = if field == "spec" {
                    "/spec"
                } else {
                    "/metadata/generation"
                };
                assert_eq!(after.pointer(field), before.pointer(field), "{how}: {field}");
            }
        }
        let host = json!({"spec": {"hostnames": ["other.test"]}});
        let after = space.patch("HTTPRoute", "checkout", host).await.unwrap();
        assert_eq!(
            (&after["spec"]["hostnames"], canary_weight(&after)),
            (&json!(["other.test"]), Some(25))
        );

        replace(space, rules(100, 0), &[]).await;
        let status = space
            .until_gate("weight 0 is taken and held", |status| status["weight"] == 0)
            .await;
        assert_eq!(status["attempt"]["hold"], "ForeignEdit", "{status}");
        space.ask("Abort").await;
        rejected(space).await;
        let route = space.the("HTTPRoute", "checkout").await;
        assert_eq!(
            route["spec"]["hostnames"],
            json!(["other.test"]),
            "what others changed beside the split stays"
        );
    })
    .await;
}

/// An edit that the split policy does not stop, and what becomes of the weight.
struct Edit {
    how: &'static str,
    rules: Value,
    then: Option<i64>,
    held: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_policy_down_is_accepted_up_is_zeroed_and_both_are_held() {
    let edits = [
        Edit {
            how: "down",
            rules: rules(90, 10),
            then: Some(10),
            held: true,
        },
        Edit {
            how: "to zero",
            rules: rules(100, 0),
            then: Some(0),
            held: true,
        },
        Edit {
            how: "up",
            rules: rules(10, 90),
            then: Some(0),
            held: true,
        },
        Edit {
            how: "removed",
            rules: removed(),
            then: None,
            held: true,
        },
        Edit {
            how: "reordered",
            rules: reordered(),
            then: Some(25),
            held: false,
        },
    ];
    played("edits", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        space.adopted(&lingering(space)).await;
        space.push("v2").await;
        for Edit { how, rules, then, held } in edits {
            at_weight(space, 25).await;
            space
                .until_gate("the window opens", |status| status["attempt"]["window"].is_string())
                .await;
            replace(space, rules, &UNCHECKED).await;
            if held {
                let what = format!("{how}: held");
                space
                    .until_gate(&what, |status| status["attempt"]["hold"] == "ForeignEdit")
                    .await;
            }
            let what = format!("{how}: the weight is {then:?}");
            space
                .until(&what, "HTTPRoute", "checkout", |route| canary_weight(route) == then)
                .await;
            if held {
                space.forget_weights().await;
                assert_eq!(space.ask("Resume").await["status"]["answer"], "Granted", "{how}");
                at_weight(space, 25).await;
                assert_eq!(
                    space.weights().await,
                    [then, Some(5), Some(25)],
                    "{how}: the ladder begins at its first step"
                );
            } else {
                let status = space.the("ReleaseGate", "checkout").await["status"].clone();
                assert!(status["attempt"]["hold"].is_null(), "{how}: {status}");
            }
        }
        space.ask("Promote").await;
        super::passing::promoted(space, "v2").await;
    })
    .await;
}
