//! What the processor says of itself: the first block of `/proc/cpuinfo`, lines `key : value`.
//! Its keys differ by architecture (`arch/ARCH/kernel/cpuinfo.c` of the kernel); here those of
//! x86, Arm and POWER.

use api::inventory::Topology;

use crate::read::Reader;

const PATH: &str = "/proc/cpuinfo";

/// Most bytes read: a block of x86 with all its flags has 3 KiB.
const MAX_BLOCK_BYTES: usize = 16 << 10;

/// Most flags kept: today's x86 has some 150.
const MAX_FLAGS: usize = 1024;

/// Fills in what the topology does not know already.
pub(crate) fn add(read: &mut Reader<'_>, topology: &mut Topology) {
    if let Some(block) = read.first_block(PATH, MAX_BLOCK_BYTES) {
        parse(&block, topology);
    }
}

fn parse(block: &str, topology: &mut Topology) {
    let mut part = None;
    let mut release = (None, None);
    for (key, value) in block.lines().filter_map(|line| line.split_once(':')) {
        let (key, value) = (key.trim_end(), value.trim());
        if value.is_empty() {
            continue;
        }
        let text = || Some(value.to_owned());
        match key {
            "vendor_id" => topology.cpu_vendor = text(),
            "model name" | "cpu" => topology.cpu_model = text(),
            "cpu family" | "CPU architecture" => topology.cpu_family = number(value),
            "model" => topology.cpu_model_number = number(value),
            "stepping" => topology.cpu_stepping = number(value),
            "microcode" => topology.microcode = text(),
            "flags" | "Features" => topology.cpu_flags = flags(value),
            "CPU implementer" => topology.cpu_vendor = number(value).map(implementer),
            "CPU part" => part = number(value),
            "CPU variant" => release.0 = number(value),
            "CPU revision" => release.1 = number(value),
            _ => {}
        }
    }
    if let (Some(variant), Some(revision)) = release {
        topology.cpu_stepping = variant.checked_mul(16).and_then(|high| high.checked_add(revision));
    }
    if let Some(part) = part {
        topology.cpu_model_number = Some(part);
        let name = topology.cpu_vendor.as_deref().and_then(|vendor| arm_model(vendor, part));
        topology.cpu_model = topology.cpu_model.take().or_else(|| name.map(str::to_owned));
    }
}

/// Decimal, or hexadecimal with `0x`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn flags(text: &str) -> Vec<String> {
    let mut flags: Vec<_> = text.split_whitespace().take(MAX_FLAGS).map(str::to_owned).collect();
    flags.sort_unstable();
    flags.dedup();
    flags
}

/// Arm Architecture Reference Manual, `MIDR_EL1`; the names that lscpu(1) prints.
fn implementer(code: u32) -> String {
    match code {
        0x41 => "ARM",
        0x42 => "Broadcom",
        0x43 => "Cavium",
        0x46 => "FUJITSU",
        0x48 => "HiSilicon",
        0x4e => "NVIDIA",
        0x50 => "APM",
        0x51 => "Qualcomm",
        0x56 => "Marvell",
        0x61 => "Apple",
        0x6d => "Microsoft",
        0x70 => "Phytium",
        0xc0 => "Ampere",
        _ => return format!("{code:#04x}"),
    }
    .to_owned()
}

/// Cores of servers. Arm's kernels give no `model name`.
fn arm_model(vendor: &str, part: u32) -> Option<&'static str> {
    Some(match (vendor, part) {
        ("ARM", 0xd03) => "Cortex-A53",
        ("ARM", 0xd07) => "Cortex-A57",
        ("ARM", 0xd08) => "Cortex-A72",
        ("ARM", 0xd0c) => "Neoverse-N1",
        ("ARM", 0xd40) => "Neoverse-V1",
        ("ARM", 0xd49) => "Neoverse-N2",
        ("ARM", 0xd4f) => "Neoverse-V2",
        ("ARM", 0xd83) => "Neoverse-V3AE",
        ("ARM", 0xd84) => "Neoverse-V3",
        ("ARM", 0xd85) => "Cortex-X925",
        ("ARM", 0xd87) => "Cortex-A725",
        ("ARM", 0xd8e) => "Neoverse-N3",
        ("Cavium", 0x0a1) => "ThunderX-88XX",
        ("Cavium", 0x0af) => "ThunderX2-99xx",
        ("FUJITSU", 0x001) => "A64FX",
        ("HiSilicon", 0xd01) => "Kunpeng-920",
        ("Ampere", 0xac3) => "Ampere-1",
        ("Ampere", 0xac4) => "Ampere-1a",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(block: &str) -> Topology {
        let mut topology = Topology::default();
        parse(block, &mut topology);
        topology
    }

    #[test]
    fn an_epyc() {
        let found = parsed(
            "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC \
             9654 96-Core Processor\nstepping\t: 1\nmicrocode\t: 0xa101144\nflags\t\t: sse4_2 avx2 avx512f avx2\n\
             power management: ts ttp",
        );
        let expected = Topology {
            cpu_vendor: Some("AuthenticAMD".to_owned()),
            cpu_model: Some("AMD EPYC 9654 96-Core Processor".to_owned()),
            cpu_family: Some(25),
            cpu_model_number: Some(17),
            cpu_stepping: Some(1),
            microcode: Some("0xa101144".to_owned()),
            cpu_flags: ["avx2", "avx512f", "sse4_2"].map(str::to_owned).to_vec(),
            ..Topology::default()
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn an_arm_core() {
        let found = parsed(
            "processor\t: 0\nBogoMIPS\t: 2000.00\nFeatures\t: fp asimd sve2\nCPU implementer\t: 0x41\n\
             CPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1",
        );
        let expected = Topology {
            cpu_vendor: Some("ARM".to_owned()),
            cpu_model: Some("Neoverse-N1".to_owned()),
            cpu_family: Some(8),
            cpu_model_number: Some(0xd0c),
            cpu_stepping: Some(0x31),
            cpu_flags: ["asimd", "fp", "sve2"].map(str::to_owned).to_vec(),
            ..Topology::default()
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let found = parsed(
            "CPU implementer: 0x99\nCPU part: 0x1\nCPU variant: 0xffffffff\nCPU revision: 1",
        );
        assert_eq!(
            (found.cpu_vendor.as_deref(), found.cpu_model, found.cpu_stepping),
            (Some("0x99"), None, None)
        );
        assert_eq!(
            parsed("model : 4294967296\nstepping : unknown\nvendor_id :\n:\n"),
            Topology::default()
        );
        assert_eq!(
            parsed("cpu\t\t: POWER9, altivec supported").cpu_model.as_deref(),
            Some("POWER9, altivec supported")
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s).{0,400}") {
            parsed(&text);
        }

        #[test]
        fn no_values_panic(lines in prop::collection::vec((0..12_usize, "\\PC{0,20}"), 0..20)) {
            const KEYS: [&str; 12] = [
                "vendor_id", "cpu", "cpu family", "model", "stepping", "microcode", "flags", "Features",
                "CPU implementer", "CPU part", "CPU variant", "CPU revision",
            ];
            let block: Vec<_> = lines.iter().map(|(key, value)| format!("{}\t: {value}", KEYS[*key])).collect();
            let found = parsed(&block.join("\n"));
            prop_assert!(found.cpu_flags.is_sorted());
        }
    }
}
