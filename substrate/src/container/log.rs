//! The log of a container: what comes through a pipe, head and tail where it is longer than its
//! limit ([`log_files`]).
//!
//! Nobody who writes waits for us as long as the log is in its head. Past it a job that writes
//! without pause is held to [`TURN_BYTES`] per [`TURN_PAUSE`], so that the copying of what is
//! thrown away soon takes a part of one processor, and not of every job's share.
//!
//! How much is kept is less where the logs of the node have little room left together
//! ([`super::log_room`]): it is asked as the log grows.
//!
//! When it was written is kept beside it, where the server wants to know ([`TimesWriter`]).
//!
//! For a server of before, which knows no gaps, the log is cut at its limit, and its last line says
//! how much was dropped.

use std::{
    fs::File,
    io::{self, Read as _},
    time::Duration,
};

use api::{ids::Timestamp, log::times::TimeMark};
use log_files::{Limits, TimesWriter, Writer};

use super::log_room::LogRoom;

/// Bytes read at a time: what a pipe holds.
const CHUNK_BYTES: usize = 64 << 10;

/// Bytes taken before whoever pumps looks at other events.
const TURN_BYTES: usize = 1 << 20;

/// How long a pipe that had [`TURN_BYTES`] at once is left alone, past the head.
const TURN_PAUSE: Duration = Duration::from_millis(4);

/// Bytes that a log grows between two looks at the room that is left.
const LOOK_BYTES: u64 = 1 << 20;

/// How a pipe is after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pumped {
    /// There may be more; not to be pumped for so long.
    More(Duration),
    /// Its last writer is gone.
    Ended,
}

/// Takes what containers write.
#[derive(Debug)]
pub struct Log {
    files: Writer,
    /// Where the log ends, if all that could not be written is counted.
    end: u64,
    cut: Option<Cut>,
    shared: Option<Shared>,
    times: Option<Times>,
}

/// Of a log whose times are kept.
#[derive(Debug)]
struct Times {
    marks: TimesWriter,
    clock: fn() -> Timestamp,
}

/// Of a log that has its share of a room.
#[derive(Debug)]
struct Shared {
    room: LogRoom,
    /// What is kept at most, however much room there is, bytes.
    limit: u64,
    /// Where the log ends at the next look.
    look_at: u64,
}

/// Of a log that is cut.
#[derive(Debug)]
struct Cut {
    limit: u64,
    dropped: u64,
}

impl Log {
    /// A log in these files, of which what their limits say is kept.
    #[must_use]
    pub fn new(files: Writer) -> Self {
        Self { end: files.end(), files, cut: None, shared: None, times: None }
    }

    /// A log in one file, of at most `limit` bytes and one line.
    #[must_use]
    pub fn cut_at(files: Writer, limit: u64) -> Self {
        Self { cut: Some(Cut { limit, dropped: 0 }), ..Self::new(files) }
    }

    /// Keeps `limit` bytes at most, and less where its share of `room` is less.
    #[must_use]
    pub fn sharing(self, room: LogRoom, limit: u64) -> Self {
        // As much as the least share may be written without a look: most logs are shorter.
        Self { shared: Some(Shared { room, limit, look_at: LOOK_BYTES }), ..self }
    }

    /// Keeps when it is written, by this clock.
    #[must_use]
    pub fn timed(self, marks: TimesWriter, clock: fn() -> Timestamp) -> Self {
        Self { times: Some(Times { marks, clock }), ..self }
    }

