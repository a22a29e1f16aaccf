//! What this server boots, and images for other machines.
//!
//! Stage 1 and the agent of every node are the substrate program, so its header says what machines
//! this server boots: [`booted_by`] is the one place that does. Images of other architectures are
//! kept without kernels and stage 1. If the substrate program is another one day, they get theirs
//! as every image does ([`super::import::rebuild_all`]).

use std::collections::BTreeMap;

use api::{ids::ImageName, image::Platform};

use super::ImageTable;
use crate::store::{ImageRecord, StoredImages};

/// What nodes with this substrate program are.
pub(super) fn booted_by(substrate: &[u8]) -> Platform {
    // What is no program is another's mistake, and tests have such.
    image_store::platform_of_program(substrate).unwrap_or_default()
}

/// Why which of these versions cannot be booted by nodes with this substrate program.
pub(crate) fn not_bootable(stored: StoredImages, substrate: &[u8]) -> Vec<String> {
    ImageTable::new(stored, booted_by(substrate)).not_bootable().into_values().collect()
}

/// A version is for machines that this server does not boot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("image {name}@{version} is for {platform}: not bootable here; this server boots {boots}")]
pub struct NotBootable {
    name: ImageName,
    version: u32,
    platform: Box<Platform>,
    boots: Box<Platform>,
}

/// An image has versions for another architecture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "image {name} is for {has}, and nodes that boot its newest version cannot boot one for {wanted}; give \
     this one a name of its own, such as --name {name}-{}", wanted.architecture()
)]
pub(crate) struct OtherArchitecture {
    name: ImageName,
    has: Box<Platform>,
    wanted: Box<Platform>,
}

impl ImageTable {
    /// Whether machines that this server boots can boot a version.
    ///
    /// # Errors
    /// [`NotBootable`].
    pub(super) fn check_architecture(&self, record: &ImageRecord) -> Result<(), NotBootable> {
        let platform = record.version.platform();
        if platform.architecture() == self.boots.architecture() {
            return Ok(());
        }
        let (name, version) = (record.name.clone(), record.version.version);
        let (platform, boots) = (Box::new(platform), Box::new(self.boots.clone()));
        Err(NotBootable { name, version, platform, boots })
    }

    /// Versions that no node can boot here, and why, for checks.
    #[must_use]
    pub fn not_bootable(&self) -> BTreeMap<(ImageName, u32), String> {
        let records = self.images.values().flat_map(|versions| versions.values());
        let not_bootable = records.filter_map(|record| {
            let why = self.check_architecture(record).err()?.to_string();
            Some(((record.name.clone(), record.version.version), why))
        });
        not_bootable.collect()
    }

    /// Whether an image may get a version for a platform: all are for one architecture, because
    /// nodes follow the newest.
    ///
    /// # Errors
    /// [`OtherArchitecture`].
    pub(super) fn takes(
        &self,
        name: &ImageName,
        wanted: &Platform,
    ) -> Result<(), OtherArchitecture> {
        let versions = self.images.get(name).into_iter().flat_map(|versions| versions.values());
        let others = versions.map(|record| record.version.platform());
        let mut others = others.filter(|has| has.architecture() != wanted.architecture());
        let Some(has) = others.next() else { return Ok(()) };
        let (has, wanted) = (Box::new(has), Box::new(wanted.clone()));
        Err(OtherArchitecture { name: name.clone(), has, wanted })
    }
}
