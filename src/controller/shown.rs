//! The certificate that a listener shows: where it comes from, and how a newer one takes its place
//! without a connection being lost.

use std::time::{Duration, SystemTime};

use axum::Router;
use axum_server::tls_rustls::RustlsConfig;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::routers;
use crate::serve::{ServeError, Server};

use super::certificate::Certificate;
use super::context::{Error, bounded};

/// How often it is looked at again: someone may have replaced it.
const AGAIN: Duration = Duration::from_secs(30);

/// The same until there is one.
const SOON: Duration = Duration::from_secs(2);

/// Why there is no certificate to show yet, or no newer one.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Part of the installation is missing.
    #[error("{0} is missing, or we may not read it; apply {1}")]
    Missing(&'static str, &'static str),
    /// The configuration does not say where the webhook is.
    #[error("MutatingWebhookConfiguration hold.tollgate.dev: clientConfig must name a service, or a url with a host")]
    Nowhere,
    /// The API server.
    #[error("{0}")]
    Kube(#[from] Error),
    /// None can be made for the host.
    #[error("a certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// It cannot be served.
    #[error("the new certificate cannot be served: {0}")]
    Tls(std::io::Error),
}

/// A certificate as the listener takes it, and as it is compared.
pub type Ready = (RustlsConfig, Certificate);

/// Serves a router until `stop`. `look` brings the certificate: it is asked until there is one, and
/// from then on again and again. `begun` is called once the first is there.
///
/// # Errors
/// When the listener fails.
pub async fn serve<Look, Looked>(
    what: &'static str,
    (server, router): (Server, Router),
    (look, begun): (Look, impl FnOnce()),
    stop: CancellationToken,
) -> Result<(), ServeError>
where
    Look: Fn() -> Looked,
    Looked: Future<Output = Result<Ready, Trouble>>,
{
    let Some((tls, certificate)) = stop.run_until_cancelled(first(what, &look)).await else {
        return Ok(());
    };
    tracing::info!(address = %server.address(), host = certificate.host, "{what} is served");
    begun();
    let renewed = renew(what, &look, (tls.clone(), certificate));
    let kept = stop.clone().run_until_cancelled_owned(renewed);
    let (served, _) = tokio::join!(server.run_tls(tls, router, stop), kept);
    served
}

/// The first certificate; tried until there is one.
async fn first<Looked>(what: &str, look: &impl Fn() -> Looked) -> Ready
where
    Looked: Future<Output = Result<Ready, Trouble>>,
{
    loop {
        match look().await {
            Ok(ready) => return ready,
            Err(trouble) => tracing::warn!(%trouble, "{what} is not served yet"),
        }
        tokio::time::sleep(SOON).await;
    }
}

/// Looks again and again, and shows a new certificate when there is one.
async fn renew<Looked>(what: &str, look: &impl Fn() -> Looked, (shown, mut certificate): Ready)
where
    Looked: Future<Output = Result<Ready, Trouble>>,
{
    loop {
        tokio::time::sleep(AGAIN).await;
        match look().await {
            Ok((tls, new)) if new != certificate => {
                shown.reload_from_config(tls.get_inner());
                certificate = new;
                tracing::info!("{what} has a new certificate");
            }
            Ok(_) => {}
            Err(trouble) => tracing::warn!(%trouble, "{what} is served as before"),
        }
    }
}

/// The certificate in a Secret of ours, or a new one when that is due or cannot be served. The
/// Secret comes from a file that people apply: we may not make one.
///
/// # Errors
/// When there is no Secret, or the API server refuses.
pub async fn certificate(
    client: &Client,
    (namespace, name, file): (&str, &'static str, &'static str),
    host: &str,
    now: SystemTime,
) -> Result<Ready, Trouble> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let read = bounded("read certificate", api.get_opt(name)).await?;
    let mut secret = read.ok_or(Trouble::Missing(name, file))?;
    let before = Certificate::read(&secret);
    if let Some(good) = before.clone().filter(|known| known.serves(host, now))
        && let Ok(tls) = tls(&good).await
    {
        return Ok((tls, good));
    }
    let new = Certificate::make(host, now, before.as_ref())?;
    let tls = tls(&new).await.map_err(Trouble::Tls)?;
    secret.data = Some(new.data());
    let params = PostParams {
        field_manager: Some(routers::FIELD_MANAGER.into()),
        ..PostParams::default()
    };
    bounded("write certificate", api.replace(name, &params, &secret)).await?;
    Ok((tls, new))
}

async fn tls(certificate: &Certificate) -> std::io::Result<RustlsConfig> {
    RustlsConfig::from_pem(certificate.chain.clone().into(), certificate.key.clone().into()).await
}
