//! What was decided, for other tools: `GET /v1/gates/{namespace}/{name}/decision?revision=…` and
//! `GET /v1/analyses/{namespace}/{name}/decision?revision=…&step=…`.
//!
//! An answer is what is recorded about just that revision, in so many words: promote, hold or
//! abort. There is no default: whoever asks about something unknown is refused, with what is known.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::callers::{Callers, Denied, Resource};
use super::refuse;
use crate::api::{CanaryAnalysis, MetricReading, ReleaseGate, StageWord, TrialStatus, millis};
use crate::decision::{Millis, Outcome};

/// How old the newest tick behind a promote may be. While a leader judges it is recorded every
/// minute; without one, what was promised lapses.
const FRESH: Millis = Millis::from_secs(180);

/// What this process knows of gates and analyses, without asking anybody.
pub trait Records: Send + Sync + 'static {
    /// A gate.
    fn gate(&self, namespace: &str, name: &str) -> Option<Arc<ReleaseGate>>;
    /// An analysis whose traffic somebody else moves.
    fn analysis(&self, namespace: &str, name: &str) -> Option<Arc<CanaryAnalysis>>;
    /// The weight that the mover of an analysis has reached at a step of its own, from 0; nothing
    /// when there is no such step.
    fn weight_at(&self, analysis: &CanaryAnalysis, step: usize) -> Option<i64>;
    /// What was last measured about the release of a gate, where this process judges it.
    fn numbers(&self, namespace: &str, name: &str) -> Vec<MetricReading>;
}

/// Answers to those who may ask.
#[derive(Clone)]
pub struct Desk {
    records: Arc<dyn Records>,
    callers: Arc<Callers>,
}

/// The paths of the hooks; served with TLS on a port of their own.
pub fn router(records: Arc<dyn Records>, callers: Callers) -> Router {
    let desk = Desk {
        records,
        callers: Arc::new(callers),
    };
    Router::new()
        .route("/v1/gates/{namespace}/{name}/decision", get(gate))
        .route("/v1/analyses/{namespace}/{name}/decision", get(analysis))
        .with_state(desk)
}

/// What is asked about.
#[derive(Debug, Deserialize)]
struct Asked {
    revision: Option<String>,
    step: Option<String>,
}

/// The object that is asked about.
type Place = (String, String);

/// An answer about a revision.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    /// In lower case: promote, hold or abort.
    decision: &'static str,
    /// Why, in one word.
    reason: String,
    /// The same as a sentence, with its numbers.
    rule: String,
    /// The revision that this is about.
    revision: String,
    /// The step of the plan, from 1, while there is one.
    step: Option<i64>,
    /// The canary's share in percent.
    weight: Option<i64>,
    /// Since when it is so.
    since: Option<String>,
    /// Per metric.
    numbers: Vec<MetricReading>,
    /// The record of the attempt, where a gate has one.
    #[serde(rename = "record", skip_serializing_if = "Option::is_none")]
    analysis: Option<String>,
}

/// Why there is no answer: the code, and what to say.
type Refusal = (StatusCode, String);

async fn gate(
    State(desk): State<Desk>,
    Path((namespace, name)): Path<Place>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    let place = (namespace, name);
    if let Err(denied) = desk.let_in(&headers, Resource::Gate, &place).await {
        return denied;
    }
    let found = desk.records.gate(&place.0, &place.1);
    let told = found
        .ok_or_else(|| unknown("ReleaseGate", &place))
        .and_then(|gate| about_gate(&gate, asked.revision.as_deref()));
    let told = told.map(|told| Told {
        numbers: desk.records.numbers(&place.0, &place.1),
        ..told
    });
    answer("gate", &place, told)
}

