//! The freezer: every group of version 2 has one.

use std::{io, time::Duration};

use super::Cgroup;
use crate::{LinuxError, Result};

/// Time that the kernel gets to stop every thread: one that waits for a disk stops when the
/// disk has answered.
const DEADLINE: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(1);

/// Stops every process in the group and below, and waits until all have stopped. A frozen process
/// can still be killed.
///
/// # Errors
/// `ETIMEDOUT` if one did not stop; the others are stopped all the same.
pub fn freeze(group: &Cgroup) -> Result<()> {
    set(group, true)?;
    let deadline = crate::clock::monotonic() + DEADLINE;
    while !is_frozen(group)? {
        if crate::clock::monotonic() > deadline {
            let late = io::Error::from_raw_os_error(libc::ETIMEDOUT);
            return Err(LinuxError::path("freeze the cgroup", group.path(), late));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Lets the processes stand still or go on, and does not wait for it.
///
/// # Errors
/// `ENOENT` if the group is not there.
pub fn set(group: &Cgroup, frozen: bool) -> Result<()> {
    group.write("cgroup.freeze", if frozen { "1" } else { "0" })
}

/// Whether every process in it has stopped.
///
/// # Errors
/// `ENOENT` if the group is not there.
pub fn is_frozen(group: &Cgroup) -> Result<bool> {
    Ok(group.flat("cgroup.events", "frozen")? == Some(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::tests::directory;

    #[test]
    fn frozen_is_what_the_kernel_says() {
        let (_directory, group) =
            directory(&[("cgroup.events", "populated 1\nfrozen 1\n"), ("cgroup.freeze", "0")]);
        freeze(&group).unwrap();
        assert_eq!(
            (group.read("cgroup.freeze").unwrap(), is_frozen(&group).unwrap()),
            ("1".into(), true)
        );
        set(&group, false).unwrap();
        assert_eq!(group.read("cgroup.freeze").unwrap(), "0");
    }
}
