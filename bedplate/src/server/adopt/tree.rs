//! Giving away what is in a directory, by descriptors alone: a name is looked up once, and what was
//! looked at is what is given.

use std::{
    ffi::{CStr, OsStr},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use rest::causes;
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, chmod, chownat, fstat, openat},
    io::Errno,
    process::{Gid, Uid},
};

use super::{AdoptError, Adopted, LOST_AND_FOUND, ServerUser};

/// Directories within each other: each takes three descriptors and a part of the stack. Paths of
/// overlays have fewer parts, and the state's have four.
const MAX_DEPTH: u32 = 128;

/// Bits that say that a program runs as its owner or group; `chown` takes them away, and
/// overlays need them.
const SET_ID: u32 = 0o6000;

/// A checkout's own directory, at the top of the site's overlays or of one of them: nodes get
/// nothing of it, it has files by the thousand, and those of a local clone have second names.
const GIT: &str = ".git";

/// How deep [`GIT`] is passed by; deeper down it is a part of an overlay.
const GIT_DEPTH: u32 = 1;

/// What is walked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The state directory: without all of it no server runs, so the first error is the end.
    State,
    /// The site's overlays. What cannot be given keeps its overlay from nodes, and no server from
    /// starting: it becomes a note.
    Overlays,
}

/// Gives files to a user, and notes what it did.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    part: Part,
    /// The site's overlays, where they lie in the state directory.
    overlays: Option<&'a Path>,
    user: &'a ServerUser,
    adopted: &'a mut Adopted,
}

impl<'a> Walk<'a> {
    pub(super) fn new(part: Part, user: &'a ServerUser, adopted: &'a mut Adopted) -> Self {
        Self { part, overlays: None, user, adopted }
    }

    /// The same that walks through these overlays as such.
    pub(super) fn with_overlays(self, overlays: Option<&'a Path>) -> Self {
        Self { overlays, ..self }
    }

    /// Gives all that is in `directory`, and not itself.
    pub(super) fn below(&mut self, directory: &OwnedFd, path: &Path) -> Result<(), AdoptError> {
        self.entries(directory, path, 0)
    }

    fn entries(&mut self, directory: &OwnedFd, path: &Path, depth: u32) -> Result<(), AdoptError> {
        if depth >= MAX_DEPTH {
            return Err(AdoptError::TooDeep { path: path.to_owned() });
        }
        let failed = |errno| AdoptError::file("list", path, errno);
        for entry in Dir::read_from(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let is_itself = matches!(name.to_bytes(), b"." | b"..");
            if is_itself || self.is_passed_by(name, depth) {
                continue;
            }
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            let given = self.entry(directory, name, &path, depth);
            self.or_note(given)?;
        }
        Ok(())
    }

    fn is_passed_by(&self, name: &CStr, depth: u32) -> bool {
        let is_git =
            self.part == Part::Overlays && depth <= GIT_DEPTH && name.to_bytes() == GIT.as_bytes();
        is_git || depth == 0 && name.to_bytes() == LOST_AND_FOUND.as_bytes()
    }

