//! Answers HTTP: health, readiness and metrics; with TLS, the hold where the API server asks, and
//! decisions for other tools.
//!
//! Every path answers, and what is not a metric is JSON: an unknown path is a JSON 404, and no
//! success is ever empty or of another kind, because some tools take any such 2xx for consent. This
//! is not left to the handlers: an answer of another kind never leaves the process.

mod callers;
pub mod decisions;
mod health;
pub mod hold;
mod metrics;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use axum_server::Handle;
use axum_server::accept::{Accept, DefaultAcceptor};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

pub use callers::Callers;
pub use health::{Health, Part};
pub use metrics::{Fault, Kind, Metrics, Report, SourceKind, Verb};

/// The longest a request may take to be answered.
const ANSWER: Duration = Duration::from_secs(10);

/// The longest a client may take to send the head of a request.
const HEAD: Duration = Duration::from_secs(10);

/// How long requests in flight may go on after the stop.
const GRACE: Duration = Duration::from_secs(5);

/// The largest body of a request.
const BODY_MAX: usize = 64 * 1024;

/// The content type of `OpenMetrics` text, version 1.0.0.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The address cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; give another address and port, or end what uses this one")]
pub struct ServeError {
    address: SocketAddr,
    source: io::Error,
}

/// Makes the paths `/healthz`, `/readyz` and `/metrics`. Further paths are merged into it before
/// it is given to [`Server::run`].
pub fn router(metrics: Metrics, health: Health) -> Router {
    Router::new()
        .route("/healthz", get(async || Json(json!({"alive": true}))))
        .route("/readyz", get(ready).with_state(health))
        .route("/metrics", get(scrape).with_state(metrics))
}

async fn ready(State(health): State<Health>) -> Response {
    let waiting = health.waiting();
    let code = if waiting.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(json!({"ready": waiting.is_empty(), "waiting": waiting}))).into_response()
}

async fn scrape(State(metrics): State<Metrics>) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be encoded"),
    }
}

/// An answer that is not a success, as JSON.
fn refuse(code: StatusCode, why: &str) -> Response {
    (code, Json(json!({"error": why}))).into_response()
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER, next.run(request)).await {
        Ok(answer) => answer,
        Err(_elapsed) => refuse(StatusCode::SERVICE_UNAVAILABLE, "no answer in time"),
    }
}

/// Lets JSON and metrics out. Anything else becomes an error in JSON: a success with nothing in it
/// or with a page would be taken for consent, and an error in plain text is not read by tools.
async fn told_plainly(answer: Response) -> Response {
    const KINDS: [&[u8]; 2] = [b"application/json", OPENMETRICS.as_bytes()];
    let kind = answer
        .headers()
        .get(header::CONTENT_TYPE)
        .map(header::HeaderValue::as_bytes);
    let has_body = answer.body().size_hint().upper() != Some(0);
    let (code, success) = (answer.status(), answer.status().is_success());
    match kind.filter(|kind| KINDS.contains(kind) && has_body) {
        Some(_) if success || code.is_client_error() || code.is_server_error() => answer,
        None if code.is_client_error() || code.is_server_error() => refuse(
            code,
            code.canonical_reason().unwrap_or("the request cannot be answered"),
        ),
        _ => refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the answer is not one that can be told",
        ),
    }
}

