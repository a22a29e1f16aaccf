//! From layers in the store to boot artifacts in the store: the order of the work. Called by `provisioner`.
//!
//! Names of all layers → merged tree → kernels and the modules to carry → squashfs; what stage 1 needs is copied aside
//! from the stream of contents on its way → firmware, where the modules declare any that the image has → stage 1. An
//! error or a cancellation leaves nothing behind but artifacts that are whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
};

use api::image::{Artifact, INITS, KernelArtifact};

use crate::{
    elf, firmware,
    inflate::{inflate, plain_name},
    kernel::{self, Kernel},
    layer::{Layer, LayerError},
    modules::{Chosen, ModuleIndex},
    progress::Progress,
    scan::{Chunk, Scanned, Wanted, contents, scan},
    squashfs::{SquashfsError, squash},
    stage1::{Packing, Stage1},
    store::{Store, StoreError},
    tree::{InodeId, Node, Tree},
};

/// Most bytes of kernels, modules and firmware, as they are in the image, held in memory during a build. Debian's
/// selection has some 60 MB for each kernel.
pub const MAX_STAGE1_BYTES: u64 = 2 << 30;

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
        found: String,
    },
    /// A kernel's modules have no index.
    #[error("the image has no lib/modules/{release}/modules.dep; run `depmod {release}` when it is made")]
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
        "kernels, modules and firmware for stage 1 have {bytes} bytes; at most {MAX_STAGE1_BYTES} are taken"
    )]
    TooLarge {
        /// How much it would be.
        bytes: u64,
    },
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

/// Makes the boot artifacts of an image. Blocking; takes about as long as `tar2sqfs` alone.
///
/// # Errors
/// Any [`BuildError`]. Cancellation is [`LayerError::Cancelled`].
pub fn build(
    store: &Store,
    layers: &[Layer],
    options: &BuildOptions,
    progress: &dyn Progress,
) -> Result<Built, BuildError> {
    let work = Work::begin(store, layers, options, progress)?;
    let mut aside = Aside::of(work.wanted()?);
    let squashed = squash(store, layers, &work.scanned, progress, |chunk| {
        aside.take(chunk);
        Ok(())
    })?;
    let mut warnings: Vec<String> = squashed
        .dropped
        .iter()
        .map(|(name, (count, first))| {
            format!("{count} files have the attribute {name}, which squashfs cannot hold and drops (first: /{first})")
        })
        .collect();
    warnings.extend(work.left_out.iter().cloned());
    warnings.extend(init_warning(work.tree()));
    let kernels = work.finish(aside.files, &mut warnings)?;
    Ok(Built { root: squashed.root, kernels, warnings })
}

/// What to tell of an image in which stage 1 would find no init to start.
fn init_warning(tree: &Tree) -> Option<String> {
    let is_program = |path: &str| {
        tree.find(path.as_bytes()).is_some_and(|inode| {
            let inode = &tree.inodes[inode];
            matches!(inode.node, Node::File(_)) && inode.metadata.mode & 0o111 != 0
        })
    };
    if INITS.iter().any(|path| is_program(path)) {
        return None;
    }
    Some(format!(
        "it has no init (looked for {}): nodes cannot start from it unless the kernel argument init= \
         names another program; install one in the image (Debian: systemd-sysv)",
        INITS.join(", ")
    ))
}

/// Makes the root file system of containers from an image: no kernel is asked for, and none is taken out.
///
/// # Errors
/// [`BuildError::Layer`], [`BuildError::Squashfs`], [`BuildError::Store`].
pub fn build_job_root(
    store: &Store,
    layers: &[Layer],
    progress: &dyn Progress,
) -> Result<Artifact, BuildError> {
    let scanned = scan(store, layers, progress)?;
    Ok(squash(store, layers, &scanned, progress, |_| Ok(()))?.root)
}

/// Makes kernels and stage 1 again, for a new substrate program; the root image stays as it is.
///
/// # Errors
/// As [`build()`].
pub fn rebuild_stage1(
    store: &Store,
    layers: &[Layer],
    options: &BuildOptions,
    progress: &dyn Progress,
) -> Result<Vec<KernelArtifact>, BuildError> {
    let work = Work::begin(store, layers, options, progress)?;
    let files = work.read(&work.wanted()?)?;
    work.finish(files, &mut Vec::new())
}

