//! The worlds: how requests and errors come about, and what is true of the canary.

use crate::draw::Dice;

/// Weights of the steps in percent; of the last one 5 % are held back, for every judge.
pub const WEIGHTS: [u8; 5] = [1, 5, 25, 50, 95];
/// Ticks of 10 s in a step of the fixed schedule: 15 minutes.
pub const STEP: usize = 90;
/// Ticks in a minute, and seconds in a tick.
pub const MINUTE: usize = 6;
pub const SECONDS: f64 = 10.0;
/// Pods of the stable Deployment, which does not shrink while a release is in flight.
const STABLE_PODS: usize = 20;
/// Pods of the canary, step by step: as many as its share of the traffic takes.
pub const CANARY_PODS: [u32; 5] = [1, 1, 5, 10, 19];
/// Minutes of history before the first weight, where pods are seen.
pub const HISTORY: usize = 60;

/// What makes requests fail together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Nature {
    /// Nothing: requests are independent.
    Independent,
    /// A dependency of both arms: the rate has a new multiplier every minute.
    SharedBursts,
    /// Retries: errors come in clumps of three on average.
    Clumps,
    /// Every pod has a new multiplier every minute.
    PodBursts,
    /// Every pod has a multiplier for ever, lognormal with a spread of 0.3.
    PodOffsets,
    /// The day: traffic grows from 20 % to 180 %, and the rate of both arms swings threefold.
    Day,
    /// A shared dependency doubles the errors of both arms from the middle of the last step.
    Incident,
    /// Two routes with different rates, of which the canary gets another mix than stable.
    Routes,
}

/// One truth about a canary.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub nature: Nature,
    /// The canary's rate divided by stable's, from the minute `onset` on.
    pub ratio: f64,
    /// What it adds to the share of failing requests.
    pub extra: f64,
    pub onset: usize,
    /// Requests per second of the service, and stable's share of failing ones.
    pub rps: f64,
    pub rate: f64,
    /// Whether the source tells stable's pods apart, and an hour of history with them is known.
    pub pods: bool,
    /// Answers are lost or hold NaN.
    pub gaps: bool,
    /// Whether a judge that is told an objective, which the service misses, is looked at too.
    pub told: bool,
}

const PLAIN: Scenario = Scenario {
    name: "healthy",
    nature: Nature::Independent,
    ratio: 1.0,
    extra: 0.0,
    onset: 0,
    rps: 200.0,
    rate: 0.003,
    pods: false,
    gaps: false,
    told: false,
};

/// Scenarios that belong to one table.
pub struct World {
    pub id: &'static str,
    pub name: &'static str,
    pub scenarios: Vec<Scenario>,
}

