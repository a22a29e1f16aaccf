//! The pids controller: how many processes and threads a group may have.

use super::Cgroup;
use crate::Result;

/// Limits processes and threads. Past it `fork` fails with `EAGAIN` inside the group.
///
/// # Errors
/// If the controller is not enabled.
pub fn limit(group: &Cgroup, most: u32) -> Result<()> {
    group.write("pids.max", &most.to_string())
}

/// Processes and threads that the group has now; `None` if it is not there.
#[must_use]
pub fn current(group: &Cgroup) -> Option<u32> {
    group.read("pids.current").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::tests::directory;

    #[test]
    fn the_limit_is_written() {
        let (_directory, group) = directory(&[("pids.max", "max")]);
        limit(&group, 100).unwrap();
        assert!(group.read("pids.max").unwrap().starts_with("100"));
        assert_eq!(current(&group), None);
        std::fs::write(group.path().join("pids.current"), "7\n").unwrap();
        assert_eq!(current(&group), Some(7));
    }
}
