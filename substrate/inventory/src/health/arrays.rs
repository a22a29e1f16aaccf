//! md arrays that miss a member: `/proc/mdstat`, which is there where the driver is.
//!
//! ```text
//! md0 : active raid1 sdb1[1](F) sda1[0]
//!       104320 blocks super 1.2 [2/1] [U_]
//! ```

use super::ScanFaults;
use crate::read::Reader;

const PATH: &str = "/proc/mdstat";

pub(super) fn exist(read: &Reader<'_>) -> bool {
    read.exists(PATH)
}

pub(super) fn check(read: &mut Reader<'_>, found: &mut ScanFaults) {
    for array in read.text(PATH).as_deref().map(degraded).unwrap_or_default() {
        found.warning(format!("array {array}"), "misses members");
    }
}

/// Names of arrays with fewer members at work than they should have.
fn degraded(text: &str) -> Vec<String> {
    let mut name = None;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some((array, _)) = line.split_once(" : ").filter(|_| line.starts_with("md")) {
            name = Some(array);
        } else if line.split_whitespace().any(misses) {
            found.extend(name.take().map(str::to_owned));
        }
    }
    found
}

/// `[2/1]`: of two, one works.
fn misses(word: &str) -> bool {
    let inner = word.strip_prefix('[').and_then(|word| word.strip_suffix(']'));
    let counts = inner.and_then(|inner| inner.split_once('/'));
    let counts = counts
        .and_then(|(all, at_work)| Some((all.parse::<u32>().ok()?, at_work.parse::<u32>().ok()?)));
    counts.is_some_and(|(all, at_work)| at_work < all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn arrays_that_miss_members() {
        let text = "Personalities : [raid1] [raid6] [raid5] [raid4]\n\
                    md1 : active raid5 sdd1[3] sdc1[1](F) sdb1[0]\n      1953260544 blocks level 5, 512k chunk [3/2] [U_U]\n      \
                    [=>...................]  recovery =  8.2% (80123/976630272) finish=90min\n\n\
                    md0 : active raid1 sdb2[1] sda2[0]\n      104320 blocks super 1.2 [2/2] [UU]\n\nunused devices: <none>\n";
        assert_eq!(degraded(text), ["md1"]);
        assert!(degraded("").is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_of_arrays(text in "(?s)(md[0-9] : |\\[[0-9]/[0-9]\\]|\n|.){0,40}") {
            degraded(&text);
        }
    }
}
