//! Layers to a root image, read back with `rdsquashfs`.

use std::{path::Path, process::Command};

use expect_test::expect;
use image_store::{Built, NoProgress, Store, build, rebuild_stage1};

use crate::image::{Entry, RELEASE, kernel_layer, layer, options, put};

fn rdsquashfs(image: &Path, arguments: &[&str]) -> String {
    let output = Command::new("rdsquashfs")
        .args(arguments)
        .arg(image)
        .output()
        .expect("rdsquashfs: run xtask/setup.sh");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn build_all(layers: &[Vec<u8>]) -> (tempfile::TempDir, Store, Built) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    let layers = put(&store, layers);
    let built = build(&store, &layers, &options(directory.path()), &NoProgress).unwrap();
    (directory, store, built)
}

#[test]
fn an_image_without_a_kernel_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    let layers = put(&store, &[layer(&[Entry::File("etc/hostname", 0o644, b"x")])]);
    let before = store.list().unwrap();
    let error = build(&store, &layers, &options(directory.path()), &NoProgress).unwrap_err();
    expect![[r#"
        the image has no kernel that can boot: it has neither modules nor a kernel; looked for lib/modules/RELEASE/ with lib/modules/RELEASE/vmlinuz, boot/vmlinuz-RELEASE or a boot/vmlinuz* that names RELEASE in its header; install a kernel package in the image (Debian: linux-image-amd64, Fedora: kernel-core) and import it again"#]]
    .assert_eq(&error.to_string());
    assert_eq!(store.list().unwrap(), before);
}

/// Alpine names its kernel after the flavour, and only the kernel's header says the release.
#[test]
fn a_kernel_is_known_by_its_header() {
    let mut kernel = vec![0; 4096];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel[0x20e..0x210].copy_from_slice(&0x400_u16.to_le_bytes());
    kernel[0x600..0x616].copy_from_slice(b"6.6.58-0-lts (x@y) #1\0");
    let (_directory, store, built) = build_all(&[layer(&[
        Entry::File("boot/vmlinuz-lts", 0o644, &kernel),
        Entry::File("lib/modules/6.6.58-0-lts/modules.dep", 0o644, b""),
        Entry::File("sbin/init", 0o755, b"#!/bin/sh"),
    ])]);
    assert_eq!(built.kernels[0].release, "6.6.58-0-lts");
    assert_eq!(store.map(&built.kernels[0].kernel.digest).unwrap().as_ref(), kernel);
    assert_eq!(built.warnings, [""; 0]);
}

#[test]
fn what_is_left_of_a_kernel_is_left_out() {
    let left = [
        Entry::File("boot/vmlinuz-5.14.0-503.el9", 0o644, b"removed"),
        Entry::File("lib/modules/5.14.0-503.el9/weak-updates/x.ko", 0o644, b""),
        Entry::Symlink("sbin/init", "../lib/systemd/systemd"),
        Entry::File("lib/systemd/systemd", 0o755, b"x"),
    ];
    let (directory, store, built) = build_all(&[kernel_layer(), layer(&left)]);
    assert_eq!(built.kernels.iter().map(|kernel| &kernel.release).collect::<Vec<_>>(), [RELEASE]);
    expect![[r#"
        ["kernel 5.14.0-503.el9 is left out: it has no lib/modules/5.14.0-503.el9/modules.dep; remove what is left of it, or run `depmod 5.14.0-503.el9` when the image is made"]"#]]
    .assert_eq(&format!("{:?}", built.warnings));
    // Alone it is no kernel to boot.
    let layers = put(&store, &[layer(&left)]);
    let error = build(&store, &layers, &options(directory.path()), &NoProgress).unwrap_err();
    expect![
        "the image has no lib/modules/5.14.0-503.el9/modules.dep; run `depmod 5.14.0-503.el9` when it is made"
    ]
    .assert_eq(&error.to_string());
}

#[test]
fn an_image_without_an_init_is_told() {
    let not_one = [Entry::File("sbin/init", 0o644, b"x"), Entry::Directory("etc/init", 0o755)];
    let (_directory, _, built) = build_all(&[kernel_layer(), layer(&not_one)]);
    expect![[r#"
        ["it has no init (looked for /sbin/init, /lib/systemd/systemd, /usr/lib/systemd/systemd, /etc/init): nodes cannot start from it unless the kernel argument init= names another program; install one in the image (Debian: systemd-sysv)"]"#]]
    .assert_eq(&format!("{:?}", built.warnings));
}

#[test]
fn kinds_modes_owners_links_attributes_and_whiteouts() {
    let base = layer(&[
        Entry::Directory("usr", 0o755),
        Entry::Directory("usr/share", 0o755),
        Entry::Directory("usr/share/doc", 0o755),
        Entry::File("usr/share/doc/old", 0o644, b"old"),
        Entry::File("usr/share/gone", 0o644, b"gone"),
        Entry::File("usr/bin-tool", 0o4755, b"tool"),
        Entry::Hardlink("usr/bin-same", "usr/bin-tool"),
        Entry::Symlink("bin", "usr/bin"),
        Entry::CharacterDevice("dev-null", 1, 3),
        Entry::Owned("mail", 8, 12),
        Entry::Attribute(
            "ping",
            "security.capability",
            &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        Entry::Directory("tmp", 0o1777),
    ]);
    let upper = layer(&[
        Entry::File("usr/share/.wh.gone", 0o644, b""),
        Entry::File("usr/share/doc/.wh..wh..opq", 0o644, b""),
        Entry::File("usr/share/doc/new", 0o600, b"new"),
    ]);
    let (_directory, store, built) = build_all(&[base, kernel_layer(), upper]);
    let image = store.path(&built.root.digest);
    expect![[r#"
        slink bin 0777 0 0 usr/bin
        nod dev-null 0644 0 0 c 1 3
        dir lib 0755 0 0
        dir lib/modules 0755 0 0
        dir lib/modules/6.1.0-test 0755 0 0
        file lib/modules/6.1.0-test/modules.dep 0644 0 0
        file lib/modules/6.1.0-test/vmlinuz 0600 0 0
        file mail 0644 8 12
        file ping 0644 0 0
        dir tmp 01777 0 0
        dir usr 0755 0 0
        file usr/bin-same 04755 0 0
        file usr/bin-tool 04755 0 0
        dir usr/share 0755 0 0
        dir usr/share/doc 0755 0 0
        file usr/share/doc/new 0600 0 0
    "#]]
    .assert_eq(&rdsquashfs(&image, &["--describe"]));
    assert_eq!(rdsquashfs(&image, &["--cat", "/usr/bin-same"]), "tool");
    assert!(rdsquashfs(&image, &["--xattr", "/ping"]).contains("security.capability"));
    let inode = |path: &str| {
        let stat = rdsquashfs(&image, &["--stat", path]);
        stat.lines().find(|line| line.to_lowercase().contains("inode number")).map(str::to_owned)
    };
    assert!(inode("/usr/bin-same").is_some() && inode("/usr/bin-same") == inode("/usr/bin-tool"));
}

#[test]
fn the_same_layers_give_the_same_bytes() {
    let layers =
        [kernel_layer(), layer(&[Entry::File("etc/a", 0o644, b"a"), Entry::Symlink("etc/b", "a")])];
    let (_one, _, first) = build_all(&layers);
    let (directory, store, second) = build_all(&layers);
    assert_eq!(first, second);
    assert_eq!(second.kernels.len(), 1);
    let kernel = &second.kernels[0];
    assert_eq!(kernel.release, RELEASE);
    assert_eq!(store.map(&kernel.kernel.digest).unwrap().as_ref(), b"not really a kernel");
    // Another substrate program gives another stage 1 and leaves the rest as it is.
    let layers = put(&store, &layers);
    let options = options(directory.path());
    assert_eq!(rebuild_stage1(&store, &layers, &options, &NoProgress).unwrap(), second.kernels);
    std::fs::write(&options.substrate, "a newer program").unwrap();
    let rebuilt = rebuild_stage1(&store, &layers, &options, &NoProgress).unwrap();
    assert_eq!(rebuilt[0].kernel, kernel.kernel);
    assert_ne!(rebuilt[0].stage1, kernel.stage1);
}

/// The kernel's EFI stub lays the initrds into memory one after the other, and the kernel looks for
/// the next one only at multiples of 4.
#[test]
fn stage_1_ends_where_the_next_initrd_may_begin() {
    let (directory, store, built) = build_all(&[kernel_layer()]);
    assert_eq!(built.kernels[0].stage1.size % 4, 0);
    let layers = put(&store, &[kernel_layer()]);
    let options = options(directory.path());
    for length in 1..=8 {
        std::fs::write(&options.substrate, &b"programs"[..length]).unwrap();
        let rebuilt = rebuild_stage1(&store, &layers, &options, &NoProgress).unwrap();
        assert_eq!(rebuilt[0].stage1.size % 4, 0, "with a program of {length} bytes");
    }
}
