//! Shared questions: which queries answer all gates at once, and how one is sent.
//!
//! A shape is a selector as the user meant it, without our matchers. All gates that ask for the
//! same shape share one query per tick. A query whose answer is too large is halved by namespace
//! until it fits, and the parts are remembered, so that one tenant's series never blind another.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;

use super::arms::Book;
use super::connection::ConnectionSpec;
use super::edges::spellings;
use super::memory::AGO;
use super::metric::{Identity, Measure};
use super::recording::Recording;
use super::reply::{Series, decode, failed, gap};
use super::selector::{Comparison, Op, Selector, SelectorError, one_of};
use super::subscription::{Costs, Subscription};
use crate::decision::{Gap, GapKind, Millis};
use crate::http::{self, Client};

/// Queries of one plane that are under way at the same time.
const AT_ONCE: usize = 4;
/// Most targets whose process start is asked for in one query.
const MOST_STARTS: usize = 500;
/// After so many ticks in parts, a shape is tried whole again.
const PARTED_TICKS: u32 = 60;
/// Longest text of a query; Prometheus reads forms of up to ten megabytes.
const LONGEST_QUERY: usize = 1024 * 1024;

/// What gates can share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Shape {
    pub(super) identity: Identity,
    pub(super) selector: Selector,
    /// How long ago the series are read, milliseconds.
    pub(super) ago: i64,
}

/// Who asks for a shape, and how much of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Ask {
    /// Places of the gates in the list of subscriptions.
    pub(super) gates: BTreeSet<usize>,
    /// The earliest time from which one of them has to count.
    pub(super) since: Option<i64>,
    /// Spellings of the bucket edges that are enough.
    edges: BTreeSet<String>,
    /// Somebody needs every bucket, to choose edges.
    all_edges: bool,
    histogram: bool,
}

/// The shapes of one measure, read so long ago: the one that counts requests first.
pub(super) fn shapes(measure: &Measure, ago: i64) -> Vec<Shape> {
    let questions = measure.questions().into_iter();
    questions
        .map(|(_, selector)| Shape {
            identity: measure.identity(),
            selector: selector.clone(),
            ago,
        })
        .collect()
}

impl Subscription {
    /// Every shape that a measure of this gate is read by.
    pub(super) fn shapes(&self, measure: &Measure) -> Vec<Shape> {
        self.times().into_iter().flat_map(|ago| shapes(measure, ago)).collect()
    }
}

impl Ask {
    /// Adds a gate's wish.
    pub(super) fn join(&mut self, gate: usize, measure: &Measure, since: i64) {
        self.gates.insert(gate);
        self.since = Some(self.since.map_or(since, |known| known.min(since)));
        if let Measure::Tails(tails) = measure
            && !tails.native
        {
            self.histogram = true;
            match &tails.edges {
                Some(edges) => self.edges.extend(edges.iter().copied().flat_map(spellings)),
                None => self.all_edges = true,
            }
        }
    }

    fn comparisons(&self) -> Option<Comparison> {
        (self.histogram && !self.all_edges).then(|| {
            let edges = self.edges.iter().map(String::as_str).chain(["+Inf"]);
            Comparison {
                label: "le".to_owned(),
                op: Op::Match,
                value: one_of(edges),
            }
        })
    }
}

/// How each shape is cut into groups of namespaces, from earlier overflows.
#[derive(Default)]
pub(super) struct Parts {
    groups: BTreeMap<Shape, (Vec<BTreeSet<String>>, u32)>,
}

impl Parts {
    /// The groups to ask for now.
    fn plan(&mut self, shape: &Shape, wanted: &BTreeSet<String>) -> Vec<BTreeSet<String>> {
        let Some((groups, ticks)) = self.groups.get_mut(shape) else {
            return vec![wanted.clone()];
        };
        *ticks += 1;
        if *ticks > PARTED_TICKS {
            self.groups.remove(shape);
            return vec![wanted.clone()];
        }
        let mut left = wanted.clone();
        let mut planned: Vec<BTreeSet<String>> = Vec::new();
        for group in groups {
            let part: BTreeSet<String> = group.intersection(&left).cloned().collect();
            left.retain(|namespace| !part.contains(namespace));
            planned.push(part);
        }
        planned.push(left);
        planned.retain(|group| !group.is_empty());
        planned
    }

