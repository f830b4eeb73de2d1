//! The emergency edit: weight 0 for a canary, written by a person when the operator cannot.
//!
//! It is the one edit of a split route that admission takes from anybody: the same backends in the
//! same places, the canary's weight 0, and its service gets what the canary had.

use std::fmt::Write as _;

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde::Serialize;
use serde_json::{Value, json};

use super::cluster::{CALL, Cluster, Question, Trouble};
use super::snapshot::{Kind, text};
use crate::decision::SafeTarget;
use crate::routers::{Pair, RouteKind, RouteRef, facts};

/// The heaviest weight that a route takes.
const HEAVIEST: i64 = 1_000_000;
/// How often the edit is tried when somebody else writes the route meanwhile.
const TRIES: usize = 5;

/// What has to be written on one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// A JSON patch.
    pub operations: Vec<Value>,
    /// Rules in which nothing else has any weight: their requests will fail.
    pub unserved: Vec<usize>,
}

/// What became of one route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// `HTTPRoute` or `GRPCRoute`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether no request is sent to the canary any more.
    pub done: bool,
    /// What happened.
    pub message: String,
    /// The same edit for kubectl.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubectl: Option<String>,
}

/// The edit of a route; nothing when the canary has no weight in it.
#[must_use]
pub fn edit(route: &Value, pair: &Pair) -> Option<Edit> {
    let mut operations = Vec::new();
    let mut unserved = Vec::new();
    let rules = route.pointer("/spec/rules").and_then(Value::as_array);
    for (at, rule) in rules.into_iter().flatten().enumerate() {
        let backends = rule.get("backendRefs").and_then(Value::as_array);
        let backends = backends.map_or(&[][..], Vec::as_slice);
        let mut weights: Vec<i64> = backends.iter().map(weight).collect();
        for (canary, found) in backends.iter().enumerate() {
            let had = weights.get(canary).copied().unwrap_or(0);
            if text(found, "/name") != pair.canary || had == 0 {
                continue;
            }
            if let Some(stable) = stable_of(backends, found, pair) {
                give(&mut weights, stable, had);
            }
            set(&mut weights, canary, 0);
        }
        let changed = weights
            .iter()
            .zip(backends)
            .any(|(new, backend)| *new != weight(backend));
        if changed && weights.iter().all(|weight| *weight == 0) {
            unserved.push(at);
        }
        for (place, (new, backend)) in weights.iter().zip(backends).enumerate() {
            if *new != weight(backend) {
                let path = format!("/spec/rules/{at}/backendRefs/{place}");
                operations.push(json!({"op": "test", "path": format!("{path}/name"), "value": text(backend, "/name")}));
                operations.push(json!({"op": "add", "path": format!("{path}/weight"), "value": new}));
            }
        }
    }
    (!operations.is_empty()).then_some(Edit { operations, unserved })
}

fn weight(backend: &Value) -> i64 {
    backend.get("weight").and_then(Value::as_i64).unwrap_or(1)
}

/// The service beside a canary: the one with its port, else any.
fn stable_of(backends: &[Value], canary: &Value, pair: &Pair) -> Option<usize> {
    let of = |same_port: bool| {
        backends.iter().position(|backend| {
            text(backend, "/name") == pair.service && (!same_port || backend.get("port") == canary.get("port"))
        })
    };
    of(true).or_else(|| of(false))
}

fn give(weights: &mut [i64], to: usize, more: i64) {
    if let Some(weight) = weights.get_mut(to) {
        *weight = weight.saturating_add(more).min(HEAVIEST);
    }
}

fn set(weights: &mut [i64], at: usize, value: i64) {
    if let Some(weight) = weights.get_mut(at) {
        *weight = value;
    }
}

/// The same edit for kubectl.
#[must_use]
pub fn kubectl(at: &RouteRef, namespace: &str, operations: &[Value]) -> String {
    let patch = Value::Array(operations.to_vec());
    format!(
        "kubectl patch {} {} -n {namespace} --type=json -p '{patch}'",
        at.kind.plural(),
        at.name
    )
}

/// Reads every route and says what kubectl would have to do; nothing is written.
pub async fn advise(cluster: &Cluster, routes: &[RouteRef], pair: &Pair) -> Vec<String> {
    let mut lines = Vec::new();
    for at in routes {
        if let Ok(route) = read(cluster, at, pair).await
            && let Some(edit) = edit(&route, pair)
        {
            lines.push(kubectl(at, &pair.namespace, &edit.operations));
        }
    }
    lines
}

