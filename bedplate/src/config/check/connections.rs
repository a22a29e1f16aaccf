//! `limits`.

use std::ops::RangeInclusive;

use api::problem::Diagnostic;

use super::super::{
    ConnectionLimits,
    raw::{Placed, Raw, diagnostic},
};

/// With fewer the agents of a small site, a boot and an admin would be in each other's way; more
/// than the kernel gives one process by default (`fs.nr_open`, proc_sys_fs(5)) cannot be had.
const CONNECTIONS: RangeInclusive<u32> = 64..=1_048_576;
const UNPROVEN: RangeInclusive<u32> = 16..=1_048_576;

/// One machine that boots has some four at a time.
const PER_ADDRESS: RangeInclusive<u32> = 8..=1_048_576;

/// Checks each, and that each is no more than what it is a part of.
pub(super) fn check(raw: &Raw, diagnostics: &mut Vec<Diagnostic>) -> ConnectionLimits {
    let all = one("connections", raw.connections.as_ref(), CONNECTIONS, diagnostics);
    let unproven =
        one("unproven-connections", raw.unproven_connections.as_ref(), UNPROVEN, diagnostics);
    let of_one =
        one("unproven-per-address", raw.unproven_per_address.as_ref(), PER_ADDRESS, diagnostics);
    for (key, part, whole, of) in [
        ("unproven-connections", &raw.unproven_connections, all, "connections"),
        (
            "unproven-per-address",
            &raw.unproven_per_address,
            unproven.or(all),
            "those that it is a part of",
        ),
    ] {
        if let (Some(part), Some(whole)) = (part, whole)
            && part.value as usize > whole
        {
            let message = format!("{} is more than {of}, {whole}", part.value);
            diagnostics.push(diagnostic(part.at, &format!("limits.{key}"), message, None));
        }
    }
    ConnectionLimits { connections: all, unproven, unproven_per_address: of_one }
}

fn one(
    key: &str,
    written: Option<&Placed<u32>>,
    range: RangeInclusive<u32>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<usize> {
    let written = written?;
    if !range.contains(&written.value) {
        let message =
            format!("{} is not between {} and {}", written.value, range.start(), range.end());
        let hint = "leave it out for the default".to_owned();
        diagnostics.push(diagnostic(written.at, &format!("limits.{key}"), message, Some(hint)));
    }
    Some(written.value as usize)
}
