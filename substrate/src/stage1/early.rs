//! The first file systems. `/dev` comes first: the console and random numbers are there.

use std::path::Path;

use linux::mount::{Flags, make_directory, mount};

/// What is mounted, in order, and moved to the new root later: path, kind, options, flags.
const MOUNTS: [(&str, &str, &str, Flags); 4] = [
    ("/dev", "devtmpfs", "mode=0755", Flags::NOSUID),
    ("/proc", "proc", "", Flags::NOSUID.union(Flags::NODEV).union(Flags::NOEXEC)),
    ("/sys", "sysfs", "", Flags::NOSUID.union(Flags::NODEV).union(Flags::NOEXEC)),
    ("/run", "tmpfs", "mode=0755", Flags::NOSUID.union(Flags::NODEV)),
];

/// The mount points, for the hand-over.
pub fn mount_points() -> impl Iterator<Item = &'static Path> {
    MOUNTS.iter().map(|(path, ..)| Path::new(*path))
}

/// Mounts them all. One that the kernel has mounted already is left.
///
/// # Errors
/// The first that fails.
pub fn mount_all() -> linux::Result<()> {
    for (path, kind, options, flags) in MOUNTS {
        let path = Path::new(path);
        make_directory(path, 0o755)?;
        match mount(Path::new(kind), path, kind, flags, options) {
            Err(error) if error.errno.kind() == std::io::ErrorKind::ResourceBusy => {}
            other => other?,
        }
    }
    make_directory(Path::new(crate::identity::DIRECTORY), 0o700)
}
