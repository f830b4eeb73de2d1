//! All metrics of one attempt together.

use serde::{Deserialize, Serialize};

use crate::decision::{Evidence, Judged, Millis, Percent, Reason, Tick, Verdict};

use super::plan::{self, MetricPlan, PlanError, Settings};

/// The judgement of one attempt: plan and state, serialisable, continued bit for bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    metrics: Vec<MetricPlan>,
    settings: Settings,
    weights: Vec<Percent>,
}

impl Analysis {
    /// Begins the judgement of an attempt. `weights` are the steps as written to the route: with
    /// a holdback the last one is not 100 (see `decision::Plan::weight_at`).
    ///
    /// # Errors
    /// When the plan cannot be judged by; the message names the field.
    pub fn new(metrics: Vec<MetricPlan>, settings: Settings, weights: Vec<Percent>) -> Result<Self, PlanError> {
        plan::check(&metrics, &settings, &weights)?;
        Ok(Self {
            metrics,
            settings,
            weights,
        })
    }

    /// The metrics, in the order in which [`Analysis::observe`] counts them.
    #[must_use]
    pub fn metrics(&self) -> &[MetricPlan] {
        &self.metrics
    }

    /// The weight of `step` was written at `at`: safety starts anew, evidence of harm carries on.
    /// Telling it again changes nothing. Ticks seen before the first step only feed the
    /// estimate of the dispersion.
    pub fn begin_step(&mut self, step: usize, at: Millis) {
        let _ = (step, at);
    }

    /// Counts one tick of the metric at `index`. A tick that is not newer than the last one is
    /// ignored; incomplete evidence changes no count.
    pub fn observe(&mut self, index: usize, evidence: &Evidence<Tick>) {
        let _ = (index, evidence);
    }

    /// What is known now about the attempt `epoch` at `step`.
    #[must_use]
    pub fn judged(&self, epoch: i64, step: usize) -> Judged {
        Judged {
            epoch,
            step,
            at: Millis::default(),
            verdict: Verdict::Inconclusive(Reason::NoEvidence),
            receiving: false,
            blind_since: None,
            no_harm: false,
            rule: String::new(),
            evidence_hash: String::new(),
            readings: Vec::new(),
        }
    }
}
