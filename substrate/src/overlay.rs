//! Applying a rendered overlay archive ([`api::overlay`]) to a root: by stage 1 to the new root
//! before its init starts, and by the agent to the running system.
//!
//! The archive is read whole and checked before anything is touched. A file that already is as
//! wanted (content, owner, mode) is left alone with its times; the others are replaced in one step
//! each. What an earlier archive brought and this one does not is removed, or put back from the
//! image (`lower`) where the image has such a file; directories that an archive made are removed
//! when they are empty. A directory that was there before keeps its owner and mode.
//!
//! [`Manifest`] is what archives brought; the caller keeps it, as JSON, from one call to the next.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use api::{
    ids::Digest,
    overlay::{ListedContent, ListedEntry},
};
use linux::{
    LinuxError,
    root::{Entry, Ownership, Root},
};
use serde::{Deserialize, Serialize};

/// Largest archive, bytes, headers and content together. It is held in memory; overlays are
/// configuration, not data.
pub use api::overlay::MAX_ARCHIVE_BYTES;

/// Most entries of one archive.
pub const MAX_ENTRIES: usize = 100_000;

/// Mode of directories that an archive needs and does not name.
const IMPLIED_DIRECTORY: Ownership = Ownership { uid: 0, gid: 0, mode: 0o755 };

/// What overlays brought to a root and must take away again. Paths are relative to the root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// Regular files and symbolic links.
    pub files: BTreeSet<PathBuf>,
    /// Directories that did not exist before.
    #[serde(rename = "folders")]
    pub directories: BTreeSet<PathBuf>,
}

/// What one call changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files and links written because they were not as wanted.
    pub written: u64,
    /// Files and links removed, or put back as the image has them.
    pub removed: u64,
}

/// Why an archive was not applied, or only in part.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The archive breaks off or is no tar. Nothing was changed.
    #[error("cannot read the overlay archive")]
    Archive(#[source] std::io::Error),
    /// A path leaves the root, or an entry is no directory, file or symbolic link.
    /// Nothing was changed.
    #[error("the overlay archive holds {path:?}: {rule}")]
    Entry {
        /// The path as the archive has it.
        path: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// The archive is over a limit. Nothing was changed.
    #[error("the overlay archive has more than {limit}")]
    TooLarge {
        /// The limit: "100000 entries".
        limit: String,
    },
    /// The root cannot be opened. Nothing was changed.
    #[error("cannot apply overlays")]
    Root(#[source] LinuxError),
    /// A change failed after others were made.
    #[error("cannot apply the overlays completely")]
    Partial {
        /// What overlays brought to the root as it is now: keep it for the next call.
        manifest: Box<Manifest>,
        /// The change that failed.
        #[source]
        source: LinuxError,
    },
}

/// Makes `root` hold what the `tar` says, and no longer what only `previous` says: [`Tree::read`],
/// then [`Tree::apply`].
///
/// # Errors
/// Those of both.
pub fn apply(
    root: &Path,
    tar: impl Read,
    previous: &Manifest,
    lower: Option<&Path>,
) -> Result<(Manifest, Summary), OverlayError> {
    Tree::read(tar)?.apply(root, previous, lower)
}

/// What an archive wants, read and checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, OverlayEntry>);

impl Tree {
    /// Reads and checks a whole archive.
    ///
    /// # Errors
    /// [`OverlayError::Archive`], [`OverlayError::Entry`], [`OverlayError::TooLarge`].
    pub fn read(tar: impl Read) -> Result<Self, OverlayError> {
        read_archive(tar).map(Self)
    }

    /// The digest of its generation ([`api::overlay::Generation::digest`]).
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut entries: Vec<(&[u8], &OverlayEntry)> =
            self.0.iter().map(|(path, wanted)| (path.as_os_str().as_bytes(), wanted)).collect();
        entries.sort_unstable_by_key(|(path, _)| *path);
        let mut list = Vec::new();
        for (path, wanted) in entries {
            let (mode, uid, gid, content) = match wanted {
                OverlayEntry::Directory(as_) => {
                    (as_.mode, as_.uid, as_.gid, ListedContent::Directory)
                }
                OverlayEntry::File(as_, bytes) => {
                    (as_.mode, as_.uid, as_.gid, ListedContent::File(sha256(bytes)))
                }
                OverlayEntry::Link { target, uid, gid } => {
                    (0, *uid, *gid, ListedContent::Link(target.as_os_str().as_bytes()))
                }
            };
            ListedEntry { path, mode, uid, gid, content }.write(&mut list);
        }
        sha256(&list)
    }

    /// Paths of its regular files and symbolic links.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let files =
            self.0.iter().filter(|(_, wanted)| !matches!(wanted, OverlayEntry::Directory(_)));
        files.map(|(path, _)| path.as_path())
    }

    /// Makes `root` hold this, and no longer what only `previous` says. `lower` is the image's own
    /// root, read-only, from which overwritten files are put back; without it they are removed.
    ///
    /// # Errors
    /// [`OverlayError::Root`], [`OverlayError::Partial`]; after the latter a call with its
    /// manifest carries on.
    pub fn apply(
        &self,
        root: &Path,
        previous: &Manifest,
        lower: Option<&Path>,
    ) -> Result<(Manifest, Summary), OverlayError> {
        let root = Root::open(root).map_err(OverlayError::Root)?;
        let lower = lower.map(Root::open).transpose().map_err(OverlayError::Root)?;
        let mut change =
            Change { root, lower, manifest: previous.clone(), summary: Summary::default() };
        match change.make(&self.0) {
            Ok(()) => Ok((change.manifest, change.summary)),
            Err(source) => {
                Err(OverlayError::Partial { manifest: Box::new(change.manifest), source })
            }
        }
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut value = [0; 32];
    value.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    Digest(value)
}

/// What an archive wants at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum OverlayEntry {
    Directory(Ownership),
    File(Ownership, Vec<u8>),
    Link { target: PathBuf, uid: u32, gid: u32 },
}

