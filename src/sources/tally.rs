//! The series of one gate's metric to one tick, or to the reasons why there is none.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::connection::ConnectionSpec;
use super::counter::{Doubt, Growth, Origin, Span, growth};
use super::edges::Edge;
use super::gauge::median;
use super::memory::{Memory, Track};
use super::metric::{Identity, Measure, Tails};
use super::reply::gap;
use crate::decision::{Arm, Gap, GapKind, Millis, Tick};

/// Labels by which replicas of Prometheus mark what they send on. Two values of one of them for
/// the same target would count every request twice.
const REPLICA_LABELS: [&str; 5] = [
    "prometheus_replica",
    "replica",
    "__replica__",
    "receive_replica",
    "thanos_replica",
];

/// How often exporters are scraped where that is not said, milliseconds: what Prometheus does by
/// default, and rarer than what most do.
const EXPORTERS: i64 = 60_000;

/// How far one metric of one gate has been counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// End of the last tick that was counted, or the start of the first.
    pub(super) since: i64,
    /// Time of the last sample counted, per series, where it differs from `since`.
    pub(super) until: HashMap<Arc<str>, i64>,
    /// Whether the canary had series before.
    pub(super) canary_seen: bool,
}

/// Both arms' series of one query.
#[derive(Default)]
pub(super) struct Sides<'a> {
    pub(super) baseline: Vec<&'a Track>,
    pub(super) canary: Vec<&'a Track>,
}

impl Sides<'_> {
    /// Time of the newest sample per series.
    pub(super) fn newest(&self) -> impl Iterator<Item = (Arc<str>, i64)> {
        let all = self.baseline.iter().chain(&self.canary);
        all.filter_map(|track| Some((track.key.clone(), track.newest()?)))
    }

    /// How old the newest sample of the arm that lags was at a time.
    pub(super) fn lag(&self, to: i64) -> Option<Millis> {
        let newest = |tracks: &[&Track]| tracks.iter().filter_map(|track| track.newest()).max();
        let older = [newest(&self.baseline), newest(&self.canary)]
            .into_iter()
            .flatten()
            .min()?;
        Some(Millis(to - older))
    }
}

/// Everything a tally looks at besides the series.
pub(super) struct Frame<'a> {
    pub(super) memory: &'a Memory,
    pub(super) connection: &'a ConnectionSpec,
    pub(super) progress: &'a Progress,
    /// End of the tick, milliseconds.
    pub(super) to: i64,
}

/// A tick, and how often a count of events had to be cut to the count of requests.
pub(super) struct Tallied {
    pub(super) tick: Tick,
    pub(super) clamped: u64,
}

/// One histogram: how much each bucket rose, cumulative as scraped.
struct Histogram<'a> {
    track: &'a Track,
    risen: BTreeMap<Edge, f64>,
}

/// One arm while it is being counted.
#[derive(Default)]
pub(super) struct Count {
    pods: BTreeMap<String, Arm>,
    /// Whether something was seen before, to count from.
    pub(super) based: bool,
}

