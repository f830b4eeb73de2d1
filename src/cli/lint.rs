//! `tollgate lint`: what is wrong with gates, before they are applied.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::cluster::Trouble;
use super::exit;
use super::findings::{self, Finding, Level};
use super::forecast::{self, Traffic};
use super::paint::{print, print_json};
use super::placed::{Placed, objects};
use crate::api::{self, CanaryAnalysisSpec, EvidenceSource, Invalid, Metric, ReleaseGate};
use crate::controller::frozen::{self, Asked};
use crate::decision::Revision;
use crate::sources::{ConnectionSpec, SelectorDoubt, doubt};
use crate::trial::{Trial, questions};

/// Fields of one object that are taken away to find what else is wrong with it.
const MOST_WRONG: usize = 50;
/// Bad requests that a limit should be expected to have seen before it decides: of fewer, a point
/// estimate is luck.
const ENOUGH_AT_LIMIT: f64 = 5.0;

const ABOUT: &str = "\
Checks ReleaseGates, CanaryAnalyses and EvidenceSources in YAML files, as the API server and the
operator would, and beyond: selectors that are not counters, expressions that mask absence, margins
that cannot be decided. Objects of other kinds are passed over. No cluster is needed.

With --traffic it also tells what each step needs when the canary is as healthy as stable.

Exit codes: 0 nothing is wrong (there may be warnings and notes); 1 there are errors, or warnings
with --strict; 2 a file cannot be read.

Example: tollgate lint config/sample.yaml --traffic 200rps --errors 0.3%";

/// What is checked, and how it is told.
#[derive(Debug, clap::Args)]
#[command(after_long_help = ABOUT, after_help = "Example: tollgate lint config/sample.yaml --traffic 200rps --errors 0.3%")]
pub struct Args {
    /// YAML files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Requests to the service: 200rps, 200/s, 3000/min; tells what each step needs
    #[arg(long, value_name = "RATE", value_parser = forecast::rate)]
    traffic: Option<f64>,
    /// The share of them that fails in health, like 0.3%
    #[arg(long, value_name = "SHARE", value_parser = forecast::share, default_value = "0%", requires = "traffic")]
    errors: f64,
    /// Warnings are errors
    #[arg(long)]
    strict: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

/// How findings are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For people
    #[default]
    Text,
    /// For scripts
    Json,
    /// For code scanners
    Sarif,
    /// Annotations of GitHub Actions
    Github,
}

impl Args {
    /// Checks and prints.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn run(self) -> Result<u8, Trouble> {
        let mut linter = Linter {
            traffic: self.traffic.map(|rate| Traffic {
                rate,
                errors: self.errors,
            }),
            ..Linter::default()
        };
        for path in &self.files {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| Trouble::Usage(format!("{}: {error}", path.display())))?;
            linter.file(path, &text);
        }
        let Linter { findings, steps, .. } = linter;
        match self.output {
            Form::Text => print(&(findings::text(&findings) + &forecast::text(&steps)))?,
            Form::Json => print_json(&serde_json::json!({"findings": findings, "steps": steps}))?,
            Form::Sarif => print_json(&findings::sarif(&findings))?,
            Form::Github => print(&findings::github(&findings))?,
        }
        let worst = if self.strict { Level::Warning } else { Level::Error };
        Ok(if findings.iter().any(|finding| finding.level >= worst) {
            exit::NOT_DONE
        } else {
            exit::DONE
        })
    }
}

/// What is found, file by file.
#[derive(Default)]
pub struct Linter {
    traffic: Option<Traffic>,
    /// What was found, in the order of files and lines.
    pub findings: Vec<Finding>,
    /// What each step needs, where the traffic is known.
    pub steps: Vec<forecast::Gate>,
    /// Gates by namespace and workload, and default sources of one file, to find those that are there twice.
    seen: BTreeMap<String, String>,
}

/// An object while it is checked.
struct Subject<'a> {
    file: String,
    placed: &'a Placed,
    found: Vec<Finding>,
}

