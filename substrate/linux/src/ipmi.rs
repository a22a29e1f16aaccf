//! Asking the BMC of the machine. Layouts and numbers are those of `linux/ipmi.h`; see
//! `Documentation/driver-api/ipmi.rst`.

use std::{
    fs::OpenOptions,
    io,
    os::fd::{AsFd, AsRawFd},
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::{LinuxError, Result};

/// Largest answer (`IPMI_MAX_MSG_LENGTH`), bytes.
const MAX_ANSWER_BYTES: usize = 272;

/// How long a BMC has: busy ones need a second.
const DEADLINE: Duration = Duration::from_secs(5);

/// Answers to questions of others, or to one that was given up, that are passed over.
const MAX_STRANGE: u32 = 16;

/// `IPMI_SYSTEM_INTERFACE_ADDR_TYPE`, `IPMI_BMC_CHANNEL`.
const SYSTEM_INTERFACE: i32 = 0x0c;
const BMC_CHANNEL: i16 = 0xf;

/// `struct ipmi_system_interface_addr`, as large as `struct ipmi_addr` wants.
#[repr(C)]
struct Address {
    kind: i32,
    channel: i16,
    unit: u8,
    rest: [u8; 32],
}

/// `struct ipmi_msg`.
#[repr(C)]
struct Message {
    network_function: u8,
    command: u8,
    bytes: u16,
    data: *mut u8,
}

/// `struct ipmi_req`.
#[repr(C)]
struct Request {
    address: *mut Address,
    address_bytes: u32,
    id: libc::c_long,
    message: Message,
}

/// `struct ipmi_recv`.
#[repr(C)]
struct Received {
    kind: i32,
    address: *mut Address,
    address_bytes: u32,
    id: libc::c_long,
    message: Message,
}

const IPMICTL_SEND_COMMAND: libc::c_ulong = nix::request_code_read!(b'i', 13, size_of::<Request>());
const IPMICTL_RECEIVE_MSG_TRUNC: libc::c_ulong =
    nix::request_code_readwrite!(b'i', 11, size_of::<Received>());

/// Asks over the system interface `/dev/ipmi0`: the data of the answer, which begin with the
/// completion code.
///
/// # Errors
/// `ENOENT` where there is no such interface, `ETIMEDOUT` if the BMC says nothing for some seconds.
pub fn ask(interface: &Path, network_function: u8, command: u8, data: &[u8]) -> Result<Vec<u8>> {
    let failed = |errno: io::Error| LinuxError::path("ask the BMC at", interface, errno);
    let file = OpenOptions::new().read(true).write(true).open(interface);
    let file = file.map_err(|errno| LinuxError::path("open", interface, errno))?;
    let mut address =
        Address { kind: SYSTEM_INTERFACE, channel: BMC_CHANNEL, unit: 0, rest: [0; 32] };
    let mut data = data.to_vec();
    let bytes = u16::try_from(data.len()).map_err(|_| failed(Errno::EMSGSIZE.into()))?;
    let message = Message { network_function, command, bytes, data: data.as_mut_ptr() };
    // Kind, channel and unit, with the padding between.
    let mut request = Request { address: &raw mut address, address_bytes: 8, id: 1, message };
    // SAFETY: the request is laid out as the kernel's; address and data live longer than the call,
    // which copies them.
    let sent = unsafe { libc::ioctl(file.as_raw_fd(), IPMICTL_SEND_COMMAND, &raw mut request) };
    Errno::result(sent).map_err(|errno| failed(errno.into()))?;
    for _ in 0..MAX_STRANGE {
        let mut waits = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(DEADLINE).unwrap_or(PollTimeout::MAX);
        match poll(&mut waits, limit) {
            Ok(0) => return Err(failed(Errno::ETIMEDOUT.into())),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(failed(errno.into())),
        }
        let mut answer = [0; MAX_ANSWER_BYTES];
        let message =
            Message { network_function: 0, command: 0, bytes: 272, data: answer.as_mut_ptr() };
        let mut received =
            Received { kind: 0, address: &raw mut address, address_bytes: 40, id: 0, message };
        // SAFETY: laid out as the kernel's; it writes at most 40 bytes of address and 272 of data,
        // and both are as large.
        let status =
            unsafe { libc::ioctl(file.as_raw_fd(), IPMICTL_RECEIVE_MSG_TRUNC, &raw mut received) };
        match Errno::result(status) {
            Ok(_) | Err(Errno::EMSGSIZE) => {}
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(errno) => return Err(failed(errno.into())),
        }
        // An answer's network function is that of its question and one.
        if (received.message.network_function, received.message.command)
            == (network_function | 1, command)
        {
            return Ok(answer[..usize::from(received.message.bytes).min(MAX_ANSWER_BYTES)].to_vec());
        }
    }
    Err(failed(Errno::ETIMEDOUT.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(
            (size_of::<Request>(), size_of::<Received>(), size_of::<Address>()),
            (40, 48, 40)
        );
    }

    #[test]
    fn machines_without_a_bmc() {
        let gone = ask(Path::new("/dev/no-such-bmc"), 6, 1, &[]).unwrap_err();
        assert_eq!((gone.step, gone.raw()), ("open", Some(libc::ENOENT)));
        let other = ask(Path::new("/dev/null"), 6, 1, &[]).unwrap_err();
        assert_eq!((other.step, other.raw()), ("ask the BMC at", Some(libc::ENOTTY)));
    }
}
