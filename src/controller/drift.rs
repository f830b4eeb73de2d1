//! What has to be written so that a live object says what it should, and nothing when it does.
//!
//! Objects are patched field by field instead of applied: server-side apply refuses lists with
//! a repeated key, and templates that name an environment variable twice are not rare. The API
//! server fills in defaults and webhooks add to objects, so more than was asked for is no
//! difference; a field that does differ is written whole.

use serde_json::{Map, Value, json};

/// The field manager of what we make and own.
pub const MANAGER: &str = "tollgate";

/// One request to the API server.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Create this object.
    Create(Value),
    /// Apply this body server-side, with force, as this field manager.
    Apply {
        /// The field manager.
        manager: String,
        /// Everything that this manager wants to own.
        body: Value,
    },
    /// Send these operations as a JSON patch (RFC 6902), as this field manager.
    Patch {
        /// The field manager.
        manager: String,
        /// The operations; never empty.
        operations: Vec<Value>,
    },
}

/// Why an object of ours cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Occupied {
    /// The name is taken.
    #[error("{kind} {name} exists and does not belong to this gate: rename or remove it")]
    Foreign {
        /// The object's kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The last one is still going away.
    #[error("{kind} {name} is still being deleted")]
    Leaving {
        /// The object's kind.
        kind: String,
        /// Its name.
        name: String,
    },
}

/// What brings the live object to the wanted one: an object that we own, with the gate as its
/// controlling owner. `None` when nothing differs. Takes the live object as it was read; fields
/// that are not wanted are left alone.
///
/// # Errors
/// When the live object belongs to somebody else or is being deleted.
pub fn write(wanted: &Value, live: Option<&Value>) -> Result<Option<Write>, Occupied> {
    let Some(live) = live else {
        return Ok(Some(Write::Create(wanted.clone())));
    };
    let kind = text(wanted, "/kind");
    let name = text(wanted, "/metadata/name");
    if owner(live).is_none() || owner(live) != owner(wanted) {
        return Err(Occupied::Foreign { kind, name });
    }
    if !live["metadata"]["deletionTimestamp"].is_null() {
        return Err(Occupied::Leaving { kind, name });
    }
    let mut operations = Vec::new();
    for map in ["labels", "annotations"] {
        entries(map, &wanted["metadata"][map], &live["metadata"][map], &mut operations);
    }
    fields(&wanted["spec"], &live["spec"], &mut operations);
    Ok((!operations.is_empty()).then(|| Write::Patch {
        manager: MANAGER.to_owned(),
        operations,
    }))
}

/// The uid of the controlling owner.
fn owner(object: &Value) -> Option<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)?["uid"].as_str()
}

fn text(object: &Value, pointer: &str) -> String {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn entries(map: &str, wanted: &Value, live: &Value, operations: &mut Vec<Value>) {
    let Some(wanted) = wanted.as_object() else {
        return;
    };
    if live.is_null() && !wanted.is_empty() {
        operations.push(json!({"op": "add", "path": format!("/metadata/{map}"), "value": wanted}));
        return;
    }
    for (key, value) in wanted.iter().filter(|(key, value)| live.get(*key) != Some(value)) {
        let path = format!("/metadata/{map}/{}", escaped(key));
        operations.push(json!({"op": "add", "path": path, "value": value}));
    }
}

fn fields(wanted: &Value, live: &Value, operations: &mut Vec<Value>) {
    let none = Map::new();
    let wanted = wanted.as_object().unwrap_or(&none);
    let differs = |(key, value): &(&String, &Value)| match key.as_str() {
        // One label more would take pods away from a Service.
        "selector" => live["selector"] != **value,
        // Somebody's edit of the template is what puts our own hold on the canary.
        "template" => !includes(&live["template"], value) || live["paused"] == true,
        key => !includes(&live[key], value),
    };
    for (key, value) in wanted.iter().filter(differs) {
        operations.push(json!({"op": "add", "path": format!("/spec/{}", escaped(key)), "value": value}));
    }
}

/// Whether everything wanted is there. Lists keep their order and may have more in between.
fn includes(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, value)| includes(live.get(key).unwrap_or(&Value::Null), value)),
        (Value::Array(live), Value::Array(wanted)) => {
            let mut rest = live.iter();
            wanted.iter().all(|value| rest.any(|item| includes(item, value)))
        }
        (Value::Null, wanted) => is_absent(wanted),
        (live, wanted) => live == wanted,
    }
}

