//! SMBIOS facts (`/sys/class/dmi/id`), operating system, memory in all.

use api::inventory::{Board, Os, System};

use crate::{read::Reader, smbios::filled_in};

/// Types of a chassis by number from 1 on (DSP0134, 7.4.1).
const CHASSIS: [&str; 36] = [
    "Other",
    "Unknown",
    "Desktop",
    "Low Profile Desktop",
    "Pizza Box",
    "Mini Tower",
    "Tower",
    "Portable",
    "Laptop",
    "Notebook",
    "Hand Held",
    "Docking Station",
    "All In One",
    "Sub Notebook",
    "Space-saving",
    "Lunch Box",
    "Main Server Chassis",
    "Expansion Chassis",
    "Sub Chassis",
    "Bus Expansion Chassis",
    "Peripheral Chassis",
    "RAID Chassis",
    "Rack Mount Chassis",
    "Sealed-case PC",
    "Multi-system",
    "CompactPCI",
    "AdvancedTCA",
    "Blade",
    "Blade Enclosing",
    "Tablet",
    "Convertible",
    "Detachable",
    "IoT Gateway",
    "Embedded PC",
    "Mini PC",
    "Stick PC",
];

/// Who made the machine and what it is called.
pub(crate) fn system(read: &mut Reader<'_>) -> System {
    let chassis = chassis(read);
    let mut dmi = |name: &str| dmi(read, name);
    System {
        vendor: dmi("sys_vendor"),
        product: dmi("product_name"),
        version: dmi("product_version"),
        serial: dmi("product_serial"),
        uuid: dmi("product_uuid"),
        sku: dmi("product_sku"),
        family: dmi("product_family"),
        asset_tag: dmi("chassis_asset_tag"),
        chassis,
        chassis_serial: dmi("chassis_serial"),
        board: Board {
            vendor: dmi("board_vendor"),
            product: dmi("board_name"),
            version: dmi("board_version"),
            serial: dmi("board_serial"),
        },
    }
}

/// The highest bit of the type tells of a lock.
fn chassis(read: &mut Reader<'_>) -> Option<String> {
    let path = "/sys/class/dmi/id/chassis_type";
    let number = usize::try_from(read.number(path)?).ok()? & 0x7f;
    let name = number.checked_sub(1).and_then(|index| CHASSIS.get(index));
    if name.is_none() {
        read.gap(path, format!("no known type of chassis: {number}"));
    }
    name.filter(|name| **name != "Unknown").map(|name| (*name).to_owned())
}

/// A fact of SMBIOS that its vendor filled in.
pub(crate) fn dmi(read: &mut Reader<'_>, name: &str) -> Option<String> {
    filled_in(&read.text(&format!("/sys/class/dmi/id/{name}"))?)
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
        command_line: read.text("/proc/cmdline"),
    }
}

/// os-release(5): shell-like assignments.
fn pretty_name(release: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.trim().strip_prefix("PRETTY_NAME="))?;
    let inner =
        ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
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

/// What memory and huge pages there are, by which changes of them are noticed: no
/// event tells of them.
#[derive(Debug, Default)]
pub(crate) struct Pages(Vec<String>);

impl Pages {
    /// Since the last time; not at the first.
    pub(crate) fn have_changed(&mut self, read: &mut Reader<'_>) -> bool {
        let text = read.text("/proc/meminfo").unwrap_or_default();
        let told = ["MemTotal:", "HugePages_Total:", "Hugetlb:"];
        let lines = text.lines().filter(|line| told.iter().any(|name| line.starts_with(name)));
        let now: Vec<String> = lines.map(str::to_owned).collect();
        let before = std::mem::replace(&mut self.0, now);
        !before.is_empty() && before != self.0
    }
}

/// Of the machine, `MemTotal:  65536 kB`, or of a NUMA node, `Node 1 MemTotal:  65536 kB`.
pub(crate) fn mem_total(meminfo: &str) -> Option<u64> {
    let (_, value) = meminfo.lines().find_map(|line| line.split_once("MemTotal:"))?;
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
    fn huge_pages_that_come_are_noticed_once() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        let mut pages = Pages::default();
        let mut changed = |count: u32, free: u32| {
            let text = format!(
                "MemTotal: 1 kB\nMemFree: {free} kB\nHugePages_Total: {count}\nHugetlb: 0 kB\n"
            );
            std::fs::write(root.path().join("proc/meminfo"), text).unwrap();
            pages.have_changed(&mut Reader::new(root.path()))
        };
        assert_eq!(
            [changed(0, 1), changed(0, 2), changed(4, 2), changed(4, 3)],
            [false, false, true, false]
        );
    }

    #[test]
    fn memory_in_all() {
        assert_eq!(
            mem_total("MemTotal:       263736180 kB\nMemFree: 1 kB\n"),
            Some(270_065_848_320)
        );
        assert_eq!(mem_total("MemTotal: x kB"), None);
    }
}
