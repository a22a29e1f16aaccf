//! A file system that is full.

use std::{fs, path::Path};

use image_store::{
    BuildError, ConvertError, LayerError, NoProgress, OciError, Platform, Store, StoreError, build,
    oci::import_layout, squashfs::SquashfsError,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::image::{Entry, digest, kernel_layer, layer, noise, options, put, write_layout};

const MIB: usize = 1 << 20;

/// Runs `test` on a tmpfs of so many MiB, in a thread with a mount namespace of its own: it is gone
/// with the thread.
fn on_small_disk(mib: usize, test: impl FnOnce(&Path) + Send) {
    std::thread::scope(|scope| {
        let run = || {
            unshare(CloneFlags::CLONE_NEWNS).expect("this test needs root");
            mount(
                None::<&str>,
                "/",
                None::<&str>,
                MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                None::<&str>,
            )
            .unwrap();
            let directory = tempfile::tempdir().unwrap();
            let size = format!("size={mib}m");
            mount(
                Some("tmpfs"),
                directory.path(),
                Some("tmpfs"),
                MsFlags::empty(),
                Some(size.as_str()),
            )
            .unwrap();
            test(directory.path());
            nix::mount::umount(directory.path()).unwrap();
        };
        scope.spawn(run).join().unwrap();
    });
}

/// Fills the disk up to so many MiB.
fn fill(directory: &Path, leave_mib: u64) {
    let stat = rustix::fs::statvfs(directory).unwrap();
    let free = stat.f_bavail * stat.f_frsize;
    let file = fs::File::create(directory.join("others")).unwrap();
    let size = free - (leave_mib << 20);
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size).unwrap();
}

#[test]
fn privileged_a_full_disk_refuses_layers_before_it_writes() {
    on_small_disk(40, |disk| {
        let source = tempfile::tempdir().unwrap();
        let layers = [kernel_layer(), noise(10 * MIB)];
        write_layout(source.path(), "amd64", &layers);
        let store = Store::open(disk.join("images")).unwrap();
        fill(disk, 18);
        let import = || {
            import_layout(
                &store,
                source.path().to_str().unwrap(),
                &Platform::default(),
                &NoProgress,
            )
        };
        let Err(OciError::Blob {
            source: error @ StoreError::NoSpace { needed, available, .. },
            ..
        }) = import()
        else {
            panic!("imported onto a full disk")
        };
        // 10 MiB of layer, 16 MiB that are left alone; 18 MiB are free, less the small layer and
        // some directories.
        assert_eq!(needed, 26 << 20);
        assert!((17 << 20..=18 << 20).contains(&available), "{available}");
        assert_eq!(
            error.to_string(),
            format!(
                "no space left in {}: 27262976 bytes are needed and {available} bytes are free; make room, or remove image \
                 versions that no node uses, and try again",
                store.root().display()
            )
        );
        assert_eq!(fs::read_dir(store.root().join("partial")).unwrap().count(), 0);
        fs::remove_file(disk.join("others")).unwrap();
        import().unwrap();
    });
}

#[test]
fn privileged_a_full_disk_ends_a_build_and_nothing_stays() {
    on_small_disk(64, |disk| {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(disk.join("images")).unwrap();
        let big = layer(&[Entry::File("big", 0o644, &noise(8 * MIB))]);
        let layers = put(&store, &[kernel_layer(), big]);
        let options = options(directory.path());
        let before = store.list().unwrap();
        // Less than the layers have: refused before anything is written.
        fill(disk, 20);
        let error = build(&store, &layers, &options, &NoProgress).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("no space left in {}: ", store.root().display())),
            "{error}"
        );
        assert_eq!(store.list().unwrap(), before);
        assert_eq!(fs::read_dir(store.root().join("partial")).unwrap().count(), 0);
        fs::remove_file(disk.join("others")).unwrap();
        build(&store, &layers, &options, &NoProgress).unwrap();
    });
}

/// The estimate lets this pass, and the disk fills in the middle of `tar2sqfs`.
#[test]
fn privileged_a_disk_that_fills_in_mid_build_is_told_as_such() {
    on_small_disk(64, |disk| {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(disk.join("images")).unwrap();
        let big = layer(&[Entry::File("big", 0o644, &noise(30 * MIB))]);
        let layers = put(&store, &[kernel_layer(), big]);
        // The record of a version says what its layers have; a wrong one stands for an estimate
        // that is too low.
        let understated: Vec<_> =
            layers.iter().cloned().map(|layer| image_store::Layer { size: 1, ..layer }).collect();
        fill(disk, 17);
        let error =
            build(&store, &understated, &options(directory.path()), &NoProgress).unwrap_err();
        let BuildError::Squashfs(SquashfsError::Store(StoreError::NoSpace {
            needed,
            available,
            ..
        })) = error
        else {
            panic!("{error:?}")
        };
        assert!(
            needed > available && available > 16 << 20,
            "{needed} {available}: told after the clean-up"
        );
        assert_eq!(fs::read_dir(store.root().join("partial")).unwrap().count(), 0);
        assert_eq!(store.list().unwrap().len(), layers.len());
        fs::remove_file(disk.join("others")).unwrap();
    });
}

/// A kernel of a few bytes of layer, which is a large artifact.
#[test]
fn privileged_artifacts_of_the_converter_leave_alone_what_is_reserved() {
    on_small_disk(64, |disk| {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(disk.join("images")).unwrap();
        let kernel = vec![0; 30 * MIB];
        let tar = layer(&[
            Entry::File("lib/modules/6.1.0/modules.dep", 0o644, b""),
            Entry::File("lib/modules/6.1.0/vmlinuz", 0o600, &kernel),
        ]);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &tar).unwrap();
        let mut layers = put(&store, &[packed.finish().unwrap()]);
        layers[0].media_type = "application/vnd.oci.image.layer.v1.tar+gzip".to_owned();
        layers[0].diff_id = Some(digest(&tar));
        fill(disk, 40);
        let converter = crate::converter::converter(directory.path());
        let (image, options) = (layers[0].digest, options(directory.path()));
        let error = converter.image(&store, &image, &layers, &options, &NoProgress).unwrap_err();
        let ConvertError::Store(StoreError::NoSpace { needed, .. }) = error else {
            panic!("{error:?}")
        };
        // What is left alone, and a MiB.
        assert_eq!(needed, 17 << 20);
        assert_eq!(fs::read_dir(store.root().join("partial")).unwrap().count(), 0);
        fs::remove_file(disk.join("others")).unwrap();
        converter.image(&store, &image, &layers, &options, &NoProgress).unwrap();
    });
}

#[test]
fn a_layer_that_left_the_store_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    let layers = put(&store, &[kernel_layer()]);
    store.remove(&layers[0].digest).unwrap();
    let error = build(&store, &layers, &options(directory.path()), &NoProgress).unwrap_err();
    assert!(
        matches!(&error, BuildError::Layer(LayerError::Store(StoreError::Missing { .. }))),
        "{error:?}"
    );
    assert!(error.to_string().ends_with("import the image again"), "{error}");
}
