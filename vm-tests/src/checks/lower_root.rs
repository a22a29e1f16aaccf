//! The read-only root of a booted node, compared with what umoci makes of the same image.
//!
//! Type, mode, owner, size, link target, hard links, device numbers, extended attributes and
//! content must be the same.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};

use crate::{
    check::Memory,
    cluster::{ADDRESSES, Cluster},
    process,
};

/// Lists everything below the current directory. A line begins with a letter that
/// says what it tells.
const LIST: &str = r#"
find . -printf 'e\t%i\t%n\t%y\t%m\t%U\t%G\t%s\t%l\t%p\n'
find . \( -type b -o -type c \) -exec stat --printf 'd\t%t:%T\t%n\n' {} +
getfattr -R -P -h -d -m - -e hex . 2>/dev/null | sed -e '/^$/d' -e 's/^/x\t/'
find . -type f -print0 | xargs -0 sha256sum --zero | tr '\0' '\n' | sed -e 's/^/h\t/'
"#;

/// Differences that a failure shows.
const SHOWN: usize = 20;

/// Compares them.
pub(crate) fn equals_umoci(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let unpacked = cluster.image.unpacked()?;
    let here =
        process::output("sh", &["-c", &format!("cd '{}' && {LIST}", unpacked.display())], b"")?;
    ensure!(here.status.success(), "listing {}: {}", unpacked.display(), process::words(&here));
    let expected = parse(&String::from_utf8_lossy(&here.stdout))?;
    let there = cluster.on_node(ADDRESSES[0], &format!("cd /run/bedplate/lower && {LIST}"))?;
    let found = parse(&there)?;
    ensure!(
        expected.len() > 5000,
        "umoci unpacked only {} files: the check proves nothing",
        expected.len()
    );
    let differences = differences(&expected, &found);
    ensure!(
        differences.is_empty(),
        "{} of {} files differ; the first:\n{}",
        differences.len(),
        expected.len(),
        differences[..differences.len().min(SHOWN)].join("\n")
    );
    Ok(())
}

fn differences(expected: &BTreeMap<String, Entry>, found: &BTreeMap<String, Entry>) -> Vec<String> {
    let missing = expected.iter().filter(|(path, _)| !found.contains_key(*path));
    let mut differences: Vec<String> =
        missing.map(|(path, _)| format!("{path}: missing on the node")).collect();
    for (path, entry) in found {
        match expected.get(path) {
            None => differences.push(format!("{path}: only on the node")),
            Some(other) if other != entry => {
                differences.push(format!("{path}:\n  umoci {other:?}\n  node  {entry:?}"));
            }
            Some(_) => {}
        }
    }
    differences
}

/// What is compared of one file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    /// Type, mode, owner, group, target of a link; size of a file.
    facts: Vec<String>,
    /// The first of all paths of the same file, if it has several.
    same_as: Option<String>,
    device: Option<String>,
    attributes: Vec<String>,
    hash: Option<String>,
}

fn parse(listing: &str) -> anyhow::Result<BTreeMap<String, Entry>> {
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    let mut by_inode: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut attributed = String::new();
    for line in listing.lines() {
        let Some((kind, rest)) = line.split_once('\t') else { continue };
        let unknown = || format!("a line of the listing is about a file that is not in it: {line}");
        match kind {
            "e" => {
                let words: Vec<&str> = rest.splitn(9, '\t').collect();
                let &[inode, links, sort, mode, user, group, size, target, path] = words.as_slice()
                else {
                    continue;
                };
                let size = if sort == "f" { size } else { "" };
                let facts = [sort, mode, user, group, size, target].map(str::to_owned).to_vec();
                entries.insert(path.to_owned(), Entry { facts, ..Entry::default() });
                if sort != "d" && links != "1" {
                    by_inode.entry(inode.to_owned()).or_default().push(path.to_owned());
                }
            }
            "d" => {
                let (numbers, path) = rest.split_once('\t').with_context(unknown)?;
                entries.get_mut(path).with_context(unknown)?.device = Some(numbers.to_owned());
            }
            "x" => match rest.strip_prefix("# file: ") {
                Some(path) if path == "." => attributed = path.to_owned(),
                Some(path) => attributed = format!("./{path}"),
                None => entries
                    .get_mut(&attributed)
                    .with_context(unknown)?
                    .attributes
                    .push(rest.to_owned()),
            },
            _ => {
                let (hash, path) = rest.split_once("  ").with_context(unknown)?;
                entries.get_mut(path).with_context(unknown)?.hash = Some(hash.to_owned());
            }
        }
    }
    for mut paths in by_inode.into_values() {
        paths.sort();
        let first = paths[0].clone();
        for path in paths {
            entries.entry(path).or_default().same_as = Some(first.clone());
        }
    }
    for entry in entries.values_mut() {
        entry.attributes.sort();
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::{differences, parse};

    const LISTING: &str = "e\t1\t3\td\t755\t0\t0\t4096\t\t.\ne\t2\t2\tf\t644\t0\t0\t3\t\t./a\ne\t2\t2\tf\t644\t0\t0\t3\t\t./b\n\
        e\t3\t1\tc\t666\t0\t0\t0\t\t./null\nd\t1:3\t./null\nx\t# file: a\nx\tuser.k=0x31\nh\tffff  ./a\nh\tffff  ./b\n";

    #[test]
    fn every_fact_counts() {
        let expected = parse(LISTING).unwrap();
        assert!(differences(&expected, &parse(LISTING).unwrap()).is_empty());
        for (from, to) in [
            ("d\t755", "d\t700"),
            ("1:3", "1:5"),
            ("0x31", "0x32"),
            ("ffff  ./b", "fffe  ./b"),
            ("e\t2\t2\tf\t644\t0\t0\t3\t\t./b", "e\t9\t1\tf\t644\t0\t0\t3\t\t./b"),
            ("./null", "./nil"),
        ] {
            assert!(
                !differences(&expected, &parse(&LISTING.replace(from, to)).unwrap()).is_empty(),
                "{from} -> {to}"
            );
        }
    }

    #[test]
    fn other_inode_numbers_and_directory_sizes_do_not_count() {
        let other = LISTING.replace("e\t2\t2", "e\t77\t2").replace("4096", "3");
        assert!(differences(&parse(LISTING).unwrap(), &parse(&other).unwrap()).is_empty());
    }
}
