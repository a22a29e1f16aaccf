//! Sizes and durations as people write them.

/// Bytes: a number, with or without decimals, and a unit; without a unit bytes. `KB`, `MB`… count
/// in thousands, `KiB`, `MiB`… in 1,024; case does not count.
pub(crate) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && part.is_empty()) || part.len() > 9 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let part = if part.is_empty() {
        0
    } else {
        let scale = 10_u128.pow(u32::try_from(part.len()).ok()?);
        u64::try_from(part.parse::<u128>().ok()? * u128::from(factor) / scale).ok()?
    };
    whole.checked_add(part).filter(|bytes| *bytes > 0)
}

/// Seconds: numbers with `s`, `m`, `h` or `d`, largest first, as in `1h30m`; without
/// a unit seconds.
pub(crate) fn duration(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if let Ok(seconds) = rest.parse::<u64>() {
        return (seconds > 0).then_some(seconds);
    }
    let (mut total, mut last) = (0_u64, u64::MAX);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit = match tail.chars().next()? {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        if unit >= last {
            return None;
        }
        last = unit;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = &tail[1..];
    }
    (total > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("32KiB", 32 << 10),
            ("1GB", 1_000_000_000),
            ("0.5GiB", 1 << 29),
            ("1.5 gib", 3 << 29),
            ("7", 7),
            ("2t", 2_000_000_000_000),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "GB", "1.GB", ".5GB", "-1GB", "1XB", "1e3", "0", "99999999999TiB", "1,5GB"]
        {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in
            [("2h", 7_200), ("30m", 1_800), ("1h30m", 5_400), ("90s", 90), ("5", 5), ("1d", 86_400)]
        {
            assert_eq!(duration(text), Some(seconds), "{text}");
        }
        for text in ["", "0s", "m", "5x", "30m1h", "1m1m", "1h 30m", "-1s", "99999999999999999999h"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
