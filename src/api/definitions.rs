//! The CustomResourceDefinitions of all kinds, as the API server takes them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::Value;

use super::{CanaryAnalysis, EvidenceSource, GateAction, ReleaseGate};

/// One definition per kind, each with its plural name.
///
/// # Errors
/// When a derived schema is not one that Kubernetes knows; a bug, seen by the tests.
pub fn definitions() -> Result<Vec<(String, CustomResourceDefinition)>, serde_json::Error> {
    [
        ReleaseGate::crd(),
        CanaryAnalysis::crd(),
        GateAction::crd(),
        EvidenceSource::crd(),
    ]
    .into_iter()
    .map(|definition| {
        let mut value = serde_json::to_value(definition)?;
        structural(&mut value);
        let definition: CustomResourceDefinition = serde_json::from_value(value)?;
        Ok((definition.spec.names.plural.clone(), definition))
    })
    .collect()
}

/// Takes defaults out of what lists hold. The API server would fill them in inside lists that
/// GitOps tools compare as a whole, and these would report a difference for ever.
fn without_defaults(value: &mut Value) {
    match value {
        Value::Object(map) => {
            // a field may be called `default`: its schema is an object with a type
            if map.get("default").is_some_and(|default| default.get("type").is_none()) {
                map.remove("default");
            }
            map.values_mut().for_each(without_defaults);
        }
        Value::Array(list) => list.iter_mut().for_each(without_defaults),
        _ => {}
    }
}

/// Joins the lines of each paragraph: where to break them is up to whoever prints them.
fn flowing(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// Takes out what Kubernetes does not know or warns about: formats of unsigned numbers (their
/// ranges say the same), and `additionalProperties: false` (the API server drops unknown fields,
/// and refuses them when asked for strict validation). Descriptions lose the line breaks of the source.
fn structural(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let known = |format: &str| !format.starts_with("uint");
            if map.get("type").is_some()
                && map
                    .get("format")
                    .and_then(Value::as_str)
                    .is_some_and(|format| !known(format))
            {
                map.remove("format");
            }
            if map.get("additionalProperties") == Some(&Value::Bool(false)) {
                map.remove("additionalProperties");
            }
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = flowing(text);
            }
            if let Some(items) = map.get_mut("items") {
                without_defaults(items);
            }
            map.values_mut().for_each(structural);
        }
        Value::Array(list) => list.iter_mut().for_each(structural),
        _ => {}
    }
}
