//! How long and how large the audit log is kept: `audit.keep-days`, `audit.max-gib`.

use access::AuditKeep;
use api::problem::Diagnostic;

use crate::config::raw::{Placed, Raw, diagnostic};

/// Longest time, days: a hundred years.
const MAX_DAYS: u32 = 36_500;

/// Largest size, GiB: 1 PiB.
const MAX_GIB: u32 = 1 << 20;

pub(super) fn check(raw: &Raw, diagnostics: &mut Vec<Diagnostic>) -> AuditKeep {
    let mut read = |written: &Option<Placed<u32>>, key: &str, most: u32| {
        let written = written.as_ref()?;
        if !(1..=most).contains(&written.value) {
            let message = format!("{} is not between 1 and {most}", written.value);
            diagnostics.push(diagnostic(written.at, key, message, None));
        }
        Some(written.value)
    };
    let days = read(&raw.audit_keep_days, "audit.keep-days", MAX_DAYS);
    let gib = read(&raw.audit_max_gib, "audit.max-gib", MAX_GIB);
    let max_bytes = gib.map_or(AuditKeep::DEFAULT.max_bytes, |gib| Some(u64::from(gib) << 30));
    AuditKeep { days, max_bytes }
}
