//! From layers in the store to boot artifacts in the store: the order of the work. Called
//! by `provisioner`.
//!
//! The work is in [`crate::convert`]. An error or a cancellation leaves nothing behind but
//! artifacts that are whole.

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::PathBuf,
    sync::Arc,
};

use api::image::{Artifact, KernelArtifact};

use crate::{
    convert::{Artifacts, BuiltKernel, Image, convert_image, convert_job_root, convert_stage1},
    kernel::MissingKernel,
    layer::{Layer, LayerError},
    progress::Progress,
    squashfs::{RootImage, SquashfsError, Tar2sqfs},
    store::{Store, StoreError},
    tree::{MAX_LINK_STEPS, MAX_STEPS},
};

/// What a build needs besides the image.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The `substrate` program, static, for the image's architecture: becomes `/init` of stage 1.
    pub substrate: PathBuf,
}

/// What a build gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The root file system.
    pub root: Artifact,
    /// Kernels with their stage 1, newest first.
    pub kernels: Vec<KernelArtifact>,
    /// What the admin should know.
    pub warnings: Vec<String>,
}

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no kernel.
    #[error(
        "the image has no kernel that can boot: {found}; looked for lib/modules/RELEASE/ with \
         lib/modules/RELEASE/vmlinuz, boot/vmlinuz-RELEASE or a boot/vmlinuz* that names RELEASE in its \
         header; install a kernel package in the image \
         (Debian: linux-image-amd64, Fedora: kernel-core) and import it again"
    )]
    NoKernel {
        /// What it has instead.
        found: MissingKernel,
    },
    /// A kernel's modules have no index.
    #[error(
        "the image has no lib/modules/{release}/modules.dep; run `depmod {release}` when it is made"
    )]
    NoModuleIndex {
        /// The kernel.
        release: String,
    },
    /// A module or firmware file cannot be decompressed.
    #[error("cannot decompress {path} of the image")]
    Inflate {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Too much for an initramfs.
    #[error(
        "kernels, modules and firmware for stage 1 have {bytes} bytes, and {left} bytes are left of the {limit} \
         that an image may hold in memory; remove kernels that no node needs"
    )]
    TooLarge {
        /// How much it would be.
        bytes: u64,
        /// How much there may be beside what is held already.
        left: u64,
        /// How much an image may hold.
        limit: u64,
    },
    /// Too many links and paths to follow.
    #[error(
        "the paths of the image take more than {MAX_STEPS} steps to follow, or its symbolic links alone more than \
         {MAX_LINK_STEPS}"
    )]
    Steps,
    /// An artifact cannot be handed on.
    #[error("cannot write a part of stage 1")]
    Write(#[source] io::Error),
    /// The substrate program cannot be read.
    #[error("cannot read the substrate program {}", path.display())]
    Substrate {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A layer cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The root image cannot be written.
    #[error(transparent)]
    Squashfs(#[from] SquashfsError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Artifacts into the store.
struct IntoStore<'s>(&'s Store);

impl Artifacts for IntoStore<'_> {
    type Artifact = Artifact;

    fn put(
        &mut self,
        format: &'static str,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Artifact, BuildError> {
        let temporary = self.0.temporary()?;
        let mut file = BufWriter::with_capacity(1 << 20, temporary.file());
        let written = write(&mut file).and_then(|()| file.flush());
        drop(file);
        written.map_err(|e| self.0.write_failed("write stage 1 to", temporary.path(), 0, e))?;
        let (digest, size) = self.0.adopt(temporary)?;
        Ok(Artifact { format: format.to_owned(), digest, size })
    }
}

/// Makes the boot artifacts of an image in this process. Blocking; takes about as long as
/// `tar2sqfs` alone. What strangers made is converted by [`crate::Converter`] instead.
///
/// # Errors
/// Any [`BuildError`]. Cancellation is [`LayerError::Cancelled`].
pub fn build(
    store: &Store,
    layers: &[Layer],
    options: &BuildOptions,
    progress: &dyn Progress,
) -> Result<Built, BuildError> {
    let substrate = options.read()?;
    let files = Layer::open_all(layers, store).map_err(LayerError::from)?;
    let image = Image { layers: &files, substrate: &substrate, budget: Arc::default(), progress };
    let ((kernels, warnings), root) =
        with_root(store, layers, |root| convert_image(&image, root, &mut IntoStore(store)))?;
    Ok(Built { root, kernels: kernels.into_iter().map(KernelArtifact::from).collect(), warnings })
}

/// Makes the root file system of containers from an image, in this process: no kernel is asked for,
/// and none is taken out.
///
/// # Errors
/// [`BuildError::Layer`], [`BuildError::Squashfs`], [`BuildError::Store`].
pub fn build_job_root(
    store: &Store,
    layers: &[Layer],
    progress: &dyn Progress,
) -> Result<Artifact, BuildError> {
    let files = Layer::open_all(layers, store).map_err(LayerError::from)?;
    let image = Image { layers: &files, substrate: &[], budget: Arc::default(), progress };
    Ok(with_root(store, layers, |root| convert_job_root(&image, root))?.1)
}

/// Makes kernels and stage 1 again, in this process, for a new substrate program; the root image
/// stays as it is.
///
/// # Errors
/// As [`build()`].
pub fn rebuild_stage1(
    store: &Store,
    layers: &[Layer],
    options: &BuildOptions,
    progress: &dyn Progress,
) -> Result<Vec<KernelArtifact>, BuildError> {
    let substrate = options.read()?;
    let files = Layer::open_all(layers, store).map_err(LayerError::from)?;
    let image = Image { layers: &files, substrate: &substrate, budget: Arc::default(), progress };
    let kernels = convert_stage1(&image, &mut IntoStore(store))?;
    Ok(kernels.into_iter().map(KernelArtifact::from).collect())
}

/// Runs a conversion with a program that writes the root image into the store.
fn with_root<T>(
    store: &Store,
    layers: &[Layer],
    convert: impl FnOnce(Tar2sqfs) -> Result<T, BuildError>,
) -> Result<(T, Artifact), BuildError> {
    let root = RootImage::begin(store, layers.iter().map(|layer| layer.size).sum())?;
    let child = Tar2sqfs::start(root.temporary().path())?;
    match convert(child) {
        Ok(done) => Ok((done, root.finish()?)),
        Err(BuildError::Squashfs(
            error @ (SquashfsError::Failed { .. } | SquashfsError::Pipe(_)),
        )) => Err(root.full().map_or(error, SquashfsError::Store).into()),
        Err(error) => Err(error),
    }
}

impl From<BuiltKernel<Artifact>> for KernelArtifact {
    fn from(built: BuiltKernel<Artifact>) -> Self {
        let BuiltKernel { release, kernel, stage1, stage1_unpacked } = built;
        Self { release, kernel, stage1, stage1_unpacked: Some(stage1_unpacked) }
    }
}

impl BuildOptions {
    /// Opens the substrate program, for another process to read.
    pub(crate) fn open(&self) -> Result<fs::File, BuildError> {
        let path = &self.substrate;
        fs::File::open(path).map_err(|source| BuildError::Substrate { path: path.clone(), source })
    }

    fn read(&self) -> Result<Vec<u8>, BuildError> {
        let path = &self.substrate;
        fs::read(path).map_err(|source| BuildError::Substrate { path: path.clone(), source })
    }
}
