//! Writing the site's overlays through the API: one file at a time, each in one step.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use api::ids::OverlayName;

use super::{
    MAX_FILE_BYTES, check_path,
    library::{Library, Source},
    template::{Template, TemplateError},
};

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
    /// Too large.
    #[error("the file has {bytes} bytes; at most {MAX_FILE_BYTES} are taken")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
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
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// Writes one file of the site's overlay. Where only a shipped overlay of that name exists, it is copied first: a site
/// overlay takes the place of the whole.
///
/// # Errors
/// See [`SiteError`].
pub fn put(
    library: &Library,
    shipped: &Path,
    site: &Path,
    overlay: &OverlayName,
    file: &NewFile<'_>,
) -> Result<(), SiteError> {
    check_path(file.path).map_err(|rule| SiteError::Path { path: file.path.to_owned(), rule })?;
    if file.mode & !0o7755 != 0 {
        return Err(SiteError::Mode { mode: file.mode });
    }
    if file.bytes.len() > MAX_FILE_BYTES {
        return Err(SiteError::TooLarge { bytes: file.bytes.len() });
    }
    if file.template {
        let source = std::str::from_utf8(file.bytes).map_err(|_| SiteError::NotText)?;
        Template::compile(file.path, file.mode, source).map_err(SiteError::Template)?;
    }
    let folder = site.join(overlay.as_str());
    let only_shipped = library.overlays.get(overlay).is_some_and(|overlay| overlay.source == Source::Shipped);
    if only_shipped && !folder.exists() {
        copy(&shipped.join(overlay.as_str()), &folder)?;
    }
    let (plain, template) = both_names(&folder, file.path);
    let (target, other) = if file.template { (template, plain) } else { (plain, template) };
    write(&folder, &target, file)?;
    match fs::remove_file(&other) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(SiteError::Io { operation: "remove", path: other, source })
        }
        _ => Ok(()),
    }
}

/// One file as its author wrote it, templates before rendering: the site's, or that of the shipped overlay if the site
/// has no overlay of that name.
///
/// # Errors
/// See [`SiteError`].
pub fn read(shipped: &Path, site: &Path, overlay: &OverlayName, path: &str) -> Result<Vec<u8>, SiteError> {
    check_path(path).map_err(|rule| SiteError::Path { path: path.to_owned(), rule })?;
    let own = site.join(overlay.as_str());
    let folder = if own.is_dir() { own } else { shipped.join(overlay.as_str()) };
    let (plain, template) = both_names(&folder, path);
    let is_file = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    let missing = || SiteError::Missing { overlay: overlay.clone(), path: path.to_owned() };
    let found = [plain, template].into_iter().find(is_file).ok_or_else(missing)?;
    fs::read(&found).map_err(|source| SiteError::Io { operation: "read", path: found, source })
}

/// Removes one file of the site's overlay, and the folders that it leaves empty.
///
/// # Errors
/// See [`SiteError`].
pub fn remove(site: &Path, overlay: &OverlayName, path: &str) -> Result<(), SiteError> {
    check_path(path).map_err(|rule| SiteError::Path { path: path.to_owned(), rule })?;
    let folder = site.join(overlay.as_str());
    let (plain, template) = both_names(&folder, path);
    let found = [plain, template].into_iter().find(|path| fs::symlink_metadata(path).is_ok());
    let not_found = || SiteError::NotFound { overlay: overlay.clone(), path: path.to_owned() };
    let found = found.ok_or_else(not_found)?;
    fs::remove_file(&found).map_err(|source| SiteError::Io {
        operation: "remove",
        path: found.clone(),
        source,
    })?;
    let mut parent = found.parent();
    while let Some(path) = parent.filter(|path| *path != folder && fs::remove_dir(path).is_ok()) {
        parent = path.parent();
    }
    Ok(())
}

/// Where a file lies as itself, and where as a template.
fn both_names(folder: &Path, path: &str) -> (PathBuf, PathBuf) {
    let plain = folder.join("rootfs").join(path.trim_start_matches('/'));
    let template = PathBuf::from(format!("{}.j2", plain.display()));
    (plain, template)
}

fn write(overlay: &Path, target: &Path, new: &NewFile<'_>) -> Result<(), SiteError> {
    let failed = |operation, source| SiteError::Io { operation, path: target.to_owned(), source };
    let folder = target.parent().unwrap_or(target);
    fs::create_dir_all(folder).map_err(|source| failed("make the folder of", source))?;
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

/// Copies an overlay: files with their modes, links as links.
fn copy(from: &Path, to: &Path) -> Result<(), SiteError> {
    let failed = |operation, path: &Path, source| SiteError::Io { operation, path: path.to_owned(), source };
    fs::create_dir_all(to).map_err(|source| failed("make", to, source))?;
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
        } else {
            fs::copy(&path, &target).map_err(|source| failed("copy", &path, source))?;
        }
    }
    Ok(())
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
        let library = Library::load(shipped.path(), site.path()).unwrap();
        let name: OverlayName = "hosts".parse().unwrap();
        let file = NewFile { path: "/etc/hosts", mode: 0o600, template: false, bytes: b"mine\n" };
        let now =
            |path: &str| read(shipped.path(), site.path(), &name, path).map_err(|error| error.to_string());
        assert_eq!(now("/etc/hosts").unwrap(), b"a\n", "the shipped template");
        assert_eq!(now("/etc/none").unwrap_err(), "overlay hosts has no file /etc/none");
        assert_eq!(now("/etc/link").unwrap_err(), "overlay hosts has no file /etc/link", "a link is no file");
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
        assert_eq!(again, "the site's overlay hosts has no file /etc/hosts");
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let site = tempfile::tempdir().unwrap();
        let name: OverlayName = "x".parse().unwrap();
        let error = |path: &str, mode, template, bytes: &[u8]| {
            let file = NewFile { path, mode, template, bytes };
            put(&Library::default(), site.path(), site.path(), &name, &file).unwrap_err().to_string()
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
        assert!(!site.path().join("x").exists());
    }
}
