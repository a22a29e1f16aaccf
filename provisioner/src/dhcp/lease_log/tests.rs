//! Records in, file out, and back, however the file was cut, damaged, refused or left.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use expect_test::expect;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::*;

const NOW: Timestamp = Timestamp(1_795_464_000_000_000);

fn lease(last: u8, mac: u32, seconds: u32) -> LeaseRecord {
    let [a, b, c, d] = mac.to_be_bytes();
    LeaseRecord::Leased {
        address: Ipv4Addr::new(10, 98, 0, last),
        mac: MacAddr([0x52, 0x54, a, b, c, d]),
        seconds,
    }
}

fn open(directory: &Path) -> (LeaseLog, Restored) {
    LeaseLog::open(directory, NOW).unwrap()
}

/// Three batches: of one record, two and one.
fn batches() -> [Vec<LeaseRecord>; 3] {
    [
        vec![lease(1, 1, 3600)],
        vec![
            LeaseRecord::Unusable { address: Ipv4Addr::new(10, 98, 0, 9), seconds: 600 },
            lease(2, 2, 3600),
        ],
        vec![LeaseRecord::Free { address: Ipv4Addr::new(10, 98, 0, 1) }],
    ]
}

/// A directory with a log of [`batches`], and its text.
fn written() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, restored) = open(directory.path());
    assert_eq!(restored, Restored::default());
    for batch in batches() {
        log.append(&batch, Vec::new, NOW).unwrap();
    }
    let text = fs::read_to_string(directory.path().join(FILE_NAME)).unwrap();
    (directory, text)
}

/// Where a line of a text begins, from 1.
fn start_of_line(text: &str, line: usize) -> usize {
    text.split_inclusive('\n').take(line - 1).map(str::len).sum()
}

/// Opens a log of this text.
fn read(text: &[u8]) -> Result<(tempfile::TempDir, LeaseLog, Restored), LeaseLogError> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(FILE_NAME), text).unwrap();
    let (log, restored) = LeaseLog::open(directory.path(), NOW)?;
    Ok((directory, log, restored))
}

