//! Which image of several fits a platform, and what a program runs on. Pure.
//!
//! Images of one architecture differ in variants, each of which has all that is below it:
//! `amd64/v3` needs what `amd64` has, and more. So a wanted variant takes any up to itself
//! (containerd's `platforms.OnlyStrict`). No architecture stands in for another: a kernel of `386`
//! boots on `amd64`, but stage 1 is not made for it.

use api::image::Platform;

/// How well an image for `candidate` fits where `wanted` is asked for; more is better. `None`: not
/// at all.
pub(crate) fn fitness(wanted: &Platform, candidate: &Platform) -> Option<(u32, u32)> {
    if (wanted.os(), wanted.architecture()) != (candidate.os(), candidate.architecture()) {
        return None;
    }
    match (level(wanted), level(candidate)) {
        (Some(wanted), Some(level)) => (level <= wanted).then_some(level),
        _ => (wanted.variant() == candidate.variant()).then_some((0, 0)),
    }
}

/// A variant as a number, `v8.2` as (8, 2), if variants of this architecture are such.
fn level(platform: &Platform) -> Option<(u32, u32)> {
    let usual = match platform.architecture() {
        "amd64" => "v1",
        "arm64" => "v8",
        "arm" => "v7",
        _ => return None,
    };
    let number = platform.variant().unwrap_or(usual).strip_prefix('v')?;
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What a program of Linux runs on, by its ELF header; `None`: it is no such program, or for an
/// unknown machine.
///
/// This is how the server knows what it boots: stage 1 and the agent of every node are its
/// substrate program.
#[must_use]
pub fn platform_of_program(program: &[u8]) -> Option<Platform> {
    // ELF: identification of 16 bytes (class at 4, byte order at 5), type, then e_machine at 18.
    let header = program.get(..20).filter(|header| header.starts_with(b"\x7fELF"))?;
    let is_little = header[5] == 1;
    let machine = [header[18], header[19]];
    let machine = if is_little { u16::from_le_bytes(machine) } else { u16::from_be_bytes(machine) };
    let architecture = match (machine, header[4], is_little) {
        (3, ..) => "386",
        (21, 2, true) => "ppc64le",
        (22, 2, _) => "s390x",
        (40, ..) => "arm",
        (62, 2, _) => "amd64",
        (183, 2, _) => "arm64",
        (243, 2, _) => "riscv64",
        (258, 2, _) => "loong64",
        _ => return None,
    };
    Some(Platform::new("linux", architecture, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn a_variant_takes_those_below_it() {
        for (wanted, candidate, fits) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/amd64/v2", false),
            ("linux/amd64/v3", "linux/amd64/v2", true),
            ("linux/amd64", "linux/386", false),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64", "linux/arm64/v8.1", false),
            ("linux/arm64/v9", "linux/arm64", true),
            ("linux/arm64", "linux/arm/v7", false),
            ("linux/arm", "linux/arm/v6", true),
            ("linux/arm/v6", "linux/arm/v7", false),
            ("linux/arm/v6", "linux/arm/v5", true),
            ("linux/amd64", "windows/amd64", false),
            ("linux/riscv64", "linux/riscv64", true),
            ("linux/riscv64", "linux/riscv64/rva22u64", false),
            ("linux/riscv64/rva22u64", "linux/riscv64/rva22u64", true),
        ] {
            assert_eq!(
                fitness(&platform(wanted), &platform(candidate)).is_some(),
                fits,
                "{wanted} {candidate}"
            );
        }
        let seven = fitness(&platform("linux/arm/v7"), &platform("linux/arm/v7"));
        assert!(seven > fitness(&platform("linux/arm/v7"), &platform("linux/arm/v6")));
    }

    #[test]
    fn a_program_says_what_it_runs_on() {
        let elf = |class: u8, order: u8, machine: [u8; 2]| {
            let mut header = b"\x7fELF".to_vec();
            header.extend([class, order]);
            header.resize(18, 0);
            header.extend(machine);
            header
        };
        let says =
            |program: &[u8]| platform_of_program(program).map(|platform| platform.to_string());
        assert_eq!(says(&elf(2, 1, [62, 0])).as_deref(), Some("linux/amd64"));
        assert_eq!(says(&elf(2, 1, [183, 0])).as_deref(), Some("linux/arm64"));
        assert_eq!(says(&elf(2, 2, [0, 22])).as_deref(), Some("linux/s390x"));
        assert_eq!(says(&elf(2, 1, [1, 1])), None);
        assert_eq!(says(b"#!/bin/sh"), None);
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert!(says(&own).is_some());
    }
}
