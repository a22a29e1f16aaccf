//! The conversion itself: from open layers to a squashfs, kernels and stage 1. Called by
//! [`crate::build()`] in this process and by the converter in its jail; it opens no file and
//! knows no store.
//!
//! Names of all layers → merged tree → kernels and the modules to carry → squashfs; what stage 1
//! needs is copied aside from the stream of contents on its way → firmware, where the modules
//! declare any that the image has → stage 1.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    sync::Arc,
};

use api::image::INITS;

use crate::{
    budget::{Budget, OverBudget},
    build::BuildError,
    elf, firmware,
    inflate::{inflate, plain_name},
    kernel::{self, Kernel},
    layer::{LayerError, LayerFile},
    modules::{Chosen, ModuleIndex},
    progress::Progress,
    scan::{Chunk, Scanned, WantedFiles, contents, scan},
    squashfs::{Dropped, Tar2sqfs, content_size, squash},
    stage1::{Packing, Stage1},
    tree::{InodeId, Node, Tree},
};

/// A kernel with what stage 1 needs, as they were handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BuiltKernel<A> {
    pub release: String,
    pub kernel: A,
    pub stage1: A,
    /// Bytes of the files of stage 1 once unpacked.
    pub stage1_unpacked: u64,
}

/// Where kernels and initramfs images go.
pub(crate) trait Artifacts {
    /// What an artifact is known by afterwards.
    type Artifact;

    /// Takes an artifact of this format (`vmlinuz`, `initramfs`), which `write` writes.
    ///
    /// # Errors
    /// [`BuildError::Store`], [`BuildError::Write`].
    fn put(
        &mut self,
        format: &'static str,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Self::Artifact, BuildError>;
}

/// What is converted, and what its artifacts are written with.
pub(crate) struct Image<'a> {
    pub layers: &'a [LayerFile],
    /// The substrate program.
    pub substrate: &'a [u8],
    pub budget: Arc<Budget>,
    pub progress: &'a dyn Progress,
}

/// Kernels, newest first, and warnings.
type Converted<A> = (Vec<BuiltKernel<<A as Artifacts>::Artifact>>, Vec<String>);

/// Makes the boot artifacts of an image: the root image by a program that was started, the others
/// through `artifacts`. Returns the kernels, newest first, and warnings.
pub(crate) fn convert_image<A: Artifacts>(
    image: &Image<'_>,
    root: Tar2sqfs,
    artifacts: &mut A,
) -> Result<Converted<A>, BuildError> {
    let work = BuildInProgress::begin(image)?;
    let mut aside = Stage1FileCollector::of(work.wanted()?);
    let dropped = squash(root, image.layers, &work.scanned, image.progress, |chunk| {
        aside.take(work.tree(), chunk);
        Ok(())
    })?;
    let mut warnings = warnings_of(&dropped);
    warnings.extend(work.left_out.iter().cloned());
    warnings.extend(init_warning(work.tree()));
    let kernels = work.finish(aside.files, &mut warnings, artifacts)?;
    Ok((kernels, warnings))
}

/// Makes the root file system of containers by a program that was started.
pub(crate) fn convert_job_root(image: &Image<'_>, root: Tar2sqfs) -> Result<(), BuildError> {
    let scanned = scan(image.layers, &image.budget, image.progress)?;
    squash(root, image.layers, &scanned, image.progress, |_| Ok(()))?;
    Ok(())
}

/// Makes kernels and stage 1 alone.
pub(crate) fn convert_stage1<A: Artifacts>(
    image: &Image<'_>,
    artifacts: &mut A,
) -> Result<Vec<BuiltKernel<A::Artifact>>, BuildError> {
    let work = BuildInProgress::begin(image)?;
    let files = work.read(&work.wanted()?)?;
    work.finish(files, &mut Vec::new(), artifacts)
}

fn warnings_of(dropped: &Dropped) -> Vec<String> {
    let warning = |(name, (count, first)): (&String, &(u64, String))| {
        format!(
            "{count} files have the attribute {name}, which squashfs cannot hold and drops (first: /{first})"
        )
    };
    dropped.iter().map(warning).collect()
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

/// A kernel and what is to go with it.
struct PlannedKernel {
    kernel: Kernel,
    index: ModuleIndex,
    modules: Chosen,
    packing: Packing,
}

/// A build under way.
struct BuildInProgress<'a> {
    image: &'a Image<'a>,
    scanned: Scanned,
    planned: Vec<PlannedKernel>,
    /// Kernels that cannot be booted, in words.
    left_out: Vec<String>,
}

/// Contents by inode.
type FileContents = BTreeMap<InodeId, Vec<u8>>;