impl Subject<'_> {
    fn find(&mut self, (level, rule): (Level, &'static str), field: &str, value: &str, accepted: &str) {
        self.found.push(Finding {
            file: self.file.clone(),
            line: self.placed.line(field),
            level,
            rule,
            field: field.to_owned(),
            value: value.to_owned(),
            accepted: accepted.to_owned(),
        });
    }

    fn has(&self, rule: &str) -> bool {
        self.found.iter().any(|finding| finding.rule == rule)
    }

    fn invalid(&mut self, invalid: &Invalid) {
        self.find(
            (Level::Error, "invalid"),
            &invalid.field,
            &invalid.value,
            &format!("it must be {}", invalid.accepted),
        );
    }
}

impl Linter {
    /// Checks the objects of one file.
    pub fn file(&mut self, path: &Path, text: &str) {
        let file = path.display().to_string();
        self.seen.clear();
        let objects = match objects(text) {
            Ok(objects) => objects,
            Err(unreadable) => {
                return self.findings.push(Finding {
                    file,
                    line: unreadable.line,
                    level: Level::Error,
                    rule: "yaml",
                    field: "file".to_owned(),
                    value: String::new(),
                    accepted: unreadable.why,
                });
            }
        };
        for placed in objects {
            let mut subject = Subject {
                file: file.clone(),
                placed: &placed,
                found: Vec::new(),
            };
            let bounds = match placed.object["kind"].as_str() {
                Some("ReleaseGate") => {
                    self.gate(&mut subject);
                    api::bounds::<ReleaseGate>
                }
                Some("EvidenceSource") => {
                    self.source(&mut subject);
                    api::bounds::<EvidenceSource>
                }
                Some("CanaryAnalysis") => {
                    if let Some(analysis) = understood::<api::CanaryAnalysis>(&mut subject) {
                        self.policy(&mut subject, &analysis.spec, ("", ""));
                    }
                    api::bounds::<api::CanaryAnalysis>
                }
                _ => continue,
            };
            if let (Err(invalid), false) = (bounds(&placed.object), subject.has("invalid")) {
                subject.invalid(&invalid);
            }
            subject.found.sort_by_key(|finding| finding.line);
            self.findings.extend(subject.found);
        }
    }

    fn gate(&mut self, subject: &mut Subject<'_>) {
        let Some(gate) = understood::<ReleaseGate>(subject) else {
            return;
        };
        let asked = Asked {
            name: "default".to_owned(),
            interval: 10,
            scrape: 15,
        };
        let name = gate.metadata.name.clone().unwrap_or_default();
        let namespace = gate.metadata.namespace.clone().unwrap_or_default();
        self.once(
            subject,
            "spec.target.workload.name",
            format!("{namespace}/{}", gate.spec.target.workload.name),
        );
        masks(subject, &gate.spec.analysis.metrics);
        match frozen::draft(&gate, asked, (&Revision("lint".to_owned()), 1, 0)) {
            Ok(draft) => self.policy(subject, &draft.spec, (&namespace, &name)),
            // What masks absence is no plain selector: it has been told with better words.
            Err(invalid) if invalid.field.contains(".metrics[") && subject.has("masks-absence") => {}
            Err(invalid) => subject.invalid(&invalid),
        }
    }

    fn source(&mut self, subject: &mut Subject<'_>) {
        let Some(source) = understood::<EvidenceSource>(subject) else {
            return;
        };
        if source.spec.prometheus.is_none() {
            subject.find(
                (Level::Error, "invalid"),
                "spec.prometheus",
                "nothing",
                "it must be the address of a server: {url: http://…}",
            );
        }
        if source.spec.default {
            self.once(subject, "spec.default", "the default source".to_owned());
        }
    }

    /// A second one is an error.
    fn once(&mut self, subject: &mut Subject<'_>, field: &str, what: String) {
        let here = format!("{}:{}", subject.file, subject.placed.line(field));
        if let Some(first) = self.seen.get(&what) {
            let accepted = format!("only one; the first is at {first}");
            subject.find((Level::Error, "twice"), field, &what, &accepted);
        } else {
            self.seen.insert(what, here);
        }
    }

