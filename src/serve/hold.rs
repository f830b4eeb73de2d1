//! The hold as a mutating webhook, for API servers that have no MutatingAdmissionPolicy.
//!
//! `POST /admission/hold` takes an `AdmissionReview` and answers by the same rule as the policy in
//! [`crate::api::admission`]. It reads nothing and remembers nothing, so every replica answers
//! alike, and whoever calls it learns only the rule. What it cannot read is refused.

use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use axum::{Json, Router, body::Bytes};
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use serde_json::{Value, json};

use crate::api::labels::{GATE, HANDOVER, HELD, OPERATOR_USER};

/// Where the API server asks.
pub const PATH: &str = "/admission/hold";

/// The largest review, in bytes. It carries a Deployment twice, and the API server takes none
/// above 3 MiB.
const REVIEW_MAX: usize = 8 * 1024 * 1024;

/// The path of the webhook; served with TLS on a port of its own.
pub fn router() -> Router {
    let review = async |body: Bytes| Json(answer(&body));
    Router::new().route(PATH, post(review).layer(DefaultBodyLimit::max(REVIEW_MAX)))
}

/// Answers one review.
fn answer(body: &[u8]) -> AdmissionReview<DynamicObject> {
    let review = serde_json::from_slice::<AdmissionReview<DynamicObject>>(body);
    let read = review.map_err(|error| error.to_string());
    let request = read.and_then(|review| {
        let request: Result<AdmissionRequest<DynamicObject>, _> = review.try_into();
        request.map_err(|_| "it has no request".to_owned())
    });
    match request {
        Ok(request) => decide(&request).into_review(),
        Err(why) => {
            let mut refused = refusal(AdmissionResponse::invalid(""), &why);
            refused.uid = uid(body);
            refused.into_review()
        }
    }
}

/// The API server shows a refusal's reason only when the answer names the request.
fn uid(body: &[u8]) -> String {
    let review: Value = serde_json::from_slice(body).unwrap_or_default();
    review["request"]["uid"].as_str().unwrap_or_default().to_owned()
}

fn refusal(response: AdmissionResponse, why: &str) -> AdmissionResponse {
    let mut refused = response.deny(format!(
        "the hold of tollgate.dev cannot read this change, so it is refused: {why}"
    ));
    refused.result.code = 400;
    refused
}

fn decide(request: &AdmissionRequest<DynamicObject>) -> AdmissionResponse {
    let response = AdmissionResponse::from(request);
    if request.operation != Operation::Update {
        return response;
    }
    let (Some(old), Some(new)) = (&request.old_object, &request.object) else {
        return refusal(response, "an update must carry object and oldObject");
    };
    let user = request.user_info.username.as_deref().unwrap_or_default();
    let held = hold(old, new, user).map(|patch| patch.map(|patch| response.clone().with_patch(patch)));
    match held {
        Ok(None) => response,
        Ok(Some(Ok(patched))) => patched,
        Ok(Some(Err(error))) => refusal(response, &error.to_string()),
        Err(why) => refusal(response, why),
    }
}

/// What is added to a write of a Deployment by `user`; `None` when it goes through as it is.
///
/// On an adopted Deployment the write that changes the pod template pauses it and labels it held;
/// pause and our labels stay, whatever later writes say, until the operator takes them off.
///
/// # Errors
/// When either object has no pod template: then nobody knows whether it changes.
pub fn hold(old: &DynamicObject, new: &DynamicObject, user: &str) -> Result<Option<Patch>, &'static str> {
    let Some(gate) = old.labels().get(GATE).filter(|_| user != OPERATOR_USER) else {
        return Ok(None);
    };
    let changed = template(old)? != template(new)?;
    let held = changed || old.labels().contains_key(HELD);
    let handover = old.labels().get(HANDOVER).map(|until| (HANDOVER, until));
    let kept = [Some((GATE, gate)), held.then_some((HELD, gate)), handover];
    let mut patch = vec![];
    if new.metadata.labels.is_none() {
        patch.push(add(["metadata", "labels"], json!({})));
    }
    for (label, value) in kept.into_iter().flatten() {
        if new.labels().get(label) != Some(value) {
            patch.push(add(["metadata", "labels", label], json!(value)));
        }
    }
    if held && new.data["spec"]["paused"] != json!(true) {
        patch.push(add(["spec", "paused"], json!(true)));
    }
    Ok((!patch.is_empty()).then_some(Patch(patch)))
}

