//! Machines whose files lie, are huge, are no text, or go while they are read: the rest is still
//! told, and nothing hangs.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use api::inventory::Inventory;
use inventory::{Collector, Parts, ioctls::Captured};

use crate::unpack;

/// Together they have every kind of entry.
const CAPTURES: [&str; 5] = ["amd", "cdi", "infiniband", "nvidia", "storage"];

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&entry.path(), found),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

/// Looks several times, as an agent does.
fn look(root: &Path) -> Inventory {
    let mut collector = Collector::new(root, Box::new(Captured::new(root)));
    collector.collect(Parts::ALL);
    for _ in 0..9 {
        collector.collect(Parts::HEALTH);
    }
    collector.collect(Parts::ALL)
}

/// Every file of a machine holds something else, each of it once.
#[test]
fn files_with_any_content() {
    let contents: [&[u8]; 9] = [
        b"",
        &[b'7'; 66_000],
        b"\x00\x01\x02\xff\xfe",
        b"-1\n",
        b"18446744073709551615\n",
        b"99999999999999999999999999\n",
        b"0xffffffffffffffffffff\n",
        "\u{1F980} : | ( ) [3/1]\n<gpu id=\"\">\n".as_bytes(),
        b"GPU0 GPU1\nGPU0 X NV99999999999\nmd0 : \n[1/0]\n",
    ];
    for capture in CAPTURES {
        let root = unpack(capture);
        let mut found = Vec::new();
        files(root.path(), &mut found);
        for number in 0..contents.len() {
            for (file, path) in found.iter().enumerate() {
                fs::write(path, contents[(number + file) % contents.len()]).unwrap();
            }
            let inventory = look(root.path());
            assert!(inventory.gaps.len() <= 256, "{capture} {number}");
        }
    }
}

/// Pipes, of which an open would wait for a writer, and directories, in place of files.
#[test]
fn entries_that_are_no_files() {
    for capture in CAPTURES {
        let root = unpack(capture);
        let mut found = Vec::new();
        // Beside the tree lie the answers of a capture, which no machine has.
        for directory in ["sys", "proc", "etc", "dev"] {
            if root.path().join(directory).exists() {
                files(&root.path().join(directory), &mut found);
            }
        }
        for (number, path) in found.iter().enumerate().filter(|(number, _)| number % 2 == 0) {
            fs::remove_file(path).unwrap();
            if number % 4 == 0 {
                nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            } else {
                fs::create_dir(path).unwrap();
            }
        }
        assert!(!look(root.path()).gaps.is_empty(), "{capture}");
    }
}

#[test]
fn two_disks_with_one_serial_number_are_two_disks() {
    let inventory = inventory::collect(unpack("storage").path());
    let same: Vec<_> =
        inventory.disks.iter().filter(|disk| disk.serial.as_deref() == Some("ZL2CDUPL")).collect();
    assert_eq!(same.iter().map(|disk| disk.name.as_str()).collect::<Vec<_>>(), ["sdb", "sdc"]);
    assert_ne!(same[0].wwid, same[1].wwid);
}

/// What was unplugged between listing and reading leaves links that lead nowhere.
#[test]
fn links_that_lead_nowhere() {
    let root = unpack("storage");
    let directory = "sys/devices/pci0000:80/0000:83:00.0/host8/port-8:0";
    fs::remove_dir_all(root.path().join(directory)).unwrap();
    fs::remove_dir_all(root.path().join("sys/devices/pci0000:40/0000:41:00.1")).unwrap();
    let inventory = inventory::collect(root.path());
    let names: Vec<_> = inventory.disks.iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(names, ["mmcblk0", "nvme0n1", "sda", "sdc", "sdd"]);
    assert!(!inventory.nics.iter().any(|nic| nic.name == "ens1f1"), "{:?}", inventory.nics);
    assert!(!inventory.gaps.iter().any(|gap| gap.subject.contains("sdb")), "{:?}", inventory.gaps);
}

/// Disks and interfaces come and go all the time; those that stay are always told.
#[test]
fn entries_that_vanish_while_they_are_read() {
    let root = unpack("storage");
    let block = root.path().join("sys/devices/pci0000:80/0000:83:00.0/host8/port-8:0");
    let net = root.path().join("sys/devices/pci0000:40/0000:41:00.1");
    let (away_block, away_net) = (root.path().join("away-block"), root.path().join("away-net"));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                fs::rename(&block, &away_block).unwrap();
                fs::rename(&net, &away_net).unwrap();
                fs::rename(&away_block, &block).unwrap();
                fs::rename(&away_net, &net).unwrap();
            }
        });
        let mut collector = Collector::new(root.path(), Box::new(Captured::new(root.path())));
        for _ in 0..50 {
            let inventory = collector.collect(Parts::DISKS | Parts::NICS | Parts::HEALTH);
            let has_disk = |name: &str| {
                inventory.disks.iter().any(|disk| disk.name == name && disk.model.is_some())
            };
            assert!(
                ["nvme0n1", "sda", "sdc", "sdd"].into_iter().all(has_disk),
                "{:?}",
                inventory.disks
            );
            assert!(inventory.nics.iter().any(|nic| nic.name == "bond0"), "{:?}", inventory.nics);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