    /// What a release would be judged by.
    fn policy(&mut self, subject: &mut Subject<'_>, spec: &CanaryAnalysisSpec, gate: (&str, &str)) {
        if let Err(invalid) = spec
            .plan()
            .map(|_| ())
            .and_then(|()| Trial::open(gate, spec, None).map(|_| ()))
        {
            return subject.invalid(&invalid);
        }
        let queries = questions(spec).unwrap_or_default();
        for (index, metric) in spec.analysis.metrics.iter().enumerate() {
            let field = |name: &str| format!("spec.analysis.metrics[{index}].{name}");
            if let Some(Err(error)) = queries
                .get(index)
                .map(|query| query.check(&ConnectionSpec::to("http://source")))
            {
                let text = error.to_string();
                let (name, why) = text.split_once(": ").unwrap_or(("ratio", &text));
                subject.find((Level::Error, "invalid"), &field(name), "what is written", why);
            }
            counters(subject, metric, &field);
            margins(subject, spec, metric, &field);
        }
        if spec.analysis.holdback == 0 {
            subject.find(
                (Level::Note, "unjudged-step"),
                "spec.analysis.holdback",
                "0",
                "with nothing left on stable the last step is watched, not compared",
            );
        }
        if let Some(traffic) = self.traffic {
            let gate = forecast::gate(gate, spec, traffic);
            for step in gate.steps.iter().filter(|step| step.too_long) {
                let field = format!("spec.steps[{}]", step.place - 1);
                let field = if subject.placed.object.pointer("/spec/steps").is_some() {
                    field
                } else {
                    "spec.analysis.maxWindow".to_owned()
                };
                subject.find(
                    (Level::Warning, "window-too-short"),
                    &field,
                    &format!("{} %", step.weight),
                    &step.sentence(),
                );
            }
            self.steps.push(gate);
        }
    }
}

/// Reads an object; every unknown field is named, not the first alone.
fn understood<K: kube::CustomResourceExt + serde::de::DeserializeOwned>(subject: &mut Subject<'_>) -> Option<K> {
    let mut left = subject.placed.clone();
    for _ in 0..MOST_WRONG {
        match api::parse::<K>(&left.object) {
            Ok(object) => return Some(object),
            Err(invalid) if invalid.value == api::UNKNOWN => {
                subject.invalid(&invalid);
                if !left.remove(&invalid.field) {
                    return None;
                }
            }
            Err(invalid) => {
                subject.invalid(&invalid);
                return None;
            }
        }
    }
    None
}

/// The selectors that a metric states itself, with the names of their fields.
fn selectors(metric: &Metric) -> Vec<(&'static str, &str)> {
    let ratio = metric.ratio.as_ref();
    let written = [
        ("ratio.bad", ratio.and_then(|ratio| ratio.bad.as_deref())),
        ("ratio.good", ratio.and_then(|ratio| ratio.good.as_deref())),
        ("ratio.total", ratio.and_then(|ratio| ratio.total.as_deref())),
        (
            "gauge.selector",
            metric.gauge.as_ref().and_then(|gauge| gauge.selector.as_deref()),
        ),
        (
            "count.events",
            metric.count.as_ref().and_then(|count| count.events.as_deref()),
        ),
        (
            "histogram.selector",
            metric
                .histogram
                .as_ref()
                .and_then(|histogram| histogram.selector.as_deref()),
        ),
    ];
    written
        .into_iter()
        .filter_map(|(name, text)| Some((name, text?)))
        .collect()
}

