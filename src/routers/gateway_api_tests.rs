//! The calls, against an API server in memory that keeps one route.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics has failed"
)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use kube::Client;
use serde_json::{Value, json};

use super::gateway_api::GatewayApi;
use super::route_tests::{checkout, ending, mark, percent, route};
use super::{Error, Keep, RouteKind, RouteRef, Written, facts, hand_back_due};
use crate::decision::Split;

/// What somebody else does to the route just before a patch arrives, if anything.
type Meanwhile = Option<fn(&mut Value)>;

#[derive(Default)]
struct Server {
    route: Option<Value>,
    meanwhile: VecDeque<Meanwhile>,
    answers: VecDeque<(u16, Value)>,
    asked: Vec<String>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Server>>);

impl Fake {
    fn with(route: &Value) -> Self {
        let fake = Self::default();
        fake.0.lock().expect("lock").route = Some(route.clone());
        fake
    }

    fn router(&self) -> GatewayApi {
        let service = Router::new().fallback(answer).with_state(self.clone());
        GatewayApi::new(Client::new(service, "shop"), "shop")
    }

    fn meanwhile(&self, edits: impl IntoIterator<Item = Meanwhile>) {
        self.0.lock().expect("lock").meanwhile.extend(edits);
    }

    fn answer_next(&self, code: u16, body: Value) {
        self.0.lock().expect("lock").answers.push_back((code, body));
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("lock").asked)
    }

    fn live(&self) -> Value {
        self.0.lock().expect("lock").route.clone().expect("route")
    }
}

fn status(code: u16, reason: &str, message: &str, details: &Value) -> (u16, Value) {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
                      "reason": reason, "details": details, "code": code});
    (code, body)
}

/// What an API server of 1.36 says when the test of a JSON patch fails.
fn test_failed() -> (u16, Value) {
    status(
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
        &json!({}),
    )
}

async fn answer(State(fake): State<Fake>, method: Method, uri: Uri, body: String) -> Response {
    let mut server = fake.0.lock().expect("lock");
    server.asked.push(format!("{method} {uri}"));
    let (code, body) = server.answers.pop_front().unwrap_or_else(|| {
        let manager = uri.query().and_then(|query| query.split("fieldManager=").nth(1));
        server.handle(&method, &body, manager.unwrap_or_default())
    });
    (StatusCode::from_u16(code).expect("code"), axum::Json(body)).into_response()
}

impl Server {
    fn handle(&mut self, method: &Method, body: &str, manager: &str) -> (u16, Value) {
        let Some(live) = self.route.as_mut() else {
            return status(404, "NotFound", "not found", &json!({"name": "checkout"}));
        };
        if method == Method::PATCH {
            if let Some(edit) = self.meanwhile.pop_front().flatten() {
                edit(live);
                bump(live);
            }
            let patch: json_patch::Patch = serde_json::from_str(body).expect("a JSON patch");
            let mut next = live.clone();
            if json_patch::patch(&mut next, &patch).is_err() {
                return test_failed();
            }
            own(live, &mut next, manager);
            bump(&mut next);
            *live = next;
        }
        (200, live.clone())
    }
}

fn bump(route: &mut Value) {
    let version: u64 = route["metadata"]["resourceVersion"]
        .as_str()
        .and_then(|v| v.parse().ok())
        .expect("version");
    route["metadata"]["resourceVersion"] = (version + 1).to_string().into();
}

/// Gives the rules to the writer when their value changed, whatever the managed fields say.
fn own(before: &Value, after: &mut Value, writer: &str) {
    if before["spec"]["rules"] == after["spec"]["rules"] {
        return;
    }
    let list = after["metadata"]["managedFields"]
        .as_array_mut()
        .expect("managed fields");
    list.retain(|e| e["manager"] != "tollgate");
    for entry in list.iter_mut() {
        if let Some(spec) = entry["fieldsV1"]["f:spec"].as_object_mut() {
            spec.remove("f:rules");
        }
    }
    let updates = |entry: &&mut Value| entry["manager"] == writer && entry["operation"] == "Update";
    if let Some(entry) = list.iter_mut().find(updates) {
        entry["fieldsV1"]["f:spec"]["f:rules"] = json!({});
        return;
    }
    list.push(
        json!({"manager": writer, "operation": "Update", "apiVersion": "gateway.networking.k8s.io/v1",
                     "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:rules": {}}}}),
    );
}

