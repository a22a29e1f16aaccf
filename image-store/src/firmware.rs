//! Finds the firmware files that modules declare in the image. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    inflate::ENDINGS,
    tree::{InodeId, Node, Tree},
};

/// Most missing files that a warning names.
const MAX_NAMED: usize = 8;

/// The firmware of one kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Firmware {
    /// Name as the kernel asks for it → file in the image, and its name there (which tells how it
    /// is compressed).
    pub found: BTreeMap<String, (InodeId, String)>,
    pub missing: BTreeSet<String>,
}

/// Looks for `names` where the kernel `release` would (kernel document
/// `firmware/fw_search_path.rst`).
pub(crate) fn find<'a>(
    tree: &Tree,
    release: &str,
    names: impl Iterator<Item = &'a str>,
) -> Firmware {
    let directories = [
        format!("lib/firmware/updates/{release}"),
        "lib/firmware/updates".to_owned(),
        format!("lib/firmware/{release}"),
        "lib/firmware".to_owned(),
    ];
    let mut firmware = Firmware::default();
    for name in names {
        // Names come from the image: none may lead out of the firmware directory of the initramfs.
        if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            continue;
        }
        let file = |path: &str| {
            let inode = tree.find(path.as_bytes())?;
            matches!(tree.inodes[inode].node, Node::File(_)).then_some(inode)
        };
        let found = directories.iter().find_map(|directory| {
            std::iter::once("").chain(ENDINGS).find_map(|ending| {
                Some((file(&format!("{directory}/{name}{ending}"))?, format!("{name}{ending}")))
            })
        });
        match found {
            Some(found) => drop(firmware.found.insert(name.to_owned(), found)),
            None => drop(firmware.missing.insert(name.to_owned())),
        }
    }
    firmware
}

/// One line about missing files, if there are any.
pub(crate) fn warning(release: &str, missing: &BTreeSet<String>) -> Option<String> {
    if missing.is_empty() {
        return None;
    }
    let mut named: Vec<&str> = missing.iter().take(MAX_NAMED).map(String::as_str).collect();
    if missing.len() > MAX_NAMED {
        named.push("…");
    }
    Some(format!(
        "kernel {release}: {} firmware files that network and disk drivers can ask for are not in the image ({}); \
         hardware that needs one works only if the image has the firmware package",
        missing.len(),
        named.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar_stream::{Entry, Kind, Metadata};

    #[test]
    fn looks_where_the_kernel_does() {
        let mut tree = Tree::new(std::sync::Arc::default());
        let files = [
            "lib/firmware/a/1.bin",
            "lib/firmware/updates/a/1.bin",
            "lib/firmware/6.1/b.fw.zst",
            "etc/x",
        ];
        for (ordinal, path) in files.iter().enumerate() {
            let metadata = Metadata::default();
            tree.apply(
                0,
                ordinal,
                Entry { path: (*path).into(), kind: Kind::File, metadata, size: 1 },
            )
            .unwrap();
        }
        let found =
            find(&tree, "6.1", ["a/1.bin", "b.fw", "c.fw", "../../etc/x", "/etc/x"].into_iter());
        let id = |path: &str| tree.find(path.as_bytes()).unwrap();
        let want = [
            ("a/1.bin".to_owned(), (id("lib/firmware/updates/a/1.bin"), "a/1.bin".to_owned())),
            ("b.fw".to_owned(), (id("lib/firmware/6.1/b.fw.zst"), "b.fw.zst".to_owned())),
        ];
        assert_eq!(found.found, want.into());
        assert_eq!(found.missing, ["c.fw".to_owned()].into());
    }
}
