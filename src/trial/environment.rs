//! What rules can read: the numbers of every metric, and of the release as a whole.

use crate::decision::{Judged, Reading, Reason, Unit, Verdict};

/// When a number may be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    /// At every tick: a bound that is valid at every look, or no estimate at all.
    Always,
    /// Once per window, and with the minimum sample: looking at an estimate often enough shows
    /// whatever one waits for.
    OncePerWindow,
}

/// Which metrics have a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// All that are compared, which gauges are not.
    All,
    /// Those that are a ratio of counters.
    Ratios,
    /// Those that are a histogram with a quantile.
    Quantiles,
}

macro_rules! fields {
    ($($(#[doc = $doc:literal])+ $name:ident $text:literal $of:ident $look:ident,)+) => {
        /// A number of a metric. All of them are since the step began.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Field { $($(#[doc = $doc])+ $name,)+ }

        /// Every number of a metric: how it is written, of which metrics, and when it may be looked at.
        pub(super) const FIELDS: &[(&str, Field, Of, Look)] =
            &[$(($text, Field::$name, Of::$of, Look::$look),)+];
    };
}

fields! {
    /// Requests that the canary answered; of a count, pod-seconds, as everywhere here.
    CanaryRequests "canaryRequests" All Always,
    /// Requests that stable answered.
    StableRequests "stableRequests" All Always,
    /// Bad (or slow) ones among the canary's.
    CanaryEvents "canaryEvents" All OncePerWindow,
    /// Bad (or slow) ones among stable's.
    StableEvents "stableEvents" All OncePerWindow,
    /// The canary's share of bad (or slow) requests.
    CanaryShare "canaryShare" All OncePerWindow,
    /// Stable's.
    StableShare "stableShare" All OncePerWindow,
    /// The canary's share divided by stable's.
    Ratio "ratio" All OncePerWindow,
    /// The same less 1: 0.1 is 10 % worse.
    Delta "delta" All OncePerWindow,
    /// The canary's share less stable's.
    Difference "difference" All OncePerWindow,
    /// Lower end of the interval of the difference; it holds at one look.
    DifferenceLower "differenceLower" All OncePerWindow,
    /// Its upper end.
    DifferenceUpper "differenceUpper" All OncePerWindow,
    /// Lower bound of the ratio, valid at every look.
    Lower "lower" All Always,
    /// Upper bound of the ratio, valid at every look.
    Upper "upper" All Always,
    /// Lower bound of the delta, valid at every look.
    DeltaLower "deltaLower" All Always,
    /// Upper bound of the delta, valid at every look.
    DeltaUpper "deltaUpper" All Always,
    /// How the shares of good requests differ: -0.01 is 1 % fewer.
    SuccessDelta "successDelta" Ratios OncePerWindow,
    /// The canary's quantile, in the histogram's unit.
    CanaryQuantile "canaryQuantile" Quantiles OncePerWindow,
    /// Stable's.
    StableQuantile "stableQuantile" Quantiles OncePerWindow,
    /// How the quantiles differ: 0.2 is 20 % slower.
    QuantileDelta "quantileDelta" Quantiles OncePerWindow,
}

/// A number of the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whole {
    /// The canary's weight, in percent.
    Weight,
    /// The step, from 1.
    Step,
    /// Minutes since the step's weight was written, by the newest tick.
    Minutes,
    /// Fewest requests to the canary that any metric counts at this step.
    Sample,
}

/// Every number of the release, as it is written.
pub(super) const WHOLES: [(&str, Whole); 4] = [
    ("weight", Whole::Weight),
    ("step", Whole::Step),
    ("minutes", Whole::Minutes),
    ("sample", Whole::Sample),
];

/// How much is known, of a metric or of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Known {
    /// Evidence is missing or not to be trusted.
    NoEvidence,
    /// The canary has had fewer requests than the minimum sample.
    TooFew,
    /// Neither.
    Complete,
}

/// Every state, as it is written.
pub(super) const STATES: [(&str, Known); 3] = [
    ("complete", Known::Complete),
    ("tooFew", Known::TooFew),
    ("noEvidence", Known::NoEvidence),
];

impl Known {
    /// As it is written.
    pub(super) fn text(self) -> &'static str {
        STATES
            .iter()
            .find(|(_, state)| *state == self)
            .map_or("", |(text, _)| text)
    }
}

/// One metric as rules see it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Values {
    /// How much is known of it.
    pub known: Known,
    /// What its totals are made of.
    pub unit: Unit,
    /// Events and requests of the canary, then of stable.
    pub counts: [f64; 4],
    /// Bounds of the ratio that hold at every look.
    pub bounds: [Option<f64>; 2],
    /// Interval of the difference.
    pub difference: Option<[f64; 2]>,
    /// The quantiles of canary and stable.
    pub quantiles: Option<[f64; 2]>,
}

/// What a reading does not show of a metric.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Beside {
    /// What its totals are made of.
    pub unit: Unit,
    /// Requests to the canary below which nothing is said.
    pub min_sample: f64,
    /// Bounds of the ratio that hold at every look.
    pub bounds: [Option<f64>; 2],
    /// The quantiles of canary and stable.
    pub quantiles: Option<[f64; 2]>,
}

