//! Rules of a team's own: one that aborts by name, and one that cannot be understood.

use serde_json::{Value, json};

use super::passing::rejected;
use crate::support::objects::with;
use crate::support::space::{Space, TEAM, played};

/// The gate with a margin so wide that the judge itself is content, and with these rules.
fn ruled(space: &Space, rules: &Value) -> Value {
    let metric = json!({
        "name": "errors", "ratio": {"preset": "gateway-errors"},
        "margin": {"abort": "9900%", "promote": "9900%"},
    });
    let spec = json!({"analysis": {"metrics": [metric]}, "policy": {"rules": rules}});
    with(space.gate(), &json!({"spec": spec}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_of_the_team_aborts_by_its_name_and_numbers() {
    played("ruled", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        let text = "metrics[\"errors\"].lower > 1.5";
        let rules = json!([
            {"name": "enough-seen", "holdWhen": "release.evidence != \"complete\""},
            {"name": "surely-worse", "abortWhen": text},
        ]);
        space.adopted(&ruled(space, &rules)).await;
        space.world().canary_fails(0.1);

        space.push("v2").await;
        let status = rejected(space).await;

        assert_eq!(status["attempt"]["why"], "RuleAborts", "{status}");
        let last = space.last_decision(&status).await;
        assert_eq!((&last["outcome"], &last["to"]), (&json!("Abort"), &json!(0)), "{last}");
        let says = format!("rule surely-worse says abort: {text}, as errors: lower ");
        let rule = last["rule"].as_str().unwrap();
        assert!(rule.starts_with(&says) && rule.ends_with(" on stable)"), "{rule}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_cannot_be_understood_is_refused_with_what_would_be_accepted() {
    played("unruly", async |space| {
        space.team(2).await;
        let _operator = space.operator().await;
        for (rule, refusal) in [
            (
                json!({"name": "long", "abortWhen": "1 > 2 || ".repeat(60) + "true"}),
                "Too long",
            ),
            (
                json!({"name": "idle"}),
                "exactly one of promoteWhen, holdWhen and abortWhen",
            ),
            (
                json!({"name": "both", "abortWhen": "true", "holdWhen": "true"}),
                "exactly one of promoteWhen, holdWhen and abortWhen",
            ),
        ] {
            let refused = space.try_apply(&ruled(space, &json!([rule])), TEAM, false).await;
            let message = refused.expect_err("the API server refuses it").to_string();
            assert!(message.contains(refusal), "{rule}: {message}");
        }

        let misspelt = json!([{"name": "mine", "abortWhen": "metrics.erors.delta > 0.5"}]);
        space.apply(&ruled(space, &misspelt)).await;
        let status = space
            .until_gate("the gate is stalled", |status| status["reason"] == "Invalid")
            .await;
        let message = status["message"].as_str().unwrap();
        for part in [
            "spec.policy.rules[mine].abortWhen",
            "metrics.erors.delta > 0.5",
            "it must be an expression over metrics[\"",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }

        let right = json!([{"name": "mine", "holdWhen": "release.evidence != \"complete\""}]);
        space.adopted(&ruled(space, &right)).await;
    })
    .await;
}
