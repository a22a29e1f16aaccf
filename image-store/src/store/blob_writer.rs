//! The writing of one blob whose digest and size are known; it can be broken off and
//! taken up again.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use api::ids::Digest;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use super::{Store, StoreError, hash_all, is_at, remove_quietly};

/// Writers of one blob that wait for no other, beside the one that others wait for: each takes the
/// room of the whole blob.
const MAX_BESIDE: u32 = 3;

/// How the writing of a blob begins.
#[derive(Debug)]
pub enum Beginning {
    /// The store has it already.
    Stored,
    /// Another thread or process writes it.
    Busy,
    /// From [`BlobWriter::offset`] on.
    Writer(Box<BlobWriter>),
}

/// Writes one blob; see [`Store::writer`]. Dropped before [`BlobWriter::finish`], it leaves what
/// was written for the next writer to take up.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    path: PathBuf,
    file: File,
    digest: Digest,
    size: u64,
    offset: u64,
    hash: Sha256,
}

impl Store {
    /// Takes up the writing of a blob whose digest and size are known; `None` if the store
    /// has it already.
    ///
    /// What an earlier writer left is kept: write on from [`BlobWriter::offset`]. Waits while
    /// another thread or process writes the same blob.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] before anything is written, [`StoreError::Io`].
    pub fn writer(&self, digest: &Digest, size: u64) -> Result<Option<BlobWriter>, StoreError> {
        loop {
            match self.begin(&digest.hex(), digest, size, FlockOperation::LockExclusive)? {
                Beginning::Stored => return Ok(None),
                Beginning::Writer(writer) => return Ok(Some(*writer)),
                Beginning::Busy => {}
            }
        }
    }

    /// The same for who does not wait. `beside`: write it once more if another thread or process
    /// writes it; [`Beginning::Busy`] only if several do so. The blob is whole when the first of
    /// them has finished.
    ///
    /// # Errors
    /// As of [`Self::writer`].
    pub fn try_writer(
        &self,
        digest: &Digest,
        size: u64,
        beside: bool,
    ) -> Result<Beginning, StoreError> {
        for number in 0..=if beside { MAX_BESIDE } else { 0 } {
            let name = match number {
                0 => digest.hex(),
                number => format!("{}-{number}", digest.hex()),
            };
            match self.begin(&name, digest, size, FlockOperation::NonBlockingLockExclusive)? {
                Beginning::Busy => {}
                beginning => return Ok(beginning),
            }
        }
        Ok(Beginning::Busy)
    }

    /// Bytes that are here of a blob that somebody writes and others wait for.
    #[must_use]
    pub fn partial_bytes(&self, digest: &Digest) -> u64 {
        let path = self.root().join("partial").join(digest.hex());
        fs::metadata(path).map_or(0, |facts| facts.len())
    }

    fn begin(
        &self,
        name: &str,
        digest: &Digest,
        size: u64,
        lock: FlockOperation,
    ) -> Result<Beginning, StoreError> {
        let path = self.root().join("partial").join(name);
        let failed = |operation, source| StoreError::Io { operation, path: path.clone(), source };
        loop {
            if self.contains(digest) {
                return Ok(Beginning::Stored);
            }
            let file = open(&path).map_err(|e| failed("open", e))?;
            match flock(&file, lock) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(Beginning::Busy),
                Err(error) => return Err(failed("lock", error.into())),
            }
            // Whoever had the lock before may have published or removed this file:
            // then begin again.
            if !is_at(&file, &path).map_err(|e| failed("look at", e))? {
                continue;
            }
            let writer = BlobWriter::take_up(self.clone(), path, file, *digest, size)?;
            return Ok(Beginning::Writer(Box::new(writer)));
        }
    }
}

/// A file that is read from its beginning and written at its end.
fn open(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
    let denied = match open() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => error,
        opened => return opened,
    };
    // Earlier releases took the right to write before they gave a whole file its name; a server
    // that was killed in between left it so.
    match fs::set_permissions(path, Permissions::from_mode(0o600)) {
        Ok(()) => open(),
        // It has got its name meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => open(),
        Err(_) => Err(denied),
    }
}

impl BlobWriter {
    /// Takes up `path` in `partial`, which is `file` and locked by it: hashes what an earlier
    /// writer left, and sees whether there is room for the rest.
    fn take_up(
        store: Store,
        path: PathBuf,
        file: File,
        digest: Digest,
        size: u64,
    ) -> Result<Self, StoreError> {
        let mut writer = Self { store, path, file, digest, size, offset: 0, hash: Sha256::new() };
        writer.hash_what_is_there()?;
        Ok(writer)
    }

    /// Bytes written so far, by this writer and those before it: where to go on.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Size that the blob must get, bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Throws away what was written, for a source that cannot go on in the middle.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.file.set_len(0).map_err(|source| StoreError::Io {
            operation: "truncate",
            path: self.path.clone(),
            source,
        })?;
        self.offset = 0;
        self.hash = Sha256::new();
        Ok(())
    }

    /// Whether another writer has finished the blob meanwhile: then this one need not go on.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.store.contains(&self.digest)
    }

    /// Ends the writing, and leaves nothing of what was written.
    pub fn discard(self) {
        remove_quietly(&self.path);
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`StoreError::SizeMismatch`] past the announced size, [`StoreError::NoSpace`] (both remove
    /// the partial file), [`StoreError::Io`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let got = self.offset.saturating_add(bytes.len() as u64);
        if got > self.size {
            remove_quietly(&self.path);
            return Err(StoreError::SizeMismatch { digest: self.digest, expected: self.size, got });
        }
        if let Err(e) = self.file.write_all(bytes) {
            let error = self.store.write_failed("write", &self.path, self.size - self.offset, e);
            if matches!(error, StoreError::NoSpace { .. }) {
                remove_quietly(&self.path);
            }
            return Err(error);
        }
        self.store.brought.add(bytes.len() as u64);
        self.hash.update(bytes);
        self.offset = got;
        Ok(())
    }

    /// Verifies size and digest, and publishes the blob.
    ///
    /// # Errors
    /// [`StoreError::SizeMismatch`] if it is too short (the partial file stays),
    /// [`StoreError::DigestMismatch`] (it goes), [`StoreError::Io`].
    pub fn finish(self) -> Result<(), StoreError> {
        if self.offset != self.size {
            let (digest, expected, got) = (self.digest, self.size, self.offset);
            return Err(StoreError::SizeMismatch { digest, expected, got });
        }
        let got = Digest(self.hash.finalize().into());
        if got != self.digest {
            remove_quietly(&self.path);
            return Err(StoreError::DigestMismatch { expected: self.digest, got });
        }
        self.store.publish(&self.path, &self.file, &self.digest)
    }

    /// Hashes what an earlier writer left, and sees whether there is room for the rest.
    fn hash_what_is_there(&mut self) -> Result<(), StoreError> {
        let read = hash_all(&mut self.file, &mut self.hash);
        self.offset = read.map_err(|source| StoreError::Io {
            operation: "read",
            path: self.path.clone(),
            source,
        })?;
        if self.offset > self.size {
            self.restart()?;
        }
        let room = self.store.require(self.size - self.offset);
        if room.is_err() && self.offset == 0 {
            remove_quietly(&self.path);
        }
        room
    }
}
