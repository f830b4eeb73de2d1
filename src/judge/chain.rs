//! The hash over all ticks that were counted: SHA-256, chained page by page, over canonical JSON (RFC 8785).
//!
//! A tick is written as one array, `[end, canary, baseline, [pod, …]]`, and each arm as
//! `[requests, events, …]`. What is written is gathered on a page, as a hash costs the more the more
//! often it is taken; a page that is full is hashed together with the hash of all before it. Whoever
//! asks before that is told the same of the page as it stands, so every tick is in every answer.
//!
//! Written by hand, because a tick is small, comes for every metric every ten seconds, and the
//! general way parses it again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use libm::fabs;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use sha2::{Digest as _, Sha256};

use crate::decision::{Arm, Tick};

/// Whole numbers below this are written alike by every language.
const WHOLE: f64 = 1e15;
/// Characters from which on a page is full: half a dozen ticks of a ratio, and with the hash before it
/// hardly more than four blocks of SHA-256.
const FULL: usize = 170;
/// Digits of the largest whole number.
const DIGITS: usize = 20;

/// A hash over ticks, and the ticks that are not in it yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chain {
    /// Of all full pages, and the name before them.
    #[serde(serialize_with = "in_base64", deserialize_with = "from_base64")]
    pages: [u8; 32],
    /// The page that is being written: ASCII.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    page: Vec<u8>,
}

impl Chain {
    /// Nothing counted yet of the metric of this name.
    pub fn new(name: &str) -> Self {
        Self {
            pages: Sha256::digest(name.as_bytes()).into(),
            page: Vec::new(),
        }
    }

    /// Adds a tick.
    pub fn add(&mut self, tick: &Tick) {
        write(&mut self.page, tick);
        if self.page.len() >= FULL {
            self.pages = self.digest();
            self.page.clear();
        }
    }

    /// The hash of all that was added.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(self.pages)
            .chain_update(&self.page)
            .finalize()
            .into()
    }
}

fn in_base64<S: Serializer>(digest: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD_NO_PAD.encode(digest))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let bytes = STANDARD_NO_PAD
        .decode(String::deserialize(deserializer)?)
        .map_err(D::Error::custom)?;
    <[u8; 32]>::try_from(bytes).map_err(|bytes| D::Error::custom(format!("a hash is 32 bytes, not {}", bytes.len())))
}

fn as_text<S: Serializer>(page: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(std::str::from_utf8(page).map_err(S::Error::custom)?)
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    String::deserialize(deserializer).map(String::into_bytes)
}

/// The tick without spaces, numbers as ECMAScript writes them. Its counts are finite; what is not
/// has no JSON and is left out.
fn write(out: &mut Vec<u8>, tick: &Tick) {
    out.push(b'[');
    whole(out, tick.at.0);
    for counts in [&tick.canary, &tick.baseline] {
        out.push(b',');
        arm(out, counts);
    }
    out.extend(b",[");
    for (place, pod) in tick.baseline_pods.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        arm(out, pod);
    }
    out.extend(b"]]");
}

fn arm(out: &mut Vec<u8>, counts: &Arm) {
    out.push(b'[');
    number(out, counts.total);
    for events in &counts.events {
        out.push(b',');
        number(out, *events);
    }
    out.push(b']');
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
    let mut digits = [b'0'; DIGITS];
    let (mut rest, mut used) = (value.unsigned_abs(), 0);
    for digit in digits.iter_mut().rev() {
        // a digit, so it fits
        *digit += u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend(digits.iter().skip(DIGITS - used));
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
            let flat = |arm: &Arm| [&[arm.total], &*arm.events].concat();
            let pods: Vec<_> = baseline_pods.iter().map(flat).collect();
            let wanted = serde_json_canonicalizer::to_vec(&(at, flat(&canary), flat(&baseline), pods)).unwrap();
            let mut out = Vec::new();
            write(&mut out, &Tick { at: Millis(at), canary, baseline, baseline_pods });
            prop_assert_eq!(String::from_utf8(out), String::from_utf8(wanted));
        }
    }

    fn tick(at: i64, requests: f64) -> Tick {
        let arm = |total: f64| Arm {
            events: vec![0.0],
            total,
        };
        Tick {
            at: Millis(at),
            canary: arm(requests),
            baseline: arm(1900.0),
            baseline_pods: Vec::new(),
        }
    }

    #[test]
    fn every_tick_is_in_the_hash_and_so_is_its_place_on_any_page() {
        let after = |ticks: &[Tick]| {
            let mut chain = Chain::new("errors");
            for tick in ticks {
                chain.add(tick);
            }
            chain
        };
        let ticks: Vec<Tick> = (1..=40).map(|at| tick(at * 10_000, 100.0)).collect();
        let whole = after(&ticks);
        assert!(whole.page.len() < FULL, "{}", whole.page.len());
        for place in 0..ticks.len() {
            let mut other = ticks.clone();
            other[place] = tick(ticks[place].at.0, 101.0);
            assert_ne!(after(&other).digest(), whole.digest(), "another count at {place}");
            other.remove(place);
            assert_ne!(after(&other).digest(), whole.digest(), "none at {place}");
            let mut live = after(&ticks[..place]);
            let mut restored: Chain = serde_json::from_str(&serde_json::to_string(&live).unwrap()).unwrap();
            for tick in &ticks[place..] {
                live.add(tick);
                restored.add(tick);
            }
            assert_eq!(restored, live, "stored before {place}");
            assert_eq!(live, whole);
        }
    }

    #[test]
    fn anybody_can_take_the_hash_again() {
        let mut chain = Chain::new("errors");
        chain.add(&tick(10_000, 100.0));
        let name = Sha256::digest(b"errors");
        let wanted = Sha256::digest([&name[..], b"[10000,[100,0],[1900,0],[]]"].concat());
        assert_eq!(chain.digest()[..], wanted[..]);
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
