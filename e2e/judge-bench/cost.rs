//! What a look costs: 1,000 releases with three metrics each.

use std::time::Instant;

use engine::decision::{Arm, Evidence, Millis, Tick};
use engine::judge::{Analysis, MetricPlan, Settings, Shape};

use crate::draw::Dice;
use crate::ours;

const RELEASES: usize = 1000;
const LOOKS: i64 = 30;

fn tick(dice: &mut Dice, at: Millis, tails: usize) -> Evidence<Tick> {
    let mut arm = |requests: f64| {
        let total = dice.poisson(requests);
        let events = (0..tails).map(|tail| dice.binomial(total, 0.003 * (1.0 + tail as f64)));
        Arm {
            events: events.collect(),
            total,
        }
    };
    let (canary, baseline) = (arm(100.0), arm(1900.0));
    Evidence::Complete(Tick {
        at,
        canary,
        baseline,
        baseline_pods: Vec::new(),
    })
}

/// A line for people: microseconds per metric and tick, milliseconds for everything, bytes.
pub fn measure(mut dice: Dice) -> String {
    let histogram = Shape::Histogram { tails: 3, shown: 2 };
    let plans = [
        ("errors", Shape::Ratio),
        ("orders", Shape::Ratio),
        ("latency", histogram),
    ]
    .map(|(name, shape)| MetricPlan::new(name, shape))
    .to_vec();
    let fresh = || Analysis::new(plans.clone(), Settings::default(), ours::weights()).unwrap();
    let mut all: Vec<Analysis> = (0..RELEASES).map(|_| fresh()).collect();
    for analysis in &mut all {
        analysis.begin_step(0, Millis(0));
    }
    let (mut counting, mut judging, mut passed) = (0.0, 0.0, 0_usize);
    for look in 1..=LOOKS {
        let at = Millis::from_secs(10 * look);
        let ticks: Vec<_> = plans.iter().map(|plan| tick(&mut dice, at, plan.tails())).collect();
        let before = Instant::now();
        for analysis in &mut all {
            for (index, tick) in ticks.iter().enumerate() {
                analysis.observe(index, tick);
            }
        }
        counting += before.elapsed().as_secs_f64();
        let before = Instant::now();
        passed += all
            .iter()
            .map(|analysis| analysis.judged(1, 0).readings.len())
            .sum::<usize>();
        judging += before.elapsed().as_secs_f64();
    }
    let metric_ticks = (RELEASES * plans.len()) as f64 * LOOKS as f64;
    let bytes = serde_json::to_string(&all[0]).unwrap().len();
    assert!(passed > 0, "readings were made");
    format!(
        "Counting a tick takes {:.1} µs per metric, saying what it means {:.1} µs; a look at {RELEASES} releases with {} metrics takes {:.0} ms. One such release is stored in {bytes} bytes.",
        1e6 * counting / metric_ticks,
        1e6 * judging / metric_ticks,
        plans.len(),
        1e3 * (counting + judging) / LOOKS as f64,
    )
}
