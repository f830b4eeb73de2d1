//! What a frozen analysis asks of its source, and how its metrics are judged.

use crate::api::{CanaryAnalysisSpec, Invalid, Metric};
use crate::decision::Millis;
use crate::judge::{Method, MetricPlan, Past, SampleRatioPlan, Settings, Shape};
use crate::sources::{Measure, MetricQuery};

use super::rules::Rules;

/// What is asked of the source, metric by metric; with the edges around a quantile that a rule reads.
///
/// # Errors
/// [`Invalid`] naming the metric or the rule.
pub fn questions(spec: &CanaryAnalysisSpec) -> Result<Vec<MetricQuery>, Invalid> {
    asked(spec, &Rules::read(spec)?)
}

/// The same with the rules already read.
///
/// # Errors
/// [`Invalid`] naming the metric.
pub(super) fn asked(spec: &CanaryAnalysisSpec, rules: &Rules) -> Result<Vec<MetricQuery>, Invalid> {
    let question = |(index, metric): (usize, &Metric)| {
        let measure = metric.measure().map_err(|invalid| within(index, invalid))?;
        Ok(MetricQuery {
            name: metric.name.clone(),
            measure: match measure {
                Measure::Tails(tails) if rules.quantiles.contains(&index) => Measure::Tails(tails.with_surroundings()),
                measure => measure,
            },
        })
    };
    spec.analysis.metrics.iter().enumerate().map(question).collect()
}

/// Reads everything that a trial by this plan would need.
///
/// # Errors
/// [`Invalid`] naming the metric or the rule that cannot be understood.
pub fn check(spec: &CanaryAnalysisSpec) -> Result<(), Invalid> {
    plans(spec)?;
    settings(spec)?;
    questions(spec)?;
    Ok(())
}

/// How every metric is judged.
///
/// # Errors
/// [`Invalid`] naming the metric.
pub fn plans(spec: &CanaryAnalysisSpec) -> Result<Vec<MetricPlan>, Invalid> {
    let error_budget = spec.terms().error_budget()?;
    let plan = |(index, metric): (usize, &Metric)| {
        let mut plan = plan(metric).map_err(|invalid| within(index, invalid))?;
        // An objective speaks of failures, not of durations, nor of customers who change their minds.
        plan.error_budget = error_budget.filter(|_| plan.shape == Shape::Ratio);
        // nor does a sample of requests speak of the time that pods were seen
        if let Some(sample) = spec.analysis.min_sample.filter(|_| plan.shape.unit().is_requests()) {
            plan.min_sample = f64::from(sample);
        }
        Ok(plan)
    };
    spec.analysis.metrics.iter().enumerate().map(plan).collect()
}

/// How a metric is judged by what it says itself: by its limit or its guard if it has one, else against
/// stable.
fn plan(metric: &Metric) -> Result<MetricPlan, Invalid> {
    let shape = match metric.measure()? {
        Measure::Ratio(ratio) if ratio.counts_good() => Shape::Conversion,
        Measure::Ratio(_) => Shape::Ratio,
        Measure::Tails(tails) => Shape::Histogram {
            tails: tails.count(),
            shown: tails.count() - 1,
        },
        Measure::Count(_) => Shape::Count,
        Measure::Gauge(_) => Shape::Gauge,
    };
    let margins = metric.margins()?;
    let limit = margins.limit.map(|max| Method::Limit {
        max,
        failures: margins.failures,
    });
    let ranks = margins
        .ranks
        .map(|(window, points)| Method::MannWhitney { window, points });
    let guard = margins.guard.map(|guard| Method::Guard {
        worse: guard.worse,
        floor: guard.floor,
        abort: guard.abort,
    });
    Ok(MetricPlan {
        margin_abort: margins.abort,
        margin_promote: margins.promote,
        promote: margins.promotion,
        dispersion: margins.dispersion,
        method: limit.or(ranks).or(guard).unwrap_or(Method::Sequential),
        ..MetricPlan::new(&metric.name, shape)
    })
}

/// What holds for all metrics.
///
/// # Errors
/// [`Invalid`] naming the field.
pub fn settings(spec: &CanaryAnalysisSpec) -> Result<Settings, Invalid> {
    let plan = spec.plan()?;
    let interval = Millis::from_secs(spec.interval_seconds);
    // the pods that the gatekeeper asks for before it raises the weight
    let pods = |step| u32::try_from(plan.weight_at(step).pods_of(spec.target.stable_pods)).unwrap_or(u32::MAX);
    let sample_ratio = spec.analysis.sample_ratio.as_ref().map(|given| SampleRatioPlan {
        dispersion: given.dispersion.map_or(TOGETHER, f64::from),
        // samples may be a scrape old, and a gateway takes a moment to get a weight
        settle: interval + Millis::from_secs(spec.scrape_seconds),
        ..SampleRatioPlan::default()
    });
    Ok(Settings {
        interval,
        canary_pods: (0..plan.steps.len()).map(pods).collect(),
        sample_ratio,
        past: past(spec)?.map(|(_, abort)| Past { abort }),
        ..Settings::default()
    })
}

/// How long before the canary's requests stable's are read, and whether harm against that past aborts.
///
/// # Errors
/// [`Invalid`] naming the field.
pub(super) fn past(spec: &CanaryAnalysisSpec) -> Result<Option<(Millis, bool)>, Invalid> {
    spec.analysis.baseline.past(spec.interval_seconds)
}

/// Requests of one connection, where nothing is said: few connections carry more in the ten seconds
/// of a look.
const TOGETHER: f64 = 100.0;

fn within(index: usize, invalid: Invalid) -> Invalid {
    Invalid {
        field: format!("spec.analysis.metrics[{index}].{}", invalid.field),
        ..invalid
    }
}
