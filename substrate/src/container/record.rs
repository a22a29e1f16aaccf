//! The directory of a run through a descriptor: the container init still writes there when it
//! cannot see the node's files any more. The layout is [`crate::run_directory`]'s.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::Path,
};

use linux::LinuxError;
use log_files::{Limits, LogLocation, TimesWriter, Writer};
use rustix::fs::{Mode, OFlags};
use serde::{Serialize, de::DeserializeOwned};

use crate::run_directory::{JsonFile, LOG, MAX_JSON_BYTES, draft_name};

/// The directory of a run.
#[derive(Debug)]
pub struct Record {
    directory: OwnedFd,
}

impl Record {
    /// Opens the directory.
    ///
    /// # Errors
    /// It is none.
    pub fn open(directory: &Path) -> Result<Self, LinuxError> {
        let directory = File::open(directory).map_err(|errno| {
            LinuxError::new("open the directory of the run", directory.display(), errno)
        })?;
        Ok(Self { directory: directory.into() })
    }

    /// Writes a file in one step and onto the disk: whoever looks sees all of it or nothing.
    ///
    /// # Errors
    /// The file system is full.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let draft = draft_name(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(
            &self.directory,
            &draft,
            flags,
            Mode::from_raw_mode(0o600),
        )?);
        file.write_all(content)?;
        file.sync_all()?;
        rustix::fs::renameat(&self.directory, &draft, &self.directory, name)?;
        Ok(rustix::fs::fsync(&self.directory)?)
    }

    /// As [`Self::write`], JSON.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_json<T: Serialize>(&self, file: JsonFile<T>, content: &T) -> io::Result<()> {
        self.write(file.name(), &file.encode(content)?)
    }

    /// Whether a file is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        rustix::fs::statat(&self.directory, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Reads a file of JSON; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is not what it should be.
    pub fn read_json<T: DeserializeOwned>(&self, file: JsonFile<T>) -> io::Result<Option<T>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match rustix::fs::openat(&self.directory, file.name(), flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            opened => File::from(opened?),
        };
        let mut bytes = Vec::new();
        opened.take(MAX_JSON_BYTES).read_to_end(&mut bytes)?;
        Ok(Some(file.decode(&bytes)?))
    }

    /// Opens the log, for what is appended.
    ///
    /// # Errors
    /// The file system is full.
    pub fn log(&self, limits: Limits) -> io::Result<Writer> {
        Writer::open(self.log_location()?, limits)
    }

    /// Opens what tells when the log was written.
    ///
    /// # Errors
    /// The file system's.
    pub fn log_times(&self) -> io::Result<TimesWriter> {
        TimesWriter::open(self.log_location()?)
    }

    fn log_location(&self) -> io::Result<LogLocation> {
        Ok(LogLocation::new(self.directory.try_clone()?, LOG))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let record = Record::open(directory.path()).unwrap();
        let file: JsonFile<u32> = JsonFile::new("x.json");
        assert_eq!(record.read_json(file).unwrap(), None);
        record.write_json(file, &7).unwrap();
        record.write_json(file, &8).unwrap();
        assert_eq!(record.read_json(file).unwrap(), Some(8));
        assert!(record.read_json(JsonFile::<String>::new(file.name())).is_err());
        record.log(Limits::NONE).unwrap().append(b"one").unwrap();
        record.log(Limits::NONE).unwrap().append(b"two").unwrap();
        assert_eq!(std::fs::read(directory.path().join(LOG)).unwrap(), b"onetwo");
        assert_eq!(directory.path().read_dir().unwrap().count(), 2);
    }
}
