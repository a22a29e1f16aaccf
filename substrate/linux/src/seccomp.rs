//! Seccomp filters (kernel: `Documentation/userspace-api/seccomp_filter.rst`): classic BPF over
//! `struct seccomp_data`. Which calls a program may make is the caller's to say.
//!
//! The kernel walks and compiles a filter at each start of a program, so it must be short:
//! calls with neighbouring numbers and the same answer are one range, and the ranges are a
//! binary tree. Three hundred allowed calls make some two hundred instructions, a tenth of a
//! chain of comparisons.

use std::{collections::BTreeMap, io};

use libc::sock_filter as Instruction;

use crate::{LinuxError, Result};

/// A test of one argument of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// The argument is this number, its low 32 bits.
    Is(u32),
    /// None of these bits is set in the argument.
    HasNoneOf(u64),
}

/// One way in which a call is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowedCall {
    /// Number of the call (`syscall(2)`), of this program's own architecture.
    pub call: u32,
    /// Only if this argument, counted from 0, passes this test.
    pub only: Option<(u8, Test)>,
}

/// A compiled filter. Copies of this process have it too.
#[derive(Debug, Clone)]
pub struct Filter {
    program: Vec<Instruction>,
}

/// What happens to the calls of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Allow,
    Fail(i32),
    /// Allowed if one of these tests passes, else `EPERM`.
    Test(Vec<(u8, Test)>),
}

/// `AUDIT_ARCH_X86_64` of `linux/audit.h`.
const ARCHITECTURE: u32 = 0xc000_003e;

/// Offsets in `struct seccomp_data`: number of the call, architecture, first argument
/// (little-endian, 64 bits each).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS);
const RETURN: u16 = code(libc::BPF_RET | libc::BPF_K);
const JUMP: u16 = code(libc::BPF_JMP | libc::BPF_JA);
const IF_EQUAL: u16 = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
const IF_AT_LEAST: u16 = code(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K);
const IF_ANY_BIT: u16 = code(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K);

const fn code(bits: u32) -> u16 {
    // Opcodes of classic BPF have 16 bits.
    (bits & 0xffff) as u16
}

const fn op(code: u16, k: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction { code, jt: if_true, jf: if_false, k }
}

fn fail(errno: i32) -> Instruction {
    op(RETURN, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned(), 0, 0)
}

impl Filter {
    /// Compiles a filter: a call in `allowed` is let through if one of its tests passes, one in
    /// `missing` fails with `ENOSYS`, so that programs fall back to an older call, any other with
    /// `EPERM`. A call of another architecture (32-bit programs) ends the process.
    #[must_use]
    pub fn compile(allowed: &[AllowedCall], missing: &[u32]) -> Self {
        let mut answers: BTreeMap<u32, Answer> =
            missing.iter().map(|call| (*call, Answer::Fail(libc::ENOSYS))).collect();
        for AllowedCall { call, only } in allowed {
            match (only, answers.get_mut(call)) {
                (None, _) => drop(answers.insert(*call, Answer::Allow)),
                (Some(test), Some(Answer::Test(tests))) => tests.push(*test),
                (Some(test), _) => drop(answers.insert(*call, Answer::Test(vec![*test]))),
            }
        }
        let mut program = vec![
            op(LOAD, ARCH, 0, 0),
            op(IF_EQUAL, ARCHITECTURE, 1, 0),
            op(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
            op(LOAD, NUMBER, 0, 0),
        ];
        program.extend(tree(&ranges(&answers)));
        Self { program }
    }

    /// Puts the filter on this thread, for good, and on every program that it becomes. Sets
    /// `no_new_privs`.
    ///
    /// # Errors
    /// `ENOSYS` where the kernel has no filters, `EACCES` if an older filter forbids it, `EINVAL`
    /// for a filter of more than 4,096 instructions.
    pub fn install(&self) -> Result<()> {
        let error = |errno: io::Error| LinuxError::new("install", "the seccomp filter", errno);
        rustix::thread::set_no_new_privs(true).map_err(|errno| error(errno.into()))?;
        let program = libc::sock_fprog {
            len: libc::c_ushort::try_from(self.program.len()).unwrap_or(libc::c_ushort::MAX),
            filter: self.program.as_ptr().cast_mut(),
        };
        // SAFETY: the program and its instructions live until the call returns, which copies them
        // and writes nothing.
        let done = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
        };
        if done == 0 { Ok(()) } else { Err(error(io::Error::last_os_error())) }
    }
}

