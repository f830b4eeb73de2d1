//! How the operator itself is watched: a monitor for the Prometheus operator, alerts and a dashboard. Each
//! once as it is applied and once as the chart's template.

use super::operator::Form;
use crate::api::labels::NAMESPACE;

/// Alerts, as the groups of a rule file of Prometheus.
const RULES: &str = include_str!("../../charts/tollgate/files/rules.yaml");
/// The dashboard, as Grafana exports and imports it.
const DASHBOARD: &str = include_str!("../../charts/tollgate/files/dashboard.json");

/// Where Prometheus finds the operator's own metrics.
const MONITOR: &str = r"apiVersion: v1
kind: Service
metadata:
  name: tollgate-metrics
  namespace: {NAMESPACE}
  labels: {app.kubernetes.io/name: tollgate-metrics}
spec:
  clusterIP: None
  selector: {app.kubernetes.io/name: tollgate}
  ports:
  - {name: http, port: 8080, targetPort: http}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: tollgate
  namespace: {NAMESPACE}{LABELS}
spec:
  selector:
    matchLabels: {app.kubernetes.io/name: tollgate-metrics}
  endpoints:
  - {port: http, path: /metrics, interval: 15s, scrapeTimeout: 10s}
";

const RULE: &str = r"apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: tollgate
  namespace: {NAMESPACE}{LABELS}
spec:
";

/// Grafana's sidecar looks for this label.
const BOARD: &str = r#"apiVersion: v1
kind: ConfigMap
metadata:
  name: tollgate-dashboard
  namespace: {NAMESPACE}
  labels: {grafana_dashboard: "1"}
data:
  tollgate.json: |-
"#;

/// Service and `ServiceMonitor`, to be applied as they are.
pub fn monitor() -> String {
    filled(MONITOR, Form::Plain)
}

/// The `PrometheusRule`, to be applied as it is.
pub fn rules() -> String {
    filled(RULE, Form::Plain) + &indented(RULES, "  ")
}

/// The dashboard in a `ConfigMap`, to be applied as it is.
pub fn dashboard() -> String {
    filled(BOARD, Form::Plain) + &indented(DASHBOARD, "    ")
}

/// All three as one template, each behind a value of its own. The files come with the chart, where the
/// template engine leaves them as they are: they have braces of their own.
pub fn template() -> String {
    let parts = [
        ("serviceMonitor", MONITOR, ""),
        ("rules", RULE, "{{ .Files.Get \"files/rules.yaml\" | indent 2 }}\n"),
        (
            "dashboard",
            BOARD,
            "{{ .Files.Get \"files/dashboard.json\" | indent 4 }}\n",
        ),
    ];
    let each = parts.map(|(value, text, file)| {
        format!(
            "{{{{- if .Values.monitoring.{value} }}}}\n{}{file}{{{{- end }}}}\n",
            filled(text, Form::Template)
        )
    });
    each.join("---\n")
}

fn filled(text: &str, form: Form) -> String {
    let (namespace, labels) = match form {
        Form::Plain => (NAMESPACE, ""),
        Form::Template => (
            "{{ .Release.Namespace }}",
            "\n  {{- with .Values.monitoring.labels }}\n  labels: {{- toYaml . | nindent 4 }}\n  {{- end }}",
        ),
    };
    text.replace("{NAMESPACE}", namespace).replace("{LABELS}", labels)
}