impl Frame<'_> {
    fn scrape(&self) -> i64 {
        i64::from(self.connection.scrape_seconds) * 1000
    }

    /// How much a series rose since it was last counted.
    pub(super) fn growth(&self, track: &Track) -> Result<Growth, Doubt> {
        growth(&track.samples, self.span(track), self.origin(track))
    }

    /// What is known about where a series comes from.
    pub(super) fn origin(&self, track: &Track) -> Origin<'_> {
        self.memory.origin(&track.target)
    }

    /// What of a series is to be counted.
    pub(super) fn span(&self, track: &Track) -> Span {
        let until = self.progress.until.get(&track.key);
        Span {
            from: until.copied().unwrap_or(self.progress.since),
            to: self.to,
            tick: self.to - i64::from(self.connection.interval_seconds) * 1000,
        }
    }

    /// Whether the start time of the series' process would tell more about it.
    pub(super) fn wants_start(&self, track: &Track) -> bool {
        match self.growth(track) {
            Err(Doubt::ResetUnproven) => true,
            Err(Doubt::NotACount) => false,
            Ok(grown) => !grown.based && track.samples.last().is_some_and(|sample| sample.value > 0.0),
        }
    }

    /// Counts both arms.
    pub(super) fn tally(&self, measure: &Measure, total: &Sides<'_>, bad: &Sides<'_>) -> Result<Tallied, Vec<Gap>> {
        let missing = self.missing(measure, total, bad);
        if let Some(missing) = missing.or_else(|| unheard(measure, bad)) {
            return Err(vec![missing]);
        }
        let mut gaps = Vec::new();
        for (side, all, errors) in [
            ("baseline", &total.baseline, &bad.baseline),
            ("canary", &total.canary, &bad.canary),
        ] {
            gaps.extend(self.stale(measure, side, all));
            gaps.extend(
                [all, errors]
                    .into_iter()
                    .filter_map(|tracks| self.doubled(side, tracks)),
            );
            gaps.extend([all, errors].into_iter().filter_map(|tracks| disagreeing(side, tracks)));
        }
        let native = matches!(measure, Measure::Tails(tails) if tails.native);
        let schema = native
            .then(|| self.schema(total))
            .transpose()
            .map_err(|gap| vec![gap])?;
        let baseline = self.count((measure, schema), &total.baseline, &bad.baseline);
        let canary = self.count((measure, schema), &total.canary, &bad.canary);
        match (baseline, canary) {
            (Ok(baseline), _) if !baseline.based => {
                gaps.push(gap(
                    GapKind::ShortWindow,
                    "the baseline has no sample from before the tick yet",
                ));
                Err(gaps)
            }
            (Ok(baseline), Ok(canary)) if gaps.is_empty() => self.tick(measure, baseline, canary),
            (baseline, canary) => {
                gaps.extend(baseline.err());
                gaps.extend(canary.err());
                Err(gaps)
            }
        }
    }

    /// An arm without series. A canary that never had any simply had no requests yet; its pods are
    /// there before.
    fn missing(&self, measure: &Measure, total: &Sides<'_>, bad: &Sides<'_>) -> Option<Gap> {
        let (kind, detail) = match (total.baseline.is_empty(), total.canary.is_empty()) {
            (true, true) => (GapKind::NoEvidence, "no series of either arm"),
            (true, false) => (
                GapKind::BaselineMissing,
                "no series of the baseline, while the canary has some",
            ),
            (false, true) if self.progress.canary_seen => {
                (GapKind::CanaryMissing, "the canary had series before and has none now")
            }
            (false, true) if !measure.has_shares() => {
                (GapKind::CanaryMissing, "nothing is told of any pod of the canary")
            }
            (false, true) if !bad.canary.is_empty() => (
                GapKind::CanaryMissing,
                "the canary has series of bad requests, and none of all requests",
            ),
            _ => return None,
        };
        Some(gap(kind, detail))
    }

    fn stale(&self, measure: &Measure, side: &str, tracks: &[&Track]) -> Option<Gap> {
        let newest = tracks.iter().filter_map(|track| track.newest()).max()?;
        let age = self.to - newest;
        let slowest = if measure.identity().is_exporter() { EXPORTERS } else { 0 };
        let limit = 3 * self.scrape().max(slowest);
        (age > limit).then(|| {
            let detail = format!(
                "the newest sample of the {side} is {} s old at the end of the tick, {} s are accepted",
                age / 1000,
                limit / 1000
            );
            gap(GapKind::Stale, &detail)
        })
    }

    /// Two scrapes of the same process would count every request twice.
    fn doubled(&self, side: &str, tracks: &[&Track]) -> Option<Gap> {
        let mut seen: HashMap<&str, (&str, &str)> = HashMap::new();
        let mut replicas: HashMap<(&str, &str), &str> = HashMap::new();
        for track in tracks {
            let (job, instance) = (track.label("job"), track.label("instance"));
            let pod = track.label(&self.connection.pod_label);
            let process = if pod.is_empty() { instance } else { pod };
            let first = *seen.entry(process).or_insert((job, instance));
            if first != (job, instance) {
                let detail = format!(
                    "{side}: {process} is scraped as {}/{} and as {job}/{instance}; narrow the selector",
                    first.0, first.1
                );
                return Some(gap(GapKind::ExtraSeries, &detail));
            }
            for label in REPLICA_LABELS {
                let value = track.label(label);
                let first = *replicas.entry((label, &*track.target)).or_insert(value);
                if first != value {
                    let detail = format!("{side}: the same series with {label} {first} and {value}; ask one replica");
                    return Some(gap(GapKind::ExtraSeries, &detail));
                }
            }
        }
        None
    }

    fn count(
        &self,
        (measure, schema): (&Measure, Option<i32>),
        total: &[&Track],
        bad: &[&Track],
    ) -> Result<Count, Gap> {
        match measure {
            Measure::Ratio(ratio) => {
                let mut count = self.requests(ratio.identity, total, ratio.part.is_none())?;
                for track in bad {
                    let rose = self.rise(track)?.by;
                    add(count.arm(self.place(ratio.identity, track), 1), 0, rose);
                }
                Ok(count)
            }
            Measure::Tails(tails) => match schema {
                Some(schema) => self.native_tails(tails, total, schema),
                None => self.tails(tails, total),
            },
            Measure::Count(events) => self.events(events.identity, total),
            Measure::Gauge(gauge) => self.levels(gauge, total),
        }
    }

    /// Requests, and with `by_code` the bad ones among them by their label `code`.
    fn requests(&self, identity: Identity, total: &[&Track], by_code: bool) -> Result<Count, Gap> {
        let mut count = Count::default();
        for track in total {
            let grown = self.rise(track)?;
            count.based |= grown.based;
            let arm = count.arm(self.place(identity, track), 1);
            arm.total += grown.by;
            if by_code {
                let code = track.label("code");
                if code.is_empty() {
                    let detail = format!("{} has no label code to tell errors by", track.label("__name__"));
                    return Err(gap(GapKind::QueryError, &detail));
                }
                if code.len() == 3 && code.starts_with('5') {
                    add(arm, 0, grown.by);
                }
            }
        }
        Ok(count)
    }

    /// Requests above each edge: those of a histogram's last bucket that are not at or below it.
    fn tails(&self, tails: &Tails, buckets: &[&Track]) -> Result<Count, Gap> {
        let edges = tails.edges.as_deref().unwrap_or_default();
        let mut histograms: BTreeMap<&str, Histogram<'_>> = BTreeMap::new();
        let mut count = Count::default();
        for track in buckets {
            let edge = track.labels.get("le").and_then(|le| le.parse().ok());
            let edge = edge.ok_or_else(|| gap(GapKind::QueryError, "a bucket without a readable label le"))?;
            let grown = self.rise(track)?;
            count.based |= grown.based;
            let histogram = histograms.entry(&track.histogram).or_insert_with(|| Histogram {
                track,
                risen: BTreeMap::new(),
            });
            histogram.risen.insert(Edge(edge), grown.by);
        }
        for Histogram { track, risen } in histograms.into_values() {
            let at = |edge: f64| {
                risen.get(&Edge(edge)).copied().ok_or_else(|| {
                    let detail = format!("{} has no bucket le=\"{edge}\"", track.label("__name__"));
                    gap(GapKind::QueryError, &detail)
                })
            };
            let all = at(f64::INFINITY)?;
            let arm = count.arm(self.place(tails.identity, track), edges.len());
            arm.total += all;
            for (tail, edge) in edges.iter().enumerate() {
                let above = all - at(*edge)?;
                if above < 0.0 {
                    let detail = format!("a bucket of {} counts more than its total", track.label("__name__"));
                    return Err(gap(GapKind::NotACount, &detail));
                }
                add(arm, tail, above);
            }
        }
        Ok(count)
    }

    /// How much a counter rose.
    pub(super) fn rise(&self, track: &Track) -> Result<Growth, Gap> {
        if track.natives.is_empty() {
            return self.total(track);
        }
        let detail = format!(
            "{} is a native histogram: write histogram with native: true",
            track.label("__name__")
        );
        Err(gap(GapKind::QueryError, &detail))
    }

    /// The same, or how many more were observed.
    pub(super) fn total(&self, track: &Track) -> Result<Growth, Gap> {
        self.growth(track).map_err(|doubt| doubted(track, doubt))
    }

    /// Where a series counts: at its pod, or at the arm as a whole.
    pub(super) fn place(&self, identity: Identity, track: &Track) -> String {
        if identity.names_pods() {
            track.label(&self.connection.pod_label).to_owned()
        } else {
            String::new()
        }
    }

    fn tick(&self, measure: &Measure, baseline: Count, canary: Count) -> Result<Tallied, Vec<Gap>> {
        let tails = measure.tails();
        let gauge = matches!(measure, Measure::Gauge(_));
        let by_pod = !gauge && !baseline.pods.contains_key("");
        let mut clamped = 0;
        let mut close = |count: Count| -> Vec<Arm> {
            let good = matches!(measure, Measure::Ratio(ratio) if ratio.good);
            let close = |arm| {
                if !measure.has_shares() {
                    return arm;
                }
                let arm = clamp(arm, &mut clamped);
                if good { others(arm) } else { arm }
            };
            count.pods.into_values().map(close).collect()
        };
        let (pods, canary) = (close(baseline), close(canary));
        let whole = |arms: &[Arm]| if gauge { median(arms) } else { sum(arms, tails) };
        let tick = Tick {
            at: Millis(self.to),
            canary: whole(&canary),
            baseline: whole(&pods),
            baseline_pods: if by_pod { pods } else { Vec::new() },
        };
        let finite = |arm: &Arm| arm.total.is_finite() && arm.events.iter().all(|events| events.is_finite());
        if finite(&tick.canary) && finite(&tick.baseline) {
            Ok(Tallied { tick, clamped })
        } else {
            Err(vec![gap(GapKind::NotACount, "the sum of the counts is not finite")])
        }
    }
}

