//! A run's directory by its path, as the agent reads and writes it. The layout is
//! [`crate::run_directory`]'s.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use api::{
    ids::Timestamp,
    run::{RunEnd, RunId, RunSpec, RunState},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    devices::{self, Claim},
    site_programs::When,
};
use crate::run_directory::{
    END, EPILOG, JsonFile, LAUNCHING, LOG, MAX_JSON_BYTES, PAUSED, PROLOG, RELEASED, SPEC, STARTED,
    STOP, StopOrder, draft_name,
};

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}", path.display())]
pub struct DirectoryError {
    /// What was tried, as a verb: `read`, `make`.
    pub step: &'static str,
    /// File or directory that it was tried on.
    pub path: PathBuf,
    /// Error that the kernel returned.
    #[source]
    pub source: io::Error,
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |source| DirectoryError { step, path, source }
}

/// The directory of one run.
#[derive(Debug, Clone)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// Makes the directory of a new run.
    ///
    /// # Errors
    /// [`DirectoryError`]; nothing is left behind that counts.
    pub fn create(runs: &Path, spec: &RunSpec) -> Result<Self, DirectoryError> {
        let (draft, path) =
            (runs.join(format!("{}.new", spec.run)), runs.join(spec.run.to_string()));
        let _ = fs::remove_dir_all(&draft);
        fs::create_dir(&draft).map_err(failed("make", &draft))?;
        write_json(&draft, SPEC, spec)?;
        fs::rename(&draft, &path).map_err(failed("name", &path))?;
        sync(runs)?;
        Ok(Self { path })
    }

    /// The directory of a run that is held.
    #[must_use]
    pub fn existing(runs: &Path, run: RunId) -> Option<Self> {
        let path = runs.join(run.to_string());
        path.is_dir().then_some(Self { path })
    }

    /// All runs in `runs`, which is made if it does not exist; drafts are removed, damaged ones are
    /// told and left out.
    ///
    /// # Errors
    /// [`DirectoryError`]: the directory cannot be made or read.
    pub fn all(runs: &Path) -> Result<Vec<(Self, RunSpec)>, DirectoryError> {
        fs::create_dir_all(runs).map_err(failed("make", runs))?;
        let mut found = Vec::new();
        for entry in fs::read_dir(runs).map_err(failed("read", runs))? {
            let path = entry.map_err(failed("read", runs))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.parse::<RunId>().is_err() {
                let _ = fs::remove_dir_all(&path);
                continue;
            }
            let directory = Self { path };
            match directory.read(SPEC) {
                Ok(Some(spec)) => found.push((directory, spec)),
                Ok(None) => tracing::warn!(run = name, "the directory of a run has no spec.json"),
                Err(error) => tracing::warn!(run = name, "{:#}", anyhow::Error::from(error)),
            }
        }
        Ok(found)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `log`, the head of the log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// Where the log ends, bytes.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        log_files::extent(&self.log()).map_or(0, |log| log.end())
    }

    /// Adds a line to the log of a run that is no container.
    pub fn say(&self, line: &str) {
        let appended = fs::OpenOptions::new().append(true).create(true).open(self.log());
        if let Err(error) =
            appended.and_then(|mut log| log.write_all(format!("{line}\n").as_bytes()))
        {
            tracing::warn!(%error, directory = %self.path.display(), "cannot write the log of a run");
        }
    }

    /// How the run is, by what lies in its directory.
    #[must_use]
    pub fn state(&self) -> RunState {
        if let Some(end) = self.end().filter(|_| !self.owes_epilog()) {
            return RunState::Ended(Box::new(end));
        }
        match self.started() {
            Some(started) => RunState::Running { started },
            None => RunState::Preparing {},
        }
    }

    /// Its end, if its work is over.
    #[must_use]
    pub fn end(&self) -> Option<RunEnd> {
        self.read_or_warn(END)
    }

    /// When its work began, if it did.
    #[must_use]
    pub fn started(&self) -> Option<Timestamp> {
        self.read_or_warn(STARTED).map(|started| started.started)
    }

    /// Whether the server released it ([`RunSpec::awaits_release`]).
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.path.join(RELEASED).exists()
    }

    /// Marks that the server released it.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn mark_released(&self) -> Result<(), DirectoryError> {
        self.mark(RELEASED)
    }

    /// Whether its processes shall stand still.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.path.join(PAUSED).exists()
    }

    /// Sets whether its processes shall stand still.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn set_paused(&self, paused: bool) -> Result<(), DirectoryError> {
        if paused { self.mark(PAUSED) } else { self.unmark(PAUSED) }
    }

    /// Marks that the site's programs before the job are begun, or that those after it are done.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn mark_site_programs(&self, when: When) -> Result<(), DirectoryError> {
        if when == When::Before {
            // A start that was cut off is begun again, and so is what comes after it.
            self.unmark(EPILOG)?;
        }
        self.mark(mark_of(when))
    }

    /// Whether the site's programs after the job are still to be run: those before it were begun.
    #[must_use]
    pub fn owes_epilog(&self) -> bool {
        self.path.join(PROLOG).exists() && !self.path.join(EPILOG).exists()
    }

    fn unmark(&self, name: &str) -> Result<(), DirectoryError> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("delete", &path)(error))
            }
            _ => sync(&self.path),
        }
    }

    fn mark(&self, name: &str) -> Result<(), DirectoryError> {
        let path = self.path.join(name);
        File::create(&path).and_then(|file| file.sync_all()).map_err(failed("make", &path))?;
        sync(&self.path)
    }

    /// Why it shall end, if it shall.
    #[must_use]
    pub fn stop_order(&self) -> Option<StopOrder> {
        self.read_or_warn(STOP)
    }

    /// The devices that it has alone, if it has some.
    #[must_use]
    pub fn claim(&self) -> Option<Claim> {
        self.read_or_warn(devices::FILE)
    }

    /// Writes a file in one step: whoever looks sees all of it or nothing.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn write<T: Serialize>(
        &self,
        file: JsonFile<T>,
        content: &T,
    ) -> Result<(), DirectoryError> {
        write_json(&self.path, file, content)
    }

    /// Whether a container was ever about to be started.
    #[must_use]
    pub fn was_launched(&self) -> bool {
        self.path.join(LAUNCHING).exists()
    }

    /// Marks that a container is about to be started. The file is locked for as long as a copy of
    /// its descriptor is open: the spawner gets it.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn mark_launching(&self) -> Result<File, DirectoryError> {
        let path = self.path.join(LAUNCHING);
        let make = || {
            File::create_new(&path)?.sync_all()?;
            let file = File::open(&path)?;
            file.lock()?;
            Ok(file)
        };
        let file = make().map_err(failed("make", &path))?;
        sync(&self.path)?;
        Ok(file)
    }

    /// Whether something of the start is still there: an order that the spawner has not taken, or
    /// the container init.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let Ok(file) = File::open(self.path.join(LAUNCHING)) else { return false };
        matches!(file.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Deletes it: renamed first, so that nobody takes half of it for a run.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn delete(&self) -> Result<(), DirectoryError> {
        let mut gone = self.path.clone().into_os_string();
        gone.push(".old");
        let gone = PathBuf::from(gone);
        fs::rename(&self.path, &gone).map_err(failed("name", &gone))?;
        fs::remove_dir_all(&gone).map_err(failed("delete", &gone))
    }

    fn read_or_warn<T: DeserializeOwned>(&self, file: JsonFile<T>) -> Option<T> {
        self.read(file).unwrap_or_else(|error| {
            tracing::warn!("{:#}", anyhow::Error::from(error));
            None
        })
    }

    fn read<T: DeserializeOwned>(&self, file: JsonFile<T>) -> Result<Option<T>, DirectoryError> {
        use std::io::Read;

        let path = self.path.join(file.name());
        let mut bytes = Vec::new();
        let read = File::open(&path)
            .and_then(|opened| opened.take(MAX_JSON_BYTES).read_to_end(&mut bytes));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        }
        file.decode(&bytes).map(Some).map_err(|error| failed("read", &path)(error.into()))
    }
}

