//! What volumes may hold on a node that keeps them in memory: each is a tmpfs of its own, of at
//! most the size that the server told, and all together have the room of the node's root.
//!
//! ```text
//! VOLUMES/WORKFLOW/NAME   tmpfs, source `bedplate-volume:LIMIT`: an agent that starts reads LIMIT there
//! left = room left of the root - what all volumes hold, with INODE_BYTES a file - SPACE_TO_SPARE
//! size of a volume = its limit, or what it holds and `left` where that is less
//! files of a volume = one for each page of its limit, or those that it holds and what `left` has
//! ```
//!
//! Limits may come to more than there is: most volumes hold little. So sizes are set again every
//! [`FIT_INTERVAL`] ([`fit`]), and when nothing is left each volume keeps what it holds: whoever
//! writes more gets `ENOSPC`. What a job writes between two looks is within its own limit of
//! memory, for pages of a tmpfs are charged to the cgroup of whoever writes them first.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use api::run::{RunUser, VolumeUse, WorkflowId};
use linux::{
    LinuxError,
    mount::{self, Flags, Room},
};

use super::{super::artifacts::SPACE_TO_SPARE, VolumeError, Volumes};

/// How often the sizes of volumes are set: in between, jobs write no more than they were granted.
pub const FIT_INTERVAL: Duration = Duration::from_secs(2);

/// Volumes of one node that are a file system: the node's init looks at each mount, and each
/// container copies all of them while it starts.
pub const MAX_MOUNTED: usize = 1_024;

/// What the source of such a mount begins with; the limit in bytes is behind it.
const SOURCE: &str = "bedplate-volume:";

/// Least size, bytes: a tmpfs of size 0 has no limit.
const MIN_BYTES: u64 = 64 << 10;

/// Bytes of the limit for which a volume may have one file or directory: a page, as a file of one
/// byte takes.
const BYTES_PER_INODE: u64 = 4 << 10;

/// Files and directories that the smallest volume may have.
const MIN_INODES: u64 = 1_024;

/// Memory of the kernel that a file or a directory takes, also an empty one, about, bytes.
const INODE_BYTES: u64 = 1 << 10;

/// Files that a volume may have where nothing is left: its own directory, and a few.
const FEWEST_INODES: u64 = 16;

const FLAGS: Flags = Flags::NOSUID.union(Flags::NODEV);

/// A volume that is a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LimitedVolume {
    /// Where it is mounted.
    pub(super) path: PathBuf,
    /// What it may hold, bytes.
    limit: u64,
}

/// The room that a volume has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeRoom {
    /// What it can hold now, bytes.
    pub total: u64,
    /// What can still be written, bytes.
    pub available: u64,
    /// What it may hold, bytes. `None`: it has no limit of its own, and shares the node's room.
    pub limit: Option<u64>,
}

/// The volumes below `directory` that are a file system.
///
/// # Errors
/// `/proc` is not there.
pub(super) fn limited(directory: &Path) -> Result<Vec<LimitedVolume>, LinuxError> {
    let volumes = mount::below(directory)?.into_iter().filter_map(|mounted| {
        let limit = mounted.source.strip_prefix(SOURCE).filter(|_| mounted.kind == "tmpfs")?;
        Some(LimitedVolume { path: mounted.target, limit: limit.parse().ok()? })
    });
    Ok(volumes.collect())
}

/// Makes the directory at `path` a file system of `user` that may hold `limit` bytes.
///
/// # Errors
/// The kernel's.
fn mount_limited(path: &Path, user: &RunUser, limit: u64) -> Result<(), LinuxError> {
    let limit = limit.max(MIN_BYTES);
    let (uid, gid, size) = (user.uid, user.gid, MIN_BYTES);
    // Its size comes with the next `fit`.
    let options = format!("mode=0700,uid={uid},gid={gid},size={size},nr_inodes={FEWEST_INODES}");
    mount::mount(Path::new(&format!("{SOURCE}{limit}")), path, "tmpfs", FLAGS, &options)
}

/// Gives each volume below `directory` the size that it may have now.
///
/// # Errors
/// What is mounted, or the room of the node's root, cannot be read.
fn fit(directory: &Path) -> Result<VolumeUse, LinuxError> {
    // Where one was taken down meanwhile the node's root is found in its place.
    let root_device = device(directory);
    let measured: Vec<(LimitedVolume, Room)> = limited(directory)?
        .into_iter()
        .filter(|volume| device(&volume.path) != root_device)
        .filter_map(|volume| mount::room(&volume.path).ok().map(|room| (volume, room)))
        .collect();
    if measured.is_empty() {
        return Ok(VolumeUse::default());
    }
    let root = mount::room(directory)?;
    let used_bytes = measured.iter().map(|(_, room)| held(*room)).fold(0, u64::saturating_add);
    let left_bytes = left(root, used_bytes);
    for (volume, room) in &measured {
        let size = size(volume.limit, room.used(), left_bytes);
        let inodes = inodes(volume.limit.min(root.total), room.inodes, left_bytes);
        if size.abs_diff(room.total) < MIN_BYTES && inodes.abs_diff(room.max_inodes) < FEWEST_INODES
        {
            continue;
        }
        // Refused where it holds more by now; the next look sees that.
        let options = format!("size={size},nr_inodes={inodes}");
        if let Err(error) = mount::remount(&volume.path, FLAGS, &options) {
            tracing::debug!("{:#}", anyhow::Error::from(error));
        }
    }
    Ok(VolumeUse { volumes: measured.len() as u64, used_bytes, left_bytes })
}