impl Count {
    pub(super) fn arm(&mut self, pod: String, tails: usize) -> &mut Arm {
        let arm = self.pods.entry(pod).or_default();
        arm.events.resize(tails, 0.0);
        arm
    }
}

pub(super) fn add(arm: &mut Arm, tail: usize, events: f64) {
    if let Some(counted) = arm.events.get_mut(tail) {
        *counted += events;
    }
}

/// Cuts events to requests: two counters of one process may be read a moment apart.
fn clamp(mut arm: Arm, clamped: &mut u64) -> Arm {
    for events in &mut arm.events {
        if *events > arm.total {
            *events = arm.total;
            *clamped += 1;
        }
    }
    arm
}

/// The requests of an arm that its events are not.
fn others(mut arm: Arm) -> Arm {
    for events in &mut arm.events {
        *events = arm.total - *events;
    }
    arm
}

/// Good ones that stable never counted: by a name that is misspelt every request would be bad.
fn unheard(measure: &Measure, good: &Sides<'_>) -> Option<Gap> {
    let counts_good = matches!(measure, Measure::Ratio(ratio) if ratio.good);
    let detail = "no series of the baseline's good ones: is the counter's name spelt right?";
    (counts_good && good.baseline.is_empty()).then(|| gap(GapKind::BaselineMissing, detail))
}

