//! What an attempt is judged by. Frozen when the attempt begins.

use serde::{Deserialize, Serialize};

use crate::decision::{MethodName, Millis, Percent, Promote};

use super::shape::Shape;

/// One metric and how it is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricPlan {
    /// The metric's name in the gate; for people only.
    pub name: String,
    /// What is counted.
    pub shape: Shape,
    /// How counts become a verdict.
    pub method: Method,
    /// Harm margin: how much worse than the baseline is tolerated. 0.1 means that a canary with
    /// up to 1.1 times the baseline's rate is not aborted. 0 or more; default 0.1.
    #[serde(default = "default_margin_abort")]
    pub margin_abort: f64,
    /// Safety margin: 0.2 asks for proof of less than 1.2 times the baseline's rate at every
    /// step. Above 0. Without it the margin follows the harm budget and the step's share.
    #[serde(default)]
    pub margin_promote: Option<f64>,
    /// What lets the metric pass at a step before the last, which always passes on `NoHarm`. Only
    /// for `Sequential`; default `Safe`, of a count `NoHarm`.
    #[serde(default)]
    pub promote: Promote,
    /// The share of requests that may fail by the service's objective: 0.001 for 99.9 %. Lets a
    /// service without any error be proved safe. Between 0 and 1; none for latency.
    #[serde(default)]
    pub error_budget: Option<f64>,
    /// Variance of the counts relative to independent requests, until it can be estimated from
    /// the baseline's pods: the largest number of attempts of one request. 1 or more; default 1.
    #[serde(default = "default_dispersion")]
    pub dispersion: f64,
    /// Canary requests within a step below which neither a limit nor the absence of harm says
    /// anything; of a count, pod-seconds. 1 or more; default 500, of a count 300.
    #[serde(default = "default_min_sample")]
    pub min_sample: f64,
}

/// How counts become a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Method {
    /// Evidence of harm and of safety against the concurrent baseline, valid at every look.
    Sequential,
    /// The canary's own share of events against a fixed limit, in windows of the minimum sample
    /// each, one after another. A plain point estimate: no error rate is claimed for it. A step
    /// passes while the newest full window is within the limit.
    Limit {
        /// Largest acceptable share of events, from 0 to below 1.
        max: f64,
        /// Windows in a row that have to be above it before that is a failure, 1 to 100.
        #[serde(default = "one")]
        failures: u32,
    },
    /// Windows of a fixed length, each judged once by the rank test of its points (Kayenta's
    /// rule). A step passes when a window did not show the canary to be worse; every further
    /// window is judged too. No error rate is claimed for a release: every window has its own.
    MannWhitney {
        /// Length of a window; above 0.
        window: Millis,
        /// Points in a window, 10 to 40.
        points: u32,
    },
    /// The canary's gauge against the baseline's: far above it for five minutes and 30 samples holds,
    /// or aborts where `abort` says so. No error rate is claimed.
    Guard {
        /// How much more than the baseline's is too much, 0 to 100: 0.5 is half as much again.
        worse: f64,
        /// What is never too much, 0 or more.
        floor: f64,
        /// Whether it aborts.
        abort: bool,
    },
}

/// What holds for all metrics of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// Probability, over all metrics, steps and looks of the attempt, of aborting a canary that
    /// is within the abort margin. Between 0 and 1; default 0.01.
    pub alpha: f64,
    /// Probability, per step, of passing a canary that is worse than the promote margin; the
    /// interval shown has the same level. Between 0 and 1; default 0.05.
    pub beta: f64,
    /// Share of the service's baseline errors that one step may add. Above 0; default 0.1.
    pub harm_budget: f64,
    /// Length of a tick; default 10 s.
    pub interval: Millis,
    /// How many pods the canary has at each step: with few of them, and stable pods that differ
    /// from each other, the abort margin widens. Without it, or 0, it does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub canary_pods: Vec<u32>,
    /// Watches whether the canary gets its share of the requests. Without it nobody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_ratio: Option<SampleRatioPlan>,
    /// The baseline's counts are of a past time. Without it they are of the tick's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub past: Option<Past>,
}

/// A baseline of a past time, which moves with the hour and with incidents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Past {
    /// Whether harm against it is a failure. Otherwise the verdict is `WorseThanPast` for as long as
    /// the evidence of harm stands, and nothing of it is kept.
    pub abort: bool,
}

/// When a split that is not the intended one holds a release.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SampleRatioPlan {
    /// Probability of an alarm, over all steps, when the split is right. Default 0.001.
    pub alpha: f64,
    /// Variance of the requests relative to independent ones: connections that stay with an arm
    /// and carry many requests make it large. 1 or more; default 1.
    pub dispersion: f64,
    /// Time at the beginning of a step that does not count: until the gateway has the new weight,
    /// and because a sample may be a scrape old. Default 0.
    pub settle: Millis,
}