async fn analysis(
    State(desk): State<Desk>,
    Path((namespace, name)): Path<Place>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    let place = (namespace, name);
    if let Err(denied) = desk.let_in(&headers, Resource::Analysis, &place).await {
        return denied;
    }
    let found = desk.records.analysis(&place.0, &place.1);
    let told = found
        .ok_or_else(|| unknown("CanaryAnalysis with spec.external", &place))
        .and_then(|analysis| {
            let step = asked
                .step
                .as_deref()
                .ok_or_else(|| wrong("step is missing; send the mover's own step"))?;
            let step = step
                .parse::<usize>()
                .map_err(|_| wrong("step must be an integer from 0"))?;
            let weight = desk.records.weight_at(&analysis, step);
            let now = Millis(jiff::Timestamp::now().as_millisecond());
            about_analysis(&analysis, (asked.revision.as_deref(), weight), now)
        });
    answer("analysis", &place, told)
}

impl Desk {
    async fn let_in(&self, headers: &HeaderMap, resource: Resource, (namespace, name): &Place) -> Result<(), Response> {
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .filter(|token| !token.is_empty());
        let Some(token) = token else {
            return Err(refuse(StatusCode::UNAUTHORIZED, "send a bearer token of this cluster"));
        };
        self.callers
            .may_ask(token, resource, (namespace, name))
            .await
            .map_err(|denied| match denied {
                Denied::Stranger => refuse(StatusCode::UNAUTHORIZED, "this cluster does not know the token"),
                Denied::Forbidden => refuse(
                    StatusCode::FORBIDDEN,
                    &format!(
                        "the token's account may not get {} {namespace}/{name}",
                        resource.words()
                    ),
                ),
                Denied::Unsure => refuse(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the API server does not say in time whether the token may ask",
                ),
            })
    }
}

fn unknown(kind: &str, (namespace, name): &Place) -> Refusal {
    (StatusCode::NOT_FOUND, format!("there is no {kind} {namespace}/{name}"))
}

fn wrong(why: &str) -> Refusal {
    (StatusCode::BAD_REQUEST, why.to_owned())
}

/// An answer or a refusal as JSON. The identifier says whether two answers tell of the same
/// decision, whatever was measured since.
fn answer(kind: &str, (namespace, name): &Place, told: Result<Told, Refusal>) -> Response {
    let told = match told {
        Ok(told) => told,
        Err((code, why)) => return refuse(code, &why),
    };
    let about = format!("{namespace}/{name}");
    let Told {
        decision,
        reason,
        revision,
        step,
        weight,
        since,
        ..
    } = &told;
    let decided = json!([kind, about, revision, decision, reason, step, weight, since]).to_string();
    let id = format!("{:.16x}", Sha256::digest(decided.as_bytes()));
    let mut body = json!(told);
    body[kind] = json!(about);
    body["decisionId"] = json!(id);
    (StatusCode::OK, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Promote => "promote",
        Outcome::Hold => "hold",
        Outcome::Abort => "abort",
    }
}

/// What is recorded about a revision at a gate: promote when it is trusted or past its commit point,
/// abort when it was refused, and hold while it is on trial.
fn about_gate(gate: &ReleaseGate, revision: Option<&str>) -> Result<Told, Refusal> {
    let status = gate.status.clone().unwrap_or_default();
    let known = || {
        let stable = status.stable.as_deref().unwrap_or("none");
        let trial = status
            .attempt
            .as_ref()
            .map_or("none", |attempt| attempt.revision.as_str());
        format!("stable is {stable}, on trial is {trial}")
    };
    let Some(revision) = revision else {
        return Err(wrong(&format!("revision is missing; {}", known())));
    };
    let attempt = status.attempt.as_ref().filter(|attempt| attempt.revision == revision);
    let outcome = match attempt.map(|attempt| attempt.stage) {
        Some(StageWord::Preparing | StageWord::Stepping) => Outcome::Hold,
        Some(StageWord::HandingOver | StageWord::Restoring) => Outcome::Promote,
        Some(StageWord::Aborting | StageWord::Rejected) => Outcome::Abort,
        None if status.stable.as_deref() == Some(revision) => Outcome::Promote,
        None => {
            return Err((
                StatusCode::CONFLICT,
                format!("nothing is recorded about revision {revision:?}; {}", known()),
            ));
        }
    };
    let why = attempt
        .and_then(|attempt| attempt.why.clone())
        .or(status.reason)
        .filter(|_| attempt.is_some());
    let namespace = gate.metadata.namespace.as_deref().unwrap_or_default();
    Ok(Told {
        decision: word(outcome),
        reason: why.unwrap_or_else(|| "AtRest".to_owned()),
        rule: status.message.filter(|_| attempt.is_some()).unwrap_or_default(),
        revision: revision.to_owned(),
        step: attempt
            .and_then(|attempt| attempt.at_step)
            .map(|step| step.saturating_add(1)),
        weight: status.weight.filter(|_| attempt.is_some()),
        since: attempt.map(|attempt| attempt.since.clone()),
        numbers: vec![],
        analysis: status.analysis.map(|analysis| format!("{namespace}/{}", analysis.name)),
    })
}