fn template(deployment: &DynamicObject) -> Result<&Value, &'static str> {
    let template = deployment.data.pointer("/spec/template");
    template
        .filter(|template| template.is_object())
        .ok_or("it has no pod template")
}

fn add<const N: usize>(path: [&str; N], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation {
        path: PointerBuf::from_tokens(path),
        value,
    })
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, StatusCode};
    use tower::ServiceExt;

    use super::*;

    const PERSON: &str = "jane";

    /// A Deployment at rest under gate `checkout`, with the given image.
    fn adopted(image: &str) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "checkout", "namespace": "shop", "labels": {"app": "checkout", GATE: "checkout"}},
            "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "app", "image": image}]}}},
        })
    }

    /// The same while its template is held.
    fn held(image: &str) -> Value {
        let mut held = adopted(image);
        held["metadata"]["labels"][HELD] = json!("checkout");
        held["spec"]["paused"] = json!(true);
        held
    }

    fn with(mut object: Value, pointer: &str, value: Value) -> Value {
        let (parent, field) = pointer.rsplit_once('/').expect("a path");
        object.pointer_mut(parent).expect("a parent")[field.replace("~1", "/")] = value;
        object
    }

    fn without(mut object: Value, parent: &str, field: &str) -> Value {
        let parent = object.pointer_mut(parent).and_then(Value::as_object_mut);
        parent.expect("a parent").remove(field);
        object
    }

    fn review(old: &Value, new: &Value, user: &str) -> Value {
        let kind = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
        let resource = json!({"group": "apps", "version": "v1", "resource": "deployments"});
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u-1", "kind": kind, "resource": resource, "operation": "UPDATE",
            "userInfo": {"username": user}, "object": new, "oldObject": old,
        }})
    }

    fn ask(review: &Value) -> Value {
        json!(answer(review.to_string().as_bytes()))["response"].take()
    }

    /// What the API server goes on with: the new object, patched as the answer says.
    fn after(old: &Value, new: &Value, user: &str) -> Value {
        let response = ask(&review(old, new, user));
        assert_eq!((&response["uid"], &response["allowed"]), (&json!("u-1"), &json!(true)));
        let mut result = new.clone();
        if let Some(patch) = response.get("patch") {
            assert_eq!(response["patchType"], "JSONPatch");
            let bytes: Vec<u8> = serde_json::from_value(patch.clone()).expect("bytes");
            let patch: Patch = serde_json::from_slice(&bytes).expect("a patch");
            json_patch::patch(&mut result, &patch).expect("applies");
        }
        result
    }

    #[test]
    fn no_unproven_template_gets_past_the_hold() {
        let bare = |image| without(adopted(image), "/metadata", "labels");
        let in_handover = with(
            adopted("v1"),
            "/metadata/labels/tollgate.dev~1handover",
            json!("1900000000"),
        );
        let table = [
            // what someone tries, before, what they write, what comes of it
            ("the same manifest at rest", adopted("v1"), adopted("v1"), adopted("v1")),
            (
                "scaling at rest",
                adopted("v1"),
                with(adopted("v1"), "/spec/replicas", json!(5)),
                with(adopted("v1"), "/spec/replicas", json!(5)),
            ),
            ("a new image", adopted("v1"), adopted("v2"), held("v2")),
            ("the same again", held("v2"), held("v2"), held("v2")),
            (
                "resuming",
                held("v2"),
                without(held("v2"), "/spec", "paused"),
                held("v2"),
            ),
            (
                "resuming in so many words",
                held("v2"),
                with(held("v2"), "/spec/paused", json!(false)),
                held("v2"),
            ),
            (
                "taking the held label off",
                held("v2"),
                with(adopted("v2"), "/spec/paused", json!(true)),
                held("v2"),
            ),
            (
                "taking the gate label off at rest",
                adopted("v1"),
                without(adopted("v1"), "/metadata/labels", GATE),
                adopted("v1"),
            ),
            (
                "another gate's name in the label",
                adopted("v1"),
                with(adopted("v1"), "/metadata/labels/tollgate.dev~1gate", json!("other")),
                adopted("v1"),
            ),
            (
                "taking every label off while held",
                held("v2"),
                bare("v2"),
                without(held("v2"), "/metadata/labels", "app"),
            ),
            (
                "replacing it with a bare manifest and a new image",
                adopted("v1"),
                bare("v2"),
                without(held("v2"), "/metadata/labels", "app"),
            ),
            (
                "a forced apply of a new image with paused: false",
                held("v2"),
                with(held("v3"), "/spec/paused", json!(false)),
                held("v3"),
            ),
            ("going back while held", held("v2"), held("v1"), held("v1")),
            (
                "scaling while held",
                held("v2"),
                with(held("v2"), "/spec/replicas", json!(4)),
                with(held("v2"), "/spec/replicas", json!(4)),
            ),
            (
                "taking the handover label off",
                in_handover.clone(),
                adopted("v1"),
                in_handover,
            ),
        ];
        for (attempt, old, new, expected) in table {
            let result = after(&old, &new, PERSON);
            assert_eq!(result, expected, "{attempt}");
            assert_eq!(after(&old, &result, PERSON), result, "{attempt}, asked a second time");
        }
    }

    #[test]
    fn what_is_not_adopted_and_what_the_operator_writes_goes_through_untouched() {
        let plain = |image| without(adopted(image), "/metadata", "labels");
        for (attempt, old, new, user) in [
            ("a Deployment without gate", plain("v1"), plain("v2"), PERSON),
            ("its adoption by hand", plain("v1"), adopted("v2"), PERSON),
            ("the release", held("v2"), adopted("v2"), OPERATOR_USER),
            ("giving it up", held("v2"), plain("v2"), OPERATOR_USER),
        ] {
            assert_eq!(ask(&review(&old, &new, user)).get("patch"), None, "{attempt}");
        }
        let other = "system:serviceaccount:shop:tollgate";
        assert_eq!(
            after(&held("v2"), &adopted("v2"), other),
            held("v2"),
            "another account of that name"
        );
    }

    #[test]
    fn a_write_without_a_user_is_held_like_any_other() {
        let mut nameless = review(&adopted("v1"), &adopted("v2"), PERSON);
        nameless["request"]["userInfo"] = json!({});
        assert!(ask(&nameless).get("patch").is_some());
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let good = || review(&adopted("v1"), &adopted("v2"), PERSON);
        let object = |key| without(good(), "/request", key);
        for (what, review, uid) in [
            ("no review", json!({"hello": 1}), ""),
            ("no request", without(good(), "", "request"), ""),
            (
                "labels that are a number",
                with(good(), "/request/object/metadata/labels", json!(7)),
                "u-1",
            ),
            ("no old object", object("oldObject"), "u-1"),
            ("no new object", object("object"), "u-1"),
            ("no template", with(good(), "/request/object/spec", json!({})), "u-1"),
            (
                "no old template",
                with(good(), "/request/oldObject/spec", json!({})),
                "u-1",
            ),
        ] {
            let response = ask(&review);
            assert_eq!(response["allowed"], false, "{what}");
            assert_eq!(response["uid"], uid, "{what}");
            let message = response["status"]["message"].as_str().unwrap_or_default();
            assert!(message.contains("hold of tollgate.dev"), "{what}: {message}");
        }
    }

    #[tokio::test]
    async fn a_review_may_be_as_large_as_two_deployments_and_no_larger() {
        let send = async |bytes: usize| {
            let mut review = review(&adopted("v1"), &adopted("v2"), PERSON).to_string();
            review.extend(std::iter::repeat_n(' ', bytes - review.len()));
            let request = Request::post(PATH).body(Body::from(review)).expect("a request");
            let answer = router().oneshot(request).await.expect("an answer");
            let status = answer.status();
            (status, to_bytes(answer.into_body(), 1 << 20).await.expect("a body"))
        };
        let (status, body) = send(REVIEW_MAX).await;
        assert_eq!(status, StatusCode::OK);
        let review: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(review["kind"], "AdmissionReview");
        assert_eq!(
            (&review["response"]["allowed"], &review["response"]["patchType"]),
            (&json!(true), &json!("JSONPatch"))
        );
        assert_eq!(send(REVIEW_MAX + 1).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
