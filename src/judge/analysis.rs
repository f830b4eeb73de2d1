//! All metrics of one attempt together.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::decision::{Evidence, Judged, Millis, Percent, Promote, Reading, Reason, Tick, Verdict};

use super::e1::log_average;
use super::margins::safety_margin;
use super::metric::{self, Course, Metric};
use super::plan::{self, Method, MetricPlan, PlanError, Settings};
use super::reading::View;
use super::sample_ratio::SampleRatio;
use super::words;

/// Expected requests from which on none at all is no chance: it would be one in 500 million
/// (`e^-20`).
const UNSEEN: f64 = 20.0;

/// The judgement of one attempt: plan and state together, so that what is stored continues bit
/// for bit. About 2 KB per metric as JSON.
///
/// Evidence is counted tick by tick and metric by metric, in the order of time: all metrics of
/// one tick before the next tick. A failure, once shown, stands for the rest of the attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    plans: Vec<MetricPlan>,
    settings: Settings,
    weights: Vec<Percent>,
    course: Option<Course>,
    metrics: Vec<Metric>,
    pub(super) failure: Option<Failure>,
    /// Whether the canary gets its share, at this step, where the plan asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sample_ratio: Option<SampleRatio>,
}

/// What was shown to be wrong, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Failure {
    metric: usize,
    pub(super) reason: Reason,
    rule: String,
}

impl Analysis {
    /// Begins the judgement of an attempt. `weights` are the steps as written to the route: with
    /// a holdback the last one is below 100 (see [`crate::decision::Plan::weight_at`]).
    ///
    /// # Errors
    /// When the plan cannot be judged by; the message names the field, its value and what would
    /// be accepted.
    pub fn new(plans: Vec<MetricPlan>, settings: Settings, weights: Vec<Percent>) -> Result<Self, PlanError> {
        plan::check(&plans, &settings, &weights)?;
        let metrics = plans.iter().map(|plan| Metric::new(plan, &settings)).collect();
        Ok(Self {
            plans,
            settings,
            weights,
            course: None,
            metrics,
            failure: None,
            sample_ratio: None,
        })
    }

    /// The metrics, in the order in which [`Analysis::observe`] counts them.
    #[must_use]
    pub fn plans(&self) -> &[MetricPlan] {
        &self.plans
    }

    /// End of the newest complete tick of the metric at `index`: a source need not be asked for
    /// anything older.
    #[must_use]
    pub fn seen(&self, index: usize) -> Option<Millis> {
        self.metrics.get(index)?.last
    }

    /// Requests (or pod-seconds) of canary and baseline that the metric at `index` has counted at this
    /// step.
    #[must_use]
    pub fn requests(&self, index: usize) -> Option<[f64; 2]> {
        let counts = self.metrics.get(index)?.step.0;
        Some([counts.n, counts.m])
    }

    /// Between which ratios the truth of the metric at `index` lies, at every look of this step
    /// together, with probability 1 − `beta`. A ratio is at least 0; where there is too little to
    /// bound it from above, there is no upper bound.
    #[must_use]
    pub fn bounds(&self, index: usize) -> [Option<f64>; 2] {
        let Some(metric) = self.metrics.get(index) else {
            return [None, None];
        };
        let [[lower, upper]] = metric.likelihood.bounds([self.settings.beta]);
        [Some(lower.map_or(0.0, libm::exp)), upper.map(libm::exp)]
    }

    /// Why the attempt has failed, once it has.
    #[must_use]
    pub fn failed(&self) -> Option<Reason> {
        self.failure.as_ref().map(|failure| failure.reason)
    }

