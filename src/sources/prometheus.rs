//! The plane: one Prometheus read for all releases of a turn.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;

use super::arms::{Book, Role};
use super::connection::ConnectionSpec;
use super::edges::choose;
use super::memory::{Memory, Track};
use super::metric::{Identity, Measure, MetricQuery};
use super::native;
use super::past;
use super::query::{Ask, Fetched, Parts, Reader, Rendered, Round, Shape, Starts, shapes};
use super::recording::Recording;
use super::reply::gap;
use super::subscription::{Answer, Collected, Costs, Subscription};
use super::tally::{Frame, Progress, Sides};
use crate::decision::{Evidence, Gap, GapKind, Millis};
use crate::http::{self, Client};

/// Longest wait after the end of a tick for samples that are still on their way, milliseconds.
const LONGEST_DELAY: i64 = 5000;
/// How long a tick waits for the past of releases that begin, and how many are read at the same time.
const PATIENCE: Duration = Duration::from_secs(2);
const PASTS_AT_ONCE: usize = 4;

/// One Prometheus, read for all releases that are looked at in the same moment.
pub struct Plane {
    connection: ConnectionSpec,
    offset: i64,
    reader: Reader,
    costs: Costs,
    memory: Memory,
    parts: Parts,
    rendered: Rendered,
    counted: HashMap<(String, String), Counted>,
    last: Option<i64>,
}

/// How far a gate's metric was counted, and what was counted.
struct Counted {
    measure: Measure,
    progress: Progress,
}

/// The series that the answers of one tick gave to one shape, and what went wrong with it.
#[derive(Default)]
struct Dealt {
    arms: HashMap<(usize, Role), Vec<Arc<str>>>,
    gaps: HashMap<usize, Gap>,
}

impl Plane {
    /// Prepares a plane whose ticks end so long after multiples of the interval; nothing is sent yet.
    ///
    /// # Errors
    /// [`http::Error::Address`] when the address cannot be used.
    pub fn new(connection: ConnectionSpec, client: Client, offset: Millis) -> Result<Self, http::Error> {
        http::address("url", &connection.url)?;
        Ok(Self::reading(connection, Reader::Server(client), offset))
    }

    /// A plane that reads a recording: its answers at a tick are those that a server would have given.
    #[must_use]
    pub fn over(connection: ConnectionSpec, recording: Arc<Recording>, offset: Millis) -> Self {
        Self::reading(connection, Reader::Recording(recording), offset)
    }

    fn reading(connection: ConnectionSpec, reader: Reader, offset: Millis) -> Self {
        Self {
            connection,
            offset: offset.0,
            reader,
            costs: Costs::default(),
            memory: Memory::default(),
            parts: Parts::default(),
            rendered: Rendered::default(),
            counted: HashMap::new(),
            last: None,
        }
    }

    /// The end of the newest tick that can be read at this time: ticks end at multiples of the
    /// interval, or its offset after them, and are read one scrape later, five seconds later at most.
    #[must_use]
    pub fn tick(&self, now: Millis) -> Millis {
        let interval = self.interval();
        let since = now.0 - self.delay() - self.offset;
        Millis(since.div_euclid(interval) * interval + self.offset)
    }

    /// When the next tick can be read: the time to call [`Plane::collect`] again. Planes of
    /// different servers do not wake at the same moment.
    #[must_use]
    pub fn next(&self, now: Millis) -> Millis {
        Millis(self.tick(now).0 + self.interval() + self.delay())
    }

    fn interval(&self) -> i64 {
        i64::from(self.connection.interval_seconds.max(1)) * 1000
    }

    fn delay(&self) -> i64 {
        let scrape = i64::from(self.connection.scrape_seconds) * 1000;
        let spread = (self.interval() / 20).clamp(1, 500);
        let place = self
            .connection
            .url
            .bytes()
            .fold(7_i64, |sum, byte| (sum * 31 + i64::from(byte)) % 1_000_003);
        scrape.min(LONGEST_DELAY) + place % spread
    }

    /// What the plane has cost so far.
    #[must_use]
    pub const fn costs(&self) -> &Costs {
        &self.costs
    }

    /// How many queries were answered since this was asked last, by what was wrong with the answer;
    /// none for a usable one.
    pub fn outcomes(&mut self) -> BTreeMap<Option<GapKind>, u64> {
        std::mem::take(&mut self.costs.outcomes)
    }

