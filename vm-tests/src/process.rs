//! The home of child processes: commands that end, and services that live until they are dropped.
//!
//! A service dies with the harness (`setpriv --pdeathsig`). One whose pid file outlived a crash
//! is killed by the next run, if the process of that number still has a path of `target/vm` on
//! its command line.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};

use crate::{checkout_paths::CheckoutPaths, clock, console};

/// The emulator of x86-64 machines.
pub(crate) const QEMU: &str = "qemu-system-x86_64";

#[expect(clippy::disallowed_methods, reason = "the home of child processes")]
fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// Runs a command to its end, whatever its exit status; `input` goes to its standard input.
///
/// # Errors
/// If it cannot be started or fed.
pub(crate) fn output<S: AsRef<OsStr>>(
    program: &str,
    arguments: &[S],
    input: &[u8],
) -> anyhow::Result<Output> {
    let started = command(program)
        .args(arguments)
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = started.with_context(|| format!("cannot start {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read all of it says why by its exit status.
        let _ = stdin.write_all(input);
    }
    child.wait_with_output().with_context(|| format!("cannot wait for {program}"))
}

/// Runs a command that must succeed and returns what it printed.
///
/// # Errors
/// If it cannot be started or ends with another status than 0; names the command and
/// its last words.
pub(crate) fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> anyhow::Result<String> {
    let output = output(program, arguments, b"")?;
    if !output.status.success() {
        let line: Vec<_> =
            arguments.iter().map(|a| a.as_ref().to_string_lossy().into_owned()).collect();
        bail!("{program} {}: {}\n{}", line.join(" "), output.status, words(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a long command: all that it prints goes to `log`, lines that begin with `mark`
/// also to `show`.
///
/// # Errors
/// If it cannot be started or ends with another status than 0; the last lines of the log are
/// in the message.
pub(crate) fn run_logged<S: AsRef<OsStr>>(
    program: &Path,
    arguments: &[S],
    log: &Path,
    mark: &str,
    show: impl Fn(&str),
) -> anyhow::Result<()> {
    let shown = program.display();
    let mut file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let err = file.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
    let started = command(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(err)
        .spawn();
    let mut child = started.with_context(|| format!("cannot start {shown}"))?;
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines() {
            let line = line.with_context(|| format!("cannot read what {shown} prints"))?;
            writeln!(file, "{line}").with_context(|| format!("cannot write {}", log.display()))?;
            if line.starts_with(mark) {
                show(&line);
            }
        }
    }
    let status = child.wait().with_context(|| format!("cannot wait for {shown}"))?;
    if !status.success() {
        bail!(
            "{shown}: {status}; the last lines of {}:\n{}",
            log.display(),
            console::last_lines(log, 20)
        );
    }
    Ok(())
}

/// Everything that a command printed, for messages.
pub(crate) fn words(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).trim_end().to_owned()
}

/// A child that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Service {
    name: String,
    child: Child,
    pid_file: PathBuf,
    ended: bool,
}

impl Service {
    /// Starts it; what it prints is appended to `log`.
    ///
    /// # Errors
    /// If it cannot be started, or its files cannot be written.
    pub(crate) fn start(
        checkout_paths: &CheckoutPaths,
        name: &str,
        program: &Path,
        arguments: &[String],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let open = || OpenOptions::new().create(true).append(true).open(log);
        let out: File = open().with_context(|| format!("cannot write {}", log.display()))?;
        let err = out.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
        // setpriv executes the program in its place, so its process id is the program's.
        let child = command("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", program.display()))?;
        let pid_file = checkout_paths.pids().join(format!("{name}.pid"));
        let service = Self { name: name.to_owned(), child, pid_file, ended: false };
        fs::write(&service.pid_file, format!("{}\n", service.child.id()))
            .with_context(|| format!("cannot write {}", service.pid_file.display()))?;
        Ok(service)
    }

    /// Fails if it has ended by itself.
    ///
    /// # Errors
    /// Names the service and its exit status.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        if let Some(status) =
            self.child.try_wait().with_context(|| format!("cannot look at {}", self.name))?
        {
            bail!("{} has ended: {status}", self.name);
        }
        Ok(())
    }

    /// Its exit code, once it has ended by itself.
    ///
    /// # Errors
    /// If the system does not tell.
    pub(crate) fn exit_code(&mut self) -> anyhow::Result<Option<i32>> {
        let status =
            self.child.try_wait().with_context(|| format!("cannot look at {}", self.name))?;
        Ok(status.map(|status| status.code().unwrap_or(-1)))
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().with_context(|| format!("cannot kill {}", self.name))?;
        self.child.wait().with_context(|| format!("cannot wait for {}", self.name))?;
        self.ended = true;
        let _ = fs::remove_file(&self.pid_file);
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The pid file may be that of its successor.
        if !self.ended {
            // It may have ended by itself; then there is nothing to kill.
            let _ = self.kill();
        }
    }
}

/// Kills what a crashed run left.
///
/// # Errors
/// If a process of an earlier run does not go away.
pub(crate) fn kill_leftovers(checkout_paths: &CheckoutPaths) -> anyhow::Result<()> {
    let Ok(entries) = fs::read_dir(checkout_paths.pids()) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<i32>().ok());
        if let Some(pid) = pid
            && is_ours(checkout_paths, pid)
        {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
            let name = entry.file_name().to_string_lossy().into_owned();
            clock::wait_for(
                &format!("process {pid} of an earlier run ({name}) to go"),
                Duration::from_secs(10),
                || Ok((!is_ours(checkout_paths, pid)).then_some(())),
            )?;
        }
        let _ = fs::remove_file(path);
    }
    Ok(())
}

fn is_ours(checkout_paths: &CheckoutPaths, pid: i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mark = checkout_paths.root().as_os_str().as_encoded_bytes();
    line.windows(mark.len()).any(|part| part == mark)
}
