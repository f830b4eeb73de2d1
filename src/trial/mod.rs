//! One release on trial: a frozen plan and ticks of evidence in, words about the release out.
//!
//! The controller tries releases on live evidence, `tollgate replay` on recorded evidence; both do
//! it here, and so they say the same. Nothing here knows a clock or a network.
//!
//! | file | holds |
//! |---|---|
//! | `plans` | what a frozen analysis asks of its source, and how its metrics are judged |
//! | `rules` | the rules of the policy: when they are asked, and what their answers do |
//! | `clause` | what one rule asks, and its answer |
//! | `environment` | what rules can read |
//! | `expression` | the part of CEL that they are written in |
//! | `spread` | the counts around a quantile that a rule reads |

mod clause;
mod environment;
mod expression;
mod plans;
mod rules;
mod spread;

#[cfg(test)]
mod fields;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod ruling;
#[cfg(test)]
mod shipped;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::{CanaryAnalysisSpec, Invalid};
use crate::decision::{Evidence, Judged, Millis, Tick};
use crate::judge::{Analysis, MetricPlan};
use crate::sources::{Answer, Measure, Subscription};

use environment::{Beside, Environment};
use rules::{Looks, Rules};
use spread::Spread;

pub use plans::{check, plans, questions};

/// One release on trial.
#[derive(Debug)]
pub struct Trial {
    /// Its attempt.
    pub epoch: i64,
    /// The step it is at; none before the first weight.
    pub step: Option<usize>,
    /// What it asks at every tick.
    pub subscription: Subscription,
    /// What was last said about it.
    pub judged: Option<Judged>,
    rules: Rules,
    /// The canary's weight in percent, step by step.
    weights: Vec<f64>,
    memory: Memory,
}

/// What is saved with the CanaryAnalysis, so that a restart goes on bit for bit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    analysis: Analysis,
    /// Edges of histograms by the metric's place, chosen once from the baseline.
    edges: BTreeMap<usize, Vec<f64>>,
    /// What the rules have said.
    #[serde(default)]
    looks: Looks,
    /// Counts around the quantiles that rules read, by the metric's place, since the step began.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    spreads: BTreeMap<usize, Spread>,
}

impl Trial {
    /// Opens the trial of a gate (namespace and name), or goes on with it where it was saved.
    ///
    /// # Errors
    /// [`Invalid`] naming the metric that cannot be judged.
    pub fn open(gate: (&str, &str), spec: &CanaryAnalysisSpec, saved: Option<&str>) -> Result<Self, Invalid> {
        let (namespace, name) = gate;
        let rules = Rules::read(spec)?;
        let questions = plans::asked(spec, &rules)?;
        let plan = spec.plan()?;
        let memory = match saved.and_then(|text| serde_json::from_str::<Memory>(text).ok()) {
            Some(memory) => memory,
            None => Memory {
                analysis: analysis(spec)?,
                edges: BTreeMap::new(),
                looks: Looks::default(),
                spreads: BTreeMap::new(),
            },
        };
        let target = &spec.target;
        let mut trial = Self {
            epoch: spec.epoch,
            step: None,
            subscription: Subscription {
                gate: format!("{namespace}/{name}"),
                namespace: namespace.to_owned(),
                workload: target.workload.clone(),
                canary_workload: target.canary_workload.clone(),
                service: target.service.clone(),
                canary_service: target.canary_service.clone(),
                port: None,
                ago: plans::past(spec)?.map_or(Millis(0), |(ago, _)| ago),
                unknown: (0..questions.len()).collect(),
                metrics: questions,
            },
            judged: None,
            rules,
            weights: (0..plan.steps.len())
                .map(|step| f64::from(plan.weight_at(step).get()))
                .collect(),
            memory,
        };
        for (index, edges) in trial.memory.edges.clone() {
            trial.ask_with(index, edges);
        }
        trial.note_known();
        Ok(trial)
    }

    /// The weight of a step was written.
    pub fn begin_step(&mut self, step: usize, at: Millis) {
        if self.step != Some(step) {
            self.step = Some(step);
            self.judged = None;
            self.memory.analysis.begin_step(step, at);
            if self.memory.looks.begin_step(step, at) {
                self.memory.spreads.clear();
            }
        }
    }

