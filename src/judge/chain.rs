//! The hash over all ticks that were counted: SHA-256, chained, over canonical JSON (RFC 8785).
//!
//! Written by hand, because a tick is small, comes for every metric every ten seconds, and the
//! general way parses it again to sort its keys: that took four fifths of a look.

use std::fmt::Write as _;

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
    halves.filter_map(|half| DIGITS.get(usize::from(half))).collect()
}

/// The tick with sorted keys, without spaces, numbers as ECMAScript writes them. Its counts are
/// finite; what is not has no JSON and is left out.
fn canonical(tick: &Tick) -> String {
    let mut out = format!("{{\"at\":{},\"baseline\":", tick.at.0);
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
        // writing to a string cannot fail
        let _ = write!(out, "{}", value as i64);
    } else {
        out.push_str(&serde_json_canonicalizer::to_string(&value).unwrap_or_default());
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
    fn a_negative_nothing_is_nothing() {
        let mut out = String::new();
        number(&mut out, -0.0);
        assert_eq!(out, "0");
    }
}
