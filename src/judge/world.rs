//! A made-up service for tests: seeded traffic, errors, and the analysis that watches them.

use crate::decision::{Arm, Evidence, Millis, Percent, Tick};

use super::{Analysis, MetricPlan, Settings, Shape};

/// `SplitMix64`, so that a test sees the same world for ever.
pub struct Dice(pub u64);

impl Dice {
    /// Evenly between 0 and 1.
    pub fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        #[expect(clippy::cast_precision_loss, reason = "53 bits")]
        let part = ((mixed ^ (mixed >> 31)) >> 11) as f64;
        part / 9_007_199_254_740_992.0
    }

    /// Poisson: exact for small means, rounded normal above.
    pub fn poisson(&mut self, mean: f64) -> f64 {
        if mean > 50.0 {
            let normal = (0..12).map(|_| self.roll()).sum::<f64>() - 6.0;
            return (mean + mean.sqrt() * normal).round().max(0.0);
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.roll(), 0.0);
        while product > limit {
            product *= self.roll();
            count += 1.0;
        }
        count
    }
}

/// Traffic and errors of a service.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// Requests per second.
    pub rps: f64,
    /// The baseline's rate of errors.
    pub rate: f64,
    /// The canary's rate divided by it.
    pub ratio: f64,
    /// Errors come in clumps of this many.
    pub clump: f64,
    /// Length of a tick in seconds.
    pub seconds: i64,
}

/// The base case of the design: 0.3 % errors at 200 requests per second, seen every 10 s.
pub const SERVICE: World = World {
    rps: 200.0,
    rate: 0.003,
    ratio: 1.0,
    clump: 1.0,
    seconds: 10,
};

impl World {
    /// The tick that ends at `at`, with the canary getting `share` of the traffic.
    pub fn tick(&self, dice: &mut Dice, at: Millis, share: f64) -> Tick {
        let requests = self.rps * Millis::from_secs(self.seconds).as_secs_f64();
        let mut arm = |share: f64, rate: f64| {
            let total = dice.poisson(requests * share);
            let events = self.clump * dice.poisson(total * rate / self.clump);
            Arm {
                events: vec![events.min(total)],
                total,
            }
        };
        Tick {
            at,
            canary: arm(share, self.rate * self.ratio),
            baseline: arm(1.0 - share, self.rate),
            baseline_pods: Vec::new(),
        }
    }

    /// An analysis with this world's interval.
    pub fn analysis(&self, plan: MetricPlan, weights: &[i64], alpha: f64) -> Analysis {
        let interval = Millis::from_secs(self.seconds);
        let settings = Settings {
            alpha,
            interval,
            ..Settings::default()
        };
        Analysis::new(vec![plan], settings, percents(weights)).expect("a plan in range")
    }
}

/// The steps of the design, the last one with 5 % held back.
pub const WEIGHTS: [i64; 5] = [1, 5, 25, 50, 95];

/// A weight as a share of the traffic.
pub fn share(weight: i64) -> f64 {
    f64::from(i32::try_from(weight).expect("a percentage")) / 100.0
}

/// Weights as the analysis takes them.
pub fn percents(weights: &[i64]) -> Vec<Percent> {
    weights
        .iter()
        .map(|weight| Percent::try_from(*weight).expect("a percentage"))
        .collect()
}

/// A ratio of errors with every default, and an objective of 99.9 %.
pub fn errors() -> MetricPlan {
    MetricPlan {
        error_budget: Some(0.001),
        ..MetricPlan::new("http-errors", Shape::Ratio)
    }
}

/// Restarts over pod-seconds, with every default.
pub fn restarts() -> MetricPlan {
    MetricPlan::new("restarts", Shape::Count)
}

/// A complete tick of a ratio, or of a count.
pub fn ratio_tick(at: i64, [a, n, b, m]: [f64; 4]) -> Evidence<Tick> {
    Evidence::Complete(Tick {
        at: Millis::from_secs(at),
        canary: Arm {
            events: vec![a],
            total: n,
        },
        baseline: Arm {
            events: vec![b],
            total: m,
        },
        baseline_pods: Vec::new(),
    })
}