/// Expressions that turn missing data into good data.
fn masks(subject: &mut Subject<'_>, metrics: &[Metric]) {
    for (index, metric) in metrics.iter().enumerate() {
        for (name, text) in selectors(metric) {
            if let Some(SelectorDoubt::MasksAbsence(what)) = doubt(text) {
                let accepted = format!(
                    "{what} makes an answer where there is none, and a blind release look healthy; write the plain counter: \
                     with traffic and no error series the errors are zero, and with neither the release is held"
                );
                subject.find(
                    (Level::Error, "masks-absence"),
                    &format!("spec.analysis.metrics[{index}].{name}"),
                    text,
                    &accepted,
                );
            }
        }
    }
}

/// Selectors that by their names are no counters, and gauges that are.
fn counters(subject: &mut Subject<'_>, metric: &Metric, field: &dyn Fn(&str) -> String) {
    for (name, text) in selectors(metric) {
        if name == "gauge.selector" && doubt(text).is_none() {
            let accepted = "it is named like a counter, which only rises; a gauge is needed, like queue_length, or ratio or count \
                            for what is counted";
            subject.find((Level::Warning, "not-a-gauge"), &field(name), text, accepted);
        }
        let counts = !["histogram.selector", "gauge.selector"].contains(&name);
        if let (Some(SelectorDoubt::NotACounter(why)), true) = (doubt(text), counts) {
            let accepted = format!("{why}; a counter is needed, like orders_total: its increase is what is compared");
            subject.find((Level::Warning, "not-a-counter"), &field(name), text, &accepted);
        }
    }
}

