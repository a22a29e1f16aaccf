//! The node's identity as the running agent keeps it: in its file and for all of its tasks.
//!
//! Two tasks change it, one the certificate ([`super::renewal`]), one the servers' addresses
//! ([`super::server_addresses`]). Each changes its own part of what is there at that moment, so
//! that neither writes over the other's.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use api::enroll::AgentIdentity;
use tokio::sync::watch;

use crate::identity::{self, IdentityError};

/// See the module.
#[derive(Debug)]
pub struct KeptIdentity {
    path: PathBuf,
    present: watch::Sender<Arc<AgentIdentity>>,
    /// Held while the file is written: what is in it is what was announced last.
    writing: Mutex<()>,
}

impl KeptIdentity {
    /// Keeps what was read from `path`. The receiver sees every change.
    #[must_use]
    pub fn new(
        path: PathBuf,
        identity: AgentIdentity,
    ) -> (Self, watch::Receiver<Arc<AgentIdentity>>) {
        let (present, seen) = watch::channel(Arc::new(identity));
        (Self { path, present, writing: Mutex::default() }, seen)
    }

    /// The identity now.
    #[must_use]
    pub fn present(&self) -> Arc<AgentIdentity> {
        self.present.borrow().clone()
    }

    /// Changes it: first the file, then what the tasks see. Where the file cannot be written,
    /// nothing changes.
    ///
    /// # Errors
    /// [`IdentityError::Store`].
    pub fn change(
        &self,
        change: impl FnOnce(&AgentIdentity) -> AgentIdentity,
    ) -> Result<Arc<AgentIdentity>, IdentityError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = Arc::new(change(&self.present()));
        identity::store(&self.path, &changed)?;
        self.present.send_replace(changed.clone());
        Ok(changed)
    }
}
