//! What stands in a release's way: unready pods, a gateway that does not follow, autoscalers, gates
//! that make no sense.

use serde_json::{Value, json};

use super::passing::{promoted, rejected};
use super::{at_weight, lingering};
use crate::support::objects::{autoscaler, image, route, service, with};
use crate::support::space::played;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_never_gets_ready_gets_no_traffic_and_is_given_up() {
    played("unready", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        let soon = with(space.gate(), &json!({"spec": {"deadlines": {"ready": "8s"}}}));
        space.adopted(&soon).await;
        space.world().breaks(image("v2-crash"));
        space.push("v2-crash").await;
        let status = rejected(space).await;
        assert_eq!(status["attempt"]["why"], "CanaryDeadline", "{status}");
        let message = status["message"].as_str().unwrap();
        assert!(
            message.contains("pods ready since ") && message.contains("(limit 8s)"),
            "{message}"
        );
        let weights = space.weights().await;
        assert!(weights.iter().all(|weight| weight.unwrap_or(0) == 0), "{weights:?}");
        assert_eq!(space.asked_for().await, [image("v1")]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_loses_its_last_pod_while_it_serves_ends_the_release_without_evidence() {
    played("lost", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        space.adopted(&lingering(space)).await;
        space.push("v2").await;
        at_weight(space, 25).await;
        space.world().rate(0.0);
        space.world().takes_down_the_canary(space).await;
        let status = rejected(space).await;
        assert_eq!(status["attempt"]["why"], "CanaryLost", "{status}");
        assert_eq!(space.asked_for().await, [image("v1")]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_routes_go_together_and_one_that_is_not_programmed_ends_the_release() {
    played("routes", async |space| {
        space.team(2).await;
        space.apply(&route("second", "second.test")).await;
        let routes = json!([{"name": "checkout"}, {"name": "second"}]);
        let _operator = space.operator().await;
        let both = json!({"spec": {"traffic": {"gatewayAPI": {"routes": routes}}}});
        space.adopted(&with(space.gate(), &both)).await;
        let before = space.the("HTTPRoute", "second").await["spec"].clone();
        space.push("v2").await;
        promoted(space, "v2").await;
        assert_eq!(space.the("HTTPRoute", "second").await["spec"], before);

        let soon = with(both, &json!({"spec": {"deadlines": {"route": "8s"}}}));
        space.apply(&with(space.gate(), &soon)).await;
        space.world().programs("second", false);
        space.forget_weights().await;
        space.push("v3").await;
        let status = rejected(space).await;
        assert_eq!(status["attempt"]["why"], "RouteDeadline", "{status}");
        let weights = space.weights().await;
        assert!(
            weights.iter().all(|weight| weight.unwrap_or(0) <= 1),
            "never beyond the first step: {weights:?}"
        );
        for name in ["checkout", "second"] {
            let rules = &space.the("HTTPRoute", name).await["spec"]["rules"];
            assert_eq!(
                rules[0]["backendRefs"].as_array().unwrap().len(),
                1,
                "{name} is back: {rules}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stable_does_not_shrink_in_flight_and_may_again_afterwards() {
    played("hpa", async |space| {
        space.team(3).await;
        let hpa = autoscaler(1);
        let before = space.apply(&hpa).await["spec"].clone();
        let _operator = space.operator().await;
        space.adopted(&lingering(space)).await;
        space.push("v2").await;
        at_weight(space, 25).await;
        let live = space.the("HorizontalPodAutoscaler", "checkout").await;
        assert_eq!(
            live["spec"]["behavior"]["scaleDown"]["selectPolicy"], "Disabled",
            "{}",
            live["spec"]
        );
        space.ask("Abort").await;
        rejected(space).await;
        let after = space.the("HorizontalPodAutoscaler", "checkout").await;
        assert_ne!(
            after["spec"]["behavior"]["scaleDown"]["selectPolicy"], "Disabled",
            "{}",
            after["spec"]
        );
        assert_eq!(after["spec"]["minReplicas"], before["minReplicas"]);
        space.apply(&hpa).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_cannot_be_kept_is_refused_when_it_is_written() {
    played("refused", async |space| {
        let cases = [
            (
                json!({"steps": [{"weight": 50}, {"weight": 5}, {"weight": 100}]}),
                "the weights of the steps must rise",
            ),
            (json!({"steps": [{"weight": 5}]}), "the last step's weight must be 100"),
            (
                json!({"steps": [{"weight": 0}, {"weight": 100}]}),
                "greater than or equal to 1",
            ),
            (json!({"analysis": {"metrics": []}}), "at least 1"),
            (
                json!({"analysis": {"minWindow": "5m", "maxWindow": "1m"}}),
                "minWindow must not be longer",
            ),
            (
                json!({"steps": [{"weight": 5, "minWindow": "10m"}, {"weight": 100}]}),
                "a step's minWindow must not be longer",
            ),
            (
                json!({"analysis": {"metrics": [{"name": "a"}]}}),
                "exactly one of ratio, histogram, count and gauge",
            ),
            (
                json!({"analysis": {"metrics": [{"name": "a", "ratio": {"preset": "nginx"}}]}}),
                "gateway-errors",
            ),
            (
                json!({"target": {"workload": {"name": "checkout", "kind": "StatefulSet"}}}),
                "apps/v1 Deployment",
            ),
        ];
        for (difference, accepted) in cases {
            let gate = with(space.gate(), &json!({"spec": difference}));
            let error = space.create(&gate).await.expect_err("a refusal").to_string();
            assert!(error.contains(accepted), "{difference}: {error}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_malformed_gates_say_what_is_wrong_and_a_healthy_one_beside_them_passes() {
    played("malformed", async |space| {
        space.team(2).await;
        let named = |name: &str, spec: Value| with(space.gate(), &json!({"metadata": {"name": name}, "spec": spec}));
        let ratio = |bad: &str| json!({"analysis": {"metrics": [{"name": "a", "ratio": {"bad": bad, "total": "orders_total"}}]}});
        let malformed = [
            ("no-promql", ratio("orders{"), "Stalled", "ratio.bad"),
            ("no-counter", ratio("rate(orders_failed_total[5m])"), "Stalled", "ratio.bad"),
            ("no-share", json!({"analysis": {"slo": "100%"}}), "Stalled", "slo"),
            ("no-workload", json!({"target": {"workload": {"name": "nobody"}}}), "WorkloadMissing", ""),
            (
                "no-limit",
                json!({"analysis": {"metrics": [{"name": "a", "ratio": {"preset": "http-errors"}, "limit": "100%"}]}}),
                "Stalled",
                "limit",
            ),
        ];
        let _operator = space.operator().await;
        for (name, spec, _, _) in &malformed {
            space.create(&named(name, spec.clone())).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        space.adopted(&space.gate()).await;
        space.push("v2").await;
        promoted(space, "v2").await;
        for (name, _, condition, text) in &malformed {
            let says = |gate: &Value| {
                let status = &gate["status"];
                let stalled = status["conditions"].as_array().is_some_and(|all| {
                    all.iter().any(|one| one["type"] == "Stalled" && one["status"] == "True")
                });
                let message = status["message"].as_str().unwrap_or_default();
                (status["reason"] == *condition || *condition == "Stalled" && stalled) && message.contains(text)
            };
            space.until(&format!("{name} says what is wrong"), "ReleaseGate", name, says).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_taken_stops_the_release_before_any_traffic() {
    played("occupied", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        space
            .adopted(&with(space.gate(), &json!({"spec": {"deadlines": {"ready": "8s"}}})))
            .await;
        let theirs = with(service(), &json!({"metadata": {"name": "checkout-canary"}}));
        let theirs = space.apply(&theirs).await;
        space.push("v2").await;
        space
            .until_gate("the release begins", |status| status["attempt"]["stage"].is_string())
            .await;
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        let weights = space.weights().await;
        assert!(weights.iter().all(|weight| weight.unwrap_or(0) == 0), "{weights:?}");
        assert_eq!(
            space.the("Service", "checkout-canary").await["spec"],
            theirs["spec"],
            "theirs is left alone"
        );
    })
    .await;
}
