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

use api::run::MAX_LOG_BYTES;
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
    fn describe(&self, folder: &RunFolder, parts: &Parts<'_>) -> Result<(), FolderError> {
        folder.write("container.json", &describe(parts))
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

fn describe<'a>(parts: &'a Parts<'a>) -> Description<'a> {
    let (spec, job) = (parts.spec, parts.job);
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

#[cfg(test)]
mod tests {
    use api::run::{JobFile, JobSpec, Mount, RunId, RunSpec, RunUser, Work, WorkflowId};

    use super::*;

    fn spec() -> RunSpec {
        let digest = api::ids::Digest([7; 32]);
        let job = JobSpec {
            image: digest,
            image_size: 1,
            command: vec!["id".into(), "-u".into()],
            env: vec!["A=b".into()],
            cwd: "/work".into(),
            hostname: "job".into(),
            mounts: vec![Mount { volume: "v".into(), location: "/data".into() }],
            files: vec![JobFile { path: "/run.sh".into(), digest, size: 2, executable: true }],
            cpus: vec![2, 3],
            mems: vec![1],
            memory_bytes: 1 << 30,
            pids: 100,
            devices: vec!["/dev/nvidia0".into()],
            isolated_network: true,
            forbidden: vec!["192.0.2.1:80".parse().unwrap()],
        };
        RunSpec {
            run: RunId(uuid::Uuid::from_u128(7)),
            workflow: WorkflowId(uuid::Uuid::from_u128(8)),
            subject: "job j".into(),
            user: RunUser { name: "ada".into(), uid: 1000, gid: 1001, groups: vec![1002] },
            work: Work::Job(Box::new(job)),
            timeout_seconds: 60,
        }
    }

    #[test]
    fn all_that_was_ordered_is_in_the_description() {
        let spec = spec();
        let Work::Job(job) = &spec.work else { panic!() };
        let (image, volumes, files) = ("/i".into(), vec!["/volumes/v".into()], vec!["/artifacts/f".into()]);
        let parts = Parts { spec: &spec, job, image, volumes, files };
        expect_test::expect![[r#"
            {
              "lower": "/i",
              "command": [
                "id",
                "-u"
              ],
              "env": [
                "A=b"
              ],
              "cwd": "/work",
              "hostname": "job",
              "uid": 1000,
              "gid": 1001,
              "groups": [
                1002
              ],
              "user-name": "ada",
              "binds": [
                {
                  "source": "/volumes/v",
                  "target": "/data",
                  "read-only": false
                }
              ],
              "files": [
                {
                  "source": "/artifacts/f",
                  "target": "/run.sh",
                  "mode": 365
                }
              ],
              "cgroup": "system.slice/bedplate-jobs.service/runs/00000000000000000000000000000007",
              "cpus": [
                2,
                3
              ],
              "mems": [
                1
              ],
              "memory-bytes": 1073741824,
              "pids": 100,
              "devices": [
                "/dev/nvidia0"
              ],
              "isolated-network": true,
              "forbidden": [
                "192.0.2.1:80"
              ],
              "upper-bytes": 1073741824,
              "timeout-seconds": 60,
              "grace-seconds": 10,
              "log-limit-bytes": 16777216
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&describe(&parts)).unwrap());
    }

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(init(folder.path()), None);
        let me = std::process::id();
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        // Field 22, and field 2 ends with the last parenthesis.
        let started: u64 =
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
        let write = |started: u64| {
            std::fs::write(folder.path().join("init.pid"), format!("{me} {started}\n")).unwrap()
        };
        write(started);
        assert_eq!(init(folder.path()), Some(Pid::from_raw(me.cast_signed())));
        write(started + 1);
        assert_eq!(init(folder.path()), None);
    }
}
