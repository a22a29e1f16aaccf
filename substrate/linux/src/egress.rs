//! A filter for what leaves a control group: packets to given IPv4 addresses and ports are dropped.
//!
//! An eBPF program of type `BPF_PROG_TYPE_CGROUP_SKB` (kernel: `Documentation/bpf/`), written here as instructions, attached
//! to the group's egress. The program sees each packet from its IP header on. It needs no tool and no file, and the kernel's
//! verifier has the last word on it. What it does:
//!
//! ```text
//! header = the first 20 bytes of the packet            else pass
//! version 4, protocol TCP or UDP, no later fragment     else pass
//! destination = header[16..20]; port = 2 bytes at IHL * 4 + 2, else drop
//! for each forbidden (address, port): both equal        drop
//! pass
//! ```
//! A packet that is sent to an IPv4-mapped IPv6 address is an IPv4 packet by then.

use std::{
    io,
    net::SocketAddrV4,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use crate::{LinuxError, Result};

/// Forbidden pairs of address and port: a server has a few addresses with a few ports each. The program stays far below
/// the kernel's limit of 4,096 instructions.
pub const MAX_FORBIDDEN: usize = 256;

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const CGROUP_SKB: u32 = 8;
const INET_EGRESS: u32 = 1;
/// Helper `bpf_skb_load_bytes(skb, offset, to, len)`.
const SKB_LOAD_BYTES: i32 = 26;

/// Bytes of the kernel's messages that are kept when it refuses the program.
const LOG_BYTES: usize = 16 << 10;

/// One instruction (`struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Instruction {
    code: u8,
    /// Destination in the low four bits, source in the high four.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const MOV_REGISTER: u8 = 0xbf;
const MOV: u8 = 0xb7;
const ADD: u8 = 0x07;
const AND: u8 = 0x57;
const LEFT: u8 = 0x67;
const RIGHT: u8 = 0x77;
const LOAD_BYTE: u8 = 0x71;
const LOAD_HALF: u8 = 0x69;
const LOAD_WORD: u8 = 0x61;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_NOT_EQUAL: u8 = 0x55;
/// Of the low 32 bits: an address with its highest bit set would be sign-extended by the 64-bit comparison.
const JUMP_NOT_EQUAL_32: u8 = 0x56;

/// Where the IP header is copied to, below the frame pointer.
const HEADER: i16 = -24;
/// Where the port is copied to.
const PORT: i16 = -32;

fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | (from << 4), offset, immediate }
}

/// Copies `length` bytes of the packet to the stack at `place`; the offset in the packet is in register 2. Registers 1 to 5
/// are lost; register 0 is 0 if the packet has them.
fn load(place: i16, length: i32) -> [Instruction; 5] {
    [
        op(MOV_REGISTER, 1, 6, 0, 0),
        op(MOV_REGISTER, 3, 10, 0, 0),
        op(ADD, 3, 0, 0, place.into()),
        op(MOV, 4, 0, 0, length),
        op(CALL, 0, 0, 0, SKB_LOAD_BYTES),
    ]
}

/// The program. Jumps to the verdicts are written as [`PASS`] and [`DROP`] and set when their places are known.
fn program(forbidden: &[SocketAddrV4]) -> Vec<Instruction> {
    const PASS: i16 = i16::MAX;
    const DROP: i16 = i16::MAX - 1;
    let mut code = vec![op(MOV_REGISTER, 6, 1, 0, 0), op(MOV, 2, 0, 0, 0)];
    code.extend(load(HEADER, 20));
    code.push(op(JUMP_NOT_EQUAL, 0, 0, PASS, 0));
    // Version and length of the header, in 32-bit words.
    code.extend([
        op(LOAD_BYTE, 7, 10, HEADER, 0),
        op(MOV_REGISTER, 1, 7, 0, 0),
        op(RIGHT, 1, 0, 0, 4),
        op(JUMP_NOT_EQUAL, 1, 0, PASS, 4),
    ]);
    // Protocol.
    code.extend([
        op(LOAD_BYTE, 1, 10, HEADER + 9, 0),
        op(JUMP_EQUAL, 1, 0, 1, libc::IPPROTO_TCP),
        op(JUMP_NOT_EQUAL, 1, 0, PASS, libc::IPPROTO_UDP),
    ]);
    // Later fragments have no port; without the first they are nothing.
    code.extend([
        op(LOAD_HALF, 1, 10, HEADER + 6, 0),
        op(AND, 1, 0, 0, i32::from(u16::from_ne_bytes(0x1fff_u16.to_be_bytes()))),
        op(JUMP_NOT_EQUAL, 1, 0, PASS, 0),
    ]);
    code.push(op(LOAD_WORD, 8, 10, HEADER + 16, 0));
    // The port of the destination, behind the options of the header.
    code.extend([
        op(MOV_REGISTER, 2, 7, 0, 0),
        op(AND, 2, 0, 0, 0x0f),
        op(LEFT, 2, 0, 0, 2),
        op(ADD, 2, 0, 0, 2),
    ]);
    code.extend(load(PORT, 2));
    code.push(op(JUMP_NOT_EQUAL, 0, 0, DROP, 0));
    code.push(op(LOAD_HALF, 9, 10, PORT, 0));
    for to in forbidden {
        let address = i32::from_ne_bytes(to.ip().octets());
        let port = i32::from(u16::from_ne_bytes(to.port().to_be_bytes()));
        code.extend([op(JUMP_NOT_EQUAL_32, 8, 0, 1, address), op(JUMP_EQUAL, 9, 0, DROP, port)]);
    }
    let pass = code.len();
    code.extend([op(MOV, 0, 0, 0, 1), op(EXIT, 0, 0, 0, 0), op(MOV, 0, 0, 0, 0), op(EXIT, 0, 0, 0, 0)]);
    for (place, instruction) in code.iter_mut().enumerate() {
        let target = match instruction.offset {
            PASS => pass,
            DROP => pass + 2,
            _ => continue,
        };
        // At most a few hundred instructions.
        instruction.offset = i16::try_from(target - place - 1).unwrap_or(i16::MAX);
    }
    code
}

