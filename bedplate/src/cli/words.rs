//! Sizes, ages and lists as people read them, and durations as people write them.

use std::time::Duration;

use api::ids::Timestamp;

/// `1.5 GiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut divisor = 1_u64;
    while unit + 1 < UNITS.len() && bytes / divisor >= 1024 {
        divisor *= 1024;
        unit += 1;
    }
    let tenths = u128::from(bytes) * 10 / u128::from(divisor);
    if unit == 0 || tenths % 10 == 0 || tenths >= 1000 {
        format!("{} {}", tenths / 10, UNITS[unit])
    } else {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

/// How long ago, in its largest unit: `45s`, `3m`, `5h`, `2d`.
pub(super) fn age(then: Timestamp, now: Timestamp) -> String {
    match now.seconds().saturating_sub(then.seconds()).max(0) {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// A length of time in its two largest units: `45s`, `3m 5s`, `5h 0m`.
pub(super) fn span(from: Timestamp, to: Timestamp) -> String {
    match to.seconds().saturating_sub(from.seconds()).max(0) {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        seconds => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A length of time from milliseconds: `0.7 s`, `1 m 17 s`, `2 h 3 m`.
pub(super) fn milliseconds(milliseconds: u64) -> String {
    match milliseconds {
        short @ 0..60_000 => format!("{}.{} s", short / 1000, short % 1000 / 100),
        minutes @ 60_000..3_600_000 => {
            format!("{} m {} s", minutes / 60_000, minutes % 60_000 / 1000)
        }
        hours => format!("{} h {} m", hours / 3_600_000, hours % 3_600_000 / 60_000),
    }
}

/// Text, or `-` where there is none.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `1 node`, `2 nodes`.
pub(super) fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// Numbers as ranges: `0-3,8`.
pub(super) fn ranges(numbers: &[u32]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in sorted {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let text = |(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

/// A text that is no length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write seconds, or a number with s, m, h or d, such as 10m")]
pub(super) struct NotADuration;

/// Reads `90`, `90s`, `10m`, `2h`, `7d`.
pub(super) fn duration(text: &str) -> Result<Duration, NotADuration> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => 0,
    };
    match digits.parse::<u32>() {
        Ok(number) if factor > 0 => Ok(Duration::from_secs(u64::from(number) * factor)),
        _ => Err(NotADuration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_at_most_three_digits_or_one_decimal() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (4 << 30, "4 GiB"),
            ((2000 << 30) + 1, "1.9 TiB"),
            (u64::MAX, "16383 PiB"),
            (150 * 1_048_576 + 600_000, "150 MiB"),
        ];
        assert_eq!(cases.map(|(bytes, _)| size(bytes)), cases.map(|(_, text)| text));
    }

    #[test]
    fn ages_have_one_unit() {
        let ages = [0, 59, 60, 3599, 3600, 86_399, 86_400 * 3]
            .map(|seconds| age(Timestamp(1_000_000), Timestamp(1_000_000).plus_seconds(seconds)));
        assert_eq!(ages, ["0s", "59s", "1m", "59m", "1h", "23h", "3d"]);
        assert_eq!(age(Timestamp(9_000_000), Timestamp(0)), "0s", "a clock that is behind");
    }

    #[test]
    fn spans_have_two_units() {
        let start = Timestamp(1_000_000);
        let spans =
            [0, 59, 60, 3599, 3600, 90_000].map(|seconds| span(start, start.plus_seconds(seconds)));
        assert_eq!(spans, ["0s", "59s", "1m 0s", "59m 59s", "1h 0m", "25h 0m"]);
    }

    #[test]
    fn milliseconds_have_tenths_or_two_units() {
        let cases = [0, 99, 59_999, 60_000, 3_599_999, 3_600_000, 90_061_000].map(milliseconds);
        assert_eq!(
            cases,
            ["0.0 s", "0.0 s", "59.9 s", "1 m 0 s", "59 m 59 s", "1 h 0 m", "25 h 1 m"]
        );
    }

    #[test]
    fn neighbours_join() {
        assert_eq!(ranges(&[3, 1, 2, 8, 10, 9]), "1-3,8-10");
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[u32::MAX, 0]), "0,4294967295");
    }

    #[test]
    fn durations() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "m", "10w", "-1", "1.5h", "99999999999"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
