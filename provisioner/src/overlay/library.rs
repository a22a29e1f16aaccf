//! The overlays as they lie in directories, read into memory.
//!
//! `NAME/README.md` tells people what it is for; `NAME/rootfs/…` is laid over the node's root. A
//! site overlay takes the place of the shipped one of the same name as a whole.
//!
//! What cannot be read is an error of its overlay and of no other one: [`Library::load`] never
//! fails. An overlay with such an error is shown with it, and given to no node
//! ([`Overlay::broken`]).

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use api::{ids::OverlayName, overlay::MAX_ARCHIVE_BYTES};
use bytes::Bytes;
use rest::causes;

use super::{
    Content, Entry, MAX_FILE_BYTES, check_path,
    renderer::RenderError,
    template::{Template, TemplateError},
};

mod digest;
mod error;

pub use error::LibraryError;

/// Files and directories that one overlay may have.
pub const MAX_FILES: usize = 10_000;

/// Errors that are kept of one overlay: the first few say what kind they are.
const MAX_UNREADABLE: usize = 20;

/// Of a README, bytes: its first paragraph is near its beginning.
const MAX_README_BYTES: u64 = 64 << 10;

/// Bits of a file's mode that count. Write permission for others than the owner depends on the
/// umask of whoever checked the files out, so it is never passed on.
const MODE_MASK: u32 = 0o7755;

/// The overlays on the server's disk: shipped ones, and those of the site.
#[derive(Debug, Default)]
pub struct Library {
    /// Overlays by name; one of the site has replaced a shipped one of the same name.
    pub overlays: BTreeMap<OverlayName, Arc<Overlay>>,
    /// What lies beside them and is no overlay; a directory of overlays that cannot be listed.
    pub strays: Vec<LibraryError>,
}

/// One overlay.
#[derive(Debug)]
pub struct Overlay {
    /// Where it comes from.
    pub source: Source,
    /// First paragraph of its README.
    pub summary: String,
    /// Its files, directories before what is in them; those that could be read.
    pub files: Vec<File>,
    /// Bytes of all its files.
    pub bytes: u64,
    /// What of it could not be read, at most [`MAX_UNREADABLE`].
    pub unreadable: Vec<LibraryError>,
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

impl Library {
    /// Reads both directories. A directory that is not there has no overlays. A template with a
    /// mistake is no error here, but where it is rendered.
    #[must_use]
    pub fn load(shipped: &Path, site: &Path) -> Self {
        let mut library = Self::default();
        if let Err(error) = library.add_directory(shipped, false) {
            library.strays.push(error);
        }
        if let Err(error) = library.add_directory(site, true) {
            library.doubt(site, error);
        }
        library
    }

    /// Adds the overlays of one directory.
    fn add_directory(&mut self, directory: &Path, is_site: bool) -> Result<(), LibraryError> {
        for path in entries(directory)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with('.') {
                continue;
            }
            let is_directory = match fs::metadata(&path) {
                Ok(facts) => Ok(facts.is_dir()),
                // Removed in this moment; but a link that leads nowhere is there.
                Err(_) if fs::symlink_metadata(&path).is_err() => Ok(false),
                Err(error) => Err(error),
            };
            if matches!(is_directory, Ok(false)) {
                continue;
            }
            let Ok(name) = name.parse::<OverlayName>() else {
                self.strays.push(LibraryError::Name { path });
                continue;
            };
            let source = match (is_site, self.overlays.contains_key(&name)) {
                (false, _) => Source::Shipped,
                (true, false) => Source::Site,
                (true, true) => Source::SiteOverShipped,
            };
            let overlay = match is_directory {
                Ok(_) => Overlay::load(&path, source),
                Err(error) => {
                    let mut overlay = Overlay::empty(source);
                    overlay.unreadable.push(LibraryError::read(&path, error));
                    overlay
                }
            };
            self.overlays.insert(name, Arc::new(overlay));
        }
        Ok(())
    }

    /// The site's directory cannot be listed: each shipped overlay may be one that
    /// the site replaced.
    fn doubt(&mut self, site: &Path, error: LibraryError) {
        if let LibraryError::Read { source, .. } | LibraryError::Closed { source, .. } = error {
            let source = Arc::new(source);
            let doubt = || LibraryError::Site { path: site.to_owned(), source: source.clone() };
            for overlay in self.overlays.values_mut() {
                if let Some(overlay) = Arc::get_mut(overlay) {
                    overlay.unreadable.push(doubt());
                }
            }
            self.strays.push(doubt());
        }
    }

