//! What AMD's driver `amdgpu` tells in sysfs (`Documentation/gpu/amdgpu/`: `driver-misc.rst`,
//! `ras.rst`, `xgmi.rst`, `thermal.rst`), all below the PCI device:
//!
//! ```text
//! product_name, unique_id, serial_number   on server cards
//! mem_info_vram_total, vbios_version
//! hwmon/hwmonN/power1_cap                  µW
//! drm/renderDN                             numbers the GPUs
//! ras/umc_err_count                        `ue: 0` and `ce: 0`
//! ras/gpu_vram_bad_pages                   `PAGE : SIZE : FLAG`; R retired, P pending, F cannot be retired
//! xgmi_hive_info/nodeN ->                  all GPUs of its hive; in their order also
//! xgmi_num_links, xgmi_num_hops            `00 02 02`, hexadecimal
//! ```

use api::inventory::{Ecc, Gpu, GpuLink};

use super::watts;
use crate::read::Reader;

pub(super) fn add(read: &mut Reader<'_>, gpu: &mut Gpu) {
    let directory = directory(gpu);
    gpu.model = read.text(&format!("{directory}/product_name"));
    gpu.uuid = read.text(&format!("{directory}/unique_id"));
    gpu.serial = read.text(&format!("{directory}/serial_number"));
    gpu.firmware = read.text(&format!("{directory}/vbios_version"));
    gpu.memory_bytes = read.count(&format!("{directory}/mem_info_vram_total"));
    gpu.power_limit_watts = watts(read, &directory, &["power1_cap"]);
    gpu.driver_version = read.text("/sys/module/amdgpu/version");
    gpu.links = links(read, &directory);
    refresh(read, gpu);
}

/// Reads again what changes: the counts of errors.
pub(crate) fn refresh(read: &mut Reader<'_>, gpu: &mut Gpu) {
    let directory = directory(gpu);
    let counts = read.text(&format!("{directory}/ras/umc_err_count"));
    gpu.ecc = counts.as_deref().map(|counts| {
        let path = format!("{directory}/ras/gpu_vram_bad_pages");
        // Of memory that is well it is empty.
        let pages = read.text(&path).or_else(|| read.exists(&path).then(String::new));
        ecc(counts, pages.as_deref())
    });
}

/// Numbers those with the driver as its tools and our built-in CDI rule do: in the order of
/// their render nodes.
pub(super) fn number(read: &mut Reader<'_>, gpus: &mut [Gpu]) {
    let mut minors = Vec::new();
    for gpu in gpus.iter_mut().filter(|gpu| gpu.vendor == "amd") {
        let nodes = read.names(&format!("{}/drm", directory(gpu)));
        let minor = nodes.iter().find_map(|node| node.strip_prefix("renderD")?.parse::<u32>().ok());
        minors.extend(minor.map(|minor| (minor, gpu)));
    }
    minors.sort_by_key(|(minor, _)| *minor);
    for (index, (_, gpu)) in (0..).zip(minors) {
        gpu.index = Some(index);
    }
}

fn directory(gpu: &Gpu) -> String {
    format!("/sys/bus/pci/devices/{}", gpu.pci)
}

/// The file is there only where the memory has error correction that is on.
fn ecc(counts: &str, pages: Option<&str>) -> Ecc {
    let count =
        |name: &str| counts.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    let flags = |flag: &str| {
        let flag_of = |line: &&str| line.rsplit(':').next().map(str::trim) == Some(flag);
        pages.map(|pages| pages.lines().filter(flag_of).count())
    };
    Ecc {
        enabled: true,
        corrected: count("ce:"),
        uncorrected: count("ue:"),
        retired_pages: flags("R").and_then(|pages| u64::try_from(pages).ok()),
        pending: flags("P").map(|pages| pages > 0),
    }
}

/// The other GPUs of its hive that it reaches in one hop.
fn links(read: &mut Reader<'_>, directory: &str) -> Vec<GpuLink> {
    let hive = format!("{directory}/xgmi_hive_info");
    let mut column =
        |name: &str| read.text(&format!("{directory}/{name}")).map(|text| hexadecimals(&text));
    let (lanes, hops) = (column("xgmi_num_links"), column("xgmi_num_hops"));
    let own = read.pci_address(directory);
    let mut links = Vec::new();
    for name in read.names(&hive) {
        let Some(index) = name.strip_prefix("node").and_then(|number| number.parse::<usize>().ok())
        else {
            continue;
        };
        let peer =
            read.pci_address(&format!("{hive}/{name}")).filter(|peer| Some(peer) != own.as_ref());
        // The first node is 1.
        let at = |column: &Option<Vec<u32>>| {
            column.as_ref().and_then(|column| column.get(index.checked_sub(1)?).copied())
        };
        let is_direct = at(&hops).is_none_or(|hops| hops == 1);
        links.extend(peer.filter(|_| is_direct).map(|peer| GpuLink {
            peer,
            kind: "xgmi".to_owned(),
            lanes: at(&lanes).unwrap_or(1),
        }));
    }
    links.sort_by(|one, other| one.peer.cmp(&other.peer));
    links
}

/// What is no number counts as 0, so that the others keep their places.
fn hexadecimals(text: &str) -> Vec<u32> {
    text.split_whitespace().map(|word| u32::from_str_radix(word, 16).unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_and_pages() {
        let pages =
            "0x00000000 : 0x00001000 : R\n0x00000001 : 0x00001000 : P\n0x00000002 : 0x00001000 : F";
        let expected = Ecc {
            enabled: true,
            corrected: Some(12),
            uncorrected: Some(1),
            retired_pages: Some(1),
            pending: Some(true),
        };
        assert_eq!(ecc("ue: 1\nce: 12\n", Some(pages)), expected);
        let newer = ecc("ue: 0\nce: 0\nde: 3\n", None);
        assert_eq!((newer.uncorrected, newer.retired_pages), (Some(0), None));
    }

    proptest! {
        #[test]
        fn any_text_is_counted(text in "(?s)(ue:|ce:|[0-9a-f]|:| |\n|.){0,60}") {
            ecc(&text, Some(&text));
            hexadecimals(&text);
        }
    }
}
