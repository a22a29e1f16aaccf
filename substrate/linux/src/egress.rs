//! A filter for what leaves a cgroup: packets to given IPv4 addresses and ports are dropped.
//!
//! An eBPF program of type `BPF_PROG_TYPE_CGROUP_SKB` (kernel: `Documentation/bpf/`), written
//! here as instructions, attached to the group's egress. The program sees each packet from its
//! IP header on. It needs no tool and no file, and the kernel's verifier has the last word on
//! it. What it does:
//!
//! ```text
//! header = the first 20 bytes of the packet            else pass
//! version 4, protocol TCP or UDP, no later fragment     else pass
//! destination = header[16..20]; port = 2 bytes at IHL * 4 + 2, else drop
//! for each forbidden (address, port): both equal        drop
//! pass
//! ```
//! A packet that is sent to an IPv4-mapped IPv6 address is an IPv4 packet by then.

use std::{io, net::SocketAddrV4};

use crate::{
    LinuxError, Result,
    bpf::{
        ADD, AND, BPF_LSH, BPF_MOV, BPF_RSH, CALL, Instruction, JUMP_EQUAL, JUMP_NOT_EQUAL,
        JUMP_NOT_EQUAL_32, Kind, LOAD_BYTE, LOAD_HALF, LOAD_WORD, MOV_REGISTER, PASS, Program,
        REJECT, end_with_verdicts, op,
    },
};

/// Forbidden pairs of address and port: a server has a few addresses with a few ports each. The
/// program stays far below the kernel's limit of 4,096 instructions.
pub const MAX_FORBIDDEN: usize = 256;

/// Helper `bpf_skb_load_bytes(skb, offset, to, len)`.
const SKB_LOAD_BYTES: i32 = 26;

/// Where the IP header is copied to, below the frame pointer.
const HEADER: i16 = -24;
/// Where the port is copied to.
const PORT: i16 = -32;

/// Copies `length` bytes of the packet to the stack at `place`; the offset in the packet is in
/// register 2. Registers 1 to 5 are lost; register 0 is 0 if the packet has them.
fn copy(place: i16, length: i32) -> [Instruction; 5] {
    [
        op(MOV_REGISTER, 1, 6, 0, 0),
        op(MOV_REGISTER, 3, 10, 0, 0),
        op(ADD, 3, 0, 0, place.into()),
        op(BPF_MOV, 4, 0, 0, length),
        op(CALL, 0, 0, 0, SKB_LOAD_BYTES),
    ]
}

fn program(forbidden: &[SocketAddrV4]) -> Vec<Instruction> {
    let mut code = vec![op(MOV_REGISTER, 6, 1, 0, 0), op(BPF_MOV, 2, 0, 0, 0)];
    code.extend(copy(HEADER, 20));
    code.push(op(JUMP_NOT_EQUAL, 0, 0, PASS, 0));
    // Version and length of the header, in 32-bit words.
    code.extend([
        op(LOAD_BYTE, 7, 10, HEADER, 0),
        op(MOV_REGISTER, 1, 7, 0, 0),
        op(BPF_RSH, 1, 0, 0, 4),
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
        op(BPF_LSH, 2, 0, 0, 2),
        op(ADD, 2, 0, 0, 2),
    ]);
    code.extend(copy(PORT, 2));
    code.push(op(JUMP_NOT_EQUAL, 0, 0, REJECT, 0));
    code.push(op(LOAD_HALF, 9, 10, PORT, 0));
    for to in forbidden {
        let address = i32::from_ne_bytes(to.ip().octets());
        let port = i32::from(u16::from_ne_bytes(to.port().to_be_bytes()));
        code.extend([op(JUMP_NOT_EQUAL_32, 8, 0, 1, address), op(JUMP_EQUAL, 9, 0, REJECT, port)]);
    }
    end_with_verdicts(&mut code);
    code
}

/// Loads the filter for at most [`MAX_FORBIDDEN`] pairs.
///
/// # Errors
/// As [`Program::load`]; `E2BIG` for too many pairs.
pub fn load(forbidden: &[SocketAddrV4]) -> Result<Program> {
    if forbidden.len() > MAX_FORBIDDEN {
        let errno = io::Error::from_raw_os_error(libc::E2BIG);
        return Err(LinuxError::new("load", "the egress filter", errno));
    }
    Program::load(Kind::Egress, &program(forbidden))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::tests::Machine;

    fn passes(code: &[Instruction], packet: &[u8]) -> bool {
        let mut machine = Machine { packet: packet.to_vec(), ..Machine::default() };
        machine.run(code) == 1
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
        let forbidden =
            ["10.77.0.1:9480", "10.77.0.1:69", "200.1.2.3:9443"].map(|to| to.parse().unwrap());
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
        assert!(
            !passes(&code, &packet(tcp, to, 0, 0x2000)),
            "the first of several fragments has the port"
        );
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
        let forbidden: Vec<SocketAddrV4> = (0..MAX_FORBIDDEN)
            .map(|port| format!("10.0.0.1:{}", port + 1).parse().unwrap())
            .collect();
        assert!(program(&forbidden).len() < 4_096);
        let last = packet(libc::IPPROTO_UDP, "10.0.0.1:256", 0, 0);
        assert!(!passes(&program(&forbidden), &last));
    }

    #[test]
    fn too_many_are_refused() {
        let forbidden = vec!["10.0.0.1:1".parse().unwrap(); MAX_FORBIDDEN + 1];
        assert_eq!(load(&forbidden).unwrap_err().raw(), Some(libc::E2BIG));
    }

    /// The kernel's verifier reads it, as root.
    #[test]
    fn privileged_the_kernel_takes_the_program() {
        let forbidden = ["10.77.0.1:9480", "200.1.2.3:9443"].map(|to| to.parse().unwrap());
        load(&forbidden).unwrap();
    }
}