fn ratios(base: Scenario, list: &[(&'static str, f64)]) -> Vec<Scenario> {
    let with = |(name, ratio): &(&'static str, f64)| Scenario {
        name,
        ratio: *ratio,
        ..base
    };
    list.iter().map(with).collect()
}

/// The worlds of requests that fail; latency is a world of its own.
pub fn all() -> Vec<World> {
    const SHORT: &[(&str, f64)] = &[("healthy", 1.0), ("1.5x", 1.5), ("3x", 3.0)];
    let nature = |nature, pods| Scenario { nature, pods, ..PLAIN };
    let world = |id, name, scenarios| World { id, name, scenarios };
    let told = Scenario { told: true, ..PLAIN };
    let mut first = ratios(told, SHORT);
    first.extend(ratios(
        told,
        &[
            ("1.2x", 1.2),
            ("1.25x", 1.25),
            ("1.4x", 1.4),
            ("2x", 2.0),
            ("10x", 10.0),
        ],
    ));
    first.push(Scenario {
        name: "healthy, gaps and NaN",
        gaps: true,
        ..PLAIN
    });
    let late = |name, ratio, onset| Scenario {
        name,
        ratio,
        onset,
        ..PLAIN
    };
    let quiet = Scenario { rps: 20.0, ..PLAIN };
    let spotless = Scenario { rate: 0.0, ..PLAIN };
    vec![
        world("W1", "independent requests, 0.3 % errors, 200 requests/s", first),
        world("W2", "shared bursts", ratios(nature(Nature::SharedBursts, true), SHORT)),
        world("W3", "retry clumps of 3", ratios(nature(Nature::Clumps, true), SHORT)),
        world("W4", "pod bursts", ratios(nature(Nature::PodBursts, true), SHORT)),
        world(
            "W5",
            "pod offsets of 30 %",
            ratios(nature(Nature::PodOffsets, true), SHORT),
        ),
        world(
            "W6",
            "faults that begin late",
            vec![
                late("3x from minute 37", 3.0, 37),
                late("1.5x from minute 37", 1.5, 37),
                late("3x in the last step", 3.0, 60),
            ],
        ),
        world(
            "W7",
            "the day: traffic and error rate move",
            ratios(nature(Nature::Day, false), SHORT),
        ),
        world(
            "W8",
            "shared incident in the last step",
            vec![Scenario {
                nature: Nature::Incident,
                ..PLAIN
            }],
        ),
        world("W9", "durations with a heavy tail", Vec::new()),
        world(
            "W10",
            "low traffic, 20 requests/s",
            ratios(quiet, &[("healthy", 1.0), ("3x", 3.0), ("10x", 10.0)]),
        ),
        world(
            "W11",
            "a service without errors",
            vec![
                spotless,
                Scenario {
                    name: "0.1 % fail",
                    extra: 0.001,
                    ..spotless
                },
                Scenario {
                    name: "1 % fail",
                    extra: 0.01,
                    ..spotless
                },
            ],
        ),
        world(
            "W12",
            "label-skewed routes",
            ratios(nature(Nature::Routes, false), &[("healthy", 1.0), ("3x", 3.0)]),
        ),
    ]
}

/// What was counted in one tick.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Canary events and requests, stable events and requests.
    pub arms: [f64; 4],
    /// The same for the second route, where there are two; the first is the rest.
    pub second: Option<[f64; 4]>,
    /// Stable's pods: events and requests.
    pub pods: Vec<[f64; 2]>,
    /// The answer never came, or held NaN: its counts are in the next one.
    pub lost: bool,
    /// Errors beyond stable's rate that canary users are expected to have got.
    pub excess: f64,
}

/// Makes the ticks of one release.
pub struct Maker<'a> {
    scenario: &'a Scenario,
    pub dice: Dice,
    offsets: [Vec<f64>; 2],
    bursts: [Vec<f64>; 2],
    shared: f64,
    late: Option<Seen>,
}

/// Second route's share of the traffic of canary and stable; rate of errors on both routes.
const MIX: [f64; 2] = [0.15, 0.1];
const ROUTE_RATES: [f64; 2] = [0.001, 0.02];

impl<'a> Maker<'a> {
    pub fn new(scenario: &'a Scenario, mut dice: Dice) -> Self {
        let spread = if scenario.nature == Nature::PodOffsets {
            0.3
        } else {
            0.0
        };
        let mut draw = || (0..STABLE_PODS).map(|_| dice.offset(spread)).collect::<Vec<_>>();
        let offsets = [draw(), draw()];
        let bursts = [vec![1.0; STABLE_PODS], vec![1.0; STABLE_PODS]];
        Self {
            scenario,
            dice,
            offsets,
            bursts,
            shared: 1.0,
            late: None,
        }
    }

    fn new_minute(&mut self) {
        match self.scenario.nature {
            Nature::SharedBursts => self.shared = self.dice.gamma(1.0),
            Nature::PodBursts => {
                for burst in self.bursts.iter_mut().flatten() {
                    *burst = self.dice.gamma(1.0);
                }
            }
            _ => {}
        }
    }

    /// A minute before the first weight: stable alone, one tick long.
    pub fn history(&mut self) -> Seen {
        self.new_minute();
        let requests = self.scenario.rps * 60.0;
        let pods = self.stable(requests, self.scenario.rate * self.shared);
        let sum = pods
            .iter()
            .fold([0.0, 0.0], |sum, pod| [sum[0] + pod[0], sum[1] + pod[1]]);
        Seen {
            arms: [0.0, 0.0, sum[0], sum[1]],
            pods,
            ..Seen::default()
        }
    }

