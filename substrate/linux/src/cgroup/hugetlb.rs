//! The hugetlb controller: huge pages of a group, by their size.

use std::fs;

use super::Cgroup;
use crate::{LinuxError, Result};

/// Forbids huge pages of every size: a reservation included, so that nobody takes them from who
/// was granted some.
///
/// # Errors
/// If the controller is not enabled.
pub fn forbid(group: &Cgroup) -> Result<()> {
    let fail = |errno| LinuxError::path("read", group.path(), errno);
    let mut found = false;
    for entry in fs::read_dir(group.path()).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        let Some(name) = name.to_str().filter(|name| is_limit(name)) else { continue };
        found = true;
        group.write(name, "0")?;
    }
    if found {
        return Ok(());
    }
    Err(fail(std::io::ErrorKind::NotFound.into()))
}

/// `hugetlb.2MB.max` and `hugetlb.2MB.rsvd.max`.
fn is_limit(name: &str) -> bool {
    name.starts_with("hugetlb.") && name.ends_with(".max")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::tests::directory;

    #[test]
    fn every_size_is_forbidden() {
        let files =
            ["hugetlb.2MB.max", "hugetlb.1GB.rsvd.max", "hugetlb.2MB.current", "memory.max"];
        let (_directory, group) = directory(&files.map(|name| (name, "max")));
        forbid(&group).unwrap();
        assert!(
            group.read(files[0]).unwrap().starts_with('0')
                && group.read(files[1]).unwrap().starts_with('0')
        );
        assert_eq!(
            (group.read(files[2]).unwrap(), group.read(files[3]).unwrap()),
            ("max".into(), "max".into())
        );
        let (_directory, without) = directory(&[]);
        assert!(forbid(&without).is_err());
    }
}
