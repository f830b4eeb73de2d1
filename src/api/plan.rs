//! From what people write to what the machine decides by.
//!
//! The API server has checked most of this by the schema already. It is checked again here, because
//! the definitions in the cluster may be older or newer than this program.

use std::collections::BTreeSet;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::canary_analysis::CanaryAnalysisSpec;
use super::invalid::Invalid;
use super::policy::{Analysis, Deadlines, Policy, Step};
use super::release_gate::{Canary, ReleaseGateSpec};
use super::units::Duration;
use crate::decision::{self, Millis, NoEvidencePolicy, Percent, Plan};

/// What a release is decided by: the part of a gate that a CanaryAnalysis freezes.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Terms<'a> {
    /// The planned stops.
    pub steps: &'a [Step],
    /// How canary and baseline are compared.
    pub analysis: &'a Analysis,
    /// What happens when the evidence does not say.
    pub policy: &'a Policy,
    /// How the canary is made.
    pub canary: &'a Canary,
    /// How long Tollgate waits for others.
    pub deadlines: &'a Deadlines,
}

/// A gate and the record that freezes its terms state them in fields of the same names.
macro_rules! stated_by {
    ($($kind:ty),+) => {$(
        impl $kind {
            /// What a release is decided by.
            #[must_use]
            pub const fn terms(&self) -> Terms<'_> {
                Terms {
                    steps: self.steps.as_slice(),
                    analysis: &self.analysis,
                    policy: &self.policy,
                    canary: &self.canary,
                    deadlines: &self.deadlines,
                }
            }
        }
    )+};
}

stated_by!(ReleaseGateSpec, CanaryAnalysisSpec);

impl CanaryAnalysisSpec {
    /// The machine's plan.
    ///
    /// # Errors
    /// Names the first field that cannot be understood.
    pub fn plan(&self) -> Result<Plan, Invalid> {
        let patience = patience(self.interval_seconds, self.scrape_seconds);
        self.points()?;
        self.analysis.baseline.past(self.interval_seconds)?;
        let plan = Plan {
            patience,
            ..self.terms().plan()?
        };
        Ok(if self.policy_hash.is_empty() {
            plan
        } else {
            Plan {
                policy_hash: self.policy_hash.clone(),
                ..plan
            }
        })
    }

    /// Every point of a window of ranks has to see at least one look.
    fn points(&self) -> Result<(), Invalid> {
        for (index, metric) in self.analysis.metrics.iter().enumerate() {
            if let Ok(Some((window, points))) = metric.margins().map(|margins| margins.ranks)
                && window.0 / i64::from(points) < self.interval_seconds * 1000
            {
                let field = format!("spec.analysis.metrics[{index}].mannWhitney.window");
                let least = i64::from(points) * self.interval_seconds;
                let accepted = format!("at least {least}s: a look for each of {points} points");
                return Err(Invalid::new(field, format!("{}s", window.0 / 1000), accepted));
            }
        }
        Ok(())
    }

    /// Leaves nothing to a default of later days: fills in the windows of every step, then the
    /// hash of the terms.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.steps = self.terms().windows();
        self.policy_hash = self.terms().hash();
        self
    }
}

