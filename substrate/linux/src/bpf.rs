//! Small eBPF programs for cgroups (kernel: `Documentation/bpf/`), written as instructions: they
//! need no tool and no file, and the kernel's verifier has the last word on them. What they decide
//! is in [`crate::egress`] and [`crate::device_filter`]; here is how a program is put together,
//! loaded and attached.
//!
//! A program ends in two verdicts: `1` passes, `0` rejects. Jumps to them are written as [`PASS`]
//! and [`REJECT`] and set by [`end_with_verdicts`] when the code is complete.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use crate::{LinuxError, Result};

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;

/// Bytes of the kernel's messages that are kept when it refuses a program.
const LOG_BYTES: usize = 16 << 10;

/// One instruction (`struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    /// Destination in the low four bits, source in the high four.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

pub(crate) const MOV_REGISTER: u8 = 0xbf;
pub(crate) const BPF_MOV: u8 = 0xb7;
pub(crate) const ADD: u8 = 0x07;
pub(crate) const AND: u8 = 0x57;
pub(crate) const BPF_LSH: u8 = 0x67;
pub(crate) const BPF_RSH: u8 = 0x77;
pub(crate) const LOAD_BYTE: u8 = 0x71;
pub(crate) const LOAD_HALF: u8 = 0x69;
pub(crate) const LOAD_WORD: u8 = 0x61;
pub(crate) const CALL: u8 = 0x85;
pub(crate) const EXIT: u8 = 0x95;
pub(crate) const JUMP: u8 = 0x05;
pub(crate) const JUMP_EQUAL: u8 = 0x15;
pub(crate) const JUMP_NOT_EQUAL: u8 = 0x55;
/// Of the low 32 bits: a number with its highest bit set would be sign-extended by the
/// 64-bit comparison.
pub(crate) const JUMP_NOT_EQUAL_32: u8 = 0x56;

/// Offset of a jump to the verdict that passes.
pub(crate) const PASS: i16 = i16::MAX;
/// Offset of a jump to the verdict that rejects.
pub(crate) const REJECT: i16 = i16::MAX - 1;

pub(crate) fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | (from << 4), offset, immediate }
}

/// Ends a program with the two verdicts and sets the jumps to them.
pub(crate) fn end_with_verdicts(code: &mut Vec<Instruction>) {
    let pass = code.len();
    code.extend([
        op(BPF_MOV, 0, 0, 0, 1),
        op(EXIT, 0, 0, 0, 0),
        op(BPF_MOV, 0, 0, 0, 0),
        op(EXIT, 0, 0, 0, 0),
    ]);
    for (place, instruction) in code.iter_mut().enumerate() {
        let target = match instruction.offset {
            PASS => pass,
            REJECT => pass + 2,
            _ => continue,
        };
        // The callers' programs have at most a few thousand instructions.
        instruction.offset = i16::try_from(target - place - 1).unwrap_or(i16::MAX);
    }
}

/// What a program is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Packets that leave the group (`BPF_PROG_TYPE_CGROUP_SKB`).
    Egress,
    /// Devices that the group opens or makes (`BPF_PROG_TYPE_CGROUP_DEVICE`).
    Device,
}

impl Kind {
    /// Type of the program and of its attachment (`linux/bpf.h`).
    fn numbers(self) -> (u32, u32) {
        match self {
            Self::Egress => (8, 1),
            Self::Device => (15, 6),
        }
    }

    fn name(self) -> (&'static str, [u8; 16]) {
        match self {
            Self::Egress => ("the egress filter", *b"bedplate_egress\0"),
            Self::Device => ("the device filter", *b"bedplate_device\0"),
        }
    }
}

/// `union bpf_attr` for `BPF_PROG_LOAD`, as far as it is used; the kernel takes what is
/// left out as zero.
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

/// A program that the kernel has taken. It can be attached to many groups.
#[derive(Debug)]
pub struct Program {
    kind: Kind,
    fd: OwnedFd,
}

impl Program {
    /// Loads a program. If it is refused it is loaded once more, for the verifier's words.
    ///
    /// # Errors
    /// `EPERM` without `CAP_BPF` and `CAP_NET_ADMIN`, `ENOSYS` where the kernel has no BPF,
    /// `EACCES` from its verifier.
    pub(crate) fn load(kind: Kind, code: &[Instruction]) -> Result<Self> {
        let (what, _) = kind.name();
        let fd = match load(kind, code, &mut []) {
            Ok(fd) => fd,
            Err(_) => {
                let mut log = vec![0_u8; LOG_BYTES];
                load(kind, code, &mut log).map_err(|errno| {
                    let words = String::from_utf8_lossy(&log);
                    let words = words.trim_end_matches('\0').trim();
                    let what = if words.is_empty() {
                        what.to_owned()
                    } else {
                        format!("{what} ({words})")
                    };
                    LinuxError::new("load", what, errno)
                })?
            }
        };
        Ok(Self { kind, fd })
    }

