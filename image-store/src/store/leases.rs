//! Which blobs are in use by work under way, and the removal of all that nothing needs.
//!
//! Work goes through a leased handle ([`Store::leased`]): every blob that it reads, writes or finds
//! there is marked, before it is looked for, until the last clone of the handle is gone. A removal
//! looks for the mark and removes the blob under one lock. So of two that meet, either the work
//! finds the blob and it stays, or it finds none and makes it.
//!
//! Work ends by naming its blobs somewhere (a row of a database) and dropping its handle. A removal
//! that has read those names before would miss them, so marks that go while one is under way hold
//! until it ends: begin it ([`Store::begin_removal`]), then find out what is named, then remove.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api::ids::Digest;
use metrics::Counter;

use super::{Store, StoreError};

/// Marks of all handles to one store.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<Marks>);

#[derive(Debug, Default)]
struct Marks {
    /// How many leases have marked a blob.
    leased: HashMap<Digest, usize>,
    /// Removals under way.
    removals: usize,
    /// Blobs whose last mark went while a removal was under way.
    just_ended: HashSet<Digest>,
}

impl Leases {
    /// Every change is whole: a poisoned lock guards good marks.
    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a file of a blob that nobody uses; `true` if it was there.
    fn remove_unused(&self, digest: &Digest, path: &Path) -> Result<bool, StoreError> {
        let marks = self.lock();
        if marks.leased.contains_key(digest) || marks.just_ended.contains(digest) {
            return Ok(false);
        }
        match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => {
                Err(StoreError::Io { operation: "remove", path: path.to_owned(), source })
            }
        }
    }
}

/// The marks of one piece of work; they go with it.
#[derive(Debug)]
pub(super) struct Lease {
    leases: Arc<Leases>,
    blobs: Mutex<HashSet<Digest>>,
}

impl Lease {
    pub(super) fn mark(&self, digest: &Digest) {
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        if blobs.insert(*digest) {
            *self.leases.lock().leased.entry(*digest).or_default() += 1;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let blobs = std::mem::take(self.blobs.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut marks = self.leases.lock();
        for digest in blobs {
            let Some(count) = marks.leased.get_mut(&digest) else { continue };
            *count -= 1;
            if *count == 0 {
                marks.leased.remove(&digest);
                if marks.removals > 0 {
                    marks.just_ended.insert(digest);
                }
            }
        }
    }
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Whole blobs.
    pub blobs: u64,
    /// Downloads that were broken off.
    pub partial: u64,
    /// Bytes of both.
    pub bytes: u64,
}

/// What all removals of a store took.
#[derive(Debug, Default)]
pub(super) struct RemovedCounts {
    blobs: Counter,
    partial: Counter,
    bytes: Counter,
}

impl RemovedCounts {
    fn add(&self, more: Removed) {
        self.blobs.add(more.blobs);
        self.partial.add(more.partial);
        self.bytes.add(more.bytes);
    }

    pub(super) fn total(&self) -> Removed {
        Removed { blobs: self.blobs.get(), partial: self.partial.get(), bytes: self.bytes.get() }
    }
}

/// A removal of what nothing needs, from [`Store::begin_removal`].
#[derive(Debug)]
pub struct Removal(Store);

impl Removal {
    /// Removes all blobs but those `needed` and those in use, and broken downloads that nobody is
    /// to take up. Blocking.
    ///
    /// # Errors
    /// [`StoreError::Io`]; what was removed before stays removed.
    pub fn remove_all_but(self, needed: &HashSet<Digest>) -> Result<Removed, StoreError> {
        let store = &self.0;
        let (partial, bytes) = store.remove_partial()?;
        let mut removed = Removed { blobs: 0, partial, bytes };
        store.removed.add(removed);
        for (digest, size) in store.list()? {
            if !needed.contains(&digest)
                && store.leases.remove_unused(&digest, &store.path(&digest))?
            {
                removed.blobs += 1;
                removed.bytes += size;
                store.removed.add(Removed { blobs: 1, partial: 0, bytes: size });
            }
        }
        Ok(removed)
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        let mut marks = self.0.leases.lock();
        marks.removals -= 1;
        if marks.removals == 0 {
            marks.just_ended = HashSet::new();
        }
    }
}

impl Store {
    /// A handle whose blobs no [`Removal`] takes; see the module.
    #[must_use]
    pub fn leased(&self) -> Self {
        let lease = Lease { leases: self.leases.clone(), blobs: Mutex::default() };
        Self { lease: Some(Arc::new(lease)), ..self.clone() }
    }

    /// Begins a removal. What is needed is to be found out after this.
    #[must_use]
    pub fn begin_removal(&self) -> Removal {
        self.leases.lock().removals += 1;
        Removal(Self { lease: None, ..self.clone() })
    }

    /// Marks a blob as in use, if this handle is a leased one.
    pub(super) fn mark(&self, digest: &Digest) {
        if let Some(lease) = &self.lease {
            lease.mark(digest);
        }
    }

    /// Removes a broken download that nobody uses; `true` if it was there.
    pub(super) fn remove_unused_partial(&self, path: &Path) -> Result<bool, StoreError> {
        let name = path.file_name().map(|name| format!("sha256:{}", name.to_string_lossy()));
        match name.and_then(|name| name.parse::<Digest>().ok()) {
            Some(digest) => self.leases.remove_unused(&digest, path),
            None => {
                super::remove_quietly(path);
                Ok(true)
            }
        }
    }
}
