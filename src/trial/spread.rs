//! How the durations of both arms are spread around a quantile, where a rule reads one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::decision::{Arm, Evidence, Tick};
use crate::judge::quantile;

/// Requests above every edge around the quantile, since the step began.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Spread {
    canary: Arm,
    baseline: Arm,
}

/// Cuts a tick to the tails that are judged. What is cut off, where there are more of them, are the
/// edges around the quantile.
pub(super) fn cut(evidence: &mut Evidence<Tick>, tails: usize) -> Option<Spread> {
    let Evidence::Complete(tick) = evidence else {
        return None;
    };
    if tick.canary.events.len() <= tails {
        return None;
    }
    let around = |arm: &mut Arm| Arm {
        events: arm.events.split_off(tails.min(arm.events.len())),
        total: arm.total,
    };
    for pod in &mut tick.baseline_pods {
        pod.events.truncate(tails);
    }
    Some(Spread {
        canary: around(&mut tick.canary),
        baseline: around(&mut tick.baseline),
    })
}

/// SHA-256, in hex, of the judge's evidence together with what was counted around quantiles.
pub(super) fn hash(judged: &str, spreads: &BTreeMap<usize, Spread>) -> String {
    // Numbers and lists, which cannot fail to be written.
    let bytes = serde_json_canonicalizer::to_vec(&(judged, spreads)).unwrap_or_default();
    format!("{:x}", Sha256::digest(&bytes))
}

impl Spread {
    /// Adds what one tick counted.
    pub(super) fn add(&mut self, tick: &Self) {
        for (sum, arm) in [(&mut self.canary, &tick.canary), (&mut self.baseline, &tick.baseline)] {
            sum.total += arm.total;
            sum.events.resize(arm.events.len(), 0.0);
            for (sum, events) in sum.events.iter_mut().zip(&arm.events) {
                *sum += events;
            }
        }
    }

    /// The quantiles of canary and stable, when both lie among these edges.
    pub(super) fn quantiles(&self, share: f64, edges: &[f64]) -> Option<[f64; 2]> {
        let of = |arm: &Arm| {
            let tails: Vec<(f64, f64)> = edges.iter().copied().zip(arm.events.iter().copied()).collect();
            quantile(share, &tails, arm.total)
        };
        Some([of(&self.canary)?, of(&self.baseline)?])
    }
}
