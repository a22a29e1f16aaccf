//! Which system calls a job may make, and why: an allow list. `docs/reference/system-calls.md` is
//! made of it by a test.

use std::fmt::Write as _;

use linux::seccomp::{AllowedCall, Filter, Test};

/// Calls with one reason.
#[derive(Debug, Clone, Copy)]
struct Group {
    why: &'static str,
    calls: &'static [(&'static str, i64)],
}

/// A call of which some uses are allowed.
#[derive(Debug, Clone, Copy)]
struct Partly {
    call: (&'static str, i64),
    uses: &'static str,
    /// Number of the argument, from 0.
    argument: u8,
    tests: &'static [Test],
}

macro_rules! calls {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), libc::$name)),*]
    };
}

const ALLOWED: &[Group] = &[
    Group {
        why: "Files, directories and descriptors: permissions, the mount flags and the device filter decide.",
        calls: calls! {
            SYS_read, SYS_write, SYS_open, SYS_close, SYS_stat, SYS_fstat, SYS_lstat, SYS_poll, SYS_lseek,
            SYS_pread64, SYS_pwrite64, SYS_readv, SYS_writev, SYS_access, SYS_pipe, SYS_select, SYS_dup,
            SYS_dup2, SYS_sendfile, SYS_fcntl, SYS_flock, SYS_fsync, SYS_fdatasync, SYS_truncate,
            SYS_ftruncate, SYS_getdents, SYS_getcwd, SYS_chdir, SYS_fchdir, SYS_rename, SYS_mkdir, SYS_rmdir,
            SYS_creat, SYS_link, SYS_unlink, SYS_symlink, SYS_readlink, SYS_chmod, SYS_fchmod, SYS_chown,
            SYS_fchown, SYS_lchown, SYS_umask, SYS_utime, SYS_mknod, SYS_statfs, SYS_fstatfs, SYS_readahead,
            SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr, SYS_getxattr, SYS_lgetxattr, SYS_fgetxattr,
            SYS_listxattr, SYS_llistxattr, SYS_flistxattr, SYS_removexattr, SYS_lremovexattr,
            SYS_fremovexattr, SYS_getdents64, SYS_fadvise64, SYS_utimes, SYS_openat, SYS_mkdirat,
            SYS_mknodat, SYS_fchownat, SYS_futimesat, SYS_newfstatat, SYS_unlinkat, SYS_renameat, SYS_linkat,
            SYS_symlinkat, SYS_readlinkat, SYS_fchmodat, SYS_faccessat, SYS_pselect6, SYS_ppoll, SYS_splice,
            SYS_tee, SYS_sync_file_range, SYS_vmsplice, SYS_utimensat, SYS_fallocate, SYS_dup3, SYS_pipe2,
            SYS_preadv, SYS_pwritev, SYS_name_to_handle_at, SYS_syncfs, SYS_renameat2, SYS_memfd_create,
            SYS_copy_file_range, SYS_preadv2, SYS_pwritev2, SYS_statx, SYS_close_range, SYS_openat2,
            SYS_faccessat2, SYS_sync, SYS_ioctl,
        },
    },
    Group {
        why: "Memory of the process itself, NUMA placement included: the cpuset and memory controllers decide.",
        calls: calls! {
            SYS_mmap, SYS_mprotect, SYS_munmap, SYS_brk, SYS_mremap, SYS_msync, SYS_mincore, SYS_madvise,
            SYS_mlock, SYS_munlock, SYS_mlockall, SYS_munlockall, SYS_remap_file_pages, SYS_mbind,
            SYS_set_mempolicy, SYS_get_mempolicy, SYS_migrate_pages, SYS_move_pages, SYS_mlock2,
            SYS_pkey_mprotect, SYS_pkey_alloc, SYS_pkey_free, SYS_process_madvise, SYS_memfd_secret,
            SYS_process_mrelease, SYS_set_mempolicy_home_node, SYS_membarrier,
        },
    },
    Group {
        why: "Processes and threads, of the job only: the process namespace decides.",
        calls: calls! {
            SYS_fork, SYS_vfork, SYS_execve, SYS_execveat, SYS_exit, SYS_exit_group, SYS_wait4, SYS_waitid,
            SYS_kill, SYS_tkill, SYS_tgkill, SYS_getpid, SYS_getppid, SYS_gettid, SYS_getpgid, SYS_getpgrp,
            SYS_getsid, SYS_setpgid, SYS_setsid, SYS_set_tid_address, SYS_set_robust_list,
            SYS_get_robust_list, SYS_arch_prctl, SYS_prctl, SYS_rseq, SYS_pidfd_open, SYS_pidfd_send_signal,
            SYS_modify_ldt, SYS_futex, SYS_futex_waitv, SYS_capget, SYS_capset, SYS_getcpu,
        },
    },
    Group {
        why: "A debugger within the job, and MPI's copying between the ranks of a node (`process_vm_readv`): the same user in the same process namespace.",
        calls: calls! { SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp, SYS_pidfd_getfd },
    },
    Group {
        why: "Who the process is. There is nothing to gain without capabilities.",
        calls: calls! {
            SYS_getuid, SYS_getgid, SYS_geteuid, SYS_getegid, SYS_setuid, SYS_setgid, SYS_setreuid,
            SYS_setregid, SYS_getgroups, SYS_setgroups, SYS_setresuid, SYS_getresuid, SYS_setresgid,
            SYS_getresgid, SYS_setfsuid, SYS_setfsgid, SYS_uname, SYS_sysinfo, SYS_getrlimit, SYS_setrlimit,
            SYS_prlimit64, SYS_getrusage, SYS_times,
        },
    },
    Group {
        why: "Signals.",
        calls: calls! {
            SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigpending, SYS_rt_sigtimedwait,
            SYS_rt_sigqueueinfo, SYS_rt_sigsuspend, SYS_sigaltstack, SYS_rt_tgsigqueueinfo, SYS_signalfd,
            SYS_signalfd4, SYS_pause, SYS_restart_syscall, SYS_alarm,
        },
    },
    Group {
        why: "Scheduling within what the cpuset leaves; a real-time class needs a capability.",
        calls: calls! {
            SYS_sched_yield, SYS_sched_setparam, SYS_sched_getparam, SYS_sched_setscheduler,
            SYS_sched_getscheduler, SYS_sched_get_priority_max, SYS_sched_get_priority_min,
            SYS_sched_rr_get_interval, SYS_sched_setaffinity, SYS_sched_getaffinity, SYS_sched_setattr,
            SYS_sched_getattr, SYS_getpriority, SYS_setpriority, SYS_ioprio_set, SYS_ioprio_get,
        },
    },
    Group {
        why: "Clocks, read only, and timers.",
        calls: calls! {
            SYS_gettimeofday, SYS_time, SYS_nanosleep, SYS_clock_gettime, SYS_clock_getres,
            SYS_clock_nanosleep, SYS_getitimer, SYS_setitimer, SYS_timer_create, SYS_timer_settime,
            SYS_timer_gettime, SYS_timer_getoverrun, SYS_timer_delete, SYS_timerfd_create,
            SYS_timerfd_settime, SYS_timerfd_gettime, SYS_adjtimex,
        },
    },
    Group {
        why: "Waiting for events.",
        calls: calls! {
            SYS_epoll_create, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_wait, SYS_epoll_pwait,
            SYS_epoll_pwait2, SYS_epoll_ctl_old, SYS_epoll_wait_old, SYS_eventfd, SYS_eventfd2,
            SYS_inotify_init, SYS_inotify_init1, SYS_inotify_add_watch, SYS_inotify_rm_watch,
        },
    },
    Group {
        why: "Asynchronous reading and writing of files.",
        calls: calls! { SYS_io_setup, SYS_io_destroy, SYS_io_getevents, SYS_io_submit, SYS_io_cancel },
    },
    Group {
        why: "Sockets that are there; which kinds can be made is below.",
        calls: calls! {
            SYS_connect, SYS_accept, SYS_accept4, SYS_bind, SYS_listen, SYS_sendto, SYS_recvfrom,
            SYS_sendmsg, SYS_recvmsg, SYS_sendmmsg, SYS_recvmmsg, SYS_shutdown, SYS_getsockname,
            SYS_getpeername, SYS_setsockopt, SYS_getsockopt,
        },
    },
    Group {
        why: "Shared memory, semaphores and queues of the job's own namespace.",
        calls: calls! {
            SYS_shmget, SYS_shmat, SYS_shmctl, SYS_shmdt, SYS_semget, SYS_semop, SYS_semctl, SYS_semtimedop,
            SYS_msgget, SYS_msgsnd, SYS_msgrcv, SYS_msgctl, SYS_mq_open, SYS_mq_unlink, SYS_mq_timedsend,
            SYS_mq_timedreceive, SYS_mq_notify, SYS_mq_getsetattr,
        },
    },
    Group {
        why: "What a program does to have fewer rights.",
        calls: calls! { SYS_seccomp, SYS_landlock_create_ruleset, SYS_landlock_add_rule, SYS_landlock_restrict_self, SYS_getrandom },
    },
];

