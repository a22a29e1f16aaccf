//! Writing the site's overlays through the API: one file at a time, each in one step.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use api::{ids::OverlayName, overlay::MAX_ARCHIVE_BYTES};

use super::{
    MAX_FILE_BYTES, MAX_PATH_BYTES, check_path,
    library::{Library, MAX_FILES, Overlay, Source},
    template::{Template, TemplateError},
};

/// Name of a directory until it has its mode.
const NEW_DIRECTORY: &str = ".bedplate-new-folder";

/// Why a file of an overlay was not written or removed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The path.
    #[error("the path {path:?} is wrong: {rule}")]
    Path {
        /// As given.
        path: String,
        /// What is wrong.
        rule: &'static str,
    },
    /// The mode.
    #[error("mode {mode:04o} is not kept: write permission is for the owner only")]
    Mode {
        /// As given.
        mode: u32,
    },
    /// A mode with which the server may not be able to read the file.
    #[error(
        "mode {mode:04o} lets nobody read the file, so the server could not either; for such a mode on the \
         node make it a template with `mode: {mode:04o}` in its front matter"
    )]
    Unreadable {
        /// As given.
        mode: u32,
    },
    /// Too large.
    #[error("the file has {bytes} bytes; at most {MAX_FILE_BYTES} are taken")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The overlay would be too large.
    #[error("the overlay would have {bytes} bytes; a node takes at most {MAX_ARCHIVE_BYTES}")]
    OverlayTooLarge {
        /// Bytes of all its files.
        bytes: u64,
    },
    /// Too many files.
    #[error("the overlay would have more than {MAX_FILES} files and directories")]
    TooMany,
    /// A template that cannot be used.
    #[error("the template has a mistake")]
    Template(#[source] TemplateError),
    /// A template that is not text.
    #[error("a template must be UTF-8")]
    NotText,
    /// There is no such file in an overlay.
    #[error("overlay {overlay} has no file {path}")]
    Missing {
        /// The overlay.
        overlay: OverlayName,
        /// Path on the node.
        path: String,
    },
    /// There is no such file in a site overlay.
    #[error("the site's overlay {overlay} has no file {path}")]
    NotFound {
        /// The overlay.
        overlay: OverlayName,
        /// Path on the node.
        path: String,
    },
    /// There is no such overlay.
    #[error("overlay {overlay} does not exist; `bedplate overlay list` shows those that do")]
    NoOverlay {
        /// As asked for.
        overlay: OverlayName,
    },
    /// An overlay that is not the site's to delete.
    #[error(
        "overlay {overlay} came with Bedplate, and the site has not edited it; `--boot-overlay ~{overlay}` or \
         `--runtime-overlay ~{overlay}` of `bedplate node set` and `profile set` keep it from nodes"
    )]
    Shipped {
        /// The overlay.
        overlay: OverlayName,
    },
    /// An overlay that nodes would miss.
    #[error(
        "overlay {overlay} is used by {users}; take it from them first, by `bedplate node set` or `profile set`"
    )]
    InUse {
        /// The overlay.
        overlay: OverlayName,
        /// Profiles and nodes, a bounded list.
        users: String,
    },
    /// It cannot be told who uses an overlay.
    #[error(
        "what {users} use cannot be told now, and it may be overlay {overlay}; `bedplate node show` and `bedplate \
         profile show` say why: mend that first"
    )]
    UseUnknown {
        /// The overlay.
        overlay: OverlayName,
        /// Profiles and nodes, a bounded list.
        users: String,
    },
    /// A file operation.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// A file to write.
#[derive(Debug)]
pub struct NewFile<'a> {
    /// Path on the node, with a leading slash.
    pub path: &'a str,
    /// Permission bits.
    pub mode: u32,
    /// Rendered for each node.
    pub template: bool,
    /// Its contents.
    pub bytes: &'a [u8],
}

