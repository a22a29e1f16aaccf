//! A blob mapped into memory: the one home of `unsafe` in this crate. Made by
//! [`crate::Store::map`].
#![allow(unsafe_code)]

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use api::ids::Digest;

/// The bytes of an immutable blob. Cheap to clone; `AsRef<[u8]> + Send + Sync + 'static`, so that
/// `bytes::Bytes::from_owner` takes it. Stays readable after the blob was removed from the store.
#[derive(Clone)]
pub struct Mapped(Arc<Blob>);

struct Blob {
    map: memmap2::Mmap,
    file: File,
}

impl Mapped {
    /// Maps `file` for reading.
    ///
    /// # Errors
    /// What `mmap(2)` says.
    fn of(file: File) -> io::Result<Self> {
        // SAFETY: the file is a published blob of the store. Blobs are written under another name,
        // renamed into place, given mode 0400 and never written or truncated again (removal unlinks
        // them), so the mapping cannot change or shrink beneath the slice.
        let map = unsafe { memmap2::Mmap::map(&file) }?;
        Ok(Self(Arc::new(Blob { map, file })))
    }

    /// The file that is mapped, for system calls that take a file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.0.file
    }

    /// Where `part` lies in the blob, bytes; `None` if it is no part of the mapping.
    fn offset_of(&self, part: &[u8]) -> Option<u64> {
        let (whole, part) = (self.0.map.as_ptr_range(), part.as_ptr_range());
        let is_inside = whole.start <= part.start && part.end <= whole.end;
        let offset = is_inside.then(|| part.start as usize - whole.start as usize)?;
        u64::try_from(offset).ok()
    }
}

/// What is mapped now. All who read a blob at once share one mapping: the kernel enters its pages
/// for the first of them only.
#[derive(Debug, Default)]
pub(crate) struct Mappings(Mutex<HashMap<Digest, Weak<Blob>>>);

impl Mappings {
    /// The blob of this digest, which is `file`.
    ///
    /// # Errors
    /// What `mmap(2)` says.
    pub(crate) fn of(&self, digest: &Digest, file: File) -> io::Result<Mapped> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(blob) = shared.get(digest).and_then(Weak::upgrade) {
            return Ok(Mapped(blob));
        }
        shared.retain(|_, blob| blob.strong_count() > 0);
        let mapped = Mapped::of(file)?;
        shared.insert(*digest, Arc::downgrade(&mapped.0));
        Ok(mapped)
    }

    /// The blob that these bytes are a part of, and where they begin in it.
    pub(crate) fn source(&self, part: &[u8]) -> Option<(Mapped, u64)> {
        let shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shared.values().filter_map(Weak::upgrade).find_map(|blob| {
            let mapped = Mapped(blob);
            let offset = mapped.offset_of(part)?;
            Some((mapped, offset))
        })
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0.map
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapped({} bytes)", self.0.map.len())
    }
}
