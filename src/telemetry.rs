//! Sets up logs and traces of this process.
//!
//! Logs go to standard error: text on a terminal, else JSON, one line each. Traces of our own
//! spans go over OTLP/HTTP to the collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names, when it is
//! set; otherwise nothing is collected. A collector that is away costs spans and nothing else:
//! the queue is bounded, and what does not fit is dropped.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::SetGlobalDefaultError;
use tracing::{Subscriber, info, warn};
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

/// What is logged unless `RUST_LOG` says otherwise.
const FILTER: &str = "info";

/// The longest one export may take, connecting included.
const EXPORT: Duration = Duration::from_secs(3);

/// How long the end of the process waits for the last spans.
const FLUSH: Duration = Duration::from_secs(5);

/// The most that is read of a collector's answer.
const ANSWER_MAX: usize = 64 * 1024;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// What is logged and where traces go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Directives as in `RUST_LOG`, for example `info,tollgate=debug`.
    pub filter: String,
    /// How log lines look.
    pub format: Format,
    /// The full address that spans are sent to, for example `http://collector:4318/v1/traces`.
    pub traces: Option<String>,
}

impl Settings {
    /// Reads `RUST_LOG`, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` and `OTEL_EXPORTER_OTLP_ENDPOINT`.
    /// Without a format, it is text on a terminal and JSON elsewhere. Headers, timeouts, sampling
    /// and the service's name follow OpenTelemetry's own variables.
    #[must_use]
    pub fn from_env(format: Option<Format>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self::read(format, terminal, |name| std::env::var(name).ok())
    }

    fn read(format: Option<Format>, terminal: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| variable(name).filter(|value| !value.trim().is_empty());
        let all = || set("OTEL_EXPORTER_OTLP_ENDPOINT").map(|base| format!("{}/v1/traces", base.trim_end_matches('/')));
        Self {
            filter: set("RUST_LOG").unwrap_or_else(|| FILTER.into()),
            format: format.unwrap_or(if terminal { Format::Text } else { Format::Json }),
            traces: set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(all),
        }
    }
}

/// Logs or traces cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("RUST_LOG={filter:?}: {source}; it is a list like info,tollgate=debug")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The client for the collector cannot be made.
    #[error("the client for the trace collector: {0}")]
    Client(#[from] reqwest::Error),
    /// The exporter does not accept its settings; its message names no credentials.
    #[error("the trace exporter: {0}; OTEL_EXPORTER_OTLP_ENDPOINT is an address like http://collector:4318")]
    Exporter(#[from] ExporterBuildError),
    /// Something else in this process has set up logs before.
    #[error("logs are set up twice: {0}")]
    Twice(#[from] SetGlobalDefaultError),
}

/// What has to be ended when the process ends.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sets up logs and traces for the whole process. Call it once, on the runtime.
    ///
    /// # Errors
    /// When a setting cannot be used, or it was called before.
    pub fn start(settings: &Settings) -> Result<Self, TelemetryError> {
        let (subscriber, telemetry) = prepare(settings)?;
        tracing::subscriber::set_global_default(subscriber)?;
        Ok(telemetry)
    }

    /// Sends the last spans and ends the exporter, in a few seconds at most.
    pub async fn shutdown(self) {
        let Some(traces) = self.traces else { return };
        // Off the runtime: the exporter's own thread waits for requests that this runtime carries.
        let ended = tokio::task::spawn_blocking(move || traces.shutdown_with_timeout(FLUSH));
        match ended.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the last spans were not sent"),
            Err(error) => warn!(%error, "the trace exporter did not end"),
        }
    }
}

fn prepare(settings: &Settings) -> Result<(impl Subscriber + Send + Sync + use<>, Telemetry), TelemetryError> {
    let filter = EnvFilter::try_new(&settings.filter).map_err(|source| TelemetryError::Filter {
        filter: settings.filter.clone(),
        source,
    })?;
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match settings.format {
        Format::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            lines.with_ansi(colour).with_filter(filter).boxed()
        }
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_filter(filter)
            .boxed(),
    };
    let traces = settings.traces.as_deref().map(exporter).transpose()?;
    // Spans of our own code only: those of the HTTP clients would trace the export itself.
    let spans = traces.as_ref().map(|traces| {
        let ours = Targets::new().with_target("tollgate", LevelFilter::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer("tollgate"))
            .with_filter(ours)
    });
    let subscriber = Registry::default().with(lines).with(spans);
    Ok((subscriber, Telemetry { traces }))
}

fn exporter(address: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let client = reqwest::Client::builder()
        .timeout(EXPORT)
        .connect_timeout(EXPORT)
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let client = OnRuntime {
        client,
        runtime: Handle::current(),
        failing: Arc::default(),
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(address)
        .with_timeout(EXPORT)
        .build()?;
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("tollgate");
    }
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build())
}