    /// Number of series that the plane remembers.
    #[must_use]
    pub fn series(&self) -> usize {
        self.memory.len()
    }

    /// Reads the newest tick for every subscription, at most once per tick: nothing when it was
    /// read before. Gates that are no longer subscribed are forgotten.
    ///
    /// A tick that is incomplete is not counted: the next complete one covers its time too. The
    /// exceptions are a fall without proof, a disagreement, and a baseline that begins in the tick:
    /// their increments are given up.
    pub async fn collect(&mut self, now: Millis, subscriptions: &[Subscription]) -> Vec<Collected> {
        let to = self.tick(now).0;
        if self.last.is_some_and(|last| last >= to) {
            return Vec::new();
        }
        self.last = Some(to);
        self.subscribe(subscriptions, to);
        let connection = self.connection.clone();
        let books: BTreeMap<Identity, Book<'_>> = Identity::ALL
            .map(|identity| (identity, Book::open(identity, &connection, subscriptions)))
            .into();
        let asks = self.asks(subscriptions);
        self.parts.retain(&asks);
        let reader = self.reader.clone();
        let round = Round {
            connection: &connection,
            reader: &reader,
            gates: subscriptions,
            books: &books,
            to,
            now: now.0,
        };
        self.rendered.begin();
        let fetched = round
            .fetch(&asks, &mut self.parts, &mut self.costs, &mut self.rendered)
            .await;
        self.memory.begin();
        let dealt = self.deal(fetched, &books, subscriptions, to);
        self.read_starts(&round, &dealt).await;
        let mut collected: Vec<Collected> = subscriptions
            .iter()
            .enumerate()
            .map(|(place, gate)| Collected {
                gate: gate.gate.clone(),
                metrics: self.answers(place, gate, &books, &dealt, to),
            })
            .collect();
        let behind = self.counted.values().map(|counted| counted.progress.since).min();
        self.memory.prune(to, to - round.window(behind.unwrap_or(to)) * 1000);
        self.recall(&round, &mut collected).await;
        collected
    }

    /// Adds the past of metrics that were counted for the first time. Nobody waits long for it.
    async fn recall(&mut self, round: &Round<'_>, collected: &mut [Collected]) {
        let mut wanted = Vec::new();
        for (place, (gate, answers)) in round.gates.iter().zip(collected.iter()).enumerate() {
            for (index, (metric, answer)) in gate.metrics.iter().zip(&answers.metrics).enumerate() {
                let complete = matches!(answer.evidence, Evidence::Complete(_));
                if complete && gate.unknown.contains(&index) && past::tells(&metric.measure) {
                    wanted.push(async move { (place, index, past::read(round, place, metric).await) });
                }
            }
        }
        let mut reads = futures::stream::iter(wanted)
            .buffer_unordered(PASTS_AT_ONCE)
            .take_until(Box::pin(tokio::time::sleep(PATIENCE)))
            .boxed();
        while let Some((place, index, read)) = reads.next().await {
            for (gap, bytes) in read.costs {
                self.costs.asked(&gap.map_or(Ok(()), Err), bytes);
            }
            let answers = collected.get_mut(place).map(|gate| &mut gate.metrics);
            if let Some(answer) = answers.and_then(|answers| answers.get_mut(index)) {
                answer.past = read.ticks;
            }
        }
    }

    /// Begins counting what is new and forgets what left.
    fn subscribe(&mut self, subscriptions: &[Subscription], to: i64) {
        let since = to - self.interval();
        let mut kept = HashMap::new();
        for gate in subscriptions {
            for metric in &gate.metrics {
                let key = (gate.gate.clone(), metric.name.clone());
                let known = self
                    .counted
                    .remove(&key)
                    .filter(|known| known.measure == metric.measure);
                let counted = known.unwrap_or_else(|| Counted {
                    measure: metric.measure.clone(),
                    progress: Progress {
                        since,
                        ..Progress::default()
                    },
                });
                kept.insert(key, counted);
            }
        }
        self.counted = kept;
    }

    fn progress(&self, gate: &Subscription, metric: &MetricQuery) -> Option<&Progress> {
        let key = (gate.gate.clone(), metric.name.clone());
        self.counted.get(&key).map(|counted| &counted.progress)
    }

