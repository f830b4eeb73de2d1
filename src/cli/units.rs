//! Times and numbers as people read them.

use crate::api::{millis, moment};
use crate::decision::{Millis, Unit};
use crate::judge::{amount, count};

/// The time now.
#[must_use]
pub fn now() -> Millis {
    Millis(jiff::Timestamp::now().as_millisecond())
}

/// A time of the API server's, as it is written in a status; `None` for what is not a time.
#[must_use]
pub fn at(text: &str) -> Option<Millis> {
    millis("", text).ok()
}

/// A length of time in its two largest units: `45s`, `4m10s`, `2h5m`, `3d4h`. Below zero is zero.
#[must_use]
pub fn span(length: Millis) -> String {
    let seconds = length.0.max(0) / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let pair = |large: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 {
            format!("{large}{unit}")
        } else {
            format!("{large}{unit}{small}{small_unit}")
        }
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => pair(minutes, 'm', seconds % 60, 's'),
        (0, _, _) => pair(hours, 'h', minutes, 'm'),
        _ => pair(days, 'd', hours, 'h'),
    }
}

/// The time of day in UTC, and the date too when it is not the day of `now`: `12:08:15Z`.
#[must_use]
pub fn clock(time: Millis, now: Millis) -> String {
    let (text, today) = (moment(time), moment(now));
    match (text.get(..10), today.get(..10), text.get(11..19)) {
        (Some(day), Some(this), Some(clock)) if day == this => format!("{clock}Z"),
        (Some(day), _, Some(clock)) => format!("{day} {clock}Z"),
        _ => text,
    }
}

/// A number with as many places as are worth reading: `0.031`, `1.31`, `11.5`, `120`.
#[must_use]
pub fn number(value: f64) -> String {
    if value.abs() >= 1e9 {
        "∞".to_owned()
    } else if value.abs() >= 100.0 {
        count(value)
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// A part of a whole in percent: `3.1 %`, `0.052 %`; `–` of nothing.
#[must_use]
pub fn percent(part: f64, whole: f64) -> String {
    if whole <= 0.0 {
        return "–".to_owned();
    }
    let value = part / whole * 100.0;
    let text = if value >= 10.0 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    };
    let short = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{short} %")
}

/// What an arm counted: `12 of 3,000 failed (0.4 %)` with the word ` failed`, `3 in 40 pod-minutes`,
/// `median 12.5 of 30 samples`.
#[must_use]
pub fn counted(unit: Unit, [events, all]: [f64; 2], word: &str) -> String {
    let (total, named) = unit.scaled(all);
    match unit {
        Unit::Requests => format!("{} of {}{word} ({})", count(events), count(all), percent(events, all)),
        Unit::PodSeconds => format!("{} in {} {named}", count(events), count(total)),
        Unit::Samples => format!("median {} of {} {named}", amount(events), count(total)),
    }
}

/// A person's `10s`, `5m`, `1h30m` on the command line.
///
/// # Errors
/// Says what is accepted.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    let length = crate::api::Duration::from(text).millis();
    length
        .and_then(|length| u64::try_from(length.0).ok())
        .map(std::time::Duration::from_millis)
        .ok_or_else(|| "a length of time is written like 90s, 5m or 1h30m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_show_their_two_largest_units() {
        for (millis, text) in [
            (-5_000, "0s"),
            (999, "0s"),
            (45_000, "45s"),
            (60_000, "1m"),
            (250_000, "4m10s"),
            (7_500_000, "2h5m"),
            (273_600_000, "3d4h"),
        ] {
            assert_eq!(span(Millis(millis)), text);
        }
    }

    #[test]
    fn numbers_are_written_as_people_read_them() {
        let cases = [
            (number(0.0312), "0.03"),
            (number(11.46), "11.5"),
            (number(1200.0), "1,200"),
            (number(f64::MAX), "∞"),
            (percent(37.0, 1204.0), "3.1 %"),
            (percent(1.0, 2000.0), "0.05 %"),
            (percent(0.0, 10.0), "0 %"),
            (percent(0.0, 0.0), "–"),
        ];
        for (written, wanted) in cases {
            assert_eq!(written, wanted);
        }
    }

    #[test]
    fn a_time_shows_its_day_only_when_it_is_not_today() {
        let now = at("2026-01-31T12:00:00Z").expect("a time");
        assert_eq!(clock(now + Millis::from_secs(495), now), "12:08:15Z");
        assert_eq!(clock(now + Millis::from_secs(86_400), now), "2026-02-01 12:00:00Z");
    }

    #[test]
    fn a_misspelt_length_of_time_is_told_what_is_accepted() {
        assert_eq!(duration("1m30s"), Ok(std::time::Duration::from_secs(90)));
        assert_eq!(
            duration("soon"),
            Err("a length of time is written like 90s, 5m or 1h30m".to_owned())
        );
    }
}
