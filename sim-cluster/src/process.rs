//! The home of child processes: commands that set the network up, and the server.

use std::{
    ffi::{OsStr, OsString},
    fs::OpenOptions,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, bail};

#[expect(clippy::disallowed_methods, reason = "the home of child processes")]
fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// Runs a command that must succeed.
///
/// # Errors
/// If it cannot be started or ends with another status than 0; names the command and its words.
pub(crate) fn run(line: &str) -> anyhow::Result<()> {
    let mut words = line.split_whitespace();
    let program = words.next().context("an empty command")?;
    let output =
        command(program).args(words).output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{line}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}

/// Starts a program that lives until it is killed or this process ends; what it prints is appended
/// to `log`. `network` is the path of the network namespace that it lives in; `environment` are
/// further variables.
///
/// It dies with the thread that calls this (`PR_SET_PDEATHSIG`), so that must be one that stays.
///
/// # Errors
/// If it cannot be started, or the log not be written.
pub(crate) fn start(
    network: &Path,
    program: &Path,
    arguments: &[&OsStr],
    environment: Vec<(&'static str, OsString)>,
    log: &Path,
) -> anyhow::Result<Child> {
    let open = || OpenOptions::new().create(true).append(true).open(log);
    let out = open().with_context(|| format!("cannot write {}", log.display()))?;
    let err = out.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
    // Both execute what comes after them in their own place, so the process id is the program's.
    command("setpriv")
        .args(["--pdeathsig", "KILL", "--", "nsenter"])
        .arg(format!("--net={}", network.display()))
        .arg("--")
        .arg(program)
        .args(arguments)
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}

/// What a program prints that must succeed, run in a network namespace.
///
/// # Errors
/// If it cannot be started or ends with another status than 0; names its words, and what it said.
pub(crate) fn output(
    network: &Path,
    program: &Path,
    arguments: &[&str],
    context: &Path,
) -> anyhow::Result<String> {
    let output = command("nsenter")
        .arg(format!("--net={}", network.display()))
        .arg("--")
        .arg(program)
        .args(arguments)
        .env("BEDPLATE_CONTEXT", context)
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}\n{words}{error}", arguments.join(" "), output.status);
    }
    Ok(words)
}
