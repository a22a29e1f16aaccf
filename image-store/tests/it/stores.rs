//! The store over interrupted and concurrent writers.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    sync::Barrier,
};

use api::ids::Digest;
use image_store::{Beginning, Removed, Store, StoreError};

use crate::image::{digest, noise};

#[test]
fn a_writer_goes_on_where_another_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let bytes = noise(1_000_000);
    let id = digest(&bytes);
    let mut writer = store.writer(&id, 1_000_000).unwrap().unwrap();
    writer.write(&bytes[..400_000]).unwrap();
    drop(writer);
    // Another process opens the store: what is resumable is kept, what a dead
    // process made is swept.
    fs::write(directory.path().join("partial/tmp-1-1"), "left").unwrap();
    let store = Store::open(directory.path()).unwrap();
    assert!(!directory.path().join("partial/tmp-1-1").exists());
    let mut writer = store.writer(&id, 1_000_000).unwrap().unwrap();
    assert_eq!(writer.offset(), 400_000);
    writer.write(&bytes[400_000..]).unwrap();
    writer.finish().unwrap();
    assert_eq!(store.clone().brought_bytes(), 600_000, "since this store was opened");
    assert_eq!(store.map(&id).unwrap().as_ref(), bytes.as_slice());
    let (one, other) = (store.map(&id).unwrap(), store.clone().map(&id).unwrap());
    assert_eq!(one.as_ref().as_ptr(), other.as_ref().as_ptr(), "readers share one mapping");
    let (source, offset) = store.source(&one.as_ref()[2..]).unwrap();
    assert_eq!((source.as_ref().as_ptr(), offset), (one.as_ref().as_ptr(), 2));
    assert!(store.source(&bytes).is_none(), "the same bytes elsewhere");
    assert_eq!(fs::metadata(store.path(&id)).unwrap().permissions().mode() & 0o777, 0o400);
    assert_eq!(store.list().unwrap(), [(id, 1_000_000)]);
    assert!(store.writer(&id, 1_000_000).unwrap().is_none());
}

/// Earlier releases took the right to write before the rename, and only root opens such a
/// file all the same.
#[test]
fn privileged_a_partial_that_may_not_be_written_is_taken_up() {
    /// Debian's `nobody`.
    const NOBODY: u32 = 65_534;
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let id = digest(b"abc");
    let partial = directory.path().join("partial").join(id.hex());
    fs::write(&partial, "ab").unwrap();
    fs::set_permissions(&partial, fs::Permissions::from_mode(0o400)).unwrap();
    chown(&partial, Some(NOBODY), None).unwrap();
    for name in ["", "blobs", "blobs/sha256", "partial"] {
        chown(directory.path().join(name), Some(NOBODY), None).unwrap();
    }
    // Of this thread alone, and root's rights over files go with it.
    nix::unistd::setfsuid(nix::unistd::Uid::from_raw(NOBODY));
    let mut writer = store.writer(&id, 3).unwrap().unwrap();
    assert_eq!(writer.offset(), 2);
    writer.write(b"c").unwrap();
    writer.finish().unwrap();
    assert_eq!(fs::metadata(store.path(&id)).unwrap().permissions().mode() & 0o777, 0o400);
}

#[test]
fn a_damaged_partial_costs_one_attempt() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let bytes = noise(10_000);
    let id = digest(&bytes);
    fs::write(directory.path().join("partial").join(id.hex()), vec![0; 4_000]).unwrap();
    let mut writer = store.writer(&id, 10_000).unwrap().unwrap();
    writer.write(&bytes[4_000..]).unwrap();
    assert!(matches!(writer.finish(), Err(StoreError::DigestMismatch { .. })));
    let mut writer = store.writer(&id, 10_000).unwrap().unwrap();
    assert_eq!(writer.offset(), 0);
    writer.write(&bytes).unwrap();
    writer.finish().unwrap();
    // One that is longer than the blob can only be begun again.
    let other = digest(b"x");
    fs::write(directory.path().join("partial").join(other.hex()), vec![0; 9]).unwrap();
    let mut writer = store.writer(&other, 1).unwrap().unwrap();
    writer.write(b"x").unwrap();
    writer.finish().unwrap();
}

#[test]
fn too_much_and_too_little_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let id = digest(b"abc");
    let mut writer = store.writer(&id, 3).unwrap().unwrap();
    assert!(matches!(writer.write(b"abcd"), Err(StoreError::SizeMismatch { got: 4, .. })));
    let mut writer = store.writer(&id, 3).unwrap().unwrap();
    writer.write(b"ab").unwrap();
    assert!(matches!(writer.finish(), Err(StoreError::SizeMismatch { got: 2, .. })));
    assert_eq!(store.remove_partial().unwrap(), (1, 2));
    assert!(matches!(store.map(&id), Err(StoreError::Missing { .. })));
    assert!(!store.remove(&id).unwrap());
}

