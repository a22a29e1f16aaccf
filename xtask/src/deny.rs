//! `cargo xtask deny`: what may become part of our programs, as `deny.toml` says,
//! held by cargo-deny.

use crate::run::run;

/// Runs the pinned cargo-deny, and gets it first if it is not there.
const CARGO_DENY: &str = "xtask/cargo-deny.sh";

/// Checks licences, bans and sources of all crates of `Cargo.lock`; with `advisories` also what
/// is known of their vulnerabilities. The database of those is a repository on GitHub, which CI
/// does not reach.
///
/// # Errors
/// If cargo-deny cannot be had, or finds anything.
#[expect(clippy::print_stdout, reason = "a program for the terminal")]
pub(crate) fn deny(advisories: bool) -> anyhow::Result<()> {
    run(CARGO_DENY, &["--locked", "check", "licenses", "bans", "sources"])?;
    if advisories {
        return run(CARGO_DENY, &["--locked", "check", "advisories"]);
    }
    println!(
        "deny: advisories were not checked, since their database is on GitHub; \
         where that can be reached: cargo xtask deny --advisories"
    );
    Ok(())
}
