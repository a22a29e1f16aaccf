//! Job images that nobody has used for long, those past the limit of their size, and kept files
//! that nobody needs any more, go.
//!
//! What their user needs stays ([`super::JobImageUsers::in_use`]), and what is being fetched or
//! kept ([`JobImages::leased`]). An image is its squashfs, and the manifest, config and layers that
//! it was made of, which spare the registry when it is fetched again; the indexes that pulls found
//! it by stay with it. Only those are taken for indexes: a kept file may look like one. While it is
//! not known what is needed, nothing goes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::RangeInclusive,
    sync::PoisonError,
};

use api::ids::{Digest, Timestamp};
use image_store::{
    Removed,
    oci::{Document, MAX_DOCUMENT_BYTES, digest_of},
};

use super::{ImagesInUse, JobImageUsers, JobImages, causes};
use crate::{
    removal::{RemovalError, remove_all_but},
    store::{KeptImage, StoreError, Write},
};

/// Time that its user has to name an image that was brought, where they have no room for others,
/// seconds.
const NAMED_WITHIN_SECONDS: i64 = 600;

/// Images that one transaction writes: far from [`database::MAX_TRANSACTION`], also on a slow disk.
const MAX_WRITES_AT_ONCE: usize = 256;

/// A day, seconds.
const DAY_SECONDS: i64 = 86_400;

/// What is kept of job images that nobody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// For how many days after the last use.
    pub days: u32,
    /// Most bytes of all job images, those in use included; the ones that were used longest ago go
    /// first. `None`: no limit.
    pub bytes: Option<u64>,
}

impl ImageLimits {
    /// Days where nothing is said: somebody who comes back the next week finds his image.
    pub const DEFAULT_DAYS: u32 = 7;
    /// Days that may be said.
    pub const DAYS: RangeInclusive<u32> = 1..=3_650;
    /// GiB that may be said.
    pub const GIB: RangeInclusive<u32> = 1..=1_048_576;
}

/// An image, and what it is made of.
#[derive(Debug, Clone)]
struct ImageParts {
    manifest: Digest,
    used: Timestamp,
    in_use: bool,
    blobs: BTreeSet<Digest>,
}

impl JobImages {
    /// Waits until somebody has told that a fetch has failed.
    pub(crate) async fn failed(&self) {
        self.failed.notified().await;
    }

    /// Removes what nothing needs, once. Says why it does not, if it is not known what is needed.
    pub(crate) async fn remove_unused(
        &self,
        now: Timestamp,
        limits: ImageLimits,
    ) -> Result<Option<String>, RemovalError> {
        // Before it is found out what is in use, so that what begins to be in use from now on
        // stays.
        let removal = self.blobs.begin_removal();
        let Some(users) = self.users.get() else {
            return Ok(Some("nobody has said what is in use".to_owned()));
        };
        let ImagesInUse { blobs: mut needed, unknown } = users.in_use();
        if unknown.is_some() {
            return Ok(unknown);
        }
        let recent = self.used.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut kept = self.store.job_images().await?;
        let touched = touch(&mut kept, &recent, &needed, now);
        let (blobs, limit) = (self.blobs.clone(), limits);
        let short = users.short_of_room();
        let looking = tokio::task::spawn_blocking(move || -> Result<_, image_store::StoreError> {
            let sizes: HashMap<Digest, u64> = blobs.list()?.into_iter().collect();
            let converted = name_indexes(&mut kept, &needed, &sizes, &blobs);
            let images: Vec<ImageParts> =
                kept.iter().map(|one| parts_of(one, &needed, &blobs)).collect();
            let mut gone = unused(&images, &sizes, now, limit);
            // One that was brought a moment ago may not be named by its user yet.
            let oldest = now.plus_seconds(-NAMED_WITHIN_SECONDS);
            let is_spare = |image: &&ImageParts| !image.in_use && image.used < oldest;
            let short =
                images.iter().filter(is_spare).filter(|image| short.contains(&image.manifest));
            gone.extend(short.map(|image| image.manifest));
            let stay: Vec<&ImageParts> =
                images.iter().filter(|image| !gone.contains(&image.manifest)).collect();
            needed.extend(stay.iter().flat_map(|image| &image.blobs));
            Ok((needed, gone, converted))
        });
        let (needed, gone, converted) = looking.await??;
        // Files go whether or not this is kept: that makes room, also for the next try.
        if let Err(error) = self.forget_rows(&gone, users.as_ref()).await {
            tracing::warn!("removed job images stay in their table: {}", causes(&error));
        }
        let writes = touched.into_iter().chain(converted);
        let stays = |write: &Write| match write {
            Write::PutJobImage { image, .. } => !gone.contains(&image.manifest),
            _ => true,
        };
        let writes: Vec<Write> = writes.filter(stays).collect();
        match self.commit_in_chunks(&writes).await {
            Ok(()) => self.forget_uses(&recent),
            Err(error) => tracing::warn!("uses of job images are not kept: {}", causes(&error)),
        }
        let Removed { blobs, partial, bytes } = remove_all_but(removal, needed).await?;
        if blobs + partial > 0 || !gone.is_empty() {
            tracing::info!(
                "removed {} job images that nobody has used for long, with {blobs} files that \
                 nothing needs and {partial} broken downloads, {bytes} bytes",
                gone.len()
            );
        }
        Ok(None)
    }

