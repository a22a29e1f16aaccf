//! What the payload finds of its user: directories that are made for it, its lines in lists, the
//! names of the node.

use std::{env, fs, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, ensure};

use super::stage::{LISTED, NAME_OF_NODE};

fn has_owner(path: &Path, wanted: (u32, u32, u32)) -> anyhow::Result<()> {
    let meta = fs::symlink_metadata(path).with_context(|| format!("no {}", path.display()))?;
    let found = (meta.mode() & 0o7777, meta.uid(), meta.gid());
    ensure!(found == wanted, "{} has mode, user and group {found:?}", path.display());
    Ok(())
}

fn has_lines(path: &str, wanted: &[&str]) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    for line in wanted {
        ensure!(text.lines().any(|found| found == *line), "{path} has no line {line:?}: {text:?}");
    }
    Ok(())
}

/// The argument is the directory; as runc makes it.
pub(super) fn made_working_directory(wanted: &[String]) -> anyhow::Result<()> {
    let directory = env::current_dir()?;
    ensure!(
        wanted == [directory.display().to_string()],
        "the working directory is {}",
        directory.display()
    );
    has_owner(&directory, (0o755, 0, 0))
}

/// The argument is the directory.
pub(super) fn working_directory_in_a_volume(wanted: &[String]) -> anyhow::Result<()> {
    let directory = env::current_dir()?;
    ensure!(
        wanted == [directory.display().to_string()],
        "the working directory is {}",
        directory.display()
    );
    has_owner(&directory, (0o755, 1000, 1000))
}

pub(super) fn home(_: &[String]) -> anyhow::Result<()> {
    let home = env::var("HOME")?;
    ensure!(home == "/home/ada", "HOME is {home}");
    has_owner(Path::new(&home), (0o700, 1000, 1000))?;
    fs::create_dir_all(Path::new(&home).join(".cache/x"))?;
    has_lines("/etc/passwd", &["ada:x:1000:1000::/home/ada:/bin/sh"])
}

pub(super) fn lines_of_the_user(_: &[String]) -> anyhow::Result<()> {
    has_lines("/etc/passwd", &["ada:x:1000:1000::/:/bin/sh"])?;
    has_lines("/etc/group", &["ada:x:1000:", "g2001:x:2001:ada"])
}

pub(super) fn links_are_replaced(_: &[String]) -> anyhow::Result<()> {
    has_lines("/etc/passwd", &[LISTED, "ada:x:1000:1000::/:/bin/sh"])?;
    let listed = fs::read_to_string("/etc/listed")?;
    ensure!(listed.trim() == LISTED, "the image's own list says {listed:?}");
    for path in ["/etc/passwd", "/etc/hostname"] {
        ensure!(fs::symlink_metadata(path)?.is_file(), "{path} is no file of its own");
    }
    ensure!(!Path::new("/tmp/host").exists(), "the host name went through a link");
    Ok(())
}

pub(super) fn names_of_the_node(_: &[String]) -> anyhow::Result<()> {
    has_lines("/etc/hosts", &[NAME_OF_NODE, "127.0.1.1 job"])
}
