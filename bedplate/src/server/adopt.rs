//! `bedplate server adopt`: what root has left becomes the server's own user's.
//!
//! The shipped unit runs this as root before each start, and then the server as a user that may
//! bind low ports, send raw packets and write the kernel's neighbour table, and nothing else.
//!
//! | what | becomes |
//! |---|---|
//! | the state directory | the user's, with all files and directories of root in it |
//! | the site's overlays | the same. On nodes they are root's whoever has them here; modes stay |
//! | the configuration, its directory, and what it names there | readable for the user's group |
//!
//! A state directory that cannot be given keeps the server from starting; what else cannot be
//! done is a note.
//!
//! A state directory that is root's was not adopted yet, or not to the end: it is given away last,
//! so that one that was cut off is begun again, and until then nobody but root gets into it. No
//! link is followed, and a file with a second name is left alone: it may be one of the system's.

use std::{
    ffi::CString,
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use nix::unistd::{User, getgrouplist};
use rest::causes;
use rustix::{
    fs::{FileType, Mode, OFlags, Stat, fchown, getxattr, open, openat, stat, syncfs},
    io::Errno,
    process::{Gid, Uid, geteuid},
};

use super::LOCK;
use crate::config::Checked;
use tree::{Part, Walk};

mod tree;

/// The user of the shipped unit.
pub const SERVER_USER: &str = "bedplate";

/// Notes that are told: the first few say of what kind they are.
const MAX_NOTES: usize = 20;

/// Made by the file system itself, where a directory is the top of one.
const LOST_AND_FOUND: &str = "lost+found";

/// The user that the server runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUser {
    name: String,
    uid: u32,
    /// The first group; files are given to it.
    gid: u32,
    /// All groups, the first one among them.
    groups: Vec<u32>,
}

/// What was done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// Files and directories that were root's and are the user's now.
    pub given: u64,
    /// Files, and the directory of the configuration, that the user's group may read from now on.
    pub readable: Vec<PathBuf>,
    /// What was left as it is, and why; a line each, 20 at most.
    pub notes: Vec<String>,
}

/// Why nothing, or not all, was adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// Only root may give files away.
    #[error("only root can give files to another user: run it as root")]
    NotRoot,
    /// The user does not exist.
    #[error(
        "there is no user {name}: make it (`systemd-sysusers`, or `useradd --system {name}`), \
         or name another by --user"
    )]
    NoUser {
        /// The name that was given.
        name: String,
    },
    /// The list of users, or of a user's groups, cannot be read.
    #[error("cannot look up user {name}")]
    LookUp {
        /// The name that was given.
        name: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// What is root's stays root's without this.
    #[error("a server that runs as root needs nothing of this: name its own user by --user")]
    UserIsRoot,
    /// A server holds the state directory.
    #[error("a server runs on the state directory {}: stop it first", path.display())]
    Running {
        /// The state directory.
        path: PathBuf,
    },
    /// Root would give away whatever somebody puts there meanwhile.
    #[error(
        "{} is reached by a link, or others than root may put another directory in its place: nothing in it \
         was given away; look at it, then run: chown -hR {user}: {}",
        path.display(),
        real.display()
    )]
    Unsafe {
        /// The state directory, or that of the site's overlays.
        path: PathBuf,
        /// The same without links: of a link `chown -hR` changes the link alone.
        real: PathBuf,
        /// Name of the server's user.
        user: String,
    },
    /// A directory lies deeper than any of the server's does.
    #[error("{} lies deeper than any directory of the server's: what made it?", path.display())]
    TooDeep {
        /// The directory.
        path: PathBuf,
    },
    /// A file or directory.
    #[error("cannot {step} {}", path.display())]
    File {
        /// What was to be done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl AdoptError {
    fn file(step: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::File { step, path: path.to_owned(), source: source.into() }
    }

    fn replaceable(path: &Path, user: &ServerUser) -> Self {
        Self::Unsafe { path: path.to_owned(), real: without_links(path), user: user.name.clone() }
    }
}

impl ServerUser {
    /// The user of this name in the system's list.
    ///
    /// # Errors
    /// It does not exist, it is root, or the list cannot be read.
    pub fn named(name: &str) -> Result<Self, AdoptError> {
        let failed = |source: io::Error| AdoptError::LookUp { name: name.to_owned(), source };
        let found = User::from_name(name).map_err(|errno| failed(errno.into()))?;
        let Some(user) = found else { return Err(AdoptError::NoUser { name: name.to_owned() }) };
        if user.uid.is_root() {
            return Err(AdoptError::UserIsRoot);
        }
        let c_name = CString::new(name).map_err(|error| failed(error.into()))?;
        let groups = getgrouplist(&c_name, user.gid).map_err(|errno| failed(errno.into()))?;
        Ok(Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.into_iter().map(|group| group.as_raw()).collect(),
        })
    }

    /// The mode lets this user read it, and search it if it is a directory.
    fn may_read(&self, facts: &Stat) -> bool {
        let is_directory = FileType::from_raw_mode(facts.st_mode) == FileType::Directory;
        self.has(facts, if is_directory { 0o5 } else { 0o4 })
    }

    /// The mode lets this user reach what lies in a directory, if its name is known.
    fn may_enter(&self, facts: &Stat) -> bool {
        self.has(facts, 0o1)
    }

    fn has(&self, facts: &Stat, wanted: u32) -> bool {
        let is_groups = self.groups.contains(&facts.st_gid);
        let shift = if facts.st_uid == self.uid { 6 } else { u32::from(is_groups) * 3 };
        (facts.st_mode >> shift) & wanted == wanted
    }
}

