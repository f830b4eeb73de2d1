//! One metric of an attempt: what was counted, and the evidence it makes.

use libm::log;
use serde::{Deserialize, Serialize};

use crate::decision::{Gap, GapKind, Millis, Tick};

use super::alarm::Alarm;
use super::chain::Chain;
use super::dispersion::Dispersion;
use super::e1::{Counts, Margin, Process, Round, log_average};
use super::e2;
use super::interval::Likelihood;
use super::limit::Windows;
use super::margins::harm_margin;
use super::need::{self, Traffic};
use super::offsets::Room;
use super::outcome::{self, Outcome, Rarity};
use super::plan::{Method, MetricPlan, Settings};
use super::window::Window;

/// Share of the harm capital that is put down when the attempt begins, what is spread over the
/// later steps, and what is spread over the minutes: restarts find faults that begin late.
const CAPITAL_START: f64 = 0.7;
const CAPITAL_STEPS: f64 = 0.15;
const CAPITAL_MINUTES: f64 = 0.15;
/// The capital of the minutes fades with this mean, in minutes.
const CAPITAL_MEAN: f64 = 60.0;
/// After this many minutes nothing is left worth a bet.
const CAPITAL_LAST_MINUTE: i64 = 2400;
/// Different splits kept for the interval.
const SPLITS: usize = 8;
/// Gaps kept; a source may list one per pod.
const GAPS: usize = 3;

/// What a mixture pays for not knowing the truth, in natural logarithms.
pub const MIXTURE_COST: f64 = 1.5;

const MINUTE: i64 = 60_000;

/// Where the attempt is when a tick arrives.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Course {
    /// The step the attempt is at, from 0.
    pub step: usize,
    /// When its weight was written.
    pub step_at: Millis,
    /// When the first step's weight was written.
    pub began: Millis,
    /// The highest step so far: capital is put down for each step once.
    pub highest: usize,
}

/// The state of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// End of the newest complete tick.
    pub last: Option<Millis>,
    /// Since when there is no complete tick, when the newest answer was incomplete.
    pub blind_since: Option<Millis>,
    /// What was wrong with it.
    pub gaps: Vec<Gap>,
    /// The shown tail since the attempt began.
    pub total: Sums,
    /// The shown tail since the step began: ticks that lie in it wholly.
    pub step: Sums,
    /// Start of the first of these ticks.
    pub step_since: Option<Millis>,
    /// The interval's state, for the shown tail in this step.
    pub likelihood: Likelihood,
    harm: Vec<Process>,
    safety: Vec<Process>,
    dispersion: Dispersion,
    #[serde(with = "super::packed")]
    phi: Vec<f64>,
    /// Baseline events per tail since the attempt began: those that are judged.
    #[serde(with = "super::packed")]
    baseline_events: Vec<f64>,
    minutes: i64,
    /// How stable's pods differ, and by how much that widens the abort margin now, where the plan
    /// says how many pods the canary has at this step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    room: Option<Room>,
    /// Which outcome is judged, where the rarer one is. All sums count bad ones whichever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rarity: Option<Rarity>,
    /// The window of the rank test, where that is the method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// The windows of the minimum sample, where a limit is the method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Windows>,
    /// The guard of a gauge. It goes on from step to step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<Alarm>,
    /// Whether the newest tick before the first weight was without a request of the canary.
    unvisited: bool,
    chain: Chain,
}

/// [`Counts`] as they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "[f64; 4]", into = "[f64; 4]")]
pub struct Sums(pub Counts);

impl From<[f64; 4]> for Sums {
    fn from([a, n, b, m]: [f64; 4]) -> Self {
        Self(Counts { a, n, b, m })
    }
}

impl From<Sums> for [f64; 4] {
    fn from(Sums(Counts { a, n, b, m }): Sums) -> Self {
        [a, n, b, m]
    }
}

