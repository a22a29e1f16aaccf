//! What the kernel said before stage 1 began: that it could not unpack the whole initramfs.
//!
//! It starts `/init` all the same if that was among what it had unpacked by then, so all that stage
//! 1 would see is that its document or a driver is missing. The reason stands in the log
//! (`init/initramfs.c`): `Initramfs unpacking failed: write error` where the memory was too small
//! for it.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Records that are read at most: the largest log has room for some 100,000, and a boot writes
/// 2,000.
const MAX_RECORDS: usize = 20_000;

/// Largest record, bytes (`Documentation/ABI/testing/dev-kmsg`).
const MAX_RECORD_BYTES: usize = 8 << 10;

/// Bits of the priority that are its level; those above are the facility, 0 for the kernel.
const LEVEL_BITS: u32 = 3;

/// What the kernel says before the reason.
const UNPACKING: &str = "Initramfs unpacking failed: ";

/// Why the kernel did not unpack all of the initramfs, if so. Without a log: nothing is known.
#[must_use]
pub fn unpacking_failure(log: &Path) -> Option<String> {
    let mut log = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(log).ok()?;
    let mut buffer = [0; MAX_RECORD_BYTES];
    for _ in 0..MAX_RECORDS {
        match log.read(&mut buffer) {
            Ok(0) => return None,
            Ok(length) => {
                if let Some(reason) = reason(&String::from_utf8_lossy(&buffer[..length])) {
                    return Some(reason);
                }
            }
            // Overtaken by newer records, or one that is larger than any can be.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::EINVAL)) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    None
}

/// The reason in a record that the kernel itself wrote.
fn reason(record: &str) -> Option<String> {
    let (head, text) = record.split_once(';')?;
    let priority: u32 = head.split(',').next()?.parse().ok()?;
    let reason = text.lines().next()?.strip_prefix(UNPACKING)?;
    (priority >> LEVEL_BITS == 0).then(|| reason.trim().to_owned())
}

/// What people are told of it. `memory_bytes`: all memory of the machine; `image_mib`: size of the
/// root image, which comes after the initramfs.
#[must_use]
pub fn in_words(reason: &str, memory_bytes: Option<u64>, image_mib: Option<u64>) -> String {
    if reason != "write error" {
        return format!(
            "the kernel could not unpack the initramfs ({reason}): the boot loader lost a part of it, or it is damaged"
        );
    }
    let memory = memory_bytes.map_or_else(
        || "the memory of this machine".to_owned(),
        |bytes| format!("this machine has {} MiB of memory, which", bytes >> 20),
    );
    let image = image_mib
        .map_or_else(String::new, |mib| format!(", and the root image needs {mib} MiB more"));
    format!(
        "{memory} does not hold the initramfs (the kernel says \"{reason}\"; it may fill half of the memory){image}: \
         give the machine more"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_word_is_found_and_told() {
        let record = "0,396,1184211,-;Initramfs unpacking failed: write error\n";
        let told = |record: &str| {
            reason(record).map(|reason| in_words(&reason, Some(448 << 20), Some(256)))
        };
        expect_test::expect![[r#"this machine has 448 MiB of memory, which does not hold the initramfs (the kernel says "write error"; it may fill half of the memory), and the root image needs 256 MiB more: give the machine more"#]]
            .assert_eq(&told(record).unwrap());
        expect_test::expect!["the kernel could not unpack the initramfs (junk within compressed archive): the boot loader lost a part of it, or it is damaged"]
            .assert_eq(&told("0,396,1184211,-;Initramfs unpacking failed: junk within compressed archive").unwrap());
        for other in [
            "6,397,1184300,-;Freeing initrd memory: 43132K",
            // What a program wrote.
            "12,396,1184211,-;Initramfs unpacking failed: write error",
            "",
            ";",
        ] {
            assert_eq!(told(other), None, "{other}");
        }
    }

    #[test]
    fn a_log_that_says_nothing_of_it_is_read_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kmsg");
        assert_eq!(unpacking_failure(&path), None);
        std::fs::write(&path, "6,1,2,-;x").unwrap();
        assert_eq!(unpacking_failure(&path), None);
        std::fs::write(&path, "0,1,2,-;Initramfs unpacking failed: write error").unwrap();
        assert_eq!(unpacking_failure(&path).as_deref(), Some("write error"));
    }
}
