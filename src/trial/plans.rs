//! What a frozen analysis asks of its source, and how its metrics are judged.

use crate::api::{CanaryAnalysisSpec, Invalid, Metric};
use crate::judge::{Method, MetricPlan, Shape};
use crate::sources::{Measure, MetricQuery};

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