/// Adds what holds for every path: limits, and an answer for everything unknown.
fn finished(router: Router) -> Router {
    router
        .fallback(async || refuse(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || refuse(StatusCode::METHOD_NOT_ALLOWED, "this path is only read"))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(map_response(told_plainly))
        .layer(from_fn(in_time))
}

/// A bound address that is not served yet.
#[derive(Debug)]
pub struct Server {
    listener: std::net::TcpListener,
    address: SocketAddr,
    head: Duration,
}

impl Server {
    /// Binds an address; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind(address: SocketAddr) -> Result<Self, ServeError> {
        let failed = |source| ServeError { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            head: HEAD,
        })
    }

    /// The address that was bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then lets requests in flight end for a few seconds.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run(self, router: Router, stop: CancellationToken) -> Result<(), ServeError> {
        self.serve(DefaultAcceptor::new(), router, stop).await
    }

    /// The same with TLS. The certificate may be exchanged in `tls` while this runs.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run_tls(self, tls: RustlsConfig, router: Router, stop: CancellationToken) -> Result<(), ServeError> {
        self.serve(RustlsAcceptor::new(tls), router, stop).await
    }

    async fn serve<A>(self, acceptor: A, router: Router, stop: CancellationToken) -> Result<(), ServeError>
    where
        A: Accept<TcpStream, Router, Service = Router> + Clone + Send + Sync + 'static,
        A::Stream: AsyncRead + AsyncWrite + Unpin + Send,
        A::Future: Send,
    {
        let address = self.address;
        let failed = |source| ServeError { address, source };
        let handle = Handle::new();
        let mut server = axum_server::from_tcp(self.listener)
            .map_err(failed)?
            .acceptor(acceptor)
            .handle(handle.clone());
        server
            .http_builder()
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head);
        let serving = server.serve(finished(router).into_make_service());
        tokio::pin!(serving);
        tokio::select! {
            ended = &mut serving => return ended.map_err(failed),
            () = stop.cancelled() => handle.graceful_shutdown(Some(GRACE)),
        }
        serving.await.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use serde_json::Value;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;
    use tower::ServiceExt;

    use super::*;

    struct Running {
        address: SocketAddr,
        health: Health,
        stop: CancellationToken,
        task: JoinHandle<Result<(), ServeError>>,
    }

    fn bound() -> Server {
        Server::bind(([127, 0, 0, 1], 0).into()).expect("a free port")
    }

    fn start(server: Server, extra: Router) -> Running {
        let (address, health, stop) = (server.address(), Health::default(), CancellationToken::new());
        let router = router(Metrics::new(), health.clone()).merge(extra);
        let task = tokio::spawn(server.run(router, stop.clone()));
        Running {
            address,
            health,
            stop,
            task,
        }
    }

    impl Running {
        async fn ask(&self, method: http::Method, path: &str) -> (u16, String, String) {
            let client = reqwest::Client::builder().no_proxy().build().expect("a client");
            let answer = client.request(method, format!("http://{}{path}", self.address));
            let answer = answer.send().await.expect("an answer");
            let kind = answer.headers()[header::CONTENT_TYPE]
                .to_str()
                .expect("text")
                .to_owned();
            (answer.status().as_u16(), kind, answer.text().await.expect("a body"))
        }
    }

    #[tokio::test]
    async fn every_path_answers_and_no_success_is_empty() {
        let running = start(bound(), Router::new());
        let (get, post) = (http::Method::GET, http::Method::POST);
        for (method, path, code) in [
            (&get, "/healthz", 200),
            (&get, "/readyz", 503),
            (&get, "/metrics", 200),
            (&get, "/", 404),
            (&get, "/healthz/", 404),
            (&get, "/metrics/more", 404),
            (&post, "/metrics", 405),
            (&post, "/v1/gates", 404),
        ] {
            let (found, kind, body) = running.ask(method.clone(), path).await;
            assert_eq!(found, code, "{method} {path}");
            assert!(!body.is_empty(), "{method} {path}");
            if path == "/metrics" && code == 200 {
                assert_eq!(kind, OPENMETRICS);
                assert!(body.ends_with("# EOF\n"));
            } else {
                assert_eq!(kind, "application/json");
                serde_json::from_str::<Value>(&body).expect("JSON");
            }
        }
    }

    #[tokio::test]
    async fn an_answer_that_could_be_taken_for_consent_never_leaves() {
        let page = || ([(header::CONTENT_TYPE, "text/html")], "<html>Please log in</html>");
        let paths = Router::new()
            .route("/page", get(async move || page()))
            .route("/empty", get(async || ()))
            .route("/nothing", get(async || StatusCode::NO_CONTENT))
            .route(
                "/hollow",
                get(async || ([(header::CONTENT_TYPE, "application/json")], "")),
            )
            .route(
                "/elsewhere",
                get(async || (StatusCode::FOUND, [(header::LOCATION, "/page")])),
            )
            .route("/text", get(async || "promote"))
            .route("/bad", get(async || (StatusCode::BAD_REQUEST, "not like this")))
            .route("/good", get(async || Json(json!({"decision": "hold"}))));
        for (path, code) in [
            ("/page", 500),
            ("/empty", 500),
            ("/nothing", 500),
            ("/hollow", 500),
            ("/elsewhere", 500),
            ("/text", 500),
            ("/bad", 400),
            ("/good", 200),
        ] {
            let request = Request::get(path).body(Body::empty()).expect("a request");
            let answer = finished(paths.clone()).oneshot(request).await.expect("an answer");
            assert_eq!(answer.status().as_u16(), code, "{path}");
            let body = axum::body::to_bytes(answer.into_body(), BODY_MAX)
                .await
                .expect("a body");
            let value: Value = serde_json::from_slice(&body).expect("JSON");
            assert!(value.is_object(), "{path}: {value}");
        }
    }

    #[tokio::test]
    async fn readiness_names_what_is_waited_for() {
        let running = start(bound(), Router::new());
        let ready = async || running.ask(http::Method::GET, "/readyz").await;
        assert_eq!(
            ready().await.2,
            r#"{"ready":false,"waiting":["caches","lease","hold"]}"#
        );
        running.health.set(Part::Caches, true);
        assert_eq!(ready().await.2, r#"{"ready":false,"waiting":["lease","hold"]}"#);
        running.health.set(Part::Lease, true);
        assert_eq!(ready().await.2, r#"{"ready":false,"waiting":["hold"]}"#);
        running.health.set(Part::Hold, true);
        let (code, _, body) = ready().await;
        assert_eq!((code, body.as_str()), (200, r#"{"ready":true,"waiting":[]}"#));
        running.health.stop();
        let (code, _, body) = ready().await;
        assert_eq!(
            (code, body.as_str()),
            (503, r#"{"ready":false,"waiting":["stopping"]}"#)
        );
    }

    #[tokio::test]
    async fn a_stop_lets_a_request_in_flight_end_and_takes_no_new_one() {
        let (begun, mut in_flight) = tokio::sync::mpsc::channel(1);
        let release = CancellationToken::new();
        let held = release.clone();
        let slow = get(async move || {
            begun.send(()).await.expect("heard");
            held.cancelled().await;
            Json("done")
        });
        let running = start(bound(), Router::new().route("/slow", slow));
        let address = running.address;
        let request = tokio::spawn(async move {
            let client = reqwest::Client::builder().no_proxy().build().expect("a client");
            client.get(format!("http://{address}/slow")).send().await
        });
        in_flight.recv().await.expect("in flight");
        running.stop.cancel();
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        release.cancel();
        let answer = request.await.expect("ends").expect("an answer");
        assert_eq!(answer.text().await.expect("a body"), r#""done""#);
        running.task.await.expect("ends").expect("without an error");
    }

    #[tokio::test]
    async fn a_client_that_never_finishes_its_head_is_let_go() {
        let mut server = bound();
        server.head = Duration::from_millis(200);
        let running = start(server, Router::new());
        let mut slow = TcpStream::connect(running.address).await.expect("connects");
        slow.write_all(b"GET /healthz HTTP/1.1\r\nhost:").await.expect("sends");
        let mut rest = Vec::new();
        let end = tokio::time::timeout(HEAD, slow.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "the server ends the connection");
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_hangs_is_answered_for() {
        let stuck = Router::new().route("/stuck", get(async || std::future::pending::<&str>().await));
        let request = Request::get("/stuck").body(Body::empty()).expect("a request");
        let answer = finished(stuck).oneshot(request).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = axum::body::to_bytes(answer.into_body(), BODY_MAX)
            .await
            .expect("a body");
        assert_eq!(body, r#"{"error":"no answer in time"}"#);
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let running = start(bound(), Router::new());
        let error = Server::bind(running.address).expect_err("in use").to_string();
        assert!(
            error.starts_with(&format!("cannot listen on {}", running.address)),
            "{error}"
        );
    }
}