/// Writes one file of the site's overlay. Where only a shipped overlay of that name exists, it is
/// copied first: a site overlay takes the place of the whole.
///
/// # Errors
/// See [`SiteError`]. What the reader would refuse is refused here.
pub fn put(
    library: &Library,
    shipped: &Path,
    site: &Path,
    overlay: &OverlayName,
    file: &NewFile<'_>,
) -> Result<(), SiteError> {
    check(file)?;
    let present = library.overlays.get(overlay);
    let directory = site.join(overlay.as_str());
    let only_shipped =
        present.is_some_and(|overlay| overlay.source == Source::Shipped) && !directory.exists();
    let original = shipped.join(overlay.as_str());
    check_place(if only_shipped { &original } else { &directory }, file)?;
    if let Some(present) = present {
        check_room(present, &directory, file)?;
    }
    if !only_shipped {
        return place(&directory, file);
    }
    // A half of a copy would take the place of the whole: it is made beside, and named
    // when it is whole.
    let copied = site.join(format!(".{overlay}.bedplate-new"));
    remove_copy(&copied)?;
    let made = copy(&original, &copied).and_then(|()| place(&copied, file)).and_then(|()| {
        fs::rename(&copied, &directory).map_err(|source| failed("make", &directory, source))
    });
    // The first error is the one to tell.
    made.inspect_err(|_| drop(remove_copy(&copied)))
}

/// What can be said of a file by itself.
fn check(file: &NewFile<'_>) -> Result<(), SiteError> {
    let refused = |rule| SiteError::Path { path: file.path.to_owned(), rule };
    check_path(file.path).map_err(refused)?;
    if !file.template && file.path.ends_with(".j2") {
        return Err(refused(
            "files that end in .j2 are templates: leave .j2 out, and say that it is one",
        ));
    }
    if file.template && file.path.len() + ".j2".len() > MAX_PATH_BYTES {
        return Err(refused("with the .j2 of a template it is longer than 255 bytes"));
    }
    if file.mode & !0o7755 != 0 {
        return Err(SiteError::Mode { mode: file.mode });
    }
    // The server need not be able to read what its own user may not: it has few of root's rights.
    if file.mode & 0o400 == 0 {
        return Err(SiteError::Unreadable { mode: file.mode });
    }
    if file.bytes.len() > MAX_FILE_BYTES {
        return Err(SiteError::TooLarge { bytes: file.bytes.len() });
    }
    if file.template {
        let source = std::str::from_utf8(file.bytes).map_err(|_| SiteError::NotText)?;
        Template::compile(file.path, file.mode, source).map_err(SiteError::Template)?;
    }
    Ok(())
}

/// What is above the file in the overlay are directories, and it takes no directory's place.
fn check_place(directory: &Path, file: &NewFile<'_>) -> Result<(), SiteError> {
    check_parents(directory, file.path)?;
    let (plain, template) = both_names(directory, file.path);
    let is_directory = |path: &Path| fs::symlink_metadata(path).is_ok_and(|facts| facts.is_dir());
    if is_directory(&plain) || is_directory(&template) {
        let rule = "it is a directory of this overlay";
        return Err(SiteError::Path { path: file.path.to_owned(), rule });
    }
    Ok(())
}

/// Nothing is read or written through a link of an overlay: it would lead out of it.
fn check_parents(directory: &Path, path: &str) -> Result<(), SiteError> {
    let root = directory.join("rootfs");
    let relative = path.trim_start_matches('/');
    for (end, _) in relative.match_indices('/') {
        let above = fs::symlink_metadata(root.join(&relative[..end]));
        if above.is_ok_and(|facts| !facts.is_dir()) {
            let rule = "what is above it in this overlay is a file or a link, and no directory";
            return Err(SiteError::Path { path: path.to_owned(), rule });
        }
    }
    Ok(())
}

