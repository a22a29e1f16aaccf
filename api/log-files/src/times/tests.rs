//! Marks against a model that remembers when each byte was written.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::{Limits, Writer};

fn mark(offset: u64, micros: i64) -> TimeMark {
    TimeMark { offset, time: Timestamp(micros) }
}

/// A log that remembers every write.
#[derive(Debug, Default)]
struct Model {
    marks: Marks,
    /// Where each write ended, and when it was.
    writes: Vec<(u64, i64)>,
}

impl Model {
    fn write(&mut self, length: u64, micros: i64) {
        let end = self.end() + length;
        self.writes.push((end, micros));
        self.marks.push(mark(end, micros));
    }

    fn end(&self) -> u64 {
        self.writes.last().map_or(0, |write| write.0)
    }

    /// What is answered from a time on has all that was written later, and of the rest only what
    /// was written within one interval before.
    fn hold<const N: usize>(&self, times: [i64; N]) {
        for time in times {
            let from = self.marks.since(Timestamp(time)).unwrap();
            let mut begin = 0;
            for &(end, at) in &self.writes {
                assert!(
                    at <= time || begin >= from,
                    "what was written at {at} is left out from {time} on"
                );
                let is_recent = time.saturating_sub(at) < self.marks.interval;
                assert!(at > time || end <= from || is_recent, "{at} is long before {time}");
                begin = end;
            }
        }
    }
}

/// Pauses between writes: bursts, lines, and hours of silence.
fn pause() -> impl Strategy<Value = i64> {
    prop_oneof![0_i64..3_000, 100_000_i64..3_000_000, 1_000_000_000_i64..20_000_000_000]
}

proptest! {
    #[test]
    fn no_later_line_is_left_out_and_no_line_of_long_before_is_told(
        rounds in proptest::collection::vec((1_usize..500, pause(), 1_u64..9_000), 1..14),
        asked in proptest::collection::vec(any::<prop::sample::Index>(), 40),
    ) {
        let (mut model, mut now) = (Model::default(), 1_795_464_000_000_000);
        for (count, pause, length) in rounds {
            for _ in 0..count {
                now += pause;
                model.write(length, now);
                prop_assert!(model.marks.marks.len() <= MAX_MARKS);
            }
        }
        let again = Marks::read(&model.marks.bytes());
        prop_assert_eq!(&again, &model.marks);
        for asked in asked {
            let (_, at) = model.writes[asked.index(model.writes.len())];
            model.hold([at - 1, at, at + 1, at + 900_000]);
        }
        model.hold([i64::MIN, 0, i64::MAX]);
    }

    /// A file of which anything is lost or torn has marks that were written, in their order.
    #[test]
    fn what_is_left_of_a_torn_file_is_true(
        times in proptest::collection::vec(0_i64..5_000_000, 1..60),
        wrong in proptest::collection::vec((any::<prop::sample::Index>(), 1_u8..), 0..8),
        zeros in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let (mut marks, mut now) = (Marks::default(), 1_795_464_000_000_000);
        for (offset, pause) in (1..).zip(times) {
            now += pause;
            marks.push(mark(offset, now));
        }
        let whole = marks.bytes();
        let mut changed = whole.clone();
        for (place, flip) in wrong {
            // One of each record: two that hide each other are no accident.
            let place = place.index(whole.len()) / RECORD * RECORD;
            changed[place] = whole[place] ^ flip;
        }
        let mut zeroed = whole.clone();
        let zeros = zeros.index(whole.len());
        let length = (whole.len() - zeros).min(4 * RECORD);
        zeroed[zeros..zeros + length].fill(0);
        let cut = &whole[..cut.index(whole.len())];
        for bytes in [changed.as_slice(), &zeroed, cut] {
            let read = Marks::read(bytes);
            prop_assert!(read.marks.iter().all(|mark| marks.marks.contains(mark)), "{:?}", read);
            prop_assert!(read.marks.is_sorted_by(|one, next| one.offset < next.offset));
        }
    }
}

