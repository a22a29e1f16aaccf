//! Calls that a job has no business with, made as attempts to break out make them. Only in
//! the test build.

use std::{ffi::CStr, io};

/// `perf_event_attr` of `linux/perf_event.h`, version 0: 64 bytes.
#[derive(Debug, Default)]
#[repr(C)]
struct PerfAttributes {
    kind: u32,
    size: u32,
    config: u64,
    rest: [u64; 6],
}

/// `struct file_handle` with room for the largest.
#[derive(Debug)]
#[repr(C)]
struct FileHandle {
    bytes: u32,
    kind: i32,
    handle: [u8; 128],
}

fn done(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A child in a user namespace of its own, by `clone3`.
///
/// # Errors
/// As the call.
pub fn clone3_user_namespace() -> io::Result<()> {
    let arguments: [u64; 11] = [
        libc::CLONE_NEWUSER.cast_unsigned().into(),
        0,
        0,
        0,
        libc::SIGCHLD.cast_unsigned().into(),
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    // SAFETY: the arguments live until the call returns; the child has a copy of all memory
    // and ends at once.
    let pid = done(unsafe {
        libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments))
    })?;
    if pid == 0 {
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) }
    }
    Ok(())
}

/// A counter of what the whole of processor 0 does (`perf_event_open(2)`).
///
/// # Errors
/// As the call.
pub fn watch_processor() -> io::Result<()> {
    let attributes = PerfAttributes { kind: 1, size: 64, ..PerfAttributes::default() };
    // SAFETY: the attributes live until the call returns, with the size that they tell.
    done(unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, -1, 0, -1, 0) })
        .map(drop)
}

/// A key in the keyring of the user (`add_key(2)`), which is the node's.
///
/// # Errors
/// As the call.
pub fn add_key() -> io::Result<()> {
    const USER_KEYRING: i32 = -4;
    let payload = b"x";
    // SAFETY: the strings and the payload live until the call returns, which reads them.
    let key = unsafe {
        libc::syscall(
            libc::SYS_add_key,
            c"user".as_ptr(),
            c"bedplate".as_ptr(),
            payload.as_ptr(),
            payload.len(),
            USER_KEYRING,
        )
    };
    done(key).map(drop)
}

/// Page faults of one's own (`userfaultfd(2)`, `UFFD_USER_MODE_ONLY`).
///
/// # Errors
/// As the call.
pub fn handle_page_faults() -> io::Result<()> {
    // SAFETY: the call takes a number and touches no memory.
    done(unsafe { libc::syscall(libc::SYS_userfaultfd, 1) }).map(drop)
}

/// A ring for calls beside the others (`io_uring_setup(2)`).
///
/// # Errors
/// As the call.
pub fn set_up_ring() -> io::Result<()> {
    let mut parameters = [0_u32; 30];
    // SAFETY: `struct io_uring_params` has 120 bytes; the array lives until the call returns.
    done(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) }).map(drop)
}

/// Opens a file of the file system of `near` by its handle, past every directory.
///
/// # Errors
/// As the calls.
pub fn open_by_handle(near: &CStr) -> io::Result<()> {
    let mut handle = FileHandle { bytes: 128, kind: 0, handle: [0; 128] };
    let mut mount = 0;
    // SAFETY: path, handle and number live until the call returns; the handle tells its room.
    done(unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            near.as_ptr(),
            &raw mut handle,
            &raw mut mount,
            0,
        )
    })?;
    // SAFETY: opens the path of a string that lives until the call returns.
    let directory = done(unsafe { libc::syscall(libc::SYS_open, near.as_ptr(), libc::O_RDONLY) })?;
    // SAFETY: the handle lives until the call returns, which reads it.
    done(unsafe {
        libc::syscall(libc::SYS_open_by_handle_at, directory, &raw mut handle, libc::O_RDONLY)
    })
    .map(drop)
}

/// The ports of the machine's devices (`iopl(2)`).
///
/// # Errors
/// As the call.
pub fn reach_ports() -> io::Result<()> {
    // SAFETY: the call takes a number and touches no memory.
    done(unsafe { libc::syscall(libc::SYS_iopl, 3) }).map(drop)
}

/// The kernel's messages (`syslog(2)`, `SYSLOG_ACTION_READ_ALL`).
///
/// # Errors
/// As the call.
pub fn read_kernel_log() -> io::Result<()> {
    let mut text = [0_u8; 4096];
    // SAFETY: the buffer lives until the call returns, with the size that is told.
    done(unsafe { libc::syscall(libc::SYS_syslog, 3, text.as_mut_ptr(), text.len()) }).map(drop)
}

/// Makes a System V memory segment of the given key that everybody may use, or finds it if
/// it is to exist.
///
/// # Errors
/// As `shmget(2)`.
pub fn shared_memory(key: i32, make: bool) -> io::Result<()> {
    let flags = if make { libc::IPC_CREAT | 0o666 } else { 0 };
    // SAFETY: the call takes numbers and touches no memory.
    done(unsafe { libc::shmget(key, 4096, flags) }.into()).map(drop)
}

/// A socket that sees every packet of the network.
///
/// # Errors
/// As `socket(2)`.
pub fn packet_socket() -> io::Result<()> {
    const ALL_PROTOCOLS: i32 = 0x0300;
    // SAFETY: the call takes numbers and touches no memory.
    done(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, ALL_PROTOCOLS) }.into()).map(drop)
}

/// The effective user id is root's.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: the call takes nothing and touches no memory.
    unsafe { libc::geteuid() == 0 }
}
