//! Raw samples of a counter to increments, without extrapolation.
//!
//! A counter only rises while its process lives. A fall is a restart when something proves it
//! (the process start time that the same target exports); without proof the increments around
//! it are unknown. What was counted before the first sample is unknown as well, unless the
//! series is shown to have begun at zero within the window.

use super::reply::Sample;

/// Why an increment is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// NaN, infinite or negative in the newest tick.
    NotACount,
    /// The counter fell and nothing shows a restart.
    ResetUnproven,
}

/// What part of a series is counted: samples after `from`, up to and with `to`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// Time of the last sample that was counted before, milliseconds.
    pub(super) from: i64,
    /// End of the tick, milliseconds.
    pub(super) to: i64,
    /// Start of the tick; a sample that is no count makes the tick incomplete when it is newer
    /// than this and is bridged by its neighbours when it is older.
    pub(super) tick: i64,
}

/// What is known about where a series comes from.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Origin<'a> {
    /// Times at which the same target was scraped, rising.
    pub(super) scrapes: &'a [i64],
    /// Start times of the target's process in seconds, as scraped, rising by scrape time.
    pub(super) starts: &'a [Sample],
}

/// An increment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Growth {
    /// How much the counter rose.
    pub(super) by: f64,
    /// Restarts, all of them proven. Each makes `by` a lower bound.
    pub(super) resets: u32,
    /// Whether the count goes back to a sample before the span or to a proven zero.
    pub(super) based: bool,
    /// The time that is counted, milliseconds: from the sample before, or the proven zero, to the last.
    pub(super) over: i64,
}

/// Counts how much a series rose within the span. `samples` rise in time.
pub(super) fn growth(samples: &[Sample], span: Span, origin: Origin<'_>) -> Result<Growth, Doubt> {
    let mut grown = Growth::default();
    let mut previous: Option<Sample> = None;
    for &sample in samples.iter().filter(|sample| sample.at <= span.to) {
        if !is_count(sample.value) {
            if sample.at > span.tick {
                return Err(Doubt::NotACount);
            }
            continue;
        }
        if sample.at > span.from {
            step(&mut grown, previous, sample, span, origin)?;
        }
        previous = Some(sample);
    }
    if previous.is_some_and(|last| last.at <= span.from) {
        grown.based = true;
    }
    Ok(grown)
}

fn step(
    grown: &mut Growth,
    previous: Option<Sample>,
    sample: Sample,
    span: Span,
    origin: Origin<'_>,
) -> Result<(), Doubt> {
    let Some(previous) = previous else {
        if let Some(began) = origin.began_at_zero(sample.at, span.from) {
            grown.by += sample.value;
            grown.over += sample.at - began;
            grown.based = true;
        }
        return Ok(());
    };
    grown.based |= previous.at <= span.from;
    grown.over += sample.at - previous.at;
    if origin.restarted(previous.at, sample.at) {
        grown.by += sample.value;
        grown.resets += 1;
        return Ok(());
    }
    if sample.value < previous.value {
        return Err(Doubt::ResetUnproven);
    }
    grown.by += sample.value - previous.value;
    Ok(())
}

impl Origin<'_> {
    /// Since when a series whose first sample is at `first` counted from zero within the window, if
    /// it did: its target was scraped before without it, or its process began after `from`.
    fn began_at_zero(&self, first: i64, from: i64) -> Option<i64> {
        let before = self.scrapes.partition_point(|&scrape| scrape < first);
        let absent = before.checked_sub(1).and_then(|last| self.scrapes.get(last)).copied();
        absent.or_else(|| {
            self.start(first)
                .filter(|start| *start >= from)
                .map(|start| start.min(first))
        })
    }

    /// Whether the target's process began between two scrapes: its start time changed, or lies
    /// between them.
    fn restarted(&self, before: i64, after: i64) -> bool {
        let Some(start) = self.start(after) else { return false };
        match self.start(before) {
            Some(earlier) => start != earlier,
            None => start > before,
        }
    }

    /// The process start time in milliseconds that was known at a time.
    fn start(&self, at: i64) -> Option<i64> {
        let known = self.starts.iter().take_while(|sample| sample.at <= at).last()?;
        is_count(known.value).then(|| millis(known.value))
    }
}