/// A kernel and what is to go with it.
struct Planned {
    kernel: Kernel,
    index: ModuleIndex,
    modules: Chosen,
    packing: Packing,
}

/// A build under way.
struct Work<'a> {
    store: &'a Store,
    layers: &'a [Layer],
    progress: &'a dyn Progress,
    substrate: Vec<u8>,
    scanned: Scanned,
    planned: Vec<Planned>,
    /// Kernels that cannot be booted, in words.
    left_out: Vec<String>,
}

/// Contents by inode.
type Files = BTreeMap<InodeId, Vec<u8>>;

/// Copies the files that stage 1 needs aside.
struct Aside {
    wanted: BTreeSet<InodeId>,
    files: Files,
}

impl Aside {
    fn of((wanted, _): (BTreeSet<InodeId>, Wanted)) -> Self {
        Self { wanted, files: Files::new() }
    }

    fn take(&mut self, chunk: &Chunk) {
        if self.wanted.contains(&chunk.inode) {
            self.files.entry(chunk.inode).or_default().extend_from_slice(&chunk.bytes);
        }
    }
}

impl<'a> Work<'a> {
    /// Reads all names, finds the kernels and chooses modules: everything that can be refused is refused here.
    fn begin(
        store: &'a Store,
        layers: &'a [Layer],
        options: &BuildOptions,
        progress: &'a dyn Progress,
    ) -> Result<Self, BuildError> {
        let path = &options.substrate;
        let substrate =
            fs::read(path).map_err(|source| BuildError::Substrate { path: path.clone(), source })?;
        let scanned = scan(store, layers, progress)?;
        let kernels = kernel::find(&scanned.tree, |content| scanned.release(content))
            .map_err(|found| BuildError::NoKernel { found })?;
        let text = |path: String| scanned.text(store, layers, &path);
        let mut planned = Vec::with_capacity(kernels.len());
        let mut without_index = Vec::new();
        for kernel in kernels {
            let folder = &kernel.modules;
            let optional =
                |name: &str| Ok::<_, LayerError>(text(format!("{folder}/{name}"))?.unwrap_or_default());
            let Some(dep) = text(format!("{folder}/modules.dep"))? else {
                without_index.push(kernel.release);
                continue;
            };
            let index = ModuleIndex {
                dep,
                alias: optional("modules.alias")?,
                softdep: optional("modules.softdep")?,
                builtin: optional("modules.builtin")?,
            };
            let config = match text(format!("boot/config-{}", kernel.release))? {
                None => text(format!("{folder}/config"))?,
                found => found,
            };
            let (modules, packing) = (index.choose(), Packing::of(config.as_deref()));
            planned.push(Planned { kernel, index, modules, packing });
        }
        if planned.is_empty() {
            let release = without_index.into_iter().next().unwrap_or_default();
            return Err(BuildError::NoModuleIndex { release });
        }
        let left_out = |release: &String| {
            format!(
                "kernel {release} is left out: it has no lib/modules/{release}/modules.dep; remove what \
                 is left of it, or run `depmod {release}` when the image is made"
            )
        };
        let left_out = without_index.iter().map(left_out).collect();
        Ok(Self { store, layers, progress, substrate, scanned, planned, left_out })
    }

    fn tree(&self) -> &Tree {
        &self.scanned.tree
    }

    /// Kernels and modules, as a set and for a pass of its own.
    fn wanted(&self) -> Result<(BTreeSet<InodeId>, Wanted), BuildError> {
        let mut inodes = BTreeSet::new();
        for Planned { kernel, modules, .. } in &self.planned {
            inodes.extend(self.tree().find(kernel.path.as_bytes()));
            inodes.extend(modules.iter().filter_map(|path| self.module(kernel, path)));
        }
        let mut wanted = Wanted::default();
        inodes.iter().for_each(|inode| wanted.insert(self.tree(), *inode));
        if wanted.bytes() > MAX_STAGE1_BYTES {
            return Err(BuildError::TooLarge { bytes: wanted.bytes() });
        }
        Ok((inodes, wanted))
    }

    fn module(&self, kernel: &Kernel, path: &str) -> Option<InodeId> {
        let inode = self.tree().find(format!("{}/{path}", kernel.modules).as_bytes())?;
        matches!(self.tree().inodes[inode].node, Node::File(_)).then_some(inode)
    }