/// Carries the exporter's requests.
///
/// The exporter runs on a plain thread of its own, where an asynchronous client finds no reactor
/// and panics. This one hands each request to the runtime and only waits for what comes of it.
#[derive(Debug, Clone)]
struct OnRuntime {
    client: reqwest::Client,
    runtime: Handle,
    failing: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let answer = self.runtime.spawn(send(self.client.clone(), request)).await?;
        let failed = match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answers {}", answer.status())),
            Err(error) => Some(error.to_string()),
        };
        let before = self.failing.swap(failed.is_some(), Ordering::Relaxed);
        match failed {
            Some(why) if !before => warn!(why, "the trace collector does not take spans; they are dropped"),
            None if before => info!("the trace collector takes spans again"),
            _ => {}
        }
        answer
    }
}

async fn send(client: reqwest::Client, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
    let mut answer = client
        .execute(request.try_into()?)
        .await
        .map_err(reqwest::Error::without_url)?;
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > ANSWER_MAX {
            return Err(format!("it answers with more than {ANSWER_MAX} bytes").into());
        }
        body.extend_from_slice(&chunk);
    }
    let mut whole = http::Response::builder().status(answer.status()).body(body.freeze())?;
    *whole.headers_mut() = answer.headers().clone();
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::Router;
    use axum::routing::post;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tracing::info_span;

    use super::*;

    fn to(address: String) -> Settings {
        Settings {
            filter: "off".into(),
            format: Format::Json,
            traces: Some(address),
        }
    }

    fn holds(body: &[u8], text: &str) -> bool {
        body.windows(text.len()).any(|window| window == text.as_bytes())
    }

    #[test]
    fn variables_and_terminal_choose_format_and_address() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318/");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://own:4318/x");
        for (variables, address) in [
            (vec![], None),
            (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", " ")], None),
            (vec![all], Some("http://all:4318/v1/traces")),
            (vec![all, own], Some("http://own:4318/x")),
        ] {
            let variable = |name: &str| {
                variables
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).into())
            };
            for (flag, terminal, format) in [
                (None, true, Format::Text),
                (None, false, Format::Json),
                (Some(Format::Text), false, Format::Text),
                (Some(Format::Json), true, Format::Json),
            ] {
                let read = Settings::read(flag, terminal, variable);
                assert_eq!((read.format, read.traces.as_deref()), (format, address));
                assert_eq!(read.filter, "info");
            }
        }
    }

    #[tokio::test]
    async fn a_filter_or_an_address_that_cannot_be_read_is_named() {
        let filter = Settings {
            filter: "tollgate=loud".into(),
            ..to("http://collector".into())
        };
        let error = prepare(&filter).err().expect("refused").to_string();
        assert!(error.contains("RUST_LOG=\"tollgate=loud\""), "{error}");
        let error = prepare(&to("not an address".into()))
            .err()
            .expect("refused")
            .to_string();
        assert!(error.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{error}");
    }

    #[tokio::test]
    async fn our_spans_arrive_at_the_collector_and_those_of_others_do_not() {
        let (sender, mut bodies) = mpsc::unbounded_channel();
        let sink = Router::new().route(
            "/v1/traces",
            post(async move |body: Bytes| {
                sender.send(body).expect("the test listens");
            }),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, sink).await });

        let (subscriber, telemetry) = prepare(&to(format!("http://{address}/v1/traces"))).expect("set up");
        tracing::subscriber::with_default(subscriber, || {
            info_span!("deciding", gate = "shop/checkout").in_scope(|| {});
            info_span!(target: "hyper", "of another crate").in_scope(|| {});
        });
        telemetry.shutdown().await;
        let body = bodies.try_recv().expect("sent before the shutdown ended");
        assert!(holds(&body, "deciding") && holds(&body, "shop/checkout") && holds(&body, "tollgate"));
        assert!(!holds(&body, "of another crate"));
    }

    #[tokio::test]
    async fn a_collector_that_is_away_or_silent_neither_blocks_nor_panics() {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addresses = [silent.local_addr(), closed.local_addr()].map(|address| address.expect("bound"));
        drop(closed);
        for address in addresses {
            let (subscriber, telemetry) = prepare(&to(format!("http://{address}/v1/traces"))).expect("set up");
            let begun = Instant::now();
            tracing::subscriber::with_default(subscriber, || {
                for number in 0..5_000 {
                    info_span!("deciding", number).in_scope(|| {});
                }
            });
            let (emitted, begun) = (begun.elapsed(), Instant::now());
            telemetry.shutdown().await;
            // More than twice what the queue holds: waiting for exports would take six times 3 s.
            assert!(emitted < EXPORT * 3, "5,000 spans took {emitted:?}");
            assert!(begun.elapsed() < FLUSH * 2, "the end took {:?}", begun.elapsed());
        }
    }
}
