//! Where the files of images lie.
//!
//! ```text
//! STATE-DIR/images/      OS images: manifests, layers, root images, kernels, stage 1
//! STATE-DIR/jobs/        job images, and small files that are kept beside them
//! ```
//! Two stores with one owner, and not one store, because a store is believed: a pull takes what is
//! there under a digest for what its registry has. Users choose the registries of job images, and
//! are told the digests of OS images. One that names `REGISTRY-OF-THEIRS/x@DIGEST-OF-AN-OS-IMAGE`
//! would get that image without any registry's word, also one that an admin has imported from the
//! server's disk ([decision 0016](../../docs/decisions/0016-image-catalog.md)).

use std::path::{Path, PathBuf};

/// The store of OS images, in the state directory.
const OS: &str = "images";

/// The store of job images, in the state directory.
const JOBS: &str = "jobs";

/// Where the files of OS images lie in a state directory.
#[must_use]
pub fn of_os_images(state_dir: &Path) -> PathBuf {
    state_dir.join(OS)
}

/// Where the files of job images lie in a state directory.
#[must_use]
pub fn of_job_images(state_dir: &Path) -> PathBuf {
    state_dir.join(JOBS)
}
