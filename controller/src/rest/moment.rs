//! Times as people write them in a query.

use api::ids::Timestamp;

/// Longest time that is read, characters.
const MAX_LENGTH: usize = 40;

/// A time: `2026-11-30` (its beginning, UTC), `2026-11-30T12:00:00Z` or with an offset (RFC 3339,
/// section 5.6; fractions of a second are not read), or how long before `now`: `90s`, `10m`, `2h`,
/// `7d`. `None` if it is none.
pub(super) fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if text.len() > MAX_LENGTH || !text.is_ascii() {
        return None;
    }
    if let Some(seconds) = length(text) {
        return Some(now.plus_seconds(-seconds));
    }
    let days = day(text.get(..10)?)?;
    let seconds = match text.get(10..)? {
        "" => 0,
        time => of_day(time.strip_prefix(['T', 't', ' '])?)?,
    };
    Some(Timestamp(0).plus_seconds(days * 86_400 + seconds))
}

/// Why a text is refused that is no time, and what would be one. `name`: of what it should be.
pub(super) fn no_moment(name: &str, text: &str) -> String {
    format!(
        "{name} is a time such as 2026-11-30, 2026-11-30T12:00:00Z or 2026-11-30T12:00:00+01:00, or how \
         long ago: 90s, 10m, 2h, 7d; not {text:?}"
    )
}

/// Seconds of `90s`, `10m`, `2h`, `7d`.
fn length(text: &str) -> Option<i64> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    Some(i64::from(number(digits, 1..=9)?) * factor)
}

/// Days from 1970-01-01 to `YYYY-MM-DD`, from that day on.
fn day(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let mut part = |digits: usize| number(parts.next()?, digits..=digits);
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let of_month = match month {
        2 => 28 + u32::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if parts.next().is_some() || year < 1970 || !(1..=of_month).contains(&day) {
        return None;
    }
    // Years start in March, so that the leap day is their last: days of the years before, of the
    // months before, and of the month.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some(i64::from(days) - 719_468)
}

/// Seconds from the beginning of the day, UTC, of `HH:MM[:SS]` and `Z` or `+HH:MM`.
fn of_day(text: &str) -> Option<i64> {
    let at = text.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = text.split_at(at);
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let seconds = clock(zone.get(1..)?, 2)?;
            if zone.starts_with('-') { -seconds } else { seconds }
        }
    };
    Some(clock(time, 3)? - offset)
}

/// Seconds of `HH:MM`, and of `HH:MM:SS` where three parts are read.
fn clock(text: &str, most: usize) -> Option<i64> {
    let parts: Vec<&str> = text.split(':').collect();
    if !(2..=most).contains(&parts.len()) {
        return None;
    }
    let mut seconds = 0;
    for (part, (unit, below)) in parts.into_iter().zip([(3600, 24), (60, 60), (1, 60)]) {
        let part = number(part, 2..=2).filter(|part| *part < below)?;
        seconds += i64::from(part) * unit;
    }
    Some(seconds)
}

/// A number of so many digits and nothing else.
fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let is_good = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_good { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read() {
        let now = Timestamp(1_795_464_100_000_000);
        let shown = |text: &str| moment(text, now).map(|time| time.to_string());
        for (text, time) in [
            ("2026-11-23", "2026-11-23T00:00:00Z"),
            ("2024-02-29T23:59:59Z", "2024-02-29T23:59:59Z"),
            ("2026-11-30 12:00Z", "2026-11-30T12:00:00Z"),
            ("2026-11-30T00:30:00+01:00", "2026-11-29T23:30:00Z"),
            ("2026-11-30T23:30:00-01:00", "2026-12-01T00:30:00Z"),
            ("100s", "2026-11-23T20:00:00Z"),
            ("2h", "2026-11-23T18:01:40Z"),
            ("7d", "2026-11-16T20:01:40Z"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(time), "{text}");
        }
        for wrong in [
            "",
            "s",
            "7",
            "-7d",
            "7w",
            "9999999999d",
            "2026-11",
            "2026-02-29",
            "2026-13-01",
            "1969-12-31",
            "2026-11-30T24:00Z",
            "2026-11-30T12:00",
            "2026-11-30T12Z",
            "2026-11-30T12:00:00+1:00",
            "2026-11-30T12:00:00.5Z",
            "2026-11-30x",
            "2026-1é-30",
            "+026-11-30",
        ] {
            assert_eq!(shown(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read(seconds in 0_i64..253_402_300_799) {
            let time = Timestamp(seconds * 1_000_000);
            prop_assert_eq!(moment(&time.to_string(), Timestamp(0)), Some(time));
        }

        #[test]
        fn nothing_panics(text in ".{0,50}") {
            moment(&text, Timestamp(0));
        }
    }
}
