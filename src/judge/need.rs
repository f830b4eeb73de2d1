//! How many more requests a verdict needs.
//!
//! Evidence against a margin grows by a known mean and variance per canary request when the
//! truth is some ratio; the remaining distance divided by the mean is the forecast.

use libm::sqrt;

use super::e1::{BETS, Margin, Place, Stake};
use super::e2::{self, Guess};
use super::margins::safety_margin;
use super::metric::{MIXTURE_COST, limit};
use super::outcome::{self, Outcome};
use super::plan::{Method, MetricPlan, Settings};
use crate::decision::Promote;

/// Baseline requests after which its rate counts as known in a forecast from nothing.
const KNOWN: f64 = 1e6;

/// What is assumed of the traffic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traffic {
    /// The baseline's rate of events.
    pub rate: f64,
    /// Baseline requests per canary request.
    pub split: f64,
    /// The canary's true rate divided by the baseline's; 1 for a healthy canary.
    pub truth: f64,
    /// Dispersion, 1 or more.
    pub phi: f64,
    /// Baseline requests that the rate is known from.
    pub known: f64,
}

/// Canary requests until evidence has grown by `nats` with probability Φ(z), betting on the
/// alternative at `place` alone. `None` when it would not grow.
///
/// From nothing, `nats` is ln(1/level) plus 1.5 for the mixture; in the middle of a step it is
/// what is missing to ln(1/level). z = 0 gives the median.
#[must_use]
pub fn requests(traffic: &Traffic, margin: &Margin, place: &Place, nats: f64, z: f64) -> Option<f64> {
    let (canary, baseline) = (traffic.rate * traffic.truth, traffic.rate * traffic.split);
    let share = e2::share(margin, traffic.rate * traffic.known, traffic.known);
    let (mean, variance) = if let Some(share) = share {
        let requests = [1.0, traffic.split];
        let worth = Guess::new(margin, share, requests).worth(place);
        let logs = worth.logs();
        let spread = |[event, none]: [f64; 2]| (event - none) * (event - none);
        let one = canary * (1.0 - canary) * spread(logs.canary);
        let other = baseline * (1.0 - traffic.rate) * spread(logs.baseline);
        (worth.log_of([canary, baseline], requests), one + other)
    } else {
        let stake = Stake::new(place, margin.part([1.0, traffic.split]));
        let (u, log_d) = (stake.canary, stake.baseline);
        let mean = canary * u + baseline * log_d - margin.exposure(place, [1.0, traffic.split]);
        (mean, canary * u * u + baseline * log_d * log_d)
    };
    let variance = traffic.phi * variance;
    if mean <= 0.0 {
        return None;
    }
    let root = (z * sqrt(variance) + sqrt(z * z * variance + 4.0 * mean * traffic.phi * nats)) / (2.0 * mean);
    Some(root * root)
}

/// The same for the median and the alternative that gets there first.
#[must_use]
pub fn forecast(traffic: &Traffic, margin: &Margin, nats: f64) -> Option<f64> {
    BETS.iter()
        .filter_map(|bet| requests(traffic, margin, margin.place(bet), nats.max(0.0), 0.0))
        .min_by(f64::total_cmp)
}

/// Canary requests, or pod-seconds, that a step of this share can be expected to need from nothing, when the canary is
/// as healthy as a baseline with this rate of bad ones: the median of what proof of safety takes.
/// `None` when no number of requests would suffice. At the last step, where no harm is enough, and for
/// the other methods, the minimum sample is all that is asked for.
#[must_use]
pub fn expected(plan: &MetricPlan, settings: &Settings, (share, last): (f64, bool), rate: f64) -> Option<f64> {
    if last || plan.method != Method::Sequential || plan.promote == Promote::NoHarm {
        return Some(plan.min_sample);
    }
    let judged = if outcome::is_open(plan) {
        Outcome::rarer([rate, 1.0])
    } else {
        Outcome::Bad
    };
    let traffic = Traffic {
        rate: judged.share(rate),
        split: settings.split(share),
        truth: 1.0,
        phi: plan.dispersion,
        known: if plan.shape.has_shares() { KNOWN } else { 0.0 },
    };
    forecast(
        &traffic,
        &safety_margin(plan, settings, share, [rate, 1.0], judged),
        limit(settings.beta) + MIXTURE_COST,
    )
}