fn http() -> RouteRef {
    RouteRef {
        kind: RouteKind::Http,
        name: "checkout".into(),
    }
}

fn started() -> Value {
    route("[{backendRefs: [{name: checkout}, {name: old, weight: 2}]}]")
}

/// The route without what changes with every write.
fn timeless(mut route: Value) -> Value {
    route["metadata"]["resourceVersion"] = Value::Null;
    route
}

/// Both halves of the way back, as the controller asks for them.
async fn put_back(router: &GatewayApi, route: &Value) -> Result<Written, Error> {
    let restored = router.restore(&http(), route, &checkout(), ending(Keep::Fence)).await?;
    let back = router
        .hand_back(&http(), &restored.route, &checkout(), Keep::Fence)
        .await?;
    Ok(Written {
        route: back.route,
        writes: restored.writes + back.writes,
    })
}

#[tokio::test]
async fn a_release_is_one_write_a_step_and_two_at_the_end() {
    let fake = Fake::with(&started());
    let router = fake.router();
    for weight in [1, 25, 100] {
        let read = router.read(&http()).await.expect("read").expect("route");
        let written = router
            .apply(&http(), &read, &checkout(), &mark(1, weight))
            .await
            .expect("written");
        assert_eq!(
            facts(Some(&written.route), &checkout()).split,
            Split::At(percent(weight))
        );
        assert_eq!((written.writes, written.route), (1, fake.live()));
    }
    let read = router.read(&http()).await.expect("read").expect("route");
    fake.asked();
    let restored = put_back(&router, &read).await.expect("restored");
    assert_eq!(restored.writes, 2);
    assert_eq!(timeless(fake.live()), timeless(started()));
    let path = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/checkout";
    let write = format!("PATCH {path}?&fieldManager=tollgate");
    assert_eq!(fake.asked(), [write.clone(), format!("GET {path}"), write]);
}

#[tokio::test]
async fn a_route_that_was_created_or_edited_is_put_back_and_handed_back_in_one_write() {
    let mut written = started();
    written["metadata"]["managedFields"][0]["manager"] = json!("kubectl-create");
    written["metadata"]["managedFields"][0]["operation"] = json!("Update");
    for keep in [Keep::Fence, Keep::Nothing] {
        let fake = Fake::with(&written);
        let router = fake.router();
        let split = router
            .apply(&http(), &fake.live(), &checkout(), &mark(1, 5))
            .await
            .expect("written")
            .route;
        fake.asked();
        let done = router
            .restore(&http(), &split, &checkout(), ending(keep))
            .await
            .expect("restored");
        assert_eq!((done.writes, hand_back_due(&fake.live(), &checkout())), (1, false));
        assert_eq!(timeless(fake.live()), timeless(written.clone()), "the rules are theirs");
        assert!(fake.asked()[0].ends_with("fieldManager=kubectl-create"));
    }
}

#[tokio::test]
async fn a_write_in_their_name_that_was_cut_off_is_repeated_and_finds_nothing_to_do() {
    let mut written = started();
    written["metadata"]["managedFields"][0]["operation"] = json!("Update");
    let fake = Fake::with(&written);
    let router = fake.router();
    let split = router
        .apply(&http(), &fake.live(), &checkout(), &mark(1, 5))
        .await
        .expect("written")
        .route;
    for writes in [1, 0] {
        let live = if writes == 1 { split.clone() } else { fake.live() };
        let done = router
            .restore(&http(), &live, &checkout(), ending(Keep::Nothing))
            .await
            .expect("restored");
        assert_eq!(done.writes, writes);
    }
    assert_eq!(timeless(fake.live()), timeless(written));
}

