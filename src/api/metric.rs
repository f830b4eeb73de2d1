//! One thing that is compared between canary and baseline.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::invalid::Invalid;
use super::units::Share;
use crate::sources::{HistogramSpec, Measure, RatioPreset, RatioSpec, SpecError};

/// One thing that is compared between canary and baseline: a ratio of counters, or the tail of a
/// histogram.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.ratio) != has(self.histogram)").message("a metric has exactly one of ratio and histogram"),
    validation = Rule::new("!has(self.limit) || !has(self.margin)").message("a metric has a margin or a limit, not both"),
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
    /// Bad requests out of all requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<RatioSpec>,
    /// Requests slower than the baseline's quantile, out of all requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<HistogramSpec>,
    /// How much worse than the baseline is tolerated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<Margin>,
    /// Compares the canary alone with a fixed limit instead: the largest acceptable share of bad
    /// (or slow) requests, like 1%. A plain point estimate; no error rate is claimed for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Share>,
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
            margin: None,
            limit: None,
        }
    }

    /// The numbers, with every default filled in.
    ///
    /// # Errors
    /// Names the field below this metric that cannot be understood.
    pub fn margins(&self) -> Result<Margins, Invalid> {
        let read = |field: &str, share: Option<&Share>, fits: fn(f64) -> bool, accepted: &str| match share {
            None => Ok(None),
            Some(share) => match share.fraction() {
                Ok(value) if fits(value) => Ok(Some(value)),
                _ => Err(Invalid::new(field, &share.0, accepted)),
            },
        };
        let margin = self.margin.as_ref();
        let abort = margin.and_then(|margin| margin.abort.as_ref());
        let promote = margin.and_then(|margin| margin.promote.as_ref());
        let upto = "a percentage up to 10000%, like 10%";
        Ok(Margins {
            abort: read("margin.abort", abort, |value| value <= 100.0, upto)?.unwrap_or(DEFAULT_ABORT),
            promote: read(
                "margin.promote",
                promote,
                |value| value > 0.0 && value <= 100.0,
                "a percentage above 0%, like 20%",
            )?,
            limit: read(
                "limit",
                self.limit.as_ref(),
                |value| value < 1.0,
                "a percentage below 100%, like 1%",
            )?,
        })
    }

    /// What is asked of the source.
    ///
    /// # Errors
    /// Names the field below this metric that cannot be understood.
    pub fn measure(&self) -> Result<Measure, Invalid> {
        let measure = match (&self.ratio, &self.histogram) {
            (Some(ratio), None) => ratio.measure(),
            (None, Some(histogram)) => histogram.measure(),
            (ratio, _) => {
                let value = if ratio.is_some() { "both" } else { "neither" };
                return Err(Invalid::new("ratio or histogram", value, "exactly one of them"));
            }
        };
        measure.map_err(|error| match error {
            SpecError::Field { field, why } => Invalid::new(field, "what is written", why),
            SpecError::Selector { field, error } => Invalid::new(field, "what is written", error.to_string()),
        })
    }
}

/// Evidence of more than 10 % worse aborts.
const DEFAULT_ABORT: f64 = 0.1;
