//! Where the peers are: `cargo xtask peers` installs most of them, and unpacks what cannot be
//! installed beside another.

use std::{fs, path::PathBuf};

use anyhow::bail;

use crate::checkout_paths::CheckoutPaths;

/// Debian packages whose versions are told.
pub(crate) const PACKAGES: [&str; 16] = [
    "kea-dhcp4-server",
    "kea-admin",
    "dnsmasq-base",
    "tftpd-hpa",
    "nginx-light",
    "wrk",
    "skopeo",
    "umoci",
    "cpio",
    "gzip",
    "zstd",
    "crun",
    "runc",
    "slurmctld",
    "parallel",
    "python3-yaml",
];

/// Directories of programs that are not always in `PATH`.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The program of a peer.
///
/// # Errors
/// If it is not there; says what installs it.
pub(crate) fn program(checkout_paths: &CheckoutPaths, name: &str) -> anyhow::Result<PathBuf> {
    let unpacked = ["usr/sbin", "usr/bin"]
        .map(|directory| checkout_paths.in_workspace("target/peers/atftpd").join(directory));
    // Installed ones first: the package atftpd has an in.tftpd too.
    let directories = DIRECTORIES.map(PathBuf::from).into_iter().chain(unpacked);
    match directories.map(|directory| directory.join(name)).find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("{name} is not installed: run `cargo xtask peers`"),
    }
}

/// Names and versions of what `cargo xtask peers` put under `target/peers`.
pub(crate) fn unpacked() -> Vec<String> {
    let Ok(checkout_paths) = CheckoutPaths::new() else { return Vec::new() };
    let text = fs::read_to_string(checkout_paths.in_workspace("target/peers/versions"))
        .unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
