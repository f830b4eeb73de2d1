//! What one metric says: verdict, numbers, and the sentence that goes with them.

use libm::{exp, log};

use crate::decision::{Millis, Need, Reading, Reason, Unit, Verdict};

use super::e1::{Counts, Margin, Side};
use super::interval;
use super::limit::{self, GUARD_SHARE, Windows};
use super::margins::safety_margin;
use super::metric::{self, Metric};
use super::outcome::Outcome;
use super::plan::{Method, MetricPlan, Settings};
use super::shape::Shape;
use super::words;

/// Odds of harm at which a canary is no longer called harmless, long before it is aborted.
const SUSPICION: f64 = 5.0;

/// One metric at the step the attempt is at, and all that its reading depends on.
pub struct View<'a> {
    /// What it is judged by.
    pub plan: &'a MetricPlan,
    /// What was counted.
    pub metric: &'a Metric,
    /// What holds for all.
    pub settings: &'a Settings,
    /// The canary's share of the traffic, above 0 to 1.
    pub share: f64,
    /// Whether the step passes without proof of safety, as long as no harm is seen.
    pub on_no_harm: bool,
    /// This metric's part of `alpha`.
    pub alpha: f64,
    /// The failure that stands, when it is this metric's.
    pub failed: Option<Reason>,
    /// Whether all metrics together show harm, and this one most: against a past that only holds.
    pub held: bool,
}

