//! What is told of pods rather than of requests.

use serde_json::json;

use super::passing::rejected;
use crate::support::objects::{image, with};
use crate::support::space::played;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_crashes_again_and_again_is_aborted_although_no_more_requests_fail() {
    played("crash-loop", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        let metrics = json!([
            {"name": "gateway-errors", "ratio": {"preset": "gateway-errors"}},
            {"name": "restarts", "count": {"preset": "restarts"}},
        ]);
        let counting = json!({"spec": {"analysis": {"metrics": metrics}}});
        space.adopted(&with(space.gate(), &counting)).await;
        space.world().canary_crashes(0.5);

        space.push("v2").await;
        let status = rejected(space).await;

        assert_eq!(status["attempt"]["why"], "Harm", "{status}");
        let last = space.last_decision(&status).await;
        let rule = last["rule"].as_str().unwrap();
        println!("{rule}");
        assert!(
            rule.starts_with("restarts: ") && rule.contains(" on canary, 0 in "),
            "{rule}"
        );
        assert!(!space.weights().await.contains(&Some(5)), "at the first step");
        assert_eq!(space.asked_for().await, [image("v1")], "it never rolled out");
    })
    .await;
}
