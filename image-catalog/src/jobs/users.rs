//! What the user of job images tells the catalog: what is in use, and whom an image is charged to.
//!
//! An image is charged once, with the bytes of its root file system, to the user that it was
//! converted for; who else uses it pays nothing. It is freed when it is removed, and what is not in
//! use is removed when its user has no room for another. The sums are kept by who implements this.

use std::{collections::BTreeSet, fmt, sync::Arc};

use access::QuotaExceeded;
use api::ids::Digest;
use async_trait::async_trait;

use super::{FetchError, ImagesInUse, JobImage, JobImages};

/// Who needs job images. The catalog asks, and knows nothing else of them.
#[async_trait]
pub trait JobImageUsers: fmt::Debug + Send + Sync {
    /// What is needed now, by what is on disk: what was decided and is not on disk yet may not have
    /// happened after a crash, so it frees nothing.
    fn in_use(&self) -> ImagesInUse;

    /// Whether a user may bring one more image, whose size is not known yet.
    ///
    /// # Errors
    /// [`QuotaExceeded`]; what the user does not use is to be removed ([`Self::short_of_room`]).
    async fn check_room(&self, user: &Arc<str>) -> Result<(), QuotaExceeded>;

    /// Charges an image that was just made and is not kept yet.
    ///
    /// # Errors
    /// As [`Self::check_room`].
    async fn charge(
        &self,
        manifest: Digest,
        user: &Arc<str>,
        bytes: u64,
    ) -> Result<Box<dyn ImageCharge>, QuotaExceeded>;

    /// An image is gone, and is charged no more.
    fn release(&self, manifest: &Digest);

    /// Images of users who had no room for another, by manifest; each is told once.
    fn short_of_room(&self) -> BTreeSet<Digest>;
}

/// An image that is charged and not kept yet. Dropped before [`Self::keep`], it is charged no more.
pub trait ImageCharge: fmt::Debug + Send + Sync {
    /// Its row is on disk: it is charged until it is removed.
    fn keep(self: Box<Self>);
}

impl JobImages {
    /// Who needs job images, from now on. It is told once, when the server opens; until then
    /// nothing is charged, and nothing is removed.
    pub fn used_by(&self, users: Arc<dyn JobImageUsers>) {
        if self.users.set(users).is_err() {
            tracing::error!("somebody else uses job images already, and is asked on");
        }
    }

    /// Refuses a pull whose user has no room for any image more.
    pub(super) async fn check_room(&self, user: &Arc<str>) -> Result<(), FetchError> {
        let Some(users) = self.users.get() else { return Ok(()) };
        users.check_room(user).await.map_err(FetchError::Quota)
    }

    /// Charges an image that was just made, until what comes with it is dropped unless it was kept.
    pub(super) async fn charge(
        &self,
        image: JobImage,
        user: &Arc<str>,
    ) -> Result<(JobImage, Option<Box<dyn ImageCharge>>), FetchError> {
        let Some(users) = self.users.get() else { return Ok((image, None)) };
        let charging = users.charge(image.manifest, user, image.root.size);
        let charge = charging.await.map_err(FetchError::Quota)?;
        Ok((JobImage { pulled_by: Some(user.to_string()), ..image }, Some(charge)))
    }
}
