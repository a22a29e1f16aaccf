//! The home of child processes: commands that end, and services that live until they are dropped.
//!
//! Every child dies with this program (`setpriv --pdeathsig`), so it must be started by a thread
//! that lives as long as it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{clock, memory::Peak};

/// How long a service may take to end when it is asked to, before it is killed.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Lines of a log that an error shows.
const SHOWN_LINES: usize = 12;

#[expect(clippy::disallowed_methods, reason = "the home of child processes")]
fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    // setpriv executes the program in its place, so its process id is the program's.
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).stdin(Stdio::null());
    command
}

/// Runs a command to its end, whatever its exit status.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn output<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: &[S],
) -> anyhow::Result<Output> {
    let program = program.as_ref();
    let output = command(program).args(arguments).output();
    output.with_context(|| format!("cannot start {}", program.display()))
}

/// Runs a command that must succeed and returns what it printed.
///
/// # Errors
/// If it cannot be started or ends with another status than 0; names the command and
/// its last words.
pub(crate) fn run<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: &[S],
) -> anyhow::Result<String> {
    let output = output(&program, arguments)?;
    if !output.status.success() {
        let line: Vec<_> =
            arguments.iter().map(|a| a.as_ref().to_string_lossy().into_owned()).collect();
        let words = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        let words = String::from_utf8_lossy(&words).trim_end().to_owned();
        bail!("{} {}: {}\n{words}", program.as_ref().display(), line.join(" "), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What running a script took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// From start to end.
    pub(crate) seconds: f64,
    /// The most anonymous memory that all its processes had together, MiB.
    pub(crate) peak_mib: f64,
}

/// Runs a bash script with `pipefail` that must succeed, and measures it. `arguments`
/// are `$1`, `$2`….
///
/// # Errors
/// As [`run`]; the script's last words are in the message.
pub(crate) fn script<S: AsRef<OsStr>>(
    script: &str,
    arguments: &[S],
    log: &Path,
) -> anyhow::Result<Cost> {
    let start = clock::now();
    let mut service = Service::start("bash", "bash", &bash(script, arguments), log)?;
    let peak = Peak::watch(service.id());
    let status = service.child.wait().context("cannot wait for bash")?;
    let seconds = start.elapsed().as_secs_f64();
    service.ended = true;
    let peak_mib = peak.mib();
    if !status.success() {
        bail!("a script failed ({status}):\n{}", last_lines(log));
    }
    Ok(Cost { seconds, peak_mib })
}

/// How a child that was attended ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// By itself.
    Status(ExitStatus),
    /// It was killed after its time.
    Late,
    /// It was killed because this program was asked to end.
    Stopped,
}

/// Runs a command that prints to where this program prints, for so long at most, and until somebody
/// wants this program to end.
///
/// # Errors
/// If it cannot be started or waited for.
pub(crate) fn attended<S: AsRef<OsStr>>(
    program: &Path,
    arguments: &[S],
    limit: Duration,
) -> anyhow::Result<End> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut command = tokio::process::Command::from(command(program));
        let started = command.args(arguments).spawn();
        let mut child = started.with_context(|| format!("cannot start {}", program.display()))?;
        let mut asked = signal(SignalKind::terminate())?;
        let end = tokio::select! {
            status = child.wait() => End::Status(status?),
            () = tokio::time::sleep(limit) => End::Late,
            _ = asked.recv() => End::Stopped,
            interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| End::Stopped)?,
        };
        child.kill().await.with_context(|| format!("cannot kill {}", program.display()))?;
        Ok(end)
    })
}

fn bash<S: AsRef<OsStr>>(script: &str, arguments: &[S]) -> Vec<std::ffi::OsString> {
    let start = ["-euo", "pipefail", "-c", script, "bench"];
    let given = arguments.iter().map(|argument| argument.as_ref().to_owned());
    start.iter().map(std::ffi::OsString::from).chain(given).collect()
}

/// A child that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Service {
    name: String,
    child: Child,
    log: PathBuf,
    ended: bool,
}

impl Service {
    /// Starts it; what it prints goes to `log`.
    ///
    /// # Errors
    /// If it cannot be started, or its log cannot be written.
    pub(crate) fn start<S: AsRef<OsStr>>(
        name: &str,
        program: impl AsRef<OsStr>,
        arguments: &[S],
        log: &Path,
    ) -> anyhow::Result<Self> {
        Self::start_with(name, program, arguments, log, &[])
    }

    /// The same with variables in its environment.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn start_with<S: AsRef<OsStr>>(
        name: &str,
        program: impl AsRef<OsStr>,
        arguments: &[S],
        log: &Path,
        environment: &[(&str, &OsStr)],
    ) -> anyhow::Result<Self> {
        let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let err = out.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
        let started = command(program.as_ref())
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(out)
            .stderr(err)
            .spawn();
        let child = started
            .with_context(|| format!("cannot start {name} ({})", program.as_ref().display()))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), ended: false })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `look` finds that it is ready.
    ///
    /// # Errors
    /// If it ends before, or the time is over; the last lines of its log are in the message.
    pub(crate) fn until(
        &mut self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> bool,
    ) -> anyhow::Result<()> {
        let what = format!("{} to {what}", self.name);
        let waited = clock::wait_for(&what, limit, || {
            self.check_alive()?;
            Ok(look().then_some(()))
        });
        waited.with_context(|| {
            format!("the last lines of {}:\n{}", self.log.display(), last_lines(&self.log))
        })
    }

    /// Fails if it has ended by itself.
    ///
    /// # Errors
    /// Names the service and its exit status.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        let ended =
            self.child.try_wait().with_context(|| format!("cannot look at {}", self.name))?;
        match ended {
            Some(status) => bail!("{} has ended: {status}", self.name),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let id = i32::try_from(self.child.id())?;
        kill(Pid::from_raw(id), Signal::SIGTERM)?;
        let ended = clock::wait_for("its end", END_LIMIT, || Ok(self.child.try_wait()?));
        if ended.is_err() {
            self.child.kill()?;
            self.child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if !self.ended && self.check_alive().is_ok() {
            // What cannot be ended dies with this program.
            let _ = self.end();
        }
    }
}

/// The last lines of a log.
pub(crate) fn last_lines(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}
