//! Builds the substrate binary: one static-pie file that runs on any x86-64 Linux, whatever
//! libc its image has.
//!
//! `cargo xtask agent [--release]` and the harness call [`build`]. The result is
//! `target/substrate`; what cargo makes on the way lies in `target/agent`, apart from the ordinary
//! build, because the flags differ for every crate. The target is named explicitly, since without
//! it the flags would hit procedural macros too, which cannot be static.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use crate::run::command;

/// The only target so far; design.md section 4 has arm64 wait for a firmware that
/// somebody supplies.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Static, and random numbers by the system call itself: without `/dev` mounted there is no
/// `/dev/urandom` to fall back to, and a static binary cannot look the libc's wrapper up.
const RUSTFLAGS: &str = "-C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\"";

/// Builds the binary, proves that it is static and returns its path, `target/substrate`.
///
/// # Errors
/// If cargo fails (its messages went to standard error), or the result asks for a dynamic loader.
pub(crate) fn build(release: bool) -> anyhow::Result<PathBuf> {
    build_static("substrate", &[], release)
}

/// The program that the harness runs in its small machines, with the test build of the substrate in
/// it: `target/guest`.
///
/// # Errors
/// As [`build`].
pub(crate) fn build_guest(release: bool) -> anyhow::Result<PathBuf> {
    build_static("guest", &["--features", "switches"], release)
}

fn build_static(name: &str, more: &[&str], release: bool) -> anyhow::Result<PathBuf> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let directory = root.join("target/agent");
    let profile = if release { "agent-release" } else { "agent" };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let status = command(&cargo)
        .current_dir(root)
        .args(["build", "--package", name, "--bin", name, "--target", TARGET])
        .args(more)
        .args(["--profile", profile])
        .arg("--target-dir")
        .arg(&directory)
        .env("RUSTFLAGS", RUSTFLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("cargo could not build the static {name} ({status}); its messages are above");
    }
    let built = directory.join(TARGET).join(profile).join(name);
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    check_static(&bytes)
        .with_context(|| format!("{} is not the binary wanted", built.display()))?;
    publish(&bytes, &root.join("target").join(name))
}

/// Writes the file under its final name in one step, so that a harness that starts now sees the old
/// or the new one.
fn publish(bytes: &[u8], path: &Path) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;

    let fresh = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&fresh, bytes).with_context(|| format!("cannot write {}", fresh.display()))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", fresh.display()))?;
    fs::rename(&fresh, path).with_context(|| format!("cannot rename {}", fresh.display()))?;
    Ok(path.to_owned())
}

/// Checks that an ELF file is a static position-independent program: no `PT_INTERP`,
/// no `DT_NEEDED`.
fn check_static(elf: &[u8]) -> anyhow::Result<()> {
    const TYPE_DYN: u16 = 3;
    const SEGMENT_DYNAMIC: u32 = 2;
    const SEGMENT_INTERPRETER: u32 = 3;
    const TAG_NEEDED: u64 = 1;

    if elf.get(..6) != Some(b"\x7fELF\x02\x01".as_slice()) {
        bail!("it is not a 64-bit little-endian ELF file");
    }
    if half(elf, 16)? != TYPE_DYN {
        bail!("it is not position-independent (ELF type {})", half(elf, 16)?);
    }
    let (start, size, count) = (
        usize::try_from(long(elf, 32)?)?,
        usize::from(half(elf, 54)?),
        usize::from(half(elf, 56)?),
    );
    for header in (0..count).map(|i| start + i * size) {
        match word(elf, header)? {
            SEGMENT_INTERPRETER => bail!("it asks for a dynamic loader (PT_INTERP)"),
            SEGMENT_DYNAMIC => {
                let (at, length) = (
                    usize::try_from(long(elf, header + 8)?)?,
                    usize::try_from(long(elf, header + 32)?)?,
                );
                for entry in (at..at + length).step_by(16) {
                    if long(elf, entry)? == TAG_NEEDED {
                        bail!("it asks for a shared library (DT_NEEDED)");
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn bytes_at<const N: usize>(elf: &[u8], at: usize) -> anyhow::Result<[u8; N]> {
    let bytes = elf.get(at..at + N).with_context(|| format!("it ends before byte {}", at + N))?;
    Ok(bytes.try_into()?)
}

fn half(elf: &[u8], at: usize) -> anyhow::Result<u16> {
    Ok(u16::from_le_bytes(bytes_at(elf, at)?))
}

fn word(elf: &[u8], at: usize) -> anyhow::Result<u32> {
    Ok(u32::from_le_bytes(bytes_at(elf, at)?))
}

fn long(elf: &[u8], at: usize) -> anyhow::Result<u64> {
    Ok(u64::from_le_bytes(bytes_at(elf, at)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_program_is_not_static() {
        let shell = fs::read("/bin/sh").unwrap();
        assert_eq!(
            check_static(&shell).unwrap_err().to_string(),
            "it asks for a dynamic loader (PT_INTERP)"
        );
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(check_static(b"#!/bin/sh\n").is_err());
        let shell = fs::read("/bin/sh").unwrap();
        assert!(check_static(&shell[..100]).is_err());
    }
}