    /// The weight of `step` was written at `at`: safety starts anew, evidence of harm carries
    /// on. Telling the same step again changes nothing. An earlier step may begin again, when a
    /// person lets a release go on from there; it gets no more capital. Ticks seen before the
    /// first step only feed the dispersion, so history may be given first.
    pub fn begin_step(&mut self, step: usize, at: Millis) {
        let (capital, began, highest) = match self.course {
            Some(course) if step == course.step => return,
            Some(course) if step <= course.highest => (None, course.began, course.highest),
            Some(course) => (Some(step), course.began, step),
            None => (Some(0), at, step),
        };
        if self.course.is_none() {
            self.metrics.iter_mut().for_each(|metric| metric.begin(at));
        }
        let capital = capital.map(|step| (step, self.weights.len()));
        let pods = self.settings.canary_pods.get(step).copied().unwrap_or(0);
        for (metric, plan) in self.metrics.iter_mut().zip(&self.plans) {
            metric.begin_step(plan, capital, pods);
        }
        self.sample_ratio = self.settings.sample_ratio.map(|_| SampleRatio::new());
        self.course = Some(Course {
            step,
            step_at: at,
            began,
            highest,
        });
    }

    /// Counts one tick of the metric at `index` (an unknown index counts nothing). A tick that
    /// is not newer than the newest one counted is ignored, so answers may overlap; incomplete
    /// evidence changes no count and makes the metric blind until the next complete tick.
    pub fn observe(&mut self, index: usize, evidence: &Evidence<Tick>) {
        let share = self.share();
        let (Some(metric), Some(plan)) = (self.metrics.get_mut(index), self.plans.get(index)) else {
            return;
        };
        let course = self.course.as_ref();
        let (before, seen) = (metric.step.0, metric.last);
        let mut start = None;
        match evidence {
            Evidence::Incomplete(gaps) => metric.miss(gaps, course.map(|course| course.began)),
            Evidence::Complete(tick) => {
                let nominal = tick.at - self.settings.interval;
                start = Some(seen.map_or(nominal, |seen| seen.min(nominal)));
                let margin = safety_margin(plan, &self.settings, share, metric.baseline(), metric.judged());
                metric.count(
                    plan,
                    course.map(|course| (course, margin)),
                    self.settings.interval,
                    tick,
                );
            }
        }
        let counted = [metric.step.0.n - before.n, metric.step.0.m - before.m];
        if let Some(start) = start
            && self.counting_requests().next().is_some_and(|(first, _)| first == index)
        {
            self.weigh(start, counted);
        }
        if self.failure.is_none() && self.course.is_some() {
            self.failure = self.find_failure(index);
        }
    }

    /// What is known now about the attempt `epoch` at `step`, in the order data, abort, promote,
    /// hold. Data comes first metric by metric: what is incomplete was never counted, and harm
    /// that complete evidence has shown is not undone by another metric's silence.
    #[must_use]
    pub fn judged(&self, epoch: i64, step: usize) -> Judged {
        let readings: Vec<Reading> = self.views().map(|view| view.reading()).collect();
        let (verdict, rule) = self.overall(step, &readings);
        let newest = self.metrics.iter().filter_map(|metric| metric.last).max();
        let started = self.course.map(|course| course.step_at);
        Judged {
            epoch,
            step,
            at: newest.or(started).unwrap_or_default(),
            verdict,
            receiving: self.is_at(step) && self.is_receiving(),
            blind_since: self
                .metrics
                .iter()
                .filter_map(|metric| metric.blind_since)
                .chain(self.unseen().and(started))
                .min(),
            no_harm: self.is_at(step) && self.mismatch().is_none() && self.views().all(|view| view.no_harm()),
            rule,
            evidence_hash: self.evidence_hash(),
            readings,
        }
    }

    /// Plays the requests that the first metric of requests has counted at this step in a tick since `start`,
    /// once the step has settled.
    fn weigh(&mut self, start: Millis, counted: [f64; 2]) {
        let share = self.share();
        if let (Some(plan), Some(seen), Some(course)) =
            (self.settings.sample_ratio, &mut self.sample_ratio, self.course)
            && share < 1.0
            && start >= course.step_at + plan.settle
        {
            seen.observe(counted, share, plan.dispersion);
        }
    }

    /// What the canary got, when it is not the share that its weight says.
    fn mismatch(&self) -> Option<[f64; 2]> {
        let (plan, seen) = (self.settings.sample_ratio?, self.sample_ratio.as_ref()?);
        #[expect(clippy::cast_precision_loss, reason = "a gate has at most 100 steps")]
        let steps = self.weights.len() as f64;
        (seen.log_e() >= metric::limit(plan.alpha / steps)).then_some(seen.requests)
    }

