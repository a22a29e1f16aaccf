//! Whether what a transfer writes has room: in its volume, on the node, in memory that no
//! job was granted.

use std::io;

use super::{
    super::{
        Node,
        artifacts::SPACE_TO_SPARE,
        fitness,
        volumes::{self, VolumeRoom},
    },
    Transfer, TransferError, cannot,
};

impl<C> Transfer<'_, C> {
    /// Whether the volume can take `more` bytes, and the node what a volume takes.
    pub(super) fn check_room(&self, more: u64) -> Result<(), TransferError> {
        let room = self.node.volumes.room(self.spec.workflow, self.volume);
        let VolumeRoom { available, limit, total: _ } = room;
        // One that has its own room takes none of the node's last.
        let spare = if limit.is_some() { 0 } else { SPACE_TO_SPARE };
        match limit {
            Some(limit) if more > limit => return Err(self.full(limit)),
            _ if more.saturating_add(spare) > available => {
                return Err(TransferError::Space(available));
            }
            _ => {}
        }
        let Node { places, volumes, .. } = self.node;
        fitness::memory_shortage(&places.machine, volumes.is_in_memory())
            .map_or(Ok(()), |short| Err(TransferError::Memory(short)))
    }

    fn full(&self, limit: u64) -> TransferError {
        TransferError::VolumeFull { volume: self.volume.to_owned(), limit }
    }

    /// Why the file could not be written: of a volume that holds as much as it may, that.
    pub(super) fn not_written(&self, source: io::Error) -> TransferError {
        if volumes::is_full(&source) {
            let room = self.node.volumes.room(self.spec.workflow, self.volume);
            match room.limit {
                Some(limit) if room.total >= limit => return self.full(limit),
                Some(_) => return TransferError::Space(room.available),
                None => {}
            }
        }
        cannot("write")(source)
    }
}
