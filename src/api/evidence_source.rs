//! EvidenceSource: where evidence comes from, as administrators set it up.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use crate::sources::ConnectionSpec;

/// Where evidence comes from.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "tollgate.dev",
    version = "v1alpha1",
    kind = "EvidenceSource",
    status = "SourceStatus",
    shortname = "es",
    category = "tollgate",
    derive = "PartialEq",
    doc = "Where evidence comes from: address, credential and limits of one source. Gates only name it.",
    printcolumn(name = "DEFAULT", type_ = "boolean", json_path = ".spec.default"),
    printcolumn(
        name = "READY",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "REASON",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.prometheus)").message("a source names exactly one of: prometheus"))]
pub struct EvidenceSourceSpec {
    /// Whether gates that name no source use this one. At most one source may be the default.
    #[serde(default)]
    pub default: bool,
    /// A Prometheus server, or anything that speaks its HTTP API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<ConnectionSpec>,
}

/// Whether a source answers. Written by the operator alone.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// The generation of the spec that was looked at last.
    #[serde(default)]
    pub observed_generation: i64,
    /// Ready; Stalled only while it is so.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
