//! One release on the fixed schedule.

use crate::draw::Dice;
use crate::worlds::{HISTORY, Maker, STEP, Scenario, Seen, WEIGHTS};

/// One release on the fixed schedule, as every judge sees it.
pub struct Recording {
    pub history: Vec<Seen>,
    pub ticks: Vec<Seen>,
    /// A baseline as large as the canary, taken out of stable's traffic: what Kayenta's
    /// documentation asks for. Canary and baseline, thinned to the smaller of both.
    pub even: Vec<[f64; 4]>,
}

impl Recording {
    pub fn make(scenario: &Scenario, dice: Dice) -> Self {
        let mut maker = Maker::new(scenario, dice);
        let history = if scenario.pods { HISTORY } else { 0 };
        let history = (0..history).map(|_| maker.history()).collect();
        let weights = (0..WEIGHTS.len() * STEP).map(|at| (at, WEIGHTS[at / STEP]));
        let ticks: Vec<Seen> = weights.map(|(at, weight)| maker.tick(at, weight)).collect();
        let mut even = Vec::with_capacity(ticks.len());
        for (at, seen) in ticks.iter().enumerate() {
            let share = f64::from(WEIGHTS[at / STEP]) / 100.0;
            let [a, n, b, m] = seen.arms;
            let mut thin = |events: f64, total: f64, keep: f64| {
                if keep >= 1.0 {
                    return [events, total];
                }
                let kept = maker.dice.binomial(events, keep);
                [kept, kept + maker.dice.binomial(total - events, keep)]
            };
            let [own, other] = [thin(a, n, (1.0 - share) / share), thin(b, m, share / (1.0 - share))];
            even.push([own[0], own[1], other[0], other[1]]);
        }
        Self { history, ticks, even }
    }
}
