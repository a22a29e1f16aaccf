//! `vm-tests bench NAME [--quick] [--out FILE]`: benchmarks that need machines. Called by
//! `cargo xtask bench`, after a release build. `vm-tests bench throughput --profile` shows where
//! ours spends its time instead.

mod boot;
mod container;
mod throughput;

use std::fs;

use anyhow::{Context as _, bail, ensure};
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
    let (mut extent, mut profile, mut out) = (Extent::Full, false, None);
    let mut options = options.iter();
    while let Some(&option) = options.next() {
        match option {
            "--quick" => extent = Extent::Quick,
            "--profile" => profile = true,
            "--out" => out = Some(*options.next().context("--out names no file")?),
            other => {
                bail!("bench: unknown option {other}: there are --quick, --profile and --out FILE")
            }
        }
    }
    if profile {
        ensure!(name == "throughput", "bench: only throughput has --profile");
        return throughput::profile();
    }
    let outcome: Outcome = match name {
        "boot" => boot::run(extent)?,
        "container" => container::run(extent)?,
        "inventory" => checks::hardware::bench(extent)?,
        "throughput" => throughput::measure(extent)?,
        other => bail!(
            "there is no benchmark {other}: there are boot, container, inventory and throughput"
        ),
    };
    let Some(out) = out else {
        say(plain(&outcome));
        return Ok(());
    };
    let text = serde_json::to_vec_pretty(&outcome).context("cannot write the outcome as JSON")?;
    fs::write(out, text).with_context(|| format!("cannot write {out}"))
}
