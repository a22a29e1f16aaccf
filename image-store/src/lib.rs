//! OCI images in; a content-addressed store; boot artifacts out.
//!
//! Called by `image-catalog` (blocking: run it in `spawn_blocking`) and by `oci-pull`, which fills
//! the [`Store`] from a registry. The way of an image: [`oci::import_layout`] or `oci_pull::pull`
//! put its layers into the [`Store`] and say what they are ([`OciImage`]). The conversion merges
//! the layers in memory into one file tree and writes the squashfs root, the kernels and one
//! stage-1 initramfs for each kernel back into the store ([`Built`]). The server calls
//! [`Converter`] for that, which runs `convert` in a child process in a jail ([`converter`]);
//! [`build`] does the same in this process, for tests and trusted input. File contents are never
//! held in memory as a whole nor unpacked on disk: each layer is read once for its names and once
//! for its contents.
//!
//! No tokio and no randomness. The clock is read for the deadline of a conversion alone. Child
//! processes: the converter's, and `tar2sqfs` ([`squashfs`]), which the converter starts in its
//! jail and [`build`] as it is.

pub mod budget;
mod build;
mod convert;
pub mod converter;
pub mod cpio;
mod elf;
mod firmware;
pub mod fuzzing;
mod hashing;
mod inflate;
mod inspect;
mod kernel;
pub mod layer;
mod mapped;
mod modules;
pub mod oci;
mod pax;
mod platform;
pub mod progress;
mod scan;
pub mod squashfs;
mod stage1;
mod store;
mod tar_stream;
mod tree;

pub use api::image::Platform;
pub use build::{BuildError, BuildOptions, Built, build, build_job_root, rebuild_stage1};
pub use converter::{ConvertError, Converter};
pub use inspect::{ExpectedBlob, Inspection};
pub use kernel::MissingKernel;
pub use layer::{Layer, LayerError};
pub use mapped::Mapped;
pub use oci::{OciError, OciImage, RunConfig};
pub use platform::platform_of_program;
pub use progress::{NoProgress, Progress};
pub use store::{Beginning, BlobWriter, Removal, Removed, Store, StoreError, Temporary};