    /// Forgets images, and then those who are charged with them are so no more.
    async fn forget_rows(
        &self,
        gone: &BTreeSet<Digest>,
        users: &dyn JobImageUsers,
    ) -> Result<(), StoreError> {
        let gone: Vec<&Digest> = gone.iter().collect();
        for some in gone.chunks(MAX_WRITES_AT_ONCE) {
            let writes: Vec<Write> = some.iter().map(|one| Write::ForgetJobImage(**one)).collect();
            self.store.commit(&writes).await?;
            some.iter().for_each(|manifest| users.release(manifest));
        }
        Ok(())
    }

    async fn commit_in_chunks(&self, writes: &[Write]) -> Result<(), StoreError> {
        for some in writes.chunks(MAX_WRITES_AT_ONCE) {
            self.store.commit(some).await?;
        }
        Ok(())
    }

    /// Uses that are on disk; an image that was used again since has another time.
    fn forget_uses(&self, kept: &BTreeMap<Digest, Timestamp>) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|manifest, at| kept.get(manifest) != Some(at));
    }
}

/// Sets when images were used last, and gives the writes that keep it.
fn touch(
    kept: &mut [KeptImage],
    recent: &BTreeMap<Digest, Timestamp>,
    in_use: &HashSet<Digest>,
    now: Timestamp,
) -> Vec<Write> {
    let mut writes = Vec::new();
    for KeptImage { image, used } in kept {
        let is_in_use = in_use.contains(&image.root.digest);
        let last = if is_in_use { Some(now) } else { recent.get(&image.manifest).copied() };
        if let Some(last) = last.filter(|last| *last > *used) {
            *used = last;
            writes.push(Write::PutJobImage { image: Box::new(image.clone()), used: last });
        }
    }
    writes
}

/// What an image is made of, as its manifest says, and what it was found by.
fn parts_of(kept: &KeptImage, in_use: &HashSet<Digest>, blobs: &image_store::Store) -> ImageParts {
    let KeptImage { image, used } = kept;
    let mut parts = BTreeSet::from([image.manifest, image.root.digest]);
    if let Some(Document::Manifest(manifest)) = document(&image.manifest, blobs) {
        let descriptors = manifest.layers().iter().chain([manifest.config()]);
        parts.extend(descriptors.filter_map(|one| digest_of(&image.manifest, one).ok()));
    }
    parts.extend(image.indexes.iter().flatten());
    let in_use = in_use.contains(&image.root.digest);
    ImageParts { manifest: image.manifest, used: *used, in_use, blobs: parts }
}