/// Margins and limits that decide by luck, or never.
fn margins(subject: &mut Subject<'_>, spec: &CanaryAnalysisSpec, metric: &Metric, field: &dyn Fn(&str) -> String) {
    let Ok(margins) = metric.margins() else { return };
    let sample = spec.analysis.min_sample.map_or(500.0, f64::from);
    if let Some(limit) = margins.limit.filter(|limit| limit * sample < ENOUGH_AT_LIMIT) {
        let accepted = format!(
            "at the minimum sample of {sample:.0} requests it is decided by {:.1} bad ones; set analysis.minSample to {:.0} or more, \
             or a margin in place of the limit",
            limit * sample,
            if limit > 0.0 {
                (ENOUGH_AT_LIMIT / limit).ceil()
            } else {
                sample
            }
        );
        subject.find(
            (Level::Warning, "decides-on-luck"),
            &field("limit"),
            metric.limit.as_ref().map_or("", |limit| &limit.0),
            &accepted,
        );
    }
    if let Some(promote) = margins.promote.filter(|promote| *promote < margins.abort) {
        let accepted = format!(
            "below the abort margin of {:.0}%: a canary in between is neither safe nor harmful, and ends in onInconclusive ({:?})",
            margins.abort * 100.0,
            spec.policy.on_inconclusive
        );
        subject.find(
            (Level::Note, "grey-zone"),
            &field("margin.promote"),
            &format!("{:.0}%", promote * 100.0),
            &accepted,
        );
    }
    if metric.ratio.is_some() && margins.limit.is_none() && spec.analysis.slo.is_none() {
        let accepted = "without an objective a service that never fails cannot be shown safe, and ends in onInconclusive; \
                        state what it promises, like slo: 99.9%";
        subject.find(
            (Level::Note, "never-safe"),
            &field("ratio"),
            "no spec.analysis.slo",
            accepted,
        );
    }
    let stated = metric.margin.is_some() || metric.limit.is_some();
    if stated && (metric.owner.is_none() || metric.rationale.is_none()) {
        let name = if metric.margin.is_some() { "margin" } else { "limit" };
        let accepted = "say who answers for it (owner) and why it is what it is (rationale): explain prints both";
        subject.find((Level::Note, "anonymous"), &field(name), "", accepted);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn lint(file: &str, text: &str, traffic: Option<Traffic>) -> Linter {
        let mut linter = Linter {
            traffic,
            ..Linter::default()
        };
        linter.file(Path::new(file), text);
        linter
    }

    fn gate(spec: &Value) -> String {
        let mut gate = json!({
            "apiVersion": "tollgate.dev/v1alpha1", "kind": "ReleaseGate", "metadata": {"name": "checkout"},
            "spec": {
                "target": {"workload": {"name": "checkout"}, "service": "checkout"},
                "traffic": {"gatewayAPI": {"routes": [{"name": "checkout"}]}},
                "analysis": {"slo": "99.9%"},
            },
        });
        json_patch::merge(&mut gate["spec"], spec);
        serde_saphyr::to_string(&gate).expect("YAML")
    }

    fn orders(difference: &Value) -> Value {
        let mut metric = json!({"name": "orders", "ratio": {"bad": "orders_failed_total", "total": "orders_total"}});
        json_patch::merge(&mut metric, difference);
        json!({"analysis": {"metrics": [metric]}})
    }

    #[test]
    fn each_rule_finds_what_it_looks_for_at_its_field() {
        let cases = [
            (json!({"polcy": {}}), "invalid", "spec.polcy"),
            (
                json!({"steps": [{"weight": 5, "minWindw": "1m"}, {"weight": 100}]}),
                "invalid",
                "spec.steps[0].minWindw",
            ),
            (
                json!({"steps": [{"weight": 5}, {"weight": 5}]}),
                "invalid",
                "spec.steps[1].weight",
            ),
            (
                orders(&json!({"margin": {"abort": "many"}})),
                "invalid",
                "spec.analysis.metrics[0].margin.abort",
            ),
            (
                orders(&json!({"ratio": {"bad": null, "total": null, "preset": "errors"}})),
                "invalid",
                "spec.analysis.metrics[0].ratio.preset",
            ),
            (
                orders(&json!({"ratio": {"total": "orders_total{pod=\"a\"}"}})),
                "invalid",
                "spec.analysis.metrics[0].ratio.total",
            ),
            (
                orders(&json!({"ratio": {"bad": "rate(orders_total[5m])"}})),
                "invalid",
                "spec.analysis.metrics[0].ratio.bad",
            ),
            (
                orders(&json!({"ratio": {"bad": "orders_total or vector(0)"}})),
                "masks-absence",
                "spec.analysis.metrics[0].ratio.bad",
            ),
            (
                orders(&json!({"ratio": {"bad": "absent(orders_total)"}})),
                "masks-absence",
                "spec.analysis.metrics[0].ratio.bad",
            ),
            (
                orders(&json!({"ratio": {"total": "orders_total > bool 0"}})),
                "masks-absence",
                "spec.analysis.metrics[0].ratio.total",
            ),
            (
                orders(&json!({"ratio": {"total": "orders_in_flight"}})),
                "not-a-counter",
                "spec.analysis.metrics[0].ratio.total",
            ),
            (
                orders(&json!({"limit": "0.1%"})),
                "decides-on-luck",
                "spec.analysis.metrics[0].limit",
            ),
            (
                orders(&json!({"margin": {"abort": "20%", "promote": "10%"}})),
                "grey-zone",
                "spec.analysis.metrics[0].margin.promote",
            ),
            (
                orders(&json!({"margin": {"abort": "20%"}})),
                "anonymous",
                "spec.analysis.metrics[0].margin",
            ),
            (
                json!({"analysis": {"slo": null}}),
                "never-safe",
                "spec.analysis.metrics[0].ratio",
            ),
            (
                json!({"analysis": {"holdback": 0}}),
                "unjudged-step",
                "spec.analysis.holdback",
            ),
        ];
        for (spec, rule, field) in cases {
            let findings = lint("gate.yaml", &gate(&spec), None).findings;
            let found = findings
                .iter()
                .find(|finding| finding.rule == rule && finding.field == field);
            assert!(found.is_some(), "{rule} at {field}: {findings:?}");
            assert!(
                findings::RULES.iter().any(|(known, _)| *known == rule),
                "{rule} is described"
            );
        }
        let fine = lint("gate.yaml", &gate(&orders(&json!({}))), None).findings;
        assert_eq!(fine, []);
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_its_line() {
        let text = "kind: ReleaseGate\nmetadata: {name: a}\nspec:\n  target: {workload: {name: a}, service: a}\n  \
                    traffic: {gatewayAPI: {routes: [{name: a}]}}\n  one: 1\n  two: 2\n---\nkind: Service\nspec: {type: wrong}\n";
        let findings = lint("gate.yaml", text, None).findings;
        let lines: Vec<_> = findings
            .iter()
            .filter(|finding| finding.level == Level::Error)
            .map(|finding| finding.line)
            .collect();
        assert_eq!(lines, [6, 7], "{findings:?}");
        let broken = lint("gate.yaml", "kind: [", None).findings;
        assert_eq!(broken.first().map(|finding| finding.rule), Some("yaml"));
    }

    #[test]
    fn a_second_gate_of_a_workload_is_found() {
        let twice = format!("{}---\n{}", gate(&json!({})), gate(&json!({})));
        let findings = lint("gate.yaml", &twice, None).findings;
        assert!(
            findings
                .iter()
                .any(|finding| finding.rule == "twice" && finding.accepted.contains("gate.yaml:")),
            "{findings:?}"
        );
    }

    #[test]
    fn a_step_that_cannot_be_decided_in_time_is_found_with_what_it_needs() {
        let slow = Some(Traffic {
            rate: 20.0,
            errors: 0.003,
        });
        let metric = json!({"analysis": {"slo": null, "maxWindow": "30m", "metrics": [
            {"name": "errors", "ratio": {"preset": "gateway-errors"}, "margin": {"promote": "20%"}},
        ]}});
        let linter = lint("gate.yaml", &gate(&metric), slow);
        let weights: Vec<i64> = linter.steps[0]
            .steps
            .iter()
            .filter(|step| step.too_long)
            .map(|step| step.weight)
            .collect();
        assert_eq!(weights, [1, 5, 25, 50], "{:?}", linter.steps);
        assert!(
            linter.findings.iter().any(|finding| finding.rule == "window-too-short"),
            "{:?}",
            linter.findings
        );
        let fast = lint(
            "gate.yaml",
            &gate(&json!({})),
            Some(Traffic {
                rate: 2000.0,
                errors: 0.003,
            }),
        );
        assert!(
            fast.steps[0].steps.iter().all(|step| !step.too_long),
            "{:?}",
            fast.steps
        );
    }

    #[test]
    fn what_the_judge_needs_in_a_simulation_is_what_is_forecast() {
        // 200 requests a second with 0.3 % errors, from the specification of the statistics.
        let linter = lint(
            "gate.yaml",
            &gate(&json!({"analysis": {"slo": null}})),
            Some(Traffic {
                rate: 200.0,
                errors: 0.003,
            }),
        );
        let steps = &linter.steps[0].steps;
        let needs: Vec<f64> = steps.iter().filter_map(|step| step.requests).collect();
        assert!((150.0..300.0).contains(&needs[0]), "{needs:?}");
        assert!((120_000.0..240_000.0).contains(&needs[3]), "{needs:?}");
        assert!((needs[4] - 500.0).abs() < 0.5, "{needs:?}");
    }

    #[test]
    fn restarts_need_pod_time_and_no_requests() {
        let restarts = |more: Value| {
            let mut metric = json!({"name": "restarts", "count": {"preset": "restarts"}});
            json_patch::merge(&mut metric, &more);
            let spec = json!({"steps": [{"weight": 50}, {"weight": 100}], "analysis": {"minWindow": "1m", "metrics": [metric]}});
            let traffic = Traffic { rate: 1.0, errors: 0.0 };
            lint("gate.yaml", &gate(&spec), Some(traffic)).steps[0].steps[0].sentence()
        };
        assert_eq!(restarts(json!({})), "about 5 pod-minutes of the canary, 5m (restarts)");
        assert_eq!(
            restarts(json!({"promote": "Safe"})),
            "restarts: no number of pod-hours would show it safe: Hold at maxWindow"
        );
        let masked = json!({"analysis": {"metrics": [
            {"name": "crashes", "count": {"events": "crashes_total or vector(0)"}},
        ]}});
        let findings = lint("gate.yaml", &gate(&masked), None).findings;
        let found = findings.first().map(|finding| (finding.rule, finding.field.as_str()));
        assert_eq!(found, Some(("masks-absence", "spec.analysis.metrics[0].count.events")));
    }

    #[test]
    fn a_gauge_is_no_counter_and_needs_no_requests() {
        let found = |selector: &str| {
            let metrics = json!([
                {"name": "errors", "ratio": {"preset": "gateway-errors"}},
                {"name": "queue", "gauge": {"selector": selector, "floor": 100}},
            ]);
            let spec = json!({"analysis": {"metrics": metrics}});
            let traffic = Traffic {
                rate: 200.0,
                errors: 0.003,
            };
            let linter = lint("gate.yaml", &gate(&spec), Some(traffic));
            assert!(
                linter
                    .steps
                    .iter()
                    .flat_map(|gate| &gate.steps)
                    .all(|step| step.metric == "errors")
            );
            linter
                .findings
                .iter()
                .map(|finding| finding.rule)
                .find(|rule| *rule != "never-safe")
        };
        assert_eq!(found("queue_length"), None);
        assert_eq!(found("queued_total"), Some("not-a-gauge"));
        assert_eq!(found("queue_length or vector(0)"), Some("masks-absence"));
    }

    #[test]
    fn every_yaml_that_is_shipped_passes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut folders = vec![root.join("config"), root.join("e2e")];
        let mut gates = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a directory") {
                let path = entry.expect("an entry").path();
                let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                if path.is_dir() && name != "node_modules" && !name.starts_with('.') {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "yaml") {
                    let text = std::fs::read_to_string(&path).expect("readable");
                    gates += text.matches("kind: ReleaseGate\n").count();
                    let findings = lint(&name, &text, None).findings;
                    assert!(
                        findings.iter().all(|finding| finding.level == Level::Note),
                        "{}: {findings:?}",
                        path.display()
                    );
                }
            }
        }
        let readme = std::fs::read_to_string(root.join("README.md")).expect("readable");
        for text in readme
            .split("```yaml\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
        {
            let findings = lint("README.md", text, None).findings;
            assert!(
                findings.iter().all(|finding| finding.level == Level::Note),
                "{findings:?}"
            );
        }
        assert!(gates >= 3, "{gates} gates were found");
    }

    #[test]
    fn findings_are_told_in_the_form_of_whoever_reads_them() {
        let findings = lint("a,b.yaml", &gate(&json!({"polcy": {}})), None).findings;
        let github = findings::github(&findings);
        assert!(github.starts_with("::error file=a%2Cb.yaml,line="), "{github}");
        let sarif = findings::sarif(&findings);
        let result = &sarif["runs"][0]["results"][0];
        assert_eq!(
            (&result["ruleId"], &result["level"]),
            (&json!("invalid"), &json!("error"))
        );
        assert_eq!(
            result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
            "a,b.yaml"
        );
        let known = &sarif["runs"][0]["tool"]["driver"]["rules"];
        assert_eq!(known.as_array().map(Vec::len), Some(findings::RULES.len()));
        let text = findings::text(&findings);
        assert!(text.contains("a,b.yaml:") && text.contains("spec.polcy"), "{text}");
    }

    #[test]
    fn traffic_is_read_as_people_write_it() {
        for (text, expected) in [
            ("200rps", Some(200.0)),
            ("200/s", Some(200.0)),
            ("3000/min", Some(50.0)),
            ("5", Some(5.0)),
            ("0", None),
            ("fast", None),
            ("-1rps", None),
        ] {
            assert_eq!(forecast::rate(text).ok(), expected, "{text}");
        }
        assert_eq!(forecast::share("0.3%").ok(), Some(0.003));
        assert!(forecast::share("0.3").is_err() && forecast::share("100%").is_err());
    }
}