/// `union bpf_attr` for `BPF_PROG_LOAD`, as far as it is used; the kernel takes what is left out as zero.
#[derive(Debug)]
#[repr(C)]
struct LoadAttributes {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// `union bpf_attr` for `BPF_PROG_ATTACH`.
#[derive(Debug)]
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// A program that the kernel has taken.
#[derive(Debug)]
pub struct Filter {
    program: OwnedFd,
}

impl Filter {
    /// Loads the filter for at most [`MAX_FORBIDDEN`] pairs.
    ///
    /// # Errors
    /// `EPERM` without `CAP_BPF` and `CAP_NET_ADMIN`, `ENOSYS` where the kernel has no BPF, `E2BIG` for too many pairs.
    pub fn load(forbidden: &[SocketAddrV4]) -> Result<Self> {
        let what = "the egress filter";
        if forbidden.len() > MAX_FORBIDDEN {
            return Err(LinuxError::new("load", what, io::Error::from_raw_os_error(libc::E2BIG)));
        }
        let code = program(forbidden);
        let mut log = vec![0_u8; LOG_BYTES];
        let license = c"Apache-2.0";
        let mut attributes = LoadAttributes {
            kind: CGROUP_SKB,
            count: u32::try_from(code.len()).unwrap_or(u32::MAX),
            instructions: code.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: 1,
            log_size: u32::try_from(LOG_BYTES).unwrap_or(0),
            log: log.as_mut_ptr() as u64,
            kernel_version: 0,
            flags: 0,
            name: *b"bedplate_egress\0",
            interface: 0,
            attach_type: INET_EGRESS,
        };
        // SAFETY: the attributes and all that they point to live until the call returns, with the sizes that they tell; the
        // kernel writes into `log` alone.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                PROG_LOAD,
                (&raw mut attributes).cast::<libc::c_void>(),
                size_of::<LoadAttributes>(),
            )
        };
        if fd < 0 {
            let errno = io::Error::last_os_error();
            let words = String::from_utf8_lossy(&log);
            let words = words.trim_end_matches('\0').trim();
            let what = if words.is_empty() { what.to_owned() } else { format!("{what} ({words})") };
            return Err(LinuxError::new("load", what, errno));
        }
        let fd = i32::try_from(fd)
            .map_err(|_| LinuxError::new("load", what, io::Error::from_raw_os_error(libc::EBADF)))?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
        Ok(Self { program: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Attaches it to the egress of a control group (version 2); it stays there as long as the group does.
    ///
    /// # Errors
    /// `EBADF` or `EINVAL` for what is no such group, `EPERM` if a parent forbids filters below.
    pub fn attach(&self, group: BorrowedFd<'_>) -> Result<()> {
        let number = |fd: i32| u32::try_from(fd).unwrap_or(u32::MAX);
        let mut attributes = AttachAttributes {
            target: number(group.as_raw_fd()),
            program: number(self.program.as_raw_fd()),
            attach_type: INET_EGRESS,
            flags: 0,
        };
        // SAFETY: the attributes live until the call returns and have the size that is told; nothing is written.
        let done = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                PROG_ATTACH,
                (&raw mut attributes).cast::<libc::c_void>(),
                size_of::<AttachAttributes>(),
            )
        };
        if done < 0 {
            return Err(LinuxError::new("attach", "the egress filter", io::Error::last_os_error()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program on a packet as the kernel would; only what [`program`] emits is known.
    fn passes(code: &[Instruction], packet: &[u8]) -> bool {
        const FRAME: i64 = 512;
        let (mut registers, mut stack) = ([0_i64; 11], [0_u8; 512]);
        registers[10] = FRAME;
        let mut at = 0;
        for _ in 0..10_000 {
            let Instruction { code: opcode, registers: both, offset, immediate } = code[at];
            let (to, from) = (usize::from(both & 0x0f), usize::from(both >> 4));
            at += 1;
            let jump = |taken: bool| if taken { usize::try_from(offset).unwrap() } else { 0 };
            let place = |register: i64| usize::try_from(register + i64::from(offset)).unwrap();
            match opcode {
                MOV_REGISTER => registers[to] = registers[from],
                MOV => registers[to] = immediate.into(),
                ADD => registers[to] += i64::from(immediate),
                AND => registers[to] &= i64::from(immediate),
                LEFT => registers[to] <<= immediate,
                RIGHT => registers[to] >>= immediate,
                LOAD_BYTE => registers[to] = stack[place(registers[from])].into(),
                LOAD_HALF => {
                    let place = place(registers[from]);
                    registers[to] = u16::from_ne_bytes([stack[place], stack[place + 1]]).into();
                }
                LOAD_WORD => {
                    let place = place(registers[from]);
                    registers[to] = u32::from_ne_bytes(stack[place..place + 4].try_into().unwrap()).into();
                }
                CALL => {
                    assert_eq!(immediate, SKB_LOAD_BYTES);
                    let number = |register: i64| usize::try_from(register).unwrap();
                    let (from, to, length) =
                        (number(registers[2]), number(registers[3]), number(registers[4]));
                    registers[0] = match packet.get(from..from + length) {
                        Some(bytes) => {
                            stack[to..to + length].copy_from_slice(bytes);
                            0
                        }
                        None => -14,
                    };
                }
                JUMP_EQUAL => at += jump(registers[to] == i64::from(immediate)),
                JUMP_NOT_EQUAL => at += jump(registers[to] != i64::from(immediate)),
                JUMP_NOT_EQUAL_32 => {
                    let low = u32::try_from(registers[to] & 0xffff_ffff).unwrap();
                    at += jump(low != u32::from_ne_bytes(immediate.to_ne_bytes()));
                }
                EXIT => return registers[0] == 1,
                other => panic!("instruction {other:#x}"),
            }
        }
        panic!("it does not end");
    }

    /// An IPv4 packet with so many words of options.
    fn packet(protocol: i32, to: &str, options: usize, fragment: u16) -> Vec<u8> {
        let to: SocketAddrV4 = to.parse().unwrap();
        let mut packet = vec![0; 20 + 4 * options];
        packet[0] = 0x45 + u8::try_from(options).unwrap();
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[9] = u8::try_from(protocol).unwrap();
        packet[16..20].copy_from_slice(&to.ip().octets());
        packet.extend([0x30, 0x39]);
        packet.extend(to.port().to_be_bytes());
        packet
    }

    #[test]
    fn only_what_is_forbidden_is_dropped() {
        let forbidden = ["10.77.0.1:9480", "10.77.0.1:69", "200.1.2.3:9443"].map(|to| to.parse().unwrap());
        let code = program(&forbidden);
        let (tcp, udp, icmp) = (libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_ICMP);
        for (protocol, to, options, passes_it) in [
            (tcp, "10.77.0.1:9480", 0, false),
            (udp, "10.77.0.1:69", 0, false),
            (tcp, "200.1.2.3:9443", 10, false),
            (tcp, "10.77.0.1:9481", 0, true),
            (tcp, "10.77.0.2:9480", 0, true),
            (tcp, "200.1.2.3:9480", 3, true),
            (icmp, "10.77.0.1:9480", 0, true),
        ] {
            assert_eq!(
                passes(&code, &packet(protocol, to, options, 0)),
                passes_it,
                "{protocol} {to} {options}"
            );
        }
        let to = "10.77.0.1:9480";
        assert!(!passes(&code, &packet(tcp, to, 0, 0x2000)), "the first of several fragments has the port");
        assert!(passes(&code, &packet(tcp, to, 0, 0x2001)), "a later fragment has none");
        assert!(!passes(&code, &packet(tcp, to, 0, 0)[..22]), "cut before its port");
        let mut version_6 = packet(tcp, to, 0, 0);
        version_6[0] = 0x60;
        assert!(passes(&code, &version_6));
        assert!(passes(&code, &[0x45; 10]));
        assert!(passes(&program(&[]), &packet(tcp, to, 0, 0)));
    }

    #[test]
    fn the_largest_program_is_small() {
        let forbidden: Vec<SocketAddrV4> =
            (0..MAX_FORBIDDEN).map(|port| format!("10.0.0.1:{}", port + 1).parse().unwrap()).collect();
        assert!(program(&forbidden).len() < 4_096);
        let last = packet(libc::IPPROTO_UDP, "10.0.0.1:256", 0, 0);
        assert!(!passes(&program(&forbidden), &last));
    }

    #[test]
    fn too_many_are_refused() {
        let forbidden = vec!["10.0.0.1:1".parse().unwrap(); MAX_FORBIDDEN + 1];
        assert_eq!(Filter::load(&forbidden).unwrap_err().raw(), Some(libc::E2BIG));
    }

    /// The kernel's verifier reads it, as root.
    #[test]
    fn privileged_the_kernel_takes_the_program() {
        let forbidden = ["10.77.0.1:9480", "200.1.2.3:9443"].map(|to| to.parse().unwrap());
        Filter::load(&forbidden).unwrap();
    }
}
