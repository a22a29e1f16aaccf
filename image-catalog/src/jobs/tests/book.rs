//! Users of job images, with a limit for each of them, who keep a book of what they are charged.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex},
};

use access::QuotaExceeded;
use api::{ids::Digest, quota::QuotaName};
use async_trait::async_trait;

use crate::jobs::{ImageCharge, ImagesInUse, JobImageUsers};

/// Images with whom they are charged to and their bytes, by manifest.
type Charges = Arc<Mutex<BTreeMap<Digest, (Arc<str>, u64)>>>;

#[derive(Debug)]
pub(in crate::jobs) struct Book {
    /// Bytes that each user may have.
    limit: u64,
    charges: Charges,
    short: Mutex<HashSet<Arc<str>>>,
    /// What is in use.
    in_use: Mutex<HashSet<Digest>>,
    /// Why that is not all.
    unknown: Mutex<Option<String>>,
}

impl Book {
    pub(in crate::jobs) fn with_room_for(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            charges: Arc::default(),
            short: Mutex::default(),
            in_use: Mutex::default(),
            unknown: Mutex::default(),
        })
    }

    pub(in crate::jobs) fn used(&self, user: &str) -> u64 {
        let charges = self.charges.lock().unwrap();
        charges.values().filter(|(of, _)| **of == *user).map(|(_, bytes)| bytes).sum()
    }

    /// Takes all the room that a user has.
    pub(in crate::jobs) fn fill(&self, user: &str) {
        let rest = self.limit - self.used(user);
        self.take(Digest([0xff; 32]), user, rest);
    }

    /// Charges an image, whatever the limit.
    pub(in crate::jobs) fn take(&self, manifest: Digest, user: &str, bytes: u64) {
        self.charges.lock().unwrap().insert(manifest, (user.into(), bytes));
    }

    /// Says what is in use from now on.
    pub(in crate::jobs) fn needs(&self, blobs: &[Digest]) {
        *self.in_use.lock().unwrap() = blobs.iter().copied().collect();
    }

    /// Knows no more what is in use.
    pub(in crate::jobs) fn knows_not(&self, why: &str) {
        *self.unknown.lock().unwrap() = Some(why.to_owned());
    }

    fn check(&self, user: &Arc<str>, more: u64) -> Result<(), QuotaExceeded> {
        let (used, limit) = (self.used(user), Some(self.limit));
        let checked = QuotaExceeded::check(user, QuotaName::Images, used, more, limit);
        if checked.is_err() {
            self.short.lock().unwrap().insert(user.clone());
        }
        checked
    }
}

#[async_trait]
impl JobImageUsers for Book {
    fn in_use(&self) -> ImagesInUse {
        ImagesInUse {
            blobs: self.in_use.lock().unwrap().clone(),
            unknown: self.unknown.lock().unwrap().clone(),
        }
    }

    async fn check_room(&self, user: &Arc<str>) -> Result<(), QuotaExceeded> {
        self.check(user, 1)
    }

    async fn charge(
        &self,
        manifest: Digest,
        user: &Arc<str>,
        bytes: u64,
    ) -> Result<Box<dyn ImageCharge>, QuotaExceeded> {
        self.check(user, bytes)?;
        self.take(manifest, user, bytes);
        Ok(Box::new(Charge { charges: self.charges.clone(), manifest, is_kept: false }))
    }

    fn release(&self, manifest: &Digest) {
        self.charges.lock().unwrap().remove(manifest);
    }

    fn short_of_room(&self) -> BTreeSet<Digest> {
        let short = std::mem::take(&mut *self.short.lock().unwrap());
        let charges = self.charges.lock().unwrap();
        let of_them = charges.iter().filter(|(_, (user, _))| short.contains(user));
        of_them.map(|(manifest, _)| *manifest).collect()
    }
}

#[derive(Debug)]
struct Charge {
    charges: Charges,
    manifest: Digest,
    is_kept: bool,
}

impl ImageCharge for Charge {
    fn keep(mut self: Box<Self>) {
        self.is_kept = true;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if !self.is_kept {
            self.charges.lock().unwrap().remove(&self.manifest);
        }
    }
}
