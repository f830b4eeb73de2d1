//! One release on trial: its analysis, its questions, and what was last said about it.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::api::{CanaryAnalysisSpec, Invalid, Metric};
use crate::decision::{Judged, Millis};
use crate::judge::{Analysis, Method, MetricPlan, Settings, Shape};
use crate::sources::{Answer, Measure, MetricQuery, Subscription};

use super::frozen::Frozen;
use super::memory::GateKey;

/// One release on trial.
#[derive(Debug)]
pub struct Docket {
    /// Its attempt.
    pub epoch: i64,
    /// The step it is at; none before the first weight.
    pub step: Option<usize>,
    /// The source it is judged by.
    pub source: String,
    /// What it asks at every tick.
    pub subscription: Subscription,
    /// What was last said about it.
    pub judged: Option<Judged>,
    /// When the newest tick was counted.
    pub heard: Option<Instant>,
    /// When its memory was saved last.
    pub saved: Millis,
    memory: Memory,
}

/// What is saved with the CanaryAnalysis, so that a restart goes on bit for bit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    analysis: Analysis,
    /// Edges of histograms by the metric's place, chosen once from the baseline.
    edges: BTreeMap<usize, Vec<f64>>,
}

impl Docket {
    /// Opens the trial of an attempt, or goes on with it where it was saved.
    ///
    /// # Errors
    /// [`Invalid`] naming the metric that cannot be judged.
    pub fn open(key: &GateKey, frozen: &Frozen, (source, now): (String, Millis)) -> Result<Self, Invalid> {
        let questions = questions(&frozen.spec)?;
        let saved = frozen
            .judge_state
            .as_deref()
            .and_then(|text| serde_json::from_str::<Memory>(text).ok());
        let memory = match saved {
            Some(memory) => memory,
            None => Memory {
                analysis: analysis(frozen)?,
                edges: BTreeMap::new(),
            },
        };
        let target = &frozen.spec.target;
        let mut docket = Self {
            epoch: frozen.spec.epoch,
            step: None,
            source,
            subscription: Subscription {
                gate: key.to_string(),
                namespace: key.namespace.clone(),
                workload: target.workload.clone(),
                canary_workload: target.canary_workload.clone(),
                service: target.service.clone(),
                canary_service: target.canary_service.clone(),
                port: None,
                metrics: questions,
            },
            judged: None,
            heard: None,
            saved: now,
            memory,
        };
        for (index, edges) in docket.memory.edges.clone() {
            docket.ask_with(index, edges);
        }
        Ok(docket)
    }

    /// The weight of a step was written.
    pub fn begin_step(&mut self, step: usize, at: Millis) {
        if self.step != Some(step) {
            self.step = Some(step);
            self.judged = None;
            self.memory.analysis.begin_step(step, at);
        }
    }

    /// Counts one tick of every metric.
    pub fn observe(&mut self, answers: Vec<Answer>) {
        for (index, answer) in answers.into_iter().enumerate() {
            if let Some(edges) = answer.edges {
                self.memory.edges.insert(index, edges.clone());
                self.ask_with(index, edges);
            }
            self.memory.analysis.observe(index, &answer.evidence);
        }
        if let Some(step) = self.step {
            self.judged = Some(self.memory.analysis.judged(self.epoch, step));
        }
    }

    /// Its memory as text, for the CanaryAnalysis.
    #[must_use]
    pub fn snapshot(&self) -> Option<String> {
        serde_json::to_string(&self.memory).ok()
    }

    /// From now on asks for a histogram's tails at these edges.
    fn ask_with(&mut self, index: usize, edges: Vec<f64>) {
        if let Some(query) = self.subscription.metrics.get_mut(index)
            && let Measure::Tails(tails) = &query.measure
        {
            query.measure = Measure::Tails(tails.clone().at(edges));
        }
    }
}

fn analysis(frozen: &Frozen) -> Result<Analysis, Invalid> {
    let metrics = plans(&frozen.spec)?;
    let settings = Settings {
        interval: Millis::from_secs(frozen.spec.interval_seconds),
        ..Settings::default()
    };
    let weights = (0..frozen.plan.steps.len())
        .map(|step| frozen.plan.weight_at(step))
        .collect();
    Analysis::new(metrics, settings, weights)
        .map_err(|error| Invalid::new("spec.analysis", error.to_string(), "a plan that can be judged by"))
}

/// What is asked of the source, metric by metric.
///
/// # Errors
/// [`Invalid`] naming the metric.
pub fn questions(spec: &CanaryAnalysisSpec) -> Result<Vec<MetricQuery>, Invalid> {
    let question = |metric: &Metric| {
        Ok(MetricQuery {
            name: metric.name.clone(),
            measure: metric.measure().map_err(|invalid| within(metric, invalid))?,
        })
    };
    spec.analysis.metrics.iter().map(question).collect()
}

/// How every metric is judged.
///
/// # Errors
/// [`Invalid`] naming the metric.
pub fn plans(spec: &CanaryAnalysisSpec) -> Result<Vec<MetricPlan>, Invalid> {
    let error_budget = spec.terms().error_budget()?;
    let plan = |metric: &Metric| {
        let mut plan = plan(metric).map_err(|invalid| within(metric, invalid))?;
        // An objective speaks of failures, not of durations.
        plan.error_budget = error_budget.filter(|_| plan.shape == Shape::Ratio);
        if let Some(sample) = spec.analysis.min_sample {
            plan.min_sample = f64::from(sample);
        }
        Ok(plan)
    };
    spec.analysis.metrics.iter().map(plan).collect()
}

/// How a metric is judged by what it says itself: by its limit if it has one, else against stable.
fn plan(metric: &Metric) -> Result<MetricPlan, Invalid> {
    let shape = match metric.measure()? {
        Measure::Ratio(_) => Shape::Ratio,
        Measure::Tails(tails) => Shape::Histogram {
            tails: tails.count(),
            shown: tails.count() - 1,
        },
    };
    let margins = metric.margins()?;
    Ok(MetricPlan {
        margin_abort: margins.abort,
        margin_promote: margins.promote,
        method: margins.limit.map_or(Method::Sequential, |max| Method::Limit { max }),
        ..MetricPlan::new(&metric.name, shape)
    })
}

fn within(metric: &Metric, invalid: Invalid) -> Invalid {
    Invalid {
        field: format!("spec.analysis.metrics[{}].{}", metric.name, invalid.field),
        ..invalid
    }
}
