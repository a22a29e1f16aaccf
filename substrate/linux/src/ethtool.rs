//! What drivers of network interfaces tell: `ETHTOOL_GDRVINFO` of `linux/ethtool.h`.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::{LinuxError, Result};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 3;

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    version: [u8; 32],
    firmware_version: [u8; 32],
    bus_info: [u8; 32],
    expansion_rom_version: [u8; 32],
    reserved: [u8; 12],
    counts: [u32; 5],
}

/// `struct ifreq` with a pointer in its union.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut DriverInfo,
    rest: [u64; 2],
}

/// Firmware version of an interface's card as its driver writes it; empty if it does not tell.
///
/// # Errors
/// `ENODEV` if there is no such interface, `EOPNOTSUPP` if its driver answers no such question.
pub fn firmware_version(interface: &str) -> Result<String> {
    const { assert!(size_of::<DriverInfo>() == 196 && size_of::<Request>() == 40) };
    let failed = |errno: std::io::Error| LinuxError::new("ask the driver of", interface, errno);
    let mut name = [0; libc::IFNAMSIZ];
    // One byte stays zero: the end.
    if interface.len() >= libc::IFNAMSIZ {
        return Err(failed(nix::errno::Errno::ENAMETOOLONG.into()));
    }
    name[..interface.len()].copy_from_slice(interface.as_bytes());
    let socket: OwnedFd =
        socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
            .map_err(|errno| failed(errno.into()))?;
    let mut info = DriverInfo {
        command: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        version: [0; 32],
        firmware_version: [0; 32],
        bus_info: [0; 32],
        expansion_rom_version: [0; 32],
        reserved: [0; 12],
        counts: [0; 5],
    };
    let mut request = Request { name, data: &raw mut info, rest: [0; 2] };
    // SAFETY: `request` is as large as `struct ifreq`, and `info` is what the kernel writes for
    // this command; both live longer than the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) } != 0 {
        return Err(failed(std::io::Error::last_os_error()));
    }
    let version = info.firmware_version.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(version).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_that_cannot_tell() {
        assert_eq!(firmware_version("lo").unwrap_err().raw(), Some(libc::EOPNOTSUPP));
        assert_eq!(firmware_version("nowhere0").unwrap_err().raw(), Some(libc::ENODEV));
        assert_eq!(
            firmware_version("much-too-long-a-name").unwrap_err().raw(),
            Some(libc::ENAMETOOLONG)
        );
    }
}
