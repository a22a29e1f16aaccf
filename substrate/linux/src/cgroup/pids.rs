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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::tests::folder;

    #[test]
    fn the_limit_is_written() {
        let (_folder, group) = folder(&[("pids.max", "max")]);
        limit(&group, 100).unwrap();
        assert!(group.read("pids.max").unwrap().starts_with("100"));
    }
}
