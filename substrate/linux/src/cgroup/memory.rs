//! The memory controller.

use super::Cgroup;
use crate::Result;

/// Limits a group's memory, bytes. It gets no swap, and if it runs out all its processes are killed
/// together: half a job is worse than none.
///
/// # Errors
/// If the controller is not enabled.
pub fn limit(group: &Cgroup, bytes: u64) -> Result<()> {
    group.write("memory.max", &bytes.to_string())?;
    group.write("memory.oom.group", "1")?;
    // Absent where the kernel has no swap.
    if group.path().join("memory.swap.max").exists() {
        group.write("memory.swap.max", "0")?;
    }
    Ok(())
}

/// How often the kernel killed a process of the group because it ran out of memory.
///
/// # Errors
/// If the controller is not enabled.
pub fn kills(group: &Cgroup) -> Result<u64> {
    Ok(group.flat("memory.events", "oom_kill")?.unwrap_or(0))
}

/// What the group has now, bytes; `None` if it is not there.
#[must_use]
pub fn current(group: &Cgroup) -> Option<u64> {
    group.read("memory.current").ok()?.trim().parse().ok()
}

/// What files in memory (tmpfs) take that processes of the group wrote, bytes, whether or not those
/// processes live; `None` if the group is not there (`memory.stat`, `shmem` of cgroup-v2.rst).
#[must_use]
pub fn in_files(group: &Cgroup) -> Option<u64> {
    group.flat("memory.stat", "shmem").ok()?
}

/// The most that the group ever had, bytes; `None` before kernel 5.19.
#[must_use]
pub fn peak(group: &Cgroup) -> Option<u64> {
    group.read("memory.peak").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::tests::directory;

    #[test]
    fn a_limit_is_without_swap_and_for_all_together() {
        let files = [("memory.max", ""), ("memory.oom.group", ""), ("memory.swap.max", "")];
        let (_directory, group) = directory(&files);
        limit(&group, 1 << 30).unwrap();
        let read = |file| group.read(file).unwrap();
        assert_eq!(
            (read("memory.max"), read("memory.oom.group"), read("memory.swap.max")),
            ("1073741824".into(), "1".into(), "0".into())
        );
    }

    #[test]
    fn kills_and_peak_are_read() {
        let events = "low 0\nhigh 0\nmax 9\noom 2\noom_kill 3\n";
        let (_directory, group) = directory(&[
            ("memory.events", events),
            ("memory.peak", "4096\n"),
            ("memory.current", "1024\n"),
        ]);
        assert_eq!(
            (kills(&group).unwrap(), peak(&group), current(&group)),
            (3, Some(4096), Some(1024))
        );
        let (_directory, old) = directory(&[]);
        assert_eq!((peak(&old), current(&old), in_files(&old)), (None, None, None));
        let stat = "anon 1\nfile 9\nshmem_thp 0\nshmem 8192\n";
        let (_directory, group) = directory(&[("memory.stat", stat)]);
        assert_eq!(in_files(&group), Some(8192));
    }
}