/// Whether a number can be the state of a counter.
pub(super) fn is_count(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

#[expect(clippy::cast_possible_truncation, reason = "saturates; times are far below 2^53")]
pub(super) fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

/// Two answers gave different values for the same time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Disagreement {
    pub(super) at: i64,
    pub(super) values: [f64; 2],
}

/// Adds the samples of an answer to what is remembered of the series, ordered by time and each
/// time once. On a disagreement the newer answer is kept, so that it is told once.
pub(super) fn merge(known: &mut Vec<Sample>, answer: &[Sample]) -> Option<Disagreement> {
    let mut found = None;
    for &sample in answer {
        match known.binary_search_by_key(&sample.at, |sample| sample.at) {
            Ok(place) => {
                let Some(before) = known.get_mut(place) else { continue };
                if before.value.total_cmp(&sample.value).is_ne() {
                    found = Some(Disagreement {
                        at: sample.at,
                        values: [before.value, sample.value],
                    });
                    *before = sample;
                }
            }
            Err(place) => known.insert(place, sample),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![expect(clippy::float_cmp, reason = "small whole numbers, exact")]
    use super::*;

    fn series(pairs: &[(i64, f64)]) -> Vec<Sample> {
        pairs.iter().map(|&(at, value)| Sample { at, value }).collect()
    }

    fn span(from: i64, to: i64) -> Span {
        Span { from, to, tick: from }
    }

    /// Name, samples, process start seen at each sample in milliseconds, and the increments that
    /// a tick ending at each sample's time gives; `None` where nothing can be said.
    type Case = (
        &'static str,
        &'static [(i64, f64)],
        &'static [(i64, f64)],
        &'static [(i64, Option<f64>)],
    );

    const GOLDEN: [Case; 7] = [
        (
            "plain",
            &[(0, 100.0), (10, 103.0), (20, 103.0), (30, 110.0)],
            &[],
            &[(10, Some(3.0)), (20, Some(0.0)), (30, Some(7.0))],
        ),
        (
            "a restart that the start time proves",
            &[(0, 100.0), (10, 105.0), (20, 4.0), (30, 9.0)],
            &[(0, 0.0), (10, 0.0), (20, 0.015), (30, 0.015)],
            &[(10, Some(5.0)), (20, Some(4.0)), (30, Some(5.0))],
        ),
        (
            "the same fall without proof, and what follows it",
            &[(0, 100.0), (10, 105.0), (20, 4.0), (30, 9.0)],
            &[],
            &[(10, Some(5.0)), (20, None), (30, Some(5.0))],
        ),
        (
            "a gap of two scrapes is covered by the next increment",
            &[(0, 100.0), (30, 112.0)],
            &[],
            &[(30, Some(12.0))],
        ),
        (
            "NaN gives no tick and the next increment covers it",
            &[(0, 100.0), (10, f64::NAN), (20, 106.0)],
            &[],
            &[(10, None), (20, Some(6.0))],
        ),
        (
            "a new series whose process began within the window counts from zero",
            &[(10, 5.0), (20, 9.0)],
            &[(10, 0.008), (20, 0.008)],
            &[(10, Some(5.0)), (20, Some(4.0))],
        ),
        (
            "a new series of unknown age counts from its first sample",
            &[(10, 5.0), (20, 9.0)],
            &[],
            &[(10, Some(0.0)), (20, Some(4.0))],
        ),
    ];

    #[test]
    fn increments_follow_the_golden_cases() {
        for (name, samples, starts, expected) in GOLDEN {
            let (samples, starts) = (series(samples), series(starts));
            let origin = Origin {
                scrapes: &[],
                starts: &starts,
            };
            let mut counted = 0;
            for &(at, wanted) in expected {
                let span = Span {
                    from: counted,
                    to: at,
                    tick: at - 10,
                };
                let grown = growth(&samples, span, origin);
                assert_eq!(grown.map(|grown| grown.by).ok(), wanted, "{name} at {at}");
                if grown != Err(Doubt::NotACount) {
                    counted = at;
                }
            }
        }
    }

    #[test]
    fn a_series_that_its_target_did_not_have_before_counts_from_zero() {
        let samples = series(&[(20, 3.0), (30, 5.0)]);
        let known = Origin {
            scrapes: &[10, 20, 30],
            starts: &[],
        };
        assert_eq!(growth(&samples, span(10, 30), known).expect("counts").by, 5.0);
        let unknown = Origin {
            scrapes: &[20, 30],
            starts: &[],
        };
        assert_eq!(growth(&samples, span(10, 30), unknown).expect("counts").by, 2.0);
    }

    #[test]
    fn a_restart_that_hides_behind_a_higher_value_counts_from_zero_when_it_is_known() {
        let samples = series(&[(0, 3.0), (10, 5.0)]);
        let starts = series(&[(0, 0.0), (10, 0.004)]);
        let origin = Origin {
            scrapes: &[],
            starts: &starts,
        };
        let grown = growth(&samples, span(0, 10), origin).expect("counts");
        assert_eq!((grown.by, grown.resets), (5.0, 1));
    }

    #[test]
    fn a_start_time_that_did_not_change_proves_nothing() {
        let samples = series(&[(1000, 100.0), (2000, 4.0)]);
        let starts = series(&[(1000, 1.5), (2000, 1.5)]);
        let origin = Origin {
            scrapes: &[],
            starts: &starts,
        };
        assert_eq!(growth(&samples, span(1000, 2000), origin), Err(Doubt::ResetUnproven));
    }

    #[test]
    fn what_is_no_count_is_named_and_never_added() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
            let samples = series(&[(0, 1.0), (10, bad)]);
            assert_eq!(
                growth(&samples, span(0, 10), Origin::default()),
                Err(Doubt::NotACount),
                "{bad}"
            );
        }
        for fine in [-0.0, 5e-324, 1e308] {
            let samples = series(&[(0, 0.0), (10, fine)]);
            let grown = growth(&samples, span(0, 10), Origin::default()).expect("a count");
            assert_eq!(grown.by, fine.abs(), "{fine}");
        }
    }

    #[test]
    fn an_answer_that_is_older_than_the_last_one_is_no_reset() {
        let mut known = series(&[(0, 100.0), (10, 105.0)]);
        assert_eq!(merge(&mut known, &series(&[(3, 101.0), (8, 103.0)])), None);
        let grown = growth(&known, span(10, 20), Origin::default()).expect("counts");
        assert_eq!((grown.by, grown.based), (0.0, true));
    }

    #[test]
    fn two_servers_with_other_scrape_times_lose_and_double_nothing() {
        let mut known = Vec::new();
        let (mut counted, mut sum) = (0, 0.0);
        let answers = [
            series(&[(0, 0.0), (10, 10.0)]),
            series(&[(3, 3.0), (13, 13.0)]),
            series(&[(10, 10.0), (20, 20.0), (30, 30.0)]),
        ];
        for (answer, to) in answers.iter().zip([10, 20, 30]) {
            assert_eq!(merge(&mut known, answer), None);
            sum += growth(&known, span(counted, to), Origin::default()).expect("counts").by;
            counted = known.last().expect("some").at;
        }
        assert_eq!(sum, 30.0);
    }

    #[test]
    fn two_values_for_the_same_time_disagree_once() {
        let mut known = series(&[(0, 1.0), (10, 2.0)]);
        let other = series(&[(10, 3.0)]);
        let found = merge(&mut known, &other).expect("they differ");
        assert_eq!((found.at, found.values), (10, [2.0, 3.0]));
        assert_eq!(merge(&mut known, &other), None);
    }
}
