//! The jail of the converter, in two steps: what `tar2sqfs` needs, and then next to nothing.
//!
//! | | with `tar2sqfs` | the converter, before it reads the first byte of a layer |
//! |---|---|---|
//! | capabilities | none, `no_new_privs` | the same |
//! | resources | memory, processor time, sizes of files, descriptors, no core | the same |
//! | Landlock | reads and executes what distributions install, writes the one output file | no file, no TCP, no signal |
//! | system calls | files, threads, `execve` | memory, threads, open descriptors |
//!
//! All of it works without `CAP_SETUID`, namespaces and files of its own, as the
//! shipped unit demands.

use std::{
    env, fs,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    process,
};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, PathBeneath, Ruleset, RulesetAttr as _, RulesetCreated,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use linux::{
    LinuxError,
    process::{drop_bounding_set, forbid_new_privileges, give_up_capabilities, limit_resource},
    seccomp::{AllowedCall, Filter, Test},
};
use rustix::process::{Resource, Signal};

/// Most private memory of the converter, bytes of address space, touched or not: what an image
/// may make it hold ([`crate::budget::MAX_HELD_BYTES`], 256 MiB); beside it eight layers that are
/// read at once, each with the largest window of zstd (32 MiB), chunks ahead (4 MiB) and a stack
/// (2 MiB); and allocators' waste. What stage 1 takes, two workers of zstd, comes after the
/// layers and is less.
pub(super) const MAX_MEMORY_BYTES: u64 = 640 << 20;

/// Most private memory of `tar2sqfs`: 80 MB with eight threads for 60,000 files, and 350
/// bytes for each more.
const MAX_TAR2SQFS_BYTES: u64 = 320 << 20;

/// Stack of its threads, which counts as its memory.
const MAX_STACK_BYTES: u64 = 4 << 20;

/// Most time of processors, seconds: a hundred times what an image of 10 GB takes.
pub(super) const MAX_CPU_SECONDS: u64 = 3600;

/// Descriptors: all layers of the largest image and some more.
const MAX_DESCRIPTORS: u64 = crate::layer::MAX_LAYERS as u64 + 64;

/// The newest part of Landlock that is asked for. An older kernel enforces what it knows.
const LANDLOCK: ABI = ABI::V6;

/// Where distributions install programs and libraries, and the index of the latter.
const INSTALLED: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ld.so.cache"];

/// Why the jail cannot be entered.
#[derive(Debug, thiserror::Error)]
pub(super) enum JailError {
    #[error(transparent)]
    Linux(#[from] LinuxError),
    #[error("cannot put Landlock's rules on the converter")]
    Landlock(#[from] RulesetError),
}

/// Ends this process with its parent, and makes it the first one that the kernel ends when memory
/// runs out. A parent that is gone already shows in the socket, which is at its end.
pub(super) fn belong_to_parent() -> Result<(), JailError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| LinuxError::new("end with", "the server", errno))?;
    let path = "/proc/self/oom_score_adj";
    Ok(fs::write(path, "1000").map_err(|errno| LinuxError::new("write", path, errno))?)
}

/// The first step: `output` is the one file that may be written, `output_bytes` at most. Returns
/// what this kernel lacks, in words.
pub(super) fn enter(output: Option<&OwnedFd>, output_bytes: u64) -> Result<Vec<String>, JailError> {
    for (resource, soft, hard) in [
        (Resource::Core, 0, 0),
        (Resource::Stack, MAX_STACK_BYTES, MAX_STACK_BYTES),
        (Resource::Fsize, output_bytes, output_bytes),
        (Resource::Nofile, MAX_DESCRIPTORS, MAX_DESCRIPTORS),
        // tar2sqfs inherits it; the second step lifts it for the converter.
        (Resource::Data, MAX_TAR2SQFS_BYTES, MAX_MEMORY_BYTES),
        // At the soft limit the signal says what it was; the hard one is a mere SIGKILL.
        (Resource::Cpu, MAX_CPU_SECONDS, MAX_CPU_SECONDS + 10),
    ] {
        limit(resource, soft, hard)?;
    }
    // Without CAP_SETPCAP the set stays as it is: nothing can be had from it, see below.
    match drop_bounding_set() {
        Err(error) if error.raw() != Some(rustix::io::Errno::PERM.raw_os_error()) => {
            return Err(error.into());
        }
        _ => {}
    }
    give_up_capabilities()?;
    forbid_new_privileges()?;
    let missing = restrict_files(output)?;
    first_filters()?;
    Ok(missing)
}

