//! Finds the kernels of an image and the modules that belong to them. Pure.

use std::{cmp::Ordering, collections::BTreeMap};

use crate::tree::{Content, Tree};

/// Directories that can hold `RELEASE/`; the first is a link to the second where `/usr` is merged.
const MODULE_DIRECTORIES: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// Magic number of the boot protocol at 0x202, and where the text of the version is told at: a
/// 16-bit number at 0x20e, counted from 0x200 (Documentation/arch/x86/boot.rst).
const MAGIC: (usize, &[u8]) = (0x202, b"HdrS");
const VERSION_AT: usize = 0x20e;
const VERSION_BASE: usize = 0x200;

/// Longest release that `uname` can tell, bytes (`__NEW_UTS_LEN`).
const MAX_RELEASE_BYTES: usize = 64;

/// How much of a kernel's image says its release, bytes: as far as a 16-bit number leads.
pub(crate) const HEAD_BYTES: usize = VERSION_BASE + (1 << 16) + MAX_RELEASE_BYTES + 1;

/// The release that an x86 kernel names in its header: the first word of its version.
pub(crate) fn release_in(head: &[u8]) -> Option<String> {
    let (at, magic) = MAGIC;
    if head.get(at..at + magic.len())? != magic {
        return None;
    }
    let offset = head.get(VERSION_AT..VERSION_AT + 2)?;
    let offset = usize::from(u16::from_le_bytes([offset[0], offset[1]]));
    // 0: a kernel that does not say.
    let text = head.get(VERSION_BASE + offset..).filter(|_| offset != 0)?;
    let end =
        text.iter().take(MAX_RELEASE_BYTES + 1).position(|&byte| byte == b' ' || byte == 0)?;
    let release = &text[..end];
    let is_release = !release.is_empty()
        && release.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"._+~-".contains(&byte));
    is_release.then(|| String::from_utf8_lossy(release).into_owned())
}

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

/// An image in which no kernel has modules: what it has instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MissingKernel {
    /// Nothing.
    #[error("it has neither modules nor a kernel")]
    Nothing,
    /// Modules of these releases.
    #[error("it has modules for {}, but no kernel", .0.join(", "))]
    Modules(Vec<String>),
    /// These files below `boot`.
    #[error("it has boot/{}, but no modules", .0.join(", boot/"))]
    Kernels(Vec<String>),
    /// Both, of which none belongs to another.
    #[error("it has modules for {}, and boot/{}", releases.join(", "), kernels.join(", boot/"))]
    Apart {
        /// Of the modules.
        releases: Vec<String>,
        /// Names below `boot`.
        kernels: Vec<String>,
    },
}

