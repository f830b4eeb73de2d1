//! Policies attached to the team's Service.

use serde_json::json;

use super::passing::rejected;
use super::{at_weight, lingering};
use crate::support::objects::resource_version;
use crate::support::space::played;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_pods_are_spoken_to_is_copied_before_the_canary_gets_traffic_and_goes_with_it() {
    played("attached", async |space| {
        space.team(2).await;
        let target = |service: &str| json!([{"group": "", "kind": "Service", "name": service}]);
        let validation = json!({"hostname": "checkout.test", "wellKnownCACertificates": "System"});
        let theirs = space
            .apply(&json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy",
                "metadata": {"name": "tls"},
                "spec": {"targetRefs": target("checkout"), "validation": validation},
            }))
            .await;
        let _operator = space.operator().await;
        space.adopted(&lingering(space)).await;
        assert!(space.get("BackendTLSPolicy", "tls-canary").await.is_none());
        space.push("v2").await;
        at_weight(space, 25).await;
        let copy = space.the("BackendTLSPolicy", "tls-canary").await;
        assert_eq!(copy["spec"]["targetRefs"], target("checkout-canary"));
        assert_eq!(copy["spec"]["validation"], theirs["spec"]["validation"]);
        let service = space.the("Service", "checkout-canary").await;
        assert!(
            resource_version(&copy) < resource_version(&service),
            "there before the Service that it is for"
        );

        assert_eq!(space.ask("Abort").await["status"]["answer"], "Granted");
        rejected(space).await;
        assert!(space.get("BackendTLSPolicy", "tls-canary").await.is_none());
        assert_eq!(space.the("BackendTLSPolicy", "tls").await["spec"], theirs["spec"]);
    })
    .await;
}
