//! The writing of one blob whose digest and size are known; it can be broken off and taken up again.

use std::{fs::File, io::Write, path::PathBuf};

use api::ids::Digest;
use sha2::{Digest as _, Sha256};

use super::{Store, StoreError, hash_all, remove_quietly};

/// Writes one blob; see [`Store::writer`]. Dropped before [`BlobWriter::finish`], it leaves what was written for the
/// next writer to take up.
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

impl BlobWriter {
    /// Takes up `path` in `partial`, which is `file` and locked by it: hashes what an earlier writer left, and sees
    /// whether there is room for the rest.
    pub(super) fn take_up(
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

    /// Appends bytes.
    ///
    /// # Errors
    /// [`StoreError::SizeMismatch`] past the announced size, [`StoreError::NoSpace`] (both remove the partial file),
    /// [`StoreError::Io`].
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
    /// [`StoreError::SizeMismatch`] if it is too short (the partial file stays), [`StoreError::DigestMismatch`]
    /// (it goes), [`StoreError::Io`].
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
        self.offset =
            read.map_err(|source| StoreError::Io { operation: "read", path: self.path.clone(), source })?;
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
