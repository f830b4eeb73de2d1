//! Lengths of time and percentages as people write them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::invalid::Invalid;
use crate::decision::Millis;

/// A length of time: hours, minutes, seconds and milliseconds in this order, like `90s`, `5m`,
/// `1h30m` or `250ms`.
///
/// Go, jiff and CEL's `duration()` read this form alike, so the API server can compare two of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(pub String);

/// What the schema accepts as a [`Duration`].
const DURATION: &str = "^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?([0-9]{1,6}ms)?$";

impl Duration {
    /// Milliseconds, or `None` when this is no length of time.
    #[must_use]
    pub fn millis(&self) -> Option<Millis> {
        if !self
            .0
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b"hms".contains(&byte))
        {
            return None;
        }
        let parsed: jiff::SignedDuration = self.0.parse().ok()?;
        i64::try_from(parsed.as_millis()).ok().map(Millis)
    }
}

impl From<&str> for Duration {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": DURATION, "minLength": 2, "maxLength": 20})
    }
}

/// A percentage like `10%` or `99.9%`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(pub String);

/// What the schema accepts as a [`Share`].
const SHARE: &str = "^[0-9]{1,4}([.][0-9]{1,4})?%$";

impl Share {
    /// The fraction: 0.1 for `10%`.
    ///
    /// # Errors
    /// When this is no percentage.
    pub fn fraction(&self) -> Result<f64, Invalid> {
        let digits = self.0.strip_suffix('%').unwrap_or_default();
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        // Shifted in the text: dividing by 100 would not always give the nearest number.
        match format!("{digits}e-2").parse::<f64>() {
            Ok(fraction) if plain && !digits.is_empty() => Ok(fraction),
            _ => Err(Invalid::new("percentage", &self.0, "a percentage like 10% or 99.9%")),
        }
    }
}

impl From<&str> for Share {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl JsonSchema for Share {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": SHARE, "minLength": 2, "maxLength": 10})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_people_write_them() {
        for (text, expected) in [
            ("90s", Some(90_000)),
            ("5m", Some(300_000)),
            ("2h", Some(7_200_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("-5m", None),
            ("5m ago", None),
            ("1d", None),
            ("1 h", None),
        ] {
            assert_eq!(Duration::from(text).millis(), expected.map(Millis), "{text:?}");
        }
    }

    #[test]
    fn percentages_are_read_as_people_write_them() {
        for (text, expected) in [
            ("10%", Some(0.1)),
            ("99.9%", Some(0.999)),
            ("0%", Some(0.0)),
            ("150%", Some(1.5)),
            ("10", None),
            ("-1%", None),
            ("%", None),
            ("1e3%", None),
            ("1.2.3%", None),
        ] {
            assert_eq!(Share::from(text).fraction().ok(), expected, "{text:?}");
        }
    }
}
