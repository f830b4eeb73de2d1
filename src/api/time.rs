//! Points in time as status shows them.

use super::invalid::Invalid;
use crate::decision::Millis;

/// RFC 3339 in UTC with milliseconds. Years beyond 9999 are shown as the end of 9999, years
/// before 0 as its beginning.
#[must_use]
pub fn moment(at: Millis) -> String {
    const FIRST: i64 = -62_167_219_200_000;
    const LAST: i64 = 253_402_207_200_000;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_to_the_millisecond_and_read_back() {
        for (at, shown) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_790_000_000_123, "2026-09-21T14:13:20.123Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(moment(Millis(at)), shown);
            assert_eq!(millis("at", shown), Ok(Millis(at)));
        }
        assert_eq!(
            millis("at", &moment(Millis(i64::MAX))).map(|at| at.0 / 1000),
            Ok(253_402_207_200)
        );
        assert!(millis("at", &moment(Millis(i64::MIN))).is_ok());
        assert!(millis("at", "noon").is_err_and(|invalid| invalid.field == "at"));
    }
}
