//! Containers as they are on a node: `container.json` for the start, a spawner that starts them.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use api::run::{JobFile, LiveUsage, Mount, UNTOLD_LOG_BYTES};

use super::{
    directory::{DirectoryError, RunDirectory},
    job::{Containers, Parts},
};
use crate::container::{
    self,
    enter::EnterRequest,
    home::{self, User},
    passing,
    spawner::Spawner,
    spec::{self, Bind, ContainerSpec, Placed},
};

/// Time between SIGTERM and SIGKILL when a timeout ends a container, seconds.
const TIMEOUT_GRACE_SECONDS: u32 = 10;

/// The part of what is free that one log may have.
const LOG_SHARE: u64 = 16;

/// The node's own containers. Clones share the spawner.
#[derive(Debug, Clone, Default)]
pub struct NodeContainers {
    /// Started with the first container, and again when it is gone.
    spawner: Arc<Mutex<Option<Spawner>>>,
}

impl NodeContainers {
    /// Lets a further process into the container of a running job; what answers
    /// ([`container::enter`]).
    ///
    /// # Errors
    /// The spawner cannot be reached, nor another one started.
    pub fn enter(&self, entry: &EnterRequest) -> io::Result<OwnedFd> {
        let (ours, theirs) = passing::pair()?;
        self.ask(|spawner| spawner.enter(entry, theirs.as_fd()))?;
        Ok(ours)
    }

    /// Asks the spawner, or another one if it is gone.
    fn ask(&self, order: impl Fn(&Spawner) -> io::Result<()>) -> io::Result<()> {
        let mut spawner = self.spawner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*spawner {
            match order(running) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    tracing::warn!("the spawner of containers is gone; starting another");
                }
                done => return done,
            }
        }
        order(spawner.insert(Spawner::start(Path::new("/proc/self/exe"))?))
    }
}

impl Containers for NodeContainers {
    fn describe(&self, directory: &RunDirectory, parts: &Parts<'_>) -> Result<(), DirectoryError> {
        let free =
            rustix::fs::statvfs(directory.path()).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
        directory.write(spec::FILE, &describe(parts, free))
    }

    fn launch(&self, directory: &Path, lock: File) -> io::Result<()> {
        self.ask(|spawner| spawner.spawn(directory, lock.as_fd()))
    }

    fn is_alive(&self, directory: &Path) -> bool {
        container::running_init(directory).is_some()
    }

    fn signal(&self, directory: &Path) -> io::Result<()> {
        container::signal(directory)
    }

    fn usage(&self, directory: &Path) -> Option<LiveUsage> {
        container::usage(directory)
    }

    fn clean(&self, directory: &Path) {
        container::clean(directory);
    }
}

/// How much of a log is kept: what the server wants, but of what is free where runs are, most often
/// the node's memory, no more than [`LOG_SHARE`] where that is more than [`UNTOLD_LOG_BYTES`].
fn log_limit(wanted: Option<u64>, free: u64) -> u64 {
    wanted.map_or(UNTOLD_LOG_BYTES, |wanted| wanted.min(UNTOLD_LOG_BYTES.max(free / LOG_SHARE)))
}

