//! Logs against a model that remembers everything.

use std::{fs, path::PathBuf};

use proptest::prelude::*;

use super::*;

const LIMIT: u64 = 1 << 10;

struct Rig {
    directory: tempfile::TempDir,
    whole: Vec<u8>,
}

impl Rig {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), whole: Vec::new() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn writer(&self, limit: u64) -> Writer {
        Writer::open(LogLocation::of(&self.path()).unwrap(), Limits::of(limit)).unwrap()
    }

    fn next(&self, count: usize) -> Vec<u8> {
        let from = self.whole.len();
        (from..from + count).map(|place| u8::try_from(place * 7 % 251).unwrap()).collect()
    }

    fn write(&mut self, writer: &mut Writer, count: usize) {
        let bytes = self.next(count);
        writer.append(&bytes).unwrap();
        self.whole.extend(bytes);
    }

    /// Bytes in files.
    fn on_disk(&self) -> u64 {
        let tail = fs::read_dir(self.directory.path().join("log.tail")).into_iter().flatten();
        let files = tail.map(|entry| entry.unwrap().path()).chain([self.path()]);
        files.map(|file| fs::metadata(file).unwrap().len()).sum()
    }

    /// Reads all, in pieces; each is what was written there. The bytes that are missing.
    fn read_all(&self, most: usize) -> Vec<LogGap> {
        let (mut offset, mut gaps) = (0, Vec::new());
        loop {
            let Piece { from, bytes } = read(&self.path(), offset, most).unwrap();
            if from > offset {
                gaps.push(LogGap { from: offset, to: from });
            }
            let place = usize::try_from(from).unwrap();
            assert_eq!(bytes, self.whole[place..place + bytes.len()], "at {from}");
            offset = from + bytes.len() as u64;
            if bytes.is_empty() {
                assert_eq!(offset, self.whole.len() as u64);
                return gaps;
            }
        }
    }
}

#[test]
fn a_log_within_its_limit_is_whole_and_one_past_it_keeps_both_ends() {
    let mut rig = Rig::new();
    let mut writer = rig.writer(LIMIT);
    rig.write(&mut writer, 500);
    assert!(!writer.is_past_head() && !rig.directory.path().join("log.tail").exists());
    rig.write(&mut writer, 524);
    assert_eq!((rig.read_all(100), extent(&rig.path()).unwrap().gap()), (vec![], None));
    rig.write(&mut writer, 1);
    let gap = LogGap { from: 512, to: 576 };
    assert_eq!(rig.read_all(100), [gap]);
    rig.write(&mut writer, 1 << 20);
    let extent = extent(&rig.path()).unwrap();
    let gap = extent.gap().unwrap();
    assert_eq!((gap.from, extent.end()), (512, rig.whole.len() as u64));
    assert!(extent.end() - gap.to >= 448, "{extent:?}");
    assert!(rig.on_disk() <= LIMIT);
    let kept = extent.end() - gap.to;
    for (offset, left) in
        [(0, 512 + kept), (500, 12 + kept), (512, kept), (gap.to - 1, kept), (gap.to + 1, kept - 1)]
    {
        assert_eq!(extent.bytes_from(offset), left, "{offset}");
    }
    assert_eq!(extent.bytes_from(u64::MAX), 0);
    assert_eq!(
        read(&rig.path(), u64::MAX, 10).unwrap(),
        Piece { from: u64::MAX, bytes: Vec::new() }
    );
}

#[test]
fn what_a_crash_tore_off_is_left_out_and_cleared_away() {
    let mut rig = Rig::new();
    let mut writer = rig.writer(LIMIT);
    rig.write(&mut writer, 900);
    drop(writer);
    let tail = rig.directory.path().join("log.tail");
    let torn = fs::File::options().write(true).open(tail.join(segment_name(640))).unwrap();
    torn.set_len(3).unwrap();
    assert_eq!(rig.read_all(1000), [LogGap { from: 512, to: 704 }]);
    let mut writer = rig.writer(LIMIT);
    assert_eq!(fs::read_dir(&tail).unwrap().count(), 4);
    rig.write(&mut writer, 10);
    assert_eq!(rig.read_all(1000), [LogGap { from: 512, to: 704 }]);
    assert_eq!(extent(&rig.directory.path().join("none/log")).unwrap(), Extent::default());
}

#[test]
fn a_tail_may_be_empty_and_begin_anywhere() {
    let mut rig = Rig::new();
    let mut writer = rig.writer(LIMIT);
    rig.write(&mut writer, 10);
    writer.skip_to(u64::MAX - 5).unwrap();
    assert_eq!(extent(&rig.path()).unwrap().gap(), Some(LogGap { from: 10, to: u64::MAX - 5 }));
    writer.append(b"end").unwrap();
    drop(writer);
    let writer = rig.writer(LIMIT);
    assert_eq!(writer.end(), u64::MAX - 2);
    assert_eq!(
        read(&rig.path(), 10, 100).unwrap(),
        Piece { from: u64::MAX - 5, bytes: b"end".to_vec() }
    );
    assert_eq!(rig.on_disk(), 13);
}

