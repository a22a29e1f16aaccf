//! Crashes of the converter, counted on disk before each try, so that an image that takes the whole
//! machine down is not tried for ever.
//!
//! ```text
//! DIRECTORY/HEX-OF-THE-MANIFEST.json    {"converter": 1, "tries": 1, "reason": "…"}
//! ```
//!
//! A file is there while a try is under way, and after one that ended badly, for
//! [`MAX_AGE`] at least.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::ids::Digest;
use serde::{Deserialize, Serialize};

/// Raise it with every change of what the converter does with an image: images that crashed an
/// older one are tried again.
pub const CONVERTER_VERSION: u32 = 1;

/// Tries that may end badly.
pub(super) const MAX_TRIES: u32 = 2;

/// After how long a file goes when the server starts.
const MAX_AGE: Duration = Duration::from_secs(90 * 24 * 3600);

/// What is said of a try that nobody saw the end of.
const SERVER_ENDED: &str = "the server ended while it was converted";

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    converter: u32,
    tries: u32,
    reason: String,
}

/// Why a count cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}, which counts crashes of the image converter", path.display())]
pub struct TriesError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// See the head of this file. Clones share everything.
#[derive(Debug, Clone)]
pub(super) struct AttemptCounts {
    directory: PathBuf,
    version: u32,
    /// Images that this process converts now, and how often at once.
    running: Arc<Mutex<BTreeMap<Digest, u32>>>,
}

/// A try that is counted.
#[derive(Debug)]
pub(super) struct CountedAttempt {
    tries: AttemptCounts,
    image: Digest,
    /// What was on disk before; `None` inside of it: nothing.
    before: Option<Record>,
    /// Another try of the same image is under way and counted.
    is_counted_by_another: bool,
}

/// An image that is not tried again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Abandoned {
    pub tries: u32,
    /// How the last try ended.
    pub reason: String,
}

