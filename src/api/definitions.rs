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
        unseen(&mut value);
        let definition: CustomResourceDefinition = serde_json::from_value(value)?;
        Ok((definition.spec.names.plural.clone(), definition))
    })
    .collect()
}

/// Gives what nobody has looked at yet a status that says so. Tools that wait by kstatus take an
/// object without a status for done.
fn unseen(definition: &mut Value) {
    let versions = definition.pointer_mut("/spec/versions").and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten() {
        let status = version.pointer_mut("/schema/openAPIV3Schema/properties/status");
        if let Some(status) = status.and_then(Value::as_object_mut) {
            status.insert("default".to_owned(), serde_json::json!({"observedGeneration": -1}));
        }
    }
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

#[cfg(test)]
mod tests {
    use kube::core::cel::{CompiledSchema, compile_schema, validate_compiled};
    use serde_json::json;

    use super::*;
    use crate::api::parse;

    fn gate() -> Value {
        json!({
            "apiVersion": "tollgate.dev/v1alpha1",
            "kind": "ReleaseGate",
            "metadata": {"name": "checkout", "namespace": "shop"},
            "spec": {
                "environment": "production",
                "target": {"workload": {"name": "checkout", "apiVersion": "apps/v1", "kind": "Deployment"}, "service": "checkout"},
                "traffic": {"gatewayAPI": {"routes": [{"name": "checkout"}]}},
                "steps": [{"weight": 5}, {"weight": 100}],
                "analysis": {
                    "minWindow": "5m", "maxWindow": "2h", "holdback": 5,
                    "metrics": [{"name": "errors", "ratio": {"preset": "gateway-errors"}}],
                },
            },
        })
    }

    fn with(path: &str, value: Value) -> Value {
        let mut changed = gate();
        *changed
            .pointer_mut(path)
            .unwrap_or_else(|| panic!("{path} is in the sample")) = value;
        changed
    }

    /// The rules of a kind, compiled once: compiling takes longer than everything else here.
    struct Rules {
        plural: &'static str,
        compiled: CompiledSchema,
    }

    fn rules(plural: &'static str) -> Rules {
        let all = definitions().expect("definitions");
        let (_, definition) = all
            .into_iter()
            .find(|(name, _)| name == plural)
            .expect("a kind of ours");
        let schema = definition.spec.versions[0].schema.clone().expect("a schema");
        let schema = serde_json::to_value(schema.open_api_v3_schema).expect("JSON");
        Rules {
            plural,
            compiled: compile_schema(&schema),
        }
    }

    impl Rules {
        /// Everything that is wrong with an object, as the API server's rules and the parser say it.
        fn complaints(&self, object: &Value, before: Option<&Value>) -> String {
            let mut found = Vec::new();
            if let Err(errors) = validate_compiled(&self.compiled, object, before) {
                found.push(format!("{errors:?}"));
            }
            let parsed = match self.plural {
                "releasegates" => parse::<ReleaseGate>(object).and_then(|gate| gate.spec.terms().plan().map(drop)),
                "canaryanalyses" => parse::<CanaryAnalysis>(object).and_then(|analysis| analysis.spec.plan().map(drop)),
                "gateactions" => parse::<GateAction>(object).map(drop),
                _ => parse::<EvidenceSource>(object).map(drop),
            };
            if let Err(invalid) = parsed {
                found.push(invalid.to_string());
            }
            found.join("\n")
        }
    }

    #[test]
    fn an_analysis_has_either_a_mover_or_arms_and_keeps_it() {
        let spec = |difference: &Value| {
            let mut spec = json!({"steps": [{"weight": 25}, {"weight": 100}],
                "analysis": {"metrics": [{"name": "errors", "ratio": {"preset": "http-errors"}}]}});
            json_patch::merge(&mut spec, difference);
            json!({"apiVersion": "tollgate.dev/v1alpha1", "kind": "CanaryAnalysis",
                "metadata": {"name": "checkout", "namespace": "shop"}, "spec": spec})
        };
        let (mover, arms) = (
            json!({"external": {"rollout": "checkout"}}),
            json!({"revision": "abc", "target": {"workload": "checkout", "service": "checkout",
                "canaryWorkload": "checkout-canary", "canaryService": "checkout-canary"}}),
        );
        let both = json!({"external": mover["external"], "revision": "abc", "target": arms["target"]});
        let other = json!({"external": mover["external"], "steps": [{"weight": 50}, {"weight": 100}]});
        let rules = rules("canaryanalyses");
        for (now, before, complaint) in [
            (&mover, None, ""),
            (&arms, None, ""),
            (&both, None, "either external, or revision and target"),
            (&json!({}), None, "either external, or revision and target"),
            (
                &json!({"revision": "abc"}),
                None,
                "either external, or revision and target",
            ),
            (&other, Some(&mover), ""),
            (&mover, Some(&arms), "external cannot be added or taken away"),
            (&arms, Some(&mover), "external cannot be added or taken away"),
        ] {
            let found = rules.complaints(&spec(now), before.map(&spec).as_ref());
            assert_eq!(
                found.is_empty(),
                complaint.is_empty(),
                "{now} after {before:?}: {found}"
            );
            assert!(found.contains(complaint), "{now} after {before:?}: {found}");
        }
    }

    #[test]
    fn a_good_gate_is_not_complained_about() {
        assert_eq!(rules("releasegates").complaints(&gate(), None), "");
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn a_bad_gate_is_refused_with_a_message_that_says_what_is_wrong() {
        let metric = |metric: Value| with("/spec/analysis/metrics", json!([metric]));
        let errors = || json!({"preset": "gateway-errors"});
        let compared = |mut analysis: Value| {
            (analysis["minWindow"], analysis["maxWindow"]) = (json!("5m"), json!("2h"));
            with("/spec/analysis", analysis)
        };
        let table = [
            (
                "steps fall",
                with("/spec/steps", json!([{"weight": 50}, {"weight": 5}, {"weight": 100}])),
                "weights of the steps must rise",
            ),
            (
                "steps stand still",
                with("/spec/steps", json!([{"weight": 100}, {"weight": 100}])),
                "weights of the steps must rise",
            ),
            (
                "the last is not 100",
                with("/spec/steps", json!([{"weight": 50}])),
                "last step's weight must be 100",
            ),
            ("no steps", with("/spec/steps", json!([])), "at least the step 100"),
            (
                "weight 0",
                with("/spec/steps", json!([{"weight": 0}, {"weight": 100}])),
                "an integer from 1 to 100",
            ),
            (
                "weight 101",
                with("/spec/steps", json!([{"weight": 101}])),
                "an integer from 1 to 100",
            ),
            (
                "half a percent",
                with("/spec/steps", json!([{"weight": 0.5}, {"weight": 100}])),
                "it must be a whole number",
            ),
            (
                "windows crossed",
                with("/spec/analysis/minWindow", json!("3h")),
                "minWindow must not be longer than maxWindow",
            ),
            (
                "windows of a step crossed",
                with(
                    "/spec/steps",
                    json!([{"weight": 100, "minWindow": "10m", "maxWindow": "5m"}]),
                ),
                "minWindow must not be longer than maxWindow",
            ),
            (
                "a step's window against the default",
                with("/spec/steps", json!([{"weight": 100, "minWindow": "3h"}])),
                "a step's minWindow must not be longer",
            ),
            (
                "no length of time",
                with("/spec/analysis/minWindow", json!("5 minutes")),
                "a length of time like 90s",
            ),
            (
                "holdback above half",
                with("/spec/analysis/holdback", json!(51)),
                "an integer from 0 to 50",
            ),
            (
                "nothing is looked at",
                with("/spec/analysis/metrics", json!([])),
                "at least one metric",
            ),
            (
                "a metric of no kind",
                metric(json!({"name": "a"})),
                "exactly one of ratio, histogram, count and gauge",
            ),
            (
                "a metric of two kinds",
                metric(json!({"name": "a", "ratio": errors(), "histogram": {"preset": "gateway-duration"}})),
                "exactly one of ratio, histogram, count and gauge",
            ),
            (
                "a metric of two other kinds",
                metric(json!({"name": "a", "ratio": errors(), "count": {"preset": "restarts"}})),
                "exactly one of ratio, histogram, count and gauge",
            ),
            (
                "a count of two",
                metric(json!({"name": "a", "count": {"preset": "restarts", "events": "crashes_total"}})),
                "give either a preset or events",
            ),
            (
                "native buckets of the gateway",
                metric(json!({"name": "a", "histogram": {"preset": "gateway-duration", "native": true}})),
                "the gateway tells classic buckets only",
            ),
            (
                "a gauge that is compared",
                metric(json!({"name": "a", "gauge": {"preset": "memory", "floor": 1e8}, "margin": {"abort": "10%"}})),
                "a gauge is a guard",
            ),
            (
                "a gauge without a floor",
                metric(json!({"name": "a", "gauge": {"preset": "memory"}})),
                "floor",
            ),
            (
                "a gauge below nothing",
                metric(json!({"name": "a", "gauge": {"preset": "cpu", "floor": -1}})),
                "a number, 0 or more",
            ),
            (
                "a gauge of two",
                metric(json!({"name": "a", "gauge": {"preset": "memory", "selector": "queue_length", "floor": 0}})),
                "give either a preset or a selector",
            ),
            (
                "a gauge that is all",
                metric(json!({"name": "a", "gauge": {"preset": "memory", "floor": 0}})),
                "at least one metric that is no gauge",
            ),
            (
                "a limit on a count",
                metric(json!({"name": "a", "count": {"preset": "oom-kills"}, "limit": "1%"})),
                "limit and mannWhitney look at shares of requests",
            ),
            (
                "margin and limit",
                metric(json!({"name": "a", "ratio": errors(), "limit": "1%", "margin": {"abort": "5%"}})),
                "a metric is judged by a margin, by a limit or by mannWhitney",
            ),
            (
                "limit and ranks",
                metric(json!({"name": "a", "ratio": errors(), "limit": "1%", "mannWhitney": {}})),
                "a metric is judged by a margin, by a limit or by mannWhitney",
            ),
            (
                "failures in a row of nothing",
                metric(json!({"name": "a", "ratio": errors(), "consecutiveFailures": 3})),
                "consecutiveFailures counts windows above a limit",
            ),
            (
                "a dispersion of ranks",
                metric(json!({"name": "a", "ratio": errors(), "mannWhitney": {}, "dispersion": 2})),
                "promote and dispersion belong to the comparison with stable",
            ),
            (
                "a promotion by limit",
                metric(json!({"name": "a", "ratio": errors(), "limit": "1%", "promote": "NoHarm"})),
                "promote and dispersion belong to the comparison with stable",
            ),
            (
                "a proof that is not asked for",
                metric(json!({"name": "a", "ratio": errors(), "promote": "NoHarm", "margin": {"promote": "20%"}})),
                "with promote: NoHarm nothing is proved within margin.promote",
            ),
            (
                "too many points",
                metric(json!({"name": "a", "ratio": errors(), "mannWhitney": {"points": 41}})),
                "an integer from 10 to 40",
            ),
            (
                "no length of a window",
                metric(json!({"name": "a", "ratio": errors(), "mannWhitney": {"window": "soon"}})),
                "mannWhitney.window",
            ),
            (
                "no dispersion at all",
                metric(json!({"name": "a", "ratio": errors(), "dispersion": 0})),
                "an integer from 1 to 1000",
            ),
            (
                "preset and selectors",
                metric(json!({"name": "a", "ratio": {"preset": "gateway-errors", "bad": "x", "total": "y"}})),
                "either a preset, or total and one of bad and good",
            ),
            (
                "bad without total",
                metric(json!({"name": "a", "ratio": {"bad": "x"}})),
                "either a preset, or total and one of bad and good",
            ),
            (
                "bad and good",
                metric(json!({"name": "a", "ratio": {"bad": "x", "good": "z", "total": "y"}})),
                "either a preset, or total and one of bad and good",
            ),
            (
                "more successes to lose than there are",
                metric(json!({"name": "a", "ratio": {"good": "x", "total": "y"}, "margin": {"abort": "95%"}})),
                "a percentage up to 90% of the good ones",
            ),
            (
                "an unknown preset",
                metric(json!({"name": "a", "ratio": {"preset": "gateway-erors"}})),
                "it must be `gateway-errors` or `http-errors`",
            ),
            (
                "a margin that is no percentage",
                metric(json!({"name": "a", "ratio": errors(), "margin": {"abort": "10"}})),
                "a percentage up to 10000%",
            ),
            (
                "two baselines",
                compared(json!({"baseline": {"previousWindow": {"length": "1h"}, "sameWindow": {"ago": "168h"}}})),
                "exactly one of concurrent, previousWindow and sameWindow",
            ),
            (
                "no baseline",
                compared(json!({"baseline": {}})),
                "exactly one of concurrent, previousWindow and sameWindow",
            ),
            (
                "a past too far back",
                compared(json!({"baseline": {"sameWindow": {"ago": "721h"}}})),
                "ago is at least ten looks (100s by default) and at most 720h",
            ),
            (
                "a past too near",
                compared(json!({"baseline": {"previousWindow": {"length": "9s"}}})),
                "length is at least ten looks (100s by default) and at most 720h",
            ),
            (
                "the share of requests of another time",
                compared(json!({"baseline": {"previousWindow": {"length": "1h"}}, "sampleRatio": {}})),
                "it needs the baseline concurrent",
            ),
            (
                "the share of requests where none are counted",
                compared(json!({"metrics": [{"name": "a", "count": {"preset": "restarts"}}], "sampleRatio": {}})),
                "it needs a metric that counts them, a ratio or a histogram",
            ),
            (
                "a limit nothing exceeds",
                metric(json!({"name": "a", "ratio": errors(), "limit": "100%"})),
                "a percentage below 100%",
            ),
            (
                "two metrics of one name",
                with(
                    "/spec/analysis/metrics",
                    json!([{"name": "a", "ratio": errors()}, {"name": "a", "ratio": errors()}]),
                ),
                "a name no other metric has",
            ),
            (
                "a misspelt field",
                with("/spec/analysis", json!({"minWindows": "5m"})),
                "one of baseline, holdback, maxWindow, metrics, minSample, minWindow, sampleRatio, slo, source",
            ),
            (
                "a misspelt field in a list",
                with("/spec/steps", json!([{"weigth": 100, "weight": 100}])),
                "spec.steps[0].weigth",
            ),
            (
                "another kind of workload",
                with("/spec/target/workload/kind", json!("StatefulSet")),
                "must be an apps/v1 Deployment",
            ),
            (
                "a name without room",
                with("/metadata/name", json!("x".repeat(53))),
                "at most 52 characters",
            ),
        ];
        let gates = rules("releasegates");
        for (case, object, message) in table {
            let found = gates.complaints(&object, None);
            assert!(found.contains(message), "{case}: {found:?} does not say {message:?}");
        }
    }

    #[test]
    fn what_must_not_change_does_not() {
        let analysis = json!({
            "metadata": {"name": "checkout-1"},
            "spec": {
                "revision": "abc", "steps": [{"weight": 100}],
                "target": {"workload": "a", "service": "a", "canaryWorkload": "a-canary", "canaryService": "a-canary"},
            },
        });
        let action = json!({"metadata": {"name": "a"}, "spec": {"gate": "checkout", "verb": "Abort"}});
        let table = [
            (
                "releasegates",
                gate(),
                "/spec/target/workload/name",
                json!("other"),
                "a gate keeps its workload",
            ),
            (
                "releasegates",
                gate(),
                "/spec/target/service",
                json!("other"),
                "a gate keeps its service",
            ),
            (
                "canaryanalyses",
                analysis,
                "/spec/revision",
                json!("def"),
                "a frozen plan never changes",
            ),
            (
                "gateactions",
                action,
                "/spec/verb",
                json!("Retry"),
                "what was asked never changes",
            ),
        ];
        for (plural, before, path, value, message) in table {
            let rules = rules(plural);
            assert_eq!(
                rules.complaints(&before, Some(&before)),
                "",
                "{plural} may be written again as it is"
            );
            let mut after = before.clone();
            *after.pointer_mut(path).expect("in the sample") = value;
            let found = rules.complaints(&after, Some(&before));
            assert!(found.contains(message), "{plural}{path}: {found}");
        }
    }

    #[test]
    fn asking_past_a_hold_needs_a_reason_and_a_source_an_address() {
        let promote = json!({"metadata": {"name": "a"}, "spec": {"gate": "checkout", "verb": "Promote"}});
        assert!(
            rules("gateactions")
                .complaints(&promote, None)
                .contains("it needs a reason")
        );
        let source = json!({"metadata": {"name": "a"}, "spec": {}});
        assert!(
            rules("evidencesources")
                .complaints(&source, None)
                .contains("a source names exactly one of: prometheus")
        );
    }

    #[test]
    fn every_kind_has_its_names_status_and_columns() {
        let table = [
            (
                "releasegates",
                "ReleaseGate",
                "rg",
                "Namespaced",
                "REVISION STEP WEIGHT DECISION REASON AGE",
            ),
            (
                "canaryanalyses",
                "CanaryAnalysis",
                "ca",
                "Namespaced",
                "GATE REVISION VERDICT REASON AGE",
            ),
            (
                "gateactions",
                "GateAction",
                "ga",
                "Namespaced",
                "GATE VERB SIGNER ANSWER REASON AGE",
            ),
            (
                "evidencesources",
                "EvidenceSource",
                "es",
                "Cluster",
                "DEFAULT READY REASON AGE",
            ),
        ];
        let all = definitions().expect("definitions");
        assert_eq!(all.len(), table.len());
        for ((plural, definition), (name, kind, short, scope, columns)) in all.iter().zip(table) {
            let (names, version) = (&definition.spec.names, &definition.spec.versions[0]);
            assert_eq!((plural.as_str(), names.kind.as_str()), (name, kind));
            assert_eq!(names.short_names, Some(vec![short.to_owned()]), "{kind}");
            assert!(
                names.categories.iter().flatten().any(|category| category == "tollgate"),
                "{kind}"
            );
            assert_eq!(definition.spec.scope, scope, "{kind}");
            assert!(
                version.subresources.as_ref().is_some_and(|sub| sub.status.is_some()),
                "{kind}"
            );
            let shown = version.additional_printer_columns.iter().flatten();
            let shown: Vec<_> = shown
                .filter(|column| column.priority.unwrap_or(0) == 0)
                .map(|column| column.name.as_str())
                .collect();
            assert_eq!(shown.join(" "), columns, "{kind}");
        }
    }

    #[test]
    fn every_field_is_documented_bounded_and_free_of_underscores() {
        fn walk(path: &str, schema: &Value, found: &mut Vec<String>) {
            let map = schema.as_object().expect("a schema");
            let has = |word: &str| map.contains_key(word);
            match map.get("type").and_then(Value::as_str) {
                Some("string") if !has("maxLength") && !has("enum") && !has("format") => {
                    found.push(format!("{path}: no maxLength"))
                }
                Some("array") if !has("maxItems") => found.push(format!("{path}: no maxItems")),
                _ => {}
            }
            if map
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|format| format.starts_with('u'))
            {
                found.push(format!("{path}: an unsigned format"));
            }
            if has("additionalProperties") {
                found.push(format!("{path}: additionalProperties"));
            }
            if let Some(items) = map.get("items") {
                assert!(items.get("default").is_none(), "{path}");
                walk(&format!("{path}[]"), items, found);
            }
            for (name, schema) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let path = format!("{path}.{name}");
                if name.contains('_') {
                    found.push(format!("{path}: an underscore"));
                }
                if schema.get("description").is_none_or(|text| {
                    text.as_str()
                        .is_none_or(|text| text.contains('\n') && !text.contains("\n\n"))
                }) {
                    found.push(format!("{path}: no description, or a broken one"));
                }
                if path.contains("[]") && schema.get("default").is_some() {
                    found.push(format!("{path}: a default within a list"));
                }
                walk(&path, schema, found);
            }
        }
        let mut found = Vec::new();
        for (plural, definition) in definitions().expect("definitions") {
            let schema = definition.spec.versions[0]
                .schema
                .clone()
                .expect("a schema")
                .open_api_v3_schema;
            let schema = serde_json::to_value(schema).expect("JSON");
            for part in ["spec", "status"] {
                walk(&format!("{plural}.{part}"), &schema["properties"][part], &mut found);
            }
        }
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}