    fn asks(&self, subscriptions: &[Subscription]) -> BTreeMap<Shape, Ask> {
        let mut asks: BTreeMap<Shape, Ask> = BTreeMap::new();
        for (place, gate) in subscriptions.iter().enumerate() {
            if !self.connection.allows(&gate.namespace) {
                continue;
            }
            for metric in &gate.metrics {
                let Some(progress) = self.progress(gate, metric) else {
                    continue;
                };
                for shape in gate.shapes(&metric.measure) {
                    asks.entry(shape)
                        .or_default()
                        .join(place, &metric.measure, progress.since);
                }
            }
        }
        asks
    }

    /// Deals the series of all answers out to the arms that they belong to.
    fn deal(
        &mut self,
        fetched: Vec<Fetched>,
        books: &BTreeMap<Identity, Book<'_>>,
        subscriptions: &[Subscription],
        to: i64,
    ) -> HashMap<Shape, Dealt> {
        let mut all: HashMap<Shape, Dealt> = HashMap::new();
        for Fetched { shape, gates, result } in fetched {
            let name = shape.selector.metric().to_owned();
            let (book, identity, ago) = (books.get(&shape.identity), shape.identity, shape.ago);
            let read = |gate: usize, role| subscriptions.get(gate).is_some_and(|gate| gate.ago(role) == ago);
            let dealt = all.entry(shape).or_default();
            match result {
                Err(gap) => dealt.gaps.extend(gates.into_iter().map(|gate| (gate, gap.clone()))),
                Ok(answer) => {
                    let mut taken: HashSet<Arc<str>> = HashSet::new();
                    for series in answer {
                        let named = series.labels.get("__name__").is_none_or(|found| *found == name);
                        let mut owners = book.map(|book| book.owners(&series.labels)).unwrap_or_default();
                        owners.retain(|(gate, role)| named && gates.contains(gate) && read(*gate, *role));
                        if owners.is_empty() {
                            continue;
                        }
                        let key = self.memory.take((&self.connection, identity), series, to);
                        if taken.insert(key.clone()) {
                            for owner in owners {
                                dealt.arms.entry(owner).or_default().push(key.clone());
                            }
                        }
                    }
                }
            }
        }
        all
    }