/// Reads and checks the whole archive. Of two entries with one path the later one
/// counts, as tar has it.
fn read_archive(tar: impl Read) -> Result<BTreeMap<PathBuf, OverlayEntry>, OverlayError> {
    // One byte more than allowed tells a full archive from one that is cut off by the limit.
    let mut archive = tar::Archive::new(tar.take(MAX_ARCHIVE_BYTES + 1));
    let mut wanted = BTreeMap::new();
    let mut bytes = 0_u64;
    for entry in archive.entries().map_err(OverlayError::Archive)? {
        let mut entry = entry.map_err(OverlayError::Archive)?;
        let stored = entry.path().map_err(OverlayError::Archive)?.into_owned();
        let path = checked_path(&stored)?;
        bytes = bytes.saturating_add(entry.size()).saturating_add(512);
        if bytes > MAX_ARCHIVE_BYTES {
            return Err(OverlayError::TooLarge { limit: format!("{MAX_ARCHIVE_BYTES} bytes") });
        }
        if path.as_os_str().is_empty() {
            continue;
        }
        let wants = read_entry(&mut entry, &stored)?;
        wanted.insert(path, wants);
        if wanted.len() > MAX_ENTRIES {
            return Err(OverlayError::TooLarge { limit: format!("{MAX_ENTRIES} entries") });
        }
    }
    check_parents(&wanted)?;
    Ok(wanted)
}

