//! GPUs and other accelerators, by PCI class; what their drivers add is in `gpu/amd.rs`,
//! `gpu/intel.rs` and `nvidia.rs`.

pub(crate) mod amd;
mod intel;

use api::inventory::{Gpu, PciDevice};

use crate::{nvidia, read::Reader};

/// Classes of accelerators: VGA controller, 3D controller, display controller of another kind (some
/// of AMD and Intel without outputs), processing accelerator (PCI Code and ID Assignment).
const CLASSES: [&str; 4] = ["0300", "0302", "0380", "1200"];

/// Vendors of plain display adapters of class 0300, which no job computes on: ASPEED and
/// Matrox (BMCs), Cirrus, QEMU's two, VMware, VirtualBox, virtio, Hyper-V. They stay in the
/// list of PCI devices.
const DISPLAY_ONLY: [&str; 9] =
    ["1a03", "102b", "1013", "1234", "1b36", "15ad", "80ee", "1af4", "1414"];

/// All accelerators by PCI address.
pub(crate) fn collect(
    read: &mut Reader<'_>,
    pci: &[PciDevice],
    nvidia: &mut nvidia::LastAnswer,
) -> Vec<Gpu> {
    let mut gpus = Vec::new();
    for device in pci {
        let class = device.class.get(..4).unwrap_or_default();
        if !CLASSES.contains(&class) || DISPLAY_ONLY.contains(&device.vendor.as_str()) {
            continue;
        }
        let mut gpu = Gpu {
            pci: device.address.clone(),
            vendor: vendor(&device.vendor),
            numa_node: device.numa_node,
            ..Gpu::default()
        };
        match device.driver.as_deref() {
            Some("amdgpu") => amd::add(read, &mut gpu),
            Some(driver @ ("i915" | "xe")) => intel::add(read, &mut gpu, driver),
            _ => {}
        }
        gpus.push(gpu);
    }
    amd::number(read, &mut gpus);
    nvidia.add(read, &mut gpus);
    gpus
}

fn vendor(id: &str) -> String {
    match id {
        "10de" => "nvidia",
        "1002" => "amd",
        "8086" => "intel",
        other => other,
    }
    .to_owned()
}

/// A value in µW of the hardware monitor of a device, in whole watts.
fn watts(read: &mut Reader<'_>, directory: &str, names: &[&str]) -> Option<u32> {
    let monitor = read.names(&format!("{directory}/hwmon")).into_iter().next()?;
    let microwatts =
        names.iter().find_map(|name| read.count(&format!("{directory}/hwmon/{monitor}/{name}")))?;
    u32::try_from(microwatts.saturating_add(500_000) / 1_000_000).ok().filter(|watts| *watts > 0)
}
