//! A file as a read-only block device (`/dev/loopN`).
//!
//! Layouts and numbers are those of `linux/loop.h`. `LOOP_CONFIGURE` (Linux 5.8) sets file and
//! flags in one step, so that nobody ever sees the device half set up.

use std::{
    fs::{File, OpenOptions},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use crate::{LinuxError, Result};

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// Tries to get a free device: another process may take the one that the kernel named.
const ATTEMPTS: u32 = 16;

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// A loop device that lives as long as this handle or a mount of it.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _device: File,
}

impl LoopDevice {
    /// `/dev/loopN`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Attaches `file` to a free loop device: read-only, released by the kernel after its last
/// use, no direct I/O.
///
/// # Errors
/// `ENOENT` where the kernel has no loop devices (module `loop`), `EBUSY` if none could be had,
/// `EINVAL` before 5.8.
pub fn attach(file: &Path) -> Result<LoopDevice> {
    let backing = File::open(file).map_err(|errno| LinuxError::path("open", file, errno))?;
    let control_path = Path::new("/dev/loop-control");
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open(control_path)
        .map_err(|errno| LinuxError::path("open", control_path, errno))?;
    let mut last = LinuxError::path("attach a loop device to", file, Errno::BUSY);
    for _ in 0..ATTEMPTS {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument; the descriptor is open for the whole call.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
        if number < 0 {
            return Err(LinuxError::path(
                "get a free device from",
                control_path,
                std::io::Error::last_os_error(),
            ));
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = File::open(&path).map_err(|errno| LinuxError::path("open", &path, errno))?;
        match configure(&device, &backing) {
            Ok(()) => return Ok(LoopDevice { path, _device: device }),
            Err(errno) if errno == Errno::BUSY => {}
            Err(errno) => return Err(LinuxError::path("attach a loop device to", file, errno)),
        }
        last.subject = format!("{} ({})", file.display(), path.display());
    }
    Err(last)
}

fn configure(device: &File, backing: &File) -> std::result::Result<(), Errno> {
    let config = LoopConfig {
        fd: backing.as_raw_fd().cast_unsigned(),
        block_size: 0,
        info: LoopInfo64 {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: the kernel only reads a `struct loop_config`, whose layout `LoopConfig` has; it and
    // both descriptors outlive the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) };
    if result == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}