/// The file system that a path is on; `None` if it is not there.
fn device(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|found| found.dev())
}

/// Memory that a volume takes, bytes.
fn held(room: Room) -> u64 {
    room.used().saturating_add(room.inodes.saturating_mul(INODE_BYTES))
}

/// Files and directories that a volume may have.
fn inodes(limit: u64, used: u64, left: u64) -> u64 {
    let most = (limit / BYTES_PER_INODE).max(MIN_INODES);
    most.min(used.saturating_add(left / INODE_BYTES)).max(used).max(FEWEST_INODES)
}

/// Takes down the volumes below a directory that are file systems, and nothing else that
/// is mounted there.
pub(super) fn detach_below(directory: &Path) {
    let volumes = limited(directory).unwrap_or_default();
    for volume in volumes {
        if let Err(error) = mount::detach(&volume.path) {
            tracing::error!("{:#}", anyhow::Error::from(error));
        }
    }
}

/// What all volumes may still take: they count as if they were on the node's root.
fn left(root: Room, used: u64) -> u64 {
    root.available.saturating_sub(used).saturating_sub(SPACE_TO_SPARE)
}

/// The size of a volume, bytes.
fn size(limit: u64, used: u64, left: u64) -> u64 {
    limit.min(used.saturating_add(left)).max(MIN_BYTES)
}

impl Volumes {
    /// Makes an empty directory a file system of its own, unless it is one.
    pub(super) fn limit(
        &self,
        path: &Path,
        volume: &str,
        user: &RunUser,
        limit: Option<u64>,
    ) -> Result<(), VolumeError> {
        let failed = |source| VolumeError::Limit { volume: volume.to_owned(), source };
        let there = limited(&self.directory).map_err(failed)?;
        if there.iter().any(|there| there.path == path) {
            return Ok(());
        }
        if there.len() >= MAX_MOUNTED {
            return Err(VolumeError::TooManyVolumes(volume.to_owned()));
        }
        let most = mount::room(&self.directory).map_err(failed)?.total;
        mount_limited(path, user, limit.unwrap_or(most)).map_err(failed)?;
        fit(&self.directory).map(drop).map_err(failed)
    }

    /// Gives each volume the size that it may have now, and says what all of them hold.
    #[must_use]
    pub fn fit(&self) -> VolumeUse {
        fit(&self.directory).unwrap_or_else(|error| {
            tracing::warn!("{:#}", anyhow::Error::from(error));
            VolumeUse::default()
        })
    }

    /// The room that a volume has now. Where the kernel does not tell, it is not limited.
    #[must_use]
    pub fn room(&self, workflow: WorkflowId, volume: &str) -> VolumeRoom {
        let own = self.path(workflow, volume).ok().and_then(|path| {
            let _ = self.fit();
            let there = limited(&self.directory).ok()?;
            let limit = there.into_iter().find(|there| there.path == path)?.limit;
            let Room { total, available, .. } = mount::room(&path).ok()?;
            Some(VolumeRoom { total, available, limit: Some(limit) })
        });
        own.unwrap_or_else(|| {
            let (total, available) = mount::room(&self.directory)
                .map_or((u64::MAX, u64::MAX), |room| (room.total, room.available));
            VolumeRoom { total, available, limit: None }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_has_its_limit_or_what_is_left() {
        let mib = |count: u64| count << 20;
        for (limit, used, left, expected) in [
            (mib(8), 0, mib(100), mib(8)),
            (mib(8), mib(8), mib(100), mib(8)),
            (mib(200), mib(5), mib(100), mib(105)),
            (mib(200), mib(5), 0, mib(5)),
            // A limit that was lowered takes nothing away: the kernel refuses it.
            (mib(4), mib(5), mib(100), mib(4)),
            (u64::MAX, u64::MAX, 1, u64::MAX),
            (0, 0, 0, MIN_BYTES),
        ] {
            assert_eq!(size(limit, used, left), expected, "{limit} {used} {left}");
        }
    }

    #[test]
    fn files_are_limited_by_the_size_and_by_what_is_left() {
        let (mib, few) = (1 << 20, FEWEST_INODES);
        for (limit, used, left, expected) in [
            (64 * mib, 10, 1 << 30, 16_384),
            (mib, 10, 1 << 30, MIN_INODES),
            // Empty files take memory, too.
            (64 * mib, 10, mib, 10 + 1_024),
            (64 * mib, 500, 0, 500),
            (64 * mib, 1, 0, few),
        ] {
            assert_eq!(inodes(limit, used, left), expected, "{limit} {used} {left}");
        }
        let room = Room { total: 8 * mib, available: 7 * mib, max_inodes: 99, inodes: 2 };
        assert_eq!(held(room), mib + 2_048);
    }

    #[test]
    fn volumes_count_as_if_they_were_on_the_root() {
        let root = Room { total: 1 << 30, available: 512 << 20, max_inodes: 1 << 18, inodes: 9 };
        assert_eq!(left(root, 0), 448 << 20);
        assert_eq!(left(root, 448 << 20), 0);
        assert_eq!(left(root, 1 << 40), 0);
    }
}
