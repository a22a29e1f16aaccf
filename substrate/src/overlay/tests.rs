//! Archives in, trees out, in temporary directories. They run as any user: owners are
//! those of the test.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
};

use super::*;

/// An archive of (path, content); a path that ends in `/` is a directory, a content
/// `-> X` a link to X.
fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
    let (uid, gid) = linux::root::own_ids();
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_mode(if path.ends_with('/') { 0o750 } else { 0o640 });
        if let Some(target) = content.strip_prefix("-> ") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, path, target).unwrap();
            continue;
        }
        header.set_entry_type(if path.ends_with('/') {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        header.set_size(content.len() as u64);
        // The name is written raw, so that a hostile one can be.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn tree(root: &Path) -> Vec<String> {
    fn walk(root: &Path, directory: &Path, lines: &mut Vec<String>) {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        for path in names {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let stat = fs::symlink_metadata(&path).unwrap();
            let mode = stat.mode() & 0o7777;
            if stat.is_dir() {
                lines.push(format!("{name}/ {mode:o}"));
                walk(root, &path, lines);
            } else if stat.is_symlink() {
                lines.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
            } else {
                lines.push(format!("{name} {mode:o} {:?}", fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut lines = Vec::new();
    walk(root, root, &mut lines);
    lines
}

/// Where implied directories need no root right to be given to root.
fn is_root() -> bool {
    linux::root::own_ids() == (0, 0)
}

#[test]
fn an_archive_comes_changes_and_goes() {
    let (root, lower) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for directory in [root.path(), lower.path()] {
        fs::create_dir(directory.join("etc")).unwrap();
        fs::write(directory.join("etc/hosts"), "image").unwrap();
        symlink("image", directory.join("etc/link")).unwrap();
    }
    let first = archive(&[
        ("etc/", ""),
        ("etc/hosts", "overlay"),
        ("etc/link", "-> overlay"),
        ("srv/", ""),
        ("srv/new/", ""),
        ("srv/new/file", "one"),
    ]);
    let (manifest, summary) =
        apply(root.path(), first.as_slice(), &Manifest::default(), Some(lower.path())).unwrap();
    assert_eq!(summary, Summary { written: 3, removed: 0 });
    expect_test::expect![[r#"
        etc/ 755
        etc/hosts 640 "overlay"
        etc/link -> overlay
        srv/ 750
        srv/new/ 750
        srv/new/file 640 "one""#]]
    .assert_eq(&tree(root.path()).join("\n"));

    // The same again touches nothing.
    let stamp = |path: &str| {
        let stat = fs::symlink_metadata(root.path().join(path)).unwrap();
        (stat.ino(), stat.mtime(), stat.mtime_nsec())
    };
    let before = (stamp("etc/hosts"), stamp("etc/link"), stamp("srv/new/file"));
    let (again, summary) =
        apply(root.path(), first.as_slice(), &manifest, Some(lower.path())).unwrap();
    assert_eq!((again, summary), (manifest.clone(), Summary::default()));
    assert_eq!((stamp("etc/hosts"), stamp("etc/link"), stamp("srv/new/file")), before);

    // One changes, the others stay.
    let second =
        archive(&[("etc/hosts", "overlay"), ("etc/link", "-> overlay"), ("srv/new/file", "two")]);
    let (manifest, summary) =
        apply(root.path(), second.as_slice(), &manifest, Some(lower.path())).unwrap();
    assert_eq!(summary, Summary { written: 1, removed: 0 });
    assert_eq!((stamp("etc/hosts"), stamp("etc/link")), (before.0, before.1));

    // All leave: the image's own come back, made directories go. It is given as JSON, as a
    // caller keeps it.
    let manifest: Manifest =
        serde_json::from_slice(&serde_json::to_vec(&manifest).unwrap()).unwrap();
    let (manifest, summary) =
        apply(root.path(), archive(&[]).as_slice(), &manifest, Some(lower.path())).unwrap();
    assert_eq!(summary, Summary { written: 0, removed: 3 });
    assert_eq!(manifest, Manifest::default());
    assert_eq!(tree(root.path()), tree(lower.path()));
    let time = |directory: &Path| fs::metadata(directory.join("etc/hosts")).unwrap().mtime_nsec();
    assert_eq!(time(root.path()), time(lower.path()));
}

#[test]
fn a_made_directory_with_somebody_elses_file_stays_until_it_is_empty() {
    let root = tempfile::tempdir().unwrap();
    let full = archive(&[("a/", ""), ("a/ours", "")]);
    let (manifest, _) = apply(root.path(), full.as_slice(), &Manifest::default(), None).unwrap();
    fs::write(root.path().join("a/theirs"), "").unwrap();
    let (manifest, _) = apply(root.path(), archive(&[]).as_slice(), &manifest, None).unwrap();
    assert_eq!(tree(root.path()), ["a/ 750", "a/theirs 644 \"\""]);
    fs::remove_file(root.path().join("a/theirs")).unwrap();
    let (manifest, _) = apply(root.path(), archive(&[]).as_slice(), &manifest, None).unwrap();
    assert_eq!((tree(root.path()), manifest), (Vec::new(), Manifest::default()));
}

#[test]
fn what_somebody_put_in_the_place_of_a_leaving_file_is_theirs() {
    let (root, lower) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(lower.path().join("c")).unwrap();
    fs::write(lower.path().join("c/file"), "image").unwrap();
    let tar =
        archive(&[("a/", ""), ("a/file", ""), ("b", ""), ("c/", ""), ("c/file", ""), ("d", "")]);
    let (manifest, _) =
        apply(root.path(), tar.as_slice(), &Manifest::default(), Some(lower.path())).unwrap();
    fs::remove_dir_all(root.path().join("a")).unwrap();
    fs::write(root.path().join("a"), "theirs").unwrap();
    fs::remove_file(root.path().join("b")).unwrap();
    fs::create_dir(root.path().join("b")).unwrap();
    fs::remove_dir_all(root.path().join("c")).unwrap();
    let (manifest, summary) =
        apply(root.path(), archive(&[]).as_slice(), &manifest, Some(lower.path())).unwrap();
    assert_eq!((manifest, summary), (Manifest::default(), Summary { written: 0, removed: 1 }));
    assert_eq!(tree(root.path()), ["a 644 \"theirs\"", "b/ 755"]);
}

#[test]
fn local_changes_are_put_right() {
    let root = tempfile::tempdir().unwrap();
    let tar = archive(&[("file", "right")]);
    let (manifest, _) = apply(root.path(), tar.as_slice(), &Manifest::default(), None).unwrap();
    fs::write(root.path().join("file"), "wrong").unwrap();
    let (_, summary) = apply(root.path(), tar.as_slice(), &manifest, None).unwrap();
    assert_eq!(summary.written, 1);
    assert_eq!(tree(root.path()), ["file 640 \"right\""]);
}

#[test]
fn hostile_archives_change_nothing() {
    let root = tempfile::tempdir().unwrap();
    for (bad, rule) in [
        (archive(&[("good", "x"), ("../bad", "x")]), "`..`"),
        (archive(&[("good", "x"), ("/etc/bad", "x")]), "relative"),
        (archive(&[("good", "x"), ("a/../../bad", "x")]), "`..`"),
        (archive(&[("good", "x"), ("good/inner", "x")]), "its directory is a file"),
    ] {
        let error = apply(root.path(), bad.as_slice(), &Manifest::default(), None).unwrap_err();
        assert!(error.to_string().contains(rule), "{error}");
    }
    let whole = archive(&[("good", &"x".repeat(5000))]);
    assert!(apply(root.path(), &whole[..2000], &Manifest::default(), None).is_err());
    assert_eq!(tree(root.path()), Vec::<String>::new());
}

#[test]
fn a_link_in_the_image_leads_within_the_root() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("run")).unwrap();
    fs::create_dir(root.path().join("var")).unwrap();
    symlink("/run", root.path().join("var/run")).unwrap();
    let tar = archive(&[("var/", ""), ("var/run/", ""), ("var/run/file", "x")]);
    apply(root.path(), tar.as_slice(), &Manifest::default(), None).unwrap();
    assert_eq!(fs::read_to_string(root.path().join("run/file")).unwrap(), "x");
    assert!(fs::symlink_metadata(root.path().join("var/run")).unwrap().is_symlink());
}

#[test]
fn a_failure_tells_what_is_there() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("taken")).unwrap();
    let tar = archive(&[("first", "x"), ("taken", "x")]);
    let error = apply(root.path(), tar.as_slice(), &Manifest::default(), None).unwrap_err();
    let OverlayError::Partial { manifest, source } = error else { panic!("{error}") };
    assert_eq!(manifest.files.iter().collect::<Vec<_>>(), [Path::new("first")]);
    assert!(source.to_string().ends_with("/taken"), "{source}");
    // Carrying on with that manifest takes it away again.
    let (_, summary) = apply(root.path(), archive(&[]).as_slice(), &manifest, None).unwrap();
    assert_eq!(summary.removed, 1);
    assert_eq!(tree(root.path()), ["taken/ 755"]);
}

#[test]
fn directories_that_the_archive_does_not_name_are_made_for_root() {
    let root = tempfile::tempdir().unwrap();
    let tar = archive(&[("deep/er/file", "x")]);
    let applied = apply(root.path(), tar.as_slice(), &Manifest::default(), None);
    if is_root() {
        assert_eq!(applied.unwrap().0.directories.len(), 2);
        assert_eq!(tree(root.path()), ["deep/ 755", "deep/er/ 755", "deep/er/file 640 \"x\""]);
    } else {
        assert!(matches!(applied, Err(OverlayError::Partial { .. })));
    }
}
