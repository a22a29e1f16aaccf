//! Who needs a version of an image: nodes that run it, nodes that are booting it, and nodes that
//! boot it next. What one of them needs is not deleted.

use std::collections::BTreeSet;

use api::{
    hostlist,
    ids::{ImageName, NodeName},
    machine::MachineSpec,
};
use async_trait::async_trait;
use fleet::ImageUse;
use image_catalog::{ImageTable, NodeImages, VersionsInUse};
use tokio::sync::OwnedMutexGuard;

use crate::provisioner::Provisioner;

/// Nodes that one message names.
const MAX_NAMED: usize = 50;

/// Why versions of an image stay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RetentionReason {
    /// Nodes boot one of them next.
    #[error("{nodes} boots it; give those nodes another image first")]
    Next {
        /// Their names.
        nodes: String,
    },
    /// Nodes run one of them, or are booting it.
    #[error(
        "{nodes} runs it, or is booting it, whatever it boots next; `bedplate node reboot` boots those \
         nodes again, and a node that is no more can be deleted"
    )]
    Running {
        /// Their names.
        nodes: String,
    },
    /// It is not known what nodes boot next.
    #[error(
        "what {nodes} boots cannot be told now, and it may be this; `bedplate node show` says why: mend \
         that first"
    )]
    NextUnknown {
        /// Their names.
        nodes: String,
    },
    /// It is not known what nodes run or are booting.
    #[error(
        "what {nodes} runs is not known, and it may be this: what the server knew of it could not be \
         read, or it may have begun to boot before the server was started; it is known again when its \
         agent connects, or when it boots, and of one that began to boot ten minutes after the start"
    )]
    RunningUnknown {
        /// Their names.
        nodes: String,
    },
}

#[async_trait]
impl NodeImages for Provisioner {
    async fn turn(&self) -> OwnedMutexGuard<()> {
        self.0.turn.clone().lock_owned().await
    }

    fn check_unused(&self, image: &ImageName, versions: &[u32]) -> Result<(), VersionsInUse> {
        self.retention_reason(image, versions).map_err(VersionsInUse::new)
    }
}

impl Provisioner {
    /// Why versions of an image cannot be deleted. Not before boots are kept from choosing one
    /// ([`NodeImages::check_unused`]).
    pub(crate) fn retention_reason(
        &self,
        image: &ImageName,
        versions: &[u32],
    ) -> Result<(), RetentionReason> {
        if let Some(nodes) =
            named(versions.iter().flat_map(|version| self.users_of(image, *version)))
        {
            return Err(RetentionReason::Next { nodes });
        }
        let view = self.view();
        let cluster = &view.cluster;
        let unread =
            cluster.nodes.keys().filter(|name| !cluster.checked.resolved.contains_key(*name));
        if let Some(nodes) = named(unread.cloned()) {
            return Err(RetentionReason::NextUnknown { nodes });
        }
        let wanted: BTreeSet<String> =
            versions.iter().map(|version| format!("{image}@{version}")).collect();
        let uses = self.0.fleet.image_uses();
        let runs = |one: &&ImageUse| one.image.as_ref().is_some_and(|image| wanted.contains(image));
        if let Some(nodes) = named(uses.iter().filter(runs).map(|one| one.node.clone())) {
            return Err(RetentionReason::Running { nodes });
        }
        let unknown = uses.iter().filter(|one| one.image.is_none());
        match named(unknown.map(|one| one.node.clone())) {
            Some(nodes) => Err(RetentionReason::RunningUnknown { nodes }),
            None => Ok(()),
        }
    }
}

/// The image version that a node of these values boots next: `debian-node@3`; `None` if it has no
/// image, or one that is not there.
pub(crate) fn next_image(resolved: &MachineSpec, images: &ImageTable) -> Option<String> {
    let (name, version) = images.version_of(resolved.image.as_deref()?)?;
    let is_there = images.versions(&name).any(|present| present == version);
    is_there.then(|| format!("{name}@{version}"))
}

/// A list of nodes, of bounded length; `None` if there are none.
fn named(nodes: impl Iterator<Item = NodeName>) -> Option<String> {
    let nodes: BTreeSet<NodeName> = nodes.collect();
    let shown = hostlist::compress(nodes.iter().take(MAX_NAMED).map(NodeName::as_str));
    match nodes.len().checked_sub(MAX_NAMED) {
        _ if nodes.is_empty() => None,
        None | Some(0) => Some(shown),
        Some(more) => Some(format!("{shown} and {more} more nodes")),
    }
}

#[cfg(test)]
mod tests;
