//! How long work tells how far it is, and learns that nobody wants it any more.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Takes progress; called from several threads at once, up to a few hundred times a second.
pub trait Progress: Send + Sync {
    /// A try of a pull has its turn: others kept it waiting until now.
    fn begins(&self) {}

    /// A pull waits for its registry, and has no turn meanwhile.
    fn pauses(&self) {}

    /// A pull's registry has said which image it is, by the digest of its manifest.
    /// Told in each try.
    fn found(&self, _manifest: &api::ids::Digest) {}

    /// All layers of a pull have so many bytes together, those that are in the store among them.
    /// Told in each try, before any of them advances.
    fn layers(&self, _total: u64) {}

    /// `done` of `total` bytes of the part named `label` ("layer 1a2b3c4d", "squashfs"). `total` is
    /// 0 where unknown.
    fn advance(&self, label: &str, done: u64, total: u64);

    /// `true` if the work should stop: it then ends with an error and leaves the store as it was,
    /// but for layers that are whole and partial downloads, which a later import takes up.
    fn cancelled(&self) -> bool {
        false
    }
}

impl<P: Progress + ?Sized> Progress for Arc<P> {
    fn begins(&self) {
        (**self).begins();
    }

    fn pauses(&self) {
        (**self).pauses();
    }

    fn found(&self, manifest: &api::ids::Digest) {
        (**self).found(manifest);
    }

    fn layers(&self, total: u64) {
        (**self).layers(total);
    }

    fn advance(&self, label: &str, done: u64, total: u64) {
        (**self).advance(label, done, total);
    }

    fn cancelled(&self) -> bool {
        (**self).cancelled()
    }
}

/// Progress that is cancelled too once its [`StopOnDrop`] is gone.
#[derive(Debug)]
pub struct Stoppable<P> {
    inner: P,
    is_stopped: Arc<AtomicBool>,
}

/// Held by whoever waits for blocking work: a future that is dropped ends the work with it.
#[derive(Debug)]
pub struct StopOnDrop(Arc<AtomicBool>);

/// Ties work to whoever waits for it.
#[must_use]
pub fn stoppable<P: Progress>(inner: P) -> (Stoppable<P>, StopOnDrop) {
    let is_stopped = Arc::new(AtomicBool::new(false));
    (Stoppable { inner, is_stopped: is_stopped.clone() }, StopOnDrop(is_stopped))
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl<P: Progress> Progress for Stoppable<P> {
    fn begins(&self) {
        self.inner.begins();
    }

    fn pauses(&self) {
        self.inner.pauses();
    }

    fn found(&self, manifest: &api::ids::Digest) {
        self.inner.found(manifest);
    }

    fn layers(&self, total: u64) {
        self.inner.layers(total);
    }

    fn advance(&self, label: &str, done: u64, total: u64) {
        self.inner.advance(label, done, total);
    }

    fn cancelled(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire) || self.inner.cancelled()
    }
}

/// Drops all progress.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn advance(&self, _label: &str, _done: u64, _total: u64) {}
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Notes what is told.
    #[derive(Default)]
    struct Noting(Mutex<Vec<String>>);

    impl Noting {
        fn note(&self, told: String) {
            self.0.lock().unwrap().push(told);
        }
    }

    impl Progress for Noting {
        fn begins(&self) {
            self.note("begins".to_owned());
        }

        fn pauses(&self) {
            self.note("pauses".to_owned());
        }

        fn found(&self, manifest: &api::ids::Digest) {
            self.note(format!("found {}", manifest.0[0]));
        }

        fn layers(&self, total: u64) {
            self.note(format!("layers {total}"));
        }

        fn advance(&self, label: &str, done: u64, total: u64) {
            self.note(format!("{label} {done}/{total}"));
        }

        fn cancelled(&self) -> bool {
            self.note("cancelled?".to_owned());
            true
        }
    }

    #[test]
    fn all_that_is_told_reaches_whoever_is_behind_an_arc_or_a_stop() {
        let noting = Arc::new(Noting::default());
        let behind: Arc<dyn Progress> = noting.clone();
        let (progress, _waiting) = stoppable(behind);
        progress.begins();
        progress.pauses();
        progress.found(&api::ids::Digest([7; 32]));
        progress.layers(9);
        progress.advance("squashfs", 1, 2);
        assert!(progress.cancelled());
        let told = noting.0.lock().unwrap().clone();
        assert_eq!(told, ["begins", "pauses", "found 7", "layers 9", "squashfs 1/2", "cancelled?"]);
    }

    #[test]
    fn work_is_cancelled_when_nobody_waits_for_it_any_more() {
        let (progress, waiting) = stoppable(Arc::new(NoProgress));
        assert!(!progress.cancelled());
        drop(waiting);
        assert!(progress.cancelled());
    }
}
