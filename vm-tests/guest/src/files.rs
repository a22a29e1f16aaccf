//! Files of the machine.

use std::{fs, path::Path};

use anyhow::Context as _;

/// Copies a file, a link, or a directory with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let kind =
        fs::symlink_metadata(from).with_context(|| format!("no {}", from.display()))?.file_type();
    if kind.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
    } else if kind.is_dir() {
        fs::create_dir(to)?;
        fs::set_permissions(to, fs::symlink_metadata(from)?.permissions())?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else {
        fs::copy(from, to)?;
    }
    Ok(())
}
