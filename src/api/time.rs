//! Points in time as status shows them.

use super::invalid::Invalid;
use crate::decision::Millis;

/// RFC 3339 in UTC with milliseconds. Years beyond 9999 are shown as the end of 9999, years
/// before 0 as its beginning.
#[must_use]
pub fn moment(at: Millis) -> String {
    const FIRST: i64 = -62_167_219_200_000;
    const LAST: i64 = 253_402_207_200_999;
    jiff::Timestamp::from_millisecond(at.0.clamp(FIRST, LAST))
        .map_or_else(|_| at.0.to_string(), |time| format!("{time:.3}"))
}

/// Reads what [`moment`] writes.
///
/// # Errors
/// When the text is no RFC 3339 time.
pub fn millis(field: &str, text: &str) -> Result<Millis, Invalid> {
    text.parse::<jiff::Timestamp>()
        .map(|time| Millis(time.as_millisecond()))
        .map_err(|_| Invalid::new(field, text, "a time like 2026-01-31T12:00:00.000Z"))
}