#[test]
fn a_log_reads_as_it_was_written() {
    let (directory, text) = written();
    expect![[r#"
        bedplate dhcp leases 1
        34d40a14 1 0 lease 10.98.0.1 52:54:00:00:00:01 1795464000 3600
        de2cb70e 2 1 unusable 10.98.0.9 1795464000 600
        22b4c09b 2 0 lease 10.98.0.2 52:54:00:00:00:02 1795464000 3600
        0048392f 3 0 free 10.98.0.1 1795464000
    "#]]
    .assert_eq(&text);
    let (_, restored) = open(directory.path());
    assert_eq!(restored, Restored { records: batches().concat(), found: true, cut: 0 });
}

#[test]
fn a_torn_end_is_cut_off_wherever_it_is_torn() {
    let (_directory, text) = written();
    let all = batches().concat();
    for length in 0..=text.len() {
        let kept = &text[..length];
        let (directory, mut log, restored) = read(kept.as_bytes()).unwrap();
        let whole = kept.matches('\n').count().saturating_sub(1);
        let end = kept.rfind('\n').map_or(0, |at| at + 1);
        assert_eq!(restored.records, all[..whole], "{length} bytes");
        assert_eq!(
            restored.cut,
            u64::try_from(length - end).unwrap() * u64::from(end > 0),
            "{length} bytes"
        );
        assert_eq!(restored.found, end > 0, "{length} bytes");
        // What is written next is read again, with what was there.
        log.append(&[lease(7, 7, 60)], || restored.records.clone(), NOW).unwrap();
        let (_, again) = open(directory.path());
        assert_eq!(again.records, [&all[..whole], &[lease(7, 7, 60)]].concat(), "{length} bytes");
        assert_eq!((again.cut, again.found), (0, true));
    }
}

#[test]
fn a_hole_in_the_last_batch_is_a_torn_end() {
    let (_directory, text) = written();
    let mut bytes = text.as_bytes()[..start_of_line(&text, 5)].to_vec();
    let batch = batch_text(3, &[lease(3, 3, 60), lease(4, 4, 60), lease(5, 5, 60)], NOW);
    let hole = bytes.len()..bytes.len() + batch.find("lease").unwrap();
    bytes.extend(batch.as_bytes());
    // Of a page that was never written the disk has zeros.
    bytes[hole].fill(0);
    let (_, _, restored) = read(&bytes).unwrap();
    assert_eq!(restored.records[3..], [lease(4, 4, 60), lease(5, 5, 60)]);
    assert!(restored.cut > 0);
}

#[test]
fn damage_in_the_middle_is_an_error_that_says_where() {
    let (_directory, text) = written();
    let header = HEADER.len();
    let last_batch = start_of_line(&text, 5);
    for place in 0..last_batch - 1 {
        let mut bytes = text.clone().into_bytes();
        bytes[place] ^= 1;
        let error = read(&bytes).expect_err(&format!("byte {place} is damaged"));
        let line = text[..place].matches('\n').count() + 1;
        match error {
            LeaseLogError::Version { .. } => assert!(place < header, "byte {place}"),
            // A damaged end of a line damages the next one, too.
            LeaseLogError::Damaged { line: named, .. } => assert_eq!(named, line, "byte {place}"),
            other @ LeaseLogError::File { .. } => panic!("{other}"),
        }
    }
    let mut bytes = text.into_bytes();
    bytes[header + 20] ^= 1;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    fs::write(&path, &bytes).unwrap();
    let message = LeaseLog::open(directory.path(), NOW).unwrap_err().to_string();
    expect![[r#"
        the log of DHCP leases, FILE, is damaged in line 2 (at byte 23), and whole records follow: the disk has lost what it was given. To go on without this one record: sed -i 2d FILE. To go on without all: move the file away (addresses are then probed before they are given)"#]]
    .assert_eq(&message.replace(&path.display().to_string(), "FILE"));
    assert_eq!(fs::read(&path).unwrap(), bytes, "an error changes nothing");
    // As the message says.
    let mended: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    fs::write(&path, [&mended[..1], &mended[2..]].concat().concat()).unwrap();
    assert_eq!(open(directory.path()).1.records, batches().concat()[1..]);
}

#[test]
fn clocks_may_be_wrong_at_any_start() {
    let (directory, _) = written();
    let seconds = |passed: i64| {
        let (_, restored) = LeaseLog::open(directory.path(), NOW.plus_seconds(passed)).unwrap();
        match restored.records[0] {
            LeaseRecord::Leased { seconds, .. } => seconds,
            ref other => panic!("{other:?}"),
        }
    };
    let years = 10 * 365 * 86_400;
    assert_eq!(seconds(0), 3600);
    assert_eq!(seconds(1000), 2600);
    assert_eq!(seconds(3600), 0);
    assert_eq!(seconds(years), 0, "ahead: it counts as expired");
    assert_eq!(seconds(-years), 3600, "set back: no longer than it was given for");
}

#[test]
fn what_this_release_does_not_know_is_left_out_or_refused() {
    let rest = "2 0 parole 10.98.0.1 1795464000";
    let (_directory, mut text) = written();
    text.truncate(start_of_line(&text, 3));
    writeln!(text, "{:08x} {rest}", checksum(rest.as_bytes())).unwrap();
    let (_, _, restored) = read(text.as_bytes()).unwrap();
    assert_eq!((restored.records.len(), restored.cut), (1, 0));
    for other in ["bedplate dhcp leases 2\n", "#!/bin/sh\n", "\n", "\0\0\0\0"] {
        assert!(matches!(read(other.as_bytes()), Err(LeaseLogError::Version { .. })), "{other:?}");
    }
    // Lines without end, and no text.
    let (_, _, restored) = read(&[HEADER.as_bytes(), &[b'x'; 100_000]].concat()).unwrap();
    assert_eq!((restored.records.len(), restored.cut), (0, 100_000));
}

#[test]
fn a_log_is_rewritten_when_most_of_it_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    let all: Vec<LeaseRecord> = (0..200).map(|last| lease(last, u32::from(last), 3600)).collect();
    let mut longest = 0;
    for _ in 0..100 {
        log.append(&all, || all.clone(), NOW).unwrap();
        longest = longest.max(log.lines);
    }
    assert!(longest <= SUPERSEDED_LINES + 3 * all.len(), "{longest} lines");
    let (again, restored) = open(directory.path());
    assert_eq!((again.lines, again.batch), (log.lines, log.batch));
    assert_eq!(restored.records.len(), log.lines);
    assert_eq!(restored.records[restored.records.len() - 200..], all);
    assert!(!directory.path().join("dhcp-leases.new").exists());
}

#[test]
fn what_a_rewrite_left_beside_is_removed() {
    let (directory, _) = written();
    let left = directory.path().join("dhcp-leases.new");
    fs::write(&left, "bedpl").unwrap();
    assert_eq!(open(directory.path()).1.records.len(), 4);
    assert!(!left.exists());
}

#[test]
fn privileged_a_full_disk_cuts_nothing_and_is_forgotten_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    mount(Some("none"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some("size=64k"))
        .unwrap();
    let outcome = std::panic::catch_unwind(|| {
        let fill = directory.path().join("fill");
        let (mut log, _) = open(directory.path());
        let mut records = Vec::new();
        let batch: Vec<LeaseRecord> = (0..100).map(|last| lease(last, 1, 3600)).collect();
        for round in 0..20 {
            // Every kind of write: the first one of a log, and those that grow it by some pages.
            assert!(fs::write(&fill, vec![0; 1 << 20]).is_err());
            for _ in 0..3 {
                assert!(log.append(&batch, || records.clone(), NOW).is_err(), "round {round}");
            }
            let (_, seen) = open(directory.path());
            assert_eq!((seen.records.len(), seen.cut), (records.len(), 0), "round {round}");
            fs::remove_file(&fill).unwrap();
            let one = lease(200, round, 3600);
            log.append(&[one], || records.clone(), NOW).unwrap();
            records.push(one);
        }
        let (_, seen) = open(directory.path());
        assert_eq!(seen.records, records);
    });
    umount2(directory.path(), MntFlags::MNT_DETACH).unwrap();
    outcome.unwrap();
}

/// Directory of the log that [`write_until_killed`] writes; set for the process that is killed.
const VICTIM_DIRECTORY: &str = "BEDPLATE_LEASE_LOG_VICTIM";

/// Addresses that the victim renews.
const VICTIM_ADDRESSES: u8 = 250;

/// Leases all addresses to MAC address 1, then all to 2, and so on, and prints each number once
/// that is on disk; `rewritten` in between.
#[allow(clippy::print_stdout)]
fn write_until_killed(directory: &Path) {
    let (mut log, _) = open(directory);
    let all = |number| (0..VICTIM_ADDRESSES).map(move |last| lease(last, number, 3600));
    for number in 1.. {
        let before = log.lines;
        let records: Vec<LeaseRecord> = all(number).collect();
        log.append(&records, || all(number - 1).collect(), NOW).unwrap();
        if log.lines < before {
            println!("rewritten");
        }
        println!("{number}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the home of a process that is killed")]
fn a_log_survives_kill_9() {
    // The test starts itself as the process that it kills.
    if let Ok(directory) = std::env::var(VICTIM_DIRECTORY) {
        return write_until_killed(Path::new(&directory));
    }
    let mut rewritten = 0;
    for round in 0..12 {
        let directory = tempfile::tempdir().unwrap();
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "dhcp::lease_log::tests::a_log_survives_kill_9", "--nocapture"])
            .env(VICTIM_DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(victim.stdout.take().unwrap());
        let reader = thread::spawn(move || {
            let mut seen = (0, 0);
            for line in output.lines().map_while(Result::ok) {
                match line.trim().parse::<u32>() {
                    Ok(number) => seen.0 = number,
                    Err(_) => seen.1 += u32::from(line == "rewritten"),
                }
            }
            seen
        });
        thread::sleep(Duration::from_millis(150 + 41 * round));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let (acknowledged, seen_rewritten) = reader.join().unwrap();
        rewritten += seen_rewritten;

        let (_, restored) = open(directory.path());
        let mut last: BTreeMap<Ipv4Addr, MacAddr> = BTreeMap::new();
        for record in restored.records {
            if let LeaseRecord::Leased { address, mac, .. } = record {
                last.insert(address, mac);
            }
        }
        if acknowledged > 0 {
            assert_eq!(last.len(), usize::from(VICTIM_ADDRESSES));
        }
        for mac in last.values() {
            let number = u32::from_be_bytes(*mac.0.last_chunk().unwrap());
            assert!(
                (acknowledged..=acknowledged + 1).contains(&number),
                "{number}, not {acknowledged}"
            );
        }
    }
    assert!(rewritten > 0, "no log was rewritten: nothing was tested");
}
