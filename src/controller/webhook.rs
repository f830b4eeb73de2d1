//! The hold on API servers without MutatingAdmissionPolicy: whether it is needed, and how the
//! webhook stays reachable and trusted. Every replica serves it, whoever leads.
//!
//! Nothing here is a step of a release: each write brings one of two objects, both by name, to
//! what it has to be, by compare-and-swap, and doing it twice does nothing.

use std::time::SystemTime;

use axum_server::tls_rustls::RustlsConfig;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, WebhookClientConfig};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api::labels;
use crate::routers;
use crate::serve::{self, Health, Part, ServeError, Server, hold};

use super::certificate::Certificate;
use super::context::{Error, bounded};
use super::shown::{self, Trouble};

/// What brings the webhook's objects.
const FILE: &str = "config/before-1.36/2-admission.yaml";

/// What holds a changed template until it is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HoldBy {
    /// What fits the cluster: the policy where the API server has them, else the webhook.
    #[default]
    Auto,
    /// The policy inside the API server.
    Policy,
    /// The webhook of this process.
    Webhook,
    /// A pause at rest, without any admission.
    Pause,
    /// Something that is not ours to look after.
    Nothing,
}

impl HoldBy {
    /// Whether this process has to serve the webhook.
    ///
    /// A configuration of the webhook that is still there after the API server has learnt policies
    /// is served on: without an answer it would refuse every change.
    ///
    /// # Errors
    /// When the API server does not say what it serves.
    pub async fn serves(self, client: &Client) -> Result<bool, kube::Error> {
        match self {
            Self::Webhook => return Ok(true),
            Self::Policy | Self::Pause | Self::Nothing => return Ok(false),
            Self::Auto => {}
        }
        if !policies(client).await? {
            return Ok(true);
        }
        let left = match configurations(client).get_opt(labels::HOLD).await {
            Ok(found) => found.is_some(),
            // the right to look comes with the webhook's own file
            Err(kube::Error::Api(status)) if status.code == 403 => false,
            Err(error) => return Err(error),
        };
        if left {
            tracing::warn!(
                "the webhook {0} is still configured, so it is served; this API server can hold by policy: \
                 apply it, then `kubectl delete mutatingwebhookconfiguration {0}`",
                labels::HOLD
            );
        }
        Ok(left)
    }
}

/// Whether the API server has MutatingAdmissionPolicy in its stable version.
async fn policies(client: &Client) -> Result<bool, kube::Error> {
    let kinds = client
        .list_api_group_resources("admissionregistration.k8s.io/v1")
        .await?;
    Ok(kinds
        .resources
        .iter()
        .any(|kind| kind.name == "mutatingadmissionpolicies"))
}

fn configurations(client: &Client) -> Api<MutatingWebhookConfiguration> {
    Api::all(client.clone())
}

/// What keeps the webhook going.
pub struct Webhook {
    /// For the two objects.
    pub client: Client,
    /// Where the Secret is.
    pub namespace: String,
}

impl Webhook {
    /// Serves the webhook until `stop`, with a certificate that the API server trusts.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run(self, server: Server, health: Health, stop: CancellationToken) -> Result<(), ServeError> {
        let look = || Box::pin(self.pass(SystemTime::now()));
        let begun = || health.set(Part::Hold, true);
        shown::serve("the hold's webhook", (server, hold::router()), (look, begun), stop).await
    }

    /// Makes a certificate when it is due, and has the API server trust it before it is shown.
    ///
    /// The configuration is read before the Secret: whoever has read an old Secret then cannot
    /// write over the trust in a newer one.
    async fn pass(&self, now: SystemTime) -> Result<(RustlsConfig, Certificate), Trouble> {
        let api = configurations(&self.client);
        let read = bounded("read webhook configuration", api.get_opt(labels::HOLD)).await;
        let missing = Trouble::Missing("MutatingWebhookConfiguration hold.tollgate.dev", FILE);
        let configuration = match read {
            Ok(found) => found.ok_or(missing)?,
            Err(Error::Kube(kube::Error::Api(status))) if status.code == 403 => return Err(missing),
            Err(error) => return Err(error.into()),
        };
        let (at, client) = ours(&configuration).ok_or(Trouble::Nowhere)?;
        let host = host(client).ok_or(Trouble::Nowhere)?;
        let place = (self.namespace.as_str(), labels::WEBHOOK, FILE);
        let (tls, certificate) = shown::certificate(&self.client, place, &host, now).await?;
        let bundle = ByteString(certificate.trusted.clone().into_bytes());
        if client.ca_bundle.as_ref() != Some(&bundle) {
            let patch = json!([
                {"op": "test", "path": "/metadata/resourceVersion", "value": configuration.resource_version()},
                {"op": "add", "path": format!("/webhooks/{at}/clientConfig/caBundle"), "value": bundle},
            ]);
            let patch = serde_json::from_value(patch).map_err(|error| Error::Refused(error.to_string()))?;
            let params = PatchParams {
                field_manager: Some(routers::FIELD_MANAGER.into()),
                ..PatchParams::default()
            };
            let patch = Patch::Json::<()>(patch);
            bounded("trust webhook", api.patch(labels::HOLD, &params, &patch)).await?;
        }
        Ok((tls, certificate))
    }
}