const REFUSED: &[Group] = &[
    Group {
        why: "Mounts and roots: `mount` and its kin, a program could show itself files that were kept from it.",
        calls: calls! {
            SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_open_tree, SYS_move_mount, SYS_fsopen,
            SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_mount_setattr,
        },
    },
    Group { why: "Namespaces of others.", calls: calls! { SYS_setns } },
    Group {
        why: "Modules, other kernels, the end of the node.",
        calls: calls! {
            SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_kexec_file_load,
            SYS_reboot,
        },
    },
    Group {
        why: "The node's clock, name, swap, quotas, accounting and log.",
        calls: calls! {
            SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime, SYS_sethostname, SYS_setdomainname,
            SYS_swapon, SYS_swapoff, SYS_quotactl, SYS_quotactl_fd, SYS_acct, SYS_syslog, SYS_vhangup,
        },
    },
    Group {
        why: "Files by their numbers, past every directory.",
        calls: calls! { SYS_open_by_handle_at },
    },
    Group {
        why: "Programs, counters and page faults in the kernel: large, and the source of many holes.",
        calls: calls! { SYS_bpf, SYS_perf_event_open, SYS_userfaultfd },
    },
    Group {
        why: "Keys: they are not kept apart by any namespace of ours.",
        calls: calls! { SYS_add_key, SYS_request_key, SYS_keyctl },
    },
    Group {
        why: "The node's devices and ports without a file.",
        calls: calls! { SYS_iopl, SYS_ioperm, SYS_lookup_dcookie, SYS_fanotify_init, SYS_fanotify_mark },
    },
    Group {
        why: "Calls that the kernel has not, or no program uses.",
        calls: calls! {
            SYS_uselib, SYS_ustat, SYS_sysfs, SYS__sysctl, SYS_nfsservctl, SYS_getpmsg, SYS_putpmsg,
            SYS_afs_syscall, SYS_tuxcall, SYS_security, SYS_vserver, SYS_set_thread_area,
            SYS_get_thread_area,
        },
    },
];