impl AttemptCounts {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, version: CONVERTER_VERSION, running: Arc::default() }
    }

    /// Removes what counts for nothing any more: files of other versions of the
    /// converter, and old ones.
    pub(super) fn remove_old(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if !path.extension().is_some_and(|ending| ending == "json" || ending == "new") {
                continue;
            }
            let age = fs::metadata(&path).and_then(|facts| facts.modified()).ok();
            let age = age.and_then(|modified| modified.elapsed().ok());
            let is_old = age.is_some_and(|age| age > MAX_AGE);
            let is_of_another = read(&path).is_some_and(|record| record.converter != self.version);
            if (is_old || is_of_another)
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(path = %path.display(), %error, "cannot remove an old count of crashes");
            }
        }
    }

    /// Counts a try of an image that is about to begin.
    pub(super) fn begin(
        &self,
        image: &Digest,
    ) -> Result<Result<CountedAttempt, Abandoned>, TriesError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let is_counted_by_another = running.contains_key(image);
        let before = self.read(image).filter(|record| record.converter == self.version);
        if !is_counted_by_another {
            if let Some(Record { tries, reason, .. }) =
                before.as_ref().filter(|r| r.tries >= MAX_TRIES)
            {
                return Ok(Err(Abandoned { tries: *tries, reason: reason.clone() }));
            }
            let tries = before.as_ref().map_or(0, |record| record.tries) + 1;
            self.write(
                image,
                &Record { converter: self.version, tries, reason: SERVER_ENDED.to_owned() },
            )?;
        }
        *running.entry(*image).or_default() += 1;
        Ok(Ok(CountedAttempt { tries: self.clone(), image: *image, before, is_counted_by_another }))
    }

    /// Forgets what happened with an image, for an admin who wants it tried again.
    pub(super) fn forget(&self, image: &Digest) -> Result<(), TriesError> {
        let path = self.path(image);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(TriesError { operation: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    fn path(&self, image: &Digest) -> PathBuf {
        self.directory.join(format!("{}.json", image.hex()))
    }

    /// What is known; a file that cannot be read, such as one that a power cut left,
    /// counts for nothing.
    fn read(&self, image: &Digest) -> Option<Record> {
        read(&self.path(image))
    }

    fn write(&self, image: &Digest, record: &Record) -> Result<(), TriesError> {
        let path = self.path(image);
        let written = serde_json::to_vec(record)
            .map_err(io::Error::from)
            .and_then(|json| write_durably(&self.directory, &path, &json));
        written.map_err(|source| TriesError { operation: "write", path, source })
    }
}

fn read(path: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// A whole file under its name, or the one of before, whatever happens.
fn write_durably(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let temporary = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

impl CountedAttempt {
    /// The converter ended as it should: nothing is held against the image, whatever became of it.
    pub(super) fn ended_well(self) -> Result<(), TriesError> {
        self.tries.forget(&self.image)
    }

    /// The try did not come to its end, for reasons that are not the image's: it does not count.
    pub(super) fn does_not_count(self) -> Result<(), TriesError> {
        if self.is_counted_by_another {
            return Ok(());
        }
        match &self.before {
            Some(record) => self.tries.write(&self.image, record),
            None => self.tries.forget(&self.image),
        }
    }

    /// The converter crashed. Returns how many tries are left.
    pub(super) fn crashed(self, reason: &str) -> Result<u32, TriesError> {
        let tries = self.tries.read(&self.image).map_or(1, |record| record.tries);
        let (converter, reason) = (self.tries.version, reason.to_owned());
        self.tries.write(&self.image, &Record { converter, tries, reason })?;
        Ok(MAX_TRIES.saturating_sub(tries))
    }
}

impl Drop for CountedAttempt {
    fn drop(&mut self) {
        let mut running = self.tries.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.image) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.image);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: Digest = Digest([7; 32]);

    fn tries() -> (tempfile::TempDir, AttemptCounts) {
        let directory = tempfile::tempdir().unwrap();
        let tries = AttemptCounts::new(directory.path().join("conversions"));
        (directory, tries)
    }

    fn begin(tries: &AttemptCounts) -> CountedAttempt {
        tries.begin(&IMAGE).unwrap().unwrap()
    }

    #[test]
    fn a_crash_is_counted_before_the_try_and_the_second_is_the_last() {
        let (_directory, tries) = tries();
        // As after the death of the server: nobody says how it ended.
        std::mem::forget(begin(&tries));
        let next = AttemptCounts::new(tries.directory.clone());
        assert_eq!(next.read(&IMAGE).unwrap().reason, SERVER_ENDED);
        assert_eq!(begin(&next).crashed("signal 11").unwrap(), 0);
        let given_up = next.begin(&IMAGE).unwrap().unwrap_err();
        assert_eq!(given_up, Abandoned { tries: 2, reason: "signal 11".to_owned() });
        assert!(next.begin(&Digest([8; 32])).unwrap().is_ok(), "another image");
        let newer = AttemptCounts { version: CONVERTER_VERSION + 1, ..next.clone() };
        assert!(newer.begin(&IMAGE).unwrap().is_ok(), "a newer converter");
    }

    #[test]
    fn what_ended_well_or_does_not_count_is_forgotten() {
        let (_directory, tries) = tries();
        for _ in 0..3 {
            begin(&tries).does_not_count().unwrap();
            assert_eq!(tries.read(&IMAGE), None);
        }
        assert_eq!(begin(&tries).crashed("x").unwrap(), 1);
        begin(&tries).does_not_count().unwrap();
        assert_eq!(tries.read(&IMAGE).unwrap().tries, 1, "the crash of before still counts");
        begin(&tries).ended_well().unwrap();
        assert_eq!(tries.read(&IMAGE), None);
    }

    #[test]
    fn what_counts_for_nothing_any_more_is_removed() {
        let (_directory, tries) = tries();
        // Nothing is there yet.
        tries.remove_old();
        let image = |number| Digest([number; 32]);
        for number in 1..=3 {
            tries.begin(&image(number)).unwrap().unwrap().crashed("x").unwrap();
        }
        let newer = AttemptCounts { version: CONVERTER_VERSION + 1, ..tries.clone() };
        newer.begin(&image(2)).unwrap().unwrap().crashed("x").unwrap();
        let old = File::options().write(true).open(tries.path(&image(3))).unwrap();
        old.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let others = tries.directory.join("others");
        fs::write(&others, "x").unwrap();
        tries.remove_old();
        let is_there = |number| tries.path(&image(number)).exists();
        assert_eq!([is_there(1), is_there(2), is_there(3)], [true, false, false]);
        assert!(others.exists());
    }

    #[test]
    fn an_admin_has_an_image_tried_again() {
        let (_directory, tries) = tries();
        tries.forget(&IMAGE).unwrap();
        begin(&tries).crashed("x").unwrap();
        begin(&tries).crashed("x").unwrap();
        assert!(tries.begin(&IMAGE).unwrap().is_err());
        tries.forget(&IMAGE).unwrap();
        assert!(tries.begin(&IMAGE).unwrap().is_ok());
    }

    #[test]
    fn two_tries_at_once_count_as_one() {
        let (_directory, tries) = tries();
        let (one, two, three) = (begin(&tries), begin(&tries), begin(&tries));
        assert_eq!(tries.read(&IMAGE).unwrap().tries, 1);
        drop((two, three));
        one.ended_well().unwrap();
        assert_eq!(tries.read(&IMAGE), None);
        assert!(tries.running.lock().unwrap().is_empty());
    }

    #[test]
    fn what_a_power_cut_left_counts_for_nothing() {
        let (_directory, tries) = tries();
        begin(&tries).crashed("x").unwrap();
        fs::write(tries.path(&IMAGE), "{").unwrap();
        assert_eq!(begin(&tries).crashed("x").unwrap(), 1);
    }
}
