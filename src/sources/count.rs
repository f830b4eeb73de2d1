//! Events over time, like restarts: how often something happened to pods, and for how long they were
//! seen.
//!
//! What tells of pods is mostly not the pods themselves: `kube-state-metrics` tells how often their
//! containers were started again, the kubelet how often one was killed for its memory. One scrape of
//! such an exporter lists every pod that it knows, so a pod that an earlier scrape did not list is
//! new, and its counters began at zero: a canary that has crashed twice before it is first seen has
//! two restarts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::memory::Track;
use super::metric::{Identity, Measure, SpecError, field, selector};
use super::selector::Selector;
use super::tally::{Count, Frame, add};
use crate::decision::{Gap, Millis};

/// Events of pods, like restarts, over the time for which the pods were seen. Give a preset or
/// `events`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.preset) != has(self.events)", "message": "give either a preset or events"}
]))]
pub struct CountSpec {
    /// Events that are known by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<CountPreset>,
    /// A counter of your own, as a plain selector, whose series name the namespace and the pod that
    /// they are about: `container_cpu_cfs_throttled_periods_total{container!=""}`, or one that the pods
    /// count themselves. Namespace and pod are matched by Tollgate. It has to be there, with 0, also
    /// where nothing has happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub events: Option<String>,
}

/// Events that are known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CountPreset {
    /// Containers that were started again, as kube-state-metrics tells
    /// (`kube_pod_container_status_restarts_total`).
    Restarts,
    /// Processes that were killed for the memory of their container, as the kubelet's cAdvisor tells
    /// (`container_oom_events_total`). It forgets a container that has ended, so that one that is killed
    /// as a whole may only be seen as a restart: compare both.
    OomKills,
}

/// Events over time, ready to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    pub(super) identity: Identity,
    pub(super) counter: Selector,
}

impl CountSpec {
    /// Reads the spec.
    ///
    /// # Errors
    /// [`SpecError`] naming the field.
    pub fn measure(&self) -> Result<Measure, SpecError> {
        let (identity, counter) = match (self.preset, &self.events) {
            (Some(CountPreset::Restarts), None) => {
                let events = Selector::of("kube_pod_container_status_restarts_total");
                (Identity::Lasting, events)
            }
            // the kubelet counts for the pod as a whole as well
            (Some(CountPreset::OomKills), None) => {
                let events = selector("count.preset", r#"container_oom_events_total{container!=""}"#)?;
                (Identity::Exporter, events)
            }
            (None, Some(events)) => (Identity::Exporter, selector("count.events", events)?),
            _ => return Err(field("count", "either a preset or events")),
        };
        Ok(Measure::Count(Events { identity, counter }))
    }
}

impl Frame<'_> {
    /// Events, and the time for which their pods were seen: that of the series of a pod that was seen
    /// longest, as it may have a series for each of its containers.
    pub(super) fn events(&self, identity: Identity, tracks: &[&Track]) -> Result<Count, Gap> {
        let mut count = Count::default();
        for track in tracks {
            let grown = self.rise(track)?;
            count.based |= grown.based;
            let arm = count.arm(self.place(identity, track), 1);
            arm.total = arm.total.max(Millis(grown.over).as_secs_f64());
            add(arm, 0, grown.by);
        }
        Ok(count)
    }
}
