//! Documents that people hand in: read, and told what is wrong with them.

use std::{io::Read as _, path::Path};

use anyhow::Context as _;
use client::ClientError;

use super::output::print_note;

/// The name for messages, and the text. `-` is standard input.
pub(super) fn read(path: &Path) -> anyhow::Result<(String, String)> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(("standard input".to_owned(), text));
    }
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok((path.display().to_string(), text))
}

/// Says every mistake of the document on a line of its own; what is left is the error.
pub(super) fn print_diagnostics(file: &str, error: ClientError) -> anyhow::Error {
    let ClientError::Refused(mut problem) = error else { return error.into() };
    for diagnostic in problem.diagnostics.drain(..) {
        print_note(&format!("{file}:{diagnostic}"));
    }
    ClientError::Refused(problem).into()
}
