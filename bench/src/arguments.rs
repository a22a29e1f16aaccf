//! What the program is asked to do.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, ValueEnum as _};

use crate::{catalog::Name, session::Session};

/// Benchmarks beside the peers.
#[derive(Debug, Parser)]
pub(crate) enum Command {
    /// Run benchmarks and print what they found.
    Run {
        /// Which; none for all.
        names: Vec<Name>,
        /// A smoke test: small sizes, one or two rounds.
        #[arg(long)]
        quick: bool,
        /// Also write all outcomes to this file.
        #[arg(long)]
        json: Option<PathBuf>,
        /// Also put the tables into docs/benchmarks.md.
        #[arg(long)]
        write: bool,
    },
    /// Run one in this process.
    Measure {
        /// Which.
        name: Name,
        /// As above.
        #[arg(long)]
        quick: bool,
        /// Where the outcome goes.
        #[arg(long)]
        out: PathBuf,
    },
}

impl Command {
    /// Does it; false if a benchmark has not measured our side.
    ///
    /// # Errors
    /// What failed.
    pub(crate) fn run(self) -> anyhow::Result<bool> {
        match self {
            Self::Run { names, quick, json, write } => {
                let names = if names.is_empty() { Name::value_variants().to_vec() } else { names };
                Session { names, quick, json, write }.run()
            }
            Self::Measure { name, quick, out } => {
                let text = serde_json::to_vec_pretty(&name.run(quick)?)?;
                std::fs::write(&out, text)
                    .with_context(|| format!("cannot write {}", out.display()))?;
                Ok(true)
            }
        }
    }
}
