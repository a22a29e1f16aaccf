//! Standard error of the command line: what is said beside the output.

use std::io::{self, Write as _};

use api::visible;

/// Says something beside the output, on standard error. Nobody is left to tell if that fails.
pub(super) fn print_note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", visible::lines(text));
}