/// Flags of `clone` and `unshare` that make namespaces (`linux/sched.h`).
const NEW_NAMESPACES: u64 = 0x0002_0000
    | 0x0200_0000
    | 0x0400_0000
    | 0x0800_0000
    | 0x1000_0000
    | 0x2000_0000
    | 0x4000_0000
    | 0x0000_0080;

const PARTLY: &[Partly] = &[
    Partly {
        call: ("SYS_clone", libc::SYS_clone),
        uses: "processes and threads, no namespaces: as root of a user namespace a program reaches much more of the kernel",
        argument: 0,
        // Its lowest byte is the signal at the end, where CLONE_NEWTIME would be.
        tests: &[Test::HasNoneOf(NEW_NAMESPACES & !0xff)],
    },
    Partly {
        call: ("SYS_unshare", libc::SYS_unshare),
        uses: "all but namespaces",
        argument: 0,
        tests: &[Test::HasNoneOf(NEW_NAMESPACES)],
    },
    Partly {
        call: ("SYS_personality", libc::SYS_personality),
        uses: "asking; Linux; the release name of 2.6; no random addresses, for debuggers",
        argument: 0,
        tests: &[Test::Is(0), Test::Is(0x0002_0000), Test::Is(0x0004_0000), Test::Is(u32::MAX)],
    },
    Partly {
        call: ("SYS_socket", libc::SYS_socket),
        uses: "UNIX, IPv4, IPv6, netlink: other families are little used and full of holes",
        argument: 0,
        tests: &[Test::Is(1), Test::Is(2), Test::Is(10), Test::Is(16)],
    },
    Partly {
        call: ("SYS_socketpair", libc::SYS_socketpair),
        uses: "UNIX",
        argument: 0,
        tests: &[Test::Is(1)],
    },
];