    /// Everything that is wrong, each with its overlay and its file.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let of = |(name, overlay): (&OverlayName, &Arc<Overlay>)| {
            let told = overlay.errors(name.as_str()).chain(overlay.remarks(name.as_str()));
            told.map(|problem| problem.to_string()).collect::<Vec<_>>()
        };
        self.strays
            .iter()
            .map(|error| causes(error))
            .chain(self.overlays.iter().flat_map(of))
            .collect()
    }

    /// Whether something could not be read that may be readable later without an edit.
    #[must_use]
    pub fn may_mend_itself(&self) -> bool {
        let unreadable = self.overlays.values().flat_map(|overlay| &overlay.unreadable);
        self.strays.iter().chain(unreadable).any(LibraryError::may_pass)
    }

    /// Why no node gets an overlay; `None` if they do.
    #[must_use]
    pub fn broken(&self, name: &str) -> Option<String> {
        match self.get(name) {
            Some(overlay) => overlay.broken(),
            // The shipped directory could not be listed: it may well be there.
            None => self.strays.iter().find(|error| error.may_pass()).map(|error| causes(error)),
        }
    }

    /// The first thing for which an overlay cannot be rendered for any node; `None` if that depends
    /// on the node.
    #[must_use]
    pub fn unusable(&self, name: &str) -> Option<RenderError> {
        let overlay = || name.to_owned();
        match (self.get(name), self.broken(name)) {
            (Some(overlay), _) => overlay.errors(name).next(),
            (None, Some(cause)) => Some(RenderError::Unreadable { overlay: overlay(), cause }),
            (None, None) => Some(RenderError::UnknownOverlay { overlay: overlay() }),
        }
    }

    /// Whether a template of these overlays reads a variable.
    #[must_use]
    pub fn reads(&self, overlays: &[String], variable: &str) -> bool {
        let files =
            overlays.iter().filter_map(|name| self.get(name)).flat_map(|overlay| &overlay.files);
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
    fn empty(source: Source) -> Self {
        Self { source, summary: String::new(), files: Vec::new(), bytes: 0, unreadable: Vec::new() }
    }

    fn load(directory: &Path, source: Source) -> Self {
        let mut overlay =
            Self { summary: summary(&directory.join("README.md")), ..Self::empty(source) };
        let root = directory.join("rootfs");
        let mut waiting = overlay.taken(entries(&root)).unwrap_or_default();
        while let Some(path) = waiting.pop() {
            if overlay.files.len() >= MAX_FILES {
                overlay.refuse(path, "the overlay has more than 10,000 files");
                break;
            }
            let Some(found) = overlay.taken(read(&root, &path)).flatten() else { continue };
            overlay.bytes = overlay.bytes.saturating_add(found.bytes);
            if overlay.bytes > MAX_ARCHIVE_BYTES {
                overlay.refuse(path, "the overlay has more than 256 MiB, which no node takes");
                break;
            }
            overlay.files.push(found.file);
            waiting.extend(found.below);
        }
        overlay.files.sort_by(|left, right| left.path().cmp(right.path()));
        overlay
    }

    fn refuse(&mut self, path: PathBuf, rule: &'static str) {
        // There is always room for the one that ends the reading.
        self.unreadable.truncate(MAX_UNREADABLE - 1);
        self.unreadable.push(LibraryError::File { path, rule });
    }

    /// What was read; an error stays with the overlay.
    fn taken<T>(&mut self, read: Result<T, LibraryError>) -> Option<T> {
        read.map_err(|error| {
            if self.unreadable.len() < MAX_UNREADABLE {
                self.unreadable.push(error);
            }
        })
        .ok()
    }

    /// Why no node gets it; `None` if they do. Mistakes in templates are found when they are
    /// rendered, which names their lines.
    #[must_use]
    pub fn broken(&self) -> Option<String> {
        self.unreadable.first().map(|error| causes(error))
    }

    /// Everything of it that cannot be read or used, and what of it is hardly as it was meant.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let told = self.errors("").chain(self.remarks(""));
        told.map(|problem| problem.within()).collect()
    }

    /// Everything for which no node gets it. `name` is its own.
    fn errors<'a>(&'a self, name: &'a str) -> impl Iterator<Item = RenderError> + 'a {
        let unreadable = self.unreadable.iter().map(move |error| RenderError::Unreadable {
            overlay: name.to_owned(),
            cause: causes(error),
        });
        unreadable.chain(self.of_templates(name, |compiled| compiled.as_ref().err()))
    }

    /// What is hardly as it was meant, and goes to nodes all the same.
    fn remarks<'a>(&'a self, name: &'a str) -> impl Iterator<Item = RenderError> + 'a {
        self.of_templates(name, |compiled| compiled.as_ref().ok()?.remark())
    }

    fn of_templates<'a>(
        &'a self,
        name: &'a str,
        error: impl Fn(&'a Result<Template, TemplateError>) -> Option<&'a TemplateError> + 'a,
    ) -> impl Iterator<Item = RenderError> + 'a {
        let found = self.files.iter().filter_map(move |file| {
            let File::Template { path, compiled, .. } = file else { return None };
            let error = error(compiled)?.clone();
            Some(RenderError::Template { overlay: name.to_owned(), path: path.clone(), error })
        });
        found.take(MAX_UNREADABLE)
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

