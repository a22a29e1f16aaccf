//! The io controller: what a group reads from and writes to block devices.

use super::Cgroup;
use crate::Result;

/// Bytes read and written, over all devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Bytes read from block devices.
    pub read_bytes: u64,
    /// Bytes written to block devices.
    pub written_bytes: u64,
}

/// What the group has read and written so far.
///
/// # Errors
/// If the controller is not enabled.
pub fn transferred(group: &Cgroup) -> Result<Transferred> {
    let text = group.read("io.stat")?;
    let sum = |key: &str| {
        let of_word = |word: &str| word.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok();
        text.split_whitespace().filter_map(of_word).fold(0, u64::saturating_add)
    };
    Ok(Transferred { read_bytes: sum("rbytes"), written_bytes: sum("wbytes") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::tests::directory;

    #[test]
    fn devices_are_added_up() {
        let text = "254:0 rbytes=4096 wbytes=10 rios=1 wios=2 dbytes=0 dios=0\n7:0 rbytes=1 wbytes=0 rios=1\n";
        let (_directory, group) = directory(&[("io.stat", text)]);
        assert_eq!(
            transferred(&group).unwrap(),
            Transferred { read_bytes: 4097, written_bytes: 10 }
        );
        let (_directory, quiet) = directory(&[("io.stat", "")]);
        assert_eq!(transferred(&quiet).unwrap(), Transferred::default());
    }
}
