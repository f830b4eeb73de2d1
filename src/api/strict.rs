//! Parsing of what a person wrote, where a misspelt field is an error and not silence.

use kube::CustomResourceExt;
use regex::Regex;
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
    through::<K>(object, &|path, value, schema| {
        let (Some(fields), Some(properties)) = (value.as_object(), schema["properties"].as_object()) else {
            return Ok(());
        };
        let Some(unknown) = fields.keys().find(|name| !properties.contains_key(*name)) else {
            return Ok(());
        };
        let known = properties.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let field = format!("{path}.{unknown}");
        Err(Invalid::new(field, UNKNOWN, format!("one of {known}")))
    })?;
    form("", object)
}

/// Compares an object that could be read with the lengths, ranges and patterns of its definition. What
/// the operator reads from a value, it refuses with better words: ask it first.
///
/// # Errors
/// Names the first field that the API server would refuse.
pub fn bounds<K: CustomResourceExt>(object: &Value) -> Result<(), Invalid> {
    through::<K>(object, &within)
}

/// What is said of a field that a kind does not have.
pub const UNKNOWN: &str = "an unknown field";

type Check<'a> = &'a dyn Fn(&str, &Value, &Value) -> Result<(), Invalid>;

/// Goes through an object beside the schema of its kind.
fn through<K: CustomResourceExt>(object: &Value, check: Check<'_>) -> Result<(), Invalid> {
    let definition = K::crd();
    let schema = definition
        .spec
        .versions
        .first()
        .and_then(|version| version.schema.as_ref());
    let schema = schema.and_then(|schema| schema.open_api_v3_schema.as_ref());
    let schema = serde_json::to_value(schema).unwrap_or_default();
    ["spec", "status"]
        .into_iter()
        .filter_map(|part| Some((part, object.get(part)?)))
        .try_for_each(|(part, value)| go(part, value, &schema["properties"][part], check))
}

fn go(path: &str, value: &Value, schema: &Value, check: Check<'_>) -> Result<(), Invalid> {
    check(path, value, schema)?;
    match value {
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            let schema = &schema["properties"][name];
            go(&format!("{path}.{name}"), value, schema, check)
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| go(&format!("{path}[{index}]"), item, &schema["items"], check)),
        _ => Ok(()),
    }
}

/// Reads a value, or a part of an object whose place is `place` (`spec`; nothing for the whole).
///
/// # Errors
/// Names the field that has not the right form, what it says and what was expected.
pub fn form<T: DeserializeOwned>(place: &str, value: &Value) -> Result<T, Invalid> {
    // Every version of every gate comes by here: the way to a field is only followed where it is needed.
    T::deserialize(value)
        .or_else(|_| serde_path_to_error::deserialize(value))
        .map_err(|error| malformed(place, &error))
}