/// `free`: bytes that are free where runs are.
fn describe(parts: &Parts<'_>, free: u64) -> ContainerSpec {
    let (spec, job, granted) = (parts.spec, parts.job, &parts.granted);
    let mut groups = spec.user.groups.clone();
    groups.extend(granted.gids.iter().filter(|gid| !spec.user.groups.contains(gid)));
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
    let binds: Vec<Bind> = job.mounts.iter().zip(&parts.volumes).map(bind).collect();
    let user =
        User { name: &spec.user.name, uid: spec.user.uid, gid: spec.user.gid, groups: &groups };
    let mut env = granted.environment(&job.env);
    let home = home::choose(&parts.image, &binds, &user, &env, job);
    env.retain(|pair| !pair.starts_with("HOME="));
    env.push(format!("HOME={}", home.path));
    ContainerSpec {
        lower: parts.image.clone(),
        command: job.command.clone(),
        program_words: job.program_words.clone(),
        env,
        cwd: job.cwd.clone(),
        makes_cwd: job.makes_cwd,
        home: Some(home.path),
        makes_home: home.is_made,
        hostname: job.hostname.clone(),
        uid: spec.user.uid,
        gid: spec.user.gid,
        groups,
        user_name: spec.user.name.clone(),
        binds,
        files: job.files.iter().zip(&parts.files).map(placed).collect(),
        cpus: job.cpus.clone(),
        mems: job.mems.clone(),
        memory_bytes: job.memory_bytes,
        pids: job.pids,
        devices: granted.nodes.clone(),
        device_mounts: granted.mounts.clone(),
        device_links: granted.links.clone(),
        isolated_network: job.isolated_network,
        forbidden: spec.forbidden.clone(),
        // What is written there counts as memory of the job, so its limit is the job's.
        upper_bytes: job.memory_bytes,
        timeout_seconds: spec.timeout_seconds,
        grace_seconds: TIMEOUT_GRACE_SECONDS,
        log_limit_bytes: log_limit(job.log_limit_bytes, free),
        log_has_tail: job.log_limit_bytes.is_some(),
        log_has_times: job.log_times,
        #[cfg(feature = "switches")]
        without: std::collections::BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use api::run::{JobSpec, RunId, RunSpec, RunUser, Work, WorkflowId};

    use super::*;
    use crate::{
        agent::runs::devices::Granted,
        container::spec::{DeviceLink, DeviceMount, DeviceNode},
    };

    fn spec() -> RunSpec {
        let digest = api::ids::Digest([7; 32]);
        let job = JobSpec {
            image: digest,
            image_size: 1,
            command: vec!["id".into(), "-u".into()],
            env: vec!["A=b".into()],
            program_words: vec!["id".into(), "-u".into()],
            sets_home: false,
            cwd: "/work".into(),
            makes_cwd: true,
            hostname: "job".into(),
            mounts: vec![Mount { volume: "v".into(), location: "/data".into() }],
            files: vec![JobFile { path: "/run.sh".into(), digest, size: 2, executable: true }],
            cpus: vec![2, 3],
            mems: vec![1],
            memory_bytes: 1 << 30,
            pids: 100,
            devices: vec!["v.com/x=0".parse().unwrap()],
            isolated_network: true,
            log_limit_bytes: Some(64 << 20),
            log_times: true,
        };
        RunSpec {
            run: RunId(uuid::Uuid::from_u128(7)),
            workflow: WorkflowId(uuid::Uuid::from_u128(8)),
            subject: "job j".into(),
            user: RunUser { name: "ada".into(), uid: 1000, gid: 1001, groups: vec![1002] },
            work: Work::Job(Box::new(job)),
            timeout_seconds: 60,
            forbidden: vec!["192.0.2.1:80".parse().unwrap()],
            awaits_release: false,
        }
    }

    fn granted() -> Granted {
        let node = DeviceNode {
            path: "/dev/x0".into(),
            block: false,
            major: 240,
            minor: 0,
            read: true,
            write: true,
            mode: 0o660,
            uid: 1000,
            gid: 1001,
        };
        let (source, target) = ("/opt/x".into(), "/usr/lib/x".into());
        let mount = DeviceMount { source, target, read_only: true, no_exec: false };
        let link = DeviceLink { path: "/usr/lib/y".into(), target: "x".into() };
        Granted {
            nodes: vec![node],
            mounts: vec![mount],
            links: vec![link],
            gids: vec![44, 1002],
            env: vec!["X=0".into()],
            ..Granted::default()
        }
    }

    #[test]
    fn all_that_was_ordered_is_in_the_description() {
        let spec = spec();
        let Work::Job(job) = &spec.work else { panic!() };
        let (image, volumes, files) =
            ("/i".into(), vec!["/volumes/v".into()], vec!["/artifacts/f".into()]);
        let granted = granted();
        let parts = Parts { spec: &spec, job, image, volumes, files, granted };
        expect_test::expect_file!["node_containers/described.json"]
            .assert_eq(&serde_json::to_string_pretty(&describe(&parts, 4 << 30)).unwrap());
    }

    #[test]
    fn a_log_is_longer_where_there_is_room() {
        let mib = |wanted: Option<u64>, free: u64| {
            log_limit(wanted.map(|mib| mib << 20), free << 20) >> 20
        };
        assert_eq!(mib(None, 1 << 20), 16, "a server of before");
        assert_eq!([0, 100, 512, 1 << 20].map(|free| mib(Some(64), free)), [16, 16, 32, 64]);
        assert_eq!([0, 1 << 20].map(|free| mib(Some(1), free)), [1, 1]);
    }
}