impl Default for SampleRatioPlan {
    fn default() -> Self {
        Self {
            alpha: 0.001,
            dispersion: 1.0,
            settle: Millis(0),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            alpha: 0.01,
            beta: 0.05,
            harm_budget: 0.1,
            interval: Millis::from_secs(10),
            canary_pods: Vec::new(),
            sample_ratio: None,
            past: None,
        }
    }
}

impl Settings {
    /// Whether harm against the baseline holds, and is no failure.
    pub(super) const fn is_guard(&self) -> bool {
        matches!(self.past, Some(Past { abort: false }))
    }

    /// Baseline requests to expect per canary request, at this share of the traffic: stable had all of
    /// it in the past, and has the rest of it now.
    pub(super) fn split(&self, share: f64) -> f64 {
        match self.past {
            Some(_) => 1.0 / share,
            None => (1.0 - share) / share,
        }
    }
}

const fn default_margin_abort() -> f64 {
    0.1
}

const fn default_dispersion() -> f64 {
    1.0
}

const fn one() -> u32 {
    1
}

const fn default_min_sample() -> f64 {
    500.0
}

impl Method {
    /// What it is called.
    #[must_use]
    pub const fn name(&self) -> MethodName {
        match self {
            Self::Sequential => MethodName::Sequential,
            Self::Limit { .. } => MethodName::Limit,
            Self::MannWhitney { .. } => MethodName::MannWhitney,
            Self::Guard { .. } => MethodName::Guard,
        }
    }
}

impl MetricPlan {
    /// A sequential metric with every default.
    #[must_use]
    pub fn new(name: impl Into<String>, shape: Shape) -> Self {
        Self {
            name: name.into(),
            shape,
            method: Method::Sequential,
            margin_abort: default_margin_abort(),
            margin_promote: None,
            promote: shape.promote(),
            error_budget: None,
            dispersion: default_dispersion(),
            min_sample: shape.least(),
        }
    }

    /// How many event counts every tick of this metric carries.
    #[must_use]
    pub const fn tails(&self) -> usize {
        self.shape.tails()
    }

    /// The tail that people are shown.
    #[must_use]
    pub const fn shown(&self) -> usize {
        self.shape.shown()
    }

    fn check(&self, interval: Millis) -> Result<(), PlanError> {
        let field = |field, value, accepted| PlanError::Metric {
            metric: self.name.clone(),
            field,
            value,
            accepted,
        };
        // written so that NaN is refused too
        let ok = |fits: bool, error: PlanError| if fits { Ok(()) } else { Err(error) };
        if let Shape::Histogram { tails, shown } = self.shape {
            let fits = (1..=MAX_TAILS).contains(&tails) && shown < tails;
            ok(
                fits,
                PlanError::Tails {
                    metric: self.name.clone(),
                    tails,
                    shown,
                },
            )?;
        }
        let judged_by = self.shape.judged_by(&self.method);
        judged_by.map_err(|accepted| PlanError::Method {
            metric: self.name.clone(),
            method: self.method.name(),
            accepted,
        })?;
        if let Method::Guard { worse, floor, .. } = self.method {
            ok((0.0..=MAX_MARGIN).contains(&worse), field("worse", worse, "0 to 100"))?;
            let fits = floor >= 0.0 && floor.is_finite();
            ok(fits, field("floor", floor, "0 or more"))?;
        }
        if let Method::Limit { max, failures } = self.method {
            ok((0.0..1.0).contains(&max), field("limit", max, "0 to below 1"))?;
            let fits = (1..=MAX_FAILURES).contains(&failures);
            ok(fits, field("failures", f64::from(failures), "1 to 100"))?;
        }
        if let Method::MannWhitney { window, points } = self.method {
            let fits = (10..=MAX_POINTS).contains(&points);
            ok(fits, field("points", f64::from(points), "10 to 40"))?;
            let fits = window.0 / i64::from(points) >= interval.0.max(1);
            let accepted = "seconds, at least one tick for each point";
            ok(fits, field("window", window.as_secs_f64(), accepted))?;
        }
        let (most, [abort, promote]) = match self.shape {
            Shape::Conversion => (MAX_LOSS, ["0 to 0.9", "above 0, at most 0.9"]),
            _ => (MAX_MARGIN, ["0 to 100", "above 0, at most 100"]),
        };
        let margin = self.margin_abort;
        ok((0.0..=most).contains(&margin), field("margin.abort", margin, abort))?;
        if let Some(margin) = self.margin_promote {
            let fits = margin > 0.0 && margin <= most;
            ok(fits, field("margin.promote", margin, promote))?;
        }
        if let Some(budget) = self.error_budget {
            ok(
                budget > 0.0 && budget < 1.0,
                field("error budget", budget, "above 0, below 1"),
            )?;
        }
        let spread = self.dispersion;
        ok(
            (1.0..=1000.0).contains(&spread),
            field("dispersion", spread, "1 to 1000"),
        )?;
        let sample = self.min_sample;
        ok(
            sample >= 1.0 && sample.is_finite(),
            field("minimum sample", sample, "1 or more"),
        )
    }
}

