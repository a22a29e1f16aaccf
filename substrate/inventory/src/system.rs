//! SMBIOS facts (`/sys/class/dmi/id`), operating system, memory in all.

use api::inventory::{Firmware, Os, System};

use crate::read::Reader;

/// What vendors leave in fields that they did not fill in. Compared without case.
const PLACEHOLDERS: [&str; 8] = [
    "to be filled by o.e.m.",
    "default string",
    "not specified",
    "not available",
    "system serial number",
    "system product name",
    "none",
    "n/a",
];

/// Vendor, product, serial number, firmware.
pub(crate) fn system(read: &mut Reader<'_>) -> System {
    let mut dmi = |name: &str| dmi(read, name);
    System {
        vendor: dmi("sys_vendor"),
        product: dmi("product_name"),
        serial: dmi("product_serial"),
        uuid: dmi("product_uuid"),
        ..System::default()
    }
}

/// Vendor and version of what starts the machine.
pub(crate) fn firmware(read: &mut Reader<'_>) -> Firmware {
    Firmware {
        vendor: dmi(read, "bios_vendor"),
        version: dmi(read, "bios_version"),
        boot_mode: Some(if read.exists("/sys/firmware/efi") { "uefi" } else { "bios" }.to_owned()),
        ..Firmware::default()
    }
}

fn dmi(read: &mut Reader<'_>, name: &str) -> Option<String> {
    let value = read.text(&format!("/sys/class/dmi/id/{name}"))?;
    let lower = value.to_lowercase();
    (!PLACEHOLDERS.contains(&lower.as_str())).then_some(value)
}

/// Name, kernel, architecture.
pub(crate) fn os(read: &mut Reader<'_>) -> Os {
    let release = read.text("/etc/os-release").or_else(|| read.text("/usr/lib/os-release"));
    Os {
        name: release.as_deref().and_then(pretty_name),
        kernel: read.text("/proc/sys/kernel/osrelease"),
        // `/proc/sys/kernel/arch` came with Linux 6.1.
        architecture: read
            .text("/proc/sys/kernel/arch")
            .or_else(|| read.is_live().then(|| std::env::consts::ARCH.to_owned())),
        ..Os::default()
    }
}

/// os-release(5): shell-like assignments.
fn pretty_name(release: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.trim().strip_prefix("PRETTY_NAME="))?;
    let inner = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    let mut name = String::new();
    let mut rest = inner.unwrap_or(value).chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' => name.extend(rest.next()),
            other => name.push(other),
        }
    }
    (!name.is_empty()).then_some(name)
}

/// `MemTotal` of `/proc/meminfo`: what the kernel has, some per cent less than what is plugged in.
pub(crate) fn memory_bytes(read: &mut Reader<'_>) -> u64 {
    let path = "/proc/meminfo";
    let Some(text) = read.text(path) else { return 0 };
    mem_total(&text).unwrap_or_else(|| {
        read.gap(path, "no MemTotal");
        0
    })
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_operating_systems() {
        let name = |text| pretty_name(text);
        assert_eq!(
            name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n").as_deref(),
            Some("Debian GNU/Linux 12 (bookworm)")
        );
        assert_eq!(name("PRETTY_NAME='Rocky'").as_deref(), Some("Rocky"));
        assert_eq!(name("PRETTY_NAME=Arch\n").as_deref(), Some("Arch"));
        assert_eq!(name(r#"PRETTY_NAME="a \"b\" \$c""#).as_deref(), Some("a \"b\" $c"));
        assert_eq!(name("PRETTY_NAME=\"\"\nNAME=x"), None);
    }

    #[test]
    fn memory_in_all() {
        assert_eq!(mem_total("MemTotal:       263736180 kB\nMemFree: 1 kB\n"), Some(270_065_848_320));
        assert_eq!(mem_total("MemTotal: x kB"), None);
    }
}
