//! Keeps stable from shrinking while a release is in flight, so that an abort always finds room.

use kube::api::{ApiResource, GroupVersionKind};
use serde_json::Value;

use super::capacity;
use super::context::{Context, Error};
use super::crash::Write;
use super::drift;
use super::gather::{Subject, list};
use super::workload;

/// Keeps every autoscaler of the workload from scaling down.
///
/// # Errors
/// When the API server does not answer or refuses.
pub async fn guard(context: &Context, subject: &Subject<'_>) -> Result<(), Error> {
    each(context, subject, capacity::guard).await
}

/// Lets them scale down again as their owners wanted.
///
/// # Errors
/// When the API server does not answer or refuses.
pub async fn lift(context: &Context, subject: &Subject<'_>) -> Result<(), Error> {
    each(context, subject, capacity::unguard).await
}

async fn each(
    context: &Context,
    subject: &Subject<'_>,
    change: fn(&Value) -> Option<drift::Write>,
) -> Result<(), Error> {
    for resource in &context.autoscalers {
        for scaler in list(context, &subject.key.namespace, resource).await? {
            if !capacity::scales(&scaler, subject.workload()) {
                continue;
            }
            if let Some(write) = change(&scaler) {
                let name = scaler["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let api = workload::api(context, &subject.key.namespace, resource);
                workload::send(context, &api, (Write::GuardStable, &name), write).await?;
            }
        }
    }
    Ok(())
}

/// Kinds that scale Deployments: always the HorizontalPodAutoscaler, KEDA's where it is installed.
pub async fn kinds(client: &kube::Client) -> Vec<ApiResource> {
    let autoscaler = ApiResource::erase::<k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler>(&());
    let keda = GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject");
    let keda = kube::discovery::pinned_kind(client, &keda)
        .await
        .ok()
        .map(|(resource, _)| resource);
    std::iter::once(autoscaler).chain(keda).collect()
}