/// Takes all traffic from the canary on every route; a route that fails does not stop the others.
pub async fn carry_out(cluster: &Cluster, routes: &[RouteRef], pair: &Pair) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for at in routes {
        let mut outcome = Outcome {
            kind: at.kind.word().to_owned(),
            name: at.name.clone(),
            done: false,
            message: String::new(),
            kubectl: None,
        };
        match on_route(cluster, at, pair, &mut outcome.kubectl).await {
            Ok(message) => {
                outcome.done = true;
                outcome.message = message;
            }
            Err(error) => outcome.message = error.to_string(),
        }
        outcomes.push(outcome);
    }
    outcomes
}

async fn on_route(
    cluster: &Cluster,
    at: &RouteRef,
    pair: &Pair,
    command: &mut Option<String>,
) -> Result<String, Trouble> {
    for tried in 1.. {
        let route = read(cluster, at, pair).await?;
        let Some(edit) = edit(&route, pair) else {
            return Ok(format!("{} has no weight here", pair.canary));
        };
        *command = Some(kubectl(at, &pair.namespace, &edit.operations));
        if is_committed(&route, pair) {
            return Err(Trouble::Refused(format!(
                "past the commit point: {} carries the traffic while {} is being brought to the new revision, and may \
                 have no pods of the old one; put the old template back instead, or use the kubectl line below",
                pair.canary, pair.service
            )));
        }
        match write(cluster, at, pair, &edit).await {
            Ok(written) if self::edit(&written, pair).is_none() => return Ok(told(pair, &edit)),
            Ok(_) if tried >= TRIES => {
                return Err(Trouble::Refused(
                    "the cluster took the edit, but put the weight back".to_owned(),
                ));
            }
            Err(error) if tried >= TRIES || !matches!(error, Trouble::Refused(_)) => return Err(error),
            _ => {}
        }
    }
    Ok(String::new())
}

