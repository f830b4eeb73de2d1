//! What the operator sees of Prometheus: everything, or what a broken Prometheus would answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};

use super::setting;

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 500 instead of an answer.
    Failing,
    /// No answer in time.
    Silent,
    /// A success without any series.
    Empty,
    /// Every value is NaN.
    NotANumber,
    /// Every value is +Inf.
    Infinite,
    /// Every series twice, from two replicas of Prometheus.
    Twice,
    /// A warning that the answer is partial.
    Warning,
    /// Another success than 200, without a body.
    NoContent,
}

/// A server in front of Prometheus; ends when it is dropped.
pub struct Lens {
    pub url: String,
    fault: Arc<Mutex<Option<Fault>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Lens {
    pub async fn start() -> Self {
        let fault = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&fault);
        let client = reqwest::Client::new();
        let app = axum::Router::new().fallback(move |request: Request| {
            let (client, shared) = (client.clone(), Arc::clone(&shared));
            async move {
                let fault = *shared.lock().unwrap();
                answer(&client, fault, request).await
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, fault, task }
    }

    pub fn set(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap() = fault;
    }
}

impl Drop for Lens {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(client: &reqwest::Client, fault: Option<Fault>, request: Request) -> Response<Body> {
    let plain = |status: StatusCode| Response::builder().status(status).body(Body::empty()).unwrap();
    match fault {
        Some(Fault::Failing) => return plain(StatusCode::INTERNAL_SERVER_ERROR),
        Some(Fault::NoContent) => return plain(StatusCode::NO_CONTENT),
        Some(Fault::Silent) => {
            tokio::time::sleep(Duration::from_mins(5)).await;
            return plain(StatusCode::GATEWAY_TIMEOUT);
        }
        _ => {}
    }
    let Ok((status, headers, body)) = forward(client, request).await else {
        return plain(StatusCode::BAD_GATEWAY);
    };
    let body = match (fault, serde_json::from_slice::<Value>(&body)) {
        (Some(fault), Ok(mut body)) => {
            spoil(&mut body, fault);
            Bytes::from(body.to_string())
        }
        _ => body,
    };
    let mut answer = Response::builder().status(status);
    if let Some(kind) = headers.get("content-type") {
        answer = answer.header("content-type", kind);
    }
    answer.body(Body::from(body)).unwrap()
}

async fn forward(client: &reqwest::Client, request: Request) -> Result<(StatusCode, HeaderMap, Bytes), reqwest::Error> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let body = to_bytes(body, 1 << 20).await.unwrap_or_default();
    let mut asked = client
        .request(parts.method, format!("{}{path}", setting("TOLLGATE_E2E_PROMETHEUS")))
        .body(body);
    if let Some(kind) = parts.headers.get("content-type") {
        asked = asked.header("content-type", kind);
    }
    let answer = asked.send().await?;
    Ok((answer.status(), answer.headers().clone(), answer.bytes().await?))
}

fn spoil(body: &mut Value, fault: Fault) {
    match fault {
        Fault::Empty => body["data"]["result"] = json!([]),
        Fault::Warning => body["warnings"] = json!(["some of the store is not available"]),
        Fault::Twice => twice(body),
        Fault::NotANumber => values(body, "NaN"),
        Fault::Infinite => values(body, "+Inf"),
        Fault::Failing | Fault::Silent | Fault::NoContent => {}
    }
}

fn twice(body: &mut Value) {
    let Some(series) = body["data"]["result"].as_array_mut() else {
        return;
    };
    let replica = |name: &str| {
        let series = series.iter().cloned();
        let mut marked: Vec<Value> = series.collect();
        for one in &mut marked {
            one["metric"]["prometheus_replica"] = json!(name);
        }
        marked
    };
    let both = [replica("a"), replica("b")].concat();
    *series = both;
}

fn values(body: &mut Value, text: &str) {
    let series = body["data"]["result"].as_array_mut().into_iter().flatten();
    for series in series {
        let samples = series["values"].as_array_mut().into_iter().flatten();
        samples.for_each(|sample| sample[1] = json!(text));
        if series["value"].is_array() {
            series["value"][1] = json!(text);
        }
    }
}
