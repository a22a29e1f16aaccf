//! The health log of NVMe controllers. Layouts and numbers are those of `linux/nvme_ioctl.h`; the
//! command is that of the NVM Express Base Specification.

use std::{fs::File, os::fd::AsRawFd, path::Path};

use crate::{LinuxError, Result};

/// Bytes of the SMART / health information.
pub const SMART_LOG_BYTES: usize = 512;

const GET_LOG_PAGE: u8 = 0x02;
const SMART_LOG: u32 = 0x02;
const ALL_NAMESPACES: u32 = 0xffff_ffff;

/// After so long the kernel gives the command up: a controller that resets needs some seconds.
const TIMEOUT_MILLIS: u32 = 3_000;

/// `struct nvme_passthru_cmd`.
#[repr(C)]
#[derive(Default)]
struct PassthroughCommand {
    opcode: u8,
    flags: u8,
    reserved: u16,
    namespace: u32,
    words_2_and_3: [u32; 2],
    metadata: u64,
    address: u64,
    metadata_bytes: u32,
    data_bytes: u32,
    words_10_to_15: [u32; 6],
    timeout_millis: u32,
    result: u32,
}

const NVME_IOCTL_ADMIN_CMD: libc::c_ulong =
    nix::request_code_readwrite!(b'N', 0x41, size_of::<PassthroughCommand>());

/// SMART / health information (log page 02h) of a controller, `/dev/nvme0`.
///
/// # Errors
/// `EACCES` without `CAP_SYS_ADMIN`; `EIO` if the controller refuses.
pub fn smart_log(controller: &Path) -> Result<[u8; SMART_LOG_BYTES]> {
    const { assert!(size_of::<PassthroughCommand>() == 72) };
    const DWORDS_LESS_ONE: u32 = 512 / 4 - 1;
    let file =
        File::open(controller).map_err(|errno| LinuxError::path("open", controller, errno))?;
    let mut log = [0; SMART_LOG_BYTES];
    let mut command = PassthroughCommand {
        opcode: GET_LOG_PAGE,
        namespace: ALL_NAMESPACES,
        address: log.as_mut_ptr() as u64,
        data_bytes: 512,
        words_10_to_15: [DWORDS_LESS_ONE << 16 | SMART_LOG, 0, 0, 0, 0, 0],
        timeout_millis: TIMEOUT_MILLIS,
        ..PassthroughCommand::default()
    };
    let failed =
        |errno: std::io::Error| LinuxError::path("read the health log of", controller, errno);
    // SAFETY: the command is laid out as the kernel's; `address` and `data_bytes` are those of
    // `log`, which lives longer.
    match unsafe { libc::ioctl(file.as_raw_fd(), NVME_IOCTL_ADMIN_CMD, &raw mut command) } {
        0 => Ok(log),
        ..0 => Err(failed(std::io::Error::last_os_error())),
        status => Err(failed(std::io::Error::other(format!("NVMe status {status:#06x}")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_controller_is_refused_by_the_kernel() {
        let error = smart_log(Path::new("/dev/null")).unwrap_err();
        assert_eq!((error.step, error.raw()), ("read the health log of", Some(libc::ENOTTY)));
    }
}
