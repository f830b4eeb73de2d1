//! Keeps stable from shrinking while a release is in flight, so that an abort always finds room.

use kube::ResourceExt;
use kube::api::{ApiResource, GroupVersionKind};
use serde_json::Value;

use crate::decision::Attempt;

use super::capacity;
use super::context::{Context, Error};
use super::crash::Write;
use super::drift;
use super::gather::Subject;
use super::workload;

/// Looks whether anything scales the workload, together with the rest of pre-flight, and remembers
/// it for the attempt.
///
/// # Errors
/// When the API server does not answer.
pub async fn look(context: &Context, subject: &Subject<'_>, attempt: &Attempt) -> Result<(), Error> {
    let mut found = false;
    for resource in &context.autoscalers {
        let namespace = &subject.key.namespace;
        let all = context.lists.get(&context.client, namespace, resource).await?;
        found |= all.iter().any(|scaler| capacity::scales(scaler, subject.workload()));
    }
    let uid = subject.gate.uid().unwrap_or_default();
    context.memory.update(&subject.key, &uid, |known| {
        known.unscaled = (!found).then_some(attempt.epoch)
    });
    Ok(())
}

/// Keeps every autoscaler of the workload from scaling down. Asks nobody when [`look`] found none.
///
/// # Errors
/// When the API server does not answer or refuses.
pub async fn guard(context: &Context, subject: &Subject<'_>, attempt: &Attempt) -> Result<(), Error> {
    if unscaled(context, subject) == Some(attempt.epoch) {
        return Ok(());
    }
    let found = each(context, subject, capacity::guard).await?;
    let uid = subject.gate.uid().unwrap_or_default();
    context.memory.update(&subject.key, &uid, |known| {
        known.unscaled = (found == 0).then_some(attempt.epoch)
    });
    Ok(())
}

/// The attempt for which no autoscaler was found, as far as is remembered.
fn unscaled(context: &Context, subject: &Subject<'_>) -> Option<i64> {
    let uid = subject.gate.uid().unwrap_or_default();
    context.memory.read(&subject.key, &uid, |known| known.unscaled)
}

/// Lets them scale down again as their owners wanted. Asks nobody when [`look`] found none.
///
/// # Errors
/// When the API server does not answer or refuses.
pub async fn lift(context: &Context, subject: &Subject<'_>) -> Result<(), Error> {
    let unscaled = unscaled(context, subject);
    let epoch = subject.state.attempt.as_ref().map(|attempt| attempt.epoch);
    if unscaled.is_some() && unscaled == epoch {
        return Ok(());
    }
    each(context, subject, capacity::unguard).await.map(drop)
}

/// Changes every autoscaler of the workload, and says how many there are.
async fn each(
    context: &Context,
    subject: &Subject<'_>,
    change: fn(&Value) -> Option<drift::Write>,
) -> Result<usize, Error> {
    let mut found = 0;
    for resource in &context.autoscalers {
        let namespace = &subject.key.namespace;
        for scaler in context.lists.get(&context.client, namespace, resource).await? {
            if !capacity::scales(&scaler, subject.workload()) {
                continue;
            }
            found += 1;
            if let Some(write) = change(&scaler) {
                let name = scaler["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let api = workload::api(context, &subject.key.namespace, resource);
                workload::send(context, &api, (Write::GuardStable, &name), write).await?;
            }
        }
    }
    Ok(found)
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
