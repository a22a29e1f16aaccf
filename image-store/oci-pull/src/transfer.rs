//! How far the layers of one pull came, over all its tries. Called by [`crate::pull`]
//! and by `layers`.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use api::ids::Digest;

/// How far layers came, over all tries. What came before does not count again: a registry that
/// knows no ranges and always breaks off at the same place would be waited for without end.
#[derive(Debug, Default)]
pub(crate) struct TransferProgress {
    /// What was new, bytes.
    bytes: AtomicU64,
    /// How far each layer came at best.
    highest: Mutex<BTreeMap<Digest, u64>>,
}

impl TransferProgress {
    /// A layer is taken up here. What an earlier pull left of it was not moved by this one.
    pub(crate) fn begins(&self, layer: &Digest, offset: u64) {
        self.highest().entry(*layer).or_insert(offset);
    }

    /// A layer came as far as this.
    pub(crate) fn reaches(&self, layer: &Digest, offset: u64) {
        let mut highest = self.highest();
        let highest = highest.entry(*layer).or_default();
        self.add(offset.saturating_sub(*highest));
        *highest = offset.max(*highest);
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How far a layer came at best.
    pub(crate) fn highest_of(&self, layer: &Digest) -> u64 {
        self.highest().get(layer).copied().unwrap_or_default()
    }

    /// Every change is whole: a poisoned lock guards good offsets.
    fn highest(&self) -> MutexGuard<'_, BTreeMap<Digest, u64>> {
        self.highest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_goes_further_counts() {
        let (moved, layer, other) = (TransferProgress::default(), Digest([1; 32]), Digest([2; 32]));
        moved.begins(&layer, 10);
        moved.reaches(&layer, 30);
        assert_eq!(moved.bytes(), 20, "the first ten are of an earlier pull");
        moved.begins(&layer, 0);
        moved.reaches(&layer, 30);
        assert_eq!(moved.bytes(), 20);
        moved.reaches(&layer, 31);
        moved.reaches(&other, 5);
        assert_eq!(moved.bytes(), 26);
    }
}