fn sum(arms: &[Arm], tails: usize) -> Arm {
    let mut all = Arm {
        events: vec![0.0; tails],
        total: 0.0,
    };
    for arm in arms {
        all.total += arm.total;
        for (tail, events) in arm.events.iter().enumerate() {
            add(&mut all, tail, *events);
        }
    }
    all
}

/// What a doubt about a series means for the evidence.
pub(super) fn doubted(track: &Track, doubt: Doubt) -> Gap {
    let (name, target) = (track.label("__name__"), track.label("instance"));
    match doubt {
        Doubt::NotACount => gap(
            GapKind::NotACount,
            &format!("{name} of {target} is NaN, infinite or negative"),
        ),
        Doubt::ResetUnproven => gap(
            GapKind::ResetUnproven,
            &format!("{name} of {target} fell and no process_start_time_seconds shows a restart"),
        ),
    }
}

fn disagreeing(side: &str, tracks: &[&Track]) -> Option<Gap> {
    let (track, doubt) = tracks.iter().find_map(|track| Some((track, track.doubt?)))?;
    let detail = format!(
        "{side}: {} of {} was read as {} and as {} for the same time",
        track.label("__name__"),
        track.label("instance"),
        doubt.values[0],
        doubt.values[1]
    );
    Some(gap(GapKind::Disagree, &detail))
}
