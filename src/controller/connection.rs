//! The way to the API server: one connection over HTTP/2 that watches, reads and writes share.
//!
//! The client that comes with `kube` speaks HTTP/1.1 and so opens a connection, with a handshake
//! and buffers of its own, for every request that is under way at the same time.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Builder, Client as Http};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

use super::crash;

/// How long the API server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// A connection on which nothing was heard for so long is asked for a sign of life, and closed
/// after the same time without one. Everything that waits for it then goes on over a new one.
const ALIVE: Duration = Duration::from_secs(5);

/// A client that never repeats a request by itself.
///
/// Speaks HTTP/2 where the API server or what stands before it can, else HTTP/1.1.
///
/// # Errors
/// When the configuration names files that cannot be read, or credentials that cannot be used.
pub fn client(config: Config) -> Result<Client, kube::Error> {
    let detour = config.proxy_url.is_some() || config.tls_server_name.is_some();
    if detour {
        return plain(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    let tls = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_or_http();
    let http: Http<_, Body> = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(ALIVE)
        .http2_keep_alive_timeout(ALIVE)
        .build(tls.enable_http1().enable_http2().wrap_connector(tcp));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    let client = ClientBuilder::new(service, config.default_namespace);
    Ok(client.with_layer(&crash::Layer).build())
}

/// The same as it comes with `kube`, over HTTP/1.1 with the timeouts of the configuration.
///
/// # Errors
/// As [`client`].
pub fn plain(mut config: Config) -> Result<Client, kube::Error> {
    config.default_retry = false;
    Ok(ClientBuilder::try_from(config)?.with_layer(&crash::Layer).build())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::extract::Request;
    use axum::routing::get;
    use axum::{Json, Router};
    use axum_server::tls_rustls::RustlsConfig;
    use serde_json::json;
    use tokio::io::copy_bidirectional;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::watch;

    use super::*;

    /// A network between us and a server: counts connections, and loses everything on the first one
    /// once it is told to.
    struct Network {
        at: SocketAddr,
        connections: Arc<AtomicUsize>,
        lose: watch::Sender<bool>,
    }

    impl Network {
        async fn before(server: SocketAddr) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            let connections = Arc::new(AtomicUsize::new(0));
            let (lose, lost) = watch::channel(false);
            let counted = Arc::clone(&connections);
            tokio::spawn(async move {
                loop {
                    let (mut near, _) = listener.accept().await.unwrap();
                    let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
                    let mut lost = lost.clone();
                    tokio::spawn(async move {
                        let mut far = TcpStream::connect(server).await.unwrap();
                        let is_lost = async { lost.wait_for(|lost| *lost && is_first).await.map(drop) };
                        let copied = tokio::select! {
                            copied = copy_bidirectional(&mut near, &mut far) => copied.is_ok(),
                            _ = is_lost => false,
                        };
                        if !copied {
                            // Nobody is told: both ends stay open.
                            std::future::pending::<()>().await;
                        }
                    });
                }
            });
            Self { at, connections, lose }
        }
    }

    /// A server with a certificate for 127.0.0.1 that says which HTTP it was spoken to in.
    async fn server() -> (SocketAddr, Vec<u8>) {
        let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let (certificate, key) = (certified.cert.der().to_vec(), certified.signing_key.serialize_der());
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let tls = RustlsConfig::from_der(vec![certificate.clone()], key).await.unwrap();
        let spoken = async |request: Request| Json(json!({"http": format!("{:?}", request.version())}));
        let router = Router::new().route("/spoken", get(spoken));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let at = listener.local_addr().unwrap();
        let serving = axum_server::from_tcp_rustls(listener, tls).unwrap();
        tokio::spawn(serving.serve(router.into_make_service()));
        (at, certificate)
    }

    async fn ask(client: &Client) -> Result<String, String> {
        let request = Request::get("/spoken").body(Vec::new()).unwrap();
        let asked = tokio::time::timeout(Duration::from_secs(2), client.request::<serde_json::Value>(request));
        let answer = asked
            .await
            .map_err(|_| "no answer")?
            .map_err(|error| error.to_string())?;
        Ok(answer["http"].as_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn all_requests_share_one_connection_and_one_that_falls_silent_is_replaced() {
        let (server, certificate) = server().await;
        let network = Network::before(server).await;
        let mut config = Config::new(format!("https://{}", network.at).parse().unwrap());
        config.root_cert = Some(vec![certificate]);
        let client = client(config).unwrap();
        let connections = || network.connections.load(Ordering::SeqCst);

        assert_eq!(ask(&client).await.unwrap(), "HTTP/2.0");
        let answers = futures::future::join_all((0..50).map(|_| ask(&client))).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(connections(), 1);

        network.lose.send(true).unwrap();
        assert!(ask(&client).await.is_err(), "nothing is heard");
        let again = async { while ask(&client).await.is_err() {} };
        tokio::time::timeout(3 * ALIVE, again)
            .await
            .expect("an answer over a new connection");
        assert_eq!(connections(), 2);
    }
}
