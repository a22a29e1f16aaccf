//! What of an image's files is missing or damaged on the server's disk: found out by their sizes,
//! before a node boots half of it. What has the right size and other bytes stage 1 finds out, which
//! verifies digests.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use api::{
    ids::{Digest, ImageName, Timestamp},
    image::{Artifact, Image, KernelArtifact, VersionProblem},
};

use super::{ImageTable, NotBootable, OsImages};
use crate::store::ImageRecord;

/// For so long a file that was whole is taken to be so when nodes boot from it, microseconds.
const WHOLE_FOR_MICROS: u64 = 1_000_000;

/// Files that [`RecentlyVerified`] keeps in mind: more than all images of a site have.
const MAX_RECENTLY_VERIFIED: usize = 4096;

/// Files that were whole a moment ago. A thousand nodes that boot at once ask for the same three,
/// and each look is a system call.
#[derive(Debug, Default)]
pub(super) struct RecentlyVerified(Mutex<HashMap<Digest, Timestamp>>);

impl RecentlyVerified {
    fn has(&self, file: &Digest, now: Timestamp) -> bool {
        let seen = self.lock().get(file).copied();
        // Either way: the clock may have been set.
        seen.is_some_and(|seen| now.0.abs_diff(seen.0) < WHOLE_FOR_MICROS)
    }

    fn put(&self, file: Digest, now: Timestamp) {
        let mut files = self.lock();
        if files.len() >= MAX_RECENTLY_VERIFIED {
            files.clear();
        }
        files.insert(file, now);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a node cannot boot an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unbootable {
    /// It is for other machines.
    #[error(transparent)]
    Architecture(#[from] NotBootable),
    /// It has not the kernel.
    #[error(transparent)]
    NoKernel(#[from] NoKernel),
    /// Its files are not whole.
    #[error(transparent)]
    Damaged(#[from] DamagedImage),
}

/// Why a version cannot be booted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {what} of image {name}@{version} {is}; `bedplate image import {from} --name {name}` makes it \
     again"
)]
pub struct DamagedImage {
    name: ImageName,
    version: u32,
    /// `squashfs`, `vmlinuz`, `initramfs`.
    what: String,
    /// What is the matter with it.
    is: FileProblem,
    /// Where it came from.
    from: String,
}

/// An image has not the kernel that a node wants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("image {image} has no kernel{wanted}; it has {has}")]
pub struct NoKernel {
    image: String,
    wanted: String,
    has: String,
}

/// The kernel that a node wants of an image, or the newest.
///
/// # Errors
/// [`NoKernel`].
fn kernel_of<'a>(
    record: &'a ImageRecord,
    wanted: Option<&str>,
) -> Result<&'a KernelArtifact, NoKernel> {
    let kernels = &record.version.kernels;
    let found = match wanted {
        Some(release) => kernels.iter().find(|kernel| kernel.release == release),
        None => kernels.first(),
    };
    found.ok_or_else(|| {
        let has: Vec<&str> = kernels.iter().map(|kernel| kernel.release.as_str()).collect();
        NoKernel {
            image: format!("{}@{}", record.name, record.version.version),
            wanted: wanted.map(|release| format!(" {release}")).unwrap_or_default(),
            has: if has.is_empty() { "none".to_owned() } else { has.join(", ") },
        }
    })
}

impl OsImages {
    /// The kernel that a node is to boot: the one that it wants of a version, or the newest, if the
    /// version can be booted here.
    ///
    /// # Errors
    /// [`Unbootable`].
    pub fn kernel_to_boot<'a>(
        &self,
        record: &'a ImageRecord,
        wanted: Option<&str>,
    ) -> Result<&'a KernelArtifact, Unbootable> {
        self.table().check_architecture(record)?;
        let kernel = kernel_of(record, wanted)?;
        self.check_files(record, Some(kernel))?;
        Ok(kernel)
    }

    /// [`Self::kernel_to_boot`] of a node that asks for it `now`: files that were whole within the
    /// last second still are.
    ///
    /// # Errors
    /// [`Unbootable`].
    pub fn kernel_to_boot_now<'a>(
        &self,
        record: &'a ImageRecord,
        wanted: Option<&str>,
        now: Timestamp,
    ) -> Result<&'a KernelArtifact, Unbootable> {
        self.table().check_architecture(record)?;
        let kernel = kernel_of(record, wanted)?;
        self.check_files_lately(record, kernel, now)?;
        Ok(kernel)
    }

    /// Looks whether the files that a version boots from are there, in their sizes. `kernel`: only
    /// this one, or all.
    ///
    /// # Errors
    /// The first file that is not whole.
    pub(super) fn check_files(
        &self,
        record: &ImageRecord,
        kernel: Option<&KernelArtifact>,
    ) -> Result<(), DamagedImage> {
        check_artifacts(record, kernel, |artifact| self.check_file(artifact))
    }

    fn check_files_lately(
        &self,
        record: &ImageRecord,
        kernel: &KernelArtifact,
        now: Timestamp,
    ) -> Result<(), DamagedImage> {
        let lately = &self.0.recently_verified;
        check_artifacts(record, Some(kernel), |artifact| {
            if lately.has(&artifact.digest, now) {
                return Ok(());
            }
            self.check_file(artifact)?;
            lately.put(artifact.digest, now);
            Ok(())
        })
    }

    fn check_file(&self, artifact: &Artifact) -> Result<(), FileProblem> {
        match self.0.blobs.size(&artifact.digest) {
            Ok(size) if size == artifact.size => Ok(()),
            Ok(size) => Err(FileProblem::Size { size, expected: artifact.size }),
            Err(image_store::StoreError::Missing { .. }) => Err(FileProblem::Missing),
            Err(error) => Err(FileProblem::Unreadable { cause: rest::causes(&error) }),
        }
    }

    /// Removes what is left of the damaged files of an image, so that its next import makes them
    /// again: the store takes a file under its digest for whole.
    pub(super) fn discard_damaged(&self, name: &ImageName) {
        let table = self.table();
        for record in table.images.get(name).into_iter().flat_map(|versions| versions.values()) {
            let layers = record.layers.iter().map(|layer| (layer.digest, layer.size));
            let kernels =
                record.version.kernels.iter().flat_map(|kernel| [&kernel.kernel, &kernel.stage1]);
            let artifacts = kernels.chain([&record.version.root]).map(|one| (one.digest, one.size));
            for (digest, size) in layers.chain(artifacts) {
                if self.0.blobs.size(&digest).is_ok_and(|found| found != size) {
                    match self.0.blobs.remove(&digest) {
                        Ok(_) => {
                            tracing::warn!("removed {digest}: it was damaged, and is made again")
                        }
                        Err(error) => tracing::error!("{}", rest::causes(&error)),
                    }
                }
            }
        }
    }

    /// An image as the API shows it. Blocking: looks at its files.
    #[must_use]
    pub(crate) fn show(&self, table: &ImageTable, name: &ImageName) -> Option<Image> {
        if !table.names().contains(name) {
            return None;
        }
        let records =
            || table.images.get(name).into_iter().flat_map(|versions| versions.values().rev());
        let mut problems: Vec<VersionProblem> = records()
            .filter_map(|record| {
                let other = table.check_architecture(record).err().map(|error| error.to_string());
                let problem =
                    other.or_else(|| Some(self.check_files(record, None).err()?.to_string()))?;
                Some(VersionProblem { version: record.version.version, problem })
            })
            .collect();
        let unreadable = table.unreadable.get(name).into_iter().flatten();
        problems.extend(unreadable.map(|(version, cause)| VersionProblem {
            version: *version,
            problem: format!("its row in the database cannot be read: {cause}"),
        }));
        problems.sort_by_key(|one| std::cmp::Reverse(one.version));
        let versions = records().map(|record| record.version.clone()).collect();
        Some(Image { name: name.clone(), versions, problems })
    }
}