/// The answers for all numbers, as the first number of each range.
fn ranges(answers: &BTreeMap<u32, Answer>) -> Vec<(u32, Answer)> {
    let refused = Answer::Fail(libc::EPERM);
    let mut ranges: Vec<(u32, Answer)> = Vec::new();
    let mut add = |first: u32, answer: &Answer| {
        if ranges.last().is_none_or(|(_, last)| last != answer) {
            ranges.push((first, answer.clone()));
        }
    };
    let mut next = 0;
    for (call, answer) in answers {
        if *call > next {
            add(next, &refused);
        }
        add(*call, answer);
        next = call.saturating_add(1);
    }
    add(next, &refused);
    ranges
}

/// Finds the range of the number that is loaded, and answers.
fn tree(ranges: &[(u32, Answer)]) -> Vec<Instruction> {
    let middle = ranges.len() / 2;
    let (below, above) = ranges.split_at(middle);
    let Some((first, _)) = above.first().filter(|_| middle > 0) else {
        return ranges.first().map_or_else(Vec::new, |(_, answer)| leaf(answer));
    };
    let (below, above) = (tree(below), tree(above));
    let mut program = match u8::try_from(below.len()) {
        Ok(length) => vec![op(IF_AT_LEAST, *first, length, 0)],
        // A test jumps over 255 instructions at most.
        Err(_) => {
            let length = u32::try_from(below.len()).unwrap_or(u32::MAX);
            vec![op(IF_AT_LEAST, *first, 0, 1), op(JUMP, length, 0, 0)]
        }
    };
    program.extend(below);
    program.extend(above);
    program
}