#[test]
fn the_longer_a_log_is_written_the_further_apart_are_its_marks() {
    let mut model = Model::default();
    let second = |count: i64| count * 1_000_000;
    (0..1024).for_each(|count| model.write(10, second(count)));
    assert_eq!((model.marks.marks.len(), model.marks.interval), (1024, second(1)));
    model.write(10, second(1024));
    assert_eq!((model.marks.marks.len(), model.marks.interval), (343, second(4)));
    let first = [mark(10, 0), mark(40, second(3)), mark(70, second(6)), mark(100, second(9))];
    assert_eq!(model.marks.marks[..4], first);
    (1025..200_000).for_each(|count| model.write(10, second(count)));
    assert_eq!(model.marks.interval, second(256), "some two days");
    model.hold([0, 1, 500, 100_000, 199_999].map(second));
}

#[test]
fn a_burst_of_long_ago_is_not_told_again_when_the_log_was_quiet_since() {
    let mut marks = Marks::default();
    for (offset, micros) in [(1, 0), (2, 100), (3, 900_000), (4, 7_200_000_000)] {
        marks.push(mark(offset, micros));
    }
    let since = |micros| marks.since(Timestamp(micros)).unwrap();
    assert_eq!(
        [-1, 0, 899_999, 900_000, 3_600_000_000, 7_200_000_000].map(since),
        [0, 1, 1, 3, 3, 4]
    );
    assert_eq!(Marks::default().since(Timestamp(0)), None);
}

#[test]
fn a_clock_that_is_set_back_is_believed_and_what_it_said_before_is_not() {
    let mut marks = Marks::default();
    let year = 31_536_000_000_000;
    for (offset, micros) in [(10, 5), (20, year), (30, year + 2_000_000)] {
        marks.push(mark(offset, micros));
    }
    assert_eq!(marks.push(mark(40, 3_000_000)), Changed::All);
    assert_eq!(marks.marks, [mark(10, 5), mark(40, 3_000_000)]);
    assert_eq!(marks.push(mark(40, 9_000_000)), Changed::Nothing, "what is sent again");
    assert_eq!(marks.push(mark(35, 9_000_000)), Changed::Nothing);
}

struct Rig(tempfile::TempDir);

impl Rig {
    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("log")
    }

    fn times(&self) -> TimesWriter {
        TimesWriter::open(LogLocation::of(&self.path()).unwrap()).unwrap()
    }

    fn log(&self, limit: u64) -> Writer {
        Writer::open(LogLocation::of(&self.path()).unwrap(), Limits::of(limit)).unwrap()
    }

    fn since(&self, micros: i64, is_over: bool) -> Option<u64> {
        since(&self.path(), Timestamp(micros), is_over).unwrap()
    }
}

#[test]
fn marks_that_come_together_are_written_as_those_that_come_one_by_one() {
    let (rig, mut model) = (Rig(tempfile::tempdir().unwrap()), Marks::default());
    let set_back = |number: i64| if number > 2_000 { 300_000_000 } else { 0 };
    let time = |number: i64| number * 700_000 - set_back(number);
    let marks: Vec<TimeMark> =
        (1..4_000_i64).map(|number| mark(number.cast_unsigned(), time(number))).collect();
    for (taken, some) in marks.chunks(7).enumerate() {
        let again = &marks[(taken * 7).saturating_sub(2)..taken * 7];
        rig.times().mark(again.iter().chain(some).copied()).unwrap();
        for mark in some {
            model.push(*mark);
        }
        assert_eq!(rig.times().marks, model);
    }
    assert!(model.interval > LEAST_INTERVAL, "none were dropped");
}

