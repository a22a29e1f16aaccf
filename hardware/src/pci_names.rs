//! Names of PCI devices out of `pci.ids`, put into inventories when they are asked for: the agent
//! sends numbers only, so that names are those of the server's file and not of each image.
//!
//! The file, as pciutils describes it (`pci.ids(5)`), one tab for each level:
//!
//! ```text
//! # comment
//! 10de  NVIDIA Corporation
//! <tab>2330  GH100 [H100 SXM5 80GB]
//! <tab><tab>10de 16c1  Subsystem
//! C 03  Display controller
//! <tab>02  3D controller
//! <tab><tab>00  Programming interface
//! ```

use std::{collections::HashMap, path::Path};

use api::inventory::{Gpu, Inventory, PciDevice};

/// Where distributions put it: Debian's package `pci.ids`, and `hwdata` of the others.
const PLACES: [&str; 3] =
    ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids", "/usr/share/pci.ids"];

/// Largest file that is read, bytes: it had 1.5 MB in 2025.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// What PCI numbers are called.
#[derive(Debug, Default)]
pub(crate) struct PciNames {
    vendors: HashMap<u16, Box<str>>,
    /// By vendor and device.
    devices: HashMap<(u16, u16), Box<str>>,
    /// By class.
    classes: HashMap<u8, Box<str>>,
    /// By class and subclass.
    subclasses: HashMap<(u8, u8), Box<str>>,
}

/// What the lines with one tab belong to.
#[derive(Clone, Copy)]
enum Section {
    Vendor(u16),
    Class(u8),
    /// Nothing that is known here.
    Other,
}

impl PciNames {
    /// Reads the file of this machine; without one nothing has a name.
    pub(crate) fn of_this_machine() -> Self {
        let is_small = |path: &&str| {
            std::fs::metadata(path).is_ok_and(|metadata| metadata.len() <= MAX_FILE_BYTES)
        };
        let Some(path) = PLACES.iter().find(|path| Path::new(path).is_file() && is_small(path))
        else {
            tracing::info!(
                "there is no pci.ids (package pci.ids or hwdata): PCI devices stay without names"
            );
            return Self::default();
        };
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(&String::from_utf8_lossy(&bytes)),
            Err(error) => {
                tracing::warn!("cannot read {path}: {error}; PCI devices stay without names");
                Self::default()
            }
        }
    }

    /// Takes what it understands of a file; other lines are left out.
    pub(crate) fn parse(text: &str) -> Self {
        let mut names = Self::default();
        let mut section = Section::Other;
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(line) = line.strip_prefix('\t') {
                names.second_level(section, line);
            } else if let Some((number, name)) = line.strip_prefix("C ").and_then(entry) {
                section = u8::from_str_radix(number, 16).map_or(Section::Other, Section::Class);
                if let Section::Class(class) = section {
                    names.classes.insert(class, name.into());
                }
            } else if let Some((number, name)) = entry(line) {
                section = u16::from_str_radix(number, 16).map_or(Section::Other, Section::Vendor);
                if let Section::Vendor(vendor) = section {
                    names.vendors.insert(vendor, name.into());
                }
            } else {
                section = Section::Other;
            }
        }
        names
    }

    /// A line with one tab; those with two, subsystems and programming interfaces,
    /// begin with another.
    fn second_level(&mut self, section: Section, line: &str) {
        let Some((number, name)) = entry(line) else { return };
        match section {
            Section::Vendor(vendor) => {
                if let Ok(device) = u16::from_str_radix(number, 16) {
                    self.devices.insert((vendor, device), name.into());
                }
            }
            Section::Class(class) => {
                if let Ok(subclass) = u8::from_str_radix(number, 16) {
                    self.subclasses.insert((class, subclass), name.into());
                }
            }
            Section::Other => {}
        }
    }

    /// Gives names to what has none.
    pub(crate) fn fill(&self, inventory: &mut Inventory) {
        for device in &mut inventory.pci {
            self.name(device);
        }
        let Inventory { pci, gpus, .. } = inventory;
        for gpu in gpus.iter_mut().filter(|gpu| gpu.model.is_none()) {
            gpu.model = model(gpu, pci);
        }
    }

    fn name(&self, device: &mut PciDevice) {
        let number = |digits: &str| u16::from_str_radix(digits, 16).ok();
        let (vendor, id) = (number(&device.vendor), number(&device.device));
        fill(
            &mut device.vendor_name,
            vendor.and_then(|vendor| self.vendors.get(&vendor)).map(AsRef::as_ref),
        );
        fill(
            &mut device.device_name,
            vendor.zip(id).and_then(|both| self.devices.get(&both)).map(AsRef::as_ref),
        );
        let part = |at: usize| u8::from_str_radix(device.class.get(at..at + 2)?, 16).ok();
        let (class, subclass) = (part(0), part(2));
        let name = class.zip(subclass).and_then(|both| self.subclasses.get(&both));
        let name = name.or_else(|| self.classes.get(&class?));
        fill(&mut device.class_name, name.map(AsRef::as_ref));
    }
}