fn read_entry(
    entry: &mut tar::Entry<'_, impl Read>,
    stored: &Path,
) -> Result<OverlayEntry, OverlayError> {
    let header = entry.header();
    let number = |field: std::io::Result<u64>| {
        field
            .and_then(|value| u32::try_from(value).map_err(std::io::Error::other))
            .map_err(OverlayError::Archive)
    };
    let mode = header.mode().map_err(OverlayError::Archive)? & 0o7777;
    let as_ = Ownership { uid: number(header.uid())?, gid: number(header.gid())?, mode };
    match header.entry_type() {
        tar::EntryType::Directory => Ok(OverlayEntry::Directory(as_)),
        tar::EntryType::Regular | tar::EntryType::Continuous => {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(OverlayError::Archive)?;
            Ok(OverlayEntry::File(as_, content))
        }
        tar::EntryType::Symlink => {
            let target =
                entry.link_name().map_err(OverlayError::Archive)?.unwrap_or_default().into_owned();
            if target.as_os_str().is_empty() {
                return Err(refused(stored, "a symbolic link needs a target"));
            }
            Ok(OverlayEntry::Link { target, uid: as_.uid, gid: as_.gid })
        }
        _ => Err(refused(stored, "only directories, regular files and symbolic links are allowed")),
    }
}

/// Strips `./`; refuses what is absolute or has `..`.
fn checked_path(stored: &Path) -> Result<PathBuf, OverlayError> {
    let mut path = PathBuf::new();
    for component in stored.components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            _ => return Err(refused(stored, "paths are relative to the root and have no `..`")),
        }
    }
    Ok(path)
}

/// A file of the archive cannot be the directory of another entry.
fn check_parents(wanted: &BTreeMap<PathBuf, OverlayEntry>) -> Result<(), OverlayError> {
    for path in wanted.keys() {
        for parent in path.ancestors().skip(1) {
            if matches!(wanted.get(parent), Some(OverlayEntry::File(..))) {
                return Err(refused(path, "its directory is a file in the same archive"));
            }
        }
    }
    Ok(())
}

fn refused(path: &Path, rule: &'static str) -> OverlayError {
    OverlayError::Entry { path: path.display().to_string(), rule }
}

struct Change {
    root: Root,
    lower: Option<Root>,
    /// What overlays brought to the root as it is at this moment.
    manifest: Manifest,
    summary: Summary,
}

impl Change {
    fn make(&mut self, wanted: &BTreeMap<PathBuf, OverlayEntry>) -> Result<(), LinuxError> {
        // Leavers first: what was a file may become a directory.
        self.remove_files(wanted)?;
        self.remove_directories(wanted)?;
        // Parents sort before their children.
        for (path, wants) in wanted {
            match wants {
                OverlayEntry::Directory(as_) => self.directory(path, *as_)?,
                OverlayEntry::File(as_, content) => self.file(path, *as_, content)?,
                OverlayEntry::Link { target, uid, gid } => self.link(path, target, *uid, *gid)?,
            }
        }
        Ok(())
    }

    fn remove_files(&mut self, wanted: &BTreeMap<PathBuf, OverlayEntry>) -> Result<(), LinuxError> {
        let stays = |path: &PathBuf| {
            matches!(wanted.get(path), Some(OverlayEntry::File(..) | OverlayEntry::Link { .. }))
        };
        let leavers: Vec<_> =
            self.manifest.files.iter().filter(|path| !stays(path)).cloned().collect();
        for path in leavers {
            if self.is_ours(&path)? && (self.restore(&path)? || self.root.remove_file(&path)?) {
                self.summary.removed += 1;
            }
            self.manifest.files.remove(&path);
        }
        Ok(())
    }

