//! The cpuset controller: which processors and memory nodes a group may use.

use super::Cgroup;
use crate::Result;

/// Restricts a group to processors and memory nodes, by their OS indexes. Without memory nodes
/// those of the parent stay.
///
/// # Errors
/// `ENOSPC` for a set that is empty, `EINVAL` for an index that the machine has not.
pub fn restrict(group: &Cgroup, cpus: &[u32], mems: &[u32]) -> Result<()> {
    group.write("cpuset.cpus", &list(cpus))?;
    if !mems.is_empty() {
        group.write("cpuset.mems", &list(mems))?;
    }
    Ok(())
}

/// The kernel's list format: `0-3,7`.
#[must_use]
pub fn list(indexes: &[u32]) -> String {
    let mut sorted = indexes.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for index in sorted {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(index) => *last = index,
            _ => ranges.push((index, index)),
        }
    }
    let text = |(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::tests::directory;

    #[test]
    fn lists_are_the_kernels() {
        for (indexes, text) in
            [(&[3, 1, 2, 2][..], "1-3"), (&[0, 2, 3, 9], "0,2-3,9"), (&[5], "5"), (&[], "")]
        {
            assert_eq!(list(indexes), text);
        }
        assert_eq!(list(&[u32::MAX, u32::MAX - 1]), "4294967294-4294967295");
    }

    #[test]
    fn both_sets_are_written() {
        let (_directory, group) = directory(&[("cpuset.cpus", ""), ("cpuset.mems", "")]);
        restrict(&group, &[0, 1], &[1]).unwrap();
        assert_eq!(group.read("cpuset.cpus").unwrap(), "0-1");
        assert_eq!(group.read("cpuset.mems").unwrap(), "1");
    }
}
