//! What each step of a gate needs, when the canary is as healthy as stable.

use std::fmt::Write as _;

use serde::Serialize;

use super::paint::{Tone, paint};
use super::units::span;
use crate::api::{CanaryAnalysisSpec, Share};
use crate::decision::{Millis, OnInconclusive, Percent, Unit};
use crate::judge::{MetricPlan, Settings, Shape, count, expected};
use crate::trial::plans;

/// What is assumed of a service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traffic {
    /// Requests per second.
    pub rate: f64,
    /// The share of them that fails in health.
    pub errors: f64,
}

/// A gate and what its steps need.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// Namespace and name.
    #[serde(rename = "gate")]
    pub name: String,
    /// Requests per second that were assumed.
    pub requests_per_second: f64,
    /// Every step.
    pub steps: Vec<Step>,
}

/// What a step needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its place, from 1.
    #[serde(rename = "step")]
    pub place: usize,
    /// The canary's share as it is written to the route, in percent.
    pub weight: i64,
    /// The metric that needs most.
    pub metric: String,
    /// What that is.
    #[serde(skip_serializing_if = "Unit::is_requests")]
    pub unit: Unit,
    /// Requests to the canary, or pod-seconds; absent when no number of them would suffice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<f64>,
    /// The same in seconds at the assumed traffic, and never below the step's shortest stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// The step's longest stay, in seconds.
    pub longest: f64,
    /// Whether it needs more than its longest stay.
    pub too_long: bool,
    /// What follows then.
    #[serde(skip)]
    on_inconclusive: OnInconclusive,
}

/// Requests per second: `200rps`, `200/s`, `3000/min`, or a number.
///
/// # Errors
/// Says what is accepted.
pub fn rate(text: &str) -> Result<f64, String> {
    let units = [("rps", 1.0), ("/s", 1.0), ("/min", 60.0), ("/h", 3600.0), ("", 1.0)];
    let read = units.iter().find_map(|(unit, seconds)| {
        let number = text.strip_suffix(unit)?.trim().parse::<f64>().ok()?;
        Some(number / seconds)
    });
    read.filter(|rate| rate.is_finite() && *rate > 0.0)
        .ok_or_else(|| "requests are written like 200rps, 200/s or 3000/min".to_owned())
}

/// A share: `0.3%`.
///
/// # Errors
/// Says what is accepted.
pub fn share(text: &str) -> Result<f64, String> {
    let read = Share::from(text).fraction().ok().filter(|share| *share < 1.0);
    read.ok_or_else(|| "a share is written like 0.3%".to_owned())
}

/// What every step of a policy needs.
#[must_use]
pub fn gate((namespace, name): (&str, &str), spec: &CanaryAnalysisSpec, traffic: Traffic) -> Gate {
    let mut gate = Gate {
        name: [namespace, name]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("/"),
        requests_per_second: traffic.rate,
        steps: Vec::new(),
    };
    let (Ok(plan), Ok(plans)) = (spec.plan(), plans(spec)) else {
        return gate;
    };
    for (index, planned) in plan.steps.iter().enumerate() {
        let weight = plan.weight_at(index);
        let share = f64::from(weight.get()) / 100.0;
        let of = |metric: &MetricPlan| {
            let of_tail = |rate| expected(metric, &Settings::default(), (share, plan.is_last(index)), rate);
            let needs: Option<Vec<f64>> = rates(metric, spec, traffic.errors).into_iter().map(of_tail).collect();
            needs?.into_iter().max_by(f64::total_cmp)
        };
        let a_second = |unit| match unit {
            Unit::Requests => traffic.rate * share,
            Unit::PodSeconds => pods(weight, spec),
            Unit::Samples => f64::INFINITY,
        };
        // a guard lets everything go on that it does not hold
        let needs = plans
            .iter()
            .filter(|metric| metric.shape != Shape::Gauge)
            .map(|metric| {
                let need = of(metric);
                (metric, need, need.map(|need| need / a_second(metric.shape.unit())))
            });
        // What would never suffice needs most.
        let time = |seconds: Option<f64>| seconds.unwrap_or(f64::INFINITY);
        let most = needs.max_by(|(_, _, one), (_, _, other)| time(*one).total_cmp(&time(*other)));
        let Some((metric, requests, seconds)) = most else {
            continue;
        };
        let seconds = seconds.map(|seconds| seconds.max(planned.min_window.as_secs_f64()));
        let longest = planned.max_window.as_secs_f64();
        gate.steps.push(Step {
            place: index + 1,
            weight: weight.into(),
            metric: metric.name.clone(),
            unit: metric.shape.unit(),
            requests,
            seconds,
            longest,
            too_long: seconds.is_none_or(|seconds| seconds > longest),
            on_inconclusive: plan.on_inconclusive,
        });
    }
    gate
}

/// How many pods the canary has at a weight.
fn pods(weight: Percent, spec: &CanaryAnalysisSpec) -> f64 {
    let pods = weight.pods_of(spec.target.stable_pods).max(1);
    u32::try_from(pods).map_or(f64::MAX, f64::from)
}

/// The rates of events that a metric's tails have in health: errors as assumed, above a quantile
/// what is above it, and no restarts.
fn rates(metric: &MetricPlan, spec: &CanaryAnalysisSpec, errors: f64) -> Vec<f64> {
    match metric.shape {
        Shape::Ratio | Shape::Conversion => return vec![errors],
        Shape::Count | Shape::Gauge => return vec![0.0],
        Shape::Histogram { .. } => {}
    }
    let asked = spec.analysis.metrics.iter().find(|asked| asked.name == metric.name);
    let quantile = asked.and_then(|asked| asked.histogram.as_ref()?.quantile);
    quantile.map_or_else(|| vec![0.5, 0.1, 0.01], |quantile| vec![1.0 - quantile])
}

impl Step {
    /// `about 180,000 requests, 30 min: longer than maxWindow`.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Some((requests, seconds)) = self.requests.zip(self.seconds) else {
            return format!(
                "{}: no number of {} would show it safe: {:?} at maxWindow",
                self.metric,
                self.unit.scaled(f64::MAX).1,
                self.on_inconclusive
            );
        };
        let time = span(super::next::whole(seconds));
        let (need, unit) = self.unit.scaled(requests);
        let of = if self.unit.is_requests() { "to" } else { "of" };
        let mut text = format!("about {} {unit} {of} the canary, {time} ({})", count(need), self.metric);
        if self.too_long {
            let longest = span(Millis::from_secs(super::next::whole(self.longest).0 / 1000));
            let _ = write!(
                text,
                ": longer than maxWindow {longest}, then {:?}",
                self.on_inconclusive
            );
        }
        text
    }
}

/// For people.
#[must_use]
pub fn text(gates: &[Gate]) -> String {
    let mut text = String::new();
    for gate in gates {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} at {} requests a second, when the canary is as healthy as stable:",
            paint(Tone::Strong, &gate.name),
            count(gate.requests_per_second)
        );
        let mut whole = Some(0.0);
        for step in &gate.steps {
            let tone = if step.too_long { Tone::Wait } else { Tone::Good };
            let _ = writeln!(
                text,
                "  step {} at {:>3} %  {}",
                step.place,
                step.weight,
                paint(tone, &step.sentence())
            );
            whole = whole.zip(step.seconds).map(|(sum, seconds)| sum + seconds);
        }
        if let Some(whole) = whole {
            let _ = writeln!(text, "  all together about {}", span(super::next::whole(whole)));
        }
    }
    text
}