#[test]
fn marks_are_in_a_file_of_a_bounded_size_and_whoever_goes_on_finds_them() {
    let rig = Rig(tempfile::tempdir().unwrap());
    assert_eq!(time_marks(&rig.path()).unwrap(), []);
    assert_eq!(time_marks(&rig.0.path().join("none/log")).unwrap(), []);
    let mut times = rig.times();
    for count in 1..5_000_u64 {
        if count % 700 == 0 {
            times = rig.times();
        }
        times.mark([mark(count, count.cast_signed() * 700_000)]).unwrap();
        if count % 500 == 0 {
            assert_eq!(time_marks(&rig.path()).unwrap(), times.marks.marks, "{count}");
        }
    }
    // Set back by half of it.
    times.mark([mark(5_000, 2_000_000_000)]).unwrap();
    assert_eq!(time_marks(&rig.path()).unwrap(), times.marks.marks);
    times.mark([mark(5_001, 2_900_000_000)]).unwrap();
    assert_eq!(rig.times().marks, times.marks);
    let names = fs::read_dir(rig.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["log.times"], "and no draft is left");
    assert!(fs::metadata(rig.0.path().join("log.times")).unwrap().len() <= MAX_BYTES);
}

#[test]
fn an_answer_begins_with_a_whole_line() {
    let rig = Rig(tempfile::tempdir().unwrap());
    let (mut log, mut times) = (rig.log(1 << 20), rig.times());
    assert_eq!(rig.since(0, false), Some(0), "nothing was written before, and that is known");
    let mut write = |bytes: &[u8], seconds: i64| {
        log.append(bytes).unwrap();
        times.mark([mark(log.end(), seconds * 1_000_000)]).unwrap();
    };
    write(b"one\ntw", 10);
    write(b"o\nthree\n", 20);
    write(b"fo", 30);
    write(b"ur", 40);
    let since = |seconds: i64, is_over| rig.since(seconds * 1_000_000, is_over).unwrap();
    let open = [0, 9, 10, 19, 20, 29, 30, 99].map(|seconds| since(seconds, false));
    assert_eq!(open, [0, 0, 4, 4, 14, 14, 14, 14], "the last line goes on");
    assert_eq!([30, 39, 40, 99].map(|seconds| since(seconds, true)), [14, 14, 18, 18]);
    fs::remove_file(rig.0.path().join("log.times")).unwrap();
    assert_eq!(rig.since(0, false), None);
    assert_eq!(super::since(&rig.0.path().join("none/log"), Timestamp(5), true).unwrap(), Some(0));
}

#[test]
fn what_is_left_out_is_not_gone_through_for_a_line() {
    let rig = Rig(tempfile::tempdir().unwrap());
    let (mut log, mut times) = (rig.log(1 << 10), rig.times());
    // Lines of 10 bytes, one each second: the head has 512 bytes, and segments of the tail 64.
    for count in 1..=1_000 {
        log.append(b"123456789\n").unwrap();
        times.mark([mark(log.end(), count * 1_000_000)]).unwrap();
    }
    let gap = extent(&rig.path()).unwrap().gap().unwrap();
    assert!(gap.from == 512 && !gap.to.is_multiple_of(10), "{gap}");
    let since = |offset: u64| rig.since(offset.cast_signed() / 10 * 1_000_000, false).unwrap();
    assert_eq!(since(500), 500);
    assert_eq!([520, 5_000].map(since), [520, 5_000], "in the gap, which is told from there on");
    let first = gap.to.next_multiple_of(10);
    assert_eq!([first, 9_990].map(since), [first, 9_990]);
    // The first line that is kept of the tail has no beginning.
    assert_eq!(line_begin(&rig.path(), first - 1).unwrap(), gap.to);
    // One without an end is not gone through for ever.
    let rig = Rig(tempfile::tempdir().unwrap());
    let mut log = rig.log(8 << 20);
    log.append(&vec![b'x'; 3 << 20]).unwrap();
    let begin = |offset| line_begin(&rig.path(), offset).unwrap();
    assert_eq!(
        [0, 1, 1 << 20, (1 << 20) + 1, 3 << 20].map(begin),
        [0, 0, 0, (1 << 20) + 1, 3 << 20]
    );
}
