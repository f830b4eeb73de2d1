//! Parsing of what a person wrote, where a misspelt field is an error and not silence.

use kube::CustomResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::invalid::Invalid;

/// Reads an object and refuses fields that its kind does not have.
///
/// The API server drops unknown fields of stored objects without a word; `kubectl` asks it to
/// refuse them, other clients may not. For files, and for whatever was stored under other
/// definitions, this says the same as `kubectl`.
///
/// # Errors
/// Names the unknown field with the known ones, or what does not have the right form.
pub fn parse<K: CustomResourceExt + DeserializeOwned>(object: &Value) -> Result<K, Invalid> {
    let definition = K::crd();
    let form = |error: serde_json::Error| {
        Invalid::new(
            definition.spec.names.kind.clone(),
            error,
            "the form `kubectl explain` shows",
        )
    };
    let schema = definition
        .spec
        .versions
        .first()
        .and_then(|version| version.schema.as_ref());
    let schema = serde_json::to_value(schema.and_then(|schema| schema.open_api_v3_schema.as_ref())).map_err(form)?;
    for part in ["spec", "status"] {
        if let (Some(value), Some(schema)) = (object.get(part), schema["properties"].get(part)) {
            known(part, value, schema)?;
        }
    }
    serde_json::from_value(object.clone()).map_err(form)
}

fn known(path: &str, value: &Value, schema: &Value) -> Result<(), Invalid> {
    match (
        value,
        schema.get("properties").and_then(Value::as_object),
        schema.get("items"),
    ) {
        (Value::Object(fields), Some(properties), _) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                let Some(schema) = properties.get(name) else {
                    let known = properties.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                    return Err(Invalid::new(path, "an unknown field", format!("one of {known}")));
                };
                known(&path, value, schema)?;
            }
            Ok(())
        }
        (Value::Array(items), _, Some(schema)) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| known(&format!("{path}[{index}]"), item, schema)),
        _ => Ok(()),
    }
}
