//! Sample ratio: whether the canary gets the share of the requests that its weight says.
//!
//! A canary that crashes, hangs or sits behind a wrong route gets other requests than it should,
//! and then its share of errors says little. Requests are played as events of E1, the intended
//! shares as exposures, for more than 1.1 times the canary's share and for less than that
//! part of it. An alarm holds the release; it never aborts, as it does not say who is wrong.

use serde::{Deserialize, Serialize};

use super::e1::{Margin, Process, Round, Side, log_average};

/// What is too small to mind: a tenth of the canary's share.
const TOLERATED: f64 = 1.1;

/// The evidence of a step that the split is not the intended one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleRatio {
    more: Process,
    fewer: Process,
    /// Requests of canary and baseline.
    pub requests: [f64; 2],
}

impl SampleRatio {
    /// A step begins.
    #[must_use]
    pub fn new() -> Self {
        let mut process = Process::new();
        process.stake(1.0);
        Self {
            more: process.clone(),
            fewer: process,
            requests: [0.0; 2],
        }
    }

    /// Adds the requests of a tick, of which the canary should have got `share`; `phi` is how
    /// much more they vary than independent requests.
    pub fn observe(&mut self, [canary, baseline]: [f64; 2], share: f64, phi: f64) {
        for (process, side, ratio) in [
            (&mut self.more, Side::Higher, TOLERATED),
            (&mut self.fewer, Side::Lower, 1.0 / TOLERATED),
        ] {
            let margin = Margin {
                side,
                ratio,
                extra: 0.0,
            };
            process.play(
                &Round::new(&margin, [share, 1.0 - share]),
                [canary, baseline],
                phi,
                None,
            );
        }
        self.requests[0] += canary;
        self.requests[1] += baseline;
    }

    /// The logarithm of the evidence of either.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        log_average([(0.5, self.more.log_e()), (0.5, self.fewer.log_e())].into_iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::world::Dice;

    /// How many of 100 releases with the right split raise an alarm within half an hour at 5 %, at
    /// 200 requests per second, when each connection stays with an arm and carries so many requests.
    fn alarms(dice: &mut Dice, per_connection: f64, phi: f64) -> usize {
        let connections = 2000.0 / per_connection;
        let release = |_: &i32| {
            let mut seen = SampleRatio::new();
            (0..180).any(|_| {
                let mut arm = |share: f64| per_connection * dice.poisson(connections * share);
                seen.observe([arm(0.05), arm(0.95)], 0.05, phi);
                seen.log_e() >= libm::log(1000.0)
            })
        };
        (0..100).filter(release).count()
    }

    #[test]
    fn connections_that_stay_with_an_arm_raise_false_alarms_unless_the_plan_knows() {
        let mut dice = Dice(5);
        for (per_connection, phi, least, most) in [
            (1.0, 1.0, 0, 0),
            (10.0, 1.0, 10, 100),
            (100.0, 1.0, 50, 100),
            (100.0, 100.0, 0, 0),
            (10.0, 100.0, 0, 0),
        ] {
            let found = alarms(&mut dice, per_connection, phi);
            assert!(
                (least..=most).contains(&found),
                "{per_connection} requests, φ {phi}: {found} of 100"
            );
        }
    }

    fn after(ticks: usize, canary: f64) -> f64 {
        let mut seen = SampleRatio::new();
        for _ in 0..ticks {
            seen.observe([canary, 2000.0 - canary], 0.05, 1.0);
        }
        seen.log_e()
    }

    #[test]
    fn a_split_that_is_not_the_intended_one_is_noticed_either_way() {
        let limit = libm::log(1000.0);
        for (canary, noticed) in [
            (100.0, false),
            (108.0, false),
            (93.0, false),
            (125.0, true),
            (75.0, true),
            (0.0, true),
        ] {
            assert_eq!(after(100, canary) >= limit, noticed, "{canary} of 2,000 instead of 100");
        }
        assert!(after(1, 75.0) < limit, "one tick is chance");
    }
}
