//! The memory that all logs of a node have together, and what one of them may have of it.
//!
//! Logs lie in `/run`, in memory, until the server has them and their runs are forgotten. The
//! kernel counts them as memory of the group of the container inits, which write them, whether
//! those live or not. All logs have a budget, a part of what the node keeps from jobs for its
//! system (`controller/src/capacity.rs`). One that grows may have a quarter of what is left of it
//! *now*: so switches share the memory of their ports (Choudhury and Hahne, "Dynamic Queue Length
//! Thresholds", 1998). Nobody is asked for room, which holds while agents are away; all that grow
//! have the same, whoever began first; and `n` of them leave 4/(n + 4) of the budget to the next.

use std::os::fd::OwnedFd;

use linux::cgroup::{Cgroup, memory};

use super::groups;

/// The part of the node's memory that all logs may have: half of what the system keeps.
const NODE_SHARE: u64 = 16;

/// What they may have on the smallest node, bytes.
const LEAST_BUDGET: u64 = 128 << 20;

/// The part of what is left that one log may have.
const LOG_SHARE: u64 = 4;

/// What each may have, whatever is left, bytes: the reason why a job failed stands at the
/// end of its log.
const LEAST_SHARE: u64 = 1 << 20;

/// After a node refused jobs, that much of the budget must be free again, as a part of it: not one
/// job, then none, in turn.
const FREE_AGAIN: u64 = 8;

/// The room of a node's logs.
#[derive(Debug)]
pub struct LogRoom {
    inits: Cgroup,
    /// What `inits` leads to.
    _open: Option<OwnedFd>,
    budget_bytes: u64,
}

impl LogRoom {
    /// As the agent sees it.
    #[must_use]
    pub fn of_node() -> Self {
        Self { inits: groups::inits(), _open: None, budget_bytes: budget_bytes(node_bytes()) }
    }

    /// By the open group of the container inits, which a container init still has when it sees none
    /// of the node's files.
    #[must_use]
    pub fn of_container(inits: OwnedFd) -> Self {
        let group = groups::opened(&inits);
        Self { inits: group, _open: Some(inits), budget_bytes: budget_bytes(node_bytes()) }
    }

    /// Of a group somewhere else.
    #[cfg(test)]
    pub(crate) fn of_test(directory: &std::path::Path, budget_bytes: u64) -> Self {
        Self { inits: Cgroup::at(directory), _open: None, budget_bytes }
    }

    /// What a log that grows may have now, bytes; `None` where the kernel does not count.
    #[must_use]
    pub fn share_bytes(&self) -> Option<u64> {
        let used = memory::in_files(&self.inits)?;
        Some((self.budget_bytes.saturating_sub(used) / LOG_SHARE).max(LEAST_SHARE))
    }

    /// Why no job may begin: each would have its least share, and that of jobs that have ended
    /// stays until the server takes it. `refuses`: none could at the last look.
    #[must_use]
    pub fn shortage(&self, refuses: bool) -> Option<String> {
        let used = memory::in_files(&self.inits)?;
        let free = if refuses { self.budget_bytes / FREE_AGAIN } else { 0 };
        let (has, may) = (used >> 20, self.budget_bytes >> 20);
        (used + free >= self.budget_bytes).then(|| {
            let of_ended = "those of jobs that have ended wait for the server";
            format!("logs have {has} MiB of memory, and {may} are for them: {of_ended}")
        })
    }
}

fn budget_bytes(node_bytes: u64) -> u64 {
    (node_bytes / NODE_SHARE).max(LEAST_BUDGET)
}

/// The node's memory as its kernel has it, bytes.
fn node_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(used_mib: u64) -> (tempfile::TempDir, LogRoom) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("memory.stat"), format!("shmem {}\n", used_mib << 20))
            .unwrap();
        let room = LogRoom::of_test(directory.path(), 384 << 20);
        (directory, room)
    }

    #[test]
    fn a_log_may_have_a_quarter_of_what_is_left() {
        let shares =
            [0, 192, 383, 384, 9_999].map(|used| room(used).1.share_bytes().unwrap() >> 20);
        assert_eq!(shares, [96, 48, 1, 1, 1]);
        let nothing = LogRoom::of_test(std::path::Path::new("/no/such/group"), 1 << 30);
        assert_eq!(
            (nothing.share_bytes(), nothing.shortage(false)),
            (None, None),
            "who does not count"
        );
    }

    #[test]
    fn a_node_has_a_budget() {
        let mib = |node: u64| budget_bytes(node << 20) >> 20;
        assert_eq!([512, 6 << 10, 512 << 10].map(mib), [128, 384, 32 << 10]);
        assert!(node_bytes() > 64 << 20, "in bytes");
    }

    #[test]
    fn no_job_begins_where_nobody_takes_the_logs() {
        assert_eq!([0, 335, 383].map(|used| room(used).1.shortage(false)), [None, None, None]);
        let why = "logs have 384 MiB of memory, and 384 are for them: \
                   those of jobs that have ended wait for the server";
        assert_eq!(room(384).1.shortage(false).as_deref(), Some(why));
        assert!(room(336).1.shortage(true).is_some() && room(335).1.shortage(true).is_none());
    }

    #[test]
    fn a_group_is_found_by_what_is_open() {
        let (directory, _) = room(192);
        let inits = OwnedFd::from(std::fs::File::open(directory.path()).unwrap());
        let room = LogRoom::of_container(inits);
        assert_eq!(memory::in_files(&room.inits), Some(192 << 20));
    }
}