impl Sums {
    /// Adds a tick.
    pub fn add(&mut self, counts: &Counts) {
        self.0.a += counts.a;
        self.0.n += counts.n;
        self.0.b += counts.b;
        self.0.m += counts.m;
    }
}

impl Metric {
    /// Nothing seen yet.
    pub fn new(plan: &MetricPlan, settings: &Settings) -> Self {
        let tails = plan.tails();
        Self {
            last: None,
            blind_since: None,
            gaps: Vec::new(),
            total: Sums::default(),
            step: Sums::default(),
            step_since: None,
            likelihood: Likelihood::new(SPLITS),
            harm: vec![Process::new(); tails],
            safety: vec![Process::new(); tails],
            dispersion: Dispersion::new(tails),
            phi: vec![plan.dispersion; tails],
            baseline_events: vec![0.0; tails],
            minutes: 0,
            room: (!settings.canary_pods.is_empty()).then(Room::default),
            rarity: outcome::is_open(plan).then(Rarity::default),
            window: None,
            windows: None,
            alarm: matches!(plan.method, Method::Guard { .. }).then(Alarm::default),
            unvisited: false,
            chain: Chain::new(&plan.name),
        }
    }

    /// The attempt begins: as long as no tick has been complete, it is blind from the start.
    pub fn begin(&mut self, at: Millis) {
        self.blind_since = self.last.is_none().then_some(at);
    }

    /// A step begins: new safety, new counts, and fresh capital for harm. The
    /// first of so many steps gets what is put down at the start, a later one its part of the
    /// rest; one that was begun before gets none (`None`). `pods` is how many pods the canary has
    /// at this step, 0 when that is not known.
    pub fn begin_step(&mut self, plan: &MetricPlan, capital: Option<(usize, usize)>, pods: u32) {
        if let Some((step, steps)) = capital {
            #[expect(clippy::cast_precision_loss, reason = "a gate has at most 100 steps")]
            let later = steps.saturating_sub(1).max(1) as f64;
            let share = if step == 0 {
                CAPITAL_START
            } else {
                CAPITAL_STEPS / later
            };
            self.harm.iter_mut().for_each(|process| process.stake(share));
        }
        for process in &mut self.safety {
            *process = Process::new();
            process.stake(1.0);
        }
        if let Some(room) = &mut self.room {
            room.canary_pods = pods;
        }
        self.learn(plan);
        self.step = Sums::default();
        self.step_since = None;
        self.window = matches!(plan.method, Method::MannWhitney { .. }).then(Window::default);
        self.windows = matches!(plan.method, Method::Limit { .. }).then(Windows::default);
        self.likelihood = Likelihood::new(SPLITS);
    }

    /// Takes over what stable's pods have shown up to now.
    fn learn(&mut self, plan: &MetricPlan) {
        self.phi = self.dispersion.phi(plan.dispersion);
        let known = self.dispersion.is_known();
        if let (Some(room), Some(phi)) = (&mut self.room, self.phi.get(plan.shown())) {
            room.learn(known.then_some(*phi));
        }
    }

    /// There was no complete evidence this time. No count changes.
    pub fn miss(&mut self, gaps: &[Gap], began: Option<Millis>) {
        self.blind_since = self.blind_since.or(self.last).or(began);
        if let Some(alarm) = &mut self.alarm {
            alarm.calm();
        }
        self.gaps = gaps.iter().take(GAPS).cloned().collect();
        if self.gaps.is_empty() {
            self.gaps.push(Gap {
                kind: GapKind::NoEvidence,
                detail: String::new(),
            });
        }
    }