/// Tests of one call are alternatives, so each test of `socketpair` has a filter of its own: a call
/// has to pass both.
fn first_filters() -> Result<(), LinuxError> {
    PAIR.into_iter().try_for_each(|test| filter(WITH_TAR2SQFS, Some(test)).install())
}

/// The second step: no file, no program, no further process.
pub(super) fn shut() -> Result<(), JailError> {
    limit(Resource::Data, MAX_MEMORY_BYTES, MAX_MEMORY_BYTES)?;
    ruleset()?.restrict_self()?;
    Ok(filter(&[], None).install()?)
}

/// Sets a limit, or the server's own where that is lower: none can be raised.
fn limit(resource: Resource, soft: u64, hard: u64) -> Result<(), LinuxError> {
    let most = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    limit_resource(resource, Some(soft.min(most)), Some(hard.min(most)))
}

/// Rules that forbid everything that Landlock can forbid.
fn ruleset() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()
}

fn restrict_files(output: Option<&OwnedFd>) -> Result<Vec<String>, JailError> {
    let write = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
    let mut rules = ruleset()?
        .add_rules(path_beneath_rules(INSTALLED, AccessFs::from_read(LANDLOCK)))?
        .add_rules(path_beneath_rules(programs(), AccessFs::from_read(LANDLOCK)))?
        .add_rules(path_beneath_rules(["/dev/null"], AccessFs::ReadFile | AccessFs::WriteFile))?;
    if let Some(output) = output {
        rules = rules.add_rule(PathBeneath::new(output.as_fd(), write))?;
    }
    let status = rules.restrict_self()?.ruleset;
    Ok(match status {
        RulesetStatus::FullyEnforced => Vec::new(),
        RulesetStatus::PartiallyEnforced => {
            vec![
                "a part of Landlock (it knows no TCP before 6.7, no signals before 6.12)"
                    .to_owned(),
            ]
        }
        RulesetStatus::NotEnforced => vec!["Landlock".to_owned()],
    })
}

/// Directories that programs are looked for in.
fn programs() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_named = |path: &PathBuf| path.is_absolute() && path.parent().is_some();
    env::split_paths(&path).filter(is_named).collect()
}

/// Numbers of calls by their names.
macro_rules! calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// What threads, memory and open descriptors need.
const ALWAYS: &[libc::c_long] = calls! {
    SYS_read SYS_readv SYS_pread64 SYS_write SYS_writev SYS_close SYS_lseek SYS_fstat
    SYS_munmap SYS_mremap SYS_madvise SYS_brk
    SYS_futex SYS_set_robust_list SYS_rseq SYS_sched_yield SYS_sched_getaffinity SYS_membarrier
    SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_sigaltstack
    SYS_exit SYS_exit_group SYS_wait4 SYS_waitid
    SYS_getpid SYS_getppid SYS_gettid SYS_getrandom SYS_poll SYS_ppoll
    SYS_clock_gettime SYS_clock_nanosleep SYS_nanosleep SYS_restart_syscall SYS_gettimeofday SYS_time
};

/// What starts `tar2sqfs`, and what it needs itself.
const WITH_TAR2SQFS: &[libc::c_long] = calls! {
    SYS_execve SYS_vfork SYS_fork SYS_arch_prctl SYS_set_tid_address SYS_pipe2 SYS_dup SYS_dup2 SYS_dup3
    SYS_open SYS_openat SYS_stat SYS_lstat SYS_newfstatat SYS_statx SYS_access SYS_faccessat SYS_faccessat2
    SYS_readlink SYS_readlinkat SYS_getcwd SYS_getdents64 SYS_pwrite64 SYS_ftruncate SYS_fallocate SYS_fsync
    SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_uname SYS_umask SYS_sysinfo
    SYS_fadvise64 SYS_copy_file_range
};

/// Commands of `fcntl` (`fcntl.h`): flags of descriptors, copies, sizes of pipes. Others have
/// signals sent to any process of the same user.
const DESCRIPTORS: [u32; 6] = [1, 2, 3, 1030, 1031, 1032];

/// Bits of protection and of `clone` (`mman.h`, `sched.h`).
const PROT_EXEC: u64 = 4;
const NAMESPACES: u64 = 0x7e02_0000;

/// Flags with which glibc and musl start threads.
const THREADS: [u32; 2] = [0x003d_0f00, 0x007d_0f00];