/// Paths in a directory, sorted; none if there is no such directory.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, LibraryError> {
    let failed = |source| LibraryError::read(directory, source);
    let listing = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing.map_err(failed)?,
    };
    let mut paths: Vec<PathBuf> = listing
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()
        .map_err(failed)?;
    paths.sort_unstable();
    Ok(paths)
}

/// A file that was read, and what is in it where it is a directory.
struct Found {
    file: File,
    bytes: u64,
    below: Vec<PathBuf>,
}

/// Reads one file; `None` if it is gone meanwhile: editors make files and remove them.
fn read(root: &Path, path: &Path) -> Result<Option<Found>, LibraryError> {
    let refused = |rule| LibraryError::File { path: path.to_owned(), rule };
    let relative = path.strip_prefix(root).ok().and_then(Path::to_str);
    let on_node = format!("/{}", relative.ok_or_else(|| refused("its name is not UTF-8"))?);
    check_path(&on_node).map_err(refused)?;
    let Some(facts) = present(path, fs::symlink_metadata(path))? else { return Ok(None) };
    let mode = facts.permissions().mode() & MODE_MASK;
    let plain = |path, mode, content| File::Plain(Entry { path, mode, content });
    let alone = |file, bytes| Ok(Some(Found { file, bytes, below: Vec::new() }));
    if facts.is_dir() {
        let file = plain(on_node, mode, Content::Directory);
        return Ok(Some(Found { file, bytes: 0, below: entries(path)? }));
    }
    if facts.is_symlink() {
        let Some(target) = present(path, fs::read_link(path))? else { return Ok(None) };
        let target = target.to_str().ok_or_else(|| refused("its target is not UTF-8"))?.to_owned();
        if target.len() > 100 {
            return Err(refused("the target of the link is longer than 100 bytes"));
        }
        return alone(plain(on_node, 0o777, Content::Link(target)), 0);
    }
    if !facts.is_file() {
        return Err(refused("it is no file, directory or symbolic link"));
    }
    let Some(bytes) = present(path, contents(path, MAX_FILE_BYTES as u64))? else {
        return Ok(None);
    };
    if bytes.len() > MAX_FILE_BYTES {
        return Err(refused("it is larger than 16 MiB; large files belong into the image"));
    }
    let size = bytes.len() as u64;
    let Some(path_on_node) = on_node.strip_suffix(".j2") else {
        return alone(plain(on_node, mode, Content::file(Bytes::from(bytes))), size);
    };
    check_path(path_on_node).map_err(refused)?;
    let source = String::from_utf8(bytes).map_err(|_| refused("a template must be UTF-8"))?;
    let compiled = Box::new(Template::compile(path_on_node, mode, &source));
    alone(File::Template { path: path_on_node.to_owned(), mode, compiled }, size)
}

/// What was found of a file; `None` if it is gone.
fn present<T>(path: &Path, found: io::Result<T>) -> Result<Option<T>, LibraryError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LibraryError::read(path, source)),
    }
}

/// The contents of a file, of one that is longer than `limit` a byte more.
fn contents(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What an overlay is for. It only tells people, so one that cannot be read says nothing.
fn summary(readme: &Path) -> String {
    // A pipe would be waited for.
    if !fs::metadata(readme).is_ok_and(|facts| facts.is_file()) {
        return String::new();
    }
    let bytes = contents(readme, MAX_README_BYTES).unwrap_or_default();
    first_paragraph(&String::from_utf8_lossy(&bytes))
}

/// The first paragraph that is no heading, on one line.
fn first_paragraph(text: &str) -> String {
    let lines = text.lines().skip_while(|line| line.trim().is_empty() || line.starts_with('#'));
    lines.take_while(|line| !line.trim().is_empty()).map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
