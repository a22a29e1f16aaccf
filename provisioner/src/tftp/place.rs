//! The places of transfers: [`boot_proto::tftp::Admission`] decides who has one, here are the ways to
//! end those that lose theirs.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time,
};

use boot_proto::tftp::{Admission, Limits, TransferId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Transfers at once. Bounds open sockets: a few racks that get power together stay below it. For one
/// address: firmware has one, and leaves one or two behind where an answer got lost.
const LIMITS: Limits = Limits { in_all: 4_096, per_source: 16 };

/// Progress is told so often: where each packet brings some, it would cost more than the packet.
const PROGRESS_STEP: time::Duration = time::Duration::from_millis(100);

/// All places. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug)]
struct Taken {
    admission: Admission,
    ends: HashMap<TransferId, CancellationToken>,
}

/// The place of a transfer that runs; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: TransferId,
    end: CancellationToken,
    places: Places,
}

impl Default for Places {
    fn default() -> Self {
        let taken = Taken { admission: Admission::new(LIMITS), ends: HashMap::new() };
        Self(Arc::new(Mutex::new(taken)))
    }
}

impl Places {
    /// A place for a transfer to `source`, perhaps that of an idle one; `None` if there is none.
    pub(super) fn take(&self, source: Ipv4Addr) -> Option<Place> {
        let mut taken = self.lock();
        let admitted = taken.admission.admit(source, Instant::now().into_std())?;
        if let Some(end) = admitted.instead_of.and_then(|id| taken.ends.remove(&id)) {
            end.cancel();
        }
        let end = CancellationToken::new();
        taken.ends.insert(admitted.id, end.clone());
        Some(Place { id: admitted.id, end, places: self.clone() })
    }

    /// No change panics half way: a poisoned lock guards whole entries.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits until another transfer has the place.
    pub(super) async fn lost(&self) {
        self.end.cancelled().await;
    }

    /// Tells when the client last made progress, if that is news. `told`: what was told before.
    pub(super) fn tell(&self, progressed: Option<time::Instant>, told: &mut Option<time::Instant>) {
        let Some(at) = progressed else { return };
        if told.is_none_or(|told| at >= told + PROGRESS_STEP) {
            *told = Some(at);
            self.places.lock().admission.progressed(self.id, at);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.admission.ended(self.id);
        taken.ends.remove(&self.id);
    }
}