impl Adopted {
    fn note(&mut self, note: String) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(note);
        }
    }
}

/// Gives the state directory and the site's overlays to `user`, and lets it read what lies beside
/// the configuration `file`. Of a state directory that is the user's already only the top is looked
/// at, unless something there is root's, or `all` is set. Blocking.
///
/// # Errors
/// See [`AdoptError`]. What was given by then stays given; the next run does the rest.
pub fn adopt(
    config: &Checked,
    file: &Path,
    user: &ServerUser,
    all: bool,
) -> Result<Adopted, AdoptError> {
    if !geteuid().is_root() {
        return Err(AdoptError::NotRoot);
    }
    let mut adopted = Adopted::default();
    let (state, overlays) = (&config.state_dir, &config.provisioner.site_overlays);
    if let Some(note) = of_a_third_user(state, user) {
        adopted.note(note);
        return Ok(adopted);
    }
    let is_within = overlays.starts_with(state);
    let within = is_within.then_some(overlays.as_path());
    state_directory(state, within, user, all, &mut adopted)?;
    // Before the overlays, which may have more to tell than there are notes.
    beside_configuration(config, file, user, &mut adopted);
    if !is_within && let Err(error) = site_overlays(overlays, user, &mut adopted) {
        adopted.note(causes(&error));
    }
    Ok(adopted)
}

/// A site that has run its server as a user of its own goes on with that one: nothing is touched.
fn of_a_third_user(state: &Path, user: &ServerUser) -> Option<String> {
    let uid = fs::metadata(state).ok()?.uid();
    let (at, real, name) = (state.display(), without_links(state), &user.name);
    let real = real.display();
    (uid != 0 && uid != user.uid).then(|| {
        format!(
            "{at} belongs to uid {uid}, which is neither root nor {name}: nothing was given away; \
             if the server runs as {name}: chown -hR {name}: {real}"
        )
    })
}

/// `overlays`: those of the site, if they lie in it.
fn state_directory(
    path: &Path,
    overlays: Option<&Path>,
    user: &ServerUser,
    all: bool,
    adopted: &mut Adopted,
) -> Result<(), AdoptError> {
    if !path.exists() {
        make(path)?;
    }
    let facts = fs::metadata(path).map_err(|source| AdoptError::file("look at", path, source))?;
    let uid = facts.uid();
    if uid != 0 && !all && overlays.is_none() && !root_has_part_of(path)? {
        return Ok(());
    }
    if !is_roots_to_change(path) {
        return Err(AdoptError::replaceable(path, user));
    }
    let top = open_directory(path)?;
    let _lock = lock(&top, path)?;
    // From here on a run that is cut off shows.
    fchown(&top, Some(Uid::ROOT), None)
        .map_err(|errno| AdoptError::file("take back", path, errno))?;
    Walk::new(Part::State, user, adopted).with_overlays(overlays).below(&top, path)?;
    // What was given must be on the disk before what says that all was.
    syncfs(&top).map_err(|errno| AdoptError::file("write back", path, errno))?;
    fchown(&top, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))
        .map_err(|errno| AdoptError::file("give away", path, errno))?;
    adopted.given += u64::from(uid == 0);
    Ok(())
}

/// Makes the state directory, as the server would if it might.
fn make(path: &Path) -> Result<(), AdoptError> {
    let failed = |source| AdoptError::file("make", path, source);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    DirBuilder::new().mode(0o700).create(path).map_err(failed)
}

