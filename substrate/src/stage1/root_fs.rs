//! The root file system: the fetched image below, a tmpfs of limited size above.
//!
//! ```text
//! /run/bedplate/root.squashfs   the image, attached to a loop device
//! /run/bedplate/lower           the image, mounted read-only
//! /run/bedplate/writable        tmpfs: upper/ and work/ of the overlay
//! /sysroot                      overlayfs of both: the root to be
//! ```

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

use anyhow::{Context, bail};
use api::stage1::RootImage;
use linux::{
    loop_device,
    mount::{self, Flags},
};

/// Where the image is fetched to.
pub const IMAGE: &str = "/run/bedplate/root.squashfs";
/// The image, mounted read-only.
pub const LOWER: &str = "/run/bedplate/lower";
/// The root to be.
pub const ROOT: &str = "/sysroot";

/// Size of the writable layer where nothing is declared.
const DEFAULT_WRITABLE_SIZE: &str = "50%";

/// Memory that must remain beside the image, bytes: with less, the image's own init
/// would not start.
const RESERVE_BYTES: u64 = 64 << 20;

/// Makes room in `/run` for the image.
///
/// # Errors
/// The node has too little memory; the text says how much is needed.
pub fn make_room(image: &RootImage) -> anyhow::Result<()> {
    let run = Path::new("/run");
    let needed = image.size + RESERVE_BYTES;
    let meminfo = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    if let Some(available) = memory_available(&meminfo)
        && available < needed
    {
        bail!(too_little(image, needed, available, memory_total(&meminfo)));
    }
    if mount::available_bytes(run)? < needed {
        // The size limit of /run counts what is in it already, which is next to nothing.
        mount::remount(
            run,
            Flags::NOSUID | Flags::NODEV,
            &format!("size={}", needed + RESERVE_BYTES),
        )?;
    }
    Ok(())
}

/// What people are told of a machine whose memory does not hold the image. All in bytes.
fn too_little(image: &RootImage, needed: u64, available: u64, total: Option<u64>) -> String {
    let mib = |bytes: u64| bytes >> 20;
    let has = total.map_or_else(String::new, |total| format!("{} MiB of memory, ", mib(total)));
    format!(
        "this machine has {has}{} MiB of it free; the image {} needs {} MiB: give the machine more, or boot a smaller \
         image",
        mib(available),
        image.version,
        mib(needed.next_multiple_of(1 << 20)),
    )
}

/// `MemAvailable` of `/proc/meminfo`, bytes.
fn memory_available(meminfo: &str) -> Option<u64> {
    meminfo_bytes(meminfo, "MemAvailable:")
}

/// `MemTotal` of `/proc/meminfo`, bytes.
#[must_use]
pub fn memory_total(meminfo: &str) -> Option<u64> {
    meminfo_bytes(meminfo, "MemTotal:")
}

fn meminfo_bytes(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Mounts the image at `image` and the writable layer over it, all below `directory`, on `root`.
///
/// # Errors
/// The mount that failed. `size` is no size.
pub fn mount_root(
    image: &Path,
    directory: &Path,
    root: &Path,
    size: Option<&str>,
) -> anyhow::Result<()> {
    let size = tmpfs_size(size.unwrap_or(DEFAULT_WRITABLE_SIZE))?;
    let (lower, writable) = (directory.join("lower"), directory.join("writable"));
    for path in [&lower, &writable, &root.to_owned()] {
        mount::make_directory(path, 0o755)?;
    }
    let device = loop_device::attach(image)?;
    mount::mount(device.path(), &lower, "squashfs", Flags::RDONLY, "")?;
    mount::mount(
        Path::new("tmpfs"),
        &writable,
        "tmpfs",
        Flags::empty(),
        &format!("mode=0755,size={size}"),
    )?;
    let (upper, work) = (writable.join("upper"), writable.join("work"));
    // The overlay's root directory has the owner and mode of the upper one.
    let image_root =
        fs::metadata(&lower).with_context(|| format!("cannot look at {}", lower.display()))?;
    mount::make_directory(&upper, image_root.permissions().mode() & 0o7777)?;
    chown(&upper, Some(image_root.uid()), Some(image_root.gid()))
        .with_context(|| format!("cannot set the owner of {}", upper.display()))?;
    mount::make_directory(&work, 0o700)?;
    mount::mount_overlay(&lower, &upper, &work, root)?;
    Ok(())
}

/// `50%` as it is; `4GiB`, `512MiB`, `4G`, `4096` in bytes: what tmpfs takes as its size.
fn tmpfs_size(declared: &str) -> anyhow::Result<String> {
    const UNITS: [(&str, u64); 9] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("K", 1 << 10),
        ("M", 1 << 20),
        ("G", 1 << 30),
        ("T", 1 << 40),
        ("", 1),
    ];
    let declared = declared.trim();
    if let Some(percent) = declared.strip_suffix('%').and_then(|percent| percent.parse::<u8>().ok())
        && (1..=100).contains(&percent)
    {
        return Ok(format!("{percent}%"));
    }
    let bytes = UNITS.iter().find_map(|(unit, factor)| {
        declared
            .strip_suffix(unit)?
            .trim()
            .parse::<u64>()
            .ok()?
            .checked_mul(*factor)
            .filter(|bytes| *bytes > 0)
    });
    let bytes = bytes.with_context(|| {
        format!("root.writable-size is {declared:?}: use 1% to 100% of the memory, or a size such as 512MiB or 4GiB")
    })?;
    Ok(bytes.to_string())
}

#[cfg(test)]
#[path = "root_fs/tests.rs"]
mod tests;