/// The kernels of an image, newest first. Where there is none: what there is instead.
///
/// A kernel is `RELEASE/vmlinuz` beside its modules, or `boot/vmlinuz-RELEASE`, or any
/// `boot/vmlinuz*` whose header says RELEASE; `release_of` tells what the header says.
pub(crate) fn find<'a>(
    tree: &Tree,
    release_of: impl Fn(Content) -> Option<&'a str>,
) -> Result<Vec<Kernel>, MissingKernel> {
    let named = by_header(tree, release_of);
    let mut kernels: Vec<Kernel> = Vec::new();
    let mut without_kernel = Vec::new();
    for directory in MODULE_DIRECTORIES {
        for release in tree.names(directory.as_bytes()) {
            let Ok(release) = std::str::from_utf8(release) else { continue };
            let modules = format!("{directory}/{release}");
            let is_directory =
                tree.find(modules.as_bytes()).is_some_and(|inode| tree.directory(inode).is_some());
            if !is_directory || kernels.iter().any(|kernel| kernel.release == release) {
                continue;
            }
            let paths = [format!("{modules}/vmlinuz"), format!("boot/vmlinuz-{release}")];
            let paths = paths.into_iter().chain(named.get(release).cloned());
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

/// Paths of `boot/vmlinuz*` by the release in their headers; of several the first by name.
fn by_header<'a>(
    tree: &Tree,
    release_of: impl Fn(Content) -> Option<&'a str>,
) -> BTreeMap<&'a str, String> {
    let mut named = BTreeMap::new();
    for name in tree.names(b"boot") {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let path = format!("boot/{name}");
        if name.starts_with("vmlinuz")
            && let Some(release) = tree.content(path.as_bytes()).and_then(&release_of)
        {
            named.entry(release).or_insert(path);
        }
    }
    named
}

fn what_there_is(tree: &Tree, mut releases: Vec<String>) -> MissingKernel {
    let kernels: Vec<String> = tree
        .names(b"boot")
        .into_iter()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .filter(|name| name.starts_with("vmlinuz"))
        .collect();
    releases.sort();
    releases.dedup();
    match (kernels.is_empty(), releases.is_empty()) {
        (true, true) => MissingKernel::Nothing,
        (true, false) => MissingKernel::Modules(releases),
        (false, true) => MissingKernel::Kernels(kernels),
        (false, false) => MissingKernel::Apart { releases, kernels },
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
        let mut tree = Tree::new(std::sync::Arc::default());
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
        let mut versions =
            ["6.1.0-9-amd64", "6.1.0-10-amd64", "5.15.200", "6.1.0-10-cloud-amd64", "6.1"];
        versions.sort_by(|a, b| compare_versions(b, a));
        assert_eq!(
            versions,
            ["6.1.0-10-cloud-amd64", "6.1.0-10-amd64", "6.1.0-9-amd64", "6.1", "5.15.200"]
        );
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
        let found: Vec<_> = find(&tree, |_| None)
            .unwrap()
            .into_iter()
            .map(|kernel| (kernel.release, kernel.path))
            .collect();
        let want =
            [("6.1.0-10", "lib/modules/6.1.0-10/vmlinuz"), ("6.1.0-9", "boot/vmlinuz-6.1.0-9")];
        assert_eq!(found, want.map(|(release, path)| (release.to_owned(), path.to_owned())));
    }

    #[test]
    fn says_what_there_is_instead() {
        for (paths, want) in [
            (&["etc/passwd"][..], "it has neither modules nor a kernel"),
            (&["lib/modules/6.1/modules.dep"], "it has modules for 6.1, but no kernel"),
            (&["boot/vmlinuz-6.1"], "it has boot/vmlinuz-6.1, but no modules"),
            (
                &["boot/vmlinuz-6.1", "lib/modules/6.2/x"],
                "it has modules for 6.2, and boot/vmlinuz-6.1",
            ),
        ] {
            assert_eq!(find(&tree(paths), |_| None).unwrap_err().to_string(), want);
        }
    }

    fn header(version: &[u8]) -> Vec<u8> {
        let mut head = vec![0; 0x300];
        head[0x202..0x206].copy_from_slice(b"HdrS");
        head[0x20e..0x210].copy_from_slice(&0x80_u16.to_le_bytes());
        head[0x280..0x280 + version.len()].copy_from_slice(version);
        head
    }

    #[test]
    fn a_header_says_the_release() {
        let said = |version: &[u8]| release_in(&header(version));
        assert_eq!(
            said(b"6.6.58-0-lts (build@x) #1-Alpine SMP\0").as_deref(),
            Some("6.6.58-0-lts")
        );
        assert_eq!(said(b"6.1.0\0").as_deref(), Some("6.1.0"));
        for bad in [&b"\0"[..], b" x\0", b"../../etc \0", b"a\nb \0", &[b'9'; 100]] {
            assert_eq!(said(bad), None, "{bad:?}");
        }
        assert_eq!(release_in(b"MZ"), None);
        assert_eq!(release_in(&[0; 0x300]), None);
        let mut far = header(b"");
        far[0x20e..0x210].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(release_in(&far), None);
    }

    #[test]
    fn a_kernel_of_another_name_belongs_to_the_modules_of_its_release() {
        let paths =
            ["boot/vmlinuz-lts", "boot/vmlinuz-virt", "lib/modules/6.6.58-0-lts/modules.dep"];
        let tree = tree(&paths);
        let lts = tree.content(b"boot/vmlinuz-lts").unwrap();
        let found = find(&tree, |content| (content == lts).then_some("6.6.58-0-lts")).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].release.as_str(), found[0].path.as_str()),
            ("6.6.58-0-lts", "boot/vmlinuz-lts")
        );
    }
}
