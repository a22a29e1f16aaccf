//! Images and files that were brought for workflows, held until the view that names them is
//! published: whatever removes unused ones looks there.

use image_catalog::JobImages;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: Vec<JobImages>,
    /// One of them is that of a fetch that failed.
    pub(super) is_of_failure: bool,
}

impl Leases {
    /// Holds what a lease holds until [`Self::end`].
    pub(super) fn keep(&mut self, lease: JobImages) {
        self.held.push(lease);
    }

    /// Lets go of all. `true`: a fetch has failed, and what it brought may be of no use.
    pub(super) fn end(&mut self) -> bool {
        self.held.clear();
        std::mem::take(&mut self.is_of_failure)
    }
}
