//! What the conversion of one image may hold in memory and how far it may walk. Charged where the
//! memory is kept: by `scan` for entries, by [`crate::tree`] for inodes and names, by
//! [`crate::build()`] for what goes into stage 1.
//!
//! Bytes are an upper estimate: the text itself, and for each thing what the allocator and the maps
//! around it take.

use std::sync::atomic::{AtomicU64, Ordering};

/// Most bytes that one image may make the converter hold. An OS image of 70,000 files takes 25 MB,
/// the files of one Debian kernel for stage 1 another 60 MB, and the substrate program some MB.
pub const MAX_HELD_BYTES: u64 = 256 << 20;

/// What an entry of a layer takes beside its texts, bytes.
pub(crate) const ENTRY_BYTES: u64 = 160;

/// What an inode takes beside its texts.
pub(crate) const INODE_BYTES: u64 = 128;

/// What a name in a directory takes beside its text.
pub(crate) const NAME_BYTES: u64 = 96;

/// What an extended attribute takes beside name and value.
pub(crate) const XATTR_BYTES: u64 = 64;

/// The limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the image makes the server hold more than {limit} bytes")]
pub struct OverBudget {
    /// The limit, bytes.
    pub limit: u64,
}

/// Bytes that are held for one image. Threads share it.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    held: AtomicU64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(MAX_HELD_BYTES)
    }
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub const fn new(limit: u64) -> Self {
        Self { limit, held: AtomicU64::new(0) }
    }

    /// Takes so many bytes; call it before they are allocated.
    ///
    /// # Errors
    /// [`OverBudget`]; then nothing is taken.
    pub fn charge(&self, bytes: u64) -> Result<(), OverBudget> {
        let add = |held: u64| held.checked_add(bytes).filter(|held| *held <= self.limit);
        let charged = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        charged.map(|_| ()).map_err(|_| OverBudget { limit: self.limit })
    }

    /// Gives back what was charged.
    pub fn release(&self, bytes: u64) {
        let _ = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            Some(held.saturating_sub(bytes))
        });
    }

    /// Bytes that are held now.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Bytes that may still be charged.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.limit - self.held().min(self.limit)
    }

    /// The limit, bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_not_charged() {
        let budget = Budget::new(10);
        budget.charge(7).unwrap();
        assert_eq!(budget.charge(4), Err(OverBudget { limit: 10 }));
        assert_eq!(budget.charge(u64::MAX), Err(OverBudget { limit: 10 }));
        assert_eq!((budget.held(), budget.left()), (7, 3));
        budget.release(5);
        budget.charge(8).unwrap();
        assert_eq!(budget.left(), 0);
    }
}