impl View<'_> {
    /// The step's safety margin.
    fn margin(&self) -> Margin {
        let (baseline, judged) = (self.metric.baseline(), self.metric.judged());
        safety_margin(self.plan, self.settings, self.share, baseline, judged)
    }

    fn counts(&self) -> Counts {
        self.metric.step.0
    }

    /// The counts behind what it says: harm is proved over the whole attempt, all else over the step.
    fn told(&self) -> Counts {
        if (self.held || self.failed == Some(Reason::Harm)) && self.plan.method == Method::Sequential {
            self.metric.total.0
        } else {
            self.counts()
        }
    }

    /// A breach of an absolute limit, or what the rank test has shown, with its sentence.
    pub fn breach(&self) -> Option<(Reason, String)> {
        let mut counts = self.counts();
        let limit = match (self.plan.method, self.plan.shape) {
            (Method::MannWhitney { .. }, _) => {
                let arms = self.arms(&counts);
                let worse = self.metric.window.as_ref()?.high?;
                let sentence = || format!("{}: {arms}: higher by the rank test of a full window", self.plan.name);
                return worse.then(|| (Reason::Harm, sentence()));
            }
            (Method::Limit { max, failures }, _) => {
                let windows = self.metric.windows.as_ref()?;
                counts = windows.newest?.0;
                let times = (failures > 1).then(|| format!(", {failures} times in a row"));
                let above = || {
                    format!(
                        "above the limit of {}{}",
                        words::percent(max),
                        times.unwrap_or_default()
                    )
                };
                (windows.above >= failures).then(above)?
            }
            (Method::Guard { abort, .. }, _) => {
                let aborts = abort && !self.settings.is_guard();
                return (aborts && self.metric.alarmed()).then(|| (Reason::GuardExceeded, self.guard_sentence()));
            }
            (Method::Sequential, Shape::Ratio) => limit::guard_fires(&counts)
                .then(|| format!("certainly above the guard of {}", words::percent(GUARD_SHARE)))?,
            (Method::Sequential, _) => return None,
        };
        let what = self.canary(&counts);
        Some((Reason::LimitExceeded, format!("{}: {what}: {limit}", self.plan.name)))
    }

    /// What proves harm, in one sentence over the whole attempt.
    pub fn harm_sentence(&self) -> String {
        let counts = self.metric.total.0;
        let ratio = (self.plan.shape.ratio(&self.metric.judged().of(&counts)))
            .map_or_else(String::new, |ratio| format!("ratio {}, ", words::ratio(ratio)));
        let certain = words::percent(1.0 - self.settings.alpha);
        let margin = times_stable(self.metric.harm_ratio(self.plan));
        let beyond = self.towards(Side::Higher);
        let arms = self.arms(&counts);
        format!("{}: {arms}: {ratio}{certain} certain {beyond} {margin}", self.plan.name)
    }

    /// What was counted of both arms, with the outcome that is judged.
    fn arms(&self, counts: &Counts) -> String {
        let judged = self.metric.judged();
        self.plan.shape.both_arms(judged, &judged.of(counts))
    }

    /// What was counted of the canary.
    fn canary(&self, counts: &Counts) -> String {
        let judged = self.metric.judged();
        self.plan.shape.canary(judged, [counts.a, counts.n])
    }

    /// Where the canary is, when its bad ones are on this side of the margin.
    fn towards(&self, side: Side) -> &'static str {
        if (side == Side::Higher) == (self.metric.judged() == Outcome::Bad) {
            "above"
        } else {
            "below"
        }
    }

    /// How bad the canary may still be, in words.
    fn bound(&self, reading: &Reading) -> String {
        let level = words::percent(1.0 - self.settings.beta);
        let bound = match self.metric.judged() {
            Outcome::Bad => {
                let upper = reading.interval.map(|[_, upper]| times_stable(upper));
                upper.or_else(|| self.rare(&self.counts()))
            }
            Outcome::Good => reading
                .difference
                .map(|[_, upper]| format!("{} more of all requests without success", words::percent(upper))),
        };
        bound.map_or_else(
            || "no upper bound known".to_owned(),
            |bound| format!("{level} certain below {bound}"),
        )
    }

    /// How often at most something happens over time that was not seen to happen at all.
    fn rare(&self, counts: &Counts) -> Option<String> {
        let never = self.plan.shape.unit() == Unit::PodSeconds && counts.a <= 0.0 && counts.n > 0.0;
        let hourly = || -log(self.settings.beta) / counts.n * 3600.0;
        never.then(|| format!("{} per pod-hour", words::ratio(hourly())))
    }

    /// What shows the canary to be worse than a past that only holds.
    fn worse_than_past(&self) -> Option<String> {
        if !self.settings.is_guard() {
            return None;
        }
        let harm = if self.held {
            self.harm_sentence()
        } else {
            let (reason, sentence) = self.breach()?;
            (reason == Reason::Harm).then_some(sentence)?
        };
        Some(format!(
            "{harm}; held, as a past baseline aborts only where the policy says so"
        ))
    }

    /// What a guard sees.
    fn guard_sentence(&self) -> String {
        let arms = self.arms(&self.counts());
        let above = match self.plan.method {
            Method::Guard { worse, floor, .. } => self.metric.above(worse, floor),
            _ => None,
        };
        let above = above.unwrap_or_else(|| "not above what is allowed".to_owned());
        format!("{}: {arms}: {above}; guard, no error rate claimed", self.plan.name)
    }

    /// What this metric says by itself.
    pub fn verdict(&self) -> Verdict {
        if let Some(reason) = self.failed {
            return Verdict::Fail(reason);
        }
        if self.metric.blind_since.is_some() {
            return Verdict::Inconclusive(Reason::NoEvidence);
        }
        if self.worse_than_past().is_some() {
            return Verdict::Inconclusive(Reason::WorseThanPast);
        }
        if self.metric.alarmed() {
            return Verdict::Inconclusive(Reason::GuardExceeded);
        }
        let too_few = self.counts().n < self.plan.min_sample;
        match self.plan.method {
            Method::Limit { .. } | Method::MannWhitney { .. } if self.no_harm() => Verdict::Pass(Reason::Safe),
            Method::Guard { .. } if self.no_harm() => Verdict::Pass(Reason::NoHarm),
            Method::Sequential if self.on_no_harm && self.no_harm() => Verdict::Pass(Reason::NoHarm),
            Method::Sequential if !self.on_no_harm && self.is_safe() => Verdict::Pass(Reason::Safe),
            _ if too_few => Verdict::Inconclusive(Reason::TooFew),
            _ => Verdict::Inconclusive(Reason::Undecided),
        }
    }

    /// Whether safety within the step's margin is proved.
    fn is_safe(&self) -> bool {
        self.metric.log_safety() >= metric::limit(self.settings.beta)
    }

    /// Complete, with the minimum sample, and without a sign of harm.
    pub fn no_harm(&self) -> bool {
        let counts = self.counts();
        let known = self.failed.is_none() && self.metric.blind_since.is_none() && counts.n >= self.plan.min_sample;
        known
            && match self.plan.method {
                Method::Limit { .. } => self.metric.windows.as_ref().is_some_and(Windows::within),
                Method::Sequential => self.metric.log_harm() < log(SUSPICION),
                Method::MannWhitney { .. } => self.metric.window.as_ref().is_some_and(|seen| seen.high == Some(false)),
                Method::Guard { .. } => self.metric.alarm.as_ref().is_some_and(|alarm| !alarm.is_above()),
            }
    }

    /// What is still missing for a Pass.
    pub fn need(&self) -> Option<Need> {
        if !matches!(
            self.verdict(),
            Verdict::Inconclusive(Reason::TooFew | Reason::Undecided)
        ) {
            return None;
        }
        let counts = self.counts();
        let sample = self.plan.min_sample;
        let short = match &self.metric.windows {
            Some(windows) => windows.lacks(sample),
            None => (sample - counts.n).max(0.0),
        };
        let requests = if self.plan.method != Method::Sequential || self.on_no_harm {
            (short > 0.0).then_some(short)?
        } else {
            let beta = self.settings.beta;
            let split = self.settings.split(self.share);
            self.metric.requests_to_safety(self.plan, &self.margin(), beta, split)?
        };
        let seen = self.metric.last.zip(self.metric.step_since);
        let spent = seen.map_or(Millis(0), |(last, since)| last - since).as_secs_f64();
        let seconds = (counts.n > 0.0 && spent > 0.0).then(|| requests * spent / counts.n);
        Some(Need { requests, seconds })
    }

    /// The intervals of the ratio and of the difference, once they are bounded on both sides (a
    /// ratio cannot be below 0). That of the difference has half of its level from each arm.
    fn intervals(&self) -> [Option<[f64; 2]>; 2] {
        let (beta, half) = (self.settings.beta, self.settings.beta / 2.0);
        let both = self.metric.likelihood.bounds([half, beta]);
        let [wider, ratio] = both.map(|[lower, upper]| Some([lower.map_or(0.0, exp), exp(upper?)]));
        [
            ratio,
            wider
                .filter(|_| self.plan.shape.has_shares())
                .map(|wider| interval::difference(wider, &self.counts(), half)),
        ]
    }

    /// The numbers, for people.
    pub fn reading(&self) -> Reading {
        let counts = self.told();
        let [interval, difference] = self.intervals();
        Reading {
            metric: self.plan.name.clone(),
            method: self.plan.method.name(),
            unit: self.plan.shape.unit(),
            verdict: self.verdict(),
            canary: [counts.a, counts.n],
            baseline: [counts.b, counts.m],
            ratio: self.plan.shape.ratio(&counts),
            interval,
            difference,
            dispersion: self.metric.dispersion(self.plan),
            harm: self.evidence([self.metric.log_harm(), metric::limit(self.alpha)]),
            safety: self.evidence([self.metric.log_safety(), metric::limit(self.settings.beta)]),
            need: self.need(),
            gaps: self.metric.gaps.clone(),
        }
    }

    /// Evidence and its limit; a guard has none.
    const fn evidence(&self, evidence: [f64; 2]) -> [f64; 2] {
        match self.plan.method {
            Method::Guard { .. } => [0.0; 2],
            _ => evidence,
        }
    }

    /// Why the metric says what its reading says, in one sentence.
    pub fn sentence(&self, reading: &Reading) -> String {
        if let (Verdict::Inconclusive(Reason::WorseThanPast), Some(said)) = (&reading.verdict, self.worse_than_past()) {
            return said;
        }
        let counts = self.counts();
        let arms = self.arms(&counts);
        let said = match (reading.verdict.clone(), self.plan.method) {
            (Verdict::Inconclusive(Reason::NoEvidence), _) => {
                let kinds: Vec<&str> = reading.gaps.iter().map(|gap| gap.kind.word()).collect();
                format!(
                    "no complete evidence: {}",
                    if kinds.is_empty() {
                        "no tick yet".into()
                    } else {
                        kinds.join(", ")
                    }
                )
            }
            (Verdict::Pass(_), Method::Limit { max, .. }) => {
                let counts = self
                    .metric
                    .windows
                    .as_ref()
                    .and_then(|seen| seen.newest)
                    .unwrap_or_default()
                    .0;
                let canary = self.canary(&counts);
                format!("{canary}: within the limit of {}", words::percent(max))
            }
            (_, Method::Guard { .. }) => return self.guard_sentence(),
            (Verdict::Pass(_), Method::MannWhitney { .. }) => format!("{arms}: not higher by the rank test"),
            (Verdict::Pass(Reason::NoHarm), _) => {
                let bound = self.bound(reading);
                format!("{arms}: no harm seen, {bound}")
            }
            (Verdict::Pass(_), Method::Sequential) => {
                let level = words::percent(1.0 - self.settings.beta);
                let Margin { ratio, extra, .. } = self.margin();
                let margin = if extra > 0.0 {
                    format!("stable plus {} of requests", words::percent(extra))
                } else {
                    times_stable(ratio)
                };
                format!("{arms}: {level} certain {} {margin}", self.towards(Side::Lower))
            }
            _ => format!("{arms}: {}", self.lacking(reading.need)),
        };
        format!("{}: {said}", self.plan.name)
    }

    /// What is still missing, in words.
    fn lacking(&self, need: Option<Need>) -> String {
        let Some(Need { requests, seconds }) = need else {
            return "neither safety nor harm is shown yet".into();
        };
        let time = seconds.map_or_else(String::new, |seconds| format!(", about {}", words::duration(seconds)));
        let (more, unit) = self.plan.shape.unit().scaled(requests);
        format!("needs about {} more {unit}{time}", words::count(more))
    }
}

/// A rate of the canary beside that of stable, in words.
fn times_stable(ratio: f64) -> String {
    format!("{} times stable", words::ratio(ratio))
}
