//! A quantile from the counts of a histogram, for people and for rules of their own: a point
//! estimate, on which the judge itself decides nothing.

/// The value below which this share of the requests lies, by straight lines between the edges of the
/// buckets, as `histogram_quantile` of Prometheus has it. `tails` are edges with the requests above
/// them, in rising order of the edges; the lowest bucket begins at 0 when its edge is above 0.
///
/// Nothing without requests, and nothing where the value lies above the last edge: how far is not
/// known then.
#[must_use]
pub fn quantile(share: f64, tails: &[(f64, f64)], total: f64) -> Option<f64> {
    if total <= 0.0 {
        return None;
    }
    let rank = share * total;
    let below = |above: f64| total - above;
    let place = tails.iter().position(|(_, above)| below(*above) >= rank)?;
    let (edge, above) = *tails.get(place)?;
    let before = place.checked_sub(1).and_then(|before| tails.get(before));
    let (lower, under) = match before {
        Some((lower, above)) => (*lower, below(*above)),
        None if edge > 0.0 => (0.0, 0.0),
        None => return Some(edge),
    };
    let inside = below(above) - under;
    if inside <= 0.0 {
        return Some(edge);
    }
    Some(lower + (edge - lower) * ((rank - under) / inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_on_a_straight_line_between_two_edges() {
        // 50 up to 0.1, 40 up to 0.25, 8 up to 0.5, 2 above
        let tails = [(0.1, 50.0), (0.25, 10.0), (0.5, 2.0)];
        for (share, wanted) in [
            (0.25, Some(0.05)),
            (0.5, Some(0.1)),
            (0.7, Some(0.175)),
            (0.9, Some(0.25)),
            (0.95, Some(0.406_25)),
            (0.98, Some(0.5)),
            (0.99, None),
        ] {
            let found = quantile(share, &tails, 100.0);
            let same = match (found, wanted) {
                (Some(found), Some(wanted)) => (found - wanted).abs() < 1e-12,
                (found, wanted) => found == wanted,
            };
            assert!(same, "{share}: {found:?} instead of {wanted:?}");
        }
    }

    #[test]
    fn without_requests_or_edges_there_is_none_and_below_zero_nothing_is_guessed() {
        assert_eq!(quantile(0.95, &[(0.1, 0.0)], 0.0), None);
        assert_eq!(quantile(0.95, &[], 10.0), None);
        assert_eq!(quantile(0.5, &[(-1.0, 2.0), (1.0, 0.0)], 10.0), Some(-1.0));
        assert_eq!(quantile(0.5, &[(0.1, 5.0), (0.2, 5.0)], 10.0), Some(0.1));
    }
}