/// Everything that rules can read at one tick.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Environment {
    /// In the gate's order.
    pub metrics: Vec<Values>,
    /// The canary's weight, in percent.
    pub weight: f64,
    /// The step, from 1.
    pub step: f64,
    /// Minutes since its weight was written.
    pub minutes: f64,
}

impl Values {
    /// What a reading says, with what it does not show.
    fn of(reading: &Reading, beside: &Beside) -> Self {
        let blind = reading.verdict == Verdict::Inconclusive(Reason::NoEvidence);
        let [a, n] = reading.canary;
        let [b, m] = reading.baseline;
        Self {
            known: match blind {
                true => Known::NoEvidence,
                false if n < beside.min_sample => Known::TooFew,
                false => Known::Complete,
            },
            unit: beside.unit,
            counts: [a, n, b, m],
            bounds: beside.bounds,
            difference: reading.difference,
            quantiles: beside.quantiles,
        }
    }

    /// A number, when it is known; never one that is not finite. Nothing is known without evidence.
    pub(super) fn get(&self, field: Field) -> Option<f64> {
        if self.known == Known::NoEvidence {
            return None;
        }
        let [a, n, b, m] = self.counts;
        let [lower, upper] = self.bounds;
        let share = |events: f64, total: f64| (total > 0.0).then(|| events / total);
        let shares = || share(a, n).zip(share(b, m));
        let ratio = || {
            let (canary, stable) = shares()?;
            // two shares of nothing are the same; something is no multiple of nothing
            match (canary > 0.0, stable > 0.0) {
                (false, false) => Some(1.0),
                (true, false) => None,
                _ => Some(canary / stable),
            }
        };
        let number = match field {
            Field::CanaryRequests => Some(n),
            Field::StableRequests => Some(m),
            Field::CanaryEvents => Some(a),
            Field::StableEvents => Some(b),
            Field::CanaryShare => share(a, n),
            Field::StableShare => share(b, m),
            Field::Ratio => ratio(),
            Field::Delta => ratio().map(|ratio| ratio - 1.0),
            Field::Difference => shares().map(|(canary, stable)| canary - stable),
            Field::DifferenceLower => self.difference.map(|[lower, _]| lower),
            Field::DifferenceUpper => self.difference.map(|[_, upper]| upper),
            Field::Lower => lower,
            Field::Upper => upper,
            Field::DeltaLower => lower.map(|lower| lower - 1.0),
            Field::DeltaUpper => upper.map(|upper| upper - 1.0),
            Field::SuccessDelta => shares()
                .filter(|(_, stable)| *stable < 1.0)
                .map(|(canary, stable)| (stable - canary) / (1.0 - stable)),
            Field::CanaryQuantile => self.quantiles.map(|[canary, _]| canary),
            Field::StableQuantile => self.quantiles.map(|[_, stable]| stable),
            Field::QuantileDelta => self
                .quantiles
                .filter(|[_, stable]| *stable > 0.0)
                .map(|[canary, stable]| canary / stable - 1.0),
        };
        number.filter(|number| number.is_finite())
    }
}

impl Environment {
    /// What the judge has just said, as rules see it, at this weight and after so many minutes.
    /// Where the canary gets another share than its weight says, or is not seen at all, nothing is
    /// known of any metric.
    pub(super) fn new(judged: &Judged, (weight, minutes): (f64, f64), beside: &[Beside]) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a gate has at most 20 steps")]
        let step = judged.step as f64 + 1.0;
        let metrics = judged.readings.iter().zip(beside);
        let mut metrics: Vec<Values> = metrics.map(|(reading, beside)| Values::of(reading, beside)).collect();
        let closed = match judged.verdict {
            Verdict::Inconclusive(Reason::SampleRatio) => true,
            Verdict::Inconclusive(Reason::NoEvidence) => metrics.iter().all(|metric| metric.known != Known::NoEvidence),
            _ => false,
        };
        if closed {
            for metric in &mut metrics {
                metric.known = Known::NoEvidence;
            }
        }
        Self {
            metrics,
            weight,
            step,
            minutes,
        }
    }

    /// A number of the release.
    pub(super) fn whole(&self, field: Whole) -> f64 {
        match field {
            Whole::Weight => self.weight,
            Whole::Step => self.step,
            Whole::Minutes => self.minutes,
            Whole::Sample => {
                let metrics = self.metrics.iter().filter(|metric| metric.unit.is_requests());
                let requests = metrics.map(|metric| metric.counts[1]);
                requests.min_by(f64::total_cmp).unwrap_or(0.0)
            }
        }
    }

    /// How much is known of a metric, or without one, of the metric of which least is known.
    pub(super) fn known(&self, metric: Option<usize>) -> Known {
        let known = |values: &Values| values.known;
        match metric {
            Some(index) => self.metrics.get(index).map(known),
            None => self.metrics.iter().map(known).min(),
        }
        .unwrap_or(Known::NoEvidence)
    }
}