/// What is recorded about a revision whose traffic somebody else moves, at the weight that the
/// mover has reached: a decision about another weight is none about this one.
fn about_analysis(
    analysis: &CanaryAnalysis,
    (revision, weight): (Option<&str>, Option<i64>),
    now: Millis,
) -> Result<Told, Refusal> {
    let status = analysis.status.clone().unwrap_or_default();
    let trial = status.trial;
    let known = trial.as_ref().map_or_else(
        || "no revision has been on trial yet".to_owned(),
        |trial| {
            format!(
                "on trial is {} at {} %, against {}",
                trial.attempt.revision, trial.weight, trial.stable
            )
        },
    );
    let Some(revision) = revision.filter(|revision| !revision.is_empty()) else {
        return Err(wrong(&format!("revision is missing; {known}")));
    };
    let Some(weight) = weight else {
        return Err((StatusCode::CONFLICT, format!("the mover has no such step; {known}")));
    };
    let waits = |rule: String| Told {
        decision: word(Outcome::Hold),
        reason: "NotBegun".to_owned(),
        rule,
        revision: revision.to_owned(),
        step: None,
        weight: Some(weight),
        since: None,
        numbers: vec![],
        analysis: None,
    };
    let Some(trial) = trial else {
        return Ok(waits(known));
    };
    if trial.attempt.revision != revision {
        return Err((
            StatusCode::CONFLICT,
            format!("revision {revision:?} is not on trial; {known}"),
        ));
    }
    let fresh = status
        .judged_at
        .as_deref()
        .and_then(|at| millis("status.judgedAt", at).ok());
    let stale = fresh.is_none_or(|at| now - at > FRESH);
    if trial.decision == Outcome::Promote
        && trial.weight == weight
        && trial.attempt.stage == StageWord::Stepping
        && stale
    {
        let at = status.judged_at.as_deref().unwrap_or("never");
        return Ok(waits(format!(
            "nobody has judged it for too long, last at {at}; {known}"
        )));
    }
    if trial.weight != weight && trial.decision != Outcome::Abort {
        return Ok(waits(format!("{weight} % is not judged yet; {known}")));
    }
    let step = analysis.spec.steps.iter().position(|step| step.weight == trial.weight);
    let TrialStatus {
        decision,
        reason,
        rule,
        at,
        ..
    } = trial;
    Ok(Told {
        decision: word(decision),
        reason,
        rule,
        revision: revision.to_owned(),
        step: step.and_then(|step| i64::try_from(step.saturating_add(1)).ok()),
        weight: Some(weight),
        since: Some(at),
        numbers: status.readings,
        analysis: None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use axum::body::{Body, to_bytes};
    use http::Request;
    use kube::Client;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;
    use crate::api::moment;

    /// What is known in these tests; the mover's steps reach 0, 25, 25 and 50 %.
    #[derive(Default)]
    struct Shelf {
        gates: HashMap<String, Value>,
        analyses: HashMap<String, Value>,
    }

    impl Records for Shelf {
        fn gate(&self, namespace: &str, name: &str) -> Option<Arc<ReleaseGate>> {
            let gate = self.gates.get(&format!("{namespace}/{name}"))?;
            Some(Arc::new(serde_json::from_value(gate.clone()).expect("a gate")))
        }

        fn analysis(&self, namespace: &str, name: &str) -> Option<Arc<CanaryAnalysis>> {
            let analysis = self.analyses.get(&format!("{namespace}/{name}"))?;
            Some(Arc::new(serde_json::from_value(analysis.clone()).expect("an analysis")))
        }

        fn weight_at(&self, _: &CanaryAnalysis, step: usize) -> Option<i64> {
            [0, 25, 25, 50].get(step).copied()
        }

        fn numbers(&self, _: &str, _: &str) -> Vec<MetricReading> {
            vec![]
        }
    }

    /// An API server that knows the tokens `argo` and `guest`, of which `argo` may get
    /// `shop/checkout`. It hangs for the token `slow`, and notes what it was asked.
    fn api_server(asked: Arc<Mutex<Vec<String>>>) -> Client {
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let asked = Arc::clone(&asked);
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect_bytes().await.expect("a body");
                let mut review: Value = serde_json::from_slice(&body).expect("JSON");
                asked.lock().expect("asked").push(path.clone());
                if review["spec"]["token"] == "slow" {
                    std::future::pending::<()>().await;
                }
                review["status"] = if path.ends_with("/tokenreviews") {
                    let token = review["spec"]["token"].as_str().unwrap_or_default();
                    let known = ["argo", "guest"].contains(&token);
                    json!({"authenticated": known, "user": {"username": token, "groups": ["system:authenticated"]}})
                } else {
                    let spec = &review["spec"];
                    let about = &spec["resourceAttributes"];
                    let allowed = spec["user"] == "argo"
                        && spec["groups"] == json!(["system:authenticated"])
                        && about["group"] == "tollgate.dev"
                        && about["subresource"] == "decision"
                        && about["verb"] == "get"
                        && about["namespace"] == "shop"
                        && about["name"] == "checkout";
                    json!({"allowed": allowed})
                };
                let answer = http::Response::builder()
                    .status(201)
                    .header("content-type", "application/json");
                answer.body(Body::from(review.to_string()))
            }
        });
        Client::new(service, "default")
    }

    async fn ask_as(shelf: Shelf, token: Option<&str>, path: &str) -> (u16, Value) {
        let router = router(Arc::new(shelf), Callers::new(api_server(Arc::default())));
        ask_at(&router, token, path).await
    }

    async fn ask_at(router: &Router, token: Option<&str>, path: &str) -> (u16, Value) {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Body::empty()).expect("a request");
        let answer = crate::serve::finished(router.clone())
            .oneshot(request)
            .await
            .expect("an answer");
        let code = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 64 * 1024).await.expect("a body");
        (code, serde_json::from_slice(&body).expect("JSON on every path"))
    }

    fn gate(status: &Value) -> Value {
        json!({"apiVersion": "tollgate.dev/v1alpha1", "kind": "ReleaseGate",
            "metadata": {"name": "checkout", "namespace": "shop"},
            "spec": {"target": {"workload": {"name": "checkout"}, "service": "checkout"},
                "traffic": {"gatewayAPI": {"routes": [{"name": "checkout"}]}}},
            "status": status})
    }

    fn analysis(status: &Value) -> Value {
        json!({"apiVersion": "tollgate.dev/v1alpha1", "kind": "CanaryAnalysis",
            "metadata": {"name": "checkout", "namespace": "shop"},
            "spec": {"external": {"rollout": "checkout"}, "steps": [{"weight": 25}, {"weight": 50}, {"weight": 100}],
                "analysis": {"metrics": [{"name": "errors", "ratio": {"preset": "http-errors"}}]}},
            "status": status})
    }

    fn shelf(gate_status: &Value, analysis_status: &Value) -> Shelf {
        let at = |value: Value| HashMap::from([("shop/checkout".to_owned(), value)]);
        Shelf {
            gates: at(gate(gate_status)),
            analyses: at(analysis(analysis_status)),
        }
    }

    #[tokio::test]
    async fn a_gate_answers_with_what_is_recorded_about_just_that_revision() {
        let in_flight = |stage: &str, why: Value| {
            json!({"stable": "aaa", "revision": "bbb", "step": "2/5", "weight": 5, "decision": "Promote",
                "reason": "TooFew", "message": "needs 400 more requests", "analysis": {"name": "checkout-3", "uid": "u"},
                "attempt": {"revision": "bbb", "epoch": 3, "stage": stage, "atStep": 1, "why": why, "since": "2026-01-31T12:00:00.000Z"}})
        };
        let none = Value::Null;
        for (status, query, code, decision, reason) in [
            (
                in_flight("Preparing", none.clone()),
                "?revision=bbb",
                200,
                "hold",
                "TooFew",
            ),
            (
                in_flight("Stepping", none.clone()),
                "?revision=bbb",
                200,
                "hold",
                "TooFew",
            ),
            (
                in_flight("HandingOver", none.clone()),
                "?revision=bbb",
                200,
                "promote",
                "TooFew",
            ),
            (
                in_flight("Restoring", none.clone()),
                "?revision=bbb",
                200,
                "promote",
                "TooFew",
            ),
            (
                in_flight("Aborting", json!("Harm")),
                "?revision=bbb",
                200,
                "abort",
                "Harm",
            ),
            (
                in_flight("Rejected", json!("Harm")),
                "?revision=bbb",
                200,
                "abort",
                "Harm",
            ),
            (
                in_flight("Rejected", json!("Harm")),
                "?revision=aaa",
                200,
                "promote",
                "AtRest",
            ),
            (
                json!({"stable": "aaa", "revision": "aaa"}),
                "?revision=aaa",
                200,
                "promote",
                "AtRest",
            ),
            (in_flight("Stepping", none.clone()), "?revision=ccc", 409, "", ""),
            (in_flight("Stepping", none.clone()), "?revision=bb", 409, "", ""),
            (in_flight("Stepping", none.clone()), "?revision=", 409, "", ""),
            (in_flight("Stepping", none.clone()), "", 400, "", ""),
            (
                in_flight("Stepping", none.clone()),
                "?revision=a&revision=b",
                400,
                "",
                "",
            ),
            (json!({}), "?revision=aaa", 409, "", ""),
            (none, "?revision=aaa", 409, "", ""),
        ] {
            let path = format!("/v1/gates/shop/checkout/decision{query}");
            let (found, body) = ask_as(shelf(&status, &json!({})), Some("argo"), &path).await;
            assert_eq!(found, code, "{query} of {status}: {body}");
            if code == 200 {
                assert_eq!(
                    (&body["decision"], &body["reason"]),
                    (&json!(decision), &json!(reason)),
                    "{status}"
                );
                assert!(body["decisionId"].as_str().is_some_and(|id| id.len() == 16), "{body}");
                assert_eq!(body["gate"], "shop/checkout");
            } else {
                assert!(body.get("decision").is_none() && body["error"].is_string(), "{body}");
            }
        }
    }

    #[tokio::test]
    async fn an_analysis_answers_for_the_weight_that_the_mover_has_reached() {
        let ago = |seconds| moment(Millis(jiff::Timestamp::now().as_millisecond()) - Millis::from_secs(seconds));
        let trial = |weight: i64, decision: &str, judged: i64| {
            let stage = if decision == "Abort" { "Rejected" } else { "Stepping" };
            let why = (decision == "Abort").then_some("Harm");
            json!({"judgedAt": ago(judged), "trial": {"stable": "aaa", "weight": weight, "decision": decision, "reason": "Safe",
                "rule": "1.02 of 1.1", "at": ago(judged), "attempt": {"revision": "bbb", "epoch": 1, "stage": stage, "why": why,
                "atStep": 0, "since": ago(judged)}}})
        };
        for (status, query, code, decision) in [
            (trial(25, "Promote", 1), "?revision=bbb&step=1", 200, "promote"),
            (trial(25, "Promote", 1), "?revision=bbb&step=2", 200, "promote"),
            (trial(25, "Promote", 1), "?revision=bbb&step=3", 200, "hold"),
            (trial(50, "Promote", 1), "?revision=bbb&step=1", 200, "hold"),
            (trial(25, "Promote", 600), "?revision=bbb&step=1", 200, "hold"),
            (trial(25, "Hold", 1), "?revision=bbb&step=1", 200, "hold"),
            (trial(25, "Abort", 600), "?revision=bbb&step=1", 200, "abort"),
            (trial(25, "Abort", 1), "?revision=bbb&step=3", 200, "abort"),
            (json!({}), "?revision=bbb&step=1", 200, "hold"),
            (trial(25, "Promote", 1), "?revision=aaa&step=1", 409, ""),
            (trial(25, "Promote", 1), "?revision=bbb&step=4", 409, ""),
            (trial(25, "Promote", 1), "?revision=bbb", 400, ""),
            (trial(25, "Promote", 1), "?revision=bbb&step=one", 400, ""),
            (trial(25, "Promote", 1), "?step=1", 400, ""),
        ] {
            let path = format!("/v1/analyses/shop/checkout/decision{query}");
            let (found, body) = ask_as(shelf(&json!({}), &status), Some("argo"), &path).await;
            assert_eq!(found, code, "{query} of {status}: {body}");
            let expected = (code == 200).then_some(decision);
            assert_eq!(
                body.get("decision").and_then(Value::as_str),
                expected,
                "{query} of {status}: {body}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_may_not_ask_learns_nothing() {
        for (token, place, code) in [
            (None, "gates/shop/checkout", 401),
            (Some("nobody"), "gates/shop/checkout", 401),
            (Some("guest"), "gates/shop/checkout", 403),
            (Some("guest"), "gates/shop/unknown", 403),
            (Some("argo"), "gates/other/checkout", 403),
            (Some("slow"), "gates/shop/checkout", 503),
            (Some("argo"), "gates/shop/checkout", 200),
            (Some("guest"), "analyses/shop/checkout", 403),
            (Some("argo"), "analyses/shop/checkout", 200),
        ] {
            let path = format!("/v1/{place}/decision?revision=aaa&step=1");
            let (found, body) = ask_as(shelf(&json!({"stable": "aaa"}), &json!({})), token, &path).await;
            assert_eq!(found, code, "{token:?} {place}: {body}");
        }
        let (code, body) = ask_as(
            Shelf::default(),
            Some("argo"),
            "/v1/gates/shop/checkout/decision?revision=a",
        )
        .await;
        assert_eq!(code, 404, "{body}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_api_server_is_asked_once_in_a_while() {
        let asked = Arc::new(Mutex::new(vec![]));
        let router = router(
            Arc::new(shelf(&json!({"stable": "aaa"}), &json!({}))),
            Callers::new(api_server(Arc::clone(&asked))),
        );
        let path = "/v1/gates/shop/checkout/decision?revision=aaa";
        let count = || asked.lock().expect("asked").len();
        for _ in 0..5 {
            assert_eq!(ask_at(&router, Some("argo"), path).await.0, 200);
        }
        assert_eq!(count(), 2, "one review of the token and one of its rights");
        assert_eq!(ask_at(&router, Some("guest"), path).await.0, 403);
        assert_eq!(count(), 4);
        tokio::time::advance(std::time::Duration::from_secs(11)).await;
        assert_eq!(ask_at(&router, Some("argo"), path).await.0, 200);
        assert_eq!(count(), 6);
    }

    #[tokio::test]
    async fn every_path_of_the_hooks_answers_in_json() {
        let router = router(Arc::new(Shelf::default()), Callers::new(api_server(Arc::default())));
        for (method, path, code) in [
            ("GET", "/", 404),
            ("GET", "/v1/gates/shop/checkout", 404),
            ("GET", "/v1/gates/shop/checkout/decision", 401),
            ("POST", "/v1/gates/shop/checkout/decision", 405),
            ("PUT", "/v1/analyses/shop/checkout/decision", 405),
            ("GET", "/v1/gates/%ff/checkout/decision?revision=a", 400),
            ("GET", "/v1/gates/shop/checkout/decision?revision=a&revision=b", 400),
        ] {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .body(Body::empty())
                .expect("a request");
            let answer = crate::serve::finished(router.clone())
                .oneshot(request)
                .await
                .expect("an answer");
            assert_eq!(answer.status().as_u16(), code, "{method} {path}");
            let body = to_bytes(answer.into_body(), 64 * 1024).await.expect("a body");
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            assert!(body["error"].is_string(), "{method} {path}: {body}");
        }
    }
}