fn leaf(answer: &Answer) -> Vec<Instruction> {
    const ALLOW: Instruction = op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0);
    let tests = match answer {
        Answer::Allow => return vec![ALLOW],
        Answer::Fail(errno) => return vec![fail(*errno)],
        Answer::Test(tests) => tests,
    };
    let mut program = Vec::new();
    for (argument, test) in tests {
        let low = ARGUMENTS + 8 * u32::from(*argument);
        match test {
            Test::Is(value) => {
                program.extend([op(LOAD, low, 0, 0), op(IF_EQUAL, *value, 0, 1), ALLOW])
            }
            Test::HasNoneOf(bits) => {
                let half =
                    |shift: u32| u32::try_from(bits >> shift & 0xffff_ffff).unwrap_or(u32::MAX);
                program.extend([
                    op(LOAD, low, 0, 0),
                    op(IF_ANY_BIT, half(0), 3, 0),
                    op(LOAD, low + 4, 0, 0),
                    op(IF_ANY_BIT, half(32), 1, 0),
                    ALLOW,
                ]);
            }
        }
    }
    program.push(fail(libc::EPERM));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(calls: std::ops::Range<u32>) -> Vec<AllowedCall> {
        calls.map(|call| AllowedCall { call, only: None }).collect()
    }

    /// In a thread of its own: the filter stays.
    #[test]
    fn calls_are_let_through_refused_or_missing() {
        let number = |name: i64, argument: i64| {
            // SAFETY: the calls below take numbers and touch no memory.
            let done = unsafe { libc::syscall(name, argument, 0, 0) };
            if done < 0 { std::io::Error::last_os_error().raw_os_error() } else { None }
        };
        let results = std::thread::spawn(move || {
            let call = |call: i64| u32::try_from(call).unwrap();
            let tested = [libc::SYS_umask, libc::SYS_personality, libc::SYS_socket].map(call);
            let mut rules = allowed(0..449);
            rules.retain(|rule| !tested.contains(&rule.call));
            rules.push(AllowedCall { call: tested[1], only: Some((0, Test::Is(u32::MAX))) });
            rules.push(AllowedCall { call: tested[2], only: Some((0, Test::HasNoneOf(0x20))) });
            Filter::compile(&rules, &[449, 450]).install().unwrap();
            [
                number(libc::SYS_umask, 0o22),
                number(449, 0),
                number(450, 0),
                number(libc::SYS_personality, 0xffff_ffff),
                number(libc::SYS_personality, 1),
                number(libc::SYS_socket, 40),
                number(libc::SYS_getpid, 0),
            ]
        });
        let (refused, missing) = (Some(libc::EPERM), Some(libc::ENOSYS));
        assert_eq!(
            results.join().unwrap(),
            [refused, missing, missing, None, refused, refused, None]
        );
    }
    /// Runs a filter as the kernel would; only what [`Filter::compile`] emits is known.
    fn answer(filter: &Filter, architecture: u32, call: u32, argument: u64) -> u32 {
        let low = u32::try_from(argument & 0xffff_ffff).unwrap();
        let high = u32::try_from(argument >> 32).unwrap();
        let (mut at, mut loaded) = (0, 0);
        loop {
            let Instruction { code, jt, jf, k } = filter.program[at];
            at += 1;
            let jump = |yes: bool| usize::from(if yes { jt } else { jf });
            match code {
                LOAD => {
                    loaded = match k {
                        NUMBER => call,
                        ARCH => architecture,
                        ARGUMENTS => low,
                        k if k == ARGUMENTS + 4 => high,
                        other => panic!("offset {other}"),
                    }
                }
                JUMP => at += usize::try_from(k).unwrap(),
                IF_EQUAL => at += jump(loaded == k),
                IF_AT_LEAST => at += jump(loaded >= k),
                IF_ANY_BIT => at += jump(loaded & k != 0),
                RETURN => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn every_number_has_its_answer() {
        // Every second call, so that the tree is as large as it gets and long jumps are needed.
        let mut rules: Vec<AllowedCall> = allowed(0..450);
        rules.retain(|rule| rule.call % 2 == 0 && rule.call != 40);
        rules.push(AllowedCall { call: 41, only: Some((0, Test::Is(7))) });
        rules.push(AllowedCall { call: 41, only: Some((0, Test::Is(9))) });
        rules.push(AllowedCall { call: 43, only: Some((0, Test::HasNoneOf(0x1_0000_0004))) });
        let missing: Vec<u32> = (451..512).collect();
        let filter = Filter::compile(&rules, &missing);
        let errno = |errno: i32| libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
        let (allow, refused) = (libc::SECCOMP_RET_ALLOW, errno(libc::EPERM));
        for call in (0..600).chain([0x4000_0000, u32::MAX]) {
            let expected = match call {
                41 | 43 => continue,
                451..512 => errno(libc::ENOSYS),
                call if call < 450 && call % 2 == 0 && call != 40 => allow,
                _ => refused,
            };
            assert_eq!(answer(&filter, ARCHITECTURE, call, 0), expected, "{call}");
        }
        for (call, argument, expected) in [
            (41, 7, allow),
            (41, 9, allow),
            (41, 8, refused),
            (43, 3, allow),
            (43, 5, refused),
            (43, 0x1_0000_0000, refused),
            (43, 0x2_0000_0000, allow),
        ] {
            assert_eq!(
                answer(&filter, ARCHITECTURE, call, argument),
                expected,
                "{call} {argument}"
            );
        }
        assert_eq!(answer(&filter, 0x4000_0003, 2, 0), libc::SECCOMP_RET_KILL_PROCESS, "32-bit");
    }
}
