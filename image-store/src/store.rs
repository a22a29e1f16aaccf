//! The content-addressed store. Used by everything in this crate, by `oci-pull`, and by
//! `provisioner` to serve blobs.
//!
//! ```text
//! DIR/blobs/sha256/HH/HEX     a whole blob, mode 0400, never changed; HH = first two digits of HEX
//! DIR/partial/HEX             a download under way or broken off; locked (flock) while somebody writes it
//! DIR/partial/HEX-N           the same, of somebody who did not wait for who writes HEX; N from 1
//! DIR/partial/tmp-N-N         an artifact being made; locked likewise; swept at the next open after a crash
//! ```
//! A blob appears by `rename` after it was written, verified (digest and size) and synced, and the
//! directory is synced after the rename. Several threads and processes can use one store.

mod blob_writer;
mod error;
mod leases;

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use api::ids::Digest;
use metrics::Counter;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use self::leases::{Lease, Leases, RemovedCounts};
pub use self::{
    blob_writer::{Beginning, BlobWriter},
    error::StoreError,
    leases::{Removal, Removed},
};
use crate::mapped::{Mapped, Mappings};

/// Unit of copying and hashing, bytes: large enough that system calls do not count, small enough
/// for a CPU cache.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;

/// Free space that is left alone, bytes: the server's database lives on the same file system
/// and must go on.
pub(crate) const RESERVED_BYTES: u64 = 16 << 20;

/// Where a blob is in the store of a directory.
pub(crate) fn blob_path(root: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    root.join("blobs/sha256").join(&hex[..2]).join(hex)
}

/// A handle to a store; clones are cheap and name the same store.
#[derive(Debug, Clone)]
pub struct Store {
    root: Arc<Path>,
    /// Counts temporary files of this process, so that their names differ.
    temporaries: Arc<AtomicU64>,
    mappings: Arc<Mappings>,
    leases: Arc<Leases>,
    /// Of a leased handle: what it has marked.
    lease: Option<Arc<Lease>>,
    /// Bytes that writers of blobs brought here.
    brought: Arc<Counter>,
    /// What removals took.
    removed: Arc<RemovedCounts>,
}

impl Store {
    /// Opens the store in `dir`, makes it if it is not there, and sweeps temporary files of
    /// processes that died.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root: PathBuf = dir.into();
        for directory in [root.join("blobs/sha256"), root.join("partial")] {
            DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(|source| {
                StoreError::Io { operation: "make directory", path: directory, source }
            })?;
        }
        let store = Self {
            root: root.into(),
            temporaries: Arc::default(),
            mappings: Arc::default(),
            leases: Arc::default(),
            lease: None,
            brought: Arc::default(),
            removed: Arc::default(),
        };
        store.sweep()?;
        Ok(store)
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Bytes that [`BlobWriter`]s have written since the store was opened: layers that were pulled
    /// or copied, those of pulls that failed among them.
    #[must_use]
    pub fn brought_bytes(&self) -> u64 {
        self.brought.get()
    }

    /// What removals have taken since the store was opened, also those that failed on the way.
    #[must_use]
    pub fn removed(&self) -> Removed {
        self.removed.total()
    }

