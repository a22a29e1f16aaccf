//! The site's own programs before and after each job: what stands in `/etc/bedplate/prolog.d` and
//! `/etc/bedplate/epilog.d` of the node and can be executed, in the order of its names, as root.
//! Overlays bring them there.
//!
//! One that fails keeps the job from beginning, which is no fault of the job's, and keeps the node
//! from beginning others for a while. An agent that was killed in between runs them again: they
//! must bear that. An epilog runs once for each prolog that was begun, when the job's last process
//! is gone and before its end is told.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use api::run::{JobSpec, RunSpec};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{io::AsyncReadExt as _, process::Command, time::timeout};

/// Most time for one program.
const DEADLINE: Duration = Duration::from_secs(60);

/// Output of one that is read, bytes; of which the last line is told.
const MAX_OUTPUT_BYTES: usize = 64 << 10;

/// Time for what it said last, after its end.
const DRAIN: Duration = Duration::from_millis(100);

/// Longest line that is told, characters.
const MAX_LINE_CHARS: usize = 200;

/// Where programs look for others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// When programs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before the job.
    Before,
    /// After it.
    After,
}

impl When {
    /// `prolog` or `epilog`, as in paths, logs and errors.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Before => "prolog",
            Self::After => "epilog",
        }
    }
}

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum SiteProgramError {
    /// The directory cannot be read.
    #[error("cannot read {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be started.
    #[error("cannot start {}", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended badly.
    #[error("{} ended with {status}{said}", path.display())]
    Ended {
        /// The program.
        path: PathBuf,
        /// How.
        status: std::process::ExitStatus,
        /// Its last line, behind `: `.
        said: String,
    },
    /// It did not end.
    #[error("{} was not done within {} s", path.display(), DEADLINE.as_secs())]
    Late {
        /// The program.
        path: PathBuf,
    },
}

/// The programs of a node.
#[derive(Debug, Clone)]
pub struct SitePrograms {
    directory: PathBuf,
}

impl SitePrograms {
    /// Those below `directory`, in `prolog.d` and `epilog.d`.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Those that run then, in their order.
    ///
    /// # Errors
    /// [`SiteProgramError::Directory`]; one that does not exist is empty.
    pub fn list(&self, when: When) -> Result<Vec<PathBuf>, SiteProgramError> {
        let path = self.directory.join(format!("{}.d", when.as_str()));
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| SiteProgramError::Directory { path, source })?,
        };
        let is_program = |path: &PathBuf| {
            fs::metadata(path)
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        };
        let mut programs: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(is_program).collect();
        programs.sort();
        Ok(programs)
    }

    /// Runs those of `programs` one after the other. Dropped, it kills the one that runs.
    ///
    /// # Errors
    /// That of the first that fails; those behind it are not run.
    pub async fn run(
        &self,
        programs: &[PathBuf],
        spec: &RunSpec,
        job: &JobSpec,
    ) -> Result<(), SiteProgramError> {
        let env = environment(spec, job);
        for program in programs {
            run_one(program, &env).await?;
        }
        Ok(())
    }
}

/// What a program is told.
fn environment(spec: &RunSpec, job: &JobSpec) -> BTreeMap<&'static str, String> {
    let list = |numbers: &[u32]| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    BTreeMap::from([
        ("PATH", PATH.to_owned()),
        ("BEDPLATE_RUN", spec.run.to_string()),
        ("BEDPLATE_WORKFLOW", spec.workflow.to_string()),
        ("BEDPLATE_SUBJECT", spec.subject.clone()),
        ("BEDPLATE_USER", spec.user.name.clone()),
        ("BEDPLATE_UID", spec.user.uid.to_string()),
        ("BEDPLATE_GID", spec.user.gid.to_string()),
        ("BEDPLATE_CPUS", list(&job.cpus)),
        ("BEDPLATE_MEMS", list(&job.mems)),
        ("BEDPLATE_MEMORY_BYTES", job.memory_bytes.to_string()),
        (
            "BEDPLATE_DEVICES",
            job.devices.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        ),
    ])
}