#[test]
fn who_does_not_wait_writes_beside() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let bytes = noise(300_000);
    let id = digest(&bytes);
    let mut slow = store.writer(&id, 300_000).unwrap().unwrap();
    slow.write(&bytes[..7]).unwrap();
    assert!(matches!(store.try_writer(&id, 300_000, false).unwrap(), Beginning::Busy));
    let beside: Vec<Beginning> =
        (0..4).map(|_| store.try_writer(&id, 300_000, true).unwrap()).collect();
    let [Beginning::Writer(_), Beginning::Writer(_), Beginning::Writer(_), Beginning::Busy] =
        &beside[..]
    else {
        panic!("{beside:?}")
    };
    let mut beside = beside.into_iter();
    let Some(Beginning::Writer(mut fast)) = beside.next() else { panic!() };
    fast.write(&bytes[..100_000]).unwrap();
    drop(fast);
    // It goes on like any other.
    let Beginning::Writer(mut fast) = store.try_writer(&id, 300_000, true).unwrap() else {
        panic!()
    };
    assert_eq!(fast.offset(), 100_000);
    fast.write(&bytes[100_000..]).unwrap();
    fast.finish().unwrap();
    let mapped = store.map(&id).unwrap();
    assert!(matches!(store.try_writer(&id, 300_000, true).unwrap(), Beginning::Stored));
    // Whoever comes later brings the same.
    slow.write(&bytes[7..]).unwrap();
    slow.finish().unwrap();
    assert!(mapped.as_ref() == bytes && store.map(&id).unwrap().as_ref() == bytes);
    drop(beside);
    assert_eq!(store.remove_partial().unwrap(), (2, 0));
}

#[test]
fn writers_of_one_blob_take_turns() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let bytes = noise(300_000);
    let id = digest(&bytes);
    let barrier = Barrier::new(4);
    let wrote = std::thread::scope(|scope| {
        let work = || {
            barrier.wait();
            let Some(mut writer) = store.writer(&id, 300_000).unwrap() else { return 0 };
            for chunk in bytes.chunks(1_000) {
                writer.write(chunk).unwrap();
            }
            writer.finish().unwrap();
            1
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<i32>()
    });
    assert_eq!(wrote, 1, "the others find it there");
    assert_eq!(store.list().unwrap(), [(id, 300_000)]);
}

/// What is in use by work under way stays, whenever the work and the removal begin and end.
#[test]
fn a_removal_spares_what_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let put = |store: &Store, text: &str| store.put(text.as_bytes()).unwrap().0;
    let (needed, unused) = (put(&store, "needed"), put(&store, "unused"));
    let (found, new) = (put(&store, "found by somebody"), digest(b"new"));
    let work = store.leased();
    assert!(work.contains(&found));
    assert_eq!(put(&work.clone(), "new"), new);
    let mut writer = work.writer(&digest(b"half"), 4).unwrap().unwrap();
    writer.write(b"ha").unwrap();
    drop(writer);
    drop(store.writer(&digest(b"given up"), 8).unwrap().unwrap());
    let kept = HashSet::from([needed]);
    let removed = store.begin_removal().remove_all_but(&kept).unwrap();
    assert_eq!(removed, Removed { blobs: 1, partial: 1, bytes: 6 });
    assert_eq!(store.removed(), removed, "nothing before");
    let holds = |digests: &[Digest]| digests.iter().all(|digest| store.contains(digest));
    assert!(holds(&[needed, found, new]) && !store.contains(&unused));

    // The work names what it made and ends after a removal has looked at the names.
    let removal = store.begin_removal();
    drop(work);
    let removed = removal.remove_all_but(&kept).unwrap();
    assert_eq!(removed, Removed::default());
    assert!(holds(&[found, new]));
    // The next removal finds nobody.
    let removed = store.begin_removal().remove_all_but(&kept).unwrap();
    assert_eq!((removed.blobs, removed.partial), (2, 1));
    let all = Removed { blobs: 3, partial: 2, bytes: 6 + removed.bytes };
    assert_eq!(store.clone().removed(), all, "of all handles");
    assert!(holds(&[needed]));
}

/// Either the work finds the blob and it stays, or it makes it again: never is it
/// gone while in use.
#[test]
fn work_and_removals_meet() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let id = digest(b"blob");
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..300 {
                barrier.wait();
                store.begin_removal().remove_all_but(&HashSet::new()).unwrap();
            }
        });
        for _ in 0..300 {
            barrier.wait();
            let work = store.leased();
            if let Some(mut writer) = work.writer(&id, 4).unwrap() {
                writer.restart().unwrap();
                writer.write(b"blob").unwrap();
                writer.finish().unwrap();
            }
            assert_eq!(work.size(&id).unwrap(), 4);
        }
    });
}

#[test]
fn a_removal_takes_no_temporary_file_that_is_just_begun() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    std::thread::scope(|scope| {
        let is_taken = |_: &i32| !store.temporary().unwrap().path().exists();
        let begins = scope.spawn(move || (0..2_000).filter(is_taken).count());
        while !begins.is_finished() {
            store.remove_partial().unwrap();
        }
        assert_eq!(begins.join().unwrap(), 0);
    });
}