impl Terms<'_> {
    /// The machine's plan.
    ///
    /// # Errors
    /// Names the first field that cannot be understood.
    pub fn plan(&self) -> Result<Plan, Invalid> {
        self.metrics()?;
        self.baseline()?;
        let (low, high) = (
            window("spec.analysis.minWindow", &self.analysis.min_window)?,
            window("spec.analysis.maxWindow", &self.analysis.max_window)?,
        );
        ordered("spec.analysis.minWindow", low, high, &self.analysis.min_window)?;
        let hold = &self.policy.on_no_evidence.hold;
        Ok(Plan {
            policy_hash: self.hash(),
            steps: self.stops(low, high)?,
            patience: patience(DEFAULT_INTERVAL, DEFAULT_SCRAPE),
            holdback: percent("spec.analysis.holdback", self.analysis.holdback, 0, 50)?,
            on_inconclusive: self.policy.on_inconclusive,
            on_no_evidence: NoEvidencePolicy {
                hold: window("spec.policy.onNoEvidence.hold", hold)?,
                then: self.policy.on_no_evidence.then,
            },
            deadlines: decision::Deadlines {
                ready: window("spec.deadlines.ready", &self.deadlines.ready)?,
                route: window("spec.deadlines.route", &self.deadlines.route)?,
                handover: window("spec.deadlines.handover", &self.deadlines.handover)?,
                drain: window("spec.deadlines.drain", &self.deadlines.drain)?,
            },
        })
    }

    /// SHA-256 of the canonical JSON (RFC 8785) of these terms, in hex. Steps that state the
    /// windows of the analysis and steps that state none give the same.
    #[must_use]
    pub fn hash(&self) -> String {
        let steps = self.windows();
        let whole = Terms {
            steps: &steps,
            analysis: self.analysis,
            policy: self.policy,
            canary: self.canary,
            deadlines: self.deadlines,
        };
        // Terms hold text and finite numbers only, which cannot fail to be written.
        let bytes = serde_json_canonicalizer::to_vec(&whole).unwrap_or_default();
        format!("{:x}", Sha256::digest(&bytes))
    }

    /// The steps with every window stated.
    fn windows(&self) -> Vec<Step> {
        let (least, most) = (&self.analysis.min_window, &self.analysis.max_window);
        let stated = |step: &Step| Step {
            weight: step.weight,
            min_window: step.min_window.clone().or_else(|| Some(least.clone())),
            max_window: step.max_window.clone().or_else(|| Some(most.clone())),
        };
        self.steps.iter().map(stated).collect()
    }

    /// The objective as the share of requests that may fail: 0.001 for 99.9%.
    ///
    /// # Errors
    /// When it is not above 0% and below 100%.
    pub fn error_budget(&self) -> Result<Option<f64>, Invalid> {
        let Some(slo) = &self.analysis.slo else {
            return Ok(None);
        };
        match slo.fraction() {
            Ok(promised) if promised > 0.0 && promised < 1.0 => Ok(Some(1.0 - promised)),
            _ => Err(Invalid::new(
                "spec.analysis.slo",
                &slo.0,
                "a percentage above 0% and below 100%, like 99.9%",
            )),
        }
    }

    fn metrics(&self) -> Result<(), Invalid> {
        self.error_budget()?;
        let metrics = &self.analysis.metrics;
        if metrics.is_empty() {
            let accepted = "at least one metric: a policy that looks at nothing would pass everything";
            return Err(Invalid::new("spec.analysis.metrics", "an empty list", accepted));
        }
        let mut names = BTreeSet::new();
        for (index, metric) in metrics.iter().enumerate() {
            let within = |invalid: Invalid| Invalid {
                field: format!("spec.analysis.metrics[{index}].{}", invalid.field),
                ..invalid
            };
            metric.margins().map_err(within)?;
            metric.measure().map_err(within)?;
            if !names.insert(&metric.name) {
                return Err(within(Invalid::new("name", &metric.name, "a name no other metric has")));
            }
        }
        if metrics.iter().all(|metric| metric.gauge.is_some()) {
            let accepted = "at least one metric that is no gauge: a guard proves nothing";
            return Err(Invalid::new("spec.analysis.metrics", "gauges only", accepted));
        }
        let none_counts_requests = metrics
            .iter()
            .all(|metric| metric.ratio.is_none() && metric.histogram.is_none());
        if self.analysis.sample_ratio.is_some() && none_counts_requests {
            let accepted = "absent: it compares requests, and needs a metric that counts them, a ratio or a histogram";
            return Err(Invalid::new("spec.analysis.sampleRatio", "present", accepted));
        }
        Ok(())
    }

    /// The source says how often is looked; nothing looks more often than once a second.
    fn baseline(&self) -> Result<(), Invalid> {
        if self.analysis.baseline.past(1)?.is_some() && self.analysis.sample_ratio.is_some() {
            let accepted = "absent: it compares requests of the same time, and needs the baseline concurrent";
            return Err(Invalid::new("spec.analysis.sampleRatio", "present", accepted));
        }
        Ok(())
    }

    fn stops(&self, low: Millis, high: Millis) -> Result<Vec<decision::Step>, Invalid> {
        let mut stops = Vec::new();
        let mut least = 1;
        for (index, step) in self.steps.iter().enumerate() {
            let field = |name: &str| format!("spec.steps[{index}].{name}");
            let weight = percent(&field("weight"), step.weight, least, 100)?;
            least = step.weight.saturating_add(1);
            let read = |name: &str, given: Option<&Duration>, default| match given {
                Some(given) => window(&field(name), given),
                None => Ok(default),
            };
            let min_window = read("minWindow", step.min_window.as_ref(), low)?;
            let max_window = read("maxWindow", step.max_window.as_ref(), high)?;
            let given = step.min_window.as_ref().or(step.max_window.as_ref());
            ordered(
                &field("minWindow"),
                min_window,
                max_window,
                given.unwrap_or(&self.analysis.min_window),
            )?;
            stops.push(decision::Step {
                weight,
                min_window,
                max_window,
            });
        }
        match stops.last() {
            Some(last) if last.weight == Percent::ALL => Ok(stops),
            Some(last) => Err(Invalid::new(
                format!("spec.steps[{}].weight", stops.len() - 1),
                i64::from(last.weight),
                "100, as the last step",
            )),
            None => Err(Invalid::new("spec.steps", "an empty list", "at least the step 100")),
        }
    }
}

