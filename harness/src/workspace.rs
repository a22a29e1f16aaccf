//! The checkout that these programs were built in, and their directories in it.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// Its root.
///
/// # Errors
/// If this crate does not lie in it.
pub fn root() -> anyhow::Result<PathBuf> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("harness lies in the workspace")?;
    Ok(root.to_owned())
}

/// Makes sure that this is the only run that has this file in its directory, for as long as
/// the result lives.
///
/// # Errors
/// If another run is under way, or the file cannot be made.
pub fn lock(directory: &Path, name: &str) -> anyhow::Result<File> {
    make(directory)?;
    let path = directory.join(name);
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    file.try_lock().with_context(|| {
        format!(
            "another run is under way: wait for its end, or end it ({} is locked)",
            path.display()
        )
    })?;
    Ok(file)
}

/// Makes a directory, with those above it.
///
/// # Errors
/// If it cannot be made.
pub fn make(directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))
}

/// Removes a directory with all that is in it, if it is there.
///
/// # Errors
/// If it is there and stays.
pub fn remove(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