    /// The metrics that count requests, with their places.
    fn counting_requests(&self) -> impl Iterator<Item = (usize, &Metric)> {
        let all = self.plans.iter().zip(&self.metrics).enumerate();
        all.filter(|(_, (plan, _))| plan.shape.unit().is_requests())
            .map(|(index, (_, metric))| (index, metric))
    }

    /// Whether the canary was seen at this step: a request of it, or where none are counted, its pods.
    fn is_receiving(&self) -> bool {
        let seen = |metric: &Metric| metric.step.0.n > 0.0;
        let mut requests = self.counting_requests().peekable();
        if requests.peek().is_some() {
            requests.any(|(_, metric)| seen(metric))
        } else {
            self.metrics.iter().any(seen)
        }
    }

    fn is_at(&self, step: usize) -> bool {
        self.course.is_some_and(|course| course.step == step)
    }

    /// How many requests a canary should have been seen to get at this step, when it was seen to
    /// get none at all and that is no chance: then it is not quiet but cannot be seen.
    fn unseen(&self) -> Option<f64> {
        let odds = 1.0 / self.settings.split(self.share());
        let silent = self
            .counting_requests()
            .map(|(_, metric)| metric)
            .filter(|metric| metric.step.0.n <= 0.0);
        let expected = silent.map(|metric| metric.step.0.m * odds);
        expected
            .filter(|expected| expected.is_finite() && *expected >= UNSEEN)
            .max_by(f64::total_cmp)
    }

    /// The canary's share at the step the attempt is at; of the first one before it begins.
    fn share(&self) -> f64 {
        let step = self.course.map_or(0, |course| course.step);
        let weight = self.weights.get(step).or(self.weights.last());
        weight.map_or(1.0, |weight| f64::from(weight.get()) / 100.0)
    }

    /// Whether the attempt is at its last step, whose safety margin would need millions of
    /// requests: it passes when no harm is seen.
    fn on_last(&self) -> bool {
        self.course.is_some_and(|course| course.step + 1 >= self.weights.len())
    }

    fn sequential(&self) -> impl Iterator<Item = (usize, &Metric)> + Clone {
        let all = self.plans.iter().zip(&self.metrics).enumerate();
        all.filter(|(_, (plan, _))| plan.method == Method::Sequential)
            .map(|(index, (_, metric))| (index, metric))
    }

    /// What every sequential metric weighs in the average of the evidence of harm.
    fn weight(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a handful of metrics")]
        let count = self.sequential().count().max(1) as f64;
        1.0 / count
    }

