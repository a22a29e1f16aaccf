//! The file system of the state directory, and what lies in its directories.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use metrics::Exposition;
use rustix::fs::statvfs;
use tokio::time::Instant;

/// Directories of the state directory that grow: images of nodes and of jobs, logs
/// and files of jobs.
const DIRECTORIES: [&str; 4] = ["images", "jobs", "logs", "files"];

/// How often the directories are walked through, at most: a million files take some seconds.
const WALK_EVERY: Duration = Duration::from_secs(600);

/// Files of one directory that are looked at. Of a directory with more no size is told.
const MAX_ENTRIES: u64 = 1_000_000;

/// Writes the room on the file system. Blocks as long as it takes to answer.
pub(super) fn expose(state_dir: &Path, out: &mut Exposition) {
    let found = statvfs(state_dir)
        .inspect_err(|error| tracing::warn!("cannot look at {}: {error}", state_dir.display()))
        .ok();
    let bytes = |blocks: u64, size: u64| blocks.saturating_mul(size);
    for (name, help, value) in [
        (
            "bedplate_state_filesystem_size_bytes",
            "Size of the file system of the state directory.",
            found.as_ref().map(|found| bytes(found.f_blocks, found.f_frsize)),
        ),
        (
            "bedplate_state_filesystem_available_bytes",
            "Room that the server can use there.",
            found.as_ref().map(|found| bytes(found.f_bavail, found.f_frsize)),
        ),
        (
            "bedplate_state_filesystem_inodes",
            "Inodes of the file system of the state directory; 0 where it has no fixed number.",
            found.as_ref().map(|found| found.f_files),
        ),
        (
            "bedplate_state_filesystem_available_inodes",
            "Inodes that the server can use there.",
            found.as_ref().map(|found| found.f_favail),
        ),
    ] {
        let mut family = out.gauge(name, help);
        if let Some(value) = value {
            family.value(value);
        }
    }
}

/// Sizes of directories as they were when they were last walked through.
#[derive(Debug)]
pub(super) struct Directories {
    state_dir: PathBuf,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// When the last walk began.
    begun: Option<Instant>,
    is_running: bool,
    sizes: [Option<u64>; DIRECTORIES.len()],
}

impl Directories {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned(), known: Arc::default() }
    }

    /// Writes the sizes that are known, and has them looked at again if it is time. Must be called
    /// within the runtime. The first scrape after a start has none.
    pub(super) fn expose(&self, out: &mut Exposition) {
        let help = "Size of a directory of the state directory, looked at every ten minutes.";
        let mut family = out.gauge("bedplate_state_folder_bytes", help);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (directory, size) in DIRECTORIES.iter().zip(known.sizes) {
            if let Some(size) = size {
                family.sample(&[("folder", directory)], size);
            }
        }
        let is_due = known.begun.is_none_or(|begun| begun.elapsed() >= WALK_EVERY);
        if is_due && !known.is_running {
            (known.begun, known.is_running) = (Some(Instant::now()), true);
            let (state_dir, known) = (self.state_dir.clone(), Arc::downgrade(&self.known));
            tokio::task::spawn_blocking(move || walk(&state_dir, &known));
        }
    }
}

/// Looks at all directories. A server that stops waits for this, so it ends when nobody wants
/// to know any more.
fn walk(state_dir: &Path, known: &Weak<Mutex<Known>>) {
    let is_wanted = || known.strong_count() > 0;
    let _running = Running(known);
    let sizes = DIRECTORIES.map(|directory| {
        let path = state_dir.join(directory);
        let size = size_of(&path, MAX_ENTRIES, is_wanted);
        size.inspect_err(|error| {
            tracing::warn!("the size of {} is not known: {error}", path.display())
        })
        .ok()
    });
    if let Some(known) = known.upgrade() {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        known.sizes = sizes;
    }
}

/// A walk under way; however it ends, the next one may begin.
struct Running<'a>(&'a Weak<Mutex<Known>>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(known) = self.0.upgrade() {
            known.lock().unwrap_or_else(PoisonError::into_inner).is_running = false;
        }
    }
}

/// Bytes of the files below a directory, without following links; 0 if it is not there.
fn size_of(directory: &Path, most: u64, is_wanted: impl Fn() -> bool) -> io::Result<u64> {
    let (mut bytes, mut entries) = (0_u64, 0);
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let found = match fs::read_dir(&directory) {
            // Logs of workflows that are deleted go while we look.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found?,
        };
        for entry in found {
            let entry = entry?;
            entries += 1;
            if entries > most {
                return Err(io::Error::other(format!("it has more than {most} files")));
            }
            if !is_wanted() {
                return Err(io::Error::other("the server stops"));
            }
            // Of a link it is the link's own.
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => directories.push(entry.path()),
                Ok(meta) => bytes = bytes.saturating_add(meta.len()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_is_as_large_as_its_files() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("a/b")).unwrap();
        fs::write(directory.path().join("one"), [0; 100]).unwrap();
        fs::write(directory.path().join("a/b/two"), [0; 1000]).unwrap();
        // A loop, and a way out.
        symlink("..", directory.path().join("a/up")).unwrap();
        let link = fs::symlink_metadata(directory.path().join("a/up")).unwrap().len();
        assert_eq!(size_of(directory.path(), 5, || true).unwrap(), 1100 + link);
        assert!(
            size_of(directory.path(), 4, || true)
                .unwrap_err()
                .to_string()
                .contains("more than 4 files")
        );
        assert!(
            size_of(directory.path(), 5, || false).is_err(),
            "a server that stops does not wait"
        );
        assert_eq!(size_of(&directory.path().join("gone"), 5, || true).unwrap(), 0);
    }

    #[tokio::test]
    async fn sizes_come_after_the_first_look_and_stay_for_a_while() {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join("logs")).unwrap();
        fs::write(state.path().join("logs/1"), [0; 77]).unwrap();
        let directories = Directories::new(state.path());
        let text = || {
            let mut out = Exposition::new();
            directories.expose(&mut out);
            out.finish()
        };
        assert!(!text().contains("{folder="));
        let begun = Instant::now();
        while !text().contains("bedplate_state_folder_bytes{folder=\"logs\"} 77\n") {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", text());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(text().contains("bedplate_state_folder_bytes{folder=\"images\"} 0\n"));
        fs::write(state.path().join("logs/2"), [0; 23]).unwrap();
        assert!(text().contains("{folder=\"logs\"} 77\n"), "no walk for each scrape");
    }

    #[test]
    fn the_room_is_told_of_every_file_system() {
        let mut out = Exposition::new();
        expose(Path::new("/"), &mut out);
        let text = out.finish();
        let sample = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name}:\n{text}")).parse().unwrap()
        };
        let size = sample("bedplate_state_filesystem_size_bytes");
        assert!(size > 0 && sample("bedplate_state_filesystem_available_bytes") <= size);
        let inodes = sample("bedplate_state_filesystem_inodes");
        assert!(sample("bedplate_state_filesystem_available_inodes") <= inodes);
        let mut out = Exposition::new();
        expose(Path::new("/nowhere"), &mut out);
        assert!(out.finish().lines().all(|line| line.starts_with('#')));
    }
}
