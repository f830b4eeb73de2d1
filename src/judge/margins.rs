//! How much worse a canary may be: for an abort, and for a step to pass.

use super::e1::{Margin, Side};
use super::offsets::Room;
use super::plan::{MetricPlan, Settings};

/// How far a promote margin that follows the harm budget stays above the abort margin, so that
/// at every ratio one of the two processes grows.
const MARGIN_GAP: f64 = 1.01;

/// The edge of what is not yet worth an abort, widened where few pods say little.
pub fn harm_margin(plan: &MetricPlan, room: Option<&Room>) -> Margin {
    Margin {
        side: Side::Harm,
        ratio: (1.0 + plan.margin_abort) * room.map_or(1.0, Room::widening),
        extra: 0.0,
    }
}

/// The edge of what is safe enough at a step whose canary gets `share` of the traffic: given by
/// the policy, or such that the step adds at most the harm budget to the service's errors.
pub fn safety_margin(plan: &MetricPlan, settings: &Settings, share: f64) -> Margin {
    let above_abort = (1.0 + plan.margin_abort) * MARGIN_GAP - 1.0;
    let budget = (settings.harm_budget / share).max(above_abort);
    let worse = plan.margin_promote.unwrap_or(budget);
    Margin {
        side: Side::Safety,
        ratio: 1.0 + worse,
        // the same part of what the objective lets fail: it lets a service without errors pass
        extra: plan.error_budget.map_or(0.0, |errors| errors * worse),
    }
}
