//! One release on trial: a frozen plan and ticks of evidence in, words about the release out.
//!
//! The controller tries releases on live evidence, `tollgate replay` on recorded evidence; both do
//! it here, and so they say the same. Nothing here knows a clock or a network.
//!
//! | file | holds |
//! |---|---|
//! | `plans` | what a frozen analysis asks of its source, and how its metrics are judged |

mod plans;

#[cfg(test)]
mod fields;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::{CanaryAnalysisSpec, Invalid};
use crate::decision::{Evidence, Judged, Millis};
use crate::judge::Analysis;
use crate::sources::{Answer, Measure, Subscription};

pub use plans::{plans, questions};

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

impl Trial {
    /// Opens the trial of a gate (namespace and name), or goes on with it where it was saved.
    ///
    /// # Errors
    /// [`Invalid`] naming the metric that cannot be judged.
    pub fn open(gate: (&str, &str), spec: &CanaryAnalysisSpec, saved: Option<&str>) -> Result<Self, Invalid> {
        let (namespace, name) = gate;
        let questions = questions(spec)?;
        let memory = match saved.and_then(|text| serde_json::from_str::<Memory>(text).ok()) {
            Some(memory) => memory,
            None => Memory {
                analysis: analysis(spec)?,
                edges: BTreeMap::new(),
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
                unknown: (0..questions.len()).collect(),
                metrics: questions,
            },
            judged: None,
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
                self.memory.analysis.observe(index, &Evidence::Complete(tick));
            }
            self.memory.analysis.observe(index, &answer.evidence);
        }
        self.note_known();
        if let Some(step) = self.step {
            self.judged = Some(self.memory.analysis.judged(self.epoch, step));
        }
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
