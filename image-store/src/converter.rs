//! Conversion in a process of its own, in a jail: what a stranger made is read by nobody else.
//! Called by `provisioner` and `controller`; blocking.
//!
//! The server opens its own program when it starts, and executes that very file again for each
//! image, whatever an upgrade has put in its place meanwhile. The child gets the layers, the file
//! for the root image and the substrate program as open descriptors, has an empty environment but
//! for `PATH`, shuts itself in ([`jail`]), and says over a pipe how far it is and what came of it
//! ([`protocol`]). The server believes none of it: it bounds what it takes and hashes every
//! artifact itself.
//!
//! | file | what |
//! |---|---|
//! | [`protocol`] | what both say to each other |
//! | [`child`] | what the child does |
//! | [`jail`] | what it cannot do |
//! | [`process`] | starting, hearing and ending it |
//! | [`tries`] | crashes, counted on disk |

mod child;
mod error;
mod jail;
mod process;
mod protocol;
mod tries;

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use api::{
    ids::Digest,
    image::{Artifact, KernelArtifact},
};

pub use child::main;
pub use error::ConvertError;
pub use protocol::RefusalKind;
pub use tries::{CONVERTER_VERSION, TriesError};

use process::{ConversionEnd, FrameHandler};
use protocol::{Request, Work};
use tries::{Abandoned, AttemptCounts, CountedAttempt};

use crate::{
    build::{BuildError, BuildOptions, Built, build, build_job_root, rebuild_stage1},
    layer::{Layer, LayerError, LayerFile},
    progress::Progress,
    squashfs::RootImage,
    store::{RESERVED_BYTES, Store},
};

/// Largest root image, bytes: a larger one could not be held in RAM.
const MAX_ROOT_BYTES: u64 = 64 << 30;

/// Converts images. Clones share everything.
#[derive(Debug, Clone)]
pub struct Converter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    way: ConverterMode,
    /// What a test wants to see done inside the jail.
    probe: Option<String>,
    /// It was told what this kernel lacks for the jail.
    has_told_missing: AtomicBool,
}

#[derive(Debug)]
enum ConverterMode {
    Jail { program: Program, tries: AttemptCounts },
    Here,
}

/// The program that is started as the converter.
#[derive(Debug)]
pub(crate) struct Program {
    file: File,
    arguments: Vec<OsString>,
}

/// What a conversion gave.
struct Converted {
    root: Option<Artifact>,
    kernels: Vec<KernelArtifact>,
    warnings: Vec<String>,
}

/// What is to be converted.
struct ConversionRequest<'a> {
    work: Work,
    /// Digest of its manifest.
    image: &'a Digest,
    layers: &'a [Layer],
    options: Option<&'a BuildOptions>,
}

