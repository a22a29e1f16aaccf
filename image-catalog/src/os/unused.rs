//! Removes the blobs that no version of an image names and no import uses.

use std::collections::{BTreeMap, HashSet};

use api::ids::Digest;
use image_store::Removed;
use rest::causes;

use super::{ImageTable, OsImages};
use crate::removal::remove_all_but;

impl OsImages {
    /// An import that the last run of the server left has ended. With the last of them goes what
    /// they did not take up.
    pub(super) async fn resumed_has_ended(&self, id: u64) {
        let was_last = {
            let mut resumed = self.lock_resumed();
            resumed.remove(&id) && resumed.is_empty()
        };
        if was_last {
            self.remove_unused().await;
        }
    }

    /// Removes blobs that no version names and no import uses. Nothing is removed while it is not
    /// known what is needed.
    pub(crate) async fn remove_unused(&self) {
        if !self.lock_resumed().is_empty() {
            return;
        }
        let removal = self.0.blobs.begin_removal();
        // What is in the database counts: the table in memory may lag behind it.
        let table = match self.0.store.images().await {
            Ok(stored) => ImageTable::new(stored, self.0.boots.clone()),
            Err(error) => {
                tracing::warn!("no unused blobs are removed: {}", causes(&error));
                return;
            }
        };
        if !table.unreadable.is_empty() || table.nameless > 0 {
            tracing::warn!("no unused blobs are removed: nobody knows what unreadable images need");
            return;
        }
        let needed = table.needs();
        match remove_all_but(removal, needed).await {
            Ok(Removed { blobs: 0, partial: 0, .. }) => {}
            Ok(Removed { blobs, partial, bytes }) => tracing::info!(
                "removed {blobs} blobs that no image needs and {partial} broken downloads, {bytes} bytes"
            ),
            Err(error) => tracing::error!("cannot remove unused blobs: {}", causes(&error)),
        }
    }
}

impl ImageTable {
    /// Blobs that versions are made of.
    fn needs(&self) -> HashSet<Digest> {
        let mut needed = self.artifacts.clone();
        for record in self.images.values().flat_map(BTreeMap::values) {
            needed.insert(record.version.manifest);
            needed.extend(record.layers.iter().map(|layer| layer.digest));
        }
        needed
    }
}
