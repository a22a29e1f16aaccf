//! Job images in the quotas of users.
//!
//! An image is charged once, with the bytes of its root file system, to the owner of the workflow that
//! it was converted for; whoever else uses it pays nothing. It is freed when it is removed, and what is
//! not in use is removed when its owner has no room for another.

use std::sync::Arc;

use access::{Access, QuotaExceeded};
use api::{ids::Digest, quota::QuotaName};

use super::{FetchError, JobImages, causes};
use crate::ledger::QuotaLedger;
use crate::record::JobImage;

/// Where images are charged.
#[derive(Debug, Clone)]
pub(super) struct ImageQuotas {
    pub(super) ledger: QuotaLedger,
    access: Access,
}

impl ImageQuotas {
    /// What a user may have. Where the database does not say, nothing is refused.
    async fn limit(&self, user: &str) -> Option<u64> {
        self.access.quota(user, QuotaName::Images).await.unwrap_or_else(|error| {
            tracing::error!("the limits of {user} cannot be read: {}", causes(&error));
            None
        })
    }

    fn refused(&self, exceeded: QuotaExceeded) -> FetchError {
        self.access.count_refusal(QuotaName::Images);
        FetchError::Quota(exceeded)
    }
}

impl JobImages {
    /// The same, and images are charged from now on.
    pub(crate) fn charging(self, ledger: QuotaLedger, access: Access) -> Self {
        Self { quotas: Some(ImageQuotas { ledger, access }), ..self }
    }

    /// Refuses a pull whose user has no room for any image more.
    pub(super) async fn has_room(&self, user: &Arc<str>) -> Result<(), FetchError> {
        let Some(quotas) = &self.quotas else { return Ok(()) };
        let limit = quotas.limit(user).await;
        quotas.ledger.has_room_for_image(user, limit).map_err(|exceeded| quotas.refused(exceeded))
    }

    /// Charges an image that was just made, until what comes with it is dropped unless it was kept.
    pub(super) async fn charge(
        &self,
        image: JobImage,
        user: &Arc<str>,
    ) -> Result<(JobImage, ImageCharge), FetchError> {
        let (manifest, bytes) = (image.manifest, image.root.size);
        let Some(quotas) = &self.quotas else { return Ok((image, ImageCharge(None))) };
        let limit = quotas.limit(user).await;
        let taken = quotas.ledger.take_image(manifest, user, bytes, limit);
        let number = taken.map_err(|exceeded| quotas.refused(exceeded))?;
        let ledger = quotas.ledger.clone();
        let charge =
            ImageCharge(Some(ChargedUse { ledger, manifest, user: user.clone(), bytes, number }));
        Ok((JobImage { pulled_by: Some(user.to_string()), ..image }, charge))
    }

    /// An image is gone.
    pub(super) fn release(&self, manifest: &Digest) {
        if let Some(quotas) = &self.quotas {
            quotas.ledger.forget_image(manifest);
        }
    }
}

/// An image is charged and not kept yet. Dropped before [`Self::keep`], it is charged no more.
#[derive(Debug)]
pub(super) struct ImageCharge(Option<ChargedUse>);

#[derive(Debug)]
struct ChargedUse {
    ledger: QuotaLedger,
    manifest: Digest,
    user: Arc<str>,
    bytes: u64,
    /// [`QuotaLedger::take_image`].
    number: u64,
}

impl ImageCharge {
    /// It is on disk: it is charged until it is removed.
    pub(super) fn keep(mut self) {
        if let Some(ChargedUse { ledger, manifest, user, bytes, number }) = self.0.take() {
            ledger.keep_image(manifest, &user, bytes, number);
        }
    }
}

impl Drop for ImageCharge {
    fn drop(&mut self) {
        if let Some(ChargedUse { ledger, manifest, number, .. }) = &self.0 {
            ledger.give_up_image(manifest, *number);
        }
    }
}
