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

use api::run::{JobFile, MAX_LOG_BYTES, Mount};

use super::{
    folder::{FolderError, RunFolder},
    job::{Containers, Parts},
};
use crate::container::{
    self,
    spec::{Bind, ContainerSpec, Placed},
};

/// Time between SIGTERM and SIGKILL when a timeout ends a container, seconds.
const TIMEOUT_GRACE_SECONDS: u32 = 10;

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
        container::live_init(folder).is_some()
    }

    fn signal_stop(&self, folder: &Path) -> io::Result<()> {
        container::signal_stop(folder)
    }

    fn clean(&self, folder: &Path) {
        container::clean(folder);
    }
}

fn describe(parts: &Parts<'_>) -> ContainerSpec {
    let (spec, job) = (parts.spec, parts.job);
    let bind = |(mount, source): (&Mount, &PathBuf)| Bind {
        source: source.clone(),
        target: mount.location.clone(),
        read_only: false,
    };
    let placed = |(file, source): (&JobFile, &PathBuf)| Placed {
        source: source.clone(),
        target: file.path.clone(),
        mode: if file.executable { 0o555 } else { 0o444 },
    };
    ContainerSpec {
        lower: parts.image.clone(),
        command: job.command.clone(),
        env: job.env.clone(),
        cwd: job.cwd.clone(),
        hostname: job.hostname.clone(),
        uid: spec.user.uid,
        gid: spec.user.gid,
        groups: spec.user.groups.clone(),
        user_name: spec.user.name.clone(),
        binds: job.mounts.iter().zip(&parts.volumes).map(bind).collect(),
        files: job.files.iter().zip(&parts.files).map(placed).collect(),
        cgroup: Path::new(container::groups::RUNS).join(spec.run.to_string()),
        cpus: job.cpus.clone(),
        mems: job.mems.clone(),
        memory_bytes: job.memory_bytes,
        pids: job.pids,
        devices: job.devices.iter().map(PathBuf::from).collect(),
        isolated_network: job.isolated_network,
        forbidden: spec.forbidden.clone(),
        // What is written there counts as memory of the job, so its limit is the job's.
        upper_bytes: job.memory_bytes,
        timeout_seconds: spec.timeout_seconds,
        grace_seconds: TIMEOUT_GRACE_SECONDS,
        log_limit_bytes: MAX_LOG_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use api::run::{JobSpec, RunId, RunSpec, RunUser, Work, WorkflowId};

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
        };
        RunSpec {
            run: RunId(uuid::Uuid::from_u128(7)),
            workflow: WorkflowId(uuid::Uuid::from_u128(8)),
            subject: "job j".into(),
            user: RunUser { name: "ada".into(), uid: 1000, gid: 1001, groups: vec![1002] },
            work: Work::Job(Box::new(job)),
            timeout_seconds: 60,
            forbidden: vec!["192.0.2.1:80".parse().unwrap()],
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
}
