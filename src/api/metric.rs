//! One thing that is compared between canary and baseline.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gauge::{GaugeSpec, Guard};
use super::invalid::Invalid;
use super::units::{Duration, Share};
use crate::decision::{Millis, Promote};
use crate::sources::{CountSpec, Gauge, HistogramSpec, Measure, RatioPreset, RatioSpec, SpecError};

/// One thing that is compared between canary and baseline: a ratio of counters, the tail of a
/// histogram, or events over time; or a gauge that is watched beside them.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.ratio) ? 1 : 0) + (has(self.histogram) ? 1 : 0) + (has(self.count) ? 1 : 0) + (has(self.gauge) ? 1 : 0) == 1")
        .message("a metric has exactly one of ratio, histogram, count and gauge"),
    validation = Rule::new("!has(self.gauge) || !(has(self.margin) || has(self.limit) || has(self.mannWhitney) || has(self.promote) || has(self.dispersion))")
        .message("a gauge is a guard: it has worse, floor and abort, and neither margin, limit, mannWhitney, promote nor dispersion"),
    validation = Rule::new("!has(self.count) || !(has(self.limit) || has(self.mannWhitney))")
        .message("limit and mannWhitney look at shares of requests: a count has none"),
    validation = Rule::new("(has(self.margin) ? 1 : 0) + (has(self.limit) ? 1 : 0) + (has(self.mannWhitney) ? 1 : 0) <= 1")
        .message("a metric is judged by a margin, by a limit or by mannWhitney: by one of them"),
    validation = Rule::new("!has(self.consecutiveFailures) || has(self.limit)")
        .message("consecutiveFailures counts windows above a limit: it needs one"),
    validation = Rule::new("!(has(self.limit) || has(self.mannWhitney)) || !(has(self.promote) || has(self.dispersion))")
        .message("promote and dispersion belong to the comparison with stable: a limit and mannWhitney have none of them"),
    validation = Rule::new("!has(self.promote) || self.promote != 'NoHarm' || !has(self.margin) || !has(self.margin.promote)")
        .message("with promote: NoHarm nothing is proved within margin.promote: give one of them"),
)]
pub struct Metric {
    /// Name within the gate, as it appears in status, messages and labels.
    #[schemars(length(min = 1, max = 52), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Who answers for this metric's margin; printed by `tollgate explain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub owner: Option<String>,
    /// Why the margin is what it is; printed by `tollgate explain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub rationale: Option<String>,
    /// Bad requests out of all requests, or good ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<RatioSpec>,
    /// Requests slower than the baseline's quantile, out of all requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<HistogramSpec>,
    /// Events over the time that pods were seen, like restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<CountSpec>,
    /// What pods have, like memory: a guard, for which no error rate is claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gauge: Option<GaugeSpec>,
    /// How much worse than the baseline is tolerated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<Margin>,
    /// What lets the metric pass at a step. Safe, the default: evidence that the canary is within
    /// margin.promote. NoHarm: no sign of harm in analysis.minSample requests, which proves nothing;
    /// it is recorded as NoHarm, with the upper bound of the ratio. The last step is always judged
    /// so. A count passes with NoHarm unless Safe or margin.promote is written, once the canary's pods
    /// were seen for five minutes, added up: what happens once a week cannot be proved safe in minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote: Option<Promote>,
    /// How many events come together at most, like the attempts of one request where callers retry, or
    /// the restarts of one pod in a loop: evidence is divided by it. From 1 to 1000. Default: 1. Where the source tells stable's pods
    /// apart, what they show replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub dispersion: Option<i32>,
    /// Compares the canary alone with a fixed limit instead: the largest acceptable share of bad
    /// (or slow) requests, like 1%. It is compared in windows of analysis.minSample requests, one
    /// after another. A plain point estimate; no error rate is claimed for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Share>,
    /// How many windows in a row have to be above the limit before the release is aborted. From 1
    /// to 100. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub consecutive_failures: Option<i32>,
    /// Compares ranks in fixed windows instead, as Kayenta does. Every window has its own error
    /// rate; none is claimed for the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mann_whitney: Option<MannWhitney>,
}

