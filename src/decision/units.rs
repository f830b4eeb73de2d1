//! Units as types, so that a weight is never mistaken for a count or a time.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// Milliseconds: since 1970-01-01T00:00:00Z when a point in time, else a length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub i64);

impl Millis {
    /// A length of time given in whole seconds.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Seconds, for display and for metrics.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "2^53 ms is 285,000 years")]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl Add for Millis {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Millis {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// The canary's share of the service's traffic: an integer from 0 to 100, absolute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Percent(u8);

/// A share outside 0–100.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a weight is an integer from 0 to 100, not {0}")]
pub struct PercentError(pub i64);

impl Percent {
    /// No traffic.
    pub const ZERO: Self = Self(0);
    /// All traffic.
    pub const ALL: Self = Self(100);

    /// The share as a number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// This share of a number of pods, rounded up: at least one as soon as there is any weight, and
    /// as if there were one pod where there are none.
    #[must_use]
    pub fn pods_of(self, all: i64) -> i64 {
        let share = (i128::from(all.max(1)) * i128::from(self.0) + 99) / 100;
        i64::try_from(share).unwrap_or(i64::MAX)
    }

    /// What is left for the other side: both always add up to 100.
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(100 - self.0)
    }
}

impl TryFrom<i64> for Percent {
    type Error = PercentError;
    fn try_from(value: i64) -> Result<Self, PercentError> {
        match u8::try_from(value) {
            Ok(share) if share <= 100 => Ok(Self(share)),
            _ => Err(PercentError(value)),
        }
    }
}

impl From<Percent> for i64 {
    fn from(value: Percent) -> Self {
        Self::from(value.0)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

/// Our own name of a pod template: the first ten hex digits of the SHA-256 of its canonical
/// JSON. A held Deployment has no new ReplicaSet, so there is no other name to go by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub String);

/// Fewest characters by which a revision may be named without all of them.
const PREFIX: usize = 6;

impl Revision {
    /// Whether a person who wrote this means this revision: all of it, or its beginning of at least
    /// six characters.
    #[must_use]
    pub fn is_named(&self, written: &str) -> bool {
        self.0 == written || written.len() >= PREFIX && self.0.starts_with(written)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_named_by_all_of_it_or_by_a_beginning_that_is_long_enough() {
        for (revision, written, named) in [
            ("0123456789", "0123456789", true),
            ("0123456789", "012345", true),
            ("0123456789", "01234", false),
            ("0123456789", "123456", false),
            ("0123456789", "01234567890", false),
            ("0123456789", "", false),
            ("v2", "v2", true),
            ("v2", "v", false),
        ] {
            assert_eq!(Revision(revision.to_owned()).is_named(written), named, "{written:?}");
        }
    }

    #[test]
    fn a_weight_is_an_integer_from_0_to_100_and_its_rest_completes_it() {
        for (value, accepted) in [
            (-1, false),
            (0, true),
            (1, true),
            (99, true),
            (100, true),
            (101, false),
            (256, false),
        ] {
            assert_eq!(Percent::try_from(value).is_ok(), accepted, "{value}");
        }
        for share in 0..=100 {
            let share = Percent::try_from(share).expect("in range");
            assert_eq!(share.get() + share.rest().get(), 100);
        }
        assert!(serde_json::from_str::<Percent>("101").is_err());
        assert!(serde_json::from_str::<Percent>("12.5").is_err());
    }
}
