//! Which devices a cgroup may open: what is not granted is refused with `EPERM`, whatever
//! node somebody finds or makes for it (kernel: `Documentation/admin-guide/cgroup-v2.rst`,
//! "Device controller").
//!
//! ```text
//! context = { access << 16 | kind, major, minor }       struct bpf_cgroup_dev_ctx
//! for each grant: kind and numbers equal, access within the grant's    pass
//! reject
//! ```

use crate::{
    Result,
    bpf::{
        AND, BPF_MOV, BPF_RSH, EXIT, Instruction, JUMP, JUMP_NOT_EQUAL, Kind, LOAD_WORD,
        MOV_REGISTER, PASS, Program, REJECT, end_with_verdicts, op,
    },
};

/// A character or a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceKind {
    /// `S_IFBLK`.
    Block,
    /// `S_IFCHR`.
    Character,
}

/// Devices that may be opened, never made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Grant {
    /// Block or character devices.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number; `None` for all.
    pub minor: Option<u32>,
    /// They may be opened for reading.
    pub read: bool,
    /// They may be opened for writing.
    pub write: bool,
}

/// `BPF_DEVCG_ACC_MKNOD`, `_READ` and `_WRITE` (`linux/bpf.h`).
const MAKE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

fn program(grants: &[Grant]) -> Vec<Instruction> {
    if grants.is_empty() {
        // The verifier refuses a verdict that cannot be reached.
        return vec![op(BPF_MOV, 0, 0, 0, 0), op(EXIT, 0, 0, 0, 0)];
    }
    let number = |number: u32| i32::from_ne_bytes(number.to_ne_bytes());
    let mut code = vec![
        op(LOAD_WORD, 2, 1, 0, 0),
        op(LOAD_WORD, 4, 1, 4, 0),
        op(LOAD_WORD, 5, 1, 8, 0),
        op(MOV_REGISTER, 3, 2, 0, 0),
        op(BPF_RSH, 3, 0, 0, 16),
        op(MOV_REGISTER, 6, 3, 0, 0),
        op(AND, 6, 0, 0, MAKE),
        op(JUMP_NOT_EQUAL, 6, 0, REJECT, 0),
        op(AND, 2, 0, 0, 0xffff),
    ];
    for grant in grants {
        let kind = match grant.kind {
            DeviceKind::Block => 1,
            DeviceKind::Character => 2,
        };
        // Each test that fails jumps over those that are left, to the next grant.
        let withheld = if grant.read { 0 } else { READ } | if grant.write { 0 } else { WRITE };
        let access = [
            op(MOV_REGISTER, 6, 3, 0, 0),
            op(AND, 6, 0, 0, withheld),
            op(JUMP_NOT_EQUAL, 6, 0, 1, 0),
        ];
        let access = if withheld == 0 { &[] } else { access.as_slice() };
        let mut left = 1 + if withheld == 0 { 0 } else { 3 };
        let minor = grant.minor.map(|minor| op(JUMP_NOT_EQUAL, 5, 0, left, number(minor)));
        left += i16::from(minor.is_some());
        code.push(op(JUMP_NOT_EQUAL, 2, 0, left + 1, kind));
        code.push(op(JUMP_NOT_EQUAL, 4, 0, left, number(grant.major)));
        code.extend(minor);
        code.extend_from_slice(access);
        code.push(op(JUMP, 0, 0, PASS, 0));
    }
    code.push(op(JUMP, 0, 0, REJECT, 0));
    end_with_verdicts(&mut code);
    code
}

/// Loads the filter for `grants`.
///
/// # Errors
/// As [`Program::load`]; `E2BIG` past a thousand grants.
pub fn load(grants: &[Grant]) -> Result<Program> {
    Program::load(Kind::Device, &program(grants))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::tests::Machine;

    const READ: u32 = super::READ.cast_unsigned();
    const WRITE: u32 = super::WRITE.cast_unsigned();
    const BLOCK: u32 = 1;
    const CHARACTER: u32 = 2;

    fn passes(grants: &[Grant], access: u32, kind: u32, numbers: (u32, u32)) -> bool {
        let context = [access << 16 | kind, numbers.0, numbers.1];
        let context = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
        Machine { context, ..Machine::default() }.run(&program(grants)) == 1
    }

    #[test]
    fn what_is_granted_may_be_opened_and_nothing_be_made() {
        let character = |major, minor| Grant {
            kind: DeviceKind::Character,
            major,
            minor,
            read: true,
            write: true,
        };
        let grants = [
            Grant { write: false, ..character(1, Some(9)) },
            Grant { read: false, ..character(7, None) },
            character(1, Some(3)),
            character(136, None),
            Grant { kind: DeviceKind::Block, ..character(8, Some(1)) },
        ];
        for (access, kind, numbers, expected) in [
            (READ, CHARACTER, (1, 3), true),
            (READ | WRITE, CHARACTER, (1, 3), true),
            (READ, CHARACTER, (1, 5), false),
            (READ, CHARACTER, (1, 9), true),
            (WRITE, CHARACTER, (1, 9), false),
            (READ | WRITE, CHARACTER, (1, 9), false),
            (READ, CHARACTER, (7, 1), false),
            (WRITE, CHARACTER, (7, 1), true),
            (READ, BLOCK, (1, 3), false),
            (WRITE, CHARACTER, (136, 77), true),
            (WRITE, BLOCK, (136, 77), false),
            (READ, BLOCK, (8, 1), true),
            (READ, BLOCK, (8, 0), false),
            (READ, CHARACTER, (8, 1), false),
            (MAKE.cast_unsigned(), CHARACTER, (1, 3), false),
            (MAKE.cast_unsigned() | READ, BLOCK, (8, 1), false),
        ] {
            assert_eq!(
                passes(&grants, access, kind, numbers),
                expected,
                "{access} {kind} {numbers:?}"
            );
        }
        assert!(!passes(&[], READ, CHARACTER, (1, 3)));
    }

    /// The kernel's verifier reads it, as root.
    #[test]
    fn privileged_the_kernel_takes_the_program() {
        let all = |minor| Grant {
            kind: DeviceKind::Character,
            major: 4095,
            minor,
            read: true,
            write: true,
        };
        let limited = Grant { write: false, ..all(Some(7)) };
        let block = Grant { kind: DeviceKind::Block, ..all(None) };
        load(&[limited, all(None), all(Some(0x000f_ffff)), block]).unwrap();
        load(&[]).unwrap();
    }
}
