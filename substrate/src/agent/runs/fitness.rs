//! Whether this node can begin jobs: it has memory, disk and room for logs to spare, and the site's
//! programs do not fail.
//!
//! A node that cannot says so once and refuses what comes; nothing of that counts against the job.
//! It looks again until it can.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::artifacts::SPACE_TO_SPARE;
use crate::container::{
    groups::{ROOT, RUNS, UNIT},
    log_room::LogRoom,
};

/// Memory that must be available before a job is begun, bytes: the agent and the container's
/// start need some.
pub const LEAST_MEMORY: u64 = 64 << 20;

/// Memory that must be available before a node that refused begins jobs again, bytes: not one job,
/// then none, in turn.
const ENOUGH_MEMORY: u64 = 2 * LEAST_MEMORY;

/// How long a node refuses jobs after one of the site's programs failed, before it tries
/// again with the next.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// What the node has; see the module.
#[derive(Debug)]
pub struct Fitness {
    /// Directories in which a job needs room: of runs, of artifacts.
    directories: Vec<PathBuf>,
    /// What logs have that the server has not taken.
    logs: LogRoom,
    /// What failed, and until when that counts, by the monotonic clock.
    failure: Mutex<Option<(String, Duration)>>,
    /// Notified when a program of the site has failed.
    pub failed: Notify,
}

impl Fitness {
    /// Of a node that keeps runs and artifacts in `directories`, and the logs of its
    /// jobs in `logs`.
    #[must_use]
    pub fn new(directories: Vec<PathBuf>, logs: LogRoom) -> Self {
        Self { directories, logs, failure: Mutex::new(None), failed: Notify::new() }
    }

    /// One of the site's programs failed at `now`.
    pub fn fail(&self, why: String, now: Duration) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((why, now + AFTER_FAILURE));
        self.failed.notify_one();
    }

    /// Why no job can be begun `now`. `refuses`: none could at the last look.
    #[must_use]
    pub fn look(&self, refuses: bool, now: Duration) -> Option<String> {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let short = memory_short(&text, refuses).or_else(|| self.space_short());
        short.or_else(|| self.logs.shortage(refuses)).or_else(|| {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.take_if(|(_, until)| now >= *until);
            failure.as_ref().map(|(why, _)| why.clone())
        })
    }

    fn space_short(&self) -> Option<String> {
        // One that does not exist yet is made when it is needed.
        let short = |directory: &PathBuf| {
            let available = linux::mount::available_bytes(directory).ok()?;
            (available < SPACE_TO_SPARE).then(|| space_words(directory, available))
        };
        self.directories.iter().find_map(short)
    }
}

/// Why a transfer can write no more; `None` if it can, or the kernel does not tell. `is_in_memory`:
/// what it writes to is, so that it must leave what jobs were granted and do not use yet.
/// `machine`: the machine's root.
#[must_use]
pub fn memory_shortage(machine: &Path, is_in_memory: bool) -> Option<String> {
    let meminfo = std::fs::read_to_string(machine.join("proc/meminfo")).unwrap_or_default();
    if !is_in_memory {
        return memory_short(&meminfo, false);
    }
    let runs = machine.join(ROOT.trim_start_matches('/')).join(UNIT).join(RUNS);
    let left = available_memory(&meminfo)?.saturating_sub(unused_grants(&runs));
    let (has, needs) = (left >> 20, LEAST_MEMORY >> 20);
    (left < LEAST_MEMORY).then(|| {
        format!("{has} MiB of memory are available and not granted to jobs, and {needs} are needed")
    })
}

/// Memory that the cgroups below `runs` may still take, bytes.
fn unused_grants(runs: &Path) -> u64 {
    let bytes = |group: &Path, file: &str| -> Option<u64> {
        std::fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()
    };
    // A group without a limit (`max`) was granted nothing that could be kept for it, and one may
    // have gone meanwhile.
    let unused =
        |group: PathBuf| bytes(&group, "memory.max")?.checked_sub(bytes(&group, "memory.current")?);
    let entries = std::fs::read_dir(runs).into_iter().flatten().flatten();
    entries.filter_map(|entry| unused(entry.path())).fold(0, u64::saturating_add)
}

