//! Why overlays cannot be read, and what people can do about it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::process::geteuid;

/// Why a part of the overlays cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// A file or directory.
    #[error("cannot read {}{}", path.display(), if_denied(source))]
    Read {
        /// Path of the file or directory that it is about.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A file or directory of the server's own, whose mode closes it to its owner.
    #[error(
        "cannot read {}, since mode {mode:04o} closes it to its owner too: {}",
        path.display(),
        for_owner(*mode, *is_directory)
    )]
    Closed {
        /// Which; for what lies in a directory that cannot be entered, the directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// It is a directory.
        is_directory: bool,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file that no overlay can have.
    #[error("{} cannot be part of an overlay: {rule}", path.display())]
    File {
        /// The file, as the server sees it.
        path: PathBuf,
        /// The rule of overlays that it breaks, for people.
        rule: &'static str,
    },
    /// Whether the site has an overlay of this name is not known.
    #[error("the directory {} of the site's overlays cannot be read, and may have one of this name", path.display())]
    Site {
        /// The site's directory.
        path: PathBuf,
        /// What the system says: rights, or a link that leads nowhere.
        #[source]
        source: Arc<io::Error>,
    },
    /// A directory whose name no overlay can have.
    #[error("{} is no overlay: a name has 1 to 63 lower-case letters, digits and inner hyphens", path.display())]
    Name {
        /// The directory.
        path: PathBuf,
    },
}

impl LibraryError {
    /// What became of reading `path`.
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        let closed =
            (source.kind() == io::ErrorKind::PermissionDenied).then(|| closed_to_owner(path));
        match closed.flatten() {
            Some((path, mode, is_directory)) => Self::Closed { path, mode, is_directory, source },
            None => Self::Read { path: path.to_owned(), source },
        }
    }

    /// The disk may say otherwise when it is asked again; a rule stays a rule until somebody edits.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Closed { .. } | Self::Site { .. })
    }
}

/// The file, or the directory on the way to it that cannot be entered, if it is this process's own
/// and its mode is why it cannot be read; its mode, and whether it is a directory.
fn closed_to_owner(path: &Path) -> Option<(PathBuf, u32, bool)> {
    let look = |path: &Path| Some((path.to_owned(), fs::symlink_metadata(path).ok()?));
    let (path, facts) = path.ancestors().find_map(look)?;
    let (mode, is_directory) = (facts.mode() & 0o7777, facts.is_dir());
    let wanted = if is_directory { 0o500 } else { 0o400 };
    let is_own = facts.uid() == geteuid().as_raw();
    (is_own && mode & wanted != wanted).then_some((path, mode, is_directory))
}

/// What helps where the server's user may not read a file.
fn if_denied(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            " (`bedplate server adopt`, as root, gives the server what is root's in the site's overlays)"
        }
        _ => "",
    }
}

/// What helps where the file is the server's already.
fn for_owner(mode: u32, is_directory: bool) -> String {
    if is_directory {
        return "chmod u+rx it".to_owned();
    }
    format!(
        "chmod u+r it; for such a mode on the node make it a template with `mode: {mode:04o}` in its front \
         matter"
    )
}