/// A manifest or index of the store, if it is one.
fn document(digest: &Digest, blobs: &image_store::Store) -> Option<Document> {
    blobs.size(digest).ok().filter(|size| *size <= MAX_DOCUMENT_BYTES)?;
    let bytes = blobs.map(digest).ok()?;
    bytes.as_ref().starts_with(b"{").then(|| Document::parse(digest, bytes.as_ref()).ok()).flatten()
}

/// Rows of earlier releases do not say by which indexes an image was found. Each is converted once,
/// by whatever looks like an index that leads to it and is no kept file that is needed. Gives the
/// writes that keep it.
fn name_indexes(
    kept: &mut [KeptImage],
    in_use: &HashSet<Digest>,
    sizes: &HashMap<Digest, u64>,
    blobs: &image_store::Store,
) -> Vec<Write> {
    if kept.iter().all(|one| one.image.indexes.is_some()) {
        return Vec::new();
    }
    let small = sizes
        .iter()
        .filter(|(digest, size)| **size <= MAX_DOCUMENT_BYTES && !in_use.contains(digest));
    let indexes = small.filter_map(|(digest, _)| match document(digest, blobs)? {
        Document::Index(index) => {
            let entries = index.manifests().iter();
            Some((
                *digest,
                entries.filter_map(|entry| digest_of(digest, entry).ok()).collect::<HashSet<_>>(),
            ))
        }
        Document::Manifest(_) => None,
    });
    let indexes: BTreeMap<Digest, HashSet<Digest>> = indexes.collect();
    let mut writes = Vec::new();
    for KeptImage { image, used } in kept.iter_mut().filter(|one| one.image.indexes.is_none()) {
        image.found_by(&leading_to(image.manifest, &indexes));
        writes.push(Write::PutJobImage { image: Box::new(image.clone()), used: *used });
    }
    writes
}

/// Indexes that lead to a manifest; one may lead to another.
fn leading_to(manifest: Digest, indexes: &BTreeMap<Digest, HashSet<Digest>>) -> Vec<Digest> {
    let (mut found, mut ends) = (Vec::new(), HashSet::from([manifest]));
    loop {
        let leads = |(index, to): &(&Digest, &HashSet<Digest>)| {
            !ends.contains(*index) && to.iter().any(|one| ends.contains(one))
        };
        let more: Vec<Digest> = indexes.iter().filter(leads).map(|(index, _)| *index).collect();
        if more.is_empty() {
            return found;
        }
        ends.extend(&more);
        found.extend(more);
    }
}

/// Manifests of the images that go: those that are too old, then those used longest ago until all
/// others fit. What images share counts once.
fn unused(
    images: &[ImageParts],
    sizes: &HashMap<Digest, u64>,
    now: Timestamp,
    limits: ImageLimits,
) -> BTreeSet<Digest> {
    let mut sharing: HashMap<Digest, u32> = HashMap::new();
    for digest in images.iter().flat_map(|image| &image.blobs) {
        *sharing.entry(*digest).or_default() += 1;
    }
    let size = |digest: &Digest| sizes.get(digest).copied().unwrap_or(0);
    let mut total: u64 = sharing.keys().map(size).sum();
    let oldest_kept = now.plus_seconds(-i64::from(limits.days) * DAY_SECONDS);
    let mut by_age: Vec<&ImageParts> = images.iter().filter(|image| !image.in_use).collect();
    by_age.sort_unstable_by_key(|image| (image.used, image.manifest));
    let mut gone = BTreeSet::new();
    for image in by_age {
        let fits = limits.bytes.is_none_or(|limit| total <= limit);
        if image.used >= oldest_kept && fits {
            break;
        }
        gone.insert(image.manifest);
        for digest in &image.blobs {
            let Some(count) = sharing.get_mut(digest) else { continue };
            *count -= 1;
            if *count == 0 {
                total -= size(digest);
            }
        }
    }
    gone
}

#[cfg(test)]
mod tests;