impl Converter {
    /// The converter of the program that runs, whose `subcommand` calls [`main`]. Crashes are
    /// counted in `tries`, a directory that is made when it is needed. Call it at the start
    /// of the program.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn of_this_program(subcommand: &str, tries: PathBuf) -> io::Result<Self> {
        Self::of_program(Path::new("/proc/self/exe"), vec![subcommand.into()], tries)
    }

    /// The converter of another program, which calls [`main`] when it gets these arguments.
    ///
    /// # Errors
    /// The program cannot be opened.
    pub fn of_program(
        program: &Path,
        arguments: Vec<OsString>,
        tries: PathBuf,
    ) -> io::Result<Self> {
        let program = Program { file: File::open(program)?, arguments };
        let tries = AttemptCounts::new(tries);
        tries.remove_old();
        Ok(Self::by(ConverterMode::Jail { program, tries }))
    }

    /// Converts in this process, without a jail: for tests and simulations, whose
    /// images are their own.
    #[must_use]
    pub fn in_this_process() -> Self {
        Self::by(ConverterMode::Here)
    }

    fn by(way: ConverterMode) -> Self {
        Self(Arc::new(Inner { way, probe: None, has_told_missing: AtomicBool::new(false) }))
    }

    /// The same, and `probe` is handed to [`main`]'s function of that name in each child.
    #[must_use]
    pub fn with_probe(self, probe: &str) -> Self {
        match Arc::try_unwrap(self.0) {
            Ok(inner) => Self(Arc::new(Inner { probe: Some(probe.to_owned()), ..inner })),
            Err(shared) => Self(shared),
        }
    }

    /// Makes the boot artifacts of an image; see [`build()`]. `image` is the digest
    /// of its manifest.
    ///
    /// # Errors
    /// [`ConvertError`].
    pub fn image(
        &self,
        store: &Store,
        image: &Digest,
        layers: &[Layer],
        options: &BuildOptions,
        progress: &dyn Progress,
    ) -> Result<Built, ConvertError> {
        let ConverterMode::Jail { program, tries } = &self.0.way else {
            return Ok(build(store, layers, options, progress)?);
        };
        let order = ConversionRequest { work: Work::Image, image, layers, options: Some(options) };
        let Converted { root, kernels, warnings } =
            self.jailed(program, tries, store, &order, progress)?;
        let root = root
            .ok_or(ConvertError::Nonsense { image: *image, problem: "it wrote no root image" })?;
        Ok(Built { root, kernels, warnings })
    }

    /// Makes the root file system of containers; see [`build_job_root`].
    ///
    /// # Errors
    /// [`ConvertError`].
    pub fn job_root(
        &self,
        store: &Store,
        image: &Digest,
        layers: &[Layer],
        progress: &dyn Progress,
    ) -> Result<Artifact, ConvertError> {
        let ConverterMode::Jail { program, tries } = &self.0.way else {
            return Ok(build_job_root(store, layers, progress)?);
        };
        let order = ConversionRequest { work: Work::JobRoot, image, layers, options: None };
        let root = self.jailed(program, tries, store, &order, progress)?.root;
        root.ok_or(ConvertError::Nonsense { image: *image, problem: "it wrote no root image" })
    }

    /// Makes kernels and stage 1 again; see [`rebuild_stage1`].
    ///
    /// # Errors
    /// [`ConvertError`].
    pub fn stage1(
        &self,
        store: &Store,
        image: &Digest,
        layers: &[Layer],
        options: &BuildOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<KernelArtifact>, ConvertError> {
        let ConverterMode::Jail { program, tries } = &self.0.way else {
            return Ok(rebuild_stage1(store, layers, options, progress)?);
        };
        let order = ConversionRequest { work: Work::Stage1, image, layers, options: Some(options) };
        Ok(self.jailed(program, tries, store, &order, progress)?.kernels)
    }

    /// Forgets that the converter crashed with an image: an admin wants it tried again.
    ///
    /// # Errors
    /// [`ConvertError::AttemptCounts`].
    pub fn allow_again(&self, image: &Digest) -> Result<(), ConvertError> {
        match &self.0.way {
            ConverterMode::Jail { tries, .. } => Ok(tries.forget(image)?),
            ConverterMode::Here => Ok(()),
        }
    }

    fn jailed(
        &self,
        program: &Program,
        tries: &AttemptCounts,
        store: &Store,
        order: &ConversionRequest<'_>,
        progress: &dyn Progress,
    ) -> Result<Converted, ConvertError> {
        let layers = Layer::open_all(order.layers, store)
            .map_err(LayerError::from)
            .map_err(BuildError::from)?;
        let substrate = order.options.map(BuildOptions::open).transpose()?;
        let size = order.layers.iter().map(|layer| layer.size).sum();
        let root = order.work.has_root().then(|| RootImage::begin(store, size)).transpose();
        let root = root.map_err(BuildError::from)?;
        let attempt = match tries.begin(order.image)? {
            Ok(attempt) => attempt,
            Err(Abandoned { tries, reason }) => {
                return Err(ConvertError::Abandoned { image: *order.image, tries, reason });
            }
        };
        let request = Request {
            work: order.work,
            layers: order.layers.to_vec(),
            // A bomb leaves the database half of what is reserved for it.
            output_bytes: store
                .available()
                .map_or(MAX_ROOT_BYTES, |free| free.saturating_sub(RESERVED_BYTES / 2))
                .min(MAX_ROOT_BYTES),
            probe: self.0.probe.clone(),
        };
        let descriptors = descriptors(&layers, root.as_ref(), substrate.as_ref());
        let mut ears = FrameHandler::new(store, progress);
        let end = process::converse(program, &request, &descriptors, &mut ears);
        self.warn_of_missing_features(ears.missing());
        let kernels = record_outcome(order.image, attempt, end, root.as_ref(), ears)?;
        let root = root.map(RootImage::finish).transpose().map_err(BuildError::from)?;
        Ok(Converted { root, kernels: kernels.0, warnings: kernels.1 })
    }

    /// Names once what this kernel lacks for the jail: it does not change while the kernel runs.
    fn warn_of_missing_features(&self, missing: &[String]) {
        if !missing.is_empty() && !self.0.has_told_missing.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "this kernel lacks for the jail of the image converter: {}; images are converted with the rest of it",
                missing.join(", ")
            );
        }
    }
}

fn descriptors<'a>(
    layers: &'a [LayerFile],
    root: Option<&'a RootImage<'_>>,
    substrate: Option<&'a File>,
) -> Vec<BorrowedFd<'a>> {
    let mut descriptors: Vec<BorrowedFd<'a>> =
        layers.iter().map(|layer| layer.file.as_fd()).collect();
    descriptors.extend(root.map(|root| root.temporary().file().as_fd()));
    descriptors.extend(substrate.map(File::as_fd));
    descriptors
}

/// Counts how a try ended, and says what came of it.
fn record_outcome(
    image: &Digest,
    attempt: CountedAttempt,
    end: Result<ConversionEnd, ConvertError>,
    root: Option<&RootImage<'_>>,
    ears: FrameHandler<'_>,
) -> Result<(Vec<KernelArtifact>, Vec<String>), ConvertError> {
    let image = *image;
    match end {
        // The server's own trouble: a full disk, no further process.
        Err(error) => {
            attempt.does_not_count()?;
            Err(error)
        }
        Ok(ConversionEnd::Cancelled) => {
            attempt.does_not_count()?;
            Err(ConvertError::Cancelled)
        }
        Ok(ConversionEnd::Killed) => {
            attempt.does_not_count()?;
            Err(ConvertError::Killed { image })
        }
        Ok(ConversionEnd::Done) => {
            attempt.ended_well()?;
            Ok(ears.into_parts())
        }
        Ok(ConversionEnd::Failed { kind, message }) => {
            attempt.ended_well()?;
            let full = root.filter(|_| kind == RefusalKind::Writer).and_then(RootImage::full);
            Err(full.map_or(ConvertError::Refused { kind, message }, ConvertError::Store))
        }
        Ok(ConversionEnd::Crashed { cause }) => {
            let left = attempt.crashed(&cause)?;
            Err(ConvertError::Crashed { image, cause, left })
        }
    }
}
