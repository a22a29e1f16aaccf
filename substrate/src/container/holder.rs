//! `substrate jobs-holder`: the one process that systemd sees in `bedplate-jobs.service`. It keeps
//! the unit's cgroup alive, prepares it for runs and sleeps. systemd has delegated the group
//! (`Delegate=yes`) and leaves alone what is below.

use std::path::Path;

use linux::{LinuxError, cgroup::Cgroup};

use super::groups;
use crate::notify;

/// Prepares the groups and sleeps until it is ended.
///
/// # Errors
/// This process is in no group of version 2, or its group lacks a controller that jobs need.
pub fn hold() -> Result<std::convert::Infallible, LinuxError> {
    let path = "/proc/self/cgroup";
    let text =
        std::fs::read_to_string(path).map_err(|errno| LinuxError::new("read", path, errno))?;
    let own = own_group(&text).ok_or_else(|| {
        LinuxError::new("find the group of this process in", path, std::io::ErrorKind::NotFound)
    })?;
    prepare(&Cgroup::at(Path::new(groups::ROOT).join(own)), std::process::id())?;
    notify::ready();
    loop {
        std::thread::park();
    }
}

fn prepare(unit: &Cgroup, pid: u32) -> Result<(), LinuxError> {
    let (holder, inits, runs) =
        (unit.below("holder"), unit.below(groups::INITS), unit.below(groups::RUNS));
    holder.make()?;
    // A group with processes of its own cannot give controllers to those below it.
    holder.add(pid)?;
    for (controller, what) in groups::OPTIONAL_CONTROLLERS {
        if let Err(error) = enable_from_root(unit.path(), controller) {
            let error = anyhow::Error::from(error);
            tracing::warn!(controller, "jobs are not kept from {what}: {error:#}");
        }
    }
    unit.enable(&groups::CONTROLLERS)?;
    inits.make()?;
    runs.make()?;
    let optional = groups::OPTIONAL_CONTROLLERS.into_iter().map(|(name, _)| name);
    let optional = optional.filter(|name| runs.has(name));
    let all: Vec<&str> = groups::CONTROLLERS.into_iter().chain(optional).collect();
    runs.enable(&all)
}

/// Enables a controller in every group from the root down to `unit`: systemd enables those that it
/// knows.
fn enable_from_root(unit: &Path, controller: &str) -> Result<(), LinuxError> {
    let mut path = std::path::PathBuf::from(groups::ROOT);
    let below = unit.strip_prefix(groups::ROOT).unwrap_or(Path::new(""));
    Cgroup::at(&path).enable(&[controller])?;
    for name in below {
        path.push(name);
        Cgroup::at(&path).enable(&[controller])?;
    }
    Ok(())
}

/// The group of version 2 (`cgroups(7)`: hierarchy 0), relative to the root.
fn own_group(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::/")).filter(|group| !group.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_that_of_version_2() {
        let text = "1:name=systemd:/a\n0::/system.slice/bedplate-jobs.service\n";
        assert_eq!(own_group(text), Some("system.slice/bedplate-jobs.service"));
        assert_eq!(own_group("0::/\n"), None);
        assert_eq!(own_group("4:memory:/x\n"), None);
    }
}
