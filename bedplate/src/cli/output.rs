//! Standard output: a table for people; JSON, YAML or CSV for programs.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;

use super::{error::Usage, table::Look};

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Lines for people.
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// Lines with commas (RFC 4180), where there are columns.
    Csv,
}

/// Where values go.
#[derive(Debug)]
pub(super) struct Stdout {
    asked: Option<Format>,
    /// What the screen can do.
    pub(super) look: Look,
}

impl Stdout {
    pub(super) fn new(asked: Option<Format>) -> Self {
        let terminal = io::stdout().is_terminal();
        let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { asked, look: Look { terminal, color } }
    }

    /// The format to print in.
    pub(super) fn format(&self) -> Format {
        self.asked.unwrap_or(Format::Table)
    }

    /// Whether `-o` was given.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Refuses `-o` for what has one form only.
    pub(super) fn refuse_format(&self, verb: &str) -> Result<(), Usage> {
        match self.asked {
            Some(_) => Err(Usage(format!("{verb} has one form of output: leave out -o"))),
            None => Ok(()),
        }
    }

    /// Prints a value, in a table as `text` says.
    pub(super) fn show<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&Look) -> String,
    ) -> anyhow::Result<()> {
        let text = match self.format() {
            Format::Table => text(&self.look),
            Format::Json => json(value)?,
            Format::Yaml => yaml(value)?,
            Format::Csv => return Err(no_csv().into()),
        };
        print(&text)
    }

    /// Prints one value of many that come one after the other: JSON is one line each, YAML one document each.
    pub(super) fn stream<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&Look) -> String,
    ) -> anyhow::Result<()> {
        let text = match self.format() {
            Format::Table => text(&self.look),
            Format::Json => serde_json::to_string(value).context("cannot write as JSON")? + "\n",
            Format::Yaml => "---\n".to_owned() + &yaml(value)?,
            Format::Csv => return Err(no_csv().into()),
        };
        print(&text)
    }
}

fn no_csv() -> Usage {
    Usage("this has no columns: use -o json or -o yaml (`bedplate inventory query` has CSV)".to_owned())
}

/// Prints text as it is.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes())
}

/// Prints bytes as they are.
pub(super) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).context("cannot write to standard output")
}

/// Says something beside the output, on standard error. Nobody is left to tell if that fails.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn json<T: Serialize>(value: &T) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value).context("cannot write as JSON")? + "\n")
}

fn yaml<T: Serialize>(value: &T) -> anyhow::Result<String> {
    let mut text = serde_saphyr::to_string(value).context("cannot write as YAML")?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}
