//! The canary's objects and the Deployment's handover label, as requests to the API server.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::api::{CanaryLabels, labels};
use crate::decision::{Attempt, Millis};
use crate::routers;

use super::canary::{Canary, Origin};
use super::context::{Context, Error, bounded};
use super::crash::Write;
use super::drift;
use super::gather::Subject;
use super::labels::Keep;
use super::objects;
use super::rest;
use super::watch::{Workload, prune};

/// The watch shows a write of ours within so long, or the write is repeated.
pub const SHOWN: Millis = Millis::from_secs(5);

/// Deployments.
#[must_use]
pub fn deployment() -> ApiResource {
    ApiResource::erase::<Deployment>(&())
}

/// Services.
#[must_use]
pub fn service() -> ApiResource {
    ApiResource::erase::<k8s_openapi::api::core::v1::Service>(&())
}

/// Objects of a kind in a namespace, as they are.
#[must_use]
pub fn api(context: &Context, namespace: &str, resource: &ApiResource) -> Api<DynamicObject> {
    Api::namespaced_with(context.client.clone(), namespace, resource)
}

/// Makes the canary, or gives it more pods. It never shrinks while a release is in flight.
///
/// # Errors
/// When no canary can be made of this workload, or the API server refuses.
pub async fn ensure(context: &Context, subject: &Subject<'_>, attempt: &Attempt, pods: i64) -> Result<(), Error> {
    let (uid, now) = (subject.gate.uid().unwrap_or_default(), context.now());
    let asked = context.memory.read(&subject.key, &uid, |known| known.asked);
    if asked.is_some_and(|(epoch, known, at)| epoch == attempt.epoch && known >= pods && now - at < SHOWN) {
        return Ok(());
    }
    ask(context, subject, attempt, pods).await?;
    context.memory.update(&subject.key, &uid, |known| {
        (known.asked, known.removed) = (Some((attempt.epoch, pods, now)), None);
    });
    Ok(())
}

async fn ask(context: &Context, subject: &Subject<'_>, attempt: &Attempt, pods: i64) -> Result<(), Error> {
    match context.workload(&subject.key.namespace, &subject.canary()) {
        Some(live) if live.metadata.deletion_timestamp.is_some() => Err(Error::Refused(format!(
            "Deployment {} is still being deleted",
            subject.canary()
        ))),
        Some(live) if live.label(labels::REVISION) == Some(attempt.revision.0.as_str()) => {
            grow(context, subject, &live, pods).await
        }
        Some(live) => Err(Error::Refused(format!(
            "Deployment {} exists and is not the canary of revision {}; remove it",
            live.metadata.name.as_deref().unwrap_or_default(),
            attempt.revision
        ))),
        None => make(context, subject, attempt, pods).await,
    }
}

async fn grow(context: &Context, subject: &Subject<'_>, live: &Workload, pods: i64) -> Result<(), Error> {
    if live.desired() >= pods {
        return Ok(());
    }
    let patch = Patch::Merge(json!({"spec": {"replicas": pods}}));
    let api = objects::writes::<Deployment>(&context.client, &subject.key.namespace);
    let (name, params) = (subject.canary(), params());
    context
        .write(Write::ScaleCanary, api.patch(&name, &params, &patch))
        .await
        .map(drop)
}

/// First the Service: where its name is taken there must be no canary, for a ready canary is what
/// opens the way to the first weight.
async fn make(context: &Context, subject: &Subject<'_>, attempt: &Attempt, pods: i64) -> Result<(), Error> {
    let canary = &built(context, subject, attempt).await?.canary;
    if let Some(kind) = &context.optional.backend_tls {
        for copy in copies(context, subject, attempt.epoch).unwrap_or_default() {
            create(context, subject, kind, copy).await?;
        }
    }
    create(context, subject, &service(), canary.service().clone()).await?;
    create(context, subject, &deployment(), canary.deployment(pods)).await
}

/// What was copied for the canary of an attempt; unknown after a restart.
#[must_use]
pub fn copies(context: &Context, subject: &Subject<'_>, epoch: i64) -> Option<Vec<Value>> {
    let uid = subject.gate.uid().unwrap_or_default();
    let known = context
        .memory
        .read(&subject.key, &uid, |known| known.preflight.clone())?;
    (known.epoch == epoch).then_some(known.copies)
}

/// The canary with what it was built from.
#[derive(Debug)]
pub struct Built {
    /// The canary.
    pub canary: Canary,
    /// The user's Deployment as it was read.
    pub deployment: Value,
    /// The user's Service as it was read.
    pub service: Value,
}