/// The overlay with the file is within the limits of an overlay.
fn check_room(present: &Overlay, directory: &Path, file: &NewFile<'_>) -> Result<(), SiteError> {
    let has = |path: &str| present.files.iter().any(|other| other.path() == path);
    let above = file.path.match_indices('/').skip(1).map(|(end, _)| &file.path[..end]);
    let added = above.chain([file.path]).filter(|path| !has(path)).count();
    if added > 0 && present.files.len() + added > MAX_FILES {
        return Err(SiteError::TooMany);
    }
    let (plain, template) = both_names(directory, file.path);
    let before: u64 = [plain, template]
        .iter()
        .filter_map(|path| fs::metadata(path).ok())
        .map(|facts| facts.len())
        .sum();
    let bytes = present.bytes.saturating_sub(before).saturating_add(file.bytes.len() as u64);
    if bytes > MAX_ARCHIVE_BYTES {
        return Err(SiteError::OverlayTooLarge { bytes });
    }
    Ok(())
}

/// Puts a file into the directory of an overlay, in place of the one that was there.
fn place(directory: &Path, file: &NewFile<'_>) -> Result<(), SiteError> {
    let (plain, template) = both_names(directory, file.path);
    let (target, other) = if file.template { (template, plain) } else { (plain, template) };
    write(directory, &target, file)?;
    match fs::remove_file(&other) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &other, source));
        }
        _ => {}
    }
    sync_names(directory, target.parent().unwrap_or(directory))
}

/// Brings the names in a directory of an overlay to the disk, and those of the directories that
/// lead there from the site's: until then a cut of the power takes a new file away, or brings a
/// removed one back.
fn sync_names(overlay: &Path, directory: &Path) -> Result<(), SiteError> {
    let site = overlay.parent().unwrap_or(overlay);
    for directory in directory.ancestors().take_while(|directory| directory.starts_with(site)) {
        fs::File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|source| failed("sync", directory, source))?;
    }
    Ok(())
}

/// One file as its author wrote it, templates before rendering: the site's, or that of the shipped
/// overlay if the site has no overlay of that name.
///
/// # Errors
/// See [`SiteError`].
pub fn read(
    shipped: &Path,
    site: &Path,
    overlay: &OverlayName,
    path: &str,
) -> Result<Vec<u8>, SiteError> {
    check_path(path).map_err(|rule| SiteError::Path { path: path.to_owned(), rule })?;
    let own = site.join(overlay.as_str());
    let directory = if own.is_dir() { own } else { shipped.join(overlay.as_str()) };
    check_parents(&directory, path)?;
    let (plain, template) = both_names(&directory, path);
    let size = |path: &PathBuf| fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file);
    let missing = || SiteError::Missing { overlay: overlay.clone(), path: path.to_owned() };
    let found = [plain, template].into_iter().find_map(|path| Some((size(&path)?.len(), path)));
    let (bytes, found) = found.ok_or_else(missing)?;
    if bytes > MAX_FILE_BYTES as u64 {
        return Err(SiteError::TooLarge { bytes: usize::try_from(bytes).unwrap_or(usize::MAX) });
    }
    fs::read(&found).map_err(|source| failed("read", &found, source))
}

/// Removes one file of the site's overlay, and the directories that it leaves empty.
///
/// # Errors
/// See [`SiteError`].
pub fn remove(site: &Path, overlay: &OverlayName, path: &str) -> Result<(), SiteError> {
    let directory = site.join(overlay.as_str());
    let not_found = || SiteError::NotFound { overlay: overlay.clone(), path: path.to_owned() };
    if fs::symlink_metadata(&directory).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    {
        return Err(not_found());
    }
    check_path(path).map_err(|rule| SiteError::Path { path: path.to_owned(), rule })?;
    check_parents(&directory, path)?;
    let (plain, template) = both_names(&directory, path);
    let is_file = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|facts| !facts.is_dir());
    let found = [plain, template].into_iter().find(is_file).ok_or_else(not_found)?;
    fs::remove_file(&found).map_err(|source| failed("remove", &found, source))?;
    let mut parent = found.parent();
    while let Some(path) = parent.filter(|path| *path != directory && fs::remove_dir(path).is_ok())
    {
        parent = path.parent();
    }
    sync_names(&directory, parent.unwrap_or(&directory))
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> SiteError {
    SiteError::Io { operation, path: path.to_owned(), source }
}