fn check_artifacts(
    record: &ImageRecord,
    kernel: Option<&KernelArtifact>,
    check: impl Fn(&Artifact) -> Result<(), FileProblem>,
) -> Result<(), DamagedImage> {
    let version = &record.version;
    let kernels = version.kernels.iter().filter(|one| kernel.is_none_or(|wanted| wanted == *one));
    let boots = kernels.flat_map(|kernel| [&kernel.kernel, &kernel.stage1]);
    for artifact in boots.chain([&version.root]) {
        check(artifact).map_err(|is| DamagedImage {
            name: record.name.clone(),
            version: version.version,
            what: artifact.format.clone(),
            is,
            from: version.source.clone(),
        })?;
    }
    Ok(())
}

/// What is the matter with one file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum FileProblem {
    #[error("is missing on the server's disk")]
    Missing,
    #[error("has {size} bytes on the server's disk instead of {expected}")]
    Size { size: u64, expected: u64 },
    #[error("cannot be looked at: {cause}")]
    Unreadable { cause: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_whole_is_so_for_a_second_of_either_clock() {
        let (files, file) = (RecentlyVerified::default(), Digest([1; 32]));
        let has = |micros: i64| files.has(&file, Timestamp(micros));
        assert!(!has(0));
        files.put(file, Timestamp(5_000_000));
        let seen = [3_999_999, 4_000_001, 5_999_999, 6_000_000].map(has);
        assert_eq!(seen, [false, true, true, false]);
        assert!(!files.has(&Digest([2; 32]), Timestamp(5_000_000)));
        for number in 0..=u16::try_from(MAX_RECENTLY_VERIFIED).unwrap() {
            let mut digest = [0; 32];
            digest[..2].copy_from_slice(&number.to_be_bytes());
            files.put(Digest(digest), Timestamp(5_000_000));
        }
        assert!(files.lock().len() <= MAX_RECENTLY_VERIFIED);
    }
}