    fn views(&self) -> impl Iterator<Item = View<'_>> {
        let (share, on_last) = (self.share(), self.on_last());
        let alpha = self.settings.alpha * self.weight();
        let held = self.settings.is_guard().then(|| self.harmed()).flatten();
        let failed = |index| {
            self.failure
                .as_ref()
                .filter(|failure| failure.metric == index)
                .map(|failure| failure.reason)
        };
        self.plans
            .iter()
            .zip(&self.metrics)
            .enumerate()
            .map(move |(index, (plan, metric))| View {
                plan,
                metric,
                settings: &self.settings,
                share,
                on_no_harm: on_last || plan.promote == Promote::NoHarm,
                alpha,
                failed: failed(index),
                held: held == Some(index),
            })
    }

    /// Harm over the average of all metrics, or the breach of a limit by the metric at `index`, which
    /// alone has changed.
    fn find_failure(&self, index: usize) -> Option<Failure> {
        let guard = self.settings.is_guard();
        let harm = self.find_harm().filter(|_| !guard);
        harm.or_else(|| {
            let breach = self.views().nth(index)?.breach();
            let (reason, rule) = breach.filter(|(reason, _)| !guard || *reason != Reason::Harm)?;
            Some(Failure {
                metric: index,
                reason,
                rule,
            })
        })
    }

    fn find_harm(&self) -> Option<Failure> {
        let worst = self.harmed()?;
        Some(Failure {
            metric: worst,
            reason: Reason::Harm,
            rule: self.views().nth(worst)?.harm_sentence(),
        })
    }

    /// The metric that shows most harm, when all of them together show it.
    fn harmed(&self) -> Option<usize> {
        let enough = metric::limit(self.settings.alpha);
        // an average is at most the largest
        let at_most = self.sequential().map(|(_, metric)| metric.log_harm_at_most());
        if at_most.fold(0.0, f64::max) < enough {
            return None;
        }
        let weight = self.weight();
        let harm = self.sequential().map(|(index, metric)| (index, metric.log_harm()));
        if log_average(harm.clone().map(|(_, log_e)| (weight, log_e))) < enough {
            return None;
        }
        harm.max_by(|one, other| one.1.total_cmp(&other.1))
            .map(|(worst, _)| worst)
    }

    /// The verdict alone, as [`Analysis::judged`] has it, in a small part of the time.
    #[must_use]
    pub fn verdict(&self, step: usize) -> Verdict {
        let verdicts = || self.views().map(|view| view.verdict());
        let worst = || verdicts().min_by_key(rank);
        self.standing(step)
            .map(|(verdict, _)| verdict)
            .or_else(worst)
            .unwrap_or(Verdict::Inconclusive(Reason::NoEvidence))
    }

    /// The verdict and its sentence where it does not depend on what the metrics say now.
    fn standing(&self, step: usize) -> Option<(Verdict, String)> {
        if let Some(failure) = &self.failure {
            return Some((Verdict::Fail(failure.reason), failure.rule.clone()));
        }
        if !self.is_at(step) {
            let rule = format!("step {} has not begun", step + 1);
            return Some((Verdict::Inconclusive(Reason::NoEvidence), rule));
        }
        if let Some(expected) = self.unseen() {
            let rule = format!("no request of the canary is counted, about {expected:.0} should be");
            return Some((Verdict::Inconclusive(Reason::NoEvidence), rule));
        }
        let [canary, baseline] = self.mismatch()?;
        let got = words::percent(canary / (canary + baseline));
        let share = words::percent(self.share());
        let rule = format!("{got} of the requests reach the canary instead of {share}");
        Some((Verdict::Inconclusive(Reason::SampleRatio), rule))
    }

    /// The verdict over all metrics and the sentence of the metric that made it.
    fn overall(&self, step: usize, readings: &[Reading]) -> (Verdict, String) {
        if let Some(standing) = self.standing(step) {
            return standing;
        }
        // among equals, the metric that lacks most: in requests, else in evidence of safety
        let lack = |reading: &Reading| match reading.need {
            Some(need) => need.requests,
            None => reading.safety[1] - reading.safety[0],
        };
        let deciding = self.views().zip(readings).min_by(|(_, one), (_, other)| {
            let ranks = rank(&one.verdict).cmp(&rank(&other.verdict));
            ranks.then(lack(other).total_cmp(&lack(one)))
        });
        match deciding {
            Some((view, reading)) => (reading.verdict.clone(), view.sentence(reading)),
            None => (Verdict::Inconclusive(Reason::NoEvidence), "no metric".into()),
        }
    }

    /// SHA-256 over the hashes of all metrics, one after another: every complete tick since the attempt
    /// began, in canonical JSON (see `chain`).
    fn evidence_hash(&self) -> String {
        let all = self
            .metrics
            .iter()
            .fold(Sha256::new(), |sum, metric| sum.chain_update(metric.hash()));
        format!("{:x}", all.finalize())
    }
}

/// The lower, the more it decides over the verdicts of other metrics.
const fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Fail(_) => 0,
        Verdict::Inconclusive(Reason::NoEvidence) => 1,
        Verdict::Inconclusive(Reason::WorseThanPast | Reason::GuardExceeded) => 2,
        Verdict::Inconclusive(Reason::TooFew) => 3,
        Verdict::Inconclusive(_) => 4,
        Verdict::Pass(Reason::NoHarm) => 5,
        Verdict::Pass(_) => 6,
    }
}
