//! Numbers in tar headers. Called by [`super`].
//!
//! Octal digits with blanks and NULs around them (POSIX.1-2017, `pax`, "ustar Interchange Format");
//! an empty field is 0, as Go's `archive/tar` has it. Or base 256, big-endian two's complement,
//! which a set top bit of the first byte tells (GNU tar's manual, "Extensions"): large sizes and
//! owners, times before 1970.

/// A field, if it is a number that 63 bits hold.
pub(super) fn field(bytes: &[u8]) -> Option<i64> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => base_256(bytes),
        _ => octal(bytes),
    }
}

/// A field that cannot be below zero.
pub(super) fn unsigned(bytes: &[u8]) -> Option<u64> {
    u64::try_from(field(bytes)?).ok()
}

fn octal(bytes: &[u8]) -> Option<i64> {
    let is_filling = |byte: &u8| matches!(byte, b' ' | 0);
    let start = bytes.iter().position(|byte| !is_filling(byte)).unwrap_or(bytes.len());
    let digits = &bytes[start..];
    let end = digits.iter().position(is_filling).unwrap_or(digits.len());
    digits[..end].iter().try_fold(0_i64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        number.checked_mul(8)?.checked_add(digit.into())
    })
}

/// The longest field has 12 bytes, which 128 bits hold.
fn base_256(bytes: &[u8]) -> Option<i64> {
    let (first, rest) = bytes.split_first()?;
    // The bit below the mark is the sign.
    let first =
        if first & 0x40 == 0 { i128::from(first & 0x7f) } else { i128::from(*first) - 0x100 };
    let number = rest.iter().take(15).fold(first, |number, byte| (number << 8) | i128::from(*byte));
    i64::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_writers_spell_them() {
        for (bytes, want) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"00000000017", Some(0o17)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"8", None),
            (b"-1", None),
            (b"\x80\0\0\0\0\x20\0\0", Some(0x20_0000)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00", Some(-256)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
        ] {
            assert_eq!(field(bytes), want, "{bytes:?}");
        }
        assert_eq!(unsigned(b"\xff\xff"), None);
    }
}
