//! The hash over all ticks that were counted: SHA-256, chained, over canonical JSON (RFC 8785).
//!
//! Written by hand, because a tick is small, comes for every metric every ten seconds, and the
//! general way parses it again to sort its keys: that took four fifths of a look.

use libm::fabs;
use sha2::{Digest as _, Sha256};

use crate::decision::{Arm, Tick};

/// Whole numbers below this are written alike by every language.
const WHOLE: f64 = 1e15;

/// The hash of what came before and of this tick.
pub fn chained(before: &str, tick: &Tick) -> String {
    let sum = Sha256::new().chain_update(before).chain_update(canonical(tick));
    format!("{:x}", sum.finalize())
}

/// The tick with sorted keys, without spaces, numbers as ECMAScript writes them. Its counts are
/// finite; what is not has no JSON and is left out.
fn canonical(tick: &Tick) -> Vec<u8> {
    let arms = tick.baseline_pods.len() + 2;
    let mut out = Vec::with_capacity(64 * (arms + 1));
    out.extend(b"{\"at\":");
    whole(&mut out, tick.at.0);
    out.extend(b",\"baseline\":");
    arm(&mut out, &tick.baseline);
    out.extend(b",\"baselinePods\":[");
    list(&mut out, &tick.baseline_pods, arm);
    out.extend(b"],\"canary\":");
    arm(&mut out, &tick.canary);
    out.push(b'}');
    out
}

fn arm(out: &mut Vec<u8>, counts: &Arm) {
    out.extend(b"{\"events\":[");
    list(out, &counts.events, |out, count| number(out, *count));
    out.extend(b"],\"total\":");
    number(out, counts.total);
    out.push(b'}');
}

fn list<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write(out, item);
    }
}

fn number(out: &mut Vec<u8>, value: f64) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "compared, and then a whole number far below 2^53"
    )]
    let (count, same) = (value as i64, value as i64 as f64);
    if same.total_cmp(&value).is_eq() && fabs(value) < WHOLE {
        whole(out, count);
    } else {
        out.extend(serde_json_canonicalizer::to_vec(&value).unwrap_or_default());
    }
}

/// A whole number in decimal, without the machinery of formatting.
fn whole(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    digits(out, value.unsigned_abs());
}

fn digits(out: &mut Vec<u8>, value: u64) {
    if value >= 10 {
        digits(out, value / 10);
    }
    // a digit, so it fits
    out.push(b'0' + u8::try_from(value % 10).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decision::Millis;

    fn arms() -> impl Strategy<Value = Arm> {
        let count = || prop_oneof![(0..5000_u32).prop_map(f64::from), 0.0..1e20_f64, 0.0..1e-5_f64];
        (prop::collection::vec(count(), 0..4), count()).prop_map(|(events, total)| Arm { events, total })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_tick_is_written_as_the_library_writes_it(
            (canary, baseline) in (arms(), arms()),
            baseline_pods in prop::collection::vec(arms(), 0..4),
            at in 0..4_000_000_000_000_i64,
        ) {
            let tick = Tick { at: Millis(at), canary, baseline, baseline_pods };
            prop_assert_eq!(canonical(&tick), serde_json_canonicalizer::to_vec(&tick).unwrap());
        }
    }

    #[test]
    fn whole_numbers_are_written_as_they_are() {
        for value in [0, 7, 10, 99, 100, 1_795_276_960_000, -1, -10, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            whole(&mut out, value);
            assert_eq!(out, value.to_string().into_bytes());
        }
    }

    #[test]
    fn a_negative_nothing_is_nothing() {
        let mut out = Vec::new();
        number(&mut out, -0.0);
        assert_eq!(out, b"0");
    }
}
