//! Workflows as users of job images: what they need, and to whom an image is charged.
//!
//! The user of the catalog is the owner of the workflow that an image is pulled for.

use std::{collections::BTreeSet, sync::Arc};

use access::{Access, QuotaExceeded};
use api::{ids::Digest, quota::QuotaName};
use async_trait::async_trait;
use image_catalog::{ImageCharge, ImagesInUse, JobImageUsers};
use rest::causes;

use crate::{ledger::QuotaLedger, views::Views};

/// See the module.
#[derive(Debug)]
pub(crate) struct ImageUsers {
    views: Views,
    ledger: QuotaLedger,
    access: Access,
}

impl ImageUsers {
    pub(crate) fn new(views: Views, ledger: QuotaLedger, access: Access) -> Self {
        Self { views, ledger, access }
    }

    /// What a user may have. Where the database does not say, nothing is refused.
    async fn limit(&self, user: &str) -> Option<u64> {
        self.access.quota(user, QuotaName::Images).await.unwrap_or_else(|error| {
            tracing::error!("the limits of {user} cannot be read: {}", causes(&error));
            None
        })
    }

    fn refused(&self, exceeded: QuotaExceeded) -> QuotaExceeded {
        self.access.count_refusal(QuotaName::Images);
        exceeded
    }
}

#[async_trait]
impl JobImageUsers for ImageUsers {
    fn in_use(&self) -> ImagesInUse {
        self.views.latest().images_in_use()
    }

    async fn check_room(&self, user: &Arc<str>) -> Result<(), QuotaExceeded> {
        let limit = self.limit(user).await;
        self.ledger.has_room_for_image(user, limit).map_err(|exceeded| self.refused(exceeded))
    }

    async fn charge(
        &self,
        manifest: Digest,
        user: &Arc<str>,
        bytes: u64,
    ) -> Result<Box<dyn ImageCharge>, QuotaExceeded> {
        let limit = self.limit(user).await;
        let taken = self.ledger.take_image(manifest, user, bytes, limit);
        let number = taken.map_err(|exceeded| self.refused(exceeded))?;
        let (ledger, user) = (self.ledger.clone(), user.clone());
        Ok(Box::new(ChargedUse { ledger, manifest, user, bytes, number, is_kept: false }))
    }

    fn release(&self, manifest: &Digest) {
        self.ledger.forget_image(manifest);
    }

    fn short_of_room(&self) -> BTreeSet<Digest> {
        self.ledger.take_short_of_images()
    }
}

/// An image that is charged. Dropped before it is kept, it is charged no more.
#[derive(Debug)]
struct ChargedUse {
    ledger: QuotaLedger,
    manifest: Digest,
    user: Arc<str>,
    bytes: u64,
    /// [`QuotaLedger::take_image`].
    number: u64,
    is_kept: bool,
}

impl ImageCharge for ChargedUse {
    fn keep(mut self: Box<Self>) {
        self.is_kept = true;
        self.ledger.keep_image(self.manifest, &self.user, self.bytes, self.number);
    }
}

impl Drop for ChargedUse {
    fn drop(&mut self) {
        if !self.is_kept {
            self.ledger.give_up_image(&self.manifest, self.number);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
