//! Finds the kernels of an image and the modules that belong to them. Pure.

use std::cmp::Ordering;

use crate::tree::{Content, Tree};

/// Folders that can hold `RELEASE/`; the first is a link to the second where `/usr` is merged.
const MODULE_FOLDERS: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// A kernel with its modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// As `uname -r` prints it.
    pub release: String,
    /// Its path, for messages.
    pub path: String,
    pub image: Content,
    /// `lib/modules/RELEASE`.
    pub modules: String,
}

/// The kernels of an image, newest first. Where there is none: what was looked for and what there is instead.
pub(crate) fn find(tree: &Tree) -> Result<Vec<Kernel>, String> {
    let mut kernels: Vec<Kernel> = Vec::new();
    let mut without_kernel = Vec::new();
    for folder in MODULE_FOLDERS {
        for release in tree.names(folder.as_bytes()) {
            let Ok(release) = std::str::from_utf8(release) else { continue };
            let modules = format!("{folder}/{release}");
            let is_folder = tree.find(modules.as_bytes()).is_some_and(|inode| tree.folder(inode).is_some());
            if !is_folder || kernels.iter().any(|kernel| kernel.release == release) {
                continue;
            }
            let paths = [format!("{modules}/vmlinuz"), format!("boot/vmlinuz-{release}")];
            match paths.into_iter().find_map(|path| Some((tree.content(path.as_bytes())?, path))) {
                Some((image, path)) => {
                    kernels.push(Kernel { release: release.to_owned(), path, image, modules });
                }
                None => without_kernel.push(release.to_owned()),
            }
        }
    }
    if kernels.is_empty() {
        return Err(what_there_is(tree, without_kernel));
    }
    kernels.sort_by(|a, b| compare_versions(&b.release, &a.release));
    Ok(kernels)
}

fn what_there_is(tree: &Tree, mut without_kernel: Vec<String>) -> String {
    let boot: Vec<String> = tree
        .names(b"boot")
        .into_iter()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .filter(|name| name.starts_with("vmlinuz"))
        .collect();
    without_kernel.sort();
    without_kernel.dedup();
    match (boot.is_empty(), without_kernel.is_empty()) {
        (true, true) => "it has neither modules nor a kernel".to_owned(),
        (true, false) => format!("it has modules for {}, but no kernel", without_kernel.join(", ")),
        (false, true) => format!("it has boot/{}, but no modules", boot.join(", boot/")),
        (false, false) => {
            format!("it has modules for {}, and boot/{}", without_kernel.join(", "), boot.join(", boot/"))
        }
    }
}

/// Compares versions: runs of digits as numbers, the rest as text.
pub(crate) fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let ((word_a, rest_a), (word_b, rest_b)) = (split_run(a), split_run(b));
        if word_a.is_empty() || word_b.is_empty() {
            return word_a.len().cmp(&word_b.len());
        }
        let number = |word: &str| word.parse::<u64>().ok();
        let order = match (number(word_a), number(word_b)) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => word_a.cmp(word_b),
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

/// The leading run of digits or of other characters, and what follows.
fn split_run(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar_stream::{Entry, Kind, Metadata};

    fn tree(paths: &[&str]) -> Tree {
        let mut tree = Tree::new();
        for (ordinal, path) in paths.iter().enumerate() {
            let (path, kind) = match path.split_once(" -> ") {
                Some((path, target)) => (path, Kind::Symlink(target.into())),
                None => (*path, Kind::File),
            };
            let entry = Entry { path: path.into(), kind, metadata: Metadata::default(), size: 1 };
            tree.apply(0, ordinal, entry).unwrap();
        }
        tree
    }

    #[test]
    fn versions_order_by_number() {
        let mut versions = ["6.1.0-9-amd64", "6.1.0-10-amd64", "5.15.200", "6.1.0-10-cloud-amd64", "6.1"];
        versions.sort_by(|a, b| compare_versions(b, a));
        assert_eq!(versions, ["6.1.0-10-cloud-amd64", "6.1.0-10-amd64", "6.1.0-9-amd64", "6.1", "5.15.200"]);
    }

    #[test]
    fn finds_kernels_in_both_places_newest_first() {
        let tree = tree(&[
            "lib -> usr/lib",
            "usr/lib/modules/6.1.0-9/modules.dep",
            "usr/lib/modules/6.1.0-10/vmlinuz",
            "usr/lib/modules/6.1.0-11/modules.dep",
            "boot/vmlinuz-6.1.0-9",
        ]);
        let found: Vec<_> =
            find(&tree).unwrap().into_iter().map(|kernel| (kernel.release, kernel.path)).collect();
        let want = [("6.1.0-10", "lib/modules/6.1.0-10/vmlinuz"), ("6.1.0-9", "boot/vmlinuz-6.1.0-9")];
        assert_eq!(found, want.map(|(release, path)| (release.to_owned(), path.to_owned())));
    }

    #[test]
    fn says_what_there_is_instead() {
        for (paths, want) in [
            (&["etc/passwd"][..], "it has neither modules nor a kernel"),
            (&["lib/modules/6.1/modules.dep"], "it has modules for 6.1, but no kernel"),
            (&["boot/vmlinuz-6.1"], "it has boot/vmlinuz-6.1, but no modules"),
            (&["boot/vmlinuz-6.1", "lib/modules/6.2/x"], "it has modules for 6.2, and boot/vmlinuz-6.1"),
        ] {
            assert_eq!(find(&tree(paths)), Err(want.to_owned()));
        }
    }
}
