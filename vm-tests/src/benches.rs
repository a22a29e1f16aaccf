//! `vm-tests bench NAME [--quick] [--out FILE]`: benchmarks that need machines. Called by `cargo xtask bench`, after a release
//! build.

mod boot;
mod container;
mod throughput;

use std::fs;

use anyhow::{Context as _, bail};
use bench::outcome::{Outcome, plain};

pub(crate) use self::throughput::inside as inside_throughput;
use crate::{checks, report::say};

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// As the documents show it.
    Full,
    /// Enough to see that it works.
    Quick,
}

/// Runs a benchmark: its outcome goes to the file of `--out`, or to the terminal.
///
/// # Errors
/// If there is no such benchmark, or it cannot be run.
pub(crate) fn run(name: &str, options: &[&str]) -> anyhow::Result<()> {
    let (mut extent, mut out) = (Extent::Full, None);
    let mut options = options.iter();
    while let Some(&option) = options.next() {
        match option {
            "--quick" => extent = Extent::Quick,
            "--out" => out = Some(*options.next().context("--out names no file")?),
            other => bail!("bench: unknown option {other}: there are --quick and --out FILE"),
        }
    }
    let outcome: Outcome = match name {
        "boot" => boot::run(extent)?,
        "container" => container::run(extent)?,
        "inventory" => checks::hardware::bench(extent)?,
        "throughput" => throughput::run_machine(extent)?,
        other => bail!("there is no benchmark {other}: there are boot, container, inventory and throughput"),
    };
    let Some(out) = out else {
        say(plain(&outcome));
        return Ok(());
    };
    let text = serde_json::to_vec_pretty(&outcome).context("cannot write the outcome as JSON")?;
    fs::write(out, text).with_context(|| format!("cannot write {out}"))
}