    /// Both arms' series of each question of a measure, each read of its own time.
    fn sides(
        &self,
        dealt: &HashMap<Shape, Dealt>,
        place: usize,
        (gate, measure): (&Subscription, &Measure),
    ) -> Vec<Sides<'_>> {
        let pairs = shapes(measure, gate.ago(Role::Baseline))
            .into_iter()
            .zip(shapes(measure, gate.ago(Role::Canary)));
        pairs
            .map(|(baseline, canary)| Sides {
                baseline: self.tracks(dealt.get(&baseline), (place, Role::Baseline)),
                canary: self.tracks(dealt.get(&canary), (place, Role::Canary)),
            })
            .collect()
    }

    fn tracks(&self, dealt: Option<&Dealt>, arm: (usize, Role)) -> Vec<&Track> {
        let keys = dealt.and_then(|dealt| dealt.arms.get(&arm));
        let keys = keys.into_iter().flatten();
        keys.filter_map(|key| self.memory.track(key)).collect()
    }

    /// Asks for the process start of targets whose counters fell or began, where there are any.
    async fn read_starts(&mut self, round: &Round<'_>, dealt: &HashMap<Shape, Dealt>) {
        let mut wanted: BTreeMap<(Identity, i64), Starts> = BTreeMap::new();
        for (place, gate) in round.gates.iter().enumerate() {
            for metric in &gate.metrics {
                let Some(progress) = self.progress(gate, metric) else {
                    continue;
                };
                let frame = self.frame(progress, round.to);
                let shapes = gate.shapes(&metric.measure).into_iter();
                for shape in shapes.filter(|shape| shape.identity.restarts()) {
                    let arms = [Role::Baseline, Role::Canary].map(|role| (place, role));
                    let tracks = arms.into_iter().flat_map(|arm| self.tracks(dealt.get(&shape), arm));
                    for track in tracks.filter(|track| frame.wants_start(track)) {
                        let starts = wanted.entry((shape.identity, shape.ago)).or_default();
                        starts.add(track.label("instance"), &gate.namespace, progress.since);
                    }
                }
            }
        }
        for (of, starts) in wanted {
            let (answer, bytes) = round.starts(of, &starts).await;
            self.costs.asked(&answer, bytes);
            for series in answer.into_iter().flatten() {
                self.memory.take_starts((&self.connection, of.0), series);
            }
        }
    }

    fn frame<'a>(&'a self, progress: &'a Progress, to: i64) -> Frame<'a> {
        Frame {
            memory: &self.memory,
            connection: &self.connection,
            progress,
            to,
        }
    }

    fn answers(
        &mut self,
        place: usize,
        gate: &Subscription,
        books: &BTreeMap<Identity, Book<'_>>,
        dealt: &HashMap<Shape, Dealt>,
        to: i64,
    ) -> Vec<Answer> {
        let mut answers = Vec::new();
        for metric in &gate.metrics {
            let answer = match self.refusal(place, gate, metric, books, dealt) {
                Some(gaps) => Answer::without(gaps),
                None => self.answer(place, gate, metric, dealt, to),
            };
            answers.push(answer);
        }
        answers
    }

    /// What stands in the way before any series is looked at.
    fn refusal(
        &self,
        place: usize,
        gate: &Subscription,
        metric: &MetricQuery,
        books: &BTreeMap<Identity, Book<'_>>,
        dealt: &HashMap<Shape, Dealt>,
    ) -> Option<Vec<Gap>> {
        if !self.connection.allows(&gate.namespace) {
            let detail = format!(
                "namespace {} is not among the source's allowedNamespaces",
                gate.namespace
            );
            return Some(vec![gap(GapKind::Unauthorized, &detail)]);
        }
        let shapes = gate.shapes(&metric.measure);
        let refused = shapes
            .iter()
            .find_map(|shape| books.get(&shape.identity).and_then(|book| book.refusal(place)));
        if let Some(why) = refused {
            return Some(vec![gap(GapKind::ExtraSeries, why)]);
        }
        let gaps: Vec<Gap> = shapes
            .iter()
            .filter_map(|shape| dealt.get(shape)?.gaps.get(&place).cloned())
            .collect();
        (!gaps.is_empty()).then_some(gaps)
    }

    fn answer(
        &mut self,
        place: usize,
        gate: &Subscription,
        metric: &MetricQuery,
        dealt: &HashMap<Shape, Dealt>,
        to: i64,
    ) -> Answer {
        let Some(progress) = self.progress(gate, metric).cloned() else {
            return Answer::without(vec![gap(GapKind::ShortWindow, "not counted yet")]);
        };
        let mut asked = self.sides(dealt, place, (gate, &metric.measure)).into_iter();
        let total = asked.next().unwrap_or_default();
        let bad = asked.next().unwrap_or_default();
        if let Measure::Tails(tails) = &metric.measure
            && tails.edges.is_none()
            && !total.baseline.is_empty()
        {
            let choose = if tails.native { native::choose } else { choose };
            let edges = choose(&total.baseline, tails.quantile, tails.around);
            let why = match edges {
                Some(_) => "the bucket edges were chosen from this reading, counting begins with the next",
                None => "the baseline has no requests yet to choose bucket edges from",
            };
            return Answer {
                edges,
                ..Answer::without(vec![gap(GapKind::ShortWindow, why)])
            };
        }
        let tallied = self.frame(&progress, to).tally(&metric.measure, &total, &bad);
        let age = total.lag(to);
        let seen = progress.canary_seen || !total.canary.is_empty();
        let newest = [total, bad].iter().flat_map(Sides::newest).collect();
        let given_up = |gaps: &Vec<Gap>| {
            gaps.iter().any(|gap| {
                matches!(
                    gap.kind,
                    GapKind::ResetUnproven | GapKind::Disagree | GapKind::ShortWindow
                )
            })
        };
        let counted = tallied.as_ref().map_or_else(given_up, |_| true);
        let (evidence, clamped) = match tallied {
            Ok(tallied) => (Evidence::Complete(tallied.tick), tallied.clamped),
            Err(gaps) => (Evidence::Incomplete(gaps), 0),
        };
        self.costs.clamped += clamped;
        if let Some(known) = self.counted.get_mut(&(gate.gate.clone(), metric.name.clone())) {
            known.progress.canary_seen = seen;
            if counted {
                known.progress.since = to;
                known.progress.until = newest;
            }
        }
        Answer {
            evidence,
            edges: None,
            age,
            past: Vec::new(),
        }
    }
}
