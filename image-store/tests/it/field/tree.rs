//! A tree on disk as lines that can be compared, and the tools that make such trees.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::Path,
    process::Command,
};

use image_store::{NoProgress, Platform, Store, build_job_root, oci::import_layout};

use crate::image::digest;

/// What there is to say of each path.
pub(super) type Tree = BTreeMap<String, String>;

/// A tree, or why there is none.
pub(super) type Made = Result<Tree, String>;

/// Our reading: the layout imported, its layers merged, and the squashfs of that unpacked.
pub(super) fn ours(layout: &Path, work: &Path) -> Made {
    let store = Store::open(work.join("store")).unwrap();
    let reference = format!("{}:1", layout.display());
    let image = import_layout(&store, &reference, &Platform::default(), &NoProgress);
    let image = image.map_err(|error| causes(&error))?;
    let root =
        build_job_root(&store, &image.layers, &NoProgress).map_err(|error| causes(&error))?;
    let out = work.join("ours");
    let mut unpack = Command::new("unsquashfs");
    run(unpack.args(["-no-progress", "-quiet", "-d"]).arg(&out).arg(store.path(&root.digest)))?;
    Ok(walk(&out))
}

/// What umoci makes of a layout.
pub(super) fn umoci(layout: &Path, work: &Path) -> Made {
    let bundle = work.join("bundle");
    let image = format!("{}:1", layout.display());
    run(Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle))?;
    Ok(walk(&bundle.join("rootfs")))
}

/// What GNU tar makes of layers that are plain archives without whiteouts.
pub(super) fn gnu_tar(layers: &[Vec<u8>], work: &Path) -> Made {
    let out = work.join("tar");
    fs::create_dir(&out).unwrap();
    for layer in layers {
        let archive = work.join("layer.tar");
        fs::write(&archive, layer).unwrap();
        let mut tar = Command::new("tar");
        tar.args([
            "--extract",
            "--same-permissions",
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
        ]);
        run(tar.arg("--sparse").arg("-f").arg(&archive).arg("-C").arg(&out))?;
    }
    Ok(walk(&out))
}

/// Runs a program; of its failure the last line that it said.
pub(super) fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().unwrap_or_else(|error| panic!("{name}: {error}: run xtask/setup.sh"));
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no word").trim().to_owned())
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// All below a directory, and the directory.
fn walk(root: &Path) -> Tree {
    let (mut tree, mut todo) = (Tree::new(), vec![root.to_owned()]);
    let mut names: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    while let Some(path) = todo.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let relative =
            path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        if metadata.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            names.entry(metadata.ino()).or_default().insert(relative.clone());
        }
        tree.insert(relative, line(&path, &metadata));
    }
    for names in names.into_values().filter(|names| names.len() > 1) {
        for name in &names {
            let others = names.iter().map(String::as_str).collect::<Vec<_>>().join("=");
            tree.entry(name.clone()).and_modify(|line| line.push_str(&format!(" names {others}")));
        }
    }
    tree
}

/// Kind, mode, owner, time, attributes, and what a path of this kind holds.
fn line(path: &Path, metadata: &fs::Metadata) -> String {
    let kind = metadata.file_type();
    let held = if kind.is_file() {
        let bytes = fs::read(path).unwrap();
        format!("{} bytes {}", bytes.len(), &digest(&bytes).hex()[..12])
    } else if kind.is_symlink() {
        format!("-> {}", fs::read_link(path).unwrap().as_os_str().as_bytes().escape_ascii())
    } else if kind.is_char_device() || kind.is_block_device() {
        let device = metadata.rdev();
        format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device))
    } else {
        String::new()
    };
    let word = match kind {
        _ if kind.is_dir() => "dir",
        _ if kind.is_file() => "file",
        _ if kind.is_symlink() => "link",
        _ if kind.is_fifo() => "fifo",
        _ if kind.is_char_device() => "char",
        _ => "block",
    };
    // The mode of a link means nothing on Linux.
    let mode = if kind.is_symlink() { 0 } else { metadata.mode() & 0o7777 };
    let (uid, gid, time) = (metadata.uid(), metadata.gid(), metadata.mtime());
    let attributes = attributes(path);
    format!("{word} {mode:04o} {uid}:{gid} @{time} {held}{attributes}").trim_end().to_owned()
}

fn attributes(path: &Path) -> String {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap();
    let mut shown: Vec<String> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
            format!(" {}={}", name.escape_ascii(), value[..length].escape_ascii())
        })
        .collect();
    shown.sort();
    shown.concat()
}
