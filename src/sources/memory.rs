//! What the plane remembers of the series that it reads, bounded.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::arms::Labels;
use super::connection::ConnectionSpec;
use super::counter::{Disagreement, Origin, is_count, merge};
use super::metric::Identity;
use super::native::Natives;
use super::reply::{Sample, Series};

/// Most samples that are kept of one series.
const MOST_SAMPLES: usize = 256;
/// How long samples are kept, milliseconds: at least as long as the longest read reaches back.
pub(super) const KEPT: i64 = 15 * 60 * 1000;

/// A label that no source has: how long ago a series was read, milliseconds. The same pod may be read
/// now and of a past time, and these are two series of two targets.
pub(super) const AGO: &str = "__ago__";

/// One series over time.
pub(super) struct Track {
    pub(super) key: Arc<str>,
    pub(super) labels: Labels,
    /// The scrape target that it comes from.
    pub(super) target: Arc<str>,
    /// The histogram that it is a bucket of: its labels without `le`.
    pub(super) histogram: Arc<str>,
    /// Rising in time, each time once.
    pub(super) samples: Vec<Sample>,
    /// The buckets of its samples, where it is a native histogram.
    pub(super) natives: Natives,
    /// What two answers disagreed about since the tick began.
    pub(super) doubt: Option<Disagreement>,
}

impl Track {
    /// Time of the newest sample.
    pub(super) fn newest(&self) -> Option<i64> {
        self.samples.last().map(|sample| sample.at)
    }

    /// A label's value, empty when the series has no such label.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// Every series of the plane.
#[derive(Default)]
pub(super) struct Memory {
    tracks: HashMap<Arc<str>, Track>,
    /// Scrape times per target as the answers of this tick show them.
    scrapes: HashMap<Arc<str>, Vec<i64>>,
    /// Process start times per target, read in this tick where they were needed.
    starts: HashMap<Arc<str>, Vec<Sample>>,
}

impl Memory {
    /// Forgets what holds for one tick only.
    pub(super) fn begin(&mut self) {
        self.scrapes.clear();
        self.starts.clear();
        for track in self.tracks.values_mut() {
            track.doubt = None;
        }
    }

    /// Takes up a series of an answer; samples after `to` are left for the next tick.
    pub(super) fn take(&mut self, by: (&ConnectionSpec, Identity), series: Series, to: i64) -> Arc<str> {
        let mut written = joined(pairs(&series.labels));
        // the same series may be told by its pod and by what tells of the pod
        written.push_str(teller(by.1));
        let known = self.tracks.get(written.as_str());
        let (key, target) = match known {
            Some(known) => (Arc::clone(&known.key), Arc::clone(&known.target)),
            None => (Arc::from(written), target(by, &series.labels)),
        };
        let samples: Vec<Sample> = series.samples.into_iter().filter(|sample| sample.at <= to).collect();
        let scrapes = self.scrapes.entry(target.clone()).or_default();
        for sample in &samples {
            if let Err(place) = scrapes.binary_search(&sample.at) {
                scrapes.insert(place, sample.at);
            }
        }
        let track = self.tracks.entry(key.clone()).or_insert_with(|| Track {
            key: key.clone(),
            histogram: Arc::from(joined(pairs(&series.labels).filter(|(name, _)| *name != "le"))),
            labels: series.labels,
            target,
            samples: Vec::new(),
            natives: Natives::new(),
            doubt: None,
        });
        let natives = series.natives.into_iter().filter(|(at, _)| *at <= to);
        track.natives.extend(natives);
        track.doubt = merge(&mut track.samples, &samples).or(track.doubt);
        key
    }

    /// Takes up process start times.
    pub(super) fn take_starts(&mut self, by: (&ConnectionSpec, Identity), series: Series) {
        let target = target(by, &series.labels);
        let mut samples = series.samples;
        samples.sort_by_key(|sample| sample.at);
        self.starts.insert(target, samples);
    }

