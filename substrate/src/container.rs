//! Containers: the start of a job on this node, in this program, without a runtime of others.
//!
//! ```text
//! agent ── substrate spawn-containers         prepares what all share; ends with the agent
//!            └─ container init                PID 1 inside: files, output, timeout, end.json; outlives spawner and agent
//!                 └─ payload                  the user's program, as the user, in the job's control group
//! ```
//! All that passes between agent and container are files of the run's directory
//! ([`crate::run_directory`]) and SIGTERM to the init, which then reads `stop.json` and `paused`.
//! Spawner and init have one thread and no runtime. For a stream another copy of the spawner enters
//! the container of a running job:
//!
//! ```text
//! agent ── spawner ── entering copy                outside; hears of the end, passes it on
//!                       └─ entered process         inside, as the user, in the job's control group
//! ```
//!
//! | module | is |
//! |---|---|
//! | [`spec`] | `container.json` |
//! | [`spawner`], [`init`], [`payload`] | the three processes |
//! | [`enter`], [`entered`], [`answer`] | further processes of a job that runs; what the agent is told of them |
//! | [`passing`] | messages with descriptors |
//! | [`files`], [`devices`], [`host_names`], [`identity_files`], [`home`] | what a container sees |
//! | [`interpreter`] | why a program that is there cannot be executed |
//! | [`system_calls`], [`defence`] | what it may ask of the kernel; what stands in its way |
//! | [`groups`], [`holder`] | cgroups |
//! | [`ending`], [`log`], [`log_room`], [`record`] | timeouts and outcomes; output, and how much of it; the run's directory |

pub mod answer;
pub mod defence;
pub mod devices;
pub mod ending;
pub mod enter;
pub mod entered;
pub mod files;
pub mod groups;
pub mod holder;
pub mod home;
pub mod host_names;
pub mod identity_files;
pub mod init;
pub mod interpreter;
pub mod log;
pub mod log_room;
pub mod passing;
pub mod payload;
pub mod record;
pub mod spawner;
pub mod spec;
pub mod system_calls;

use std::path::Path;

use api::run::LiveUsage;
use linux::cgroup;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::run_directory::INIT_PID;

/// The container init of the run in `directory`, if it lives. `init.pid` holds its number and when
/// it began, so that another process with the same number is not taken for it.
#[must_use]
pub fn running_init(directory: &Path) -> Option<Pid> {
    let told = std::fs::read_to_string(directory.join(INIT_PID)).ok()?;
    let pid = told.split(' ').next()?.parse::<i32>().ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    let is_zombie = after.trim_start().starts_with('Z');
    (!is_zombie && init::pid_and_start(&stat)? == told).then(|| Pid::from_raw(pid))
}

/// Makes the container init of the run in `directory` read `stop.json` and `paused`.
///
/// # Errors
/// `NotFound` if there is none yet or none any more.
pub fn signal(directory: &Path) -> std::io::Result<()> {
    let pid = running_init(directory).ok_or(std::io::ErrorKind::NotFound)?;
    Ok(kill(pid, Signal::SIGTERM)?)
}

/// What the job of the run in `directory` uses now; `None` if its cgroup is not there.
#[must_use]
pub fn usage(directory: &Path) -> Option<LiveUsage> {
    let group = groups::of(Path::new(directory.file_name()?));
    Some(LiveUsage {
        total: groups::total(&group),
        memory_bytes: cgroup::memory::current(&group)?,
        processes: cgroup::pids::current(&group)?,
    })
}

/// Takes away what a container that has ended could not take away itself.
pub fn clean(directory: &Path) {
    if let Some(run) = directory.file_name() {
        groups::remove(Path::new(run));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(running_init(directory.path()), None);
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let own = init::pid_and_start(&stat).unwrap();
        std::fs::write(directory.path().join(INIT_PID), &own).unwrap();
        assert_eq!(running_init(directory.path()), Some(Pid::this()));
        let (pid, start) = own.trim().split_once(' ').unwrap();
        let later = start.parse::<u64>().unwrap() + 1;
        std::fs::write(directory.path().join(INIT_PID), format!("{pid} {later}\n")).unwrap();
        assert_eq!(running_init(directory.path()), None);
    }
}