    /// Takes what is in a pipe that does not block, [`TURN_BYTES`] at most.
    ///
    /// # Errors
    /// The pipe's. What the files do not take is left out.
    pub fn pump(&mut self, pipe: &mut File) -> io::Result<Pumped> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut taken = 0;
        while taken < TURN_BYTES {
            match pipe.read(&mut chunk) {
                Ok(0) => return Ok(Pumped::Ended),
                Ok(count) => {
                    self.take(&chunk[..count]);
                    taken += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Pumped::More(Duration::ZERO));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let is_cut = self.cut.as_ref().is_some_and(|cut| self.end >= cut.limit);
        let pause = if is_cut || self.files.is_past_head() { TURN_PAUSE } else { Duration::ZERO };
        Ok(Pumped::More(pause))
    }

    fn take(&mut self, bytes: &[u8]) {
        let Some(cut) = &mut self.cut else {
            self.end += bytes.len() as u64;
            self.mark_time();
            self.look_at_room();
            self.keep(bytes);
            return;
        };
        let room = usize::try_from(cut.limit.saturating_sub(self.end))
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        // A full file system ends a log that is cut, not the job.
        let _ = self.files.append(&bytes[..room]);
        let kept = self.files.end() - self.end;
        self.end += kept;
        cut.dropped += bytes.len() as u64 - kept;
        if kept < room as u64 {
            cut.limit = self.end;
        }
    }

    /// Before the bytes are written: whoever finds them there finds their time, too.
    fn mark_time(&mut self) {
        if let Some(Times { marks, clock }) = &mut self.times {
            // On a full file system times are less precise.
            let _ = marks.mark([TimeMark { offset: self.end, time: clock() }]);
        }
    }

    fn look_at_room(&mut self) {
        let end = self.end;
        let Some(shared) = self.shared.as_mut().filter(|shared| end >= shared.look_at) else {
            return;
        };
        shared.look_at = end + LOOK_BYTES;
        if let Some(share) = shared.room.share_bytes() {
            self.files.set_limits(Limits::of(share.min(shared.limit)));
        }
    }

    /// Keeps the last bytes of a log that is not cut. Where the file system is full the tail
    /// becomes shorter; what cannot be kept even so becomes a part of the gap.
    fn keep(&mut self, bytes: &[u8]) {
        let begin = self.end - bytes.len() as u64;
        if self.files.end() < begin && self.files.skip_to(begin).is_err() {
            return;
        }
        while let Some(rest) =
            usize::try_from(self.files.end() - begin).ok().and_then(|at| bytes.get(at..))
        {
            match self.files.append(rest) {
                Err(error) if is_full(&error) && self.files.drop_oldest() => {}
                _ => return,
            }
        }
    }

    /// Adds a line of our own.
    pub fn say(&mut self, line: &str) {
        let line = format!("bedplate: {line}\n");
        if let Some(cut) = &mut self.cut {
            // It is no part of what is limited.
            cut.limit = cut.limit.saturating_add(line.len() as u64);
            let dropped = cut.dropped;
            self.take(line.as_bytes());
            self.cut.as_mut().into_iter().for_each(|cut| cut.dropped = dropped);
        } else {
            self.take(line.as_bytes());
        }
    }

    /// Puts all on disk. Returns where the log ends.
    pub fn finish(mut self) -> u64 {
        if let Some(dropped) =
            self.cut.as_ref().map(|cut| cut.dropped).filter(|dropped| *dropped > 0)
        {
            self.say(&format!("{dropped} bytes more were written and are not kept"));
        }
        // The end of what is left out. Where not even that can be written, the agent tells it.
        let _ = self.files.skip_to(self.end);
        // What cannot be synced can still be read while the node runs.
        let _ = self.files.sync();
        self.end
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, path::Path};

    use log_files::{Limits, LogLocation, extent};

    use super::*;
    use crate::run_directory::LOG;

    fn files(directory: &Path, limits: Limits) -> Writer {
        Writer::open(LogLocation::of(&directory.join(LOG)).unwrap(), limits).unwrap()
    }

    fn pipe() -> (File, File) {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        (reader.into(), writer.into())
    }

    #[test]
    fn a_log_that_is_cut_ends_at_its_limit_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::cut_at(files(directory.path(), Limits::NONE), 10);
        log.take(b"12345678");
        log.say("hello");
        log.take(b"90ab");
        log.take(b"cd");
        let length = log.finish();
        let text = std::fs::read_to_string(directory.path().join(LOG)).unwrap();
        assert_eq!(
            text,
            "12345678bedplate: hello\n90bedplate: 4 bytes more were written and are not kept\n"
        );
        assert_eq!(length, text.len() as u64);
    }