    /// Reads contents in a pass of their own.
    fn read(&self, (_, wanted): &(BTreeSet<InodeId>, Wanted)) -> Result<Files, BuildError> {
        let mut files = Files::new();
        contents(self.store, self.layers, wanted, |chunk| {
            if self.progress.cancelled() {
                return Err(LayerError::Cancelled);
            }
            files.entry(chunk.inode).or_default().extend_from_slice(&chunk.bytes);
            Ok(())
        })?;
        Ok(files)
    }

    fn finish(&self, files: Files, warnings: &mut Vec<String>) -> Result<Vec<KernelArtifact>, BuildError> {
        let total = self.planned.len() as u64;
        let mut kernels = Vec::new();
        for (done, planned) in self.planned.iter().enumerate() {
            self.progress.advance("stage 1", done as u64, total);
            kernels.push(self.finish_kernel(planned, &files, warnings)?);
            if self.progress.cancelled() {
                return Err(LayerError::Cancelled.into());
            }
        }
        self.progress.advance("stage 1", total, total);
        Ok(kernels)
    }

    fn finish_kernel(
        &self,
        planned: &Planned,
        files: &Files,
        warnings: &mut Vec<String>,
    ) -> Result<KernelArtifact, BuildError> {
        let release = planned.kernel.release.as_str();
        let mut modules = BTreeMap::new();
        let (mut absent, mut unreadable) = (Vec::new(), Vec::new());
        let mut firmware_names = BTreeSet::new();
        for path in &planned.modules {
            let Some(bytes) = self.module(&planned.kernel, path).and_then(|inode| files.get(&inode)) else {
                absent.push(path.as_str());
                continue;
            };
            let plain = inflated(path, bytes)?;
            match elf::modinfo(&plain, "firmware") {
                Ok(names) => firmware_names.extend(names.into_iter().map(str::to_owned)),
                Err(_) => unreadable.push(path.as_str()),
            }
            modules.insert(plain_name(path).to_owned(), plain);
        }
        for (paths, problem) in [
            (absent, "are listed in modules.dep and not in the image"),
            (unreadable, "are not ELF files with a .modinfo section"),
        ] {
            if let Some(first) = paths.first() {
                warnings
                    .push(format!("kernel {release}: {} modules {problem} (first: {first})", paths.len()));
            }
        }
        let found = firmware::find(self.tree(), release, firmware_names.iter().map(String::as_str));
        warnings.extend(firmware::warning(release, &found.missing));
        let stage1 = Stage1 {
            release,
            substrate: &self.substrate,
            modules,
            index: planned.index.only(&planned.modules),
            firmware: self.firmware(&found)?,
            packing: planned.packing,
        };
        let image = self.tree().find(planned.kernel.path.as_bytes()).and_then(|inode| files.get(&inode));
        let (digest, size) = self.store.put(image.map_or(&[][..], Vec::as_slice))?;
        let kernel = Artifact { format: "vmlinuz".to_owned(), digest, size };
        Ok(KernelArtifact {
            release: release.to_owned(),
            kernel,
            stage1: stage1.write(self.store)?,
            stage1_unpacked: Some(stage1.unpacked_bytes()),
        })
    }

    fn firmware(&self, found: &firmware::Firmware) -> Result<BTreeMap<String, Vec<u8>>, BuildError> {
        let mut wanted = Wanted::default();
        found.found.values().for_each(|(inode, _)| wanted.insert(self.tree(), *inode));
        if wanted.bytes() > MAX_STAGE1_BYTES {
            return Err(BuildError::TooLarge { bytes: wanted.bytes() });
        }
        let files = self.read(&(BTreeSet::new(), wanted))?;
        let mut firmware = BTreeMap::new();
        for (name, (inode, file)) in &found.found {
            let bytes = files.get(inode).map_or(&[][..], Vec::as_slice);
            firmware.insert(name.clone(), inflated(file, bytes)?);
        }
        Ok(firmware)
    }
}

fn inflated(path: &str, bytes: &[u8]) -> Result<Vec<u8>, BuildError> {
    inflate(path, bytes.to_vec()).map_err(|source| BuildError::Inflate { path: path.to_owned(), source })
}
