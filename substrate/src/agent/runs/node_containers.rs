//! Containers as they are on a node: `container.json` for the start, `substrate run-container FOLDER` as the launcher.
//!
//! The only home of a child process in the agent. The launcher has a process group of its own and outlives the agent; its
//! messages go to the agent's journal.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::Stdio,
};

use api::run::{JobSpec, MAX_LOG_BYTES, RunSpec};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Serialize;

use super::{
    folder::{FolderError, RunFolder},
    job::{Containers, Parts},
};

/// Time between SIGTERM and SIGKILL when a timeout ends a container, seconds.
const TIMEOUT_GRACE_SECONDS: u32 = 10;

/// Where a run's cgroup is, below the delegated unit.
const CGROUPS: &str = "/sys/fs/cgroup/system.slice/bedplate-jobs.service/runs";

/// `container.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Description<'a> {
    lower: &'a Path,
    command: &'a [String],
    env: &'a [String],
    cwd: &'a str,
    hostname: &'a str,
    uid: u32,
    gid: u32,
    groups: &'a [u32],
    user_name: &'a str,
    binds: Vec<Bind<'a>>,
    files: Vec<Placed<'a>>,
    cgroup: PathBuf,
    cpus: &'a [u32],
    mems: &'a [u32],
    memory_bytes: u64,
    pids: u32,
    devices: &'a [String],
    isolated_network: bool,
    forbidden: &'a [std::net::SocketAddr],
    upper_bytes: u64,
    timeout_seconds: u64,
    grace_seconds: u32,
    log_limit_bytes: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Bind<'a> {
    source: &'a Path,
    target: &'a str,
    read_only: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Placed<'a> {
    source: &'a Path,
    target: &'a str,
    mode: u32,
}

/// The node's own containers.
#[derive(Debug, Clone, Copy)]
pub struct NodeContainers;

impl Containers for NodeContainers {
    fn describe(
        &self,
        folder: &RunFolder,
        spec: &RunSpec,
        job: &JobSpec,
        parts: &Parts,
    ) -> Result<(), FolderError> {
        folder.write("container.json", &describe(spec, job, parts))
    }

    #[expect(clippy::disallowed_methods, reason = "the home of the launcher")]
    fn launch(&self, folder: &Path, lock: File) -> io::Result<()> {
        let mut launcher = tokio::process::Command::new("/proc/self/exe")
            .arg("run-container")
            .arg(folder)
            .stdin(Stdio::from(lock))
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()?;
        let folder = folder.to_owned();
        // What it did is in the folder; it is only waited for so that it does not stay as a zombie.
        tokio::spawn(async move {
            if let Ok(status) = launcher.wait().await {
                tracing::debug!(folder = %folder.display(), %status, "launcher ended");
            }
        });
        Ok(())
    }

    fn is_alive(&self, folder: &Path) -> bool {
        init(folder).is_some()
    }

    fn signal_stop(&self, folder: &Path) -> io::Result<()> {
        let pid = init(folder).ok_or(io::ErrorKind::NotFound)?;
        Ok(kill(pid, Signal::SIGTERM)?)
    }

    fn clean(&self, folder: &Path) {
        let Some(run) = folder.file_name() else { return };
        let group = Path::new(CGROUPS).join(run);
        // Leaves first; what still holds a process refuses, and goes when the run is forgotten.
        for leaf in ["payload", "init", ""] {
            let _ = std::fs::remove_dir(group.join(leaf));
        }
    }
}

fn describe<'a>(spec: &'a RunSpec, job: &'a JobSpec, parts: &'a Parts) -> Description<'a> {
    let binds = job.mounts.iter().zip(&parts.volumes);
    let files = job.files.iter().zip(&parts.files);
    Description {
        lower: &parts.image,
        command: &job.command,
        env: &job.env,
        cwd: &job.cwd,
        hostname: &job.hostname,
        uid: spec.user.uid,
        gid: spec.user.gid,
        groups: &spec.user.groups,
        user_name: &spec.user.name,
        binds: binds
            .map(|(mount, source)| Bind { source, target: &mount.location, read_only: false })
            .collect(),
        files: files
            .map(|(file, source)| Placed {
                source,
                target: &file.path,
                mode: if file.executable { 0o555 } else { 0o444 },
            })
            .collect(),
        cgroup: Path::new("system.slice/bedplate-jobs.service/runs").join(spec.run.to_string()),
        cpus: &job.cpus,
        mems: &job.mems,
        memory_bytes: job.memory_bytes,
        pids: job.pids,
        devices: &job.devices,
        isolated_network: job.isolated_network,
        forbidden: &job.forbidden,
        // What is written there counts as memory of the job, so its limit is the job's.
        upper_bytes: job.memory_bytes,
        timeout_seconds: spec.timeout_seconds,
        grace_seconds: TIMEOUT_GRACE_SECONDS,
        log_limit_bytes: MAX_LOG_BYTES,
    }
}

/// The container init, if it lives: `init.pid` holds its pid and its start time, field 22 of `/proc/PID/stat`, so that
/// another process with the same number is not taken for it.
fn init(folder: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(folder.join("init.pid")).ok()?;
    let mut words = text.split_whitespace();
    let (pid, started) = (words.next()?.parse::<i32>().ok()?, words.next()?);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses is field 2 and may hold anything.
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace();
    let state = fields.next()?;
    (state != "Z" && fields.nth(18)? == started).then(|| Pid::from_raw(pid))
}
