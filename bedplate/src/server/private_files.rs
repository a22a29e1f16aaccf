//! What the server keeps is its own user's alone: files of the state directory are
//! 0600, directories
//! 0700. What it makes is so by the umask of the process; what earlier releases and people left is
//! made so at the start.
//!
//! Nobody else needs to read there: TFTP, HTTP and nodes are given what they get by
//! the server itself.

use std::{
    fs::{self, File, Metadata, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    process::umask,
};

/// Entries of the state directory that are looked at in one start: some seconds on a cold disk.
/// Behind the mode of the directory itself, which is the first, nobody comes to the others.
const MAX_ENTRIES: usize = 200_000;

/// The bits of a mode that let others in.
const OTHERS: u32 = 0o077;

/// From now on this process makes files for its own user alone. Where others are to read (overlays
/// of the site, whose modes nodes get), the mode is set.
pub(super) fn make_private() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// What was done to the state directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Closed {
    /// Entries that others could use, and can no longer.
    pub(super) closed: usize,
    /// There were more than are looked at.
    pub(super) is_cut: bool,
    /// The first that could not be closed.
    pub(super) failed: Option<(PathBuf, String)>,
}

/// Takes away what others may do with the state directory and all below it. The directory itself
/// may be reached by a link; below it none is followed, no other file system entered, and nothing
/// done at `but`: their modes mean something to nodes.
pub(super) fn close(state_dir: &Path, but: &[PathBuf]) -> Closed {
    close_at_most(state_dir, but, MAX_ENTRIES)
}

fn close_at_most(state_dir: &Path, but: &[PathBuf], most: usize) -> Closed {
    let mut done = Closed::default();
    let mut left = most;
    let top =
        fs::canonicalize(state_dir).and_then(|top| Ok((fs::symlink_metadata(&top)?.dev(), top)));
    let (device, top) = match top {
        Ok(top) => top,
        Err(error) => {
            return Closed { failed: Some((state_dir.to_owned(), error.to_string())), ..done };
        }
    };
    // What is not there has no modes.
    let but: Vec<PathBuf> = but.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
    let mut waiting = vec![top];
    while let Some(path) = waiting.pop() {
        if but.contains(&path) {
            continue;
        }
        if left == 0 {
            done.is_cut = true;
            break;
        }
        left -= 1;
        match close_one(&path, device) {
            Ok(Found { is_closed, is_dir }) => {
                done.closed += usize::from(is_closed);
                if is_dir {
                    // What goes meanwhile needs no mode.
                    let entries = fs::read_dir(&path).into_iter().flatten().flatten();
                    waiting.extend(entries.take(left.saturating_add(1)).map(|entry| entry.path()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                done.failed.get_or_insert((path, error.to_string()));
            }
        }
    }
    done
}

struct Found {
    is_closed: bool,
    is_dir: bool,
}

fn close_one(path: &Path, device: u64) -> io::Result<Found> {
    let seen = fs::symlink_metadata(path)?;
    let is_ours = seen.dev() == device && (seen.is_dir() || seen.is_file());
    if !is_ours {
        return Ok(Found { is_closed: false, is_dir: false });
    }
    let is_open = seen.mode() & OTHERS != 0;
    if is_open {
        let file = open_same(path, &seen)?;
        file.set_permissions(Permissions::from_mode(seen.mode() & 0o7777 & !OTHERS))?;
    }
    Ok(Found { is_closed: is_open, is_dir: seen.is_dir() })
}

/// Opens what was looked at, and nothing that was put in its place.
fn open_same(path: &Path, seen: &Metadata) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let opened = file.metadata()?;
    if (opened.dev(), opened.ino()) == (seen.dev(), seen.ino()) {
        Ok(file)
    } else {
        Err(io::Error::other("it became another file in this moment"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn with_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_a_release_of_before_left_open_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let (state, outside) = (directory.path().join("state"), directory.path().join("outside"));
        fs::create_dir_all(state.join("images/blobs")).unwrap();
        fs::create_dir_all(state.join("overlays/motd")).unwrap();
        for file in [&outside, &state.join("bedplate.db"), &state.join("images/blobs/one")] {
            fs::write(file, "x").unwrap();
            with_mode(file, 0o644);
        }
        with_mode(&state, 0o755);
        with_mode(&state.join("images"), 0o755);
        with_mode(&state.join("overlays/motd"), 0o755);
        with_mode(&state.join("images/blobs"), 0o700);
        std::os::unix::fs::symlink(&outside, state.join("link")).unwrap();

        let but = [state.join("overlays")];
        let done = close(&state, &but);
        assert_eq!(done, Closed { closed: 4, is_cut: false, failed: None });
        assert_eq!(mode(&state), 0o700);
        assert_eq!(mode(&state.join("images")), 0o700);
        assert_eq!(mode(&state.join("images/blobs/one")), 0o600);
        assert_eq!(mode(&state.join("bedplate.db")), 0o600);
        assert_eq!(mode(&outside), 0o644, "no link is followed");
        assert_eq!(mode(&state.join("overlays/motd")), 0o755, "nodes get its mode");
        assert_eq!(close(&state, &but).closed, 0);
    }

    #[test]
    fn a_state_directory_that_is_reached_by_a_link_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::create_dir_all(real.join("overlays")).unwrap();
        fs::write(real.join("bedplate.db"), "x").unwrap();
        with_mode(&real.join("bedplate.db"), 0o644);
        with_mode(&real.join("overlays"), 0o755);
        with_mode(&real, 0o755);
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let done = close(&link, &[link.join("overlays")]);
        assert_eq!(done, Closed { closed: 2, is_cut: false, failed: None });
        assert_eq!((mode(&real), mode(&real.join("bedplate.db"))), (0o700, 0o600));
        assert_eq!(mode(&real.join("overlays")), 0o755);
    }

    #[test]
    fn the_directory_itself_is_closed_however_much_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..10 {
            let file = directory.path().join(number.to_string());
            fs::write(&file, "x").unwrap();
            with_mode(&file, 0o644);
        }
        with_mode(directory.path(), 0o755);
        let done = close_at_most(directory.path(), &[], 4);
        assert_eq!((done.closed, done.is_cut), (4, true));
        assert_eq!(mode(directory.path()), 0o700);
    }
}