/// Kills the processes of a program that was given up.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended in the meantime.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the home of the site's programs")]
async fn run_one(
    program: &Path,
    env: &BTreeMap<&'static str, String>,
) -> Result<(), SiteProgramError> {
    let path = program.to_owned();
    let fail = |source| SiteProgramError::Start { path: path.clone(), source };
    let (output, writer) = io::pipe().map_err(fail)?;
    let both = writer.try_clone().map_err(fail)?;
    let mut child = Command::new(program)
        .env_clear()
        .envs(env)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(both)
        .process_group(0)
        .spawn()
        .map_err(fail)?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    let mut output =
        tokio::net::unix::pipe::Receiver::from_owned_fd(output.into()).map_err(fail)?;
    let mut said = Vec::new();
    let waiting = async {
        let (mut chunk, mut is_open) = ([0; 4096], true);
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                length = output.read(&mut chunk), if is_open => is_open = keep(&mut said, &chunk, length),
            }
        };
        // What it said last. Somebody that it left behind may hold the pipe open.
        while let Ok(length) = timeout(DRAIN, output.read(&mut chunk)).await
            && keep(&mut said, &chunk, length)
        {}
        status
    };
    let status = match timeout(DEADLINE, waiting).await {
        Ok(status) => status.map_err(fail)?,
        Err(_) => return Err(SiteProgramError::Late { path }),
    };
    group.0 = None;
    if status.success() {
        return Ok(());
    }
    Err(SiteProgramError::Ended { path, status, said: last_line(&said) })
}

/// Keeps what was read, as far as there is room. `false` at the end.
fn keep(said: &mut Vec<u8>, chunk: &[u8], length: io::Result<usize>) -> bool {
    let length = length.unwrap_or(0);
    let room = MAX_OUTPUT_BYTES.saturating_sub(said.len());
    said.extend_from_slice(&chunk[..length.min(room)]);
    length > 0
}

fn last_line(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    line.map(|line| format!(": {}", line.chars().take(MAX_LINE_CHARS).collect::<String>()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn place(programs: &[(&str, u32, &str)]) -> (tempfile::TempDir, SitePrograms) {
        let directory = tempfile::tempdir().unwrap();
        let prolog = directory.path().join("prolog.d");
        fs::create_dir(&prolog).unwrap();
        for (name, mode, text) in programs {
            fs::write(prolog.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(prolog.join(name), fs::Permissions::from_mode(*mode)).unwrap();
        }
        let site = SitePrograms::new(directory.path().to_owned());
        (directory, site)
    }

    async fn run(site: &SitePrograms) -> Result<(), String> {
        let (spec, job) = (samples::job_run(1), samples::job());
        let programs = site.list(When::Before).unwrap();
        site.run(&programs, &spec, &job)
            .await
            .map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    }

    #[tokio::test]
    async fn programs_run_in_the_order_of_their_names_and_are_told_the_job() {
        let (directory, site) = place(&[
            (
                "20-second",
                0o755,
                r#"echo "second $BEDPLATE_USER $BEDPLATE_CPUS" >> "$(dirname "$0")/../told""#,
            ),
            ("10-first", 0o755, r#"echo "first $BEDPLATE_SUBJECT" >> "$(dirname "$0")/../told""#),
            ("15-note", 0o644, "exit 1"),
        ]);
        run(&site).await.unwrap();
        let told = fs::read_to_string(directory.path().join("told")).unwrap();
        assert_eq!(told, "first job j1\nsecond ada 2,3\n");
        assert!(site.list(When::After).unwrap().is_empty(), "there are none after");
    }

    #[tokio::test]
    async fn the_first_that_fails_is_told_with_its_last_line() {
        let (directory, site) = place(&[
            ("1", 0o755, "echo scratch is not mounted >&2; exit 3"),
            ("2", 0o755, r#"touch "$(dirname "$0")/../ran""#),
        ]);
        let error = run(&site).await.unwrap_err();
        assert!(
            error.ends_with("prolog.d/1 ended with exit status: 3: scratch is not mounted"),
            "{error}"
        );
        assert!(!directory.path().join("ran").exists(), "the second ran");
        // One that leaves somebody behind holds nobody up.
        let (_directory, site) = place(&[("1", 0o755, "sleep 60 & echo left one; exit 4")]);
        assert!(run(&site).await.unwrap_err().ends_with("exit status: 4: left one"));
        let (_directory, site) = place(&[("1", 0o755, "exit 0")]);
        fs::write(site.list(When::Before).unwrap()[0].as_path(), "no program").unwrap();
        assert!(run(&site).await.unwrap_err().starts_with("cannot start"));
    }

    #[tokio::test]
    async fn one_that_is_given_up_is_killed() {
        let (directory, site) =
            place(&[("1", 0o755, r#"echo $$ > "$(dirname "$0")/../pid"; sleep 60"#)]);
        let pid = directory.path().join("pid");
        let begun = async {
            while fs::read_to_string(&pid).map_or(0, |text| text.len()) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = run(&site) => panic!("it ended"),
            () = begun => {}
        }
        let pid: i32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        for _ in 0..200 {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{pid} lives on");
    }
}
