//! `cargo xtask fuzz NAME`: runs a target of `fuzz/` under cargo-fuzz, for a while; by hand, and in
//! no lane. What the lanes replay is `fuzz/corpus`, to which `--minimise` adds what reaches more.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::run::{output, run};

/// The workspace of the programs.
const RUNNER: &str = "fuzz/runner";

/// Inputs that are kept and replayed, one directory for each target.
const CORPUS: &str = "fuzz/corpus";

/// Inputs that fuzzers found, which are kept out of the repository.
const FOUND: &str = "target/fuzz/found";

/// Longest input, bytes: all that is parsed here has its mistakes in less.
const MAX_INPUT_BYTES: u32 = 16 << 10;

/// What one input may take, seconds under the sanitizer.
const MAX_INPUT_SECONDS: u32 = 20;

/// Memory of the fuzzer, MiB: the sanitizer takes some times what the parser does.
const MAX_MEMORY_MIB: u32 = 4096;

/// What is run.
#[derive(Debug, clap::Args)]
pub(crate) struct Fuzz {
    /// Name of the target: a directory of fuzz/corpus.
    name: String,
    /// How long, seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Afterwards, put what reaches more than the corpus into it.
    #[arg(long)]
    minimise: bool,
}

/// Builds the target and runs it. An input that breaks something is under
/// fuzz/runner/artifacts/NAME; put it into fuzz/corpus/NAME, so that it is replayed ever after.
///
/// # Errors
/// If there is no such target, cargo-fuzz or nightly is missing, or an input breaks something.
pub(crate) fn fuzz(fuzz: &Fuzz) -> anyhow::Result<()> {
    let corpus = format!("{CORPUS}/{}", fuzz.name);
    check_name(&fuzz.name, &corpus)?;
    output("cargo", &["+nightly", "--version"]).context(
        "fuzzing needs a nightly compiler: `rustup toolchain install nightly --profile minimal`",
    )?;
    output("cargo", &["fuzz", "--version"])
        .context("fuzzing needs cargo-fuzz: `cargo install cargo-fuzz --locked` (some minutes)")?;
    // The same versions of libraries as everything else has; cargo adds libFuzzer to them.
    std::fs::copy("Cargo.lock", format!("{RUNNER}/Cargo.lock"))
        .context("cannot copy Cargo.lock")?;
    let found = format!("{FOUND}/{}", fuzz.name);
    std::fs::create_dir_all(&found).with_context(|| format!("cannot make {found}"))?;
    let limits = [
        format!("-max_len={MAX_INPUT_BYTES}"),
        format!("-timeout={MAX_INPUT_SECONDS}"),
        format!("-rss_limit_mb={MAX_MEMORY_MIB}"),
    ];
    let limits = limits.each_ref().map(String::as_str);
    let time = format!("-max_total_time={}", fuzz.seconds);
    // The first directory is the one that is written to.
    run_target(
        &fuzz.name,
        [found.as_str(), corpus.as_str()],
        &[&limits[..], &[time.as_str()]].concat(),
    )?;
    if fuzz.minimise {
        run_target(
            &fuzz.name,
            [corpus.as_str(), found.as_str()],
            &[&limits[..], &["-merge=1"]].concat(),
        )?;
    }
    Ok(())
}

fn run_target(name: &str, [into, from]: [&str; 2], options: &[&str]) -> anyhow::Result<()> {
    // -O: what is asserted is what fuzz/runner/Cargo.toml says.
    let fuzz =
        ["+nightly", "fuzz", "run", "--fuzz-dir", RUNNER, "--target-dir", "target/fuzz", "-O"];
    run("cargo", &[&fuzz[..], &[name, into, from, "--"], options].concat())
}

fn check_name(name: &str, corpus: &str) -> anyhow::Result<()> {
    if !name.is_empty() && !name.contains(['/', '.']) && Path::new(corpus).is_dir() {
        return Ok(());
    }
    let entries = std::fs::read_dir(CORPUS).with_context(|| format!("cannot read {CORPUS}"))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    bail!("there is no fuzz target {name:?}; there are {}", names.join(", "))
}