/// Answered as an older kernel would (`ENOSYS`), because programs have another way then.
const MISSING: &[Group] = &[
    Group {
        why: "Its flags lie in memory, where a filter cannot read: the C library takes `clone`.",
        calls: calls! { SYS_clone3 },
    },
    Group {
        why: "Works beside every other system call, and the source of many holes.",
        calls: calls! { SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register },
    },
];

/// `io_pgetevents` of `asm/unistd_64.h`, which the libc crate has not.
const IO_PGETEVENTS: i64 = 333;

/// Numbers given since this list was made, up to where those of the x32 ABI begin: unknown calls
/// are missing calls.
const NEWER: std::ops::Range<i64> = 451..512;

/// The filter of every job.
#[must_use]
pub fn filter() -> Filter {
    // Numbers of calls are small.
    let number = |call: i64| u32::try_from(call).unwrap_or(u32::MAX);
    let whole =
        ALLOWED.iter().flat_map(|group| group.calls).map(|(_, call)| *call).chain([IO_PGETEVENTS]);
    let whole = whole.map(|call| AllowedCall { call: number(call), only: None });
    let partly = PARTLY.iter().flat_map(|partly| {
        let only = |test: &Test| AllowedCall {
            call: number(partly.call.1),
            only: Some((partly.argument, *test)),
        };
        partly.tests.iter().map(only)
    });
    let allowed: Vec<AllowedCall> = whole.chain(partly).collect();
    let missing = MISSING.iter().flat_map(|group| group.calls).map(|(_, call)| *call);
    let missing: Vec<u32> = missing.chain(NEWER).map(number).collect();
    Filter::compile(&allowed, &missing)
}

/// Names of the calls that are allowed whatever their arguments, for benchmarks that give other
/// runtimes the same list.
pub fn allowed_names() -> impl Iterator<Item = &'static str> {
    ALLOWED.iter().flat_map(|group| group.calls).map(|(name, _)| name.trim_start_matches("SYS_"))
}

/// The page `docs/reference/system-calls.md`.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# System calls of a job\n\nMade of `substrate/src/container/system_calls.rs` by its test; `UPDATE_EXPECT=1` \
         writes it.\n\nEvery job runs under this filter. A call that is not listed fails with `EPERM`. A program for \
         another architecture, 32-bit x86 included, is ended with `SIGSYS`.\n",
    );
    let names = |calls: &[(&str, i64)]| {
        let names = calls.iter().map(|(name, _)| format!("`{}`", name.trim_start_matches("SYS_")));
        names.collect::<Vec<_>>().join(" ")
    };
    for (title, groups) in [
        ("Allowed", ALLOWED),
        ("Refused (`EPERM`)", REFUSED),
        ("Missing (`ENOSYS`): programs fall back to another call", MISSING),
    ] {
        let _ = write!(page, "\n## {title}\n\n| calls | why |\n|---|---|\n");
        for group in groups {
            let _ = writeln!(page, "| {} | {} |", names(group.calls), group.why);
        }
        if title == "Allowed" {
            page.push_str("| `io_pgetevents` | Asynchronous reading and writing of files. |\n");
            for partly in PARTLY {
                let _ = writeln!(page, "| {} | Only: {}. |", names(&[partly.call]), partly.uses);
            }
        }
    }
    let _ = write!(
        page,
        "\nNumbers from {} to {}, given to calls newer than this list, are missing too.\n",
        NEWER.start,
        NEWER.end - 1
    );
    page
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use super::*;

    #[test]
    fn the_page_of_system_calls_is_true() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/system-calls.md");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, page()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), page(), "UPDATE_EXPECT=1 writes it");
    }

    #[test]
    fn every_call_of_the_kernel_has_one_place() {
        let mut places: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
        let partly = PARTLY.iter().map(|partly| partly.call);
        let groups = [ALLOWED, REFUSED, MISSING]
            .into_iter()
            .flatten()
            .flat_map(|group| group.calls)
            .copied();
        for (name, call) in groups.chain(partly).chain([("SYS_io_pgetevents", IO_PGETEVENTS)]) {
            places.entry(call).or_default().push(name);
        }
        let twice: Vec<_> = places.values().filter(|names| names.len() > 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
        // 174, 177 and 178 are of Linux 2.4; from 335 on numbers are shared with other
        // architectures, which begin at 424.
        let without: Vec<i64> =
            (0..335).chain(424..451).filter(|call| !places.contains_key(call)).collect();
        assert_eq!(without, [174, 177, 178]);
    }
}