    fn remember(&mut self, shape: &Shape, groups: Vec<BTreeSet<String>>, split: bool) {
        match self.groups.get_mut(shape) {
            Some((known, ticks)) => {
                *known = groups;
                if split {
                    *ticks = 0;
                }
            }
            None if split => {
                self.groups.insert(shape.clone(), (groups, 0));
            }
            None => {}
        }
    }

    /// Forgets shapes that nobody asks for.
    pub(super) fn retain(&mut self, asks: &BTreeMap<Shape, Ask>) {
        self.groups.retain(|shape, _| asks.contains_key(shape));
    }
}

/// Selectors as they were rendered in this tick and the one before: to prove that a text parses back
/// compiles its regular expressions, which name every workload of the fleet.
#[derive(Default)]
pub(super) struct Rendered {
    texts: HashMap<(Selector, Vec<Comparison>), String>,
    before: HashMap<(Selector, Vec<Comparison>), String>,
}

impl Rendered {
    /// Begins a tick: what was not asked for in the one before is forgotten.
    pub(super) fn begin(&mut self) {
        self.before = std::mem::take(&mut self.texts);
    }

    fn of(&mut self, selector: &Selector, added: Vec<Comparison>) -> Result<String, SelectorError> {
        let wanted = (selector.clone(), added);
        let known = self.texts.get(&wanted).cloned().or_else(|| self.before.remove(&wanted));
        let text = known.map_or_else(|| selector.render(&wanted.1), Ok)?;
        self.texts.insert(wanted, text.clone());
        Ok(text)
    }
}

/// Targets whose process start would tell more about a counter.
#[derive(Default)]
pub(super) struct Starts {
    instances: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    since: Option<i64>,
}

impl Starts {
    pub(super) fn add(&mut self, instance: &str, namespace: &str, since: i64) {
        self.instances.insert(instance.to_owned());
        self.namespaces.insert(namespace.to_owned());
        self.since = Some(self.since.map_or(since, |known| known.min(since)));
    }
}

/// What came of one query.
pub(super) struct Fetched {
    pub(super) shape: Shape,
    /// The gates that it was for.
    pub(super) gates: BTreeSet<usize>,
    pub(super) result: Result<Vec<Series>, Gap>,
}

/// Who answers.
#[derive(Clone)]
pub(super) enum Reader {
    /// A server, asked over HTTP.
    Server(Client),
    /// What was recorded of one.
    Recording(Arc<Recording>),
}

/// Everything that the queries of one tick have in common.
pub(super) struct Round<'a> {
    pub(super) connection: &'a ConnectionSpec,
    pub(super) reader: &'a Reader,
    pub(super) gates: &'a [Subscription],
    pub(super) books: &'a BTreeMap<Identity, Book<'a>>,
    /// End of the tick, milliseconds.
    pub(super) to: i64,
    /// The clock when the queries are sent, milliseconds.
    pub(super) now: i64,
}