fn told(pair: &Pair, edit: &Edit) -> String {
    let mut text = format!("{} has weight 0, {} has its share", pair.canary, pair.service);
    if !edit.unserved.is_empty() {
        let _ = write!(
            text,
            "; nothing serves rule {} now",
            edit.unserved
                .iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    text
}

/// After the commit point stable may be half rolled out: then the canary is the safe place.
fn is_committed(route: &Value, pair: &Pair) -> bool {
    let mark = facts(Some(route), pair).mark;
    mark.is_some_and(|mark| mark.safe == SafeTarget::Canary)
}

fn api(cluster: &Cluster, at: &RouteRef, pair: &Pair) -> Api<DynamicObject> {
    let kind = match at.kind {
        RouteKind::Http => Kind::HttpRoute,
        RouteKind::Grpc => Kind::GrpcRoute,
    };
    Api::namespaced_with(cluster.client.clone(), &pair.namespace, &kind.resource())
}

async fn read(cluster: &Cluster, at: &RouteRef, pair: &Pair) -> Result<Value, Trouble> {
    let question = Question {
        verb: "get",
        resource: at.kind.plural(),
        namespace: &pair.namespace,
    };
    let api = api(cluster, at, pair);
    let route = cluster.bounded(CALL, question, api.get(&at.name)).await?;
    serde_json::to_value(route).map_err(|error| Trouble::Other(error.to_string()))
}

async fn write(cluster: &Cluster, at: &RouteRef, pair: &Pair, edit: &Edit) -> Result<Value, Trouble> {
    let question = Question {
        verb: "patch",
        resource: at.kind.plural(),
        namespace: &pair.namespace,
    };
    let operations = serde_json::from_value(Value::Array(edit.operations.clone()))
        .map_err(|error| Trouble::Other(error.to_string()))?;
    let params = PatchParams {
        field_manager: Some("tollgate-by-hand".to_owned()),
        ..PatchParams::default()
    };
    let api = api(cluster, at, pair);
    let call = async { api.patch(&at.name, &params, &Patch::<()>::Json(operations)).await };
    let route = cluster.bounded(CALL, question, call).await?;
    serde_json::to_value(route).map_err(|error| Trouble::Other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Pair {
        Pair::new("checkout", "shop", "checkout")
    }

    fn route(rules: &Value) -> Value {
        json!({"metadata": {"name": "checkout"}, "spec": {"rules": rules}})
    }

    /// Weights after the edit, rule by rule.
    fn weights(rules: &Value) -> Option<Vec<Vec<i64>>> {
        let mut route = route(rules);
        let edit = edit(&route, &pair())?;
        let patch: json_patch::Patch = serde_json::from_value(Value::Array(edit.operations)).expect("a JSON patch");
        json_patch::patch(&mut route, &patch).expect("applies to the route it was made for");
        let rules = route.pointer("/spec/rules").and_then(Value::as_array).expect("rules");
        let of = |rule: &Value| {
            let backends = rule["backendRefs"].as_array().expect("backends");
            backends.iter().map(weight).collect()
        };
        Some(rules.iter().map(of).collect())
    }

    #[test]
    fn the_canary_gets_nothing_and_its_service_gets_the_canarys_share() {
        let cases = [
            (
                "a step",
                json!([{"backendRefs": [{"name": "checkout", "weight": 95}, {"name": "checkout-canary", "weight": 5}]}]),
                Some(vec![vec![100, 0]]),
            ),
            (
                "all on the canary: stable is served again",
                json!([{"backendRefs": [{"name": "checkout", "weight": 0}, {"name": "checkout-canary", "weight": 100}]}]),
                Some(vec![vec![100, 0]]),
            ),
            (
                "an absent weight counts 1",
                json!([{"backendRefs": [{"name": "checkout"}, {"name": "checkout-canary"}]}]),
                Some(vec![vec![2, 0]]),
            ),
            (
                "foreign backends keep their weight",
                json!([{"backendRefs": [
                    {"name": "legacy", "weight": 300},
                    {"name": "checkout", "weight": 75}, {"name": "checkout-canary", "weight": 25}]}]),
                Some(vec![vec![300, 100, 0]]),
            ),
            (
                "each port's canary gives to the service of that port",
                json!([{"backendRefs": [
                    {"name": "checkout", "port": 80, "weight": 90}, {"name": "checkout-canary", "port": 80, "weight": 10},
                    {"name": "checkout", "port": 81, "weight": 45}, {"name": "checkout-canary", "port": 81, "weight": 5}]}]),
                Some(vec![vec![100, 0, 50, 0]]),
            ),
            (
                "every rule",
                json!([
                    {"backendRefs": [{"name": "other"}]},
                    {"backendRefs": [{"name": "checkout", "weight": 50}, {"name": "checkout-canary", "weight": 50}]}]),
                Some(vec![vec![1], vec![100, 0]]),
            ),
            (
                "nothing to do",
                json!([{"backendRefs": [{"name": "checkout", "weight": 100}, {"name": "checkout-canary", "weight": 0}]}]),
                None,
            ),
            ("at rest", json!([{"backendRefs": [{"name": "checkout"}]}]), None),
        ];
        for (name, rules, wanted) in cases {
            assert_eq!(weights(&rules), wanted, "{name}");
        }
    }

    #[test]
    fn a_rule_that_nothing_serves_any_more_is_named() {
        let rules = json!([{"backendRefs": [{"name": "checkout-canary", "weight": 100}]}]);
        let edit = edit(&route(&rules), &pair()).expect("an edit");
        assert_eq!(edit.unserved, [0]);
        assert!(told(&pair(), &edit).ends_with("nothing serves rule 0 now"));
    }

    #[test]
    fn the_kubectl_line_says_the_same() {
        let rules =
            json!([{"backendRefs": [{"name": "checkout", "weight": 95}, {"name": "checkout-canary", "weight": 5}]}]);
        let edit = edit(&route(&rules), &pair()).expect("an edit");
        let at = RouteRef {
            kind: RouteKind::Http,
            name: "checkout".into(),
        };
        assert_eq!(
            kubectl(&at, "shop", &edit.operations),
            "kubectl patch httproutes checkout -n shop --type=json -p '[\
             {\"op\":\"test\",\"path\":\"/spec/rules/0/backendRefs/0/name\",\"value\":\"checkout\"},\
             {\"op\":\"add\",\"path\":\"/spec/rules/0/backendRefs/0/weight\",\"value\":100},\
             {\"op\":\"test\",\"path\":\"/spec/rules/0/backendRefs/1/name\",\"value\":\"checkout-canary\"},\
             {\"op\":\"add\",\"path\":\"/spec/rules/0/backendRefs/1/weight\",\"value\":0}]'"
        );
    }
}