fn mark_of(when: When) -> &'static str {
    match when {
        When::Before => PROLOG,
        When::After => EPILOG,
    }
}

fn write_json<T: Serialize>(
    directory: &Path,
    file: JsonFile<T>,
    content: &T,
) -> Result<(), DirectoryError> {
    let (path, draft) = (directory.join(file.name()), directory.join(draft_name(file.name())));
    let write = || {
        let bytes = file.encode(content)?;
        let mut written = File::create(&draft)?;
        written.write_all(&bytes)?;
        written.sync_all()?;
        fs::rename(&draft, &path)
    };
    write().map_err(failed("write", &path))?;
    sync(directory)
}

fn sync(directory: &Path) -> Result<(), DirectoryError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("sync", directory))
}

#[cfg(test)]
mod tests {
    use api::run::{Outcome, RunUser, Usage, Work, WorkflowId};

    use super::*;
    use crate::run_directory::Started;

    fn spec() -> RunSpec {
        RunSpec {
            run: RunId(uuid::Uuid::from_u128(7)),
            workflow: WorkflowId(uuid::Uuid::from_u128(8)),
            subject: "volume v".into(),
            user: RunUser { name: "u".into(), uid: 1000, gid: 1000, groups: Vec::new() },
            work: Work::Volume { volume: "v".into(), limit_bytes: None },
            timeout_seconds: 10,
            forbidden: Vec::new(),
            awaits_release: false,
        }
    }

    #[test]
    fn a_directory_tells_how_its_run_is() {
        let place = tempfile::tempdir().unwrap();
        let runs = place.path().join("runs");
        assert_eq!(RunDirectory::all(&runs).unwrap().len(), 0);
        let directory = RunDirectory::create(&runs, &spec()).unwrap();
        assert_eq!(directory.state(), RunState::Preparing {});
        directory.write(STARTED, &Started { started: Timestamp(5) }).unwrap();
        assert_eq!(directory.state(), RunState::Running { started: Timestamp(5) });
        directory.say("hello");
        let end = RunEnd {
            started: Some(Timestamp(5)),
            ended: Timestamp(6),
            outcome: Outcome::Exited { code: 0 },
            log_bytes: directory.log_bytes(),
            usage: Usage::default(),
        };
        directory.write(END, &end).unwrap();
        assert_eq!(end.log_bytes, 6);
        assert_eq!(directory.state(), RunState::Ended(Box::new(end)));

        // An agent that starts again.
        fs::create_dir(runs.join(format!("{}.new", RunId(uuid::Uuid::from_u128(9))))).unwrap();
        let all = RunDirectory::all(&runs).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].1, spec());
        all[0].0.delete().unwrap();
        assert_eq!(fs::read_dir(&runs).unwrap().count(), 0);
    }

    #[test]
    fn the_mark_is_set_once_and_its_lock_tells_who_holds_it() {
        let place = tempfile::tempdir().unwrap();
        let directory = RunDirectory::create(place.path(), &spec()).unwrap();
        assert!(!directory.was_launched() && !directory.is_held());
        let lock = directory.mark_launching().unwrap();
        assert!(directory.was_launched() && directory.is_held());
        // What a child inherits is the same lock.
        let childs = lock.try_clone().unwrap();
        drop(lock);
        assert!(directory.is_held());
        drop(childs);
        assert!(directory.was_launched() && !directory.is_held());
        assert!(directory.mark_launching().is_err());
    }
}