impl Round<'_> {
    /// Sends every shape's queries, halving those that overflow.
    pub(super) async fn fetch(
        &self,
        asks: &BTreeMap<Shape, Ask>,
        parts: &mut Parts,
        costs: &mut Costs,
        rendered: &mut Rendered,
    ) -> Vec<Fetched> {
        let mut queue: Vec<(&Shape, &Ask, BTreeSet<String>)> = Vec::new();
        for (shape, ask) in asks {
            let groups = parts.plan(shape, &self.namespaces(ask));
            queue.extend(groups.into_iter().map(|group| (shape, ask, group)));
        }
        let mut done: Vec<Fetched> = Vec::new();
        let mut fitting: BTreeMap<&Shape, (Vec<BTreeSet<String>>, bool)> = BTreeMap::new();
        while !queue.is_empty() {
            let sent = queue.drain(..).map(|(shape, ask, group)| {
                let text = self.text(shape, ask, &group, rendered);
                async move {
                    let (result, bytes) = match text {
                        Ok(text) => self.send(&text, shape.ago).await,
                        Err(gap) => (Err(gap), 0),
                    };
                    (shape, ask, group, result, bytes)
                }
            });
            let answers: Vec<_> = futures::stream::iter(sent.collect::<Vec<_>>())
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            for (shape, ask, group, result, bytes) in answers {
                costs.asked(&result, bytes);
                let known = fitting.entry(shape).or_default();
                let overflow = matches!(&result, Err(gap) if gap.kind == GapKind::Oversized);
                if overflow && group.len() > 1 {
                    known.1 = true;
                    queue.extend(halves(&group).map(|half| (shape, ask, half)));
                    continue;
                }
                done.push(Fetched {
                    shape: shape.clone(),
                    gates: self.within(ask, &group),
                    result,
                });
                known.0.push(group);
            }
        }
        for (shape, (groups, split)) in fitting {
            parts.remember(shape, groups, split);
        }
        done
    }

    fn namespaces(&self, ask: &Ask) -> BTreeSet<String> {
        let gates = ask.gates.iter().filter_map(|gate| self.gates.get(*gate));
        gates.map(|gate| gate.namespace.clone()).collect()
    }

    fn within(&self, ask: &Ask, group: &BTreeSet<String>) -> BTreeSet<usize> {
        let inside = |gate: &&usize| {
            self.gates
                .get(**gate)
                .is_some_and(|gate| group.contains(&gate.namespace))
        };
        ask.gates.iter().filter(inside).copied().collect()
    }

    /// The query of a shape for the gates of some namespaces. Its window goes back three scrapes
    /// before the part that is counted, so that every live series has a sample to count from.
    fn text(&self, shape: &Shape, ask: &Ask, group: &BTreeSet<String>, rendered: &mut Rendered) -> Result<String, Gap> {
        let mut text = self.narrowed(shape, ask, &self.within(ask, group), rendered)?;
        let _ = write!(text, "[{}s]", self.window(ask.since.unwrap_or(self.to)));
        if text.len() > LONGEST_QUERY {
            return Err(gap(GapKind::Oversized, "the query for all gates is too long"));
        }
        Ok(text)
    }

    /// The selector of a shape, narrowed to these gates and to what is asked for.
    pub(super) fn narrowed(
        &self,
        shape: &Shape,
        ask: &Ask,
        gates: &BTreeSet<usize>,
        rendered: &mut Rendered,
    ) -> Result<String, Gap> {
        let gates: Vec<&Subscription> = gates.iter().filter_map(|gate| self.gates.get(*gate)).collect();
        let mut added = self
            .books
            .get(&shape.identity)
            .map(|book| book.comparisons(&gates, shape.ago))
            .unwrap_or_default();
        added.extend(ask.comparisons());
        let selector = rendered.of(&shape.selector, added);
        selector.map_err(|error| gap(GapKind::QueryError, &error.to_string()))
    }

    /// How far back a tick asks that counts since then, seconds.
    pub(super) fn window(&self, since: i64) -> i64 {
        let slack = 3 * i64::from(self.connection.scrape_seconds) * 1000;
        let longest = super::memory::KEPT - slack;
        let counted = (self.to - since).clamp(0, longest.max(0));
        (counted + slack + 1999) / 1000
    }

    /// Process start times of targets, as they were so long ago, dated as their series are.
    pub(super) async fn starts(
        &self,
        (identity, ago): (Identity, i64),
        starts: &Starts,
    ) -> (Result<Vec<Series>, Gap>, u64) {
        let instances = starts.instances.iter().take(MOST_STARTS).map(String::as_str);
        let mut only = vec![Comparison {
            label: "instance".to_owned(),
            op: Op::Match,
            value: one_of(instances),
        }];
        if identity == Identity::Pod {
            only.push(Comparison {
                label: self.connection.namespace_label.clone(),
                op: Op::Match,
                value: one_of(starts.namespaces.iter().map(String::as_str)),
            });
        }
        match Selector::of("process_start_time_seconds").render(&only) {
            Ok(selector) => {
                let window = self.window(starts.since.unwrap_or(self.to));
                let (mut answer, bytes) = self.send(&format!("{selector}[{window}s]"), ago).await;
                let told = answer.iter_mut().flatten().flat_map(|series| &mut series.samples);
                told.for_each(|sample| sample.value += Millis(ago).as_secs_f64());
                (answer, bytes)
            }
            Err(error) => (Err(gap(GapKind::QueryError, &error.to_string())), 0),
        }
    }

    /// Sends a query for series and their samples as they were so long ago, and dates them to now;
    /// says how many bytes the answer had.
    pub(super) async fn send(&self, query: &str, ago: i64) -> (Result<Vec<Series>, Gap>, u64) {
        let (mut answer, bytes) = self.sent(query, self.to.saturating_sub(ago)).await;
        for series in answer.iter_mut().flatten().filter(|_| ago != 0) {
            series.labels.insert(AGO.to_owned(), ago.to_string());
            for sample in &mut series.samples {
                sample.at = sample.at.saturating_add(ago);
            }
            let natives = std::mem::take(&mut series.natives).into_iter();
            series.natives = natives.map(|(at, native)| (at.saturating_add(ago), native)).collect();
        }
        (answer, bytes)
    }

    async fn sent(&self, query: &str, to: i64) -> (Result<Vec<Series>, Gap>, u64) {
        let client = match self.reader {
            Reader::Recording(recording) => return (recording.answer(query, to), 0),
            Reader::Server(client) => client,
        };
        let base = match http::address("url", self.connection.url.trim_end_matches('/')) {
            Ok(base) => base,
            Err(error) => return (Err(failed(&error)), 0),
        };
        let mut url = base.clone();
        url.set_path(&format!("{}/api/v1/query", base.path().trim_end_matches('/')));
        let time = format!("{}.{:03}", to.div_euclid(1000), to.rem_euclid(1000));
        let timeout = format!("{}s", self.connection.timeout_seconds);
        let form = [("query", query), ("time", time.as_str()), ("timeout", timeout.as_str())];
        let sent = Instant::now();
        match client.post_form(url, &form).await {
            Ok(reply) => {
                let now = self.now + i64::try_from(sent.elapsed().as_millis()).unwrap_or(i64::MAX);
                let bytes = u64::try_from(reply.body.len()).unwrap_or(u64::MAX);
                let series = decode(reply.status, &reply.body).and_then(|series| self.in_time(&reply, now, series));
                (series, bytes)
            }
            Err(error) => (Err(failed(&error)), 0),
        }
    }

    /// Refuses an answer whose clock is more than one tick away from ours. `now` is when it was
    /// whole; it may have been dated at any time since the question.
    fn in_time(&self, reply: &http::Reply, now: i64, series: Vec<Series>) -> Result<Vec<Series>, Gap> {
        let tick = i64::from(self.connection.interval_seconds.max(1)) * 1000;
        let waited = (now - self.now).max(0);
        let clock = reply.date().map(|date| date - now);
        // A Date has whole seconds, so it may be behind by one.
        if let Some(ahead) = clock.filter(|ahead| *ahead > tick || *ahead < -tick - 1000 - waited) {
            let detail = format!("the source's clock is {} s ahead of ours", ahead / 1000);
            return Err(gap(GapKind::Skewed, &detail));
        }
        let newest = series
            .iter()
            .flat_map(|series| &series.samples)
            .map(|sample| sample.at)
            .max();
        if let Some(newest) = newest.filter(|newest| *newest > now + tick) {
            let detail = format!("samples are {} s ahead of our clock", (newest - now) / 1000);
            return Err(gap(GapKind::Skewed, &detail));
        }
        Ok(series)
    }
}

fn halves(group: &BTreeSet<String>) -> impl Iterator<Item = BTreeSet<String>> {
    let middle = group.len() / 2;
    let (first, second): (Vec<_>, Vec<_>) = group
        .iter()
        .cloned()
        .enumerate()
        .partition(|(place, _)| *place < middle);
    [first, second]
        .into_iter()
        .map(|half| half.into_iter().map(|(_, namespace)| namespace).collect())
}
