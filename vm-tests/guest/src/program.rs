//! Other programs, which are started nowhere else in here.

use std::process::Command;

/// A program to be started.
#[expect(clippy::disallowed_methods, reason = "the only home of other programs in here")]
pub(crate) fn program(path: &str) -> Command {
    Command::new(path)
}