/// The rank test of a fixed window: a step passes when a window did not show the canary to be
/// worse, and a window that does aborts.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MannWhitney {
    /// Length of a window: at least one look for each point. Default: 30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Duration>,
    /// Points that a window is cut into, each compared by its share of bad requests. From 10 to 40.
    /// Default: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 40))]
    pub points: Option<i32>,
}

/// How much worse than the baseline is tolerated, relative to it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Margin {
    /// Abort on evidence that the canary is more than this much worse. Default: 10%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<Share>,
    /// Go on with evidence that the canary is less than this much worse. Default: follows the
    /// harm budget, step by step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote: Option<Share>,
}

/// A metric's numbers with every default filled in, as fractions: 0.1 for 10%.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margins {
    /// How much worse than the baseline is tolerated before an abort; 0 or more.
    pub abort: f64,
    /// How much worse a canary may be and still go on; above 0, none follows the harm budget.
    pub promote: Option<f64>,
    /// Largest acceptable share, when the metric is judged by a limit; 0 to below 1.
    pub limit: Option<f64>,
    /// Windows in a row above the limit that abort; 1 to 100.
    pub failures: u32,
    /// Length and points of a window, when the metric is judged by ranks.
    pub ranks: Option<(Millis, u32)>,
    /// What is too much, when the metric is a gauge.
    pub guard: Option<Guard>,
    /// What lets the metric pass.
    pub promotion: Promote,
    /// Variance of the counts relative to independent requests, until it is learnt; 1 or more.
    pub dispersion: f64,
}

impl Metric {
    /// A metric that only names a preset.
    #[must_use]
    pub fn gateway_errors() -> Self {
        Self {
            name: "gateway-errors".into(),
            owner: None,
            rationale: None,
            ratio: Some(RatioSpec {
                preset: Some(RatioPreset::GatewayErrors),
                ..RatioSpec::default()
            }),
            histogram: None,
            count: None,
            gauge: None,
            margin: None,
            promote: None,
            dispersion: None,
            limit: None,
            consecutive_failures: None,
            mann_whitney: None,
        }
    }

    /// The numbers, with every default filled in.
    ///
    /// # Errors
    /// Names the field below this metric that cannot be understood.
    pub fn margins(&self) -> Result<Margins, Invalid> {
        self.one_form()?;
        let read = |field: &str, share: Option<&Share>, fits: &dyn Fn(f64) -> bool, accepted: &str| match share {
            None => Ok(None),
            Some(share) => match share.fraction() {
                Ok(value) if fits(value) => Ok(Some(value)),
                _ => Err(Invalid::new(field, &share.0, accepted)),
            },
        };
        let margin = self.margin.as_ref();
        let abort = margin.and_then(|margin| margin.abort.as_ref());
        let promote = margin.and_then(|margin| margin.promote.as_ref());
        // of successes that may be lost only a part makes sense
        let (most, [upto, above]) = if self.counts_good() {
            (
                MOST_LOST,
                [
                    "a percentage up to 90% of the good ones, like 10%",
                    "a percentage above 0% and up to 90% of the good ones, like 20%",
                ],
            )
        } else {
            (
                100.0,
                ["a percentage up to 10000%, like 10%", "a percentage above 0%, like 20%"],
            )
        };
        Ok(Margins {
            abort: read("margin.abort", abort, &|value| value <= most, upto)?.unwrap_or(DEFAULT_ABORT),
            promote: read("margin.promote", promote, &|value| value > 0.0 && value <= most, above)?,
            limit: read(
                "limit",
                self.limit.as_ref(),
                &|value| value < 1.0,
                "a percentage below 100%, like 1%",
            )?,
            failures: Self::whole("consecutiveFailures", self.consecutive_failures, (1, 100))?.unwrap_or(1),
            ranks: self.ranks()?,
            guard: self.gauge.as_ref().map(GaugeSpec::guard).transpose()?,
            promotion: self.promotion(promote.is_some()),
            dispersion: Self::whole("dispersion", self.dispersion, (1, 1000))?.map_or(1.0, f64::from),
        })
    }

    /// What lets it pass: of a count, the absence of harm unless a proof is asked for.
    fn promotion(&self, margin: bool) -> Promote {
        let watched = self.gauge.is_some() || self.count.is_some() && !margin;
        let default = if watched { Promote::NoHarm } else { Promote::Safe };
        self.promote.unwrap_or(default)
    }