    fn entry(
        &mut self,
        directory: &OwnedFd,
        name: &CStr,
        path: &Path,
        depth: u32,
    ) -> Result<(), AdoptError> {
        let Some((found, facts)) = look(directory, name, path)? else { return Ok(()) };
        match FileType::from_raw_mode(facts.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let opened = openat(&found, c".", flags, Mode::empty())
                    .map_err(|errno| AdoptError::file("open", path, errno))?;
                drop(found);
                let around = self.part;
                let is_overlays = self.overlays == Some(path);
                if is_overlays {
                    self.part = Part::Overlays;
                }
                let below = self.entries(&opened, path, if is_overlays { 0 } else { depth + 1 });
                let given = self.or_note(below).and_then(|()| self.give(&opened, path));
                let given = self.or_note(given);
                self.part = around;
                given
            }
            FileType::RegularFile => self.give(&found, path),
            // A link counts for what it says; of all else the server has nothing.
            _ => Ok(()),
        }
    }

    fn or_note(&mut self, done: Result<(), AdoptError>) -> Result<(), AdoptError> {
        match (self.part, done) {
            (Part::Overlays, Err(error)) => {
                self.adopted.note(causes(&error));
                Ok(())
            }
            (_, done) => done,
        }
    }

    /// Gives one file or directory, if it is root's. Its mode stays.
    pub(super) fn give(&mut self, found: &OwnedFd, path: &Path) -> Result<(), AdoptError> {
        let failed = |errno| AdoptError::file("give away", path, errno);
        let facts = fstat(found).map_err(failed)?;
        if facts.st_uid == self.user.uid {
            self.note_closed(&facts, path);
            return Ok(());
        }
        if facts.st_uid != 0 {
            if !self.user.may_read(&facts) {
                let (uid, name) = (facts.st_uid, &self.user.name);
                let at = path.display();
                self.adopted.note(format!(
                    "{at} belongs to uid {uid}, and {name} cannot read it: chown {name}: {at}"
                ));
            }
            return Ok(());
        }
        let is_file = FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile;
        if is_file && facts.st_nlink != 1 {
            let (at, names) = (path.display(), facts.st_nlink);
            self.adopted
                .note(format!("{at} has {names} names (hard links), and stays root's: copy it"));
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(self.user.uid), Gid::from_raw(self.user.gid));
        chownat(found, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH).map_err(failed)?;
        if is_file && facts.st_mode & SET_ID != 0 {
            set_mode(found, facts.st_mode, path)?;
        }
        self.adopted.given += 1;
        self.note_closed(&facts, path);
        Ok(())
    }

    /// Notes what its own mode closes to its owner: root could read it all the same, and
    /// the user cannot.
    fn note_closed(&mut self, facts: &Stat, path: &Path) {
        let is_directory = FileType::from_raw_mode(facts.st_mode) == FileType::Directory;
        let (wanted, letters) = if is_directory { (0o500, "u+rx") } else { (0o400, "u+r") };
        if facts.st_mode & wanted == wanted {
            return;
        }
        let (at, name, mode) = (path.display(), &self.user.name, facts.st_mode & 0o7777);
        let template = match self.part {
            Part::Overlays if !is_directory => format!(
                "; for such a mode on the node make it a template with `mode: {mode:04o}` in its front matter"
            ),
            _ => String::new(),
        };
        self.adopted.note(format!(
            "mode {mode:04o} of {at} closes it to {name} too: chmod {letters} {at}{template}"
        ));
    }

    /// Lets the user's group read a file of root's, or enter a directory of root's, that no
    /// other group can.
    pub(super) fn let_group_read(&mut self, path: &Path) -> Result<(), AdoptError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // What cannot be opened is a mistake of the configuration, which is told with its line.
        let Ok(found) = openat(CWD, path, flags, Mode::empty()) else { return Ok(()) };
        let failed = |errno| AdoptError::file("let the server read", path, errno);
        let facts = fstat(&found).map_err(failed)?;
        let is_roots = facts.st_uid == 0 && (facts.st_gid == 0 || facts.st_mode & 0o070 == 0);
        let (is_open, bits) = match FileType::from_raw_mode(facts.st_mode) {
            FileType::RegularFile if facts.st_nlink == 1 => (self.user.may_read(&facts), 0o040),
            FileType::Directory => (self.user.may_enter(&facts), 0o050),
            _ => return Ok(()),
        };
        if !is_roots || is_open {
            return Ok(());
        }
        chownat(&found, c"", None, Some(Gid::from_raw(self.user.gid)), AtFlags::EMPTY_PATH)
            .map_err(failed)?;
        set_mode(&found, facts.st_mode | bits, path)?;
        self.adopted.readable.push(path.to_owned());
        Ok(())
    }
}

/// A name of a directory, as it is; `None` if it is gone.
fn look(
    directory: &OwnedFd,
    name: &CStr,
    path: &Path,
) -> Result<Option<(OwnedFd, Stat)>, AdoptError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = |errno| AdoptError::file("look at", path, errno);
    match openat(directory, name, flags, Mode::empty()) {
        Ok(found) => {
            let facts = fstat(&found).map_err(failed)?;
            Ok(Some((found, facts)))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(failed(errno)),
    }
}

/// Sets the mode of an open file; one that is open as a path has no other way than its
/// name in `/proc`.
fn set_mode(found: &OwnedFd, mode: u32, path: &Path) -> Result<(), AdoptError> {
    chmod(format!("/proc/self/fd/{}", found.as_raw_fd()), Mode::from_raw_mode(mode & 0o7777))
        .map_err(|errno| AdoptError::file("set the mode of", path, errno))
}
