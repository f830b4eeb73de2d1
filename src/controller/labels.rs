//! Labels of the canary: ours, the ones it keeps, and the ones that get another value.
//!
//! A canary pod must never be selected by the user's Service, or traffic reaches it past the
//! route and an abort no longer takes all of it away; nor by the user's Deployment, whose
//! autoscaler averages over every pod its selector finds. Everything else that selects pods
//! (network policies, budgets, monitors, spread) should find the canary as it finds stable.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use serde_json::{Value, json};

use crate::api::labels::{CANARY_SUFFIX, GATE};

use super::revision::digest;

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// The longest label value, and the longest name of a Service.
pub const LABEL_LENGTH: usize = 63;

/// Keys by which most policies and monitors select pods: kept the longest under
/// [`Keep::AllButOne`].
const IDENTITY: [&str; 3] = ["app", "app.kubernetes.io/name", "k8s-app"];

/// Which labels of the template the canary keeps, beside those that nobody's traffic depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// Every label that the Service does not select by. What the Service selects by is suffixed.
    #[default]
    Unselected,
    /// As many as can be: a single label that the Service selects by is suffixed, one that the
    /// Deployment selects by too if there is one, and rather not the usual name of the
    /// application. This is `canary.labels: Shared`.
    ///
    /// Keeping all of them is not offered: the Service would then send its own traffic to the
    /// canary at a share that no weight controls, and weight 0 would not end it.
    AllButOne,
}

/// The label value or name with `-canary` appended; shortened, with a hash of the whole, when
/// the result would be longer than `longest` (at least 19) bytes.
#[must_use]
pub fn suffixed(text: &str, longest: usize) -> String {
    if text.is_empty() {
        // A label's value may be empty; a dash must not be its first character.
        return CANARY_SUFFIX.trim_start_matches('-').to_owned();
    }
    let head = shortened(text, longest.saturating_sub(CANARY_SUFFIX.len()));
    format!("{head}{CANARY_SUFFIX}")
}

/// A text that fits: itself, or its beginning and a hash of the whole.
#[must_use]
pub fn shortened(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let hash = digest(&json!(text));
    let head: String = text.chars().take(longest.saturating_sub(1 + hash.len())).collect();
    // A name must not end in a separator before the next one: `a.-b` is no DNS name.
    format!("{}-{hash}", head.trim_end_matches(['-', '.', '_']))
}

/// The labels at a JSON pointer; empty when there are none. Values that are no text are left out.
#[must_use]
pub fn at(object: &Value, pointer: &str) -> Labels {
    let map = object.pointer(pointer).and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// A label selector in its JSON form (`matchLabels`, `matchExpressions`).
///
/// # Errors
/// In one sentence, when it is null or cannot be understood.
pub fn selector(value: &Value) -> Result<Selector, String> {
    let parsed: LabelSelector = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    parsed
        .try_into()
        .map_err(|error: kube::core::ParseExpressionError| error.to_string())
}

/// What selects pods for a Service: a plain map.
#[must_use]
pub fn service_selector(service: &Value) -> Selector {
    at(service, "/spec/selector").into_iter().collect()
}

/// The labels before and after, and with them how to rewrite a selector that meant its own pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relabelled {
    /// Of stable pods.
    pub before: Labels,
    /// Of canary pods.
    pub after: Labels,
}

impl Relabelled {
    /// The labels of canary pods, without ours: taken out of the Service's selection, and if
    /// that is not enough also out of the Deployment's.
    pub(super) fn new(before: Labels, service: &Value, deployment: &Value, keep: Keep) -> Self {
        let by_service: BTreeSet<String> = at(service, "/spec/selector").into_keys().collect();
        let by_deployment = selected_keys(&deployment["spec"]["selector"]);
        let mut relabelled = Self {
            after: before.clone(),
            before,
        };
        relabelled.suffix(&by_service, &by_deployment, keep);
        if selector(&deployment["spec"]["selector"]).is_ok_and(|own| own.matches(&relabelled.after)) {
            relabelled.suffix(&by_deployment, &by_service, keep);
        }
        relabelled
    }

    fn suffix(&mut self, keys: &BTreeSet<String>, preferred: &BTreeSet<String>, keep: Keep) {
        let one = keys
            .iter()
            .filter(|key| self.before.contains_key(*key))
            .min_by_key(|key| (!preferred.contains(*key), IDENTITY.contains(&key.as_str())));
        for (key, value) in &mut self.after {
            let chosen = match keep {
                Keep::Unselected => keys.contains(key),
                Keep::AllButOne => one == Some(key),
            };
            if chosen && self.before.get(key) == Some(value) {
                *value = suffixed(value, LABEL_LENGTH);
            }
        }
    }

    /// Rewrites a selector of a template so that it finds canary pods exactly if it found stable
    /// pods: who kept away from its own kind still does, who does not care still does not.
    pub(super) fn translate(&self, gate: &str, value: &mut Value) {
        let Ok(parsed) = selector(value) else {
            return;
        };
        if parsed.matches(&self.before) {
            self.rename(value);
        } else if parsed.matches(&self.after) {
            // For example `app notin (checkout)`, which was never meant for this application.
            exclude(gate, value);
        }
    }

    fn rename(&self, value: &mut Value) {
        let changed = |key: &str| {
            let (old, new) = (self.before.get(key)?, self.after.get(key)?);
            (old != new).then_some((old, new))
        };
        if let Some(labels) = value.get_mut("matchLabels").and_then(Value::as_object_mut) {
            for (key, wanted) in labels.iter_mut() {
                if let Some((_, new)) = changed(key) {
                    *wanted = json!(new);
                }
            }
        }
        let Some(expressions) = value.get_mut("matchExpressions").and_then(Value::as_array_mut) else {
            return;
        };
        expressions.retain_mut(|expression| {
            let Some((old, new)) = expression["key"].as_str().and_then(changed) else {
                return true;
            };
            let operator = expression["operator"].clone();
            let Some(values) = expression.get_mut("values").and_then(Value::as_array_mut) else {
                return true;
            };
            if operator == "NotIn" {
                values.retain(|value| value != new);
                return !values.is_empty();
            }
            values.retain(|value| value != old && value != new);
            values.push(json!(new));
            true
        });
    }
}

fn exclude(gate: &str, value: &mut Value) {
    let Some(fields) = value.as_object_mut() else {
        return;
    };
    let expressions = fields.entry("matchExpressions").or_insert_with(|| json!([]));
    if let Some(expressions) = expressions.as_array_mut() {
        expressions.push(json!({"key": GATE, "operator": "NotIn", "values": [gate]}));
    }
}

/// The keys whose values a label selector asks for.
fn selected_keys(selector: &Value) -> BTreeSet<String> {
    let exact = at(selector, "/matchLabels").into_keys();
    let listed = selector["matchExpressions"].as_array().into_iter().flatten();
    let listed = listed.filter(|expression| expression["operator"] == "In");
    exact
        .chain(listed.filter_map(|expression| expression["key"].as_str().map(ToOwned::to_owned)))
        .collect()
}