    /// Counts one tick of every metric, and first what the source remembers of the time before.
    pub fn observe(&mut self, answers: Vec<Answer>) {
        for (index, answer) in answers.into_iter().enumerate() {
            if let Some(edges) = answer.edges {
                self.memory.edges.insert(index, edges.clone());
                self.ask_with(index, edges);
            }
            for tick in answer.past {
                self.recall(index, tick);
            }
            self.count(index, answer.evidence);
        }
        self.note_known();
        if let Some(step) = self.step {
            let mut judged = self.memory.analysis.judged(self.epoch, step);
            self.rule(step, &mut judged);
            self.judged = Some(judged);
        }
    }

    /// Counts one tick from before the release: only what is judged.
    fn recall(&mut self, index: usize, tick: Tick) {
        let analysis = &mut self.memory.analysis;
        let tails = analysis.plans().get(index).map_or(0, MetricPlan::tails);
        let mut evidence = Evidence::Complete(tick);
        spread::cut(&mut evidence, tails);
        analysis.observe(index, &evidence);
    }

    /// Counts one tick of one metric: what is judged, and what lies around a quantile.
    fn count(&mut self, index: usize, mut evidence: Evidence<Tick>) {
        let analysis = &mut self.memory.analysis;
        let tails = analysis.plans().get(index).map_or(0, MetricPlan::tails);
        let around = spread::cut(&mut evidence, tails);
        let before = analysis.requests(index);
        analysis.observe(index, &evidence);
        if let Some(around) = around
            && self.rules.quantiles.contains(&index)
            && analysis.requests(index) != before
        {
            self.memory.spreads.entry(index).or_default().add(&around);
        }
    }

    /// Lets the rules of the policy speak.
    fn rule(&mut self, step: usize, judged: &mut Judged) {
        if self.rules.is_empty() {
            return;
        }
        let analysis = &self.memory.analysis;
        let beside = analysis.plans().iter().enumerate().map(|(index, plan)| Beside {
            unit: plan.shape.unit(),
            min_sample: plan.min_sample,
            bounds: analysis.bounds(index),
            quantiles: self.quantiles(index),
        });
        let beside: Vec<Beside> = beside.collect();
        let weight = self.weights.get(step).copied().unwrap_or_default();
        let minutes = self.memory.looks.minutes(judged.at);
        let environment = Environment::new(judged, (weight, minutes), &beside);
        self.rules.apply(&mut self.memory.looks, &environment, judged);
        if !self.memory.spreads.is_empty() {
            judged.evidence_hash = spread::hash(&judged.evidence_hash, &self.memory.spreads);
        }
    }

    /// The quantiles of canary and stable, of a metric of which some rule reads them.
    fn quantiles(&self, index: usize) -> Option<[f64; 2]> {
        let Measure::Tails(tails) = &self.subscription.metrics.get(index)?.measure else {
            return None;
        };
        let judged = self.memory.analysis.plans().get(index)?.tails();
        let around = tails.edges.as_ref()?.get(judged..)?;
        self.memory.spreads.get(&index)?.quantiles(tails.quantile()?, around)
    }

    /// Its memory as text, for the CanaryAnalysis.
    #[must_use]
    pub fn snapshot(&self) -> Option<String> {
        serde_json::to_string(&self.memory).ok()
    }

    /// What was seen once need not be asked about the time before.
    fn note_known(&mut self) {
        let analysis = &self.memory.analysis;
        self.subscription
            .unknown
            .retain(|index| analysis.seen(*index).is_none());
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

fn analysis(spec: &CanaryAnalysisSpec) -> Result<Analysis, Invalid> {
    let plan = spec.plan()?;
    let weights = (0..plan.steps.len()).map(|step| plan.weight_at(step)).collect();
    Analysis::new(plans(spec)?, plans::settings(spec)?, weights)
        .map_err(|error| Invalid::new("spec.analysis", error.to_string(), "a plan that can be judged by"))
}