fn indented(text: &str, by: &str) -> String {
    let lines = text.lines().map(|line| match line {
        "" => "\n".to_owned(),
        line => format!("{by}{line}\n"),
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use promql_parser::label::{MatchOp, Matchers};
    use promql_parser::parser::{Expr, VectorSelector, parse};
    use serde_json::Value;

    use super::*;
    use crate::decision::{GapKind, Outcome, Reason};
    use crate::serve::{Fault, Kind, Metrics, Report, SourceKind, Verb};

    /// Every series that the operator can have, by name, with its labels as they are printed.
    fn series() -> BTreeMap<String, Vec<String>> {
        let metrics = Metrics::new();
        for outcome in [Outcome::Promote, Outcome::Hold, Outcome::Abort] {
            for reason in Reason::ALL {
                metrics.decided(outcome, *reason);
                metrics.held(reason.word(), Some(*reason));
            }
        }
        for fault in Fault::ALL {
            metrics.failed(*fault);
            metrics.wrote(Kind::HttpRoute, Verb::Patch, Some(*fault));
        }
        for result in Report::ALL {
            metrics.reported(*result, 1);
        }
        metrics.wrote(Kind::HttpRoute, Verb::Patch, None);
        metrics.queried(SourceKind::Prometheus, None, 1);
        metrics.queried(SourceKind::Prometheus, Some(GapKind::Timeout), 1);
        metrics.judged(std::time::Duration::from_secs(1));
        metrics.aborted(std::time::Duration::from_secs(1));
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let text = metrics.encode().expect("text");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let series = line.rsplit_once(' ').expect("a value").0;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            found.entry(name.to_owned()).or_default().push(labels.to_owned());
        }
        assert!(found.len() > 10, "{found:?}");
        found
    }

    /// The selectors in an expression.
    fn selectors<'a>(expression: &'a Expr, found: &mut Vec<&'a VectorSelector>) {
        match expression {
            Expr::VectorSelector(selector) => found.push(selector),
            Expr::MatrixSelector(matrix) => found.push(&matrix.vs),
            Expr::Aggregate(aggregate) => {
                selectors(&aggregate.expr, found);
                if let Some(parameter) = &aggregate.param {
                    selectors(parameter, found);
                }
            }
            Expr::Unary(unary) => selectors(&unary.expr, found),
            Expr::Binary(binary) => {
                selectors(&binary.lhs, found);
                selectors(&binary.rhs, found);
            }
            Expr::Paren(inner) => selectors(&inner.expr, found),
            Expr::Subquery(inner) => selectors(&inner.expr, found),
            Expr::Call(call) => call.args.args.iter().for_each(|argument| selectors(argument, found)),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => {}
            Expr::Extension(_) => panic!("nothing of the language itself"),
        }
    }

    /// What a matcher asks for has to be one of the words that the label can have.
    fn wrong_words(matchers: &Matchers, known: &[String]) -> Vec<String> {
        assert!(matchers.or_matchers.is_empty(), "no alternatives");
        let mut wrong = Vec::new();
        for matcher in &matchers.matchers {
            let words: Vec<&str> = match matcher.op {
                MatchOp::Equal | MatchOp::NotEqual => vec![&matcher.value],
                MatchOp::Re(_) | MatchOp::NotRe(_) => matcher.value.split('|').collect(),
            };
            for word in words {
                let label = format!("{}=\"{word}\"", matcher.name);
                if !known.iter().any(|labels| labels.contains(&label)) {
                    wrong.push(label);
                }
            }
        }
        wrong
    }

    /// What is wrong with an expression, in words.
    fn faults(expression: &str, series: &BTreeMap<String, Vec<String>>) -> Vec<String> {
        let parsed = match parse(expression) {
            Ok(parsed) => parsed,
            Err(error) => return vec![format!("{expression}: {error}")],
        };
        let mut found = Vec::new();
        selectors(&parsed, &mut found);
        let mut wrong = Vec::new();
        if found.is_empty() {
            wrong.push(format!("{expression}: asks for nothing"));
        }
        for selector in found {
            let name = selector.name.as_deref().unwrap_or_default();
            match series.get(name) {
                None => wrong.push(format!("{expression}: there is no metric {name}")),
                Some(known) => wrong.extend(wrong_words(&selector.matchers, known)),
            }
        }
        wrong
    }

    fn alerts() -> Vec<Value> {
        let rules: Value = serde_saphyr::from_str(RULES).expect("YAML");
        let groups = rules["groups"].as_array().expect("groups").clone();
        groups
            .iter()
            .flat_map(|group| group["rules"].as_array().expect("rules").clone())
            .collect()
    }

    #[test]
    fn every_expression_parses_and_names_only_what_the_operator_has() {
        let series = series();
        let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
        let panels = dashboard["panels"].as_array().expect("panels");
        let targets = panels
            .iter()
            .flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
        let expressions: Vec<String> = alerts()
            .into_iter()
            .chain(targets)
            .map(|each| {
                each["expr"]
                    .as_str()
                    .expect("an expression")
                    .replace("$__rate_interval", "5m")
            })
            .collect();
        assert!(expressions.len() > 20, "{expressions:?}");
        let wrong: Vec<String> = expressions.iter().flat_map(|each| faults(each, &series)).collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn an_expression_about_nothing_is_noticed() {
        let series = series();
        for (expression, wrong) in [
            ("sum(tollgate_leader)", false),
            ("sum(tollgate_leaders)", true),
            ("tollgate_holds{reason=\"NoEvidence\"} > 0", false),
            ("tollgate_holds{reason=\"NoEvidance\"} > 0", true),
            ("tollgate_holds{reason=~\"NoEvidence|Nothing\"} > 0", true),
            ("rate(tollgate_abort_seconds_sum[5m])", false),
            ("rate(tollgate_decisions[5m])", true),
            ("sum(", true),
            ("1", true),
        ] {
            assert_eq!(!faults(expression, &series).is_empty(), wrong, "{expression}");
        }
    }

    #[test]
    fn every_alert_says_what_it_means_what_to_do_and_how_much_it_hurts() {
        let alerts = alerts();
        for alert in &alerts {
            let name = alert["alert"].as_str().expect("a name");
            assert!(name.starts_with("Tollgate"), "{name}");
            let severity = alert["labels"]["severity"].as_str().expect(name);
            assert!(
                ["critical", "warning", "info"].contains(&severity),
                "{name}: {severity}"
            );
            for field in ["summary", "description"] {
                let text = alert["annotations"][field].as_str().expect(name);
                assert!(text.ends_with(['.', '?']), "{name}: {field}");
            }
        }
        let names: std::collections::BTreeSet<_> = alerts.iter().map(|alert| alert["alert"].to_string()).collect();
        assert_eq!(names.len(), alerts.len(), "each name once");
    }

    #[test]
    fn an_alert_about_a_long_hold_leaves_out_what_every_healthy_release_waits_for() {
        let alert = alerts()
            .into_iter()
            .find(|alert| alert["alert"] == "TollgateReleaseNeedsPerson")
            .expect("the alert");
        let expression = alert["expr"].as_str().expect("an expression");
        let parsed = parse(expression).expect("PromQL");
        let mut found = Vec::new();
        selectors(&parsed, &mut found);
        let matcher = &found.first().expect("a selector").matchers.matchers[0];
        let mut left_out: Vec<&str> = matcher.value.split('|').collect();
        // it has an alert of its own
        left_out.retain(|word| *word != Reason::NoEvidence.word());
        left_out.sort_unstable();
        let ordinary = Reason::ALL.iter().filter(|reason| reason.is_ordinary());
        let mut ordinary: Vec<&str> = ordinary.map(|reason| reason.word()).collect();
        ordinary.sort_unstable();
        assert_eq!(left_out, ordinary);
    }

    #[test]
    fn the_dashboard_is_one_that_grafana_loads() {
        let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
        assert!(dashboard["id"].is_null(), "Grafana gives it a number");
        for field in ["uid", "title"] {
            assert!(dashboard[field].is_string(), "{field}");
        }
        let mut taken = std::collections::BTreeSet::new();
        let mut numbers = std::collections::BTreeSet::new();
        for panel in dashboard["panels"].as_array().expect("panels") {
            let title = panel["title"].as_str().expect("a title");
            assert!(
                numbers.insert(panel["id"].as_u64().expect(title)),
                "{title}: its number twice"
            );
            let at = |field: &str| panel["gridPos"][field].as_u64().expect(title);
            assert!(at("x") + at("w") <= 24, "{title} is off the grid");
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{title} lies over another");
                }
            }
            assert!(
                panel["type"] == "row" || panel["datasource"]["uid"] == "${datasource}",
                "{title}: the source of data is chosen by who looks"
            );
        }
    }
}
