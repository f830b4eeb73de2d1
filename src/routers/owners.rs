//! Who manages a route's rules, and how they are handed back.
//!
//! The rules are one atomic list: whoever changes a weight in it owns all of it from then on, and
//! the next server-side apply of the user's own tool would meet a conflict. So the former owners
//! are remembered with the first write, and at the end an edit of `metadata.managedFields` gives
//! the list back to them.
//!
//! Seen on an API server of 1.36: when one request both restores the rules and edits the managed
//! fields, the rules go to the writer all the same, because their value changed. A second request
//! that only edits the managed fields is taken as it is and leaves the generation alone; a plain
//! server-side apply by the former owner then meets no conflict. Where the former owner was one that
//! updates (`kubectl create`, `edit`, `replace`), the rules are restored in its name: one request.

use serde_json::{Value, json};

use super::FIELD_MANAGER;
use super::note::Owner;

/// More former owners than these are not remembered: several are rare, as each had to apply the
/// same rules.
const MOST: usize = 4;

/// The owners of the rules other than ourselves.
pub(super) fn others(route: &Value) -> Vec<Owner> {
    entries(route)
        .filter(|e| owns_rules(e) && !is_ours(e))
        .filter_map(owner)
        .take(MOST)
        .collect()
}

/// The route with its rules managed by `owners` again and no longer by us. `None` when there is
/// nothing to hand back: nobody owned them before, or we do not own them now.
pub(super) fn handed_back(route: &Value, owners: &[Owner]) -> Option<Value> {
    let owners: Vec<&Owner> = owners.iter().filter(|o| acceptable(o)).take(MOST).collect();
    if owners.is_empty() || !entries(route).any(|e| is_ours(e) && owns_rules(e)) {
        return None;
    }
    let mut route = route.clone();
    let list = route.get_mut("metadata")?.get_mut("managedFields")?.as_array_mut()?;
    for entry in list.iter_mut().filter(|e| is_ours(e)) {
        disown(entry);
    }
    list.retain(|e| {
        !is_ours(e)
            || e.get("fieldsV1")
                .and_then(Value::as_object)
                .is_some_and(|f| !f.is_empty())
    });
    for to in owners {
        match list
            .iter_mut()
            .find(|e| is(e, to))
            .and_then(|e| e.get_mut("fieldsV1"))
            .and_then(Value::as_object_mut)
        {
            Some(fields) => {
                if let Some(spec) = fields.entry("f:spec").or_insert_with(|| json!({})).as_object_mut() {
                    spec.insert("f:rules".to_owned(), json!({}));
                }
            }
            None => list.push(json!({
                "manager": to.manager,
                "operation": to.operation,
                "apiVersion": to.api_version,
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:rules": {}}},
            })),
        }
    }
    Some(route)
}

/// Whether an owner is one that updates, in the API version that we write too: then a write in its
/// name makes it the owner.
pub(super) fn updates(owner: &Owner, route: &Value) -> bool {
    acceptable(owner) && owner.operation == "Update" && owner.api_version == text(route, "apiVersion")
}

fn entries(route: &Value) -> impl Iterator<Item = &Value> {
    let list = route
        .get("metadata")
        .and_then(|m| m.get("managedFields"))
        .and_then(Value::as_array);
    list.into_iter().flatten().filter(|e| text(e, "subresource").is_empty())
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn owns_rules(entry: &Value) -> bool {
    entry
        .get("fieldsV1")
        .and_then(|f| f.get("f:spec"))
        .is_some_and(|s| s.get("f:rules").is_some())
}

fn is_ours(entry: &Value) -> bool {
    text(entry, "manager") == FIELD_MANAGER && text(entry, "subresource").is_empty()
}

fn is(entry: &Value, owner: &Owner) -> bool {
    text(entry, "manager") == owner.manager
        && text(entry, "operation") == owner.operation
        && text(entry, "apiVersion") == owner.api_version
        && text(entry, "subresource").is_empty()
}

fn owner(entry: &Value) -> Option<Owner> {
    let owner = Owner {
        manager: text(entry, "manager").to_owned(),
        operation: text(entry, "operation").to_owned(),
        api_version: text(entry, "apiVersion").to_owned(),
    };
    acceptable(&owner).then_some(owner)
}

/// What the API server would take: a manager's name has at most 128 bytes.
fn acceptable(owner: &Owner) -> bool {
    (1..=128).contains(&owner.manager.len())
        && owner.manager != FIELD_MANAGER
        && matches!(owner.operation.as_str(), "Apply" | "Update")
        && (1..=256).contains(&owner.api_version.len())
}

/// Takes the rules out of an entry, and what is empty then.
fn disown(entry: &mut Value) {
    let Some(fields) = entry.get_mut("fieldsV1").and_then(Value::as_object_mut) else {
        return;
    };
    let Some(spec) = fields.get_mut("f:spec").and_then(Value::as_object_mut) else {
        return;
    };
    spec.remove("f:rules");
    if spec.is_empty() {
        fields.remove("f:spec");
    }
}