/// Whether the API server leaves a field with this value out.
fn is_absent(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(_) | Value::String(_) | Value::Bool(true) => false,
    }
}

/// A key as part of a JSON pointer (RFC 6901).
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Value {
        json!({
            "kind": "Deployment",
            "metadata": {
                "name": "checkout-canary",
                "labels": {"tollgate.dev/gate": "checkout"},
                "ownerReferences": [{"uid": "g1", "controller": true}],
            },
            "spec": {
                "replicas": 2, "paused": false, "selector": {"matchLabels": {"a": "b"}},
                "template": {"spec": {"containers": [{"name": "app", "image": "v2", "env": [
                    {"name": "A", "value": "1"}, {"name": "A", "value": "2"}], "resources": {}}]}},
            },
        })
    }

    /// The same as an API server and a webhook would have stored it.
    fn live() -> Value {
        let mut live = wanted();
        live["metadata"]["uid"] = json!("d1");
        live["metadata"]["labels"]["somebody"] = json!("else");
        live["spec"]["progressDeadlineSeconds"] = json!(600);
        live["spec"].as_object_mut().expect("a spec").remove("paused");
        let containers = &mut live["spec"]["template"]["spec"]["containers"];
        containers[0]["imagePullPolicy"] = json!("IfNotPresent");
        containers[0].as_object_mut().expect("a container").remove("resources");
        containers
            .as_array_mut()
            .expect("containers")
            .insert(0, json!({"name": "injected"}));
        live["status"] = json!({"replicas": 2});
        live
    }

    fn paths(write: Option<Write>) -> Vec<String> {
        match write {
            None => Vec::new(),
            Some(Write::Patch { operations, .. }) => {
                operations.iter().map(|operation| text(operation, "/path")).collect()
            }
            Some(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_does_not_exist_is_created_and_what_is_right_is_left_alone() {
        assert_eq!(write(&wanted(), None), Ok(Some(Write::Create(wanted()))));
        assert_eq!(write(&wanted(), Some(&wanted())), Ok(None));
        assert_eq!(write(&wanted(), Some(&live())), Ok(None));
    }

    #[test]
    fn each_difference_is_one_operation() {
        let mut without_labels = live();
        without_labels["metadata"]
            .as_object_mut()
            .expect("metadata")
            .remove("labels");
        let change = |pointer: &str, value: Value| {
            let mut changed = live();
            *changed.pointer_mut(pointer).expect(pointer) = value;
            changed
        };
        let mut paused = live();
        paused["spec"]["paused"] = json!(true);
        for (live, expected) in [
            (change("/spec/replicas", json!(3)), vec!["/spec/replicas"]),
            (
                change("/metadata/labels/tollgate.dev~1gate", json!("x")),
                vec!["/metadata/labels/tollgate.dev~1gate"],
            ),
            (without_labels, vec!["/metadata/labels"]),
            (
                change("/spec/template/spec/containers/1/image", json!("v1")),
                vec!["/spec/template"],
            ),
            (
                change(
                    "/spec/template/spec/containers/1/env",
                    json!([{"name": "A", "value": "2"}]),
                ),
                vec!["/spec/template"],
            ),
            (
                change("/spec/selector/matchLabels", json!({"a": "b", "c": "d"})),
                vec!["/spec/selector"],
            ),
            (paused, vec!["/spec/paused", "/spec/template"]),
        ] {
            let mut found = paths(write(&wanted(), Some(&live)).expect("ours"));
            found.sort();
            assert_eq!(found, expected, "{live}");
        }
    }

    #[test]
    fn what_belongs_to_somebody_else_or_is_leaving_is_not_touched() {
        let change = |pointer: &str, value: Value| {
            let mut changed = live();
            *changed.pointer_mut(pointer).expect(pointer) = value;
            changed
        };
        let mut leaving = live();
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        for (live, says) in [
            (
                change("/metadata/ownerReferences", json!([])),
                "does not belong to this gate",
            ),
            (
                change("/metadata/ownerReferences/0/uid", json!("g0")),
                "does not belong to this gate",
            ),
            (
                change("/metadata/ownerReferences/0/controller", json!(false)),
                "does not belong to this gate",
            ),
            (leaving, "is still being deleted"),
        ] {
            let error = write(&wanted(), Some(&live)).expect_err("not ours").to_string();
            assert!(
                error.starts_with("Deployment checkout-canary") && error.contains(says),
                "{error}"
            );
        }
    }
}