    /// Where the blob is or would be.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        blob_path(&self.root, digest)
    }

    /// `true` if the blob is there, whole and verified.
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        self.mark(digest);
        self.path(digest).is_file()
    }

    /// Size of a blob in bytes.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Io`].
    pub fn size(&self, digest: &Digest) -> Result<u64, StoreError> {
        self.mark(digest);
        let path = self.path(digest);
        fs::metadata(&path)
            .map(|meta| meta.len())
            .map_err(|e| self.absent(digest, "look at", path, e))
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Io`].
    pub fn reader(&self, digest: &Digest) -> Result<File, StoreError> {
        self.mark(digest);
        let path = self.path(digest);
        File::open(&path).map_err(|e| self.absent(digest, "open", path, e))
    }

    /// Maps a blob into memory.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Io`].
    pub fn map(&self, digest: &Digest) -> Result<Mapped, StoreError> {
        let file = self.reader(digest)?;
        self.mappings.of(digest, file).map_err(|source| StoreError::Io {
            operation: "map into memory",
            path: self.path(digest),
            source,
        })
    }

    /// The mapped blob that these bytes are a part of, and where they begin in it, bytes: whoever
    /// was handed a slice can so have the kernel copy from the file instead.
    #[must_use]
    pub fn source(&self, part: &[u8]) -> Option<(Mapped, u64)> {
        self.mappings.source(part)
    }

    /// Copies all of `reader` into the store.
    ///
    /// # Errors
    /// [`StoreError::Io`] for reading too, [`StoreError::NoSpace`].
    pub fn put(&self, mut reader: impl Read) -> Result<(Digest, u64), StoreError> {
        let temporary = self.temporary()?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut size = 0;
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    let path = temporary.path.clone();
                    return Err(StoreError::Io { operation: "read what goes into", path, source });
                }
            };
            hash.update(&buffer[..count]);
            (&temporary.file)
                .write_all(&buffer[..count])
                .map_err(|e| self.write_failed("write", &temporary.path, 0, e))?;
            size += count as u64;
        }
        let digest = Digest(hash.finalize().into());
        temporary.publish(self, &digest)?;
        Ok((digest, size))
    }

    /// A new empty file in the store's file system, for a program that makes an artifact;
    /// removed when dropped.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::NoSpace`].
    pub fn temporary(&self) -> Result<Temporary, StoreError> {
        loop {
            let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
            let path =
                self.root.join("partial").join(format!("tmp-{}-{number}", std::process::id()));
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(0o600);
            let file = match options.open(&path) {
                Ok(file) => file,
                // Two stores of one process on the same directory count apart.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(self.write_failed("make", &path, 0, e)),
            };
            let failed =
                |operation, source| StoreError::Io { operation, path: path.clone(), source };
            flock(&file, FlockOperation::LockExclusive).map_err(|e| failed("lock", e.into()))?;
            // A removal may have had the lock first, and taken the file for a dead process's.
            if is_at(&file, &path).map_err(|e| failed("look at", e))? {
                return Ok(Temporary { path, file, kept: false });
            }
        }
    }

    /// Takes a finished temporary file into the store.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::NoSpace`].
    pub fn adopt(&self, temporary: Temporary) -> Result<(Digest, u64), StoreError> {
        let mut file = File::open(&temporary.path).map_err(|source| StoreError::Io {
            operation: "open",
            path: temporary.path.clone(),
            source,
        })?;
        let mut hash = Sha256::new();
        let size = hash_all(&mut file, &mut hash).map_err(|source| StoreError::Io {
            operation: "read",
            path: temporary.path.clone(),
            source,
        })?;
        let digest = Digest(hash.finalize().into());
        temporary.publish(self, &digest)?;
        Ok((digest, size))
    }

    /// Removes a blob, and what is left of a broken download of it; `true` if the blob was there.
    /// Mappings of it stay good.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn remove(&self, digest: &Digest) -> Result<bool, StoreError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(StoreError::Io { operation: "remove", path, source }),
        }
    }

    /// All blobs with their sizes in bytes, by digest.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn list(&self) -> Result<Vec<(Digest, u64)>, StoreError> {
        let mut blobs = Vec::new();
        for directory in entries(&self.root.join("blobs/sha256"))? {
            for path in entries(&directory)? {
                let name =
                    path.file_name().map(|name| format!("sha256:{}", name.to_string_lossy()));
                let Some(digest) = name.and_then(|name| name.parse::<Digest>().ok()) else {
                    continue;
                };
                match fs::metadata(&path) {
                    Ok(meta) => blobs.push((digest, meta.len())),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(source) => {
                        return Err(StoreError::Io { operation: "look at", path, source });
                    }
                }
            }
        }
        blobs.sort_unstable();
        Ok(blobs)
    }

    /// Removes the broken downloads that nobody is writing now, nor going to; returns how many, and
    /// how many bytes that freed.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn remove_partial(&self) -> Result<(u64, u64), StoreError> {
        self.remove_unlocked("")
    }

    /// Removes temporary files that no living process holds.
    fn sweep(&self) -> Result<(), StoreError> {
        self.remove_unlocked("tmp-").map(|_| ())
    }

    fn remove_unlocked(&self, prefix: &str) -> Result<(u64, u64), StoreError> {
        let (mut count, mut freed) = (0, 0);
        for path in entries(&self.root.join("partial"))? {
            let matches =
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
            let Some(file) = matches.then(|| File::open(&path).ok()).flatten() else { continue };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
                && self.remove_unused_partial(&path)?
            {
                count += 1;
                freed += file.metadata().map_or(0, |meta| meta.len());
            }
        }
        Ok((count, freed))
    }

    /// Gives `path` (a synced, locked file in `partial`) its name in the store.
    fn publish(&self, path: &Path, file: &File, digest: &Digest) -> Result<(), StoreError> {
        self.mark(digest);
        let failed = |operation, path: &Path, e| self.write_failed(operation, path, 0, e);
        file.sync_all().map_err(|e| failed("sync", path, e))?;
        let target = self.path(digest);
        let blobs = self.root.join("blobs/sha256");
        let directory = blobs.join(&digest.hex()[..2]);
        match DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => sync_directory(&blobs)?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed("make directory", &directory, e)),
        }
        fs::rename(path, &target).map_err(|e| failed("rename into place", &target, e))?;
        sync_directory(&directory)?;
        // Only now: while it is in `partial`, other writers open it for writing before they wait.
        // The blob is in the store, and that its owner may write to it harms nobody.
        if let Err(error) = file.set_permissions(Permissions::from_mode(0o400)) {
            tracing::warn!("{} stays writable for its owner: {error}", target.display());
        }
        Ok(())
    }

    fn absent(
        &self,
        digest: &Digest,
        operation: &'static str,
        path: PathBuf,
        source: io::Error,
    ) -> StoreError {
        if source.kind() == io::ErrorKind::NotFound {
            StoreError::Missing { digest: *digest, path: self.root.to_path_buf() }
        } else {
            StoreError::Io { operation, path, source }
        }
    }

    /// Names a failed write, telling a full disk from the rest.
    pub(crate) fn write_failed(
        &self,
        operation: &'static str,
        path: &Path,
        needed: u64,
        source: io::Error,
    ) -> StoreError {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        if full.contains(&source.kind()) {
            self.no_space(needed)
        } else {
            StoreError::Io { operation, path: path.to_path_buf(), source }
        }
    }

    /// Refuses to begin what needs more room than there is, beside [`RESERVED_BYTES`].
    ///
    /// # Errors
    /// [`StoreError::NoSpace`].
    pub(crate) fn require(&self, bytes: u64) -> Result<(), StoreError> {
        let needed = bytes.saturating_add(RESERVED_BYTES);
        match self.available() {
            Some(free) if bytes > 0 && free < needed => Err(self.no_space(needed)),
            _ => Ok(()),
        }
    }

    /// `true` if what should be left alone is being used up.
    pub(crate) fn is_full(&self) -> bool {
        self.available().is_some_and(|free| free < RESERVED_BYTES)
    }

    /// The error for a full file system.
    pub(crate) fn no_space(&self, needed: u64) -> StoreError {
        let available = self.available().unwrap_or(0);
        StoreError::NoSpace { path: self.root.to_path_buf(), needed, available }
    }

    /// Bytes free in the store's file system, if it tells.
    pub(crate) fn available(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(&*self.root).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// A file that is not yet in the store; see [`Store::temporary`].
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl Temporary {
    /// Its path. A program may write here, but must not put another file in its place.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    fn publish(mut self, store: &Store, digest: &Digest) -> Result<(), StoreError> {
        if store.contains(digest) {
            return Ok(());
        }
        store.publish(&self.path, &self.file, digest)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            remove_quietly(&self.path);
        }
    }
}

/// Feeds a file from where it stands to its end into `hash`; returns the count of bytes.
fn hash_all(file: &mut File, hash: &mut Sha256) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(count) => {
                hash.update(&buffer[..count]);
                size += count as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Whether a path names this open file, and not another one or none.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    Ok(fs::metadata(path).is_ok_and(|now| now.ino() == ours.ino() && now.dev() == ours.dev()))
}

/// Paths in a directory, in no order.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed =
        |source| StoreError::Io { operation: "list", path: directory.to_path_buf(), source };
    fs::read_dir(directory)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
        .collect()
}

fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    File::open(directory).and_then(|dir| dir.sync_all()).map_err(|source| StoreError::Io {
        operation: "sync directory",
        path: directory.to_path_buf(),
        source,
    })
}

/// Removes a file on the way out of an error that is reported already.
fn remove_quietly(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "cannot remove a partial file");
    }
}
