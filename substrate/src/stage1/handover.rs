//! The last steps: stage 1 leaves itself as the agent, gives the mounts to the new root and
//! becomes its init.

use std::{convert::Infallible, ffi::CString, fs, os::unix::ffi::OsStringExt, path::Path};

use anyhow::{Context, bail};
use api::image::INITS;
use linux::{
    mount,
    root::{Ownership, Root},
};

use crate::stage1::early;

/// Where the agent is on the node, relative to the root.
const AGENT: &str = "usr/lib/bedplate/substrate";

const SYSTEM_DIRECTORY: Ownership = Ownership { uid: 0, gid: 0, mode: 0o755 };

/// Copies the running program into the root, as the agent.
///
/// # Errors
/// The file or a directory of its path cannot be written.
pub fn install_agent(root: &Path) -> anyhow::Result<()> {
    let root = Root::open(root)?;
    let agent = Path::new(AGENT);
    let mut directories: Vec<_> =
        agent.ancestors().skip(1).filter(|directory| !directory.as_os_str().is_empty()).collect();
    directories.reverse();
    for directory in directories {
        if !root.leads_to_directory(directory) {
            root.make_directory(directory, SYSTEM_DIRECTORY)?;
        }
    }
    let mut program =
        fs::File::open("/proc/self/exe").context("cannot read the running program")?;
    root.write_file(agent, &mut program, SYSTEM_DIRECTORY)?;
    Ok(())
}

/// The init to start: the one asked for by `init=`, or the first that the image has.
///
/// # Errors
/// There is none; the text says what was looked for.
pub fn find_init(root: &Path, asked: Option<&str>) -> anyhow::Result<String> {
    let root = Root::open(root)?;
    let candidates: Vec<&str> = asked.map_or_else(|| INITS.to_vec(), |asked| vec![asked]);
    let found = candidates.iter().find(|path| root.leads_to_program(Path::new(path)));
    match (found, asked) {
        (Some(path), _) => Ok((*path).to_owned()),
        (None, Some(asked)) => bail!("the image has no program {asked}, which init= asks for"),
        (None, None) => bail!("the image has no init: looked for {}", candidates.join(", ")),
    }
}

/// Moves the mounts of stage 1 to the new root, and makes it the root.
///
/// # Errors
/// A mount cannot be moved. The old root is of no use after that.
pub fn switch(root: &Path) -> anyhow::Result<()> {
    let directory = Root::open(root)?;
    for point in early::mount_points() {
        let name = point.strip_prefix("/").unwrap_or(point);
        if !directory.leads_to_directory(name) {
            directory.make_directory(name, SYSTEM_DIRECTORY)?;
        }
        mount::move_to(point, &root.join(name))?;
    }
    drop(directory);
    linux::switch_root::switch_root(root)?;
    Ok(())
}

/// Becomes the image's init, with the arguments that the kernel gave us.
///
/// # Errors
/// It cannot be executed: another architecture, or its interpreter is missing.
pub fn become_init(init: &str) -> anyhow::Result<Infallible> {
    let arguments: Vec<_> = std::env::args_os()
        .skip(1)
        .filter_map(|argument| CString::new(argument.into_vec()).ok())
        .collect();
    Ok(linux::exec::replace_process(Path::new(init), &arguments)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_init_is_found_as_the_kernel_would() {
        let directory = tempfile::tempdir().unwrap();
        let error = find_init(directory.path(), None).unwrap_err().to_string();
        assert!(INITS.iter().all(|init| error.contains(init)), "{error}");

        fs::create_dir_all(directory.path().join("usr/lib/systemd")).unwrap();
        fs::create_dir_all(directory.path().join("usr/sbin")).unwrap();
        symlink("usr/lib", directory.path().join("lib")).unwrap();
        symlink("usr/sbin", directory.path().join("sbin")).unwrap();
        let systemd = directory.path().join("usr/lib/systemd/systemd");
        fs::write(&systemd, "").unwrap();
        fs::set_permissions(&systemd, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_init(directory.path(), None).unwrap(), "/lib/systemd/systemd");
        symlink("/lib/systemd/systemd", directory.path().join("usr/sbin/init")).unwrap();
        assert_eq!(find_init(directory.path(), None).unwrap(), "/sbin/init");
        assert!(
            find_init(directory.path(), Some("/bin/sh"))
                .unwrap_err()
                .to_string()
                .contains("/bin/sh")
        );
    }
}