/// More edges than this say nothing new and cost state.
const MAX_TAILS: usize = 8;
/// So that the state of a metric stays within its bounds.
const MAX_POINTS: u32 = 40;
/// More failures in a row than this are no rule any more.
const MAX_FAILURES: u32 = 100;
/// A canary a hundred times worse than its baseline is worse by any standard.
const MAX_MARGIN: f64 = 100.0;
/// A canary that loses more successes than nine of ten has none worth comparing.
const MAX_LOSS: f64 = 0.9;

/// Why a plan cannot be judged by.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Nothing could ever be shown.
    #[error("an analysis needs at least one metric")]
    NoMetric,
    /// Steps do not rise from above 0 to at most 100.
    #[error("the weights of the steps must rise, from 1 to 100, not {0:?}")]
    Weights(Vec<u8>),
    /// A setting is out of range.
    #[error("{field} is {value}; accepted is {accepted}")]
    Setting {
        /// Which one.
        field: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        accepted: &'static str,
    },
    /// A field of a metric is out of range.
    #[error("metric {metric:?}: {field} is {value}; accepted is {accepted}")]
    Metric {
        /// The metric.
        metric: String,
        /// Which field.
        field: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        accepted: &'static str,
    },
    /// Limits and ranks are about shares of requests, guards about gauges.
    #[error("metric {metric:?}: what it counts cannot be judged by {method:?}; accepted is {accepted}")]
    Method {
        /// The metric.
        metric: String,
        /// How it is to be judged.
        method: MethodName,
        /// How it may be.
        accepted: &'static str,
    },
    /// A histogram's tails make no sense.
    #[error("metric {metric:?}: tail {shown} of {tails} cannot be shown; accepted are 1 to 8 tails, counted from 0")]
    Tails {
        /// The metric.
        metric: String,
        /// How many tails.
        tails: usize,
        /// Which one is to be shown.
        shown: usize,
    },
}

/// Refuses what cannot be judged by, naming the field and what would be accepted.
pub(super) fn check(metrics: &[MetricPlan], settings: &Settings, weights: &[Percent]) -> Result<(), PlanError> {
    if metrics.is_empty() {
        return Err(PlanError::NoMetric);
    }
    let shares: Vec<u8> = weights.iter().map(|weight| weight.get()).collect();
    if shares.is_empty() || shares.contains(&0) || !shares.is_sorted_by(|before, after| before < after) {
        return Err(PlanError::Weights(shares));
    }
    check_settings(settings)?;
    metrics.iter().try_for_each(|plan| plan.check(settings.interval))
}

fn check_settings(settings: &Settings) -> Result<(), PlanError> {
    let sample_ratio = settings.sample_ratio.unwrap_or_default();
    let (seconds, budget) = (settings.interval.as_secs_f64(), settings.harm_budget);
    let level = |value: f64| value > 0.0 && value < 1.0;
    // written so that NaN is refused too
    let checked = [
        ("alpha", settings.alpha, level(settings.alpha), "above 0, below 1"),
        ("beta", settings.beta, level(settings.beta), "above 0, below 1"),
        (
            "harm budget",
            budget,
            budget > 0.0 && budget <= MAX_MARGIN,
            "above 0, at most 100",
        ),
        ("interval", seconds, seconds > 0.0, "above 0 s"),
        (
            "alpha of the sample ratio",
            sample_ratio.alpha,
            level(sample_ratio.alpha),
            "above 0, below 1",
        ),
        (
            "dispersion of the sample ratio",
            sample_ratio.dispersion,
            (1.0..=1000.0).contains(&sample_ratio.dispersion),
            "1 to 1000",
        ),
    ];
    let wrong = checked.into_iter().find(|(_, _, fits, _)| !fits);
    wrong.map_or(Ok(()), |(field, value, _, accepted)| {
        Err(PlanError::Setting { field, value, accepted })
    })
}
