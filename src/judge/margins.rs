//! How much worse a canary may be: for an abort, and for a step to pass.

use super::e1::{Margin, Side};
use super::offsets::Room;
use super::outcome::Outcome;
use super::plan::{MetricPlan, Settings};

/// How far a promote margin that follows the harm budget stays above the abort margin, so that
/// at every ratio one of the two processes grows.
const MARGIN_GAP: f64 = 1.01;

/// Of a step's margin, what is left of stable's successes at least: a smaller part proves nothing.
const LEAST_LEFT: f64 = 0.05;

/// The edge of what is not yet worth an abort, widened where few pods say little.
pub fn harm_margin(plan: &MetricPlan, room: Option<&Room>, judged: Outcome) -> Margin {
    let widening = room.map_or(1.0, Room::widening);
    let (side, ratio) = match judged {
        Outcome::Bad => (Side::Higher, (1.0 + plan.margin_abort) * widening),
        Outcome::Good => (Side::Lower, (1.0 - plan.margin_abort) / widening),
    };
    Margin {
        side,
        ratio,
        extra: 0.0,
    }
}

/// The edge of what is safe enough at a step whose canary gets `share` of the traffic: so much
/// worse than the baseline as the policy says, or such that the step adds at most the harm budget
/// to the service's errors. `seen` is the baseline's events and requests before this tick.
///
/// Where the service fails less than its objective lets it, that part of the objective is what may
/// be added: a service without errors could not be proved safe otherwise. Both edges meet where the
/// rate is the objective's; the promise is about the larger of them. Which is played depends on
/// earlier ticks only, and each holds wherever the larger does, so the evidence stays an e-process.
///
/// Where successes are judged, the budget is what the step may lose of the service's successes.
pub fn safety_margin(
    plan: &MetricPlan,
    settings: &Settings,
    share: f64,
    [events, total]: [f64; 2],
    judged: Outcome,
) -> Margin {
    if judged == Outcome::Good {
        let below_abort = (1.0 - plan.margin_abort) / MARGIN_GAP;
        let budget = (1.0 - settings.harm_budget / share).min(below_abort);
        let left = plan.margin_promote.map_or(budget, |fewer| 1.0 - fewer);
        return Margin {
            side: Side::Higher,
            ratio: left.max(LEAST_LEFT),
            extra: 0.0,
        };
    }
    let above_abort = (1.0 + plan.margin_abort) * MARGIN_GAP - 1.0;
    let budget = (settings.harm_budget / share).max(above_abort);
    let worse = plan.margin_promote.unwrap_or(budget);
    let floor = plan.error_budget.filter(|errors| events <= errors * total);
    Margin {
        side: Side::Lower,
        ratio: if floor.is_some() { 1.0 } else { 1.0 + worse },
        extra: floor.map_or(0.0, |errors| errors * worse),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::shape::Shape;

    #[test]
    fn the_objective_is_the_floor_of_what_may_be_added_and_never_more() {
        let plan = MetricPlan {
            margin_promote: Some(0.2),
            error_budget: Some(0.001),
            ..MetricPlan::new("errors", Shape::Ratio)
        };
        for (name, seen, ratio, extra) in [
            ("nothing seen", [0.0, 0.0], 1.0, 0.0002),
            ("no error", [0.0, 9000.0], 1.0, 0.0002),
            ("as the objective has it", [9.0, 9000.0], 1.0, 0.0002),
            ("worse than the objective", [10.0, 9000.0], 1.2, 0.0),
        ] {
            let margin = safety_margin(&plan, &Settings::default(), 0.5, seen, Outcome::Bad);
            assert!(
                (margin.ratio - ratio).abs() < 1e-12 && (margin.extra - extra).abs() < 1e-12,
                "{name}: {margin:?}"
            );
        }
    }

    #[test]
    fn of_successes_the_margins_are_what_may_be_lost() {
        let by_budget = MetricPlan::new("orders", Shape::Conversion);
        let given = MetricPlan {
            margin_promote: Some(0.25),
            ..by_budget.clone()
        };
        let harm = harm_margin(&by_budget, None, Outcome::Good);
        assert_eq!((harm.side, harm.ratio), (Side::Lower, 0.9));
        for (name, plan, share, ratio) in [
            ("a tenth of all, of a half", &by_budget, 0.5, 0.8),
            ("a tenth of all, of a quarter", &by_budget, 0.25, 0.6),
            ("more than the canary has", &by_budget, 0.01, 0.05),
            ("never less than an abort takes", &by_budget, 1.0, 0.9 / 1.01),
            ("as it is given", &given, 0.5, 0.75),
        ] {
            let margin = safety_margin(plan, &Settings::default(), share, [0.9, 1.0], Outcome::Good);
            assert_eq!(margin.side, Side::Higher, "{name}");
            assert!((margin.ratio - ratio).abs() < 1e-12, "{name}: {margin:?}");
        }
    }
}