#[test]
fn a_log_becomes_shorter_and_longer_with_its_limits() {
    let mut rig = Rig::new();
    let mut writer = rig.writer(LIMIT);
    rig.write(&mut writer, 10_000);
    let of_tail = |rig: &Rig| rig.on_disk() - 512;
    assert!((448..=512).contains(&of_tail(&rig)));
    writer.set_limits(Limits::of(LIMIT / 4));
    assert!(of_tail(&rig) <= 128, "at once");
    rig.write(&mut writer, 1_000);
    assert!((112..=128).contains(&of_tail(&rig)));
    assert_eq!(rig.read_all(100).len(), 1);
    writer.set_limits(Limits::of(4 * LIMIT));
    rig.write(&mut writer, 10_000);
    assert!((1_792..=2_048).contains(&of_tail(&rig)), "the head stays as it is");
    assert_eq!(rig.read_all(100).len(), 1);
    // A head that is not full is, from now on.
    let mut rig = Rig::new();
    let mut writer = rig.writer(LIMIT);
    rig.write(&mut writer, 500);
    writer.set_limits(Limits::of(LIMIT / 2));
    rig.write(&mut writer, 200);
    assert_eq!(rig.read_all(100), [], "the tail takes it");
}

proptest! {
    /// Whatever is written, left out and interrupted, and however limits change: what is read is
    /// what was written there, there is one gap at most, and the files are bounded.
    #[test]
    fn what_is_read_was_written(
        steps in proptest::collection::vec((1_usize..400, 0_u8..9), 1..60),
        limit in 16_u64..2_000,
    ) {
        let mut rig = Rig::new();
        let (mut limit, mut most) = (limit, limit);
        let mut writer = rig.writer(limit);
        for (count, what) in steps {
            match what {
                8 => {
                    limit = 16 + 5 * count as u64;
                    most = most.max(limit);
                    writer.set_limits(Limits::of(limit));
                }
                0 => {
                    let lost = rig.next(count);
                    rig.whole.extend(lost);
                    writer.skip_to(rig.whole.len() as u64).unwrap();
                }
                1 => writer = rig.writer(limit),
                _ => rig.write(&mut writer, count),
            }
            prop_assert_eq!(writer.end(), rig.whole.len() as u64);
            prop_assert!(rig.on_disk() <= most);
            prop_assert!(rig.read_all(97).len() <= 1);
        }
    }
}

#[test]
fn who_reads_too_slowly_is_not_told_that_the_log_is_over() {
    let mut looks = 0;
    let read = retry_while_deleting::<Piece>(|| {
        looks += 1;
        Ok(None)
    });
    let nothing = || Piece { from: 0, bytes: Vec::new() };
    assert_eq!(or_absent(read, nothing).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    assert_eq!(looks, LOOKS);
}

/// What [`last_lines`] is to find, over all that is kept.
fn last_lines_of(kept: &[(u64, u8)], end: u64, lines: u64) -> u64 {
    let newlines = kept.iter().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset + 1);
    let begins: Vec<u64> = newlines.filter(|begin| *begin < end).collect();
    match usize::try_from(lines).unwrap() {
        0 => end,
        lines => begins.len().checked_sub(lines).map_or(0, |index| begins[index]),
    }
}

#[test]
fn the_last_lines_of_a_log() {
    let rig = Rig::new();
    let mut writer = rig.writer(LIMIT);
    let last = |lines| last_lines(&rig.path(), lines).unwrap();
    assert_eq!([last(0), last(3)], [0, 0]);
    writer.append(b"one\ntwo\n").unwrap();
    assert_eq!([last(0), last(1), last(2), last(9)], [8, 4, 0, 0]);
    writer.append(b"three").unwrap();
    assert_eq!([last(0), last(1), last(2), last(3), last(u64::MAX)], [13, 8, 4, 0, 0]);
    writer.append(b"\n\n").unwrap();
    assert_eq!([last(1), last(2)], [14, 8], "an empty line is one");
    assert_eq!(last_lines(&rig.directory.path().join("none/log"), 1).unwrap(), 0);
}

proptest! {
    /// With a gap and without, over blocks and segments.
    #[test]
    fn the_last_lines_are_counted_in_what_is_kept(
        limit in prop_oneof![Just(LIMIT), Just(1 << 20)],
        pieces in prop::collection::vec((1_usize..9_000, 1_usize..300), 0..40),
        lines in 0_u64..2_000,
    ) {
        let rig = Rig::new();
        let mut writer = rig.writer(limit);
        for (length, line) in pieces {
            let bytes: Vec<u8> = (1..=length).map(|at| if at % line == 0 { b'\n' } else { b'x' }).collect();
            writer.append(&bytes).unwrap();
        }
        let (mut kept, mut offset) = (Vec::new(), 0);
        loop {
            let Piece { from, bytes } = read(&rig.path(), offset, 1 << 16).unwrap();
            if bytes.is_empty() {
                break;
            }
            offset = from + bytes.len() as u64;
            kept.extend((from..).zip(bytes));
        }
        let found = last_lines(&rig.path(), lines).unwrap();
        prop_assert_eq!(found, last_lines_of(&kept, offset, lines));
    }
}
