//! What gateways report about a route. A report runs ahead of its effect: that traffic has moved
//! is seen only at the canary.

use serde_json::Value;

/// Whether for every gateway that the route asks for, some controller reports that it accepted this
/// generation of the route and found its backends.
pub(super) fn programmed(route: &Value) -> bool {
    let list = |at: &str, field: &str| {
        route
            .get(at)
            .and_then(|o| o.get(field))
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice)
    };
    let Some(generation) = route
        .get("metadata")
        .and_then(|m| m.get("generation"))
        .and_then(Value::as_i64)
    else {
        return false;
    };
    let namespace = route
        .get("metadata")
        .and_then(|m| m.get("namespace"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let asked = list("spec", "parentRefs");
    let reports = list("status", "parents");
    let taken_up = |asked: &Value| {
        reports.iter().any(|report| {
            report
                .get("parentRef")
                .is_some_and(|about| same_parent(asked, about, namespace))
                && ["Accepted", "ResolvedRefs"]
                    .iter()
                    .all(|kind| holds(report, kind, generation))
        })
    };
    !asked.is_empty() && asked.iter().all(taken_up)
}

/// Whether two references name the same parent, with the API's defaults filled in.
fn same_parent(one: &Value, other: &Value, namespace: &str) -> bool {
    let defaults = [
        ("group", "gateway.networking.k8s.io"),
        ("kind", "Gateway"),
        ("namespace", namespace),
        ("sectionName", ""),
    ];
    let text = |parent: &Value, field: &str, default: &str| {
        parent.get(field).and_then(Value::as_str).unwrap_or(default).to_owned()
    };
    defaults
        .iter()
        .all(|(field, default)| text(one, field, default) == text(other, field, default))
        && one.get("name") == other.get("name")
        && one.get("port").and_then(Value::as_i64) == other.get("port").and_then(Value::as_i64)
}

/// Whether a condition is True, as seen at this generation.
fn holds(report: &Value, kind: &str, generation: i64) -> bool {
    let conditions = report.get("conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| {
        c.get("type").and_then(Value::as_str) == Some(kind)
            && c.get("status").and_then(Value::as_str) == Some("True")
            && c.get("observedGeneration").and_then(Value::as_i64) == Some(generation)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test that panics has failed")]

    use serde_json::json;

    use super::programmed as is_programmed;
    use crate::routers::route_tests::{route, yaml};

    #[test]
    fn a_route_is_programmed_when_every_gateway_has_taken_up_this_generation() {
        let report = |gateway: &str, accepted: &str, resolved: &str, generation: i64| {
            json!({"controllerName": "x", "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway},
                   "conditions": [
                       {"type": "Accepted", "status": accepted, "observedGeneration": generation},
                       {"type": "ResolvedRefs", "status": resolved, "observedGeneration": generation}]})
        };
        for (what, parents, reports, programmed) in [
            ("no report yet", "[{name: web}]", vec![], false),
            (
                "taken up",
                "[{name: web}]",
                vec![report("web", "True", "True", 3)],
                true,
            ),
            (
                "an older generation",
                "[{name: web}]",
                vec![report("web", "True", "True", 2)],
                false,
            ),
            (
                "not accepted",
                "[{name: web}]",
                vec![report("web", "False", "True", 3)],
                false,
            ),
            (
                "a backend is missing",
                "[{name: web}]",
                vec![report("web", "True", "False", 3)],
                false,
            ),
            (
                "of two controllers one took it up",
                "[{name: web}]",
                vec![report("web", "False", "True", 3), report("web", "True", "True", 3)],
                true,
            ),
            (
                "of two gateways one took it up",
                "[{name: web}, {name: inner}]",
                vec![report("web", "True", "True", 3)],
                false,
            ),
            (
                "both took it up",
                "[{name: web}, {name: inner}]",
                vec![report("web", "True", "True", 3), report("inner", "True", "True", 3)],
                true,
            ),
            (
                "own namespace named",
                "[{name: web, namespace: shop}]",
                vec![report("web", "True", "True", 3)],
                true,
            ),
            (
                "a gateway elsewhere",
                "[{name: web, namespace: infra}]",
                vec![report("web", "True", "True", 3)],
                false,
            ),
            (
                "one listener of it",
                "[{name: web, sectionName: https}]",
                vec![report("web", "True", "True", 3)],
                false,
            ),
            (
                "one port of it",
                "[{name: web, port: 443}]",
                vec![report("web", "True", "True", 3)],
                false,
            ),
            (
                "no gateway asked for",
                "[]",
                vec![report("web", "True", "True", 3)],
                false,
            ),
        ] {
            let mut route = route("[{backendRefs: [{name: checkout}]}]");
            route["spec"]["parentRefs"] = yaml(parents);
            route["status"] = json!({"parents": reports});
            assert_eq!(is_programmed(&route), programmed, "{what}");
        }
    }
}