/// Removes what an earlier copy left.
fn remove_copy(directory: &Path) -> Result<(), SiteError> {
    match fs::remove_dir_all(directory) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove", directory, source))
        }
        _ => Ok(()),
    }
}

/// Where a file lies as itself, and where as a template.
fn both_names(directory: &Path, path: &str) -> (PathBuf, PathBuf) {
    let plain = directory.join("rootfs").join(path.trim_start_matches('/'));
    let template = PathBuf::from(format!("{}.j2", plain.display()));
    (plain, template)
}

fn write(overlay: &Path, target: &Path, new: &NewFile<'_>) -> Result<(), SiteError> {
    let failed = |operation, source| failed(operation, target, source);
    let directory = target.parent().unwrap_or(target);
    make_open(overlay, directory).map_err(|source| failed("make the directory of", source))?;
    // Beside `rootfs`, so that half a file is never part of the overlay.
    let temporary = overlay.join(".bedplate-new");
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(new.bytes)?;
            file.set_permissions(Permissions::from_mode(new.mode))?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, target));
    written.map_err(|source| {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
        failed("write", source)
    })
}

/// Makes a directory of an overlay, and those that it is in, with the mode that nodes get: the
/// process makes what it makes for itself alone. Each gets its name when it has its mode, so that
/// none that was cut off in between stays closed on nodes.
fn make_open(overlay: &Path, directory: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = directory.ancestors().take_while(|one| !one.exists()).collect();
    for one in missing.into_iter().rev() {
        // Beside `rootfs`, or beside the overlays: no part of any.
        let is_within = one != overlay && one.starts_with(overlay);
        let temporary =
            if is_within { overlay } else { one.parent().unwrap_or(one) }.join(NEW_DIRECTORY);
        match fs::create_dir(&temporary) {
            // Of one that was cut off.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        fs::set_permissions(&temporary, Permissions::from_mode(0o755))?;
        fs::rename(&temporary, one)?;
    }
    Ok(())
}

/// Copies an overlay: files with their modes, links as links.
fn copy(from: &Path, to: &Path) -> Result<(), SiteError> {
    // Half a copy is thrown away, so it may have directories that are not named yet in
    // any of its own.
    make_open(to, to).map_err(|source| failed("make", to, source))?;
    for entry in fs::read_dir(from).map_err(|source| failed("read", from, source))? {
        let entry = entry.map_err(|source| failed("read", from, source))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(|source| failed("look at", &path, source))?;
        if kind.is_dir() {
            copy(&path, &target)?;
        } else if kind.is_symlink() {
            fs::read_link(&path)
                .and_then(|link| std::os::unix::fs::symlink(link, &target))
                .map_err(|source| failed("copy the link", &path, source))?;
        } else if kind.is_file() {
            fs::copy(&path, &target)
                .and_then(|_| fs::File::open(&target))
                .and_then(|copy| copy.sync_all())
                .map_err(|source| failed("copy", &path, source))?;
        } else {
            let path = path.display().to_string();
            return Err(SiteError::Path {
                path,
                rule: "it is no file, directory or symbolic link",
            });
        }
    }
    fs::File::open(to).and_then(|to| to.sync_all()).map_err(|source| failed("sync", to, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shipped_overlay_is_copied_before_its_first_change() {
        let (shipped, site) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(shipped.path().join("hosts/rootfs/etc")).unwrap();
        fs::write(shipped.path().join("hosts/rootfs/etc/hosts.j2"), "a\n").unwrap();
        fs::write(shipped.path().join("hosts/rootfs/etc/other"), "b\n").unwrap();
        std::os::unix::fs::symlink("other", shipped.path().join("hosts/rootfs/etc/link")).unwrap();
        let library = Library::load(shipped.path(), site.path());
        let name: OverlayName = "hosts".parse().unwrap();
        let file = NewFile { path: "/etc/hosts", mode: 0o600, template: false, bytes: b"mine\n" };
        let now = |path: &str| {
            read(shipped.path(), site.path(), &name, path).map_err(|error| error.to_string())
        };
        assert_eq!(now("/etc/hosts").unwrap(), b"a\n", "the shipped template");
        assert_eq!(now("/etc/none").unwrap_err(), "overlay hosts has no file /etc/none");
        assert_eq!(
            now("/etc/link").unwrap_err(),
            "overlay hosts has no file /etc/link",
            "a link is no file"
        );
        put(&library, shipped.path(), site.path(), &name, &file).unwrap();
        assert_eq!(now("/etc/hosts").unwrap(), b"mine\n");
        let at = |path: &str| site.path().join("hosts/rootfs/etc").join(path);
        assert_eq!(fs::read_to_string(at("hosts")).unwrap(), "mine\n");
        assert_eq!(fs::metadata(at("hosts")).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(!at("hosts.j2").exists(), "the template of the same path is gone");
        assert_eq!(fs::read_to_string(at("other")).unwrap(), "b\n");
        assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("other"));
        remove(site.path(), &name, "/etc/hosts").unwrap();
        let again = remove(site.path(), &name, "/etc/hosts").unwrap_err().to_string();
        let none: OverlayName = "none".parse().unwrap();
        let absent = remove(site.path(), &none, "/../shadow").unwrap_err();
        assert!(
            matches!(absent, SiteError::NotFound { .. }),
            "what is not there is said first: {absent}"
        );
        assert_eq!(again, "the site's overlay hosts has no file /etc/hosts");
    }

    /// Of one that was killed a directory is left that is its own alone; nodes would get that mode.
    #[test]
    fn a_directory_has_its_mode_when_it_has_its_name() {
        let site = tempfile::tempdir().unwrap();
        let left_over = site.path().join("x").join(NEW_DIRECTORY);
        fs::create_dir_all(&left_over).unwrap();
        fs::set_permissions(&left_over, Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(site.path().join("x"), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(site.path().join(NEW_DIRECTORY)).unwrap();
        for name in ["x", "new"] {
            let overlay: OverlayName = name.parse().unwrap();
            let file = NewFile { path: "/etc/a/b/file", mode: 0o644, template: false, bytes: b"x" };
            put(&Library::default(), site.path(), site.path(), &overlay, &file).unwrap();
            for directory in ["", "rootfs", "rootfs/etc", "rootfs/etc/a", "rootfs/etc/a/b"] {
                let facts = fs::metadata(site.path().join(name).join(directory)).unwrap();
                assert_eq!(facts.permissions().mode() & 0o7777, 0o755, "{name}/{directory}");
            }
            assert!(!site.path().join(name).join(NEW_DIRECTORY).exists());
        }
        assert!(!site.path().join(NEW_DIRECTORY).exists());
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let site = tempfile::tempdir().unwrap();
        let name: OverlayName = "x".parse().unwrap();
        let error = |path: &str, mode, template, bytes: &[u8]| {
            let file = NewFile { path, mode, template, bytes };
            put(&Library::default(), site.path(), site.path(), &name, &file)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            error("/etc/../x", 0o644, false, b""),
            "the path \"/etc/../x\" is wrong: it has an empty part, or a part . or .."
        );
        assert_eq!(
            error("/x", 0o666, false, b""),
            "mode 0666 is not kept: write permission is for the owner only"
        );
        assert_eq!(error("/x", 0o644, true, b"{% if %}"), "the template has a mistake");
        assert_eq!(error("/x", 0o644, true, b"\xff"), "a template must be UTF-8");
        assert!(error("/x.j2", 0o644, false, b"\xff").contains("leave .j2 out"));
        assert!(error("/x", 0o044, false, b"").contains("lets nobody read the file"));
        let long = format!("/{}/{}", "a".repeat(200), "b".repeat(53));
        assert_eq!(long.len(), 255);
        assert!(
            error(&long, 0o644, true, b"")
                .contains("with the .j2 of a template it is longer than 255")
        );
        let large = vec![0; MAX_FILE_BYTES + 1];
        assert_eq!(
            error("/x", 0o644, false, &large),
            "the file has 16777217 bytes; at most 16777216 are taken"
        );
        assert!(!site.path().join("x").exists());
    }

    /// Whatever is accepted the reader takes, and what is refused leaves all as it was.
    #[test]
    fn nothing_is_put_where_the_reader_would_not_find_it() {
        let (shipped, site) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir_all(shipped.path().join("x/rootfs/etc/folder")).unwrap();
        fs::write(shipped.path().join("x/rootfs/etc/file"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), shipped.path().join("x/rootfs/etc/link"))
            .unwrap();
        let name: OverlayName = "x".parse().unwrap();
        let put = |path: &str| {
            let library = Library::load(shipped.path(), site.path());
            let file = NewFile { path, mode: 0o644, template: false, bytes: b"new" };
            put(&library, shipped.path(), site.path(), &name, &file)
                .map_err(|error| error.to_string())
        };
        for (path, expected) in [
            ("/etc/file/below", "is a file or a link"),
            ("/etc/link/below", "is a file or a link"),
            ("/etc/folder", "is a directory of this overlay"),
        ] {
            let said = put(path).unwrap_err();
            assert!(said.contains(expected), "{path}: {said}");
            assert_eq!(fs::read_dir(site.path()).unwrap().count(), 0, "{path}");
        }
        put("/etc/new/file").unwrap();
        for path in ["/etc/file/below", "/etc/link/below", "/etc/folder"] {
            put(path).unwrap_err();
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        let library = Library::load(shipped.path(), site.path());
        assert_eq!(library.problems(), [""; 0]);
        let paths: Vec<&str> =
            library.get("x").unwrap().files.iter().map(|file| file.path()).collect();
        assert_eq!(
            paths,
            ["/etc", "/etc/file", "/etc/folder", "/etc/link", "/etc/new", "/etc/new/file"]
        );
        let read =
            read(shipped.path(), site.path(), &name, "/etc/link/passwd").unwrap_err().to_string();
        assert!(read.contains("is a file or a link"), "{read}");
    }

    #[test]
    fn an_overlay_does_not_outgrow_its_limits() {
        let (shipped, site) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = site.path().join("x/rootfs");
        fs::create_dir_all(&root).unwrap();
        for number in 0..15 {
            let file = fs::File::create(root.join(format!("f{number}"))).unwrap();
            file.set_len(MAX_FILE_BYTES as u64).unwrap();
        }
        let name: OverlayName = "x".parse().unwrap();
        let bytes = vec![0; MAX_FILE_BYTES];
        let put = |path: &str| {
            let library = Library::load(shipped.path(), site.path());
            let file = NewFile { path, mode: 0o644, template: false, bytes: &bytes };
            put(&library, shipped.path(), site.path(), &name, &file)
        };
        put("/f15").unwrap();
        put("/f15").unwrap();
        let said = put("/f16").unwrap_err().to_string();
        assert_eq!(said, "the overlay would have 285212672 bytes; a node takes at most 268435456");
        assert!(!root.join("f16").exists());
        assert_eq!(Library::load(shipped.path(), site.path()).problems(), [""; 0]);
    }
}