    #[test]
    fn a_long_log_keeps_its_end_and_nothing_is_added_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::new(files(directory.path(), Limits::of(1 << 10)));
        let whole: Vec<u8> =
            (0..100_000_u32).flat_map(|line| format!("line {line}\n").into_bytes()).collect();
        whole.chunks(1_000).for_each(|chunk| log.take(chunk));
        log.say("ended: not done within 9 s");
        let end = log.finish();
        let line = b"bedplate: ended: not done within 9 s\n";
        assert_eq!(end, (whole.len() + line.len()) as u64);
        let path = directory.path().join(LOG);
        let gap = log_files::extent(&path).unwrap().gap().unwrap();
        let mut tail = Vec::new();
        while gap.to + (tail.len() as u64) < end {
            tail.extend(log_files::read(&path, gap.to + tail.len() as u64, 1 << 20).unwrap().bytes);
        }
        assert!(tail.ends_with(line) && tail.len() >= 448);
        let of_job = &tail[..tail.len() - line.len()];
        assert!(whole.ends_with(of_job));
        assert_eq!(std::fs::read(path).unwrap(), whole[..512]);
    }

    #[test]
    fn a_pipe_is_emptied_without_waiting() {
        let (mut reader, mut writer) = pipe();
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::new(files(directory.path(), Limits::of(100)));
        let more = Pumped::More(Duration::ZERO);
        assert_eq!(log.pump(&mut reader).unwrap(), more);
        writer.write_all(b"one").unwrap();
        assert_eq!(log.pump(&mut reader).unwrap(), more);
        writer.write_all(b" two").unwrap();
        drop(writer);
        assert_eq!(log.pump(&mut reader).unwrap(), Pumped::Ended);
        assert_eq!(log.finish(), 7);
        assert_eq!(std::fs::read_to_string(directory.path().join(LOG)).unwrap(), "one two");
    }

    #[test]
    fn it_is_known_when_a_log_was_written() {
        use std::sync::atomic::{AtomicI64, Ordering};

        static NOW: AtomicI64 = AtomicI64::new(0);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(LOG);
        let marks = TimesWriter::open(LogLocation::of(&path).unwrap()).unwrap();
        let log = Log::new(files(directory.path(), Limits::of(64)));
        let mut log = log.timed(marks, || Timestamp(NOW.load(Ordering::Relaxed)));
        let (mut reader, mut writer) = pipe();
        for minute in 1..=30 {
            NOW.store(minute * 60_000_000, Ordering::Relaxed);
            writeln!(writer, "minute {minute:02}").unwrap();
            log.pump(&mut reader).unwrap();
        }
        NOW.store(31 * 60_000_000, Ordering::Relaxed);
        log.say("ended");
        let end = log.finish();
        let since =
            |minute: i64| log_files::since(&path, Timestamp(minute * 60_000_000), true).unwrap();
        assert_eq!(
            [0, 1, 2, 30, 31].map(since),
            [Some(0), Some(10), Some(20), Some(300), Some(end)]
        );
        assert_eq!(end, 300 + 16);
        let gap = extent(&path).unwrap().gap().unwrap();
        assert!(gap.past(200) > 200, "{gap}");
        assert_eq!(since(20), Some(200), "it is left out, and that is told from there on");
    }

    /// Whoever pumps comes back to its other events, and what is flooded with is bounded.
    #[test]
    fn a_flood_does_not_keep_the_pump_from_other_work() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::empty()).unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let (mut reader, mut writer) = (File::from(reader), File::from(writer));
        let flood = std::thread::spawn(move || {
            let bytes = vec![b'x'; 1 << 20];
            while writer.write_all(&bytes).is_ok() {}
        });
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::new(files(directory.path(), Limits::of(1 << 20)));
        let mut turns = 0;
        while turns < 20 {
            let Pumped::More(pause) = log.pump(&mut reader).unwrap() else {
                panic!("it has ended")
            };
            turns += u32::from(!pause.is_zero());
        }
        drop(reader);
        flood.join().unwrap();
        let end = log.finish();
        assert!(end >= 20 << 20, "{end}");
        let kept = log_files::extent(&directory.path().join(LOG)).unwrap().bytes_from(0);
        assert!(kept <= 1 << 20, "{kept}");
    }

    /// Logs of a node whose kernel counts what they have.
    struct Node(tempfile::TempDir);

    impl Node {
        const BUDGET: u64 = 64 << 20;

        /// A log that may have half of the budget, if it is alone.
        fn log(&self, name: &str) -> Log {
            std::fs::create_dir(self.0.path().join(name)).unwrap();
            let room = LogRoom::of_test(self.0.path(), Self::BUDGET);
            let limit = Self::BUDGET / 2;
            Log::new(files(&self.0.path().join(name), Limits::of(limit))).sharing(room, limit)
        }

        fn kept(&self, name: &str) -> u64 {
            extent(&self.0.path().join(name).join(LOG)).unwrap().bytes_from(0)
        }

        /// So many logs write as much each, in turns. What they have of it.
        fn write(&self, names: &[String], mib: u64) -> Vec<u64> {
            let mut logs: Vec<Log> = names.iter().map(|name| self.log(name)).collect();
            let bytes = vec![b'x'; 256 << 10];
            for _ in 0..mib * 4 {
                logs.iter_mut().for_each(|log| log.take(&bytes));
                self.count();
            }
            logs.iter_mut().for_each(|log| log.take(b"last words"));
            names.iter().map(|name| self.kept(name)).collect()
        }

        /// Does the kernel's part.
        fn count(&self) -> u64 {
            let directories = self.0.path().read_dir().unwrap().map(|entry| entry.unwrap());
            let names = directories.filter(|entry| entry.file_type().unwrap().is_dir());
            let kept: Vec<u64> =
                names.map(|entry| self.kept(entry.file_name().to_str().unwrap())).collect();
            let used: u64 = kept.iter().sum();
            // Between two looks each may grow a little more.
            assert!(used <= Self::BUDGET + LOOK_BYTES * kept.len() as u64, "{kept:?}");
            std::fs::write(self.0.path().join("memory.stat"), format!("shmem {used}\n")).unwrap();
            used
        }
    }

    #[test]
    fn many_logs_have_their_shares_of_one_budget() {
        let node = Node(tempfile::tempdir().unwrap());
        let mib = |bytes: u64| bytes >> 20;
        // A quarter of what it leaves: 64 / 5.
        let alone = node.write(&["alone".to_owned()], 20);
        assert!((11..=14).contains(&mib(alone[0])), "{alone:?}");
        let names: Vec<String> = (0..12).map(|number| format!("log-{number}")).collect();
        let kept = node.write(&names, 20);
        let (least, most) = (kept.iter().min().unwrap(), kept.iter().max().unwrap());
        assert!(mib(*least) >= 2 && most - least <= LOOK_BYTES, "{kept:?}");
        assert!((40..=64).contains(&mib(node.count())), "{kept:?}");
        // Who comes late has a share, too, and its end.
        let late = node.write(&["late".to_owned()], 20);
        assert!(mib(late[0]) >= 1, "{late:?}");
        let path = node.0.path().join("late/log");
        let end = extent(&path).unwrap().end();
        assert_eq!(end, (20 << 20) + 10);
        let mut words = Vec::new();
        while words.len() < 10 {
            words.extend(log_files::read(&path, end - 10 + words.len() as u64, 10).unwrap().bytes);
        }
        assert_eq!(words, b"last words");
        // The server has taken the others.
        names.iter().for_each(|name| std::fs::remove_dir_all(node.0.path().join(name)).unwrap());
        node.count();
        let again = node.write(&["again".to_owned()], 20);
        assert!(mib(again[0]) >= 8, "{again:?}");
    }
}