/// Copies the files that stage 1 needs aside.
struct Stage1FileCollector {
    wanted: BTreeSet<InodeId>,
    files: FileContents,
}

impl Stage1FileCollector {
    fn of((wanted, _): (BTreeSet<InodeId>, WantedFiles)) -> Self {
        Self { wanted, files: FileContents::new() }
    }

    fn take(&mut self, tree: &Tree, chunk: &Chunk) {
        if self.wanted.contains(&chunk.inode) {
            append(&mut self.files, tree, chunk);
        }
    }
}

/// Adds a chunk to its file, which was charged: the room for all of it is taken with its first
/// chunk, so that it takes no more than was charged.
fn append(files: &mut FileContents, tree: &Tree, chunk: &Chunk) {
    let whole = || {
        let size = content_size(tree, chunk.inode);
        Vec::with_capacity(usize::try_from(size).unwrap_or(0))
    };
    files.entry(chunk.inode).or_insert_with(whole).extend_from_slice(&chunk.bytes);
}

impl<'a> BuildInProgress<'a> {
    /// Reads all names, finds the kernels and chooses modules: everything that can be refused
    /// is refused here.
    fn begin(image: &'a Image<'a>) -> Result<Self, BuildError> {
        let substrate = image.substrate.len() as u64;
        image.budget.charge(substrate).map_err(too_large(&image.budget, substrate))?;
        let scanned = scan(image.layers, &image.budget, image.progress)?;
        let kernels = kernel::find(&scanned.tree, |content| scanned.release(content))
            .map_err(|found| BuildError::NoKernel { found })?;
        let text = |path: String| {
            let text = scanned.text(image.layers, &path)?;
            let bytes = text.as_ref().map_or(0, String::len) as u64;
            image.budget.charge(bytes).map_err(too_large(&image.budget, bytes))?;
            Ok::<_, BuildError>(text)
        };
        let mut planned = Vec::with_capacity(kernels.len());
        let mut without_index = Vec::new();
        for kernel in kernels {
            let directory = &kernel.modules;
            let optional = |name: &str| {
                Ok::<_, BuildError>(text(format!("{directory}/{name}"))?.unwrap_or_default())
            };
            let Some(dep) = text(format!("{directory}/modules.dep"))? else {
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
                None => text(format!("{directory}/config"))?,
                found => found,
            };
            let (modules, packing) = (index.choose(), Packing::of(config.as_deref()));
            planned.push(PlannedKernel { kernel, index, modules, packing });
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
        let work = Self { image, scanned, planned, left_out };
        work.check_steps()?;
        Ok(work)
    }

    fn tree(&self) -> &Tree {
        &self.scanned.tree
    }

    /// What was not found may be there, if the steps were used up.
    fn check_steps(&self) -> Result<(), BuildError> {
        if self.tree().step(0) { Ok(()) } else { Err(BuildError::Steps) }
    }

    /// Kernels and modules, as a set and for a pass of its own.
    fn wanted(&self) -> Result<(BTreeSet<InodeId>, WantedFiles), BuildError> {
        let mut inodes = BTreeSet::new();
        for PlannedKernel { kernel, modules, .. } in &self.planned {
            inodes.extend(self.tree().find(kernel.path.as_bytes()));
            inodes.extend(modules.iter().filter_map(|path| self.module(kernel, path)));
        }
        let mut wanted = WantedFiles::default();
        inodes.iter().for_each(|inode| wanted.insert(self.tree(), *inode));
        self.charge(wanted.bytes())?;
        Ok((inodes, wanted))
    }

    /// Takes memory for what goes into stage 1.
    fn charge(&self, bytes: u64) -> Result<(), BuildError> {
        let budget = &self.image.budget;
        budget.charge(bytes).map_err(too_large(budget, bytes))
    }

    fn module(&self, kernel: &Kernel, path: &str) -> Option<InodeId> {
        let inode = self.tree().find(format!("{}/{path}", kernel.modules).as_bytes())?;
        matches!(self.tree().inodes[inode].node, Node::File(_)).then_some(inode)
    }

    /// Reads contents in a pass of their own.
    fn read(
        &self,
        (_, wanted): &(BTreeSet<InodeId>, WantedFiles),
    ) -> Result<FileContents, BuildError> {
        let mut files = FileContents::new();
        contents(self.image.layers, wanted, |chunk| {
            if self.image.progress.cancelled() {
                return Err(LayerError::Cancelled);
            }
            append(&mut files, self.tree(), &chunk);
            Ok(())
        })?;
        Ok(files)
    }

    fn finish<A: Artifacts>(
        &self,
        files: FileContents,
        warnings: &mut Vec<String>,
        artifacts: &mut A,
    ) -> Result<Vec<BuiltKernel<A::Artifact>>, BuildError> {
        let (total, progress) = (self.planned.len() as u64, self.image.progress);
        let mut kernels = Vec::new();
        for (done, planned) in self.planned.iter().enumerate() {
            progress.advance("stage 1", done as u64, total);
            let before = self.image.budget.held();
            kernels.push(self.finish_kernel(planned, &files, warnings, artifacts)?);
            // What was unpacked for this kernel is gone.
            self.image.budget.release(self.image.budget.held().saturating_sub(before));
            if progress.cancelled() {
                return Err(LayerError::Cancelled.into());
            }
        }
        self.check_steps()?;
        progress.advance("stage 1", total, total);
        Ok(kernels)
    }

    fn finish_kernel<A: Artifacts>(
        &self,
        planned: &PlannedKernel,
        files: &FileContents,
        warnings: &mut Vec<String>,
        artifacts: &mut A,
    ) -> Result<BuiltKernel<A::Artifact>, BuildError> {
        let release = planned.kernel.release.as_str();
        let mut modules = BTreeMap::new();
        let (mut absent, mut unreadable) = (Vec::new(), Vec::new());
        let mut firmware_names = BTreeSet::new();
        for path in &planned.modules {
            let Some(bytes) =
                self.module(&planned.kernel, path).and_then(|inode| files.get(&inode))
            else {
                absent.push(path.as_str());
                continue;
            };
            let plain = self.inflated(path, bytes)?;
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
                warnings.push(format!(
                    "kernel {release}: {} modules {problem} (first: {first})",
                    paths.len()
                ));
            }
        }
        let found = firmware::find(self.tree(), release, firmware_names.iter().map(String::as_str));
        warnings.extend(firmware::warning(release, &found.missing));
        let firmware_files = self.firmware_files(&found)?;
        let mut firmware = BTreeMap::new();
        for (name, (inode, file)) in &found.found {
            let bytes = firmware_files.get(inode).map_or(&[][..], Vec::as_slice);
            firmware.insert(name.clone(), self.inflated(file, bytes)?);
        }
        let stage1 = Stage1 {
            release,
            substrate: self.image.substrate,
            modules,
            index: planned.index.only(&planned.modules),
            firmware,
            packing: planned.packing,
        };
        let image =
            self.tree().find(planned.kernel.path.as_bytes()).and_then(|inode| files.get(&inode));
        let image = image.map_or(&[][..], Vec::as_slice);
        let kernel = artifacts.put("vmlinuz", &mut |out| out.write_all(image))?;
        let stage1_unpacked = stage1.unpacked_bytes();
        let stage1 = artifacts.put("initramfs", &mut |out| stage1.write(out))?;
        Ok(BuiltKernel { release: release.to_owned(), kernel, stage1, stage1_unpacked })
    }

