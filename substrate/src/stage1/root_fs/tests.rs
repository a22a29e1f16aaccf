//! Sizes anywhere; real mounts where root may make a mount namespace.

use super::*;

#[test]
fn sizes() {
    for (declared, expected) in [
        ("50%", "50%"),
        ("100%", "100%"),
        ("4GiB", "4294967296"),
        ("512 MiB", "536870912"),
        ("1G", "1073741824"),
        ("4096", "4096"),
    ] {
        assert_eq!(tmpfs_size(declared).unwrap(), expected);
    }
    for bad in ["", "0%", "101%", "-1", "4GB", "0", "many", "99999999999TiB"] {
        assert!(tmpfs_size(bad).unwrap_err().to_string().contains("writable-size"), "{bad}");
    }
}

#[test]
fn available_memory() {
    let meminfo =
        "MemTotal:       24617440 kB\nMemFree:        23011836 kB\nMemAvailable:   23561144 kB\n";
    assert_eq!(memory_available(meminfo), Some(23_561_144 * 1024));
    assert_eq!(memory_available(""), None);
    let digest = api::ids::Digest([0; 32]);
    let image = RootImage {
        format: "squashfs".into(),
        digest,
        size: 900 << 20,
        version: "debian-node@2".into(),
    };
    let needed = image.size + RESERVE_BYTES;
    let total = memory_total("MemTotal:        1019904 kB\n");
    expect_test::expect!["this machine has 996 MiB of memory, 700 MiB of it free; the image debian-node@2 needs 964 MiB: give the machine more, or boot a smaller image"]
        .assert_eq(&too_little(&image, needed, 700 << 20, total));
}

/// Root only: a squashfs image over a loop device, with the writable layer and a boot overlay on
/// it, in a mount namespace of this thread.
#[test]
fn privileged_the_root_is_writable_and_the_image_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let image = squashfs(directory.path());
    let (run, root) = (directory.path().join("run"), directory.path().join("sysroot"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            linux::namespace::enter_private_mounts().unwrap();
            fs::create_dir(&run).unwrap();
            mount_root(&image, &run, &root, Some("8MiB")).unwrap();
            let stat = fs::metadata(&root).unwrap();
            assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o751, 3, 4));
            assert_eq!(fs::read_to_string(root.join("etc/hosts")).unwrap(), "image");

            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_ustar();
            header.set_size(7);
            header.set_mode(0o600);
            header.set_uid(0);
            header.set_gid(0);
            tar.append_data(&mut header, "etc/hosts", &b"overlay"[..]).unwrap();
            let tar = tar.into_inner().unwrap();
            let lower = run.join("lower");
            let none = crate::overlay::Manifest::default();
            let (manifest, _) =
                crate::overlay::apply(&root, tar.as_slice(), &none, Some(&lower)).unwrap();
            assert_eq!(fs::read_to_string(root.join("etc/hosts")).unwrap(), "overlay");
            assert_eq!(fs::read_to_string(lower.join("etc/hosts")).unwrap(), "image");
            let empty = tar::Builder::new(Vec::new()).into_inner().unwrap();
            crate::overlay::apply(&root, empty.as_slice(), &manifest, Some(&lower)).unwrap();
            assert_eq!(fs::read_to_string(root.join("etc/hosts")).unwrap(), "image");

            assert!(fs::write(lower.join("etc/hosts"), "x").is_err());
            // The writable layer has its limit.
            assert!(fs::write(root.join("big"), vec![0; 9 << 20]).is_err());
            fs::remove_file(root.join("big")).unwrap();
            mount::unmount(&root).unwrap();
            mount::unmount(&run.join("writable")).unwrap();
            mount::unmount(&lower).unwrap();
        });
    });
    // Nothing was mounted outside of the thread's namespace.
    assert_eq!(fs::read_dir(run.join("lower")).unwrap().count(), 0);
}

/// An image made by `mksquashfs`.
fn squashfs(directory: &Path) -> std::path::PathBuf {
    let (tree, image) = (directory.join("tree"), directory.join("root.squashfs"));
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::write(tree.join("etc/hosts"), "image").unwrap();
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o751)).unwrap();
    chown(&tree, Some(3), Some(4)).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test's own tool")]
    let made = std::process::Command::new("mksquashfs")
        .args([&tree, &image])
        .args(["-quiet", "-no-progress"])
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    image
}