    /// Whether good ones are what is counted.
    fn counts_good(&self) -> bool {
        self.ratio.as_ref().is_some_and(|ratio| ratio.good.is_some())
    }

    /// One form alone, as the schema has it.
    fn one_form(&self) -> Result<(), Invalid> {
        let (limit, ranks) = (self.limit.is_some(), self.mann_whitney.is_some());
        let forms = [self.margin.is_some(), limit, ranks]
            .into_iter()
            .filter(|form| *form)
            .count();
        let proof = self.margin.as_ref().is_some_and(|margin| margin.promote.is_some());
        let clashes = [
            (forms > 1, "margin, limit and mannWhitney", "one of them at most"),
            (
                self.consecutive_failures.is_some() && !limit,
                "consecutiveFailures",
                "a limit beside it",
            ),
            (
                (limit || ranks) && (self.promote.is_some() || self.dispersion.is_some()),
                "promote and dispersion",
                "none of them beside limit or mannWhitney",
            ),
            (
                self.count.is_some() && (limit || ranks),
                "limit and mannWhitney",
                "none of them beside a count, which has no shares of requests",
            ),
            (
                self.gauge.is_some() && (forms > 0 || self.promote.is_some() || self.dispersion.is_some()),
                "margin, limit, mannWhitney, promote and dispersion",
                "none of them beside a gauge, which has worse, floor and abort",
            ),
            (
                proof && self.promote == Some(Promote::NoHarm),
                "promote: NoHarm and margin.promote",
                "one of them at most",
            ),
        ];
        let clash = clashes.into_iter().find(|(clashes, ..)| *clashes);
        clash.map_or(Ok(()), |(_, field, accepted)| {
            Err(Invalid::new(field, "what is written", accepted))
        })
    }

    fn ranks(&self) -> Result<Option<(Millis, u32)>, Invalid> {
        let Some(given) = &self.mann_whitney else {
            return Ok(None);
        };
        let window = match &given.window {
            None => DEFAULT_WINDOW,
            Some(length) => match length.millis() {
                Some(length) if length.0 > 0 => length,
                _ => {
                    return Err(Invalid::new(
                        "mannWhitney.window",
                        &length.0,
                        "a length of time like 30m",
                    ));
                }
            },
        };
        let points = Self::whole("mannWhitney.points", given.points, (10, 40))?;
        Ok(Some((window, points.unwrap_or(DEFAULT_POINTS))))
    }

    fn whole(field: &str, given: Option<i32>, (least, most): (u32, u32)) -> Result<Option<u32>, Invalid> {
        let read = |value: i32| {
            let fits = |value: &u32| (least..=most).contains(value);
            let accepted = format!("an integer from {least} to {most}");
            u32::try_from(value)
                .ok()
                .filter(fits)
                .ok_or_else(|| Invalid::new(field, value, accepted))
        };
        given.map(read).transpose()
    }

    /// What is asked of the source.
    ///
    /// # Errors
    /// Names the field below this metric that cannot be understood.
    pub fn measure(&self) -> Result<Measure, Invalid> {
        let written = [
            self.ratio.as_ref().map(RatioSpec::measure),
            self.histogram.as_ref().map(HistogramSpec::measure),
            self.count.as_ref().map(CountSpec::measure),
            self.gauge
                .as_ref()
                .map(|gauge| Gauge::measure(gauge.preset, gauge.selector.as_deref())),
        ];
        let mut written = written.into_iter().flatten();
        let (Some(measure), None) = (written.next(), written.next()) else {
            let accepted = "exactly one of them";
            return Err(Invalid::new(
                "ratio, histogram, count or gauge",
                "none or several of them",
                accepted,
            ));
        };
        measure.map_err(|error| match error {
            SpecError::Field { field, why } => Invalid::new(field, "what is written", why),
            SpecError::Selector { field, error } => Invalid::new(field, "what is written", error.to_string()),
        })
    }
}

/// Kayenta's documentation asks for at least 50 points in hours; half an hour of minutes is what
/// a step can afford.
const DEFAULT_WINDOW: Millis = Millis::from_secs(30 * 60);
const DEFAULT_POINTS: u32 = 30;
/// Evidence of more than 10 % worse aborts.
const DEFAULT_ABORT: f64 = 0.1;
/// Part of the good ones that a margin lets be lost at most.
const MOST_LOST: f64 = 0.9;
