//! `bench run NAME…|all`: benchmarks beside the peers, started by `cargo xtask bench`. `bench measure NAME --out FILE` is one of them, started by
//! the former.
//!
//! | module | holds |
//! |---|---|
//! | [`session`] | one run: children, limits, what becomes of results |
//! | [`catalog`] | which benchmarks there are |
//! | [`turns`] | rounds |
//! | [`network`], [`ours`], [`process`], [`memory`], [`peers`], [`places`] | what they stand on |
//! | all others | a benchmark each |

mod catalog;
mod clock;
mod data;
mod dhcp;
mod document;
mod frame;
mod host;
mod http;
mod import;
mod layout;
mod memory;
mod network;
mod nodes;
mod ours;
mod overlays;
mod peers;
mod places;
mod planner_rate;
mod process;
mod register;
mod report;
mod session;
mod tftp;
mod turns;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use catalog::Name;
use clap::{Parser, ValueEnum as _};
use session::Session;

/// Benchmarks beside the peers.
#[derive(Debug, Parser)]
enum Command {
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

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Run { names, quick, json, write } => {
            let names = if names.is_empty() { Name::value_variants().to_vec() } else { names };
            Session { names, quick, json, write }.run()
        }
        Command::Measure { name, quick, out } => measure(name, quick, &out).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::complain(format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn measure(name: Name, quick: bool, out: &std::path::Path) -> anyhow::Result<()> {
    let text = serde_json::to_vec_pretty(&frame::Frame::with(quick, name)?)?;
    std::fs::write(out, text).with_context(|| format!("cannot write {}", out.display()))
}
