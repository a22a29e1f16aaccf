//! Trees there and back, and streams that want more than they may.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
};

use expect_test::expect;
use tar::{Builder, EntryType, Header};

use super::*;

fn copy(from: &Path, to: &Path, name: &str) -> Result<Copied, CopyError> {
    let mut stream = Vec::new();
    pack(from, &mut stream)?;
    unpack(stream.as_slice(), &Target::of(to, name)?)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A stream of entries as somebody hostile would write it: kind, name, target or content.
fn stream(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (kind, name, text) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        header.set_mtime(0);
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if is_link {
            header.as_gnu_mut().unwrap().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        let content = if is_link { "" } else { text };
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

const DIRECTORY: (EntryType, &str, &str) = (EntryType::Directory, "copy", "");
const LAST: (EntryType, &str, &str) = (EntryType::Regular, "end", "");

#[test]
fn a_tree_is_the_same_at_the_other_end() {
    let place = tempfile::tempdir().unwrap();
    let from = place.path().join("from");
    let long = "x".repeat(200);
    fs::create_dir_all(from.join("a/closed")).unwrap();
    fs::write(from.join("a/closed/file"), vec![7; 300_000]).unwrap();
    fs::write(from.join(&long), "long").unwrap();
    fs::write(from.join("tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(from.join("tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(from.join("a/closed"), fs::Permissions::from_mode(0o555)).unwrap();
    symlink("../tool", from.join("a/link")).unwrap();
    symlink("/etc/passwd", from.join("out")).unwrap();
    std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
    fs::create_dir(place.path().join("to")).unwrap();

    let copied = copy(&from, &place.path().join("to"), "new").unwrap();
    let to = place.path().join("to/new");
    assert_eq!(fs::read(to.join("a/closed/file")).unwrap(), vec![7; 300_000]);
    assert_eq!(fs::read(to.join(&long)).unwrap(), b"long");
    assert_eq!(fs::read_link(to.join("a/link")).unwrap(), Path::new("../tool"));
    assert_eq!((mode(&to.join("tool")), mode(&to.join("a/closed"))), (0o755, 0o555));
    let time = |path: &Path| fs::metadata(path).unwrap().mtime();
    assert_eq!(time(&to.join("tool")), time(&from.join("tool")));
    assert!(!to.join("out").exists() && !to.join("socket").exists());
    assert_eq!((copied.entries, copied.bytes, copied.left_out_count), (7, 300_014, 1));
    assert_eq!(size_of(&from), 300_014);
    // Once more over what is there.
    copy(&from, &to, "again").unwrap();
    copy(&from.join("tool"), &to.join("tool"), "").unwrap();
    copy(&from.join("a/link"), &place.path().join("followed"), "").unwrap();
    assert_eq!(fs::read(place.path().join("followed")).unwrap(), b"#!/bin/sh\n");
}

#[test]
fn a_copy_goes_where_cp_would_put_it() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    assert_eq!(Target::of(&at("folder"), "x").unwrap().path(), at("folder/x"));
    assert_eq!(Target::of(&at("new"), "x").unwrap().path(), at("new"));
    assert_eq!(Target::of(Path::new("new"), "x").unwrap().path(), Path::new("./new"));
    for (path, name) in [("no/new", "x"), ("new/", "x"), ("folder", ".."), ("folder", "")] {
        assert!(Target::of(&at(path), name).is_err(), "{path}");
    }
}

#[test]
fn a_hostile_stream_writes_nothing_elsewhere() {
    use EntryType::{Block, Char, Fifo, GNULongName, Link, Regular, Symlink, XHeader};

    let place = tempfile::tempdir().unwrap();
    let outside = place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let mut told = String::new();
    let streams: &[&[(EntryType, &str, &str)]] = &[
        &[DIRECTORY, (Regular, "copy/../../outside/x", "owned"), LAST],
        &[DIRECTORY, (Regular, "/outside/x", "owned"), LAST],
        &[DIRECTORY, (Regular, "other", "owned"), LAST],
        &[DIRECTORY, (Regular, "copy//x", "owned"), LAST],
        &[DIRECTORY, (Symlink, "copy/l", "../outside"), (Regular, "copy/l/x", "owned"), LAST],
        &[DIRECTORY, (Symlink, "copy/l", "/etc"), (Regular, "copy/l/x", "owned"), LAST],
        &[DIRECTORY, (Symlink, "copy/l", "."), (Regular, "copy/l/x", "owned"), LAST],
        &[(Symlink, "copy", "outside"), (Regular, "copy/x", "owned"), LAST],
        &[DIRECTORY, (XHeader, "copy/x", "20 path=../outside/x"), LAST],
        &[DIRECTORY, LAST, (Regular, "copy/x", "owned")],
        &[DIRECTORY, (Regular, "copy/x", "whole")],
        &[(GNULongName, "x", "y"), DIRECTORY],
    ];
    for (number, entries) in streams.iter().enumerate() {
        let to = Target::of(&place.path().join(format!("to{number}")), "").unwrap();
        let error = unpack(stream(entries).as_slice(), &to).unwrap_err().to_string();
        told += &(error.replace(&place.path().display().to_string(), "PLACE") + "\n");
    }
    expect![[r#"
        the other side sends no copy: it names "copy/../../outside/x"
        the other side sends no copy: it names "/outside/x"
        the other side sends no copy: it names "other"
        the other side sends no copy: it names "copy//x"
        cannot open the directory PLACE/to4/l
        cannot open the directory PLACE/to5/l
        cannot open the directory PLACE/to6/l
        cannot open the directory PLACE/to7
        the other side sends no copy: it holds extensions
        the other side sends no copy: something follows its end
        the copy broke off
        the other side sends no copy: it names "y"
    "#]]
    .assert_eq(&told);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);

    let odd = [
        DIRECTORY,
        (Link, "copy/hard", "/etc/passwd"),
        (Char, "copy/c", ""),
        (Block, "copy/b", ""),
        (Fifo, "copy/f", ""),
        (Symlink, "copy/up", "a/../../x"),
        (Symlink, "copy/top", ".."),
        (Regular, "copy/suid", "x"),
        LAST,
    ];
    let to = Target::of(&place.path().join("odd"), "").unwrap();
    let copied = unpack(stream(&odd).as_slice(), &to).unwrap();
    assert_eq!((copied.entries, copied.left_out_count), (2, 6), "{copied:?}");
    assert_eq!(mode(&to.path().join("suid")), 0o755);
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1);
}

#[test]
fn a_directory_with_more_than_its_sender_takes_is_not_sent() {
    let place = tempfile::tempdir().unwrap();
    let from = place.path().join("from");
    fs::create_dir_all(from.join("a/b/c")).unwrap();
    fs::write(from.join("a/file"), "x").unwrap();
    let pack_within = |limits| {
        let directory = fs::File::open(&from).unwrap().into();
        let mut stream = Vec::new();
        let packed = pack_directory(&directory, Path::new("out"), limits, &mut stream);
        packed.map(|copied| (copied, stream))
    };
    let (copied, _) = pack_within(Limits { entries: 4, depth: 3 }).unwrap();
    assert_eq!((copied.entries, copied.left_out_count), (5, 0), "{copied:?}");

    let error = pack_within(Limits { entries: 3, depth: 3 }).unwrap_err();
    assert!(matches!(error, CopyError::TooMany { limit: 3, .. }), "{error:?}");
    let expected = expect![
        "out holds more than 3 files and directories; pack it into one file (`tar -cf`) first"
    ];
    expected.assert_eq(&error.to_string());

    let (copied, stream) = pack_within(Limits { entries: 4, depth: 2 }).unwrap();
    assert_eq!(copied.left_out, ["out/a/b/c: deeper than any directory is copied"]);
    let to = Target::of(&place.path().join("to"), "").unwrap();
    unpack(stream.as_slice(), &to).unwrap();
    assert!(to.path().join("a/b").is_dir() && !to.path().join("a/b/c").exists());
}

#[test]
fn half_a_file_gets_no_name() {
    let place = tempfile::tempdir().unwrap();
    let from = place.path().join("from");
    fs::write(&from, vec![1; 100_000]).unwrap();
    let mut stream = Vec::new();
    pack(&from, &mut stream).unwrap();
    for length in [0, 600, 50_000, 100_511, 100_864] {
        let to = Target::of(&place.path().join("to"), "").unwrap();
        let error = unpack(&stream[..length], &to).unwrap_err();
        assert!(matches!(error, CopyError::Broken(_)), "{length}: {error}");
        assert_eq!(to.path().exists(), length > 100_511, "{length}");
    }
    let left: Vec<_> =
        fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_link_leads_out_if_it_may() {
    let place = tempfile::tempdir().unwrap();
    for (target, depth, out) in [
        ("x", 0, false),
        ("../x", 0, true),
        ("../x", 1, false),
        ("../../x", 1, true),
        ("a/..", 1, true),
        ("./../x", 1, false),
    ] {
        let name = if depth == 0 { "copy/l" } else { "copy/a/l" };
        let entries = [
            DIRECTORY,
            (EntryType::Directory, "copy/a", ""),
            (EntryType::Symlink, name, target),
            LAST,
        ];
        let to = Target::of(&place.path().join(format!("{depth}{}", target.replace('/', "_"))), "")
            .unwrap();
        let copied = unpack(stream(&entries).as_slice(), &to).unwrap();
        assert_eq!(copied.left_out_count == 1, out, "{target} at {depth}");
    }
}

/// A reader that counts its bytes and its calls.
struct Counted<'a> {
    bytes: &'a [u8],
    steps: &'a mut u64,
}

impl std::io::Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        *self.steps += 1 + count as u64;
        Ok(count)
    }
}

#[test]
fn eight_times_the_stream_takes_at_most_ten_times_the_steps() {
    type Entry = fn(usize) -> (EntryType, String);
    let growing: [(&str, Entry); 4] = [
        ("files", |at| (EntryType::Regular, format!("copy/f{at}"))),
        ("directories", |at| (EntryType::Directory, format!("copy/d{at}"))),
        ("one directory again and again", |_| (EntryType::Directory, "copy/d".to_owned())),
        ("links", |at| (EntryType::Symlink, format!("copy/l{at}"))),
    ];
    for (what, entry) in growing {
        let steps = |count: usize| {
            let all: Vec<(EntryType, String)> = (0..count).map(entry).collect();
            let all = all.iter().map(|(kind, name)| (*kind, name.as_str(), "x"));
            let entries: Vec<_> = [DIRECTORY].into_iter().chain(all).chain([LAST]).collect();
            let place = tempfile::tempdir().unwrap();
            let (mut read, mut steps) = (0, 0);
            let bytes = stream(&entries);
            let counted = Counted { bytes: &bytes, steps: &mut read };
            unpack::unpack_counted(counted, &Target::of(place.path(), "new").unwrap(), &mut steps)
                .unwrap();
            (read, steps)
        };
        let ((read, few), (read_more, many)) = (steps(100), steps(800));
        assert!(few >= 100, "{what}: {few} steps count next to nothing");
        assert!(many <= 10 * few, "{what}: {few} and {many} steps");
        assert!(read_more <= 10 * read, "{what}: {read} and {read_more} bytes are read");
    }
}
