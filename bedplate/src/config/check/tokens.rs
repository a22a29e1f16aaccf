//! How long tokens live: `api.token-days`, `api.token-max-days`.

use std::time::Duration;

use access::TokenLimits;
use api::problem::Diagnostic;

use crate::config::raw::{Placed, Raw, diagnostic};

/// Longest life of a token, days: that of the certificate authority, ten years.
const MAX_DAYS: u32 = 3_650;

pub(super) fn check(raw: &Raw, diagnostics: &mut Vec<Diagnostic>) -> TokenLimits {
    let mut read = |written: &Option<Placed<u32>>, key: &str| {
        let days = written.as_ref()?;
        if !(1..=MAX_DAYS).contains(&days.value) {
            let message = format!("{} is not between 1 and {MAX_DAYS}", days.value);
            diagnostics.push(diagnostic(days.at, key, message, None));
        }
        Some(Duration::from_secs(u64::from(days.value) * 86_400))
    };
    let default_life = read(&raw.token_days, "api.token-days");
    let longest_life = read(&raw.token_max_days, "api.token-max-days");
    if let (Some(days), Some(life), Some(longest)) = (&raw.token_days, default_life, longest_life)
        && life > longest
    {
        let message = format!("{} is more than api.token-max-days", days.value);
        diagnostics.push(diagnostic(days.at, "api.token-days", message, None));
    }
    let limits = TokenLimits::default();
    TokenLimits { default_life: default_life.unwrap_or(limits.default_life), longest_life }
}