    /// A series by its key.
    pub(super) fn track(&self, key: &str) -> Option<&Track> {
        self.tracks.get(key)
    }

    /// What is known about where a series comes from.
    pub(super) fn origin(&self, target: &str) -> Origin<'_> {
        Origin {
            scrapes: self.scrapes.get(target).map_or(&[], Vec::as_slice),
            starts: self.starts.get(target).map_or(&[], Vec::as_slice),
        }
    }

    /// Drops series and samples that no later tick can need: `asked` is how far back the next one asks
    /// at most. The newest count before that is kept to count from, and the newest sample of a series
    /// in any case, so that a gap is covered by one increment.
    pub(super) fn prune(&mut self, to: i64, asked: i64) {
        self.tracks
            .retain(|_, track| track.newest().is_some_and(|newest| newest > to - KEPT));
        for track in self.tracks.values_mut() {
            let old = track.samples.partition_point(|sample| sample.at <= to - KEPT);
            let surplus = track.samples.len().saturating_sub(MOST_SAMPLES);
            let before = track.samples.partition_point(|sample| sample.at < asked);
            let mut before = track.samples.iter().take(before);
            let counted = before.rposition(|sample| is_count(sample.value)).unwrap_or(0);
            let dropped = old.max(surplus).max(counted);
            let dropped = dropped.min(track.samples.len().saturating_sub(1));
            track.samples.drain(..dropped);
            let oldest = track.samples.first().map_or(i64::MAX, |sample| sample.at);
            track.natives = track.natives.split_off(&oldest);
        }
    }

    /// Number of series.
    pub(super) fn len(&self) -> usize {
        self.tracks.len()
    }
}

/// The scrape target of a series: the labels that Prometheus gives every sample of one scrape. Where
/// an exporter tells of pods, the pod is none of them.
fn target((connection, identity): (&ConnectionSpec, Identity), labels: &Labels) -> Arc<str> {
    let pod = [&connection.namespace_label, &connection.pod_label].map(String::as_str);
    let own = pod.into_iter().filter(|_| !identity.is_exporter());
    let names = ["job", "instance", AGO].into_iter().chain(own);
    let pairs = names.map(|name| (name, labels.get(name).map_or("", String::as_str)));
    Arc::from(joined(pairs) + teller(identity))
}

/// What tells exporters from pods, and those whose counters outlive them from all others: no text of
/// labels ends so.
const fn teller(identity: Identity) -> &'static str {
    match identity {
        Identity::Pod | Identity::Traefik => "",
        Identity::Exporter => "\n",
        Identity::Lasting => "\n\n",
    }
}

fn pairs(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

/// Names and values as one text in which none can be mistaken for another.
fn joined<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::with_capacity(256);
    for (name, value) in pairs {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}:{name}{}:{value}", name.len(), value.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_series_that_was_counted_only_the_last_count_before_the_next_question_is_kept() {
        let rows: [(&[f64], &[i64]); 4] = [
            (&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &[3, 4, 5]),
            (&[0.0, 1.0, f64::NAN, f64::NAN, 4.0, 5.0], &[1, 2, 3, 4, 5]),
            (&[f64::NAN, f64::NAN, f64::NAN, f64::NAN, 4.0, 5.0], &[0, 1, 2, 3, 4, 5]),
            (&[0.0, 1.0], &[1]),
        ];
        let connection = ConnectionSpec::to("http://prometheus");
        for (values, kept) in rows {
            let samples = (0..).zip(values).map(|(at, &value)| Sample { at, value });
            let series = Series {
                labels: Labels::new(),
                samples: samples.collect(),
                natives: Natives::new(),
            };
            let mut memory = Memory::default();
            let key = memory.take((&connection, Identity::Pod), series, 5);
            memory.prune(5, 4);
            let left = memory
                .track(&key)
                .map(|track| track.samples.iter().map(|sample| sample.at).collect());
            assert_eq!(left, Some(kept.to_vec()), "{values:?}");
        }
    }
}
