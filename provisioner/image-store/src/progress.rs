//! How long work tells how far it is, and learns that nobody wants it any more.

/// Takes progress; called from several threads at once, up to a few hundred times a second.
pub trait Progress: Send + Sync {
    /// A try of a pull has its turn: others kept it waiting until now.
    fn begins(&self) {}

    /// A pull waits for its registry, and has no turn meanwhile.
    fn pauses(&self) {}

    /// All layers of a pull have so many bytes together, those that are in the store among them. Told
    /// in each try, before any of them advances.
    fn layers(&self, _total: u64) {}

    /// `done` of `total` bytes of the part named `label` ("layer 1a2b3c4d", "squashfs"). `total` is 0 where unknown.
    fn advance(&self, label: &str, done: u64, total: u64);

    /// `true` if the work should stop: it then ends with an error and leaves the store as it was, but for layers that
    /// are whole and partial downloads, which a later import takes up.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Drops all progress.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn advance(&self, _label: &str, _done: u64, _total: u64) {}
}
