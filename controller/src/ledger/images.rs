//! Job images, each charged to who brought it: asked for before the pull, taken when their size is
//! known, kept with their row or given up.

use std::{collections::BTreeSet, sync::Arc};

use access::QuotaExceeded;
use api::{
    ids::Digest,
    quota::{Amounts, QuotaName},
};

use super::{LedgerState, QuotaLedger};

/// An image and who brought it.
#[derive(Debug)]
pub(super) struct ChargedImage {
    user: Arc<str>,
    bytes: u64,
    /// Two pulls may convert the same manifest at once: each takes back its own charge.
    charge: u64,
}

impl LedgerState {
    fn remove_image(&mut self, manifest: &Digest) {
        if let Some(ChargedImage { user, bytes, .. }) = self.images.remove(manifest) {
            self.release(&user, &Amounts::default().with(QuotaName::Images, bytes));
        }
    }

    /// Charges an image, in place of what was charged for it. Returns the number of the charge.
    pub(super) fn insert_image(&mut self, manifest: Digest, user: Arc<str>, bytes: u64) -> u64 {
        self.remove_image(&manifest);
        self.charge(&user, &Amounts::default().with(QuotaName::Images, bytes));
        let charge = self.next_charge;
        self.next_charge += 1;
        self.images.insert(manifest, ChargedImage { user, bytes, charge });
        charge
    }
}

impl QuotaLedger {
    /// Whether a user may bring one more image, whose size is not known yet.
    ///
    /// # Errors
    /// [`QuotaExceeded`]; what the user's workflows do not use is to be removed.
    pub(crate) fn has_room_for_image(
        &self,
        user: &Arc<str>,
        limit: Option<u64>,
    ) -> Result<(), QuotaExceeded> {
        let mut book = self.book();
        let used = book.used(user).get(QuotaName::Images);
        let checked = QuotaExceeded::check(user, QuotaName::Images, used, 1, limit);
        if checked.is_err() {
            book.short_of_images.insert(user.clone());
        }
        checked
    }

    /// Takes an image that is about to be kept. Returns the number of the charge, for
    /// [`Self::keep_image`] or [`Self::give_up_image`].
    ///
    /// # Errors
    /// As [`Self::has_room_for_image`].
    pub(crate) fn take_image(
        &self,
        manifest: Digest,
        user: &Arc<str>,
        bytes: u64,
        limit: Option<u64>,
    ) -> Result<u64, QuotaExceeded> {
        let mut book = self.book();
        let used = book.used(user).get(QuotaName::Images);
        if let Err(exceeded) = QuotaExceeded::check(user, QuotaName::Images, used, bytes, limit) {
            book.short_of_images.insert(user.clone());
            return Err(exceeded);
        }
        Ok(book.insert_image(manifest, user.clone(), bytes))
    }

    /// An image that was taken is kept, and its row names `user`: another pull of the same manifest
    /// that has taken its place meanwhile, or has given it up, does not uncharge it.
    pub(crate) fn keep_image(&self, manifest: Digest, user: &Arc<str>, bytes: u64, charge: u64) {
        let mut book = self.book();
        if book.images.get(&manifest).is_none_or(|image| image.charge != charge) {
            book.insert_image(manifest, user.clone(), bytes);
        }
    }

    /// An image that was taken is not kept. What another pull has taken for it since stays.
    pub(crate) fn give_up_image(&self, manifest: &Digest, charge: u64) {
        let mut book = self.book();
        if book.images.get(manifest).is_some_and(|image| image.charge == charge) {
            book.remove_image(manifest);
        }
    }

    /// An image is gone.
    pub(crate) fn forget_image(&self, manifest: &Digest) {
        self.book().remove_image(manifest);
    }

    /// Images of users who had no room for another, by manifest; each is told once.
    pub(crate) fn take_short_of_images(&self) -> BTreeSet<Digest> {
        let mut book = self.book();
        let users = std::mem::take(&mut book.short_of_images);
        let of_them = book.images.iter().filter(|(_, image)| users.contains(&image.user));
        of_them.map(|(manifest, _)| *manifest).collect()
    }
}
