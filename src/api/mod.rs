//! The objects people and the operator write, and how they are parsed into the machine's types.
//!
//! Four kinds of the group `tollgate.dev`: [`ReleaseGate`], [`CanaryAnalysis`], [`GateAction`] and
//! [`EvidenceSource`]. Doc comments of their fields are what `kubectl explain` prints. No input or
//! output happens here.

pub mod access;
pub mod admission;
mod canary_analysis;
mod condition;
mod definitions;
mod evidence_source;
mod gate_action;
mod gate_status;
mod gauge;
mod invalid;
pub mod labels;
mod metric;
mod plan;
mod policy;
mod record;
mod release_gate;
mod strict;
mod time;
mod units;
pub mod webhook;

pub use canary_analysis::{
    AnalysisStatus, Arms, CanaryAnalysis, CanaryAnalysisSpec, DecisionEntry, External, GapEntry, GateRef,
    MetricReading, TrialStatus, VerdictWord,
};
pub use condition::{Condition, ConditionStatus, clipped, kept_times};
pub use definitions::definitions;
pub use evidence_source::{EvidenceSource, EvidenceSourceSpec, SourceStatus};
pub use gate_action::{ActionStatus, Answer, GateAction, GateActionSpec};
pub use gate_status::{AnalysisRef, AttemptStatus, GateStatus, GitHubStatus, StageWord};
pub use gauge::{GaugeSpec, Guard};
pub use invalid::Invalid;
pub use metric::{MannWhitney, Margin, Margins, Metric};
pub use plan::Terms;
pub use policy::{
    Analysis, Baseline, Concurrent, Deadlines, OnNoEvidence, Policy, PolicyRule, PreviousWindow, SameWindow,
    SampleRatio, Step,
};
pub use record::clip;
pub use release_gate::{
    Canary, CanaryLabels, GatewayApi, GitHub, ReleaseGate, ReleaseGateSpec, RouteKind, RouteRef, Target, Traffic,
    WorkloadRef,
};
pub use strict::{UNKNOWN, bounds, form, parse};
pub use time::{millis, moment};
pub use units::{Duration, Share};
