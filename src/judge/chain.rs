//! The hash over all ticks that were counted: SHA-256, chained, over canonical JSON (RFC 8785).
//!
//! Written by hand, because a tick is small, comes for every metric every ten seconds, and the
//! general way parses it again to sort its keys: that took four fifths of a look.

use sha2::{Digest as _, Sha256};

use crate::decision::{Arm, Tick};

/// Whole numbers below this are written alike by every language.
const WHOLE: f64 = 1e15;

/// The hash of what came before and of this tick.
pub fn chained(before: &str, tick: &Tick) -> String {
    hex(&Sha256::new()
        .chain_update(before)
        .chain_update(canonical(tick))
        .finalize())
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let mut out = String::with_capacity(2 * bytes.len());
    out.extend(halves.filter_map(|half| DIGITS.get(usize::from(half))));
    out
}

/// The tick with sorted keys, without spaces, numbers as ECMAScript writes them. Its counts are
/// finite; what is not has no JSON and is left out.
fn canonical(tick: &Tick) -> String {
    let arms = tick.baseline_pods.len() + 2;
    let mut out = String::with_capacity(64 * (arms + 1));
    out.push_str("{\"at\":");
    whole(&mut out, tick.at.0);
    out.push_str(",\"baseline\":");
    arm(&mut out, &tick.baseline);
    out.push_str(",\"baselinePods\":[");
    list(&mut out, &tick.baseline_pods, arm);
    out.push_str("],\"canary\":");
    arm(&mut out, &tick.canary);
    out.push('}');
    out
}

fn arm(out: &mut String, counts: &Arm) {
    out.push_str("{\"events\":[");
    list(out, &counts.events, |out, count| number(out, *count));
    out.push_str("],\"total\":");
    number(out, counts.total);
    out.push('}');
}

fn list<T>(out: &mut String, items: &[T], write: impl Fn(&mut String, &T)) {
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        write(out, item);
    }
}

fn number(out: &mut String, value: f64) {
    #[expect(clippy::cast_possible_truncation, reason = "a whole number far below 2^53")]
    if libm::trunc(value).total_cmp(&value).is_eq() && libm::fabs(value) < WHOLE {
        whole(out, value as i64);
    } else {
        out.push_str(&serde_json_canonicalizer::to_string(&value).unwrap_or_default());
    }
}

/// A whole number in decimal, without the machinery of formatting.
fn whole(out: &mut String, value: i64) {
    if value < 0 {
        out.push('-');
    }
    let (mut rest, mut scale) = (value.unsigned_abs(), 1_u64);
    while rest / scale >= 10 {
        scale *= 10;
    }
    while scale > 0 {
        // a digit, so it fits
        out.push(char::from(b'0' + u8::try_from(rest / scale).unwrap_or_default()));
        rest %= scale;
        scale /= 10;
    }
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
            prop_assert_eq!(canonical(&tick), serde_json_canonicalizer::to_string(&tick).unwrap());
        }
    }

    #[test]
    fn whole_numbers_are_written_as_they_are() {
        for value in [0, 7, 10, 99, 100, 1_795_276_960_000, -1, -10, i64::MAX, i64::MIN] {
            let mut out = String::new();
            whole(&mut out, value);
            assert_eq!(out, value.to_string());
        }
    }

    #[test]
    fn a_negative_nothing_is_nothing() {
        let mut out = String::new();
        number(&mut out, -0.0);
        assert_eq!(out, "0");
    }
}
