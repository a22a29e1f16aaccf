//! What a group has used of the processors. Told by every group, with the controller or without.

use super::Cgroup;
use crate::Result;

/// Processor time, microseconds.
///
/// # Errors
/// If the group is not there.
pub fn used_micros(group: &Cgroup) -> Result<u64> {
    Ok(group.flat("cpu.stat", "usage_usec")?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::tests::directory;

    #[test]
    fn the_time_is_read() {
        let (_directory, group) =
            directory(&[("cpu.stat", "usage_usec 1234\nuser_usec 1000\nsystem_usec 234\n")]);
        assert_eq!(used_micros(&group).unwrap(), 1234);
    }
}
