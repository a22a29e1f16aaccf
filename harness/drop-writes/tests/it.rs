//! What is lost and what is kept of a program's writes. The program is `watched` of this package,
//! started with the library before it.

#![allow(clippy::unwrap_used)]

use std::{env, fs, path::PathBuf, process::Command};

use harness::write_journal::{DIRECTORY_VARIABLE, Loss, ROOTS_VARIABLE, reset, roll_back};
use tempfile::TempDir;

struct Place {
    directory: TempDir,
}

impl Place {
    /// With a file of three sectors on its disk.
    fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(place.watched()).unwrap();
        fs::write(place.watched().join("file"), sectors("aaa")).unwrap();
        reset(&place.journal()).unwrap();
        place
    }

    fn watched(&self) -> PathBuf {
        self.directory.path().join("watched")
    }

    fn journal(&self) -> PathBuf {
        self.directory.path().join("journal")
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the program that is watched is started here alone"
    )]
    fn does(&self, step: &str) -> &Self {
        let own = env::current_exe().unwrap();
        let library = own.parent().unwrap().parent().unwrap().join("libdrop_writes.so");
        assert!(library.exists(), "{} is not built: cargo build -p drop-writes", library.display());
        let output = Command::new(env!("CARGO_BIN_EXE_watched"))
            .arg(step)
            .arg(self.directory.path())
            .env("LD_PRELOAD", library)
            .env(DIRECTORY_VARIABLE, self.journal())
            .env(ROOTS_VARIABLE, self.watched())
            .output()
            .unwrap();
        assert!(output.status.success(), "{step}: {output:?}");
        self
    }

    /// The power is cut, and all is lost that can be.
    fn cut(&self) -> Loss {
        self.cut_with(&mut |_| 0)
    }

    fn cut_with(&self, choose: &mut dyn FnMut(u64) -> u64) -> Loss {
        roll_back(&self.journal(), &[&self.watched()], choose).unwrap()
    }

    fn content(&self, name: &str) -> Option<String> {
        let bytes = fs::read(self.watched().join(name)).ok()?;
        let letters = bytes.chunks(512).map(|sector| {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector of two contents");
            char::from(sector[0])
        });
        Some(letters.collect())
    }
}

/// A letter for each sector.
fn sectors(letters: &str) -> Vec<u8> {
    letters.bytes().flat_map(|letter| [letter; 512]).collect()
}

#[test]
fn what_is_not_synced_is_lost() {
    let changes = [
        ("write", "bba"),
        ("write at", "aca"),
        ("append", "aaadd"),
        ("replace", "e"),
        ("cut", "a"),
    ];
    for (step, done) in changes {
        let place = Place::new();
        place.does(step);
        assert_eq!(place.content("file").as_deref(), Some(done), "{step}");
        assert_eq!(place.cut().files, 1, "{step}");
        assert_eq!(place.content("file").as_deref(), Some("aaa"), "{step}");

        let place = Place::new();
        let loss = place.does(step).does("sync").cut();
        assert_eq!((loss.files, loss.sectors), (0, 0), "{step}");
        assert_eq!(place.content("file").as_deref(), Some(done), "{step}");
    }
}

#[test]
fn only_the_part_after_the_last_sync_is_lost() {
    let place = Place::new();
    place.does("write").does("sync").does("write at").does("append").cut();
    assert_eq!(place.content("file").as_deref(), Some("bba"));
}

#[test]
fn each_sector_is_lost_by_itself() {
    // Contents of the sectors from the first on, then the size.
    let cuts: [([u64; 4], &str); 3] =
        [([0, 1, 2, 9], "aba"), ([1, 0, 2, 9], "baa"), ([1, 2, 0, 9], "bca")];
    for (chosen, left) in cuts {
        let place = Place::new();
        place.does("write").does("write at");
        let mut chosen = chosen.into_iter();
        place.cut_with(&mut |most| chosen.next().unwrap().min(most - 1));
        assert_eq!(place.content("file").as_deref(), Some(left), "{chosen:?}");
    }
}

#[test]
fn names_are_lost_until_their_directory_is_synced() {
    let place = Place::new();
    assert_eq!(place.does("rename").cut().names, 1);
    assert_eq!(place.content("file").as_deref(), Some("aaa"));
    assert_eq!(place.content("new").as_deref(), Some("n"));

    let place = Place::new();
    assert_eq!(place.does("rename").does("sync directory").cut().names, 0);
    assert_eq!(place.content("file").as_deref(), Some("n"));

    let place = Place::new();
    assert_eq!(place.does("remove").cut().names, 1);
    assert_eq!(place.content("file").as_deref(), Some("aaa"));

    let place = Place::new();
    assert_eq!(place.does("remove").does("sync directory").cut().names, 0);
    assert_eq!(place.content("file"), None);
}

#[test]
fn what_is_not_watched_is_left_alone() {
    let place = Place::new();
    assert_eq!(place.does("elsewhere").cut(), Loss::default());
    assert_eq!(fs::read(place.directory.path().join("elsewhere")).unwrap(), b"x");
}