    /// Counts a complete tick. Before the first weight it only feeds the dispersion.
    pub fn count(&mut self, plan: &MetricPlan, margins: Option<(&Course, Margin)>, interval: Millis, tick: &Tick) {
        if self.last.is_some_and(|last| tick.at <= last) {
            return;
        }
        if !is_counted(tick, plan) {
            let detail = format!(
                "the tick at {} ms does not hold {} counts per arm",
                tick.at.0,
                plan.tails()
            );
            let gap = Gap {
                kind: GapKind::NotACount,
                detail,
            };
            return self.miss(&[gap], margins.map(|(course, _)| course.began));
        }
        // a tick after a gap covers the gap too
        let nominal = tick.at - interval;
        let start = self.last.map_or(nominal, |last| last.min(nominal));
        self.last = Some(tick.at);
        self.blind_since = None;
        self.gaps.clear();
        if let Some(rarity) = &mut self.rarity
            && !rarity.knows(&tick.baseline)
        {
            self.unvisited = tick.canary.total <= 0.0;
            return;
        }
        let pods = self.judged().of_pods(&tick.baseline_pods);
        // from whole minutes before this tick, so that no tick chooses its own dispersion
        if self.dispersion.observe(start.0.div_euclid(MINUTE), &pods) {
            self.learn(plan);
        }
        if let Some(room) = &mut self.room {
            room.observe(&pods, plan.shown());
        }
        match margins {
            Some((course, safety)) if self.belongs(course, start, tick.at) => {
                self.chain.add(tick);
                self.stake_minutes(start - course.began);
                self.play(plan, &safety, tick, (start >= course.step_at).then_some(start));
            }
            _ => self.unvisited = tick.canary.total <= 0.0,
        }
    }

    /// Whether a tick speaks of this attempt. One that reaches back before the first weight may
    /// hold requests of an attempt before it; not so if there were none up to its start.
    fn belongs(&self, course: &Course, start: Millis, end: Millis) -> bool {
        start >= course.began || self.unvisited && end > course.began
    }

    /// Puts down the capital of every minute that had passed when the tick began.
    fn stake_minutes(&mut self, passed: Millis) {
        let due = (passed.0 / MINUTE).min(CAPITAL_LAST_MINUTE);
        let kept: f64 = 1.0 - 1.0 / CAPITAL_MEAN;
        while self.minutes < due {
            #[expect(clippy::cast_precision_loss, reason = "at most 2400")]
            let share = CAPITAL_MINUTES / CAPITAL_MEAN * libm::pow(kept, self.minutes as f64);
            self.harm.iter_mut().for_each(|process| process.stake(share));
            self.minutes += 1;
        }
    }

    /// Plays a tick against both margins; `in_step` is its start when it lies in the step.
    fn play(&mut self, plan: &MetricPlan, safety: &Margin, tick: &Tick, in_step: Option<Millis>) {
        if self.alarm.is_some() {
            return self.watch(plan, tick, in_step);
        }
        let judged = self.judged();
        let harm = harm_margin(plan, self.room.as_ref(), judged);
        let known_total = self.total.0.m;
        let requests = [tick.canary.total, tick.baseline.total];
        let [of_harm, of_safety] = [&harm, safety].map(|margin| Round::new(margin, requests));
        let tails = tick
            .canary
            .events
            .iter()
            .zip(&tick.baseline.events)
            .zip(&self.phi)
            .enumerate();
        let processes = self
            .harm
            .iter_mut()
            .zip(&mut self.safety)
            .zip(&mut self.baseline_events);
        for ((tail, ((a, b), phi)), ((bad, good), known)) in tails.zip(processes) {
            let counts = Counts {
                a: *a,
                n: tick.canary.total,
                b: *b,
                m: tick.baseline.total,
            };
            let Counts { a, b, .. } = judged.of(&counts);
            let share = |margin| {
                let share = e2::share(margin, *known, known_total);
                share.filter(|_| plan.shape.has_shares())
            };
            bad.play(&of_harm, [a, b], *phi, share(&harm));
            if in_step.is_some() {
                good.play(&of_safety, [a, b], *phi, share(safety));
            }
            *known += b;
            if tail == plan.shown() {
                self.total.add(&counts);
                if in_step.is_some() {
                    self.step.add(&counts);
                    self.likelihood.add(&counts, *phi);
                }
                if let (Method::MannWhitney { window, points }, Some(start), Some(seen)) =
                    (plan.method, in_step, &mut self.window)
                {
                    seen.observe([start, tick.at], &counts, (window, points));
                }
                if let (Method::Limit { max, .. }, Some(_), Some(seen)) = (plan.method, in_step, &mut self.windows) {
                    seen.observe(&counts, max, plan.min_sample);
                }
            }
        }
        self.step_since = self.step_since.or(in_step);
    }

