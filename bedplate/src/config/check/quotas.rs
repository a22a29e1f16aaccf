//! `quotas`.

use access::QuotaLimits;
use api::{
    problem::Diagnostic,
    quota::{QuotaName, parse_limit},
};

use super::super::raw::{Raw, diagnostic};

/// The limits of everybody: the defaults, and what is written over them.
pub(super) fn check(raw: &Raw, diagnostics: &mut Vec<Diagnostic>) -> QuotaLimits {
    let mut limits = QuotaLimits::default();
    for (name, written) in &raw.quotas {
        let path = format!("quotas.{}", name.as_str());
        match parse_limit(name.unit(), &written.value) {
            Ok(Some(0)) if *name == QuotaName::Requests => {
                let hint = Some("1 is the least".to_owned());
                let message = "without requests nobody but admins could do anything".to_owned();
                diagnostics.push(diagnostic(written.at, &path, message, hint));
            }
            Ok(limit) => limits.set(*name, limit),
            Err(error) => diagnostics.push(diagnostic(written.at, &path, error.to_string(), None)),
        }
    }
    limits
}