    /// Attaches it to a cgroup (version 2); it stays there as long as the group does.
    ///
    /// # Errors
    /// `EBADF` or `EINVAL` for what is no such group, `EPERM` if a parent forbids filters below.
    pub fn attach(&self, group: BorrowedFd<'_>) -> Result<()> {
        let number = |fd: i32| u32::try_from(fd).unwrap_or(u32::MAX);
        let mut attributes = AttachAttributes {
            target: number(group.as_raw_fd()),
            program: number(self.fd.as_raw_fd()),
            attach_type: self.kind.numbers().1,
            flags: 0,
        };
        // SAFETY: the attributes live until the call returns and have the size that is told;
        // nothing is written.
        let done = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                PROG_ATTACH,
                (&raw mut attributes).cast::<libc::c_void>(),
                size_of::<AttachAttributes>(),
            )
        };
        if done < 0 {
            return Err(LinuxError::new("attach", self.kind.name().0, io::Error::last_os_error()));
        }
        Ok(())
    }
}

fn load(kind: Kind, code: &[Instruction], log: &mut [u8]) -> io::Result<OwnedFd> {
    let (kind_number, attach_type) = kind.numbers();
    let length = |slice: usize| u32::try_from(slice).unwrap_or(u32::MAX);
    let license = c"Apache-2.0";
    let mut attributes = LoadAttributes {
        kind: kind_number,
        count: length(code.len()),
        instructions: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: length(log.len()),
        log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        kernel_version: 0,
        flags: 0,
        name: kind.name().1,
        interface: 0,
        attach_type,
    };
    // SAFETY: the attributes and all that they point to live until the call returns, with the sizes
    // that they tell; the kernel writes into `log` alone.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_LOAD,
            (&raw mut attributes).cast::<libc::c_void>(),
            size_of::<LoadAttributes>(),
        )
    };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const FRAME: usize = 512;

    /// Runs programs as the kernel would; only what the filters emit is known.
    #[derive(Debug, Default)]
    pub(crate) struct Machine {
        /// What register 1 points to: addresses from 0 on.
        pub(crate) context: Vec<u8>,
        /// What `bpf_skb_load_bytes` reads.
        pub(crate) packet: Vec<u8>,
    }

    impl Machine {
        /// The program's verdict.
        pub(crate) fn run(&mut self, code: &[Instruction]) -> i64 {
            // The context lies above the frame.
            let mut memory = vec![0_u8; FRAME];
            memory.extend(&self.context);
            let mut registers = [0_i64; 11];
            registers[1] = FRAME.try_into().unwrap();
            registers[10] = FRAME.try_into().unwrap();
            let mut at = 0;
            for _ in 0..10_000 {
                let Instruction { code: opcode, registers: both, offset, immediate } = code[at];
                let (to, from) = (usize::from(both & 0x0f), usize::from(both >> 4));
                at += 1;
                let jump = |taken: bool| if taken { usize::try_from(offset).unwrap() } else { 0 };
                let place = |register: i64| usize::try_from(register + i64::from(offset)).unwrap();
                match opcode {
                    MOV_REGISTER => registers[to] = registers[from],
                    BPF_MOV => registers[to] = immediate.into(),
                    ADD => registers[to] += i64::from(immediate),
                    AND => registers[to] &= i64::from(immediate),
                    BPF_LSH => registers[to] <<= immediate,
                    BPF_RSH => registers[to] >>= immediate,
                    LOAD_BYTE => registers[to] = memory[place(registers[from])].into(),
                    LOAD_HALF => {
                        let place = place(registers[from]);
                        registers[to] =
                            u16::from_ne_bytes([memory[place], memory[place + 1]]).into();
                    }
                    LOAD_WORD => {
                        let place = place(registers[from]);
                        registers[to] =
                            u32::from_ne_bytes(memory[place..place + 4].try_into().unwrap()).into();
                    }
                    CALL => {
                        assert_eq!(immediate, 26, "bpf_skb_load_bytes");
                        let number = |register: i64| usize::try_from(register).unwrap();
                        let (from, to, length) =
                            (number(registers[2]), number(registers[3]), number(registers[4]));
                        registers[0] = match self.packet.get(from..from + length) {
                            Some(bytes) => {
                                memory[to..to + length].copy_from_slice(bytes);
                                0
                            }
                            None => -14,
                        };
                    }
                    JUMP => at += jump(true),
                    JUMP_EQUAL => at += jump(registers[to] == i64::from(immediate)),
                    JUMP_NOT_EQUAL => at += jump(registers[to] != i64::from(immediate)),
                    JUMP_NOT_EQUAL_32 => {
                        let low = u32::try_from(registers[to] & 0xffff_ffff).unwrap();
                        at += jump(low != u32::from_ne_bytes(immediate.to_ne_bytes()));
                    }
                    EXIT => return registers[0],
                    other => panic!("instruction {other:#x}"),
                }
            }
            panic!("it does not end");
        }
    }
}
