//! Which bucket edges a histogram is judged at, and how edges are written.

use std::collections::BTreeMap;

use super::counter::is_count;
use super::memory::Track;

/// The quantiles whose edges are judged together when none is asked for.
pub(super) const USUAL: [f64; 3] = [0.5, 0.9, 0.99];

/// Chooses edges from the baseline's buckets since its processes began: those nearest to the
/// asked quantile, or to the median, p90 and p99; one that is nearest to two of them comes twice,
/// because what is judged has as many tails as were planned. With `around`, the edges around the
/// asked quantile follow. Nothing when there were no requests.
pub(super) fn choose(baseline: &[&Track], quantile: Option<f64>, around: bool) -> Option<Vec<f64>> {
    let mut buckets: BTreeMap<Edge, f64> = BTreeMap::new();
    for track in baseline {
        let edge = track.label("le").parse().ok().map(Edge)?;
        let newest = track.samples.last().filter(|sample| is_count(sample.value))?;
        *buckets.entry(edge).or_default() += newest.value;
    }
    pick(&buckets, quantile, around)
}

/// The same from how many requests lie at or below each edge, the last of which is infinite.
pub(super) fn pick(buckets: &BTreeMap<Edge, f64>, quantile: Option<f64>, around: bool) -> Option<Vec<f64>> {
    let total = buckets.last_key_value().filter(|(edge, _)| edge.0 == f64::INFINITY)?.1;
    let total = Some(*total).filter(|total| *total > 0.0)?;
    let buckets: Vec<(f64, f64)> = buckets.iter().map(|(edge, below)| (edge.0, below / total)).collect();
    let quantiles = quantile.map_or(USUAL.to_vec(), |asked| vec![asked]);
    let mut edges: Vec<f64> = quantiles.iter().filter_map(|asked| nearest(&buckets, *asked)).collect();
    edges.sort_by(f64::total_cmp);
    if let Some(asked) = quantile.filter(|_| around) {
        edges.extend(surroundings(&buckets, asked));
    }
    Some(edges).filter(|edges| !edges.is_empty())
}

/// The edge nearest to a quantile: of the two around it, the one whose share is nearer.
fn nearest(buckets: &[(f64, f64)], asked: f64) -> Option<f64> {
    let finite = buckets.iter().filter(|(edge, _)| edge.is_finite());
    finite
        .min_by(|(_, a), (_, b)| (a - asked).abs().total_cmp(&(b - asked).abs()))
        .map(|(edge, _)| *edge)
}

/// How many edges below the bucket of a quantile are asked for, and how many at its end and above.
const BELOW: usize = 2;
const ABOVE: usize = 4;

/// The edges around a quantile, in rising order: a canary whose quantile lies beyond them differs so
/// much that no estimate is needed to see it.
fn surroundings(buckets: &[(f64, f64)], asked: f64) -> Vec<f64> {
    let finite = buckets.iter().filter(|(edge, _)| edge.is_finite());
    let below = finite.clone().filter(|(_, share)| *share < asked).count();
    let edges = finite.map(|(edge, _)| *edge);
    edges
        .skip(below.saturating_sub(BELOW))
        .take(below.min(BELOW) + ABOVE)
        .collect()
}

/// An edge in its natural order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Edge(pub(super) f64);

impl Eq for Edge {}
impl PartialOrd for Edge {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Edge {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The ways in which clients and servers write an edge as the label `le`: `1`, `1.0`, `1e+06`.
pub(super) fn spellings(edge: f64) -> Vec<String> {
    let plain = format!("{edge}");
    let mut found = vec![plain.clone()];
    if !plain.contains('.') {
        found.push(format!("{plain}.0"));
    }
    if edge != 0.0 && !(1e-4..1e6).contains(&edge.abs()) {
        let short = format!("{edge:e}");
        if let Some((digits, power)) = short.split_once('e') {
            let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
            found.push(format!("{digits}e{sign}{power:0>2}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::reply::Sample;

    fn bucket(le: &str, value: f64) -> Track {
        Track {
            key: "".into(),
            labels: [("le".to_owned(), le.to_owned())].into(),
            histogram: "".into(),
            target: "".into(),
            samples: vec![Sample { at: 0, value }],
            natives: std::collections::BTreeMap::new(),
            doubt: None,
        }
    }

    #[test]
    fn edges_are_the_nearest_to_the_baselines_quantiles() {
        let tracks = [
            ("0.1", 40.0),
            ("0.25", 88.0),
            ("0.5", 95.0),
            ("1", 99.2),
            ("+Inf", 100.0),
        ]
        .map(|(le, value)| bucket(le, value));
        let baseline: Vec<&Track> = tracks.iter().collect();
        for (asked, expected) in [
            (None, vec![0.1, 0.25, 1.0]),
            (Some(0.95), vec![0.5]),
            (Some(0.9999), vec![1.0]),
            (Some(0.01), vec![0.1]),
        ] {
            assert_eq!(choose(&baseline, asked, false), Some(expected), "{asked:?}");
        }
    }

    #[test]
    fn the_edges_around_a_quantile_follow_the_one_that_is_judged() {
        let shares = [10.0, 20.0, 40.0, 70.0, 90.0, 94.0, 96.0, 97.0, 98.0, 99.0];
        let edges = ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1"];
        let mut tracks: Vec<Track> = edges.iter().zip(shares).map(|(le, value)| bucket(le, value)).collect();
        tracks.push(bucket("+Inf", 100.0));
        let baseline: Vec<&Track> = tracks.iter().collect();
        for (asked, expected) in [
            (Some(0.945), vec![0.6, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
            (Some(0.05), vec![0.1, 0.1, 0.2, 0.3, 0.4]),
            (Some(0.999), vec![1.0, 0.9, 1.0]),
            (None, vec![0.3, 0.5, 1.0]),
        ] {
            assert_eq!(choose(&baseline, asked, true), Some(expected), "{asked:?}");
        }
    }

    #[test]
    fn coarse_buckets_give_as_many_edges_as_were_asked_for() {
        let tracks = [("0.1", 60.0), ("1", 95.0), ("+Inf", 100.0)].map(|(le, value)| bucket(le, value));
        let baseline: Vec<&Track> = tracks.iter().collect();
        assert_eq!(choose(&baseline, None, false), Some(vec![0.1, 1.0, 1.0]));
    }

    #[test]
    fn without_requests_or_without_the_last_bucket_no_edge_is_chosen() {
        for tracks in [
            vec![],
            vec![bucket("0.1", 0.0), bucket("+Inf", 0.0)],
            vec![bucket("0.1", 5.0), bucket("0.5", 9.0)],
            vec![bucket("0.1", f64::NAN), bucket("+Inf", 9.0)],
            vec![bucket("wide", 1.0), bucket("+Inf", 9.0)],
            vec![bucket("+Inf", 9.0)],
        ] {
            assert_eq!(choose(&tracks.iter().collect::<Vec<_>>(), None, false), None);
        }
    }

    #[test]
    fn an_edge_is_found_however_it_is_spelt() {
        for (edge, spelt) in [
            (0.1, vec!["0.1"]),
            (1.0, vec!["1", "1.0"]),
            (2_500_000.0, vec!["2500000", "2500000.0", "2.5e+06"]),
            (0.000_05, vec!["0.00005", "5e-05"]),
        ] {
            assert_eq!(spellings(edge), spelt);
        }
    }
}
