//! Starting children: every command that xtask runs is printed and checked here.

use std::{
    ffi::OsStr,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// Runs a command in the foreground.
///
/// # Errors
/// If it cannot be started or ends with another status than 0; names the command.
pub(crate) fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let line = format!("{program} {}", arguments.join(" "));
    step(&line);
    let status = command(program)
        .args(arguments)
        .status()
        .with_context(|| format!("cannot start {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

/// Builds everything that is measured or simulated, optimised. Always all of it: what is built
/// together shares features, and other ones would build the server again, which takes minutes.
///
/// # Errors
/// If the build fails.
pub(crate) fn build_optimised() -> anyhow::Result<()> {
    let packages =
        ["bedplate", "bench", "drop-writes", "sim-cluster"].map(|name| ["--package", name]);
    run("cargo", &[&["build", "--quiet", "--release"], packages.as_flattened()].concat())
}

/// What a command prints.
///
/// # Errors
/// As [`run`].
pub(crate) fn output(program: &str, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
    let line = format!("{program} {}", arguments.join(" "));
    let output = command(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot start {line}"))?;
    if !output.status.success() {
        bail!("{line}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}

/// A command that does not see what cargo told this program of its own package. Build scripts look
/// at that (ring's does), and what was built by hand would be built again here, and the other way
/// round, with all that depends on it.
#[expect(clippy::disallowed_methods, reason = "the home of child processes in xtask")]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let told = ["CARGO_PKG_", "CARGO_MANIFEST_"];
        if name.to_str().is_some_and(|name| told.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    command
}

/// How long `work` took.
///
/// # Errors
/// Those of `work`.
pub(crate) fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, Duration)> {
    #[expect(clippy::disallowed_methods, reason = "the home of the clock in xtask")]
    let start = Instant::now();
    let value = work()?;
    Ok((value, start.elapsed()))
}

#[expect(clippy::print_stderr, reason = "a program for the terminal")]
fn step(line: &str) {
    eprintln!("== {line}");
}
