//! Which versions of images a node needs: that which it runs, and that which it is booting. A name of a
//! version is of nothing else, ever: versions are not numbered twice.

use api::status::Phase;

use super::Life;

/// A file of a boot, as its servers see it go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BootFile {
    /// A boot program, by its name.
    Program(String),
    /// The boot script, which names kernel and stage 1 of this image version. Anybody on the boot
    /// network can ask for it.
    Script {
        /// `debian-node@2`.
        image: String,
    },
    /// The node's own initrd, which names the root of this image version: only for the node's address.
    Initrd {
        /// `debian-node@2`.
        image: String,
    },
}

impl BootFile {
    /// Its name for people.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Program(name) => name,
            Self::Script { .. } => "iPXE script",
            Self::Initrd { .. } => "the node's initrd",
        }
    }
}

impl Life {
    /// What a boot that begins at the machine's firmware leaves: nothing runs.
    pub(super) fn runs_no_image(&mut self) {
        self.image = None;
        self.script_image = None;
        self.image_unknown = false;
    }

    pub(super) fn took_file(&mut self, file: &BootFile) {
        match file {
            BootFile::Program(_) => {}
            // The node may still run what it ran: this is no proof that it does not.
            BootFile::Script { image } => self.script_image = Some(image.clone()),
            BootFile::Initrd { image } => self.runs_image(image.clone()),
        }
    }

    pub(super) fn runs_image(&mut self, image: String) {
        self.image = Some(image);
        self.script_image = None;
        self.image_unknown = false;
    }

    /// The versions that it runs or is booting. A boot that failed needs none: the next one asks anew.
    pub(crate) fn images_in_use(&self) -> impl Iterator<Item = &str> {
        let runs = self.image.as_deref().filter(|_| self.phase != Phase::Failed);
        let is_booting = self.phase == Phase::Firmware && !self.overdue;
        let boots = self.script_image.as_deref().filter(|_| is_booting);
        runs.into_iter().chain(boots)
    }

    /// It may run a version, and nobody knows which: its state could not be read.
    pub(crate) fn may_run_any_image(&self) -> bool {
        self.image_unknown
    }
}
