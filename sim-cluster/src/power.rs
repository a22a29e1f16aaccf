//! The power of the server's machine: what its disk has not got yet when it is cut.
//!
//! `SIGKILL` takes nothing of what a program wrote, so the library `drop-writes`, which lies beside
//! this program, is put before the server, and what was not synced is taken back after the kill.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use harness::write_journal::{self, DIRECTORY_VARIABLE, Loss, ROOTS_VARIABLE};

/// The library's file.
const LIBRARY: &str = "libdrop_writes.so";

/// What becomes of unsynced writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnsyncedWrites {
    /// The program was killed, and its machine goes on.
    Kept,
    /// None of them had reached the disk.
    Lost,
    /// Each sector is as it was at any time since it was last synced.
    Torn,
}

/// A machine whose power can be cut.
#[derive(Debug)]
pub(crate) struct Power {
    library: PathBuf,
    journal: PathBuf,
    watched: [PathBuf; 2],
}

impl Power {
    /// Of a server that has its state and its overlays in this directory. The journal is beside it.
    ///
    /// # Errors
    /// If the library is not built, or the journal's directory cannot be made.
    pub(crate) fn watch(directory: &Path) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("cannot tell where this program is")?;
        let library = own.with_file_name(LIBRARY);
        ensure!(
            library.exists(),
            "{} is not there: build it as this program was built (cargo build --package drop-writes)",
            library.display()
        );
        let journal = directory.with_extension("journal");
        write_journal::reset(&journal)?;
        let watched = [directory.join("state"), directory.join("overlays")];
        Ok(Self { library, journal, watched })
    }

    /// What the server must find in its environment.
    pub(crate) fn environment(&self) -> Vec<(&'static str, OsString)> {
        let [state, overlays] = &self.watched;
        let mut roots = OsString::from(state);
        roots.push(":");
        roots.push(overlays);
        vec![
            ("LD_PRELOAD", self.library.clone().into()),
            (DIRECTORY_VARIABLE, self.journal.clone().into()),
            (ROOTS_VARIABLE, roots),
        ]
    }

    /// To be called while the server is dead: takes back what it had not synced.
    ///
    /// # Errors
    /// If the journal cannot be read, or says that nothing was watched; or a file not be written.
    pub(crate) fn cut(&self, fate: UnsyncedWrites, chance: &mut Rng) -> anyhow::Result<Loss> {
        let roots: Vec<&Path> = self.watched.iter().map(PathBuf::as_path).collect();
        let loss = match fate {
            UnsyncedWrites::Kept => Loss::default(),
            UnsyncedWrites::Lost => write_journal::roll_back(&self.journal, &roots, &mut |_| 0)?,
            UnsyncedWrites::Torn => {
                write_journal::roll_back(&self.journal, &roots, &mut |most| chance.u64(..most))?
            }
        };
        ensure!(
            fate == UnsyncedWrites::Kept || loss.records > 0,
            "{} saw no write of the server: is it linked statically?",
            self.library.display()
        );
        write_journal::reset(&self.journal)?;
        Ok(loss)
    }
}
