//! One thing that is compared between canary and baseline.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::units::Share;

/// One thing that is compared between canary and baseline: a ratio of counters, or the tail of a
/// histogram.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.ratio) != has(self.histogram)").message("a metric has exactly one of ratio and histogram"))]
pub struct Metric {
    /// Name within the gate, as it appears in status, messages and labels.
    #[schemars(length(min = 1, max = 52), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Who answers for this limit; printed by explain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub owner: Option<String>,
    /// Why the limit is what it is; printed by explain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub rationale: Option<String>,
    /// Bad requests out of all requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Ratio>,
    /// Requests slower than the baseline's quantile, out of all requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<Histogram>,
    /// How much worse than the baseline is tolerated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<Margin>,
}

/// A ratio of two counters: either a preset, or both selectors.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Ratio {
    /// A known pair of counters: gateway-errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub preset: Option<String>,
    /// PromQL selector of the counter of bad requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub bad: Option<String>,
    /// PromQL selector of the counter of all requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub total: Option<String>,
}

/// A histogram: either a preset, or a selector.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Histogram {
    /// A known histogram: gateway-duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub preset: Option<String>,
    /// PromQL selector of the histogram's buckets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub buckets: Option<String>,
    /// The quantile whose tail is compared, like 0.95.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub quantile: Option<f64>,
}

/// How much worse than the baseline is tolerated.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Margin {
    /// Abort on evidence that the canary is more than this much worse. Default: 10%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<Share>,
    /// Go on with evidence that the canary is at most this much worse. Default: follows the harm
    /// budget, step by step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote: Option<Share>,
}

/// Failed requests as the gateway counts them.
#[must_use]
pub fn default_metrics() -> Vec<Metric> {
    vec![Metric {
        name: "gateway-errors".into(),
        owner: None,
        rationale: None,
        ratio: Some(Ratio {
            preset: Some("gateway-errors".into()),
            ..Ratio::default()
        }),
        histogram: None,
        margin: None,
    }]
}
