//! The judge's numbers as sentences. Nothing here decides anything.

/// A count with separators: `22,870`.
#[must_use]
pub fn count(value: f64) -> String {
    grouped(&format!("{:.0}", value.round()))
}

/// A decimal number with separators: `-1,204.5` for `-1204.5`.
#[must_use]
pub fn grouped(number: &str) -> String {
    let (sign, unsigned) = number.split_at(usize::from(number.starts_with('-')));
    let whole = unsigned.find('.').unwrap_or(unsigned.len());
    let mut text = sign.to_owned();
    for (place, digit) in unsigned.chars().enumerate() {
        if place > 0 && place < whole && (whole - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A ratio with as many places as are worth reading: `1.31`, `11.5`, `120`.
pub fn ratio(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.2}")
    } else if value < 100.0 {
        format!("{value:.1}")
    } else {
        count(value)
    }
}

/// A share in percent: `20 %`, `0.05 %`.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    let places = if value >= 10.0 {
        0
    } else if value >= 1.0 {
        1
    } else {
        3
    };
    let text = format!("{value:.places$}");
    let short = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{short} %")
}

/// An amount of something, short: `0.52`, `37.0`, `512 M`.
#[must_use]
pub fn amount(value: f64) -> String {
    let units = [(1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")];
    let unit = units.iter().find(|(from, ..)| value >= *from);
    unit.map_or_else(
        || ratio(value),
        |(_, size, unit)| format!("{} {unit}", ratio(value / size)),
    )
}

/// A length of time in the unit people would use: `40 s`, `9 min`, `3 h`.
pub fn duration(seconds: f64) -> String {
    if seconds < 90.0 {
        format!("{} s", count(seconds))
    } else if seconds < 5400.0 {
        format!("{} min", count(seconds / 60.0))
    } else {
        format!("{} h", count(seconds / 3600.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        let cases = [
            (count(0.0), "0"),
            (count(999.4), "999"),
            (count(1204.0), "1,204"),
            (count(12_345_678.0), "12,345,678"),
            (count(-12_345.0), "-12,345"),
            (count(-123.0), "-123"),
            (grouped("-1204.5001"), "-1,204.5001"),
            (ratio(1.305), "1.30"),
            (ratio(11.46), "11.5"),
            (ratio(1200.0), "1,200"),
            (percent(0.2), "20 %"),
            (percent(0.0005), "0.05 %"),
            (percent(0.001), "0.1 %"),
            (percent(1.0), "100 %"),
            (percent(0.025), "2.5 %"),
            (amount(0.52), "0.52"),
            (amount(37.0), "37.0"),
            (amount(9999.0), "9,999"),
            (amount(52_000.0), "52.0 k"),
            (amount(536_870_912.0), "537 M"),
            (amount(1.5e9), "1.50 G"),
            (duration(40.0), "40 s"),
            (duration(540.0), "9 min"),
            (duration(10_800.0), "3 h"),
        ];
        for (written, wanted) in cases {
            assert_eq!(written, wanted);
        }
    }
}