fn fill(name: &mut Option<String>, known: Option<&str>) {
    if name.is_none() {
        *name = known.map(str::to_owned);
    }
}

/// The name of the PCI device, in it what is in brackets: `H100 SXM5 80GB` of
/// `GH100 [H100 SXM5 80GB]`.
fn model(gpu: &Gpu, pci: &[PciDevice]) -> Option<String> {
    let name = pci.iter().find(|device| device.address == gpu.pci)?.device_name.as_deref()?;
    let inner =
        name.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(inner, _)| inner);
    Some(inner.unwrap_or(name).to_owned())
}

/// `10de  NVIDIA Corporation`: a number, two blanks, a name.
fn entry(line: &str) -> Option<(&str, &str)> {
    let (number, name) = line.split_once("  ")?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = name.trim();
    (is_number && !name.is_empty()).then_some((number, name))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const FILE: &str = "# a comment\n\
        \n\
        10de  NVIDIA Corporation\n\
        \t2330  GH100 [H100 SXM5 80GB]\n\
        \t\t10de 16c1  Some board\n\
        1af4  Red Hat, Inc.\n\
        \t1041  Virtio 1.0 network device\n\
        zzzz  No number\n\
        \t1041  Of nobody\n\
        \tgarbage\n\
        C 02  Network controller\n\
        \t00  Ethernet controller\n\
        C 03  Display controller\n\
        \t02  3D controller\n\
        \t\t00  Interface\n";

    #[test]
    fn numbers_get_their_names() {
        let names = PciNames::parse(FILE);
        assert_eq!((names.vendors.len(), names.devices.len(), names.subclasses.len()), (2, 2, 2));
        let device = |class: &str, vendor: &str, device: &str| PciDevice {
            address: "0000:01:00.0".to_owned(),
            class: class.to_owned(),
            vendor: vendor.to_owned(),
            device: device.to_owned(),
            ..PciDevice::default()
        };
        let pci = vec![
            device("030200", "10de", "2330"),
            device("020000", "1af4", "1041"),
            device("03ff00", "10de", "ffff"),
            device("ä", "ffff", ""),
        ];
        let gpus = vec![Gpu { pci: "0000:01:00.0".to_owned(), ..Gpu::default() }];
        let mut inventory = Inventory { pci, gpus, ..Inventory::default() };
        names.fill(&mut inventory);
        let told: Vec<_> = inventory
            .pci
            .iter()
            .map(|device| [&device.class_name, &device.vendor_name, &device.device_name])
            .map(|names| names.map(|name| name.as_deref().unwrap_or("-")).join(" | "))
            .collect();
        expect![[r#"
            3D controller | NVIDIA Corporation | GH100 [H100 SXM5 80GB]
            Ethernet controller | Red Hat, Inc. | Virtio 1.0 network device
            Display controller | NVIDIA Corporation | -
            - | - | -"#]]
        .assert_eq(&told.join("\n"));
        assert_eq!(inventory.gpus[0].model.as_deref(), Some("H100 SXM5 80GB"));
    }

    #[test]
    fn no_file_makes_it_panic() {
        for text in [
            "",
            "\t",
            "\t\t\n",
            "C \n\t\n",
            "C 0300  Too long\n\t00  x",
            "\u{0}  \u{0}",
            "10de   \n",
        ] {
            assert!(PciNames::parse(text).devices.is_empty(), "{text:?}");
        }
    }
}
