//! A gauge that is watched beside what is compared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::invalid::Invalid;
use super::units::Share;
use crate::sources::GaugePreset;

/// What each pod has now, like memory or a queue: a guard that holds the release when the median of
/// the canary's pods has been above that of stable's, and above a floor, for five minutes and 30
/// samples of the canary. No error rate is claimed for it: samples of a gauge depend on each other.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.preset) != has(self.selector)", "message": "give either a preset or a selector"}
]))]
pub struct GaugeSpec {
    /// A gauge that is known by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<GaugePreset>,
    /// A gauge of your own, as a plain selector, whose series name the namespace and the pod that they
    /// are about: `queue_length{queue="orders"}`. Several series of a pod are added up. Namespace and
    /// pod are matched by Tollgate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub selector: Option<String>,
    /// How much more than stable's is too much: 50% is one and a half times as much. Default: 50%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worse: Option<Share>,
    /// What is nothing to worry about, whatever stable has, in the unit of the gauge: 500000000 bytes,
    /// 0.5 cores, 100 messages.
    #[schemars(range(min = 0.0))]
    pub floor: f64,
    /// Whether it aborts the release. Default: it holds, for a person to look at.
    #[serde(default)]
    pub abort: bool,
}

/// A guard with every default filled in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guard {
    /// How much more than stable's is too much; 0.5 is half as much again.
    pub worse: f64,
    /// What is never too much.
    pub floor: f64,
    /// Whether it aborts.
    pub abort: bool,
}

impl GaugeSpec {
    /// The numbers, with every default filled in.
    ///
    /// # Errors
    /// Names the field below the metric that cannot be understood.
    pub fn guard(&self) -> Result<Guard, Invalid> {
        let worse = match &self.worse {
            None => DEFAULT_WORSE,
            Some(share) => share
                .fraction()
                .ok()
                .filter(|worse| *worse <= MOST)
                .ok_or_else(|| Invalid::new("gauge.worse", &share.0, "a percentage up to 10000%, like 50%"))?,
        };
        if !(self.floor >= 0.0 && self.floor.is_finite()) {
            return Err(Invalid::new("gauge.floor", self.floor, "a number, 0 or more"));
        }
        Ok(Guard {
            worse,
            floor: self.floor,
            abort: self.abort,
        })
    }
}

/// Half as much again is what nobody does by chance for five minutes, and what few mean.
const DEFAULT_WORSE: f64 = 0.5;
/// A hundred times as much.
const MOST: f64 = 100.0;
