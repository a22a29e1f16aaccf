//! `nvidia-smi -L`, which alone tells the UUIDs of MIG devices:
//!
//! ```text
//! GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-…)
//!   MIG 3g.40gb     Device  0: (UUID: MIG-…)
//! ```

/// GPU, device and UUID of each MIG device.
pub(super) fn mig_devices(text: &str) -> Vec<(u32, u32, String)> {
    let mut gpu = None;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("GPU ") {
            gpu = rest.split_once(':').and_then(|(number, _)| number.trim().parse().ok());
        } else if line.starts_with("MIG ") {
            found
                .extend(gpu.and_then(|gpu| device(line).map(|(device, uuid)| (gpu, device, uuid))));
        }
    }
    found
}

fn device(line: &str) -> Option<(u32, String)> {
    let (number, rest) = line.split_once("Device")?.1.split_once(':')?;
    let uuid = rest.split_once("(UUID:")?.1.split_once(')')?.0.trim();
    Some((number.trim().parse().ok()?, uuid.to_owned())).filter(|(_, uuid)| !uuid.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn devices_belong_to_the_gpu_above() {
        let text = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-a)\nGPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-b)\n\
                    \x20 MIG 3g.40gb     Device  0: (UUID: MIG-c)\n  MIG 1g.10gb     Device  1: (UUID: MIG-d)\n  MIG x\n";
        assert_eq!(mig_devices(text), [(1, 0, "MIG-c".to_owned()), (1, 1, "MIG-d".to_owned())]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_list(text in "(?s)(GPU |MIG |Device|\\(UUID:|[0-9]|\n|.){0,40}") {
            mig_devices(&text);
        }
    }
}
