//! The log of a container: what comes through a pipe, up to a limit. Beyond it bytes are read and dropped, so that nobody who
//! writes ever waits for us.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
};

/// Bytes read at a time: what a pipe holds.
const CHUNK_BYTES: usize = 64 << 10;

/// Takes what containers write.
#[derive(Debug)]
pub struct Log {
    file: File,
    limit: u64,
    written: u64,
    dropped: u64,
}

impl Log {
    /// A log in `file`, which is empty, of at most `limit` bytes and one line.
    #[must_use]
    pub fn new(file: File, limit: u64) -> Self {
        Self { file, limit, written: 0, dropped: 0 }
    }

    /// Takes what is in a pipe that does not block. `false` if its last writer is gone.
    ///
    /// # Errors
    /// The pipe's. A file that takes no more only counts as dropped.
    pub fn pump(&mut self, pipe: &mut File) -> io::Result<bool> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match pipe.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(count) => self.take(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = usize::try_from(self.limit - self.written).unwrap_or(usize::MAX).min(bytes.len());
        let kept = append(&mut self.file, &bytes[..room]);
        self.written += kept as u64;
        self.dropped += (bytes.len() - kept) as u64;
        if kept < room {
            // A full file system ends the log, not the job.
            self.limit = self.written;
        }
    }

    /// Adds a line of our own.
    pub fn say(&mut self, line: &str) {
        let line = format!("bedplate: {line}\n");
        let kept = append(&mut self.file, line.as_bytes()) as u64;
        self.written += kept;
        self.limit += kept;
    }

    /// Says how much was dropped and puts all on disk. Returns the length, bytes.
    pub fn finish(mut self) -> u64 {
        if self.dropped > 0 {
            self.say(&format!("{} bytes more were written and are not kept", self.dropped));
        }
        // What cannot be synced can still be read while the node runs.
        let _ = self.file.sync_all();
        self.written
    }
}

/// Writes as much as the file takes; how many bytes that was.
fn append(file: &mut File, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_ends_at_its_limit_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Log::new(File::create(&path).unwrap(), 10);
        log.take(b"12345678");
        log.say("hello");
        log.take(b"90ab");
        log.take(b"cd");
        let length = log.finish();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "12345678bedplate: hello\n90bedplate: 4 bytes more were written and are not kept\n");
        assert_eq!(length, text.len() as u64);
    }

    #[test]
    fn a_pipe_is_emptied_without_waiting() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let (mut reader, mut writer) = (File::from(reader), File::from(writer));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Log::new(File::create(&path).unwrap(), 100);
        assert!(log.pump(&mut reader).unwrap());
        writer.write_all(b"one").unwrap();
        assert!(log.pump(&mut reader).unwrap());
        writer.write_all(b" two").unwrap();
        drop(writer);
        assert!(!log.pump(&mut reader).unwrap());
        assert_eq!(log.finish(), 7);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one two");
    }
}