fn malformed(place: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> Invalid {
    let said = error.inner().to_string();
    let missing = said
        .strip_prefix("missing field `")
        .and_then(|rest| rest.strip_suffix('`'));
    let (value, accepted) = match (missing, said.split_once(", expected ")) {
        (Some(_), _) => ("nothing", "something"),
        (None, Some((value, expected))) => (value, plain(expected)),
        (None, None) => (said.as_str(), "as `kubectl explain` shows it"),
    };
    let value = KINDS.iter().find_map(|kind| value.strip_prefix(kind)).unwrap_or(value);
    let path = error.path().to_string();
    let path = if path == "." { "" } else { &path };
    let parts = [place, path, missing.unwrap_or_default()];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let field = if parts.is_empty() {
        "the object".to_owned()
    } else {
        parts.join(".")
    };
    Invalid::new(field, value, accepted)
}

/// What serde expected, in words of YAML.
fn plain(expected: &str) -> &str {
    match expected {
        "i32" | "i64" | "u8" | "u32" | "u64" | "usize" => "a whole number",
        "f64" => "a number",
        "a sequence" => "a list",
        "map with a single key" => "an object with just one of its fields",
        _ if expected.starts_with("struct ") => "an object",
        other => other,
    }
}

/// How serde begins to say what is wrong with a value.
const KINDS: [&str; 4] = [
    "invalid type: ",
    "invalid value: ",
    "invalid length ",
    "unknown variant ",
];

/// The lengths, ranges and patterns that our definitions use.
fn within(path: &str, value: &Value, schema: &Value) -> Result<(), Invalid> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let (size, [least, most], unit) = match value {
        Value::String(text) => (count(text.chars().count()), ["minLength", "maxLength"], " characters"),
        // What an empty list lacks is told with better words by whoever reads it.
        Value::Array(items) => (count(items.len()), ["", "maxItems"], " entries"),
        Value::Number(number) => (number.as_f64().unwrap_or(f64::NAN), ["minimum", "maximum"], ""),
        _ => return Ok(()),
    };
    let (least, most) = (bound(least), bound(most));
    if least.is_some_and(|least| size < least) || most.is_some_and(|most| size > most) {
        let what = if schema["type"] == "integer" { "an integer " } else { "" };
        let least = least.unwrap_or_default();
        let accepted = match most {
            Some(most) => format!("{what}from {least} to {most}{unit}"),
            None => format!("{what}of at least {least}{unit}"),
        };
        return Err(Invalid::new(path, value, accepted));
    }
    let pattern = schema.get("pattern").and_then(Value::as_str);
    let (Some(pattern), Value::String(text)) = (pattern, value) else {
        return Ok(());
    };
    // A pattern that this library does not read is left to the API server.
    if Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text)) {
        return Err(Invalid::new(path, text, format!("text that matches {pattern}")));
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
const fn count(length: usize) -> f64 {
    length as f64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::ReleaseGate;

    #[test]
    fn what_has_not_the_right_form_is_told_by_its_field_its_value_and_what_was_expected() {
        let route = json!({"gatewayAPI": {"routes": [{"name": "a"}]}});
        let spec = json!({"target": {"workload": {"name": "a"}, "service": "a"}, "traffic": route});
        let cases = [
            (
                json!({"target": null}),
                "spec.target: nothing is not accepted; it must be something",
            ),
            (
                json!({"steps": [{"weight": 1}, {"weight": "5%"}]}),
                "spec.steps[1].weight: string \"5%\" is not accepted; it must be a whole number",
            ),
            (
                json!({"analysis": {"baseline": {"previousWindow": {"length": "60m"}, "concurrent": {}}}}),
                "spec.analysis.baseline: map is not accepted; it must be an object with just one of its fields",
            ),
            (
                json!({"policy": {"onInconclusive": "Wait"}}),
                "spec.policy.onInconclusive: `Wait` is not accepted; it must be one of `Hold`, `Abort`, `NoHarm`",
            ),
            (
                json!({"policy": {"onInconclsive": "Hold"}}),
                "spec.policy.onInconclsive: an unknown field is not accepted; it must be one of onInconclusive, onNoEvidence, rules",
            ),
        ];
        for (difference, wanted) in cases {
            let mut wrong = spec.clone();
            json_patch::merge(&mut wrong, &difference);
            let object = json!({"apiVersion": "tollgate.dev/v1alpha1", "kind": "ReleaseGate", "metadata": {"name": "a"}, "spec": wrong});
            let told = parse::<ReleaseGate>(&object).expect_err("it is wrong").to_string();
            assert_eq!(told, wanted);
        }
        assert_eq!(form::<i64>("", &json!("x")).expect_err("a text").field, "the object");
    }

    #[test]
    fn what_the_api_server_would_refuse_is_told_before_it_does() {
        let cases = [
            (json!({"name": "errors"}), None),
            (
                json!({"name": "Errors"}),
                Some("Errors is not accepted; it must be text that matches ^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"),
            ),
            (
                json!({"name": ""}),
                Some("\"\" is not accepted; it must be from 1 to 52 characters"),
            ),
        ];
        for (metric, wanted) in cases {
            let object = json!({"spec": {"analysis": {"metrics": [metric]}}});
            let told = bounds::<ReleaseGate>(&object).err().map(|invalid| invalid.to_string());
            let wanted = wanted.map(|wanted| format!("spec.analysis.metrics[0].name: {wanted}"));
            assert_eq!(told, wanted);
        }
        let object = json!({"spec": {"analysis": {"holdback": 51}}});
        let told = bounds::<ReleaseGate>(&object).expect_err("too much");
        assert_eq!(
            (told.field.as_str(), told.accepted.as_str()),
            ("spec.analysis.holdback", "an integer from 0 to 50")
        );
    }
}
