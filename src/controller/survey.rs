//! Looks for what would make a trial prove nothing, before the first weight is written.

use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ApiResource;
use kube::{Api, Client, Resource};
use serde_json::Value;

use crate::decision::{Attempt, Reason};

use super::attached::attached;
use super::context::{Context, Error, bounded};
use super::gather::Subject;
use super::guard;
use super::labels;
use super::memory::Preflight;
use super::preflight::{self, Around, Pair, Severity};
use super::workload;

/// Kinds that only some clusters have.
#[derive(Debug, Clone, Default)]
pub struct Optional {
    /// Prometheus Operator's PodMonitor.
    pub pod_monitor: Option<ApiResource>,
    /// Prometheus Operator's ServiceMonitor.
    pub service_monitor: Option<ApiResource>,
    /// The Gateway API's BackendTLSPolicy, which is attached to Services.
    pub backend_tls: Option<ApiResource>,
}

impl Optional {
    /// What this cluster serves.
    pub async fn discover(client: &Client) -> Self {
        let served = async |group: &str, kind: &str| {
            let gvk = kube::api::GroupVersionKind::gvk(group, "v1", kind);
            kube::discovery::pinned_kind(client, &gvk)
                .await
                .ok()
                .map(|(resource, _)| resource)
        };
        Self {
            pod_monitor: served("monitoring.coreos.com", "PodMonitor").await,
            service_monitor: served("monitoring.coreos.com", "ServiceMonitor").await,
            backend_tls: served("gateway.networking.k8s.io", "BackendTLSPolicy").await,
        }
    }
}

/// Reads what selects pods in the namespace, and compares what it says about stable and canary.
///
/// # Errors
/// When the API server does not answer.
pub async fn look(context: &Context, subject: &Subject<'_>, attempt: &Attempt) -> Result<Preflight, Error> {
    let at = context.now();
    let found = |blocks, findings, copies| Preflight {
        epoch: attempt.epoch,
        at,
        blocks,
        findings,
        copies,
    };
    let kinds = &context.optional;
    let (built, policies, budgets, pod_monitors, service_monitors, attachable, ()) = tokio::try_join!(
        async {
            match workload::built(context, subject, attempt).await {
                Ok(built) => Ok(Ok(built)),
                Err(Error::Refused(why)) => Ok(Err(why)),
                Err(error) => Err(error),
            }
        },
        listed::<NetworkPolicy>(context, subject),
        listed::<PodDisruptionBudget>(context, subject),
        optional(context, subject, kinds.pod_monitor.as_ref()),
        optional(context, subject, kinds.service_monitor.as_ref()),
        optional(context, subject, kinds.backend_tls.as_ref()),
        guard::look(context, subject, attempt),
    )?;
    let built = match built {
        Ok(built) => built,
        Err(why) => return Ok(found(Some(Reason::Preflight), vec![why], vec![])),
    };
    let template = &built.deployment["spec"]["template"];
    let claims = template["spec"]["volumes"]
        .to_string()
        .contains("persistentVolumeClaim");
    let volume_claims = if claims {
        listed::<PersistentVolumeClaim>(context, subject).await?
    } else {
        vec![]
    };
    let namespaces: Api<Namespace> = Api::all(context.client.clone());
    let namespace_labels = if policies.is_empty() {
        None
    } else {
        bounded("read Namespace", namespaces.get(&subject.key.namespace))
            .await?
            .metadata
            .labels
    };
    let pair = Pair {
        namespace: &subject.key.namespace,
        namespace_labels: &namespace_labels.unwrap_or_default(),
        stable: &labels::at(template, "/metadata/labels"),
        canary: built.canary.pod_labels(),
        service: &built.service,
        canary_service: built.canary.service(),
        pod_spec: &template["spec"],
    };
    let around = Around {
        network_policies: &policies,
        disruption_budgets: &budgets,
        pod_monitors: &pod_monitors,
        service_monitors: &service_monitors,
        services: std::slice::from_ref(&built.service),
        volume_claims: &volume_claims,
    };
    let uid = subject.gate.metadata.uid.as_deref().unwrap_or_default();
    let attached = attached(&attachable, &subject.gate.spec.target.service, &subject.key.name, uid);
    let mut findings = preflight::findings(&pair, &around);
    findings.extend(attached.findings);
    findings.sort_by_key(|finding| finding.severity == Severity::Names);
    let blocks = findings
        .iter()
        .any(|finding| finding.severity != Severity::Names)
        .then_some(Reason::Preflight);
    Ok(found(
        blocks,
        findings.into_iter().map(|finding| finding.sentence).collect(),
        attached.copies,
    ))
}

async fn listed<K: Resource<DynamicType = ()>>(context: &Context, subject: &Subject<'_>) -> Result<Vec<Value>, Error> {
    let kind = ApiResource::erase::<K>(&());
    context.lists.get(&context.client, &subject.key.namespace, &kind).await
}

async fn optional(context: &Context, subject: &Subject<'_>, kind: Option<&ApiResource>) -> Result<Vec<Value>, Error> {
    match kind {
        Some(kind) => context.lists.get(&context.client, &subject.key.namespace, kind).await,
        None => Ok(vec![]),
    }
}
