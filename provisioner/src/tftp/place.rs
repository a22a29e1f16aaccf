//! The places of transfers: [`boot_proto::tftp::Admission`] decides who has one, here are the ways
//! to end those that lose theirs.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time,
};

use boot_proto::tftp::{Admission, Limits, TransferId};
use rustix::process::{Resource, getrlimit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Transfers at once: a few racks that get power together stay below it.
const MAX_TRANSFERS: usize = 4_096;

/// The same for one address. Firmware has one, and leaves one or two behind where an answer got
/// lost; behind one NAT or TFTP proxy there is a rack of it.
const MAX_PER_SOURCE: usize = 256;

/// One of so many open files of the process may be a transfer's socket: half of what the limits of
/// connections leave for files, and [`MAX_TRANSFERS`] with the `LimitNOFILE` of the unit, 65,536.
const DESCRIPTORS_FOR_ONE: usize = 16;

/// Progress is told so often: where each packet brings some, it would cost more than the packet.
const PROGRESS_STEP: time::Duration = time::Duration::from_millis(100);

/// All places. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct TransferSlots(Arc<Mutex<Taken>>);

#[derive(Debug)]
struct Taken {
    admission: Admission,
    ends: HashMap<TransferId, CancellationToken>,
}

/// The place of a transfer that runs; given back when it is dropped.
#[derive(Debug)]
pub(super) struct TransferSlot {
    id: TransferId,
    end: CancellationToken,
    places: TransferSlots,
}

/// The limits of a process that may have so many open files.
fn limits(descriptors: usize) -> Limits {
    let in_all = (descriptors / DESCRIPTORS_FOR_ONE).clamp(1, MAX_TRANSFERS);
    Limits { in_all, per_source: (in_all / 4).clamp(1, MAX_PER_SOURCE) }
}

impl TransferSlots {
    /// As many as the open files of this process allow.
    pub(super) fn of_this_process() -> Self {
        // None: as many as the kernel can.
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let limits = limits(usize::try_from(descriptors).unwrap_or(usize::MAX));
        let taken = Taken { admission: Admission::new(limits), ends: HashMap::new() };
        Self(Arc::new(Mutex::new(taken)))
    }

    /// A place for a transfer to `source`, perhaps that of an idle one; `None` if there is none.
    pub(super) fn take(&self, source: Ipv4Addr) -> Option<TransferSlot> {
        let mut taken = self.lock();
        let admitted = taken.admission.admit(source, Instant::now().into_std())?;
        if let Some(end) = admitted.instead_of.and_then(|id| taken.ends.remove(&id)) {
            end.cancel();
        }
        let end = CancellationToken::new();
        taken.ends.insert(admitted.id, end.clone());
        Some(TransferSlot { id: admitted.id, end, places: self.clone() })
    }

    /// No change panics half way: a poisoned lock guards whole entries.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TransferSlot {
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

impl Drop for TransferSlot {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.admission.ended(self.id);
        taken.ends.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_and_connections_leave_open_files_for_the_rest() {
        let all = |descriptors: usize| {
            let limits = limits(descriptors);
            (limits.in_all, limits.per_source)
        };
        assert_eq!([1_024, 65_536, usize::MAX].map(all), [(64, 16), (4_096, 256), (4_096, 256)]);
        for descriptors in [256, 1_024, 4_096, 20_000, 40_960, 65_536, 1_048_576] {
            let connections = rest::shell::Limits::of_descriptors(descriptors, None).connections;
            let left = descriptors - connections - limits(descriptors).in_all;
            assert!(left >= (descriptors / 16).min(1_024), "{left} of {descriptors}");
        }
    }
}
