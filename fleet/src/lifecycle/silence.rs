//! A machine that has fetched all that it boots from, and of which nothing is heard since: its
//! kernel could not unpack the initramfs, or does not run on it. Stage 1 never began there, so
//! nobody but the server can say so.

use api::ids::Timestamp;

use super::{BootFile, NodeLifecycle};

/// Since when stage 1 is waited for. The node's initrd is the last file of a boot, and goes out
/// only to the node's address; that the node fetched it itself is not proved, which the words say,
/// and for which it is never on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stage1Silence {
    /// When the initrd went out.
    since: Option<Timestamp>,
    /// It has lasted for too long.
    is_told: bool,
}

impl Stage1Silence {
    /// The initrd went out now.
    pub(super) fn begin(&mut self, now: Timestamp) {
        *self = Self { since: Some(now), is_told: false };
    }

    /// The node was heard, or begins another boot.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// Whether it has lasted for `seconds` and was not told yet.
    pub(super) fn is_due(&self, now: Timestamp, seconds: u64) -> bool {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        !self.is_told && self.since.is_some_and(|since| now >= since.plus_seconds(seconds))
    }

    /// Tells it from now on. Returns what is told.
    pub(super) fn start_reporting(&mut self) -> Option<String> {
        self.is_told = true;
        self.in_words()
    }

    /// What people are told, once it has lasted for too long.
    pub(super) fn in_words(&self) -> Option<String> {
        let since = self.since.filter(|_| self.is_told)?;
        Some(format!(
            "kernel and initramfs were fetched at {since}, and stage 1 has not spoken since (unproven: only \
             the address that asked is known): likely too little memory, a kernel that does not suit this \
             machine, or no driver for its network; look at its console"
        ))
    }
}

impl NodeLifecycle {
    /// With the node's initrd goes a token: stage 1 may speak from now on.
    pub(super) fn wait_for_stage1(&mut self, file: &BootFile, now: Timestamp) {
        if matches!(file, BootFile::Initrd { .. }) {
            self.silence.begin(now);
            self.token_refused = None;
        }
    }
}
