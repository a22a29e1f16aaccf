//! What Intel's drivers `i915` and `xe` tell in sysfs. Little: what they know of memory and errors
//! is behind ioctls of their own.

use api::inventory::Gpu;

use super::watts;
use crate::read::Reader;

pub(super) fn add(read: &mut Reader<'_>, gpu: &mut Gpu, driver: &str) {
    let directory = format!("/sys/bus/pci/devices/{}", gpu.pci);
    // `i915` of Intel's own packages has it beside the card, `xe` by tile; both where the GPU has
    // memory of its own.
    gpu.memory_bytes = own_memory(read, &directory);
    gpu.power_limit_watts = watts(read, &directory, &["power1_max", "power1_rated_max"]);
    gpu.driver_version = read.text(&format!("/sys/module/{driver}/version"));
}

fn own_memory(read: &mut Reader<'_>, directory: &str) -> Option<u64> {
    let cards = read.names(&format!("{directory}/drm"));
    let card = cards.into_iter().find(|name| name.starts_with("card") && !name.contains('-'))?;
    let names = ["lmem_total_bytes", "device/tile0/physical_vram_size_bytes"];
    let size =
        names.iter().find_map(|name| read.text(&format!("{directory}/drm/{card}/{name}")))?;
    let size = size
        .strip_prefix("0x")
        .map_or_else(|| size.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok());
    size.filter(|bytes| *bytes > 0)
}
