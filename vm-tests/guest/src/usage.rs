//! What there is on the machine, and what processes hold.

use std::{fs, path::Path};

use anyhow::Context as _;
use substrate::container::groups;

/// What there is of processes, mounts and cgroups.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ResourceCounts {
    processes: usize,
    mounts: usize,
    groups: usize,
}

impl ResourceCounts {
    pub(crate) fn now() -> anyhow::Result<Self> {
        let is_program = |entry: &fs::DirEntry| {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // Threads of the kernel are children of process 2 (`proc_pid_stat(5)`, field 4).
            let parent =
                stat.rsplit_once(')').and_then(|(_, after)| after.split_whitespace().nth(1));
            parent.is_some_and(|parent| parent != "2")
        };
        let processes = fs::read_dir("/proc")?.flatten().filter(is_program).count();
        let mounts = fs::read_to_string("/proc/self/mountinfo")?.lines().count();
        let runs = Path::new(groups::ROOT).join(groups::UNIT).join(groups::RUNS);
        let groups = fs::read_dir(runs)?.flatten().filter(|entry| entry.path().is_dir()).count();
        Ok(Self { processes, mounts, groups })
    }
}

/// `Private_Dirty` of a process, KiB (`proc_pid_smaps(5)`).
pub(crate) fn private_dirty(pid: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Private_Dirty:"))
        .context("no Private_Dirty")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
