//! What starts the machine: SMBIOS type 0, the boot mode, Secure Boot, the TPM.

use api::inventory::Firmware;

use crate::{read::Reader, system::dmi};

const EFI: &str = "/sys/firmware/efi";
const VARIABLES: &str = "/sys/firmware/efi/efivars";

/// Its vendor GUID is that of the UEFI specification's own variables (3.3).
const SECURE_BOOT: &str =
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

const TPM: &str = "/sys/class/tpm/tpm0";

/// Vendor and version of what starts the machine, and how it starts it.
pub(crate) fn collect(read: &mut Reader<'_>) -> Firmware {
    let uefi = read.exists(EFI);
    Firmware {
        vendor: dmi(read, "bios_vendor"),
        version: dmi(read, "bios_version"),
        date: dmi(read, "bios_date"),
        boot_mode: Some(if uefi { "uefi" } else { "bios" }.to_owned()),
        secure_boot: if uefi { secure_boot(read) } else { None },
        tpm: tpm(read),
    }
}

/// `Documentation/filesystems/efivarfs.rst`: four bytes of attributes, then the value. Firmware
/// that cannot do Secure Boot has no such variable.
fn secure_boot(read: &mut Reader<'_>) -> Option<bool> {
    const MOST: u64 = 64;
    match read.bytes(SECURE_BOOT, MOST).as_deref() {
        Some([_, _, _, _, value]) => Some(*value == 1),
        Some(_) => {
            read.gap(SECURE_BOOT, "not 5 bytes");
            None
        }
        None if read.exists(SECURE_BOOT) => None,
        None if read.names(VARIABLES).is_empty() => {
            read.gap(SECURE_BOOT, "efivarfs is not mounted");
            None
        }
        None => Some(false),
    }
}

/// `Documentation/ABI/stable/sysfs-class-tpm`. Before Linux 5.6 only a TPM 1.2 told its version,
/// in `device/caps`.
fn tpm(read: &mut Reader<'_>) -> Option<String> {
    if !read.exists(TPM) {
        return None;
    }
    let path = format!("{TPM}/tpm_version_major");
    let told = read.exists(&path);
    let version = match read.number(&path) {
        Some(1) => Some("1.2"),
        Some(2) => Some("2.0"),
        Some(other) => {
            read.gap(&path, format!("no known version of a TPM: {other}"));
            None
        }
        None if read.exists(&format!("{TPM}/device/caps")) => Some("1.2"),
        None if told => None,
        None => {
            read.gap(&path, "the kernel does not tell");
            None
        }
    };
    version.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn look(files: &[(&str, &[u8])]) -> (Firmware, usize) {
        let root = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = root.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let mut read = Reader::new(root.path());
        (collect(&mut read), read.into_gaps().len())
    }

    #[test]
    fn secure_boot_is_a_byte_after_four() {
        let of = |bytes: &[u8]| {
            let (firmware, gaps) = look(&[(SECURE_BOOT, bytes)]);
            (firmware.secure_boot, gaps)
        };
        assert_eq!(of(&[6, 0, 0, 0, 1]), (Some(true), 0));
        assert_eq!(of(&[6, 0, 0, 0, 0]), (Some(false), 0));
        assert_eq!(of(&[6, 0, 0, 0]), (None, 1));
        assert_eq!(of(&[0; 100]), (None, 1));
    }

    #[test]
    fn no_variables_are_not_no_secure_boot() {
        let (firmware, gaps) = look(&[("/sys/firmware/efi/fw_platform_size", b"64")]);
        assert_eq!(
            (firmware.boot_mode.as_deref(), firmware.secure_boot, gaps),
            (Some("uefi"), None, 1)
        );
        let boot_order = "/sys/firmware/efi/efivars/BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c";
        assert_eq!(look(&[(boot_order, &[7, 0, 0, 0, 0, 0])]).0.secure_boot, Some(false));
        assert_eq!(look(&[]).0.secure_boot, None);
    }

    #[test]
    fn versions_of_tpms() {
        let of = |path: &str, text: &str| {
            let (firmware, gaps) = look(&[(&format!("{TPM}/{path}"), text.as_bytes())]);
            (firmware.tpm, gaps)
        };
        assert_eq!(of("tpm_version_major", "2\n"), (Some("2.0".to_owned()), 0));
        assert_eq!(of("tpm_version_major", "1\n"), (Some("1.2".to_owned()), 0));
        assert_eq!(of("tpm_version_major", "7\n"), (None, 1));
        assert_eq!(of("device/caps", "TCG version: 1.2\n"), (Some("1.2".to_owned()), 0));
        assert_eq!(of("dev", "10:224\n"), (None, 1));
    }
}
