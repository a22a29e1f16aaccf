//! Volumes that jobs filled with what they should not have.

use std::{
    io::{Read, Write},
    os::unix::fs::symlink,
};

use linux::mount;

use super::*;

fn workflow() -> WorkflowId {
    WorkflowId(uuid::Uuid::from_u128(5))
}

fn me() -> RunUser {
    let (uid, gid) = linux::root::own_ids();
    RunUser { name: "u".into(), uid, gid, groups: Vec::new() }
}

fn rig() -> (tempfile::TempDir, Volumes, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let volumes = Volumes::new(place.path().join("volumes"), false);
    volumes.create(workflow(), "data", &me(), None).unwrap();
    let path = volumes.existing(workflow(), "data").unwrap();
    (place, volumes, path)
}

fn text(error: VolumeError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

#[test]
fn a_file_goes_in_and_comes_out() {
    let (_place, volumes, path) = rig();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    for content in ["longer than the second", "second"] {
        let mut file = volumes.create_file(workflow(), "data", "in/deep/er.txt", &me()).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let Kept::File(mut file, length) =
            volumes.open_kept(workflow(), "data", "in/deep/er.txt").unwrap()
        else {
            panic!()
        };
        let mut found = String::new();
        file.read_to_string(&mut found).unwrap();
        assert_eq!((found.as_str(), length), (content, content.len() as u64));
    }
    // Made once more, it keeps what it holds.
    volumes.create(workflow(), "data", &me(), None).unwrap();
    assert!(path.join("in/deep/er.txt").exists());
}

#[tokio::test]
async fn workflows_with_volumes_are_told_until_they_are_removed() {
    let (_place, volumes, path) = rig();
    assert_eq!(volumes.workflows(), [workflow()]);
    let own_directory = path.parent().unwrap().parent().unwrap();
    fs::create_dir(own_directory.join("something else")).unwrap();
    volumes.remove(workflow());
    assert_eq!(volumes.workflows(), []);
    assert_eq!(Volumes::new("/nonexistent".into(), true).workflows(), []);
}

#[test]
fn no_link_is_followed_and_no_path_leads_out() {
    let (place, volumes, path) = rig();
    let secret = place.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    symlink(&secret, path.join("link")).unwrap();
    symlink(place.path(), path.join("folder")).unwrap();
    symlink("inside", path.join("inner")).unwrap();
    fs::write(path.join("inside"), "x").unwrap();
    fs::create_dir(path.join("dir")).unwrap();
    nix::unistd::mkfifo(&path.join("fifo"), Mode::from_bits_truncate(0o600)).unwrap();

    let mut told = String::new();
    for name in [
        "link",
        "folder/secret",
        "inner",
        "../secret",
        "/etc/shadow",
        "",
        "dir/",
        "dir",
        "fifo",
        "none",
    ] {
        let read = volumes.open_kept(workflow(), "data", name).map(drop);
        let written = volumes.create_file(workflow(), "data", name, &me()).map(drop);
        let tell = |result: Result<(), _>| result.map_or_else(text, |()| "ok".to_owned());
        told += &format!("{name}\n  read: {}\n  write: {}\n", tell(read), tell(written));
    }
    expect_test::expect![[r#"
        link
          read: cannot read link in the volume data: symbolic links are not followed in transfers: Too many levels of symbolic links (os error 40)
          write: cannot write link in the volume data: symbolic links are not followed in transfers: Too many levels of symbolic links (os error 40)
        folder/secret
          read: cannot read folder/secret in the volume data: symbolic links are not followed in transfers: Too many levels of symbolic links (os error 40)
          write: cannot write folder/secret in the volume data: Not a directory (os error 20)
        inner
          read: cannot read inner in the volume data: symbolic links are not followed in transfers: Too many levels of symbolic links (os error 40)
          write: cannot write inner in the volume data: symbolic links are not followed in transfers: Too many levels of symbolic links (os error 40)
        ../secret
          read: "../secret" is no path in a volume; use a relative path without .. that ends in a file's name
          write: "../secret" is no path in a volume; use a relative path without .. that ends in a file's name
        /etc/shadow
          read: "/etc/shadow" is no path in a volume; use a relative path without .. that ends in a file's name
          write: "/etc/shadow" is no path in a volume; use a relative path without .. that ends in a file's name

          read: "" is no path in a volume; use a relative path without .. that ends in a file's name
          write: "" is no path in a volume; use a relative path without .. that ends in a file's name
        dir/
          read: "dir/" is no path in a volume; use a relative path without .. that ends in a file's name
          write: "dir/" is no path in a volume; use a relative path without .. that ends in a file's name
        dir
          read: ok
          write: cannot write dir in the volume data: Is a directory (os error 21)
        fifo
          read: fifo in the volume data is no regular file
          write: cannot write fifo in the volume data: No such device or address (os error 6)
        none
          read: cannot read none in the volume data: no job wrote it: No such file or directory (os error 2)
          write: ok
    "#]].assert_eq(&told);
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    assert!(!place.path().join("volumes").join("secret").exists());
}

#[test]
fn a_directory_is_listed_with_what_is_left_out() {
    let (place, volumes, path) = rig();
    fs::write(place.path().join("secret"), "secret").unwrap();
    let out = path.join("out");
    fs::create_dir_all(out.join("a/b")).unwrap();
    fs::create_dir(out.join("empty")).unwrap();
    for name in ["a/b/deep", "a/x", "z"] {
        fs::write(out.join(name), name).unwrap();
    }
    symlink("../../..", out.join("a/up")).unwrap();
    symlink(place.path(), out.join("folder")).unwrap();
    nix::unistd::mkfifo(&out.join("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(out.join("socket")).unwrap();

    let directory = |name| match volumes.open_kept(workflow(), "data", name).unwrap() {
        Kept::Directory(directory) => directory,
        other => panic!("{other:?}"),
    };
    let listing = directory("out").list().unwrap();
    assert_eq!(listing.files, ["a/b/deep", "a/x", "z"].map(PathBuf::from));
    expect_test::expect![[r#"
        a/up (a symbolic link)
        empty (an empty directory)
        fifo (a named pipe)
        folder (a symbolic link)
        socket (a socket)"#]]
    .assert_eq(&listing.left_out.join("\n"));
    assert_eq!(listing.left_out_count, 5);
    let whole = directory(".").list().unwrap();
    assert_eq!(whole.files, ["out/a/b/deep", "out/a/x", "out/z"].map(PathBuf::from));
    let (mut file, length) = directory("out").read_file(Path::new("a/b/deep")).unwrap();
    let mut found = String::new();
    file.read_to_string(&mut found).unwrap();
    assert_eq!((found.as_str(), length), ("a/b/deep", 8));
    // A job that is still there puts a link in the place of a file, or of a directory on the way.
    for (name, opened) in [("folder/secret", "out"), ("a/up/secret", "out"), ("up", "out/a")] {
        let error = directory(opened).read_file(Path::new(name)).map(drop).unwrap_err();
        assert!(text(error).contains("symbolic links are not followed"), "{name}");
    }
    // A file of a directory that is gone by now.
    let open = directory("out");
    fs::remove_dir_all(&out).unwrap();
    assert!(open.read_file(Path::new("z")).is_err());
}

#[test]
fn names_that_are_none() {
    let (_place, volumes, _) = rig();
    for name in ["", ".", "..", "a/b", &"n".repeat(256)] {
        assert!(
            matches!(volumes.create(workflow(), name, &me(), None), Err(VolumeError::Name(_))),
            "{name}"
        );
    }
    let error = volumes.open_kept(workflow(), "other", "x").map(drop).unwrap_err();
    assert!(matches!(error, VolumeError::Missing(_)) && !error.is_transient());
}

#[tokio::test]
async fn removal_takes_links_and_not_what_they_lead_to() {
    let (place, volumes, path) = rig();
    let kept = place.path().join("kept");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("file"), "x").unwrap();
    symlink(&kept, path.join("link")).unwrap();
    volumes.remove(workflow());
    volumes.remove(workflow());
    assert!(volumes.existing(workflow(), "data").is_err());
    while fs::read_dir(place.path().join("volumes")).unwrap().count() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(kept.join("file").exists());
    // Nothing of it is in the way of a new one.
    volumes.create(workflow(), "data", &me(), None).unwrap();
}

/// Root only: a tmpfs in the place of a node's root, in a mount namespace of this thread.
#[test]
fn privileged_a_volume_in_memory_holds_its_limit_and_no_more() {
    let place = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let test = scope.spawn(|| {
            linux::namespace::enter_private_mounts().unwrap();
            let options = format!("size={}", 96 << 20);
            let (root, flags) = (place.path(), mount::Flags::empty());
            mount::mount(Path::new("tmpfs"), root, "tmpfs", flags, &options).unwrap();
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(limits_in_memory(&root.join("volumes")));
            mount::unmount(root).unwrap();
        });
        test.join().unwrap();
    });
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "only in the thread's namespace");
}

/// Writes `mib` MiB into a file of a volume, as a job does.
fn fill(path: &Path, name: &str, mib: usize) -> io::Result<()> {
    let mut file = File::options().create(true).append(true).open(path.join(name))?;
    file.write_all(&vec![7; mib << 20])
}

async fn limits_in_memory(directory: &Path) {
    let volumes = Volumes::new(directory.to_owned(), true);
    let make = |volumes: &Volumes, name: &str, limit: Option<u64>| {
        volumes.create(workflow(), name, &me(), limit).unwrap();
        volumes.existing(workflow(), name).unwrap()
    };
    let small = make(&volumes, "small", Some(1 << 20));
    assert_eq!(fs::metadata(&small).unwrap().permissions().mode() & 0o777, 0o700);
    let full = fill(&small, "file", 2).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
    // Nor do empty files take the kernel's memory without end.
    let many = (0..2_000).find_map(|number| File::create(small.join(number.to_string())).err());
    assert_eq!(many.unwrap().raw_os_error(), Some(libc::ENOSPC));

    // 96 MiB, of which 64 are left alone and 1 is taken: whoever has no limit has the rest.
    let large = make(&volumes, "large", None);
    let other = make(&volumes, "other", Some(1 << 40));
    assert_eq!(volumes.room(workflow(), "other").limit, Some(1 << 40));
    assert_eq!(fill(&large, "file", 64).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    let used = volumes.fit();
    assert!(used.volumes == 3 && used.left_bytes < 64 << 10, "{used:?}");
    let full = fill(&other, "file", 1).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC), "the node has no more for any of them");
    assert!(fill(directory, "of the node", 16).is_ok(), "the root has its own room");
    fs::remove_file(directory.join("of the node")).unwrap();

    // An agent that starts finds them, with their limits; what they hold is not covered by a mount.
    let volumes = Volumes::new(directory.to_owned(), true);
    for volume in [&large, &other] {
        fs::remove_file(volume.join("file")).unwrap();
    }
    let _ = volumes.fit();
    fill(&other, "file", 8).unwrap();
    make(&volumes, "other", Some(1));
    assert_eq!(fs::metadata(other.join("file")).unwrap().len(), 8 << 20);
    assert_eq!(volumes.room(workflow(), "other").limit, Some(1 << 40));
    let before = directory.join(workflow().to_string()).join("before");
    fs::create_dir(&before).unwrap();
    fill(&before, "file", 1).unwrap();
    make(&volumes, "before", None);
    assert!(before.join("file").exists(), "an agent of before made it");
    assert_eq!(volumes.room(workflow(), "before").limit, None);

    let open = File::open(large.join(".")).unwrap();
    volumes.remove(workflow());
    while fs::read_dir(directory).unwrap().count() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(room::limited(directory).unwrap(), [], "also one that is in use");
    drop(open);
}
