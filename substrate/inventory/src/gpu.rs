//! GPUs and other accelerators, by PCI class; what their drivers add.

use api::inventory::{Gpu, PciDevice};

use crate::{nvidia, read::Reader};

/// Classes of accelerators: VGA controller, 3D controller, processing accelerator (PCI Code and ID Assignment).
const CLASSES: [&str; 3] = ["0300", "0302", "1200"];

/// Vendors of plain display adapters of class 0300, which no job computes on: ASPEED and Matrox (BMCs), Cirrus, QEMU's
/// two, VMware, VirtualBox, virtio, Hyper-V. They stay in the list of PCI devices.
const DISPLAY_ONLY: [&str; 9] = ["1a03", "102b", "1013", "1234", "1b36", "15ad", "80ee", "1af4", "1414"];

/// All accelerators by PCI address.
pub(crate) fn collect(read: &mut Reader<'_>, pci: &[PciDevice], nvidia: &mut nvidia::Known) -> Vec<Gpu> {
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
        if device.driver.as_deref() == Some("amdgpu") {
            amd(read, &mut gpu);
        }
        gpus.push(gpu);
    }
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

/// `Documentation/gpu/amdgpu/driver-misc.rst`: `product_name` and `unique_id` exist on server cards.
fn amd(read: &mut Reader<'_>, gpu: &mut Gpu) {
    let folder = format!("/sys/bus/pci/devices/{}", gpu.pci);
    gpu.model = read.text(&format!("{folder}/product_name"));
    gpu.uuid = read.text(&format!("{folder}/unique_id"));
    let memory = read.number(&format!("{folder}/mem_info_vram_total"));
    gpu.memory_bytes = memory.and_then(|bytes| u64::try_from(bytes).ok());
    gpu.driver_version = read.text("/sys/module/amdgpu/version");
}
