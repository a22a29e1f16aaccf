//! The overlays as they lie in folders, read into memory.
//!
//! `NAME/README.md` tells people what it is for; `NAME/rootfs/…` is laid over the node's root. A site overlay takes the
//! place of the shipped one of the same name as a whole.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use api::ids::OverlayName;
use bytes::Bytes;

use super::{
    Content, Entry, MAX_FILE_BYTES, check_path,
    template::{Template, TemplateError},
};

/// Files that one overlay may have.
pub const MAX_FILES: usize = 10_000;

/// Bits of a file's mode that count. Write permission for others than the owner depends on the umask of whoever
/// checked the files out, so it is never passed on.
const MODE_MASK: u32 = 0o7755;

/// All overlays.
#[derive(Debug, Default)]
pub struct Library {
    /// By name.
    pub overlays: BTreeMap<OverlayName, Arc<Overlay>>,
}

/// One overlay.
#[derive(Debug)]
pub struct Overlay {
    /// Where it comes from.
    pub source: Source,
    /// First paragraph of its README.
    pub summary: String,
    /// Its files, folders before what is in them.
    pub files: Vec<File>,
}

/// Where an overlay comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It came with Bedplate.
    Shipped,
    /// The site made it.
    Site,
    /// The site's takes the place of a shipped one.
    SiteOverShipped,
}

impl Source {
    /// As people see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shipped => "shipped",
            Self::Site => "site",
            Self::SiteOverShipped => "site over shipped",
        }
    }
}

/// One file of an overlay.
#[derive(Debug)]
pub enum File {
    /// Goes to the node as it is.
    Plain(Entry),
    /// Rendered for each node.
    Template {
        /// Path on the node, without `.j2`.
        path: String,
        /// Permission bits in the file system.
        mode: u32,
        /// What came of compiling it.
        compiled: Box<Result<Template, TemplateError>>,
    },
}

/// Why overlays cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// A file or folder.
    #[error("cannot read {} of the overlays", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that no overlay can have.
    #[error("{} cannot be part of an overlay: {rule}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        rule: &'static str,
    },
}

impl Library {
    /// Reads both folders. A folder that is not there has no overlays.
    ///
    /// # Errors
    /// The first file that cannot be read. A template with a mistake is no error here, but where it is rendered.
    pub fn load(shipped: &Path, site: &Path) -> Result<Self, LibraryError> {
        let mut overlays: BTreeMap<OverlayName, Arc<Overlay>> = BTreeMap::new();
        for (folder, is_site) in [(shipped, false), (site, true)] {
            for path in entries(folder, true)? {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if !path.is_dir() || name.starts_with('.') {
                    continue;
                }
                let Ok(name) = name.parse::<OverlayName>() else {
                    tracing::warn!("{} is not read: an overlay's name is a host label", path.display());
                    continue;
                };
                let source = match (is_site, overlays.contains_key(&name)) {
                    (false, _) => Source::Shipped,
                    (true, false) => Source::Site,
                    (true, true) => Source::SiteOverShipped,
                };
                overlays.insert(name, Arc::new(Overlay::load(&path, source)?));
            }
        }
        Ok(Self { overlays })
    }

    /// Whether a template of these overlays reads a variable.
    #[must_use]
    pub fn reads(&self, overlays: &[String], variable: &str) -> bool {
        let files = overlays.iter().filter_map(|name| self.get(name)).flat_map(|overlay| &overlay.files);
        files.into_iter().any(|file| match file {
            File::Template { compiled, .. } => compiled
                .as_ref()
                .as_ref()
                .is_ok_and(|template| template.reads().iter().any(|name| name == variable)),
            File::Plain(_) => false,
        })
    }

    /// An overlay by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Overlay>> {
        self.overlays.get(&name.parse::<OverlayName>().ok()?)
    }
}

impl Overlay {
    fn load(folder: &Path, source: Source) -> Result<Self, LibraryError> {
        let summary = match fs::read_to_string(folder.join("README.md")) {
            Ok(text) => first_paragraph(&text),
            Err(_) => String::new(),
        };
        let mut files = Vec::new();
        let root = folder.join("rootfs");
        let mut waiting = entries(&root, true)?;
        while let Some(path) = waiting.pop() {
            if files.len() >= MAX_FILES {
                return Err(LibraryError::File { path, rule: "the overlay has more than 10,000 files" });
            }
            let (file, below) = read(&root, &path)?;
            files.push(file);
            waiting.extend(below);
        }
        files.sort_by(|left, right| left.path().cmp(right.path()));
        Ok(Self { source, summary, files })
    }
}

impl File {
    /// Path on the node, without `.j2`.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Plain(entry) => &entry.path,
            Self::Template { path, .. } => path,
        }
    }
}

/// Paths in a folder, sorted.
fn entries(folder: &Path, may_be_missing: bool) -> Result<Vec<PathBuf>, LibraryError> {
    let failed = |source| LibraryError::Read { path: folder.to_owned(), source };
    let listing = match fs::read_dir(folder) {
        Err(error) if may_be_missing && error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing.map_err(failed)?,
    };
    let mut paths: Vec<PathBuf> =
        listing.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>().map_err(failed)?;
    paths.sort_unstable();
    Ok(paths)
}

/// Reads one file, and what is in it where it is a folder.
fn read(root: &Path, path: &Path) -> Result<(File, Vec<PathBuf>), LibraryError> {
    let failed = |source| LibraryError::Read { path: path.to_owned(), source };
    let refused = |rule| LibraryError::File { path: path.to_owned(), rule };
    let relative = path.strip_prefix(root).ok().and_then(Path::to_str);
    let on_node = format!("/{}", relative.ok_or_else(|| refused("its name is not UTF-8"))?);
    check_path(&on_node).map_err(refused)?;
    let facts = fs::symlink_metadata(path).map_err(failed)?;
    let mode = facts.permissions().mode() & MODE_MASK;
    let plain = |path, mode, content| File::Plain(Entry { path, mode, content });
    if facts.is_dir() {
        return Ok((plain(on_node, mode, Content::Folder), entries(path, false)?));
    }
    if facts.is_symlink() {
        let target = fs::read_link(path).map_err(failed)?;
        let target = target.to_str().ok_or_else(|| refused("its target is not UTF-8"))?.to_owned();
        if target.len() > 100 {
            return Err(refused("the target of the link is longer than 100 bytes"));
        }
        return Ok((plain(on_node, 0o777, Content::Link(target)), Vec::new()));
    }
    if !facts.is_file() {
        return Err(refused("it is no file, folder or symbolic link"));
    }
    if facts.len() > MAX_FILE_BYTES as u64 {
        return Err(refused("it is larger than 16 MiB; large files belong into the image"));
    }
    let bytes = fs::read(path).map_err(failed)?;
    let Some(path_on_node) = on_node.strip_suffix(".j2") else {
        return Ok((plain(on_node, mode, Content::file(Bytes::from(bytes))), Vec::new()));
    };
    let source = String::from_utf8(bytes).map_err(|_| refused("a template must be UTF-8"))?;
    let compiled = Template::compile(path_on_node, mode, &source);
    if let Err(error) = &compiled {
        tracing::warn!("{}: {error}", path.display());
    }
    Ok((File::Template { path: path_on_node.to_owned(), mode, compiled: Box::new(compiled) }, Vec::new()))
}

/// The first paragraph that is no heading, on one line.
fn first_paragraph(text: &str) -> String {
    let lines = text.lines().skip_while(|line| line.trim().is_empty() || line.starts_with('#'));
    lines.take_while(|line| !line.trim().is_empty()).map(str::trim).collect::<Vec<_>>().join(" ")
}