/// Our webhook in the configuration: its place, and where the API server asks.
fn ours(configuration: &MutatingWebhookConfiguration) -> Option<(usize, &WebhookClientConfig)> {
    let webhooks = configuration.webhooks.iter().flatten().enumerate();
    webhooks
        .filter(|(_, webhook)| webhook.name == labels::HOLD)
        .map(|(at, webhook)| (at, &webhook.client_config))
        .next()
}

/// The name that the API server expects in the certificate.
fn host(client: &WebhookClientConfig) -> Option<String> {
    if let Some(service) = &client.service {
        return Some(format!("{}.{}.svc", service.name, service.namespace));
    }
    let url: http::Uri = client.url.as_ref()?.parse().ok()?;
    url.host().map(|host| host.trim_matches(['[', ']']).to_owned())
}

/// Binds the webhook's port when this process has to serve it; says so in `health` when not.
///
/// # Errors
/// When the port cannot be bound.
pub fn bind(serves: bool, listen: std::net::SocketAddr, health: &Health) -> Result<Option<Server>, serve::ServeError> {
    if serves {
        return Server::bind(listen).map(Some);
    }
    health.set(Part::Hold, true);
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_for_the_host_that_the_configuration_names() {
        for (client, expected) in [
            (
                json!({"service": {"name": "tollgate-webhook", "namespace": "tollgate-system", "path": hold::PATH}}),
                Some("tollgate-webhook.tollgate-system.svc"),
            ),
            (
                json!({"url": "https://198.18.0.1:8443/admission/hold"}),
                Some("198.18.0.1"),
            ),
            (json!({"url": "https://[fd00::1]:8443/admission/hold"}), Some("fd00::1")),
            (
                json!({"url": "https://operator.example/admission/hold"}),
                Some("operator.example"),
            ),
            (json!({"url": "/admission/hold"}), None),
            (json!({}), None),
        ] {
            let parsed: WebhookClientConfig = serde_json::from_value(client.clone()).expect("a client");
            assert_eq!(host(&parsed).as_deref(), expected, "{client}");
        }
    }

    #[test]
    fn our_webhook_is_found_by_its_name_whatever_stands_around_it() {
        let webhook = |name: &str| {
            json!({"name": name, "clientConfig": {"url": format!("https://{name}/")},
                "admissionReviewVersions": ["v1"], "sideEffects": "None"})
        };
        let configuration = |names: &[&str]| {
            let webhooks: Vec<_> = names.iter().map(|name| webhook(name)).collect();
            serde_json::from_value::<MutatingWebhookConfiguration>(json!({"metadata": {}, "webhooks": webhooks}))
                .expect("a configuration")
        };
        let both = configuration(&["other.example", labels::HOLD]);
        let (at, client) = ours(&both).expect("found");
        assert_eq!((at, client.url.as_deref()), (1, Some("https://hold.tollgate.dev/")));
        assert!(ours(&configuration(&["other.example"])).is_none());
        assert!(ours(&configuration(&[])).is_none());
    }
}
