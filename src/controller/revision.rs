//! The name of a pod template, computed here because a held Deployment has no new `ReplicaSet`.
//!
//! A difference that is seen but means nothing costs one trial; a difference that is overlooked
//! lets a change through untried. So only what certainly makes no new revision is left out of
//! the hash, and everything else counts, `emptyDir: {}` and empty selectors included.
//!
//! An upgraded API server may fill in fields that it did not know before, and the hash of an
//! untouched template then changes. Nothing may start from that: a release starts from the hold.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::decision::Revision;

/// What `kubectl rollout restart` writes into the template.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// Hex digits of a revision: 40 bits, enough to tell the revisions of one workload apart.
const DIGITS: usize = 10;

/// The revision of a pod template (`spec.template` of a Deployment as the API server gave it).
///
/// The first ten hex digits of SHA-256 over canonical JSON (RFC 8785), without nulls, the
/// annotation of `kubectl rollout restart`, and label or annotation maps that are empty.
#[must_use]
pub fn revision(template: &Value) -> Revision {
    Revision(digest(&essence(template)))
}

/// Whether two templates differ, and only by what `kubectl rollout restart` writes or by what
/// means nothing to the API server.
#[must_use]
pub fn restarted_only(old: &Value, new: &Value) -> bool {
    old != new && essence(old) == essence(new)
}

/// The first ten hex digits of the SHA-256 of a value's canonical JSON.
pub(super) fn digest(value: &Value) -> String {
    // A JSON value always has a canonical form; if the library ever disagrees, its plain form is
    // still the same for the same value.
    let bytes = serde_json_canonicalizer::to_vec(value).unwrap_or_else(|_| value.to_string().into_bytes());
    format!("{:.DIGITS$x}", Sha256::digest(bytes))
}

fn essence(template: &Value) -> Value {
    let mut template = template.clone();
    drop_nulls(&mut template);
    let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) else {
        return template;
    };
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(RESTARTED_AT);
    }
    metadata.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
    if metadata.is_empty()
        && let Some(fields) = template.as_object_mut()
    {
        fields.remove("metadata");
    }
    template
}

/// Removes null members: the API server takes `null` for "not given".
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, member| !member.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template() -> Value {
        json!({
            "metadata": {"labels": {"app": "checkout"}, "annotations": {"team": "shop"}, "creationTimestamp": null},
            "spec": {"containers": [{"name": "app", "image": "checkout:1"}], "volumes": [{"name": "tmp", "emptyDir": {}}]},
        })
    }

    fn with(pointer: &str, key: &str, value: Value) -> Value {
        let mut changed = template();
        changed
            .pointer_mut(pointer)
            .and_then(Value::as_object_mut)
            .expect("an object")
            .insert(key.to_owned(), value);
        changed
    }

    #[test]
    fn a_revision_is_ten_hex_digits_and_does_not_depend_on_the_order_of_fields() {
        let a: Value = serde_json::from_str(r#"{"spec":{"a":1,"b":2}}"#).expect("JSON");
        let b: Value = serde_json::from_str(r#"{"spec":{"b":2,"a":1}}"#).expect("JSON");
        assert_eq!(revision(&a), revision(&b));
        let name = revision(&template()).0;
        assert_eq!(name.len(), 10);
        assert!(name.chars().all(|c| c.is_ascii_hexdigit()), "{name}");
    }

    #[test]
    fn a_revision_is_the_hash_of_the_canonical_json_as_sha256sum_gives_it() {
        // printf '{"spec":{"a":1,"b":2}}' | sha256sum
        let template: Value = serde_json::from_str(r#"{ "spec": {"b": 2, "a": 1}, "metadata": {} }"#).expect("JSON");
        assert_eq!(revision(&template).0, "99a7befe58");
    }

    #[test]
    fn what_means_nothing_makes_no_new_revision() {
        let same = [
            with("/metadata/annotations", RESTARTED_AT, json!("2026-01-01T00:00:00Z")),
            with("/metadata", "creationTimestamp", Value::Null),
            with("/metadata", "finalizers", Value::Null),
            with("/spec", "nodeSelector", Value::Null),
        ];
        for changed in same {
            assert_eq!(revision(&changed), revision(&template()), "{changed}");
        }
        let bare = json!({"spec": {"containers": []}});
        let empty = json!({"metadata": {"annotations": {}, "labels": {}}, "spec": {"containers": []}});
        assert_eq!(revision(&bare), revision(&empty));
    }

    #[test]
    fn everything_else_makes_a_new_revision() {
        let mut image = template();
        image["spec"]["containers"][0]["image"] = json!("checkout:2");
        let mut volume = template();
        volume["spec"]["volumes"][0] = json!({"name": "tmp"});
        let changes = [
            image,
            volume,
            with("/metadata/labels", "version", json!("2")),
            with("/metadata/annotations", "team", json!("pay")),
            with("/spec", "securityContext", json!({})),
            with("/spec", "aFieldOfTomorrow", json!(true)),
        ];
        for changed in changes {
            assert_ne!(revision(&changed), revision(&template()), "{changed}");
        }
    }

    #[test]
    fn a_restart_is_told_from_a_change_and_from_nothing() {
        let restarted = with("/metadata/annotations", RESTARTED_AT, json!("now"));
        let again = with("/metadata/annotations", RESTARTED_AT, json!("later"));
        let mut changed = restarted.clone();
        changed["spec"]["containers"][0]["image"] = json!("checkout:2");
        for (old, new, only) in [
            (&template(), &restarted, true),
            (&restarted, &again, true),
            (&again, &template(), true),
            (&template(), &template(), false),
            (&template(), &changed, false),
        ] {
            assert_eq!(restarted_only(old, new), only, "{old} → {new}");
        }
    }
}