#[tokio::test]
async fn a_write_that_changes_nothing_is_not_sent() {
    let fake = Fake::with(&started());
    let router = fake.router();
    let once = router
        .apply(&http(), &fake.live(), &checkout(), &mark(1, 5))
        .await
        .expect("written");
    fake.asked();
    let twice = router
        .apply(&http(), &once.route, &checkout(), &mark(1, 5))
        .await
        .expect("written");
    assert_eq!((twice.writes, twice.route), (0, once.route));
    assert_eq!(fake.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_route_that_changed_since_it_was_read_is_not_written() {
    let fake = Fake::with(&started());
    let read = fake.live();
    fake.meanwhile([Some(
        (|r| r["spec"]["hostnames"] = json!(["new.example.com"])) as fn(&mut Value),
    )]);
    let error = fake
        .router()
        .apply(&http(), &read, &checkout(), &mark(1, 5))
        .await
        .expect_err("conflict");
    assert_eq!(error, Error::Conflict("HTTPRoute shop/checkout".into()));
    assert_eq!(facts(Some(&fake.live()), &checkout()).split, Split::AtRest);
    assert_eq!(fake.asked().len(), 1, "it is not repeated");
}

#[tokio::test]
async fn a_fenced_write_asks_the_api_server_nothing() {
    let fake = Fake::with(&started());
    let router = fake.router();
    let mut fence = mark(2, 0);
    fence.fenced = true;
    let fenced = router
        .apply(&http(), &fake.live(), &checkout(), &fence)
        .await
        .expect("fence")
        .route;
    fake.asked();
    for attempt in [1, 2] {
        let raise = router.apply(&http(), &fenced, &checkout(), &mark(attempt, 5)).await;
        assert!(
            matches!(
                raise,
                Err(Error::Fenced {
                    live: 2,
                    fenced: true,
                    ..
                })
            ),
            "{raise:?}"
        );
    }
    assert_eq!(fake.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn the_hand_back_reads_again_when_a_gateway_writes_its_status_meanwhile() {
    let fake = Fake::with(&started());
    let router = fake.router();
    let split = router
        .apply(&http(), &fake.live(), &checkout(), &mark(1, 5))
        .await
        .expect("written")
        .route;
    fake.asked();
    let status: Meanwhile = Some(|r| r["status"] = json!({"parents": []}));
    fake.meanwhile([None, status, status]);
    let done = put_back(&router, &split).await.expect("restored");
    assert_eq!(done.writes, 2);
    let verbs: Vec<_> = fake
        .asked()
        .iter()
        .map(|a| a.split(' ').next().expect("verb").to_owned())
        .collect();
    assert_eq!(verbs, ["PATCH", "GET", "PATCH", "GET", "PATCH", "GET", "PATCH"]);
    let mut expected = started();
    expected["status"] = json!({"parents": []});
    assert_eq!(timeless(fake.live()), timeless(expected));
}

#[tokio::test]
async fn a_hand_back_that_never_comes_through_is_done_by_the_next_restore() {
    let fake = Fake::with(&started());
    let router = fake.router();
    let split = router
        .apply(&http(), &fake.live(), &checkout(), &mark(1, 5))
        .await
        .expect("written")
        .route;
    let status: Meanwhile = Some(|r| r["status"] = json!({"parents": []}));
    fake.meanwhile([None, status, status, status, status, status]);
    let error = put_back(&router, &split).await.expect_err("a busy route");
    assert_eq!(error, Error::Conflict("HTTPRoute shop/checkout".into()));
    assert_eq!(
        facts(Some(&fake.live()), &checkout()).split,
        Split::AtRest,
        "the traffic is where it belongs"
    );
    assert!(hand_back_due(&fake.live(), &checkout()));
    let done = put_back(&router, &fake.live()).await.expect("restored");
    assert_eq!((done.writes, hand_back_due(&fake.live(), &checkout())), (1, false));
}

#[tokio::test]
async fn putting_the_rules_back_is_not_repeated_after_a_conflict() {
    let fake = Fake::with(&started());
    let router = fake.router();
    let split = router
        .apply(&http(), &fake.live(), &checkout(), &mark(1, 5))
        .await
        .expect("written")
        .route;
    fake.asked();
    fake.meanwhile([Some(
        (|r| r["spec"]["hostnames"] = json!(["new.example.com"])) as fn(&mut Value),
    )]);
    let error = put_back(&router, &split).await.expect_err("conflict");
    assert_eq!(error, Error::Conflict("HTTPRoute shop/checkout".into()));
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn what_the_api_server_refuses_is_told_with_its_words() {
    let causes = json!({"name": "checkout", "causes": [{"reason": "FieldValueInvalid", "message": "too big"}]});
    for (answer, refused) in [
        (
            status(403, "Forbidden", "denied by policy split.tollgate.dev", &json!({})),
            Some((403, "denied by policy split.tollgate.dev")),
        ),
        (
            status(422, "Invalid", "spec.rules[0]: too big", &causes),
            Some((422, "spec.rules[0]: too big")),
        ),
        (
            status(429, "TooManyRequests", "slow down", &json!({})),
            Some((429, "slow down")),
        ),
        (
            status(409, "Conflict", "the object has been modified", &json!({})),
            None,
        ),
        (test_failed(), None),
    ] {
        let fake = Fake::with(&started());
        fake.answer_next(answer.0, answer.1);
        let place = "HTTPRoute shop/checkout".to_owned();
        let expected = match refused {
            Some((status, message)) => Error::Refused {
                place,
                status,
                message: message.into(),
            },
            None => Error::Conflict(place),
        };
        let error = fake
            .router()
            .apply(&http(), &fake.live(), &checkout(), &mark(1, 5))
            .await
            .expect_err("refused");
        assert_eq!(error, expected);
        assert_eq!(fake.asked().len(), 1, "it is not repeated");
    }
}

#[tokio::test]
async fn a_route_that_is_not_there_is_no_error_to_read_and_one_to_write() {
    let fake = Fake::default();
    assert_eq!(fake.router().read(&http()).await, Ok(None));
    let error = fake
        .router()
        .apply(&http(), &started(), &checkout(), &mark(1, 5))
        .await
        .expect_err("gone");
    assert_eq!(error, Error::Gone("HTTPRoute shop/checkout".into()));
}

#[tokio::test]
async fn a_grpc_route_is_written_at_its_own_place() {
    let fake = Fake::with(&started());
    let grpc = RouteRef {
        kind: RouteKind::Grpc,
        name: "checkout".into(),
    };
    fake.router()
        .apply(&grpc, &fake.live(), &checkout(), &mark(1, 5))
        .await
        .expect("written");
    assert!(fake.asked().concat().contains("/namespaces/shop/grpcroutes/checkout?"));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_is_given_up_after_5_seconds() {
    let silent = Router::new().fallback(std::future::pending::<Response>);
    let router = GatewayApi::new(Client::new(silent, "shop"), "shop");
    let begun = tokio::time::Instant::now();
    let error = router
        .apply(&http(), &started(), &checkout(), &mark(1, 5))
        .await
        .expect_err("silence");
    assert_eq!(error, Error::Timeout("HTTPRoute shop/checkout".into(), 5));
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn an_answer_that_is_no_json_says_that_the_write_may_have_happened() {
    let odd = Router::new().fallback(|| async { "<html>" });
    let router = GatewayApi::new(Client::new(odd, "shop"), "shop");
    let error = router.read(&http()).await.expect_err("not JSON");
    assert!(
        matches!(&error, Error::Unreachable { place, .. } if place == "HTTPRoute shop/checkout"),
        "{error}"
    );
}