    /// Tick `at` since the first weight, with the canary at `weight` percent.
    pub fn tick(&mut self, at: usize, weight: u8) -> Seen {
        let mut seen = self.draw(at, weight);
        if let Some(late) = self.late.take() {
            for (sum, count) in seen.arms.iter_mut().zip(late.arms) {
                *sum += count;
            }
            for (pod, other) in seen.pods.iter_mut().zip(&late.pods) {
                pod[0] += other[0];
                pod[1] += other[1];
            }
            seen.excess += late.excess;
        }
        // one answer in fifty, and two minutes in every twenty
        if self.scenario.gaps && (self.dice.chance(0.02) || at % 120 >= 108) {
            self.late = Some(seen.clone());
            seen.lost = true;
        }
        seen
    }

    fn draw(&mut self, at: usize, percent: u8) -> Seen {
        let share = f64::from(percent) / 100.0;
        if at.is_multiple_of(MINUTE) {
            self.new_minute();
        }
        let Scenario {
            nature,
            ratio,
            extra,
            onset,
            ..
        } = *self.scenario;
        let (mut requests, mut rate) = (self.scenario.rps * SECONDS, self.scenario.rate * self.shared);
        let hour = at as f64 / 450.0;
        if nature == Nature::Day {
            requests *= 0.2 + 1.6 * hour.min(1.0);
            rate *= 2.0 + (hour * std::f64::consts::TAU).sin();
        }
        if nature == Nature::Incident && at >= 375 {
            rate *= 2.0;
        }
        let hurt = if at >= onset * MINUTE {
            (ratio, extra)
        } else {
            (1.0, 0.0)
        };
        if nature == Nature::Routes {
            return self.routes(requests, share, hurt.0);
        }
        let n = self.dice.poisson(requests * share);
        let mut worse = rate * hurt.0 + hurt.1;
        let excess = n * (worse - rate);
        if self.scenario.pods {
            let live = CANARY_PODS[WEIGHTS.iter().position(|weight| *weight == percent).unwrap()] as usize;
            let own = self.offsets[0].iter().zip(&self.bursts[0]).take(live);
            worse *= own.map(|(offset, burst)| offset * burst).sum::<f64>() / live as f64;
        }
        let a = self.events(n, worse);
        let (b, m, pods) = if self.scenario.pods {
            let pods = self.stable(requests * (1.0 - share), rate);
            let sum = pods
                .iter()
                .fold([0.0, 0.0], |sum, pod| [sum[0] + pod[0], sum[1] + pod[1]]);
            (sum[0], sum[1], pods)
        } else {
            let m = self.dice.poisson(requests * (1.0 - share));
            (self.events(m, rate), m, Vec::new())
        };
        Seen {
            arms: [a, n, b, m],
            pods,
            excess,
            ..Seen::default()
        }
    }

    fn events(&mut self, total: f64, rate: f64) -> f64 {
        if self.scenario.nature == Nature::Clumps {
            self.dice.clumped(total * rate, 3.0, total)
        } else {
            self.dice.binomial(total, rate)
        }
    }

    fn stable(&mut self, requests: f64, rate: f64) -> Vec<[f64; 2]> {
        let multipliers: Vec<f64> = self.offsets[1]
            .iter()
            .zip(&self.bursts[1])
            .map(|(one, other)| one * other)
            .collect();
        let each = requests / multipliers.len() as f64;
        let mut pod = |times: f64| {
            let total = self.dice.poisson(each);
            [self.events(total, rate * times), total]
        };
        multipliers.into_iter().map(&mut pod).collect()
    }

    fn routes(&mut self, requests: f64, share: f64, ratio: f64) -> Seen {
        let mut seen = Seen::default();
        for (route, rate) in ROUTE_RATES.into_iter().enumerate() {
            let part = |arm: usize| if route == 1 { MIX[arm] } else { 1.0 - MIX[arm] };
            let (n, m) = (
                self.dice.poisson(requests * share * part(0)),
                self.dice.poisson(requests * (1.0 - share) * part(1)),
            );
            let counts = [self.dice.binomial(n, rate * ratio), n, self.dice.binomial(m, rate), m];
            for (sum, count) in seen.arms.iter_mut().zip(counts) {
                *sum += count;
            }
            seen.excess += n * rate * (ratio - 1.0);
            seen.second = Some(counts);
        }
        seen
    }
}