/// The one pair of sockets that may be made, by its arguments: `AF_UNIX`, and
/// `SOCK_SEQPACKET | SOCK_CLOEXEC`, by which the standard library hears of an `execve` that failed.
/// It sends to its other end alone, whatever address it is given. A datagram socket would send, and
/// pass descriptors, to any that has a name, such as the journal's.
const PAIR: [(u8, Test); 2] = [(0, Test::Is(1)), (1, Test::Is(0x8_0005))];

/// The filter; with `pair`, memory may hold code, processes may be started, and `socketpair` may be
/// called if it passes this test.
fn filter(more: &[libc::c_long], pair: Option<(u8, Test)>) -> Filter {
    let programs = pair.is_some();
    let number = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    let only = |call: libc::c_long, argument: u8, test: Test| AllowedCall {
        call: number(call),
        only: Some((argument, test)),
    };
    let mut allowed: Vec<AllowedCall> = ALWAYS
        .iter()
        .chain(more)
        .map(|call| AllowedCall { call: number(*call), only: None })
        .collect();
    let no_code = Test::HasNoneOf(if programs { 0 } else { PROT_EXEC });
    allowed.extend([
        only(libc::SYS_mmap, 2, no_code),
        only(libc::SYS_mprotect, 2, no_code),
        // Its own limits may be set in the first step, no higher than they may be; then
        // only be asked for.
        if programs {
            only(libc::SYS_prlimit64, 0, Test::Is(0))
        } else {
            only(libc::SYS_prlimit64, 2, Test::HasNoneOf(u64::MAX))
        },
        only(libc::SYS_prctl, 0, Test::Is(15)), // PR_SET_NAME
        only(libc::SYS_prctl, 0, Test::Is(0x5356_4d41)), // PR_SET_VMA
        // Only to itself: without capabilities it is still of the server's user.
        only(libc::SYS_tgkill, 0, Test::Is(process::id())),
        // To its first thread: musl's raise.
        only(libc::SYS_tkill, 0, Test::Is(process::id())),
    ]);
    allowed.extend(DESCRIPTORS.map(|command| only(libc::SYS_fcntl, 1, Test::Is(command))));
    if let Some((argument, test)) = pair {
        allowed.push(only(libc::SYS_ioctl, 1, Test::Is(0x5401))); // TCGETS
        allowed.push(only(libc::SYS_socketpair, argument, test));
        let by_the_pair = [libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_recvfrom];
        allowed.extend(by_the_pair.map(|call| AllowedCall { call: number(call), only: None }));
        allowed.push(only(libc::SYS_clone, 0, Test::HasNoneOf(NAMESPACES)));
        // For the second step.
        let second = [
            libc::SYS_seccomp,
            libc::SYS_landlock_create_ruleset,
            libc::SYS_landlock_restrict_self,
        ];
        allowed.extend(second.map(|call| AllowedCall { call: number(call), only: None }));
        allowed.push(only(libc::SYS_prctl, 0, Test::Is(38))); // PR_SET_NO_NEW_PRIVS
    } else {
        allowed.extend(THREADS.map(|flags| only(libc::SYS_clone, 0, Test::Is(flags))));
    }
    // Its flags lie in memory, where no filter sees them: libraries then call clone.
    Filter::compile(&allowed, &[number(libc::SYS_clone3)])
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::net::{UnixDatagram, UnixStream},
        thread,
    };

    use rustix::{
        io::Errno,
        net::{AddressFamily, SocketFlags, SocketType, socketpair},
    };

    use super::*;

    /// In a thread of its own: the filters stay.
    #[test]
    fn a_program_has_a_pair_of_sockets_that_reaches_nobody_else() {
        let pair = |family, flags| socketpair(family, SocketType::SEQPACKET, flags, None).map(drop);
        let tried = thread::spawn(move || {
            forbid_new_privileges().unwrap();
            first_filters().unwrap();
            let tipc = AddressFamily::from_raw(30);
            let of_std = [UnixDatagram::pair().map(drop), UnixStream::pair().map(drop)];
            (
                pair(AddressFamily::UNIX, SocketFlags::CLOEXEC),
                pair(AddressFamily::UNIX, SocketFlags::empty()),
                pair(tipc, SocketFlags::CLOEXEC),
                of_std.map(|made| made.map_err(|error| error.raw_os_error())),
            )
        });
        let (of_programs, bare, tipc, of_std) = tried.join().unwrap();
        assert_eq!((of_programs, bare, tipc), (Ok(()), Err(Errno::PERM), Err(Errno::PERM)));
        assert_eq!(
            of_std,
            [Err(Some(libc::EPERM)), Err(Some(libc::EPERM))],
            "datagrams, and streams"
        );
    }
}