/// Seconds between two looks at a source that says nothing else.
const DEFAULT_INTERVAL: i64 = 10;
/// Seconds between two scrapes of a source that says nothing else.
const DEFAULT_SCRAPE: i64 = 15;

/// How old evidence may be in health: a tick is read one scrape after it ended, and the next one
/// an interval later; twice that, and at least 15 s, so that one slow answer is no gap.
fn patience(interval: i64, scrape: i64) -> Millis {
    let late = interval.saturating_add(scrape).saturating_mul(2);
    Millis::from_secs(late.max(15))
}

fn window(field: &str, given: &Duration) -> Result<Millis, Invalid> {
    given
        .millis()
        .ok_or_else(|| Invalid::new(field, &given.0, "a length of time like 90s, 5m or 1h30m"))
}

fn ordered(field: &str, low: Millis, high: Millis, given: &Duration) -> Result<(), Invalid> {
    if low <= high {
        return Ok(());
    }
    let accepted = format!("at most maxWindow, which is {} s here", high.as_secs_f64());
    Err(Invalid::new(field, &given.0, accepted))
}

fn percent(field: &str, value: i64, least: i64, most: i64) -> Result<Percent, Invalid> {
    let accepted = || format!("an integer from {least} to {most}");
    if (least..=most).contains(&value) {
        Percent::try_from(value).map_err(|_| Invalid::new(field, value, accepted()))
    } else if least > most {
        Err(Invalid::new(field, value, "absent: the step before it is 100 already"))
    } else {
        Err(Invalid::new(field, value, accepted()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{Arms, GateRef, ReleaseGate, parse};
    use crate::decision::{OnInconclusive, Then};

    fn ten_lines() -> ReleaseGate {
        parse(&json!({
            "apiVersion": "tollgate.dev/v1alpha1",
            "kind": "ReleaseGate",
            "metadata": {"name": "checkout", "namespace": "shop"},
            "spec": {
                "target": {"workload": {"name": "checkout"}, "service": "checkout"},
                "traffic": {"gatewayAPI": {"routes": [{"name": "checkout"}]}},
            },
        }))
        .expect("a good gate")
    }

    fn frozen(gate: &ReleaseGate) -> CanaryAnalysisSpec {
        CanaryAnalysisSpec {
            gate: Some(GateRef {
                name: "checkout".into(),
                uid: "u-1".into(),
            }),
            external: None,
            revision: "abc".into(),
            commit: None,
            epoch: 1,
            target: Arms {
                workload: "checkout".into(),
                service: "checkout".into(),
                canary_workload: "checkout-canary".into(),
                canary_service: "checkout-canary".into(),
                stable_pods: 2,
            },
            steps: gate.spec.steps.clone(),
            analysis: gate.spec.analysis.clone(),
            interval_seconds: DEFAULT_INTERVAL,
            scrape_seconds: DEFAULT_SCRAPE,
            offset_milliseconds: 0,
            policy: gate.spec.policy.clone(),
            canary: gate.spec.canary.clone(),
            deadlines: gate.spec.deadlines.clone(),
            policy_hash: String::new(),
        }
        .sealed()
    }

    #[test]
    fn ten_lines_become_a_whole_plan() {
        let gate = ten_lines();
        let minutes = |minutes: i64| Millis::from_secs(minutes * 60);
        let plan = gate.spec.terms().plan().expect("a good plan");
        let weights: Vec<u8> = plan.steps.iter().map(|step| step.weight.get()).collect();
        assert_eq!(weights, [1, 5, 25, 50, 100]);
        for step in &plan.steps {
            assert_eq!((step.min_window, step.max_window), (minutes(5), minutes(120)));
        }
        assert_eq!(
            plan.patience,
            Millis::from_secs(2 * (DEFAULT_INTERVAL + DEFAULT_SCRAPE)).max(Millis::from_secs(15))
        );
        assert_eq!(plan.holdback.get(), 5);
        assert_eq!(plan.weight_at(4).get(), 95);
        assert_eq!(plan.on_inconclusive, OnInconclusive::Hold);
        assert_eq!(
            (plan.on_no_evidence.hold, plan.on_no_evidence.then),
            (minutes(15), Then::Abort)
        );
        let waits = [
            plan.deadlines.ready,
            plan.deadlines.route,
            plan.deadlines.handover,
            plan.deadlines.drain,
        ];
        assert_eq!(waits, [minutes(10), minutes(5), minutes(30), Millis::from_secs(30)]);
        assert_eq!(gate.spec.environment, "production");
        assert!(!gate.spec.suspend && gate.spec.github.is_none());
        assert_eq!(
            gate.spec.routes(),
            [crate::routers::RouteRef {
                kind: crate::routers::RouteKind::Http,
                name: "checkout".into()
            }]
        );
        let metrics = &gate.spec.analysis.metrics;
        assert_eq!(metrics.len(), 1);
        assert_eq!(metrics[0].name, "gateway-errors");
        assert_eq!(
            metrics[0]
                .margins()
                .map(|margins| (margins.abort, margins.promote, margins.limit)),
            Ok((0.1, None, None))
        );
    }

    #[test]
    fn a_sealed_plan_says_the_same_and_leaves_nothing_to_a_default() {
        let gate = ten_lines();
        let sealed = frozen(&gate);
        assert_eq!(sealed.plan(), gate.spec.terms().plan());
        assert!(
            sealed
                .steps
                .iter()
                .all(|step| step.min_window.is_some() && step.max_window.is_some())
        );
        assert_eq!(sealed.policy_hash.len(), 64);
        let again: CanaryAnalysisSpec = serde_json::from_value(json!(sealed)).expect("as it was stored");
        assert_eq!(again.clone().sealed(), again);
    }

    #[test]
    fn a_window_of_ranks_has_a_look_for_every_point() {
        for (window, interval, fits) in [
            ("30m", 60, true),
            ("30m", 61, false),
            ("5m", 10, true),
            ("299s", 10, false),
        ] {
            let mut spec = frozen(&ten_lines());
            spec.interval_seconds = interval;
            let ranks = json!({"name": "a", "ratio": {"preset": "http-errors"}, "mannWhitney": {"window": window}});
            spec.analysis.metrics = vec![serde_json::from_value(ranks).expect("a metric")];
            assert_eq!(
                spec.plan().is_ok(),
                fits,
                "{window} every {interval} s: {:?}",
                spec.plan()
            );
        }
    }

    #[test]
    fn a_past_baseline_lies_ten_looks_to_thirty_days_back() {
        let past = |kind: &str, field: &str, given: &str| json!({kind: {field: given}});
        for (baseline, interval, field) in [
            (json!({"concurrent": {}}), 10, None),
            (past("previousWindow", "length", "100s"), 10, None),
            (
                past("previousWindow", "length", "100s"),
                11,
                Some("previousWindow.length"),
            ),
            (past("previousWindow", "length", "9s"), 1, Some("previousWindow.length")),
            (past("sameWindow", "ago", "720h"), 10, None),
            (past("sameWindow", "ago", "720h1ms"), 10, Some("sameWindow.ago")),
            (past("sameWindow", "ago", "7d"), 10, Some("sameWindow.ago")),
        ] {
            let mut spec = frozen(&ten_lines());
            spec.interval_seconds = interval;
            spec.analysis.baseline = serde_json::from_value(baseline.clone()).expect("a baseline");
            let refused = spec.plan().err().map(|invalid| invalid.field);
            let wanted = field.map(|field| format!("spec.analysis.baseline.{field}"));
            assert_eq!(refused, wanted, "{baseline} every {interval} s");
            spec.analysis.sample_ratio = Some(crate::api::SampleRatio::default());
            let refused = spec.plan().err().map(|invalid| invalid.field);
            let concurrent = baseline.get("concurrent").is_some();
            let alone = wanted.or_else(|| (!concurrent).then(|| "spec.analysis.sampleRatio".to_owned()));
            assert_eq!(refused, alone, "{baseline} and a share");
        }
    }

    #[test]
    fn a_share_of_requests_is_only_looked_at_where_requests_are_counted() {
        let restarts = json!({"name": "a", "count": {"preset": "restarts"}});
        let errors = json!({"name": "b", "ratio": {"preset": "http-errors"}});
        let slow = json!({"name": "c", "histogram": {"preset": "http-duration"}});
        let memory = json!({"name": "d", "gauge": {"preset": "memory", "floor": 0}});
        for (metrics, fits) in [
            (json!([errors]), true),
            (json!([restarts, slow]), true),
            (json!([restarts]), false),
            (json!([restarts, memory]), false),
        ] {
            let mut spec = frozen(&ten_lines());
            spec.analysis.metrics = serde_json::from_value(metrics.clone()).expect("metrics");
            assert!(spec.plan().is_ok(), "{metrics} alone: {:?}", spec.plan());
            spec.analysis.sample_ratio = Some(crate::api::SampleRatio::default());
            let refused = spec.plan().err().map(|invalid| invalid.to_string());
            let wanted = "spec.analysis.sampleRatio: present is not accepted; it must be absent: it compares requests, and \
                          needs a metric that counts them, a ratio or a histogram";
            let wanted = (!fits).then_some(wanted);
            assert_eq!(refused.as_deref(), wanted, "{metrics} and a share");
        }
    }

    type Change = fn(&mut ReleaseGateSpec);

    #[test]
    fn the_hash_of_a_policy_changes_with_every_part_of_it_and_with_nothing_else() {
        let before = ten_lines();
        let hash = before.spec.terms().hash();
        let mut same = before.clone();
        same.spec.suspend = true;
        same.spec.environment = "staging".into();
        same.spec.steps[0].min_window = Some("5m".into());
        assert_eq!(same.spec.terms().hash(), hash);
        let changes: [Change; 6] = [
            |spec| spec.steps[0].weight = 2,
            |spec| spec.steps[0].min_window = Some("6m".into()),
            |spec| spec.analysis.holdback = 0,
            |spec| spec.policy.on_inconclusive = OnInconclusive::NoHarm,
            |spec| spec.canary.labels = crate::api::CanaryLabels::Shared,
            |spec| spec.deadlines.drain = "31s".into(),
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut changed = before.clone();
            change(&mut changed.spec);
            assert_ne!(changed.spec.terms().hash(), hash, "change {index}");
        }
    }

    #[test]
    fn the_shipped_sample_is_good() {
        let text = include_str!("../../config/sample.yaml");
        let mut kinds = Vec::new();
        for document in text.split("\n---\n") {
            let object: serde_json::Value = serde_saphyr::from_str(document).expect("YAML");
            match object["kind"].as_str() {
                Some("ReleaseGate") => {
                    let gate: ReleaseGate = parse(&object).expect("a good gate");
                    gate.spec.terms().plan().expect("a good plan");
                }
                Some("EvidenceSource") => {
                    let source: crate::api::EvidenceSource = parse(&object).expect("a good source");
                    assert!(source.spec.default && source.spec.prometheus.is_some());
                }
                other => panic!("{other:?} is not expected in the sample"),
            }
            kinds.push(object["kind"].as_str().expect("a kind").to_owned());
        }
        assert_eq!(kinds, ["EvidenceSource", "ReleaseGate"]);
    }
}