    fn firmware_files(&self, found: &firmware::Firmware) -> Result<FileContents, BuildError> {
        let mut wanted = WantedFiles::default();
        found.found.values().for_each(|(inode, _)| wanted.insert(self.tree(), *inode));
        self.charge(wanted.bytes())?;
        self.read(&(BTreeSet::new(), wanted))
    }

    /// The plain bytes of a file for stage 1, charged if they are a copy.
    fn inflated<'b>(&self, path: &str, bytes: &'b [u8]) -> Result<Cow<'b, [u8]>, BuildError> {
        let plain = inflate(path, bytes, self.image.budget.left())
            .map_err(|source| BuildError::Inflate { path: path.to_owned(), source })?;
        if let Cow::Owned(plain) = &plain {
            self.charge(plain.len() as u64)?;
        }
        Ok(plain)
    }
}

/// What to tell where so many bytes more are too many.
fn too_large(budget: &Budget, bytes: u64) -> impl FnOnce(OverBudget) -> BuildError + use<> {
    let left = budget.left();
    move |over| BuildError::TooLarge { bytes, left, limit: over.limit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar_stream::{Entry, Kind, Metadata};

    #[test]
    fn a_file_that_is_kept_takes_the_room_that_was_charged_for_it() {
        let mut tree = Tree::new(Arc::new(Budget::new(1 << 20)));
        let size = 1_000;
        let entry =
            Entry { path: b"x.ko".to_vec(), kind: Kind::File, metadata: Metadata::default(), size };
        tree.apply(0, 0, entry).unwrap();
        let (inode, mut files) = (tree.find(b"x.ko").unwrap(), FileContents::new());
        for (offset, bytes) in [(0, vec![1; 600]), (600, vec![2; 400])] {
            append(&mut files, &tree, &Chunk { inode, offset, bytes });
        }
        let file = &files[&inode];
        assert_eq!((file.len(), file.capacity()), (1_000, 1_000));
        assert_eq!((file[599], file[600]), (1, 2));
    }
}