    /// Evidence of harm: the average over the tails, as a fault may hide in any one of them.
    pub fn log_harm(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most 8 tails")]
        let share = 1.0 / self.harm.len() as f64;
        log_average(self.harm.iter().map(|process| (share, process.log_e())))
    }

    /// What the logarithm of the evidence of harm cannot exceed: far cheaper, and mostly enough.
    pub fn log_harm_at_most(&self) -> f64 {
        self.harm.iter().map(Process::log_e_at_most).fold(0.0, f64::max)
    }

    /// The outcome that is judged; the bad one as long as nothing is known.
    pub fn judged(&self) -> Outcome {
        let judged = self.rarity.and_then(|rarity| rarity.judged);
        judged.unwrap_or(Outcome::Bad)
    }

    /// The baseline's bad ones and requests since the attempt began.
    pub const fn baseline(&self) -> [f64; 2] {
        [self.total.0.b, self.total.0.m]
    }

    /// The abort margin of the shown tail at this step, as a ratio.
    pub fn harm_ratio(&self, plan: &MetricPlan) -> f64 {
        harm_margin(plan, self.room.as_ref(), self.judged()).ratio
    }

    /// Evidence of safety: that of the least sure tail, as every tail has to be safe.
    pub fn log_safety(&self) -> f64 {
        self.safety.iter().map(Process::log_e).fold(f64::INFINITY, f64::min)
    }

    /// The dispersion of the shown tail by which its evidence is divided now.
    pub fn dispersion(&self, plan: &MetricPlan) -> f64 {
        self.phi.get(plan.shown()).copied().unwrap_or(plan.dispersion)
    }

    /// SHA-256 over all ticks counted since the attempt began.
    pub fn hash(&self) -> [u8; 32] {
        self.chain.digest()
    }

    /// Canary requests, or pod-seconds, until every tail can be expected to be proved safe at `level`, if the
    /// canary is as healthy as the baseline has been; `None` when they would never suffice.
    /// `split` is how many baseline requests come with one of the canary, until some were seen.
    pub fn requests_to_safety(&self, plan: &MetricPlan, margin: &Margin, level: f64, split: f64) -> Option<f64> {
        let seen = self.step.0;
        let split = if seen.n > 0.0 { seen.m / seen.n } else { split };
        let cost = if seen.n > 0.0 { 0.0 } else { MIXTURE_COST };
        let tails = self.safety.iter().zip(&self.baseline_events).zip(&self.phi);
        let needs = tails.map(|((process, events), phi)| {
            let rate = if self.total.0.m > 0.0 {
                events / self.total.0.m
            } else {
                0.0
            };
            let traffic = Traffic {
                rate,
                split,
                truth: 1.0,
                phi: *phi,
                known: if plan.shape.has_shares() { self.total.0.m } else { 0.0 },
            };
            need::forecast(&traffic, margin, limit(level) + cost - process.log_e())
        });
        needs.collect::<Option<Vec<f64>>>()?.into_iter().max_by(f64::total_cmp)
    }
}

/// Whether a tick is what its type promises.
fn is_counted(tick: &Tick, plan: &MetricPlan) -> bool {
    let arms = [&tick.canary, &tick.baseline].into_iter().chain(&tick.baseline_pods);
    arms.into_iter().all(|arm| plan.shape.fits(arm))
}

/// ln of the level's inverse: what evidence has to reach.
pub fn limit(level: f64) -> f64 {
    -log(level)
}