/// The canary of the template that is held now; read and built once per attempt.
///
/// # Errors
/// When no canary can be made of this workload, or the API server does not answer.
pub async fn built(context: &Context, subject: &Subject<'_>, attempt: &Attempt) -> Result<Arc<Built>, Error> {
    let uid = subject.gate.uid().unwrap_or_default();
    let known = context.memory.read(&subject.key, &uid, |known| known.built.clone());
    if let Some((_, built)) = known.filter(|(epoch, _)| *epoch == attempt.epoch) {
        return Ok(built);
    }
    let namespace = &subject.key.namespace;
    let target = &subject.gate.spec.target;
    let (deployments, services) = (
        api(context, namespace, &deployment()),
        api(context, namespace, &service()),
    );
    let (mut workload, mut service) = tokio::try_join!(
        bounded("read Deployment", deployments.get(subject.workload())),
        bounded("read Service", services.get(&target.service)),
    )?;
    prune(&mut workload);
    prune(&mut service);
    let built = Arc::new(build(subject, attempt, (json!(workload), json!(service)))?);
    context.memory.update(&subject.key, &uid, |known| {
        known.built = Some((attempt.epoch, Arc::clone(&built)))
    });
    Ok(built)
}

fn build(subject: &Subject<'_>, attempt: &Attempt, (deployment, service): (Value, Value)) -> Result<Built, Error> {
    let template = &deployment["spec"]["template"];
    if super::revision::revision(template) != attempt.revision {
        return Err(Error::Conflict(format!("Deployment {}", subject.workload())));
    }
    let keep = match subject.frozen.spec.canary.labels {
        CanaryLabels::Suffixed => Keep::Unselected,
        CanaryLabels::Shared => Keep::AllButOne,
    };
    let origin = Origin {
        gate: &subject.key.name,
        uid: &subject.gate.uid().unwrap_or_default(),
        deployment: &deployment,
        service: &service,
        template,
        revision: &attempt.revision,
        keep,
    };
    let canary = Canary::new(&origin).map_err(|refusal| Error::Refused(refusal.to_string()))?;
    Ok(Built {
        canary,
        deployment,
        service,
    })
}

/// Creates an object, or brings the one that is there to what is wanted, if it is ours.
async fn create(context: &Context, subject: &Subject<'_>, resource: &ApiResource, wanted: Value) -> Result<(), Error> {
    let api = api(context, &subject.key.namespace, resource);
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let object: DynamicObject =
        serde_json::from_value(wanted.clone()).map_err(|error| Error::Refused(error.to_string()))?;
    let post = PostParams {
        field_manager: Some(routers::FIELD_MANAGER.into()),
        ..PostParams::default()
    };
    match context.write(Write::ScaleCanary, api.create(&post, &object)).await {
        Ok(_) => return Ok(()),
        Err(error) if error.is_conflict() => {}
        Err(error) => return Err(error),
    }
    let live = bounded("read canary", api.get(&name)).await?;
    match drift::write(&wanted, Some(&json!(live))).map_err(|error| Error::Refused(error.to_string()))? {
        Some(write) => send(context, &api, (Write::ScaleCanary, &name), write).await,
        None => Ok(()),
    }
}

/// Sends one prepared request.
///
/// # Errors
/// When the API server refuses.
pub async fn send(
    context: &Context,
    api: &Api<DynamicObject>,
    (write, name): (Write, &str),
    request: drift::Write,
) -> Result<(), Error> {
    let managed = |manager: &str| PatchParams {
        field_manager: Some(manager.to_owned()),
        ..PatchParams::default()
    };
    match request {
        drift::Write::Create(body) => {
            let object = serde_json::from_value(body).map_err(|error| Error::Refused(error.to_string()))?;
            context
                .write(write, api.create(&PostParams::default(), &object))
                .await
                .map(drop)
        }
        drift::Write::Apply { manager, body } => {
            let (params, patch) = (managed(&manager).force(), Patch::Apply(&body));
            context.write(write, api.patch(name, &params, &patch)).await.map(drop)
        }
        drift::Write::Patch { manager, operations } => {
            let patch =
                serde_json::from_value(Value::Array(operations)).map_err(|error| Error::Refused(error.to_string()))?;
            context
                .write(write, api.patch(name, &managed(&manager), &Patch::Json::<()>(patch)))
                .await
                .map(drop)
        }
    }
}

/// Lets the Deployment's template change again after a handover; where a pause at rest is the hold,
/// puts it back in the same write, on the very version that was seen to be rolled out.
///
/// # Errors
/// When the API server refuses.
pub async fn end_handover(context: &Context, subject: &Subject<'_>) -> Result<(), Error> {
    let live = context.workload(&subject.key.namespace, subject.workload());
    let Some(live) = live.filter(|live| live.label(labels::HANDOVER).is_some()) else {
        return Ok(());
    };
    let mut patch = json!({"metadata": {
        "labels": {labels::HANDOVER: null},
    }});
    if context.pauses && rest::pause(&live, None, &mut patch) {
        patch["metadata"]["resourceVersion"] = json!(live.metadata.resource_version);
    }
    let api = objects::writes::<Deployment>(&context.client, &subject.key.namespace);
    context
        .write(
            Write::Release,
            api.patch(subject.workload(), &params(), &Patch::Merge(&patch)),
        )
        .await
        .map(drop)
}

fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(routers::FIELD_MANAGER.into()),
        ..PatchParams::default()
    }
}