fn space_words(directory: &Path, available: u64) -> String {
    let (has, needs) = (available >> 20, SPACE_TO_SPARE >> 20);
    format!("{} has {has} MiB free, and {needs} are needed", directory.display())
}

/// `MemAvailable` of `/proc/meminfo` (proc(5)), bytes.
fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

fn memory_short(meminfo: &str, refuses: bool) -> Option<String> {
    let available = available_memory(meminfo)?;
    let needed = if refuses { ENOUGH_MEMORY } else { LEAST_MEMORY };
    let (has, needs) = (available >> 20, needed >> 20);
    (available < needed)
        .then(|| format!("{has} MiB of memory are available, and {needs} are needed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_must_be_more_to_begin_again() {
        let of = |mib: u64| format!("MemTotal: 9999 kB\nMemAvailable:   {} kB\n", mib << 10);
        assert_eq!(memory_short(&of(100), false), None);
        let short = memory_short(&of(100), true);
        assert_eq!(short.as_deref(), Some("100 MiB of memory are available, and 128 are needed"));
        assert!(memory_short(&of(63), false).is_some());
        assert_eq!(memory_short(&of(128), true), None);
        assert_eq!(memory_short("", false), None, "a kernel that does not tell");
    }

    #[test]
    fn what_jobs_were_granted_is_left_to_them() {
        let machine = tempfile::tempdir().unwrap();
        let root = machine.path();
        assert_eq!(memory_shortage(root, true), None, "a kernel that does not tell");
        std::fs::create_dir(root.join("proc")).unwrap();
        std::fs::write(root.join("proc/meminfo"), format!("MemAvailable: {} kB\n", 1_000 << 10))
            .unwrap();
        assert_eq!(memory_shortage(root, true), None);
        let run = |name: &str, max: &str, current: &str| {
            let group = root.join("sys/fs/cgroup").join(UNIT).join(RUNS).join(name);
            std::fs::create_dir_all(&group).unwrap();
            std::fs::write(group.join("memory.max"), max).unwrap();
            std::fs::write(group.join("memory.current"), current).unwrap();
        };
        let mib = |count: u64| format!("{}\n", count << 20);
        // 500 of them unused; one that has all, one past its limit, and one without.
        run("a", &mib(600), &mib(100));
        run("b", &mib(7), &mib(7));
        run("c", &mib(7), &mib(8));
        run("d", "max\n", &mib(1));
        assert_eq!(memory_shortage(root, true), None);
        run("e", &mib(437), &mib(0));
        let short = memory_shortage(root, true);
        let expected = "63 MiB of memory are available and not granted to jobs, and 64 are needed";
        assert_eq!(short.as_deref(), Some(expected));
        assert_eq!(memory_shortage(root, false), None, "a disk");
    }

    #[tokio::test]
    async fn a_failure_counts_for_a_while() {
        let logs = LogRoom::of_test(Path::new("/no/such/group"), 1);
        let fitness = Fitness::new(vec!["/no/such/folder".into()], logs);
        let at = Duration::from_secs;
        fitness.fail("prolog".into(), at(10));
        fitness.failed.notified().await;
        assert_eq!(fitness.look(false, at(11)).as_deref(), Some("prolog"));
        assert_eq!(fitness.look(true, at(69)).as_deref(), Some("prolog"));
        assert_eq!(fitness.look(true, at(70)), None);
        assert_eq!(fitness.look(false, at(11)), None, "it is forgotten");
    }

    #[test]
    fn logs_that_nobody_takes_are_a_reason() {
        let directory = tempfile::tempdir().unwrap();
        let fitness = Fitness::new(Vec::new(), LogRoom::of_test(directory.path(), 128 << 20));
        let (stat, now) = (directory.path().join("memory.stat"), Duration::ZERO);
        std::fs::write(&stat, format!("shmem {}\n", 100 << 20)).unwrap();
        assert_eq!(fitness.look(false, now), None);
        std::fs::write(&stat, format!("shmem {}\n", 128 << 20)).unwrap();
        assert!(fitness.look(false, now).unwrap().contains("and 128 are for them"));
    }

    #[test]
    fn space_is_told_with_its_directory() {
        let words = space_words(Path::new("/run"), 3 << 20);
        assert_eq!(words, "/run has 3 MiB free, and 64 are needed");
    }
}
