//! Cgroups, version 2 (kernel: `Documentation/admin-guide/cgroup-v2.rst`): a directory each, one
//! small module for each controller. What is made here is what the caller asked for; a limit that
//! cannot be set is an error, never a warning.
//!
//! ```text
//! GROUP/cgroup.subtree_control   controllers that the groups below may have
//! GROUP/LEAF/                    processes live in leaves only (the rule of "no internal processes")
//! ```

pub mod cpu;
pub mod cpuset;
pub mod freezer;
pub mod hugetlb;
pub mod io;
pub mod memory;
pub mod pids;
pub mod pressure;
pub mod rdma;

use std::{
    fs,
    io::{Error, ErrorKind, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{LinuxError, Result};

/// Time that a killed group gets to become empty.
const EMPTY_DEADLINE: Duration = Duration::from_secs(5);

/// Pause between two looks whether it is.
const EMPTY_PAUSE: Duration = Duration::from_millis(5);

/// A cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// The group at `path`, whether it is there or not.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// A group below this one.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        Self { path: self.path.join(name) }
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the group, unless it is there.
    ///
    /// # Errors
    /// `ENOENT` without a parent, `EAGAIN` past the limits of `cgroup.max.*`.
    pub fn make(&self) -> Result<()> {
        match fs::create_dir(&self.path) {
            Err(errno) if errno.kind() != ErrorKind::AlreadyExists => {
                Err(LinuxError::path("make the cgroup", &self.path, errno))
            }
            _ => Ok(()),
        }
    }

    /// Whether it has a controller.
    #[must_use]
    pub fn has(&self, controller: &str) -> bool {
        self.read("cgroup.controllers")
            .is_ok_and(|names| names.split_whitespace().any(|name| name == controller))
    }

    /// Lets the groups below this one have `controllers`.
    ///
    /// # Errors
    /// `ENOENT` for one that this group has not, `EBUSY` if processes are in this group itself.
    pub fn enable(&self, controllers: &[&str]) -> Result<()> {
        let words: Vec<String> =
            controllers.iter().map(|controller| format!("+{controller}")).collect();
        self.write("cgroup.subtree_control", &words.join(" "))
    }

    /// Moves a process into this group.
    ///
    /// # Errors
    /// `ESRCH` for one that is gone, `EBUSY` if groups below have controllers.
    pub fn add(&self, pid: u32) -> Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// The directory, opened: where `clone3` puts a child, and what a BPF program is attached to.
    ///
    /// # Errors
    /// `ENOENT` if it is not there.
    pub fn open(&self) -> Result<OwnedFd> {
        fs::File::open(&self.path)
            .map(OwnedFd::from)
            .map_err(|errno| LinuxError::path("open the cgroup", &self.path, errno))
    }

    /// Whether a process is in it or below.
    ///
    /// # Errors
    /// `ENOENT` if it is not there.
    pub fn is_populated(&self) -> Result<bool> {
        Ok(self.flat("cgroup.events", "populated")? != Some(0))
    }

    /// Kills every process in it and below, whatever it does, and waits until it is empty.
    ///
    /// # Errors
    /// `ETIMEDOUT` if a process cannot die, which is in the kernel then.
    pub fn kill(&self) -> Result<()> {
        self.write("cgroup.kill", "1")?;
        let deadline = crate::clock::monotonic() + EMPTY_DEADLINE;
        while self.is_populated()? {
            if crate::clock::monotonic() > deadline {
                let late = Error::from_raw_os_error(libc::ETIMEDOUT);
                return Err(LinuxError::path("empty the cgroup", &self.path, late));
            }
            std::thread::sleep(EMPTY_PAUSE);
        }
        Ok(())
    }

    /// Removes it. One that is not there is removed already.
    ///
    /// # Errors
    /// `EBUSY` while processes or groups are in it.
    pub fn remove(&self) -> Result<()> {
        match fs::remove_dir(&self.path) {
            Err(errno) if errno.kind() != ErrorKind::NotFound => {
                Err(LinuxError::path("remove the cgroup", &self.path, errno))
            }
            _ => Ok(()),
        }
    }

    /// Writes a control file.
    pub(crate) fn write(&self, file: &str, value: &str) -> Result<()> {
        let path = self.path.join(file);
        // Not created: a file that is not there is a controller that is not enabled.
        let written = fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut open| open.write_all(value.as_bytes()));
        let step = "write a limit into";
        written
            .map_err(|errno| LinuxError::new(step, format!("{} ({value})", path.display()), errno))
    }

    /// Reads a control file.
    pub(crate) fn read(&self, file: &str) -> Result<String> {
        let path = self.path.join(file);
        fs::read_to_string(&path).map_err(|errno| LinuxError::path("read", &path, errno))
    }

    /// A number of a file of `KEY VALUE` lines; `None` if the kernel does not tell it.
    pub(crate) fn flat(&self, file: &str, key: &str) -> Result<Option<u64>> {
        Ok(value_of(&self.read(file)?, key))
    }
}

/// The number behind a key in lines of `KEY VALUE`.
fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A directory with empty control files, in the place of a kernel that has them.
    pub(crate) fn directory(files: &[(&str, &str)]) -> (tempfile::TempDir, Cgroup) {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let group = Cgroup::at(directory.path());
        (directory, group)
    }

    #[test]
    fn groups_are_made_once_and_removed_once() {
        let (_directory, root) = directory(&[("cgroup.subtree_control", "")]);
        let group = root.below("run");
        group.make().unwrap();
        group.make().unwrap();
        root.enable(&["cpuset", "memory"]).unwrap();
        assert_eq!(root.read("cgroup.subtree_control").unwrap(), "+cpuset +memory");
        group.remove().unwrap();
        group.remove().unwrap();
        assert!(root.below("nothing").below("run").make().is_err());
    }

    #[test]
    fn a_missing_controller_is_named() {
        let (_directory, group) = directory(&[]);
        let error = group.write("memory.max", "7").unwrap_err();
        assert!(error.to_string().contains("memory.max (7)"), "{error}");
        assert!(!group.path().join("memory.max").exists(), "it must not be made");
    }

    #[test]
    fn emptiness_is_what_the_kernel_says() {
        let (_directory, group) =
            directory(&[("cgroup.events", "populated 0\nfrozen 0\n"), ("cgroup.kill", "")]);
        assert!(!group.is_populated().unwrap());
        group.kill().unwrap();
        fs::write(group.path().join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        assert!(group.is_populated().unwrap());
    }

    #[test]
    fn keys_are_whole_words() {
        let text = "oom 1\noom_kill 2\noom_group_kill 3\n";
        assert_eq!(
            ["oom", "oom_kill", "oom_"].map(|key| value_of(text, key)),
            [Some(1), Some(2), None]
        );
    }
}
