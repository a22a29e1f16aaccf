//! Job images, each mounted once at `IMAGES/HEX` for all runs that use it: read-only squashfs over
//! a loop device, `nosuid`, `nodev`.
//!
//! A mount outlives the agent. One that no live run uses is taken down after [`KEEP_SECONDS`]; the
//! kernel refuses that while a container still lies over it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use api::ids::{Digest, Timestamp};
use linux::{LinuxError, loop_device, mount};

/// How long an unused image stays mounted, seconds: tasks of an array come one after another.
const KEEP_SECONDS: i64 = 600;

/// How images are mounted: by the kernel on a node, in tests as the test wants.
#[derive(Debug, Clone, Copy)]
pub struct Mounting {
    /// Mounts a file on a directory.
    pub mount: fn(&Path, &Path) -> linux::Result<()>,
    /// Takes the mount down.
    pub unmount: fn(&Path) -> linux::Result<()>,
    /// Whether something is mounted there.
    pub is_mounted: fn(&Path) -> bool,
}

impl Default for Mounting {
    fn default() -> Self {
        Self { mount: mount_squashfs, unmount: mount::unmount, is_mounted }
    }
}

fn mount_squashfs(file: &Path, target: &Path) -> linux::Result<()> {
    let device = loop_device::attach(file)?;
    let flags = mount::Flags::RDONLY | mount::Flags::NOSUID | mount::Flags::NODEV;
    mount::mount(device.path(), target, "squashfs", flags, "")
}

/// A mount has another device number than the directory that it is in.
fn is_mounted(target: &Path) -> bool {
    let device = |path: &Path| fs::symlink_metadata(path).map(|found| found.dev());
    match (device(target), target.parent().map(device)) {
        (Ok(own), Some(Ok(parent))) => own != parent,
        _ => false,
    }
}

/// All mounted images.
#[derive(Debug)]
pub struct Images {
    directory: PathBuf,
    mounting: Mounting,
    /// Since when nobody uses them. The lock is held while mounts change.
    idle: Mutex<BTreeMap<Digest, Timestamp>>,
}

impl Images {
    /// Images below this directory.
    #[must_use]
    pub fn new(directory: PathBuf, mounting: Mounting) -> Self {
        Self { directory, mounting, idle: Mutex::default() }
    }

    /// Mounts the image in `file` unless it is; where it is.
    ///
    /// # Errors
    /// The kernel's: the file is no squashfs, there is no loop device.
    pub fn mount(&self, digest: Digest, file: &Path) -> Result<PathBuf, LinuxError> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.remove(&digest);
        let target = self.directory.join(digest.hex());
        if !(self.mounting.is_mounted)(&target) {
            mount::make_directory(&target, 0o755)?;
            (self.mounting.mount)(file, &target)?;
        }
        Ok(target)
    }

    /// Takes down what has not been used for long; what is still mounted.
    pub fn sweep(&self, used: &BTreeSet<Digest>, now: Timestamp) -> BTreeSet<Digest> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut mounted = BTreeSet::new();
        let Ok(entries) = fs::read_dir(&self.directory) else { return mounted };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Ok(digest) = format!("sha256:{}", name.to_string_lossy()).parse::<Digest>() else {
                continue;
            };
            if used.contains(&digest) {
                idle.remove(&digest);
                mounted.insert(digest);
                continue;
            }
            let since = *idle.entry(digest).or_insert(now);
            if now.seconds() - since.seconds() < KEEP_SECONDS || !self.take_down(&entry.path()) {
                mounted.insert(digest);
                continue;
            }
            idle.remove(&digest);
        }
        mounted
    }

    fn take_down(&self, target: &Path) -> bool {
        if (self.mounting.is_mounted)(target)
            && let Err(error) = (self.mounting.unmount)(target)
        {
            tracing::debug!("{:#}", anyhow::Error::from(error));
            return false;
        }
        fs::remove_dir(target).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file in the directory is the mount.
    fn pretend() -> Mounting {
        Mounting {
            mount: |file, target| {
                assert!(!target.join("mounted").exists());
                fs::copy(file, target.join("mounted"))
                    .map(drop)
                    .map_err(|errno| LinuxError::new("mount", "x", errno))
            },
            unmount: |target| {
                fs::remove_file(target.join("mounted"))
                    .map_err(|errno| LinuxError::new("unmount", "x", errno))
            },
            is_mounted: |target| target.join("mounted").exists(),
        }
    }

    #[test]
    fn an_image_is_mounted_once_and_goes_when_it_was_idle_for_long() {
        let place = tempfile::tempdir().unwrap();
        let (file, directory) = (place.path().join("file"), place.path().join("images"));
        fs::write(&file, "x").unwrap();
        let images = Images::new(directory.clone(), pretend());
        let digest = Digest([7; 32]);
        let at = |seconds: i64| Timestamp(0).plus_seconds(seconds);
        let (used, unused) = (BTreeSet::from([digest]), BTreeSet::new());

        let target = images.mount(digest, &file).unwrap();
        assert_eq!(target, directory.join(digest.hex()));
        images.mount(digest, &file).unwrap();
        assert_eq!(images.sweep(&used, at(0)), used);
        assert_eq!(images.sweep(&unused, at(10_000)), used);
        assert_eq!(images.sweep(&unused, at(10_599)), used);
        // Used once more: the time begins again.
        images.mount(digest, &file).unwrap();
        assert_eq!(images.sweep(&unused, at(10_600)), used);
        assert_eq!(images.sweep(&unused, at(11_200)), unused);
        assert!(!target.exists());
    }
}