    /// `false` if somebody on the node removed the directory of our file, or put a directory
    /// or a device in its place: that is theirs, and must not keep the overlays from being
    /// applied for ever.
    fn is_ours(&self, path: &Path) -> Result<bool, LinuxError> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let there = parent.is_none_or(|parent| self.root.leads_to_directory(parent));
        Ok(there && !matches!(self.root.look(path)?, Some(Entry::Directory(_) | Entry::Special)))
    }

    /// Puts the image's own file or link back. `false` if the image has none.
    fn restore(&self, path: &Path) -> Result<bool, LinuxError> {
        let Some(lower) = &self.lower else { return Ok(false) };
        match lower.look(path)? {
            Some(Entry::File(..)) => self.root.copy_file(lower, path).map(|()| true),
            Some(Entry::Link(as_, target)) => {
                self.root.write_link(path, &target, as_.uid, as_.gid).map(|()| true)
            }
            // An overlay never takes the place of a directory or a device.
            Some(Entry::Directory(_) | Entry::Special) | None => Ok(false),
        }
    }

    fn remove_directories(
        &mut self,
        wanted: &BTreeMap<PathBuf, OverlayEntry>,
    ) -> Result<(), LinuxError> {
        // Needed are the directories that the archive names and those of its other entries.
        let needed = |directory: &PathBuf| {
            wanted.range(directory.clone()..).next().is_some_and(|(path, wants)| {
                path.starts_with(directory)
                    && (path != directory || matches!(wants, OverlayEntry::Directory(_)))
            })
        };
        // Children before their parents.
        let leavers: Vec<_> =
            self.manifest.directories.iter().rev().filter(|path| !needed(path)).cloned().collect();
        for path in leavers {
            let gone = match self.root.look(&path)? {
                Some(Entry::Directory(_)) => self.root.remove_empty_directory(&path)?,
                _ => true,
            };
            // One that still holds something stays ours and is tried again next time.
            if gone {
                self.manifest.directories.remove(&path);
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &Path, as_: Ownership) -> Result<(), LinuxError> {
        if self.manifest.directories.contains(path) {
            match self.root.look(path)? {
                Some(Entry::Directory(is)) if is == as_ => return Ok(()),
                Some(Entry::Directory(_)) => return self.root.set_directory_ownership(path, as_),
                _ => {}
            }
        }
        if self.root.leads_to_directory(path) {
            return Ok(());
        }
        self.parents(path)?;
        self.root.make_directory(path, as_)?;
        self.manifest.directories.insert(path.to_owned());
        Ok(())
    }

    fn parents(&mut self, path: &Path) -> Result<(), LinuxError> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if parent.as_os_str().is_empty() || self.root.leads_to_directory(parent) {
            return Ok(());
        }
        self.parents(parent)?;
        self.root.make_directory(parent, IMPLIED_DIRECTORY)?;
        self.manifest.directories.insert(parent.to_owned());
        Ok(())
    }

    fn file(&mut self, path: &Path, as_: Ownership, content: &[u8]) -> Result<(), LinuxError> {
        let is = self.root.look(path)?;
        if is != Some(Entry::File(as_, content.len() as u64)) || !self.holds(path, content) {
            self.refuse_special(path, is.as_ref())?;
            self.parents(path)?;
            self.root.write_file(path, &mut &content[..], as_)?;
            self.summary.written += 1;
        }
        self.manifest.files.insert(path.to_owned());
        Ok(())
    }

    fn link(&mut self, path: &Path, target: &Path, uid: u32, gid: u32) -> Result<(), LinuxError> {
        let is = self.root.look(path)?;
        let same = matches!(&is, Some(Entry::Link(as_, to)) if to == target && (as_.uid, as_.gid) == (uid, gid));
        if !same {
            self.refuse_special(path, is.as_ref())?;
            self.parents(path)?;
            self.root.write_link(path, target, uid, gid)?;
            self.summary.written += 1;
        }
        self.manifest.files.insert(path.to_owned());
        Ok(())
    }

    /// A device or socket could not be put back when the overlay leaves.
    fn refuse_special(&self, path: &Path, is: Option<&Entry>) -> Result<(), LinuxError> {
        if is == Some(&Entry::Special) {
            let errno = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(LinuxError::new(
                "replace the device, pipe or socket",
                path.display(),
                errno,
            ));
        }
        Ok(())
    }

    fn holds(&self, path: &Path, content: &[u8]) -> bool {
        let mut is = Vec::with_capacity(content.len());
        let read = self
            .root
            .read(path)
            .map(|file| file.take(content.len() as u64 + 1).read_to_end(&mut is));
        matches!(read, Ok(Ok(_))) && is == content
    }
}

#[cfg(test)]
#[path = "overlay/tests.rs"]
mod tests;