/// Something that lies directly in the state directory is root's: a copy that was put back, say.
fn root_has_part_of(path: &Path) -> Result<bool, AdoptError> {
    let failed = |source| AdoptError::file("list", path, source);
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // Of a link that is not followed. What is gone by now is nobody's.
        let Ok(facts) = entry.metadata() else { continue };
        let is_content = facts.is_dir() && entry.file_name() != LOST_AND_FOUND || facts.is_file();
        if is_content && facts.uid() == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The lock of the server, which must not run meanwhile. Without the file no server ever did.
fn lock(top: &OwnedFd, path: &Path) -> Result<Option<File>, AdoptError> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(top, LOCK, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(AdoptError::file("open", &path.join(LOCK), errno)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(AdoptError::Running { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(AdoptError::file("lock", &path.join(LOCK), source)),
    }
}

fn site_overlays(path: &Path, user: &ServerUser, adopted: &mut Adopted) -> Result<(), AdoptError> {
    if !path.exists() && path.parent().is_some_and(Path::is_dir) {
        fs::create_dir(path).map_err(|source| AdoptError::file("make", path, source))?;
    }
    // Without the directory there are no overlays of the site.
    let Ok(facts) = fs::metadata(path) else { return Ok(()) };
    if facts.uid() != 0 && facts.uid() != user.uid {
        adopted.note(format!(
            "{} belongs to uid {}, and was left as it is",
            path.display(),
            facts.uid()
        ));
        return Ok(());
    }
    if !is_roots_to_change(path) {
        return Err(AdoptError::replaceable(path, user));
    }
    let top = open_directory(path)?;
    let mut walk = Walk::new(Part::Overlays, user, adopted);
    walk.below(&top, path)?;
    walk.give(&top, path)
}

/// Secrets that the configuration names, where they lie beside it: their group becomes the user's
/// and may read them. Those elsewhere are others' (certbot's, say); `server check` tells which
/// cannot be read.
fn beside_configuration(config: &Checked, file: &Path, user: &ServerUser, adopted: &mut Adopted) {
    let Ok(file) = std::path::absolute(file) else { return };
    let Some(directory) = file.parent() else { return };
    directory_of_configuration(directory, user, adopted);
    let certificate =
        config.api_certificate.iter().flat_map(|files| [&files.certificate, &files.key]);
    let hosts = config.registries.hosts.values();
    let logins = hosts.flat_map(|host| host.ca.iter().chain(host.credentials.iter()));
    for path in std::iter::once(&file).chain(certificate).chain(logins) {
        if path.parent() == Some(directory) && is_roots_to_change(path) {
            let_group_read(path, user, adopted);
        }
    }
}

/// Who cannot enter the directory of the configuration, or one above it, can read nothing in it.
/// Those above hold more than a server's configuration, and stay as they are.
fn directory_of_configuration(path: &Path, user: &ServerUser, adopted: &mut Adopted) {
    // In root's home lies more than a server's configuration.
    let root = User::from_uid(nix::unistd::ROOT).ok().flatten();
    let is_roots_home = root.is_some_and(|root| root.dir == path);
    if !has_acl(path) && is_roots_to_change(path) && !is_roots_home {
        let_group_read(path, user, adopted);
    }
    let real = without_links(path);
    for directory in real.ancestors() {
        // With a list somebody has said in detail who may enter, which the mode does not tell.
        if has_acl(directory) || !stat(directory).is_ok_and(|facts| !user.may_enter(&facts)) {
            continue;
        }
        let (at, name) = (directory.display(), &user.name);
        let letters = if directory == real { "rx" } else { "x" };
        adopted.note(format!(
            "{name} cannot enter {at}, nor read what is in it: setfacl -m u:{name}:{letters} {at}"
        ));
    }
}

/// What cannot be opened to the user is no reason to have no server: `server check` names it.
fn let_group_read(path: &Path, user: &ServerUser, adopted: &mut Adopted) {
    if let Err(error) = Walk::new(Part::State, user, adopted).let_group_read(path) {
        adopted.note(causes(&error));
    }
}

/// The directory has an access control list.
fn has_acl(path: &Path) -> bool {
    let mut list = [0_u8; 64];
    // A list that is longer than there is room for is one too.
    matches!(getxattr(path, "system.posix_acl_access", &mut list[..]), Ok(_) | Err(Errno::RANGE))
}

/// Where a path leads; the path itself where that cannot be told.
fn without_links(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn open_directory(path: &Path) -> Result<OwnedFd, AdoptError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).map_err(|errno| AdoptError::file("open", path, errno))
}

/// Nobody but root can put something else in the place of `path`: no link is on the way, and each
/// directory above is root's, or sticky with the next one root's.
fn is_roots_to_change(path: &Path) -> bool {
    let is_kept = |path: &Path, parent: &Path| -> io::Result<bool> {
        let above = fs::symlink_metadata(parent)?;
        let (mode, by_group) = (above.mode(), above.gid() != 0);
        let is_shared = mode & 0o002 != 0 || by_group && mode & 0o020 != 0;
        let is_sticky = mode & 0o1000 != 0 && fs::symlink_metadata(path)?.uid() == 0;
        Ok(above.uid() == 0 && (!is_shared || is_sticky))
    };
    let has_no_link = fs::canonicalize(path).is_ok_and(|real| real == path);
    let mut steps = path.ancestors().zip(path.ancestors().skip(1));
    has_no_link && steps.all(|(path, parent)| is_kept(path, parent).unwrap_or(false))
}

#[cfg(test)]
mod tests;
