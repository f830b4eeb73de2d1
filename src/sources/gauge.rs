//! Gauges: what each pod has now, like memory, as the median over the pods of an arm.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::counter::is_count;
use super::memory::Track;
use super::metric::{Identity, Measure, SpecError, field, selector};
use super::reply::gap;
use super::selector::Selector;
use super::tally::{Count, Frame, add};
use crate::decision::{Arm, Gap, GapKind, Millis};

/// Gauges that are known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GaugePreset {
    /// Bytes that a pod cannot do without, as the kubelet's cAdvisor tells
    /// (`container_memory_working_set_bytes`).
    Memory,
    /// Cores that a pod uses, as the kubelet's cAdvisor tells: the increase of
    /// `container_cpu_usage_seconds_total` over time.
    Cpu,
}

/// A gauge, ready to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gauge {
    pub(super) identity: Identity,
    pub(super) level: Selector,
    /// Whether it is a counter of seconds or the like, of which the increase over time is looked at.
    increase: bool,
}

impl Gauge {
    /// Reads what is asked for.
    ///
    /// # Errors
    /// [`SpecError`] naming the field.
    pub fn measure(preset: Option<GaugePreset>, written: Option<&str>) -> Result<Measure, SpecError> {
        let (text, increase) = match (preset, written) {
            (Some(GaugePreset::Memory), None) => (r#"container_memory_working_set_bytes{container!=""}"#, false),
            (Some(GaugePreset::Cpu), None) => (r#"container_cpu_usage_seconds_total{container!=""}"#, true),
            (None, Some(text)) => (text, false),
            _ => return Err(field("gauge", "either a preset or a selector")),
        };
        // of a level no process start tells anything
        let identity = if increase {
            Identity::Exporter
        } else {
            Identity::Lasting
        };
        let level = selector("gauge.selector", text)?;
        Ok(Measure::Gauge(Self {
            identity,
            level,
            increase,
        }))
    }
}

impl Frame<'_> {
    /// What every pod has had since it was looked at last: the sum of its series' means, and how many
    /// samples that rests on.
    pub(super) fn levels(&self, gauge: &Gauge, tracks: &[&Track]) -> Result<Count, Gap> {
        let mut count = Count::default();
        count.based = true;
        for track in tracks {
            if let Some([level, samples]) = self.level(gauge, track)? {
                let arm = count.arm(self.place(gauge.identity, track), 1);
                arm.total = arm.total.max(samples);
                add(arm, 0, level);
            }
        }
        Ok(count)
    }

    fn level(&self, gauge: &Gauge, track: &Track) -> Result<Option<[f64; 2]>, Gap> {
        let span = self.span(track);
        let fresh = track.samples.iter();
        let fresh: Vec<f64> = fresh
            .filter(|sample| sample.at > span.from && sample.at <= span.to)
            .map(|sample| sample.value)
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "at most 256 samples")]
        let samples = fresh.len() as f64;
        if gauge.increase {
            let grown = self.rise(track)?;
            let seconds = Millis(grown.over).as_secs_f64();
            return Ok((seconds > 0.0).then(|| [grown.by / seconds, samples]));
        }
        if fresh.iter().any(|value| !is_count(*value)) {
            let name = track.label("__name__");
            return Err(gap(GapKind::NotACount, &format!("{name} is NaN, infinite or negative")));
        }
        Ok((samples > 0.0).then(|| [fresh.iter().sum::<f64>() / samples, samples]))
    }
}

/// The median over pods, and all their samples.
pub(super) fn median(pods: &[Arm]) -> Arm {
    let mut levels: Vec<f64> = pods.iter().filter_map(|pod| pod.events.first().copied()).collect();
    levels.sort_by(f64::total_cmp);
    let upper = levels.get(levels.len() / 2).copied();
    let lower = levels.get(levels.len().saturating_sub(1) / 2).copied();
    let middle = upper
        .zip(lower)
        .map_or(0.0, |(upper, lower)| f64::midpoint(upper, lower));
    Arm {
        events: vec![middle],
        total: pods.iter().map(|pod| pod.total).sum(),
    }
}
