//! System calls as they are: the C library's functions of these names are ours here, and would come
//! back to us. So would the standard library's files.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};

use libc::{iovec, mode_t, off_t, size_t, ssize_t};

/// The result of a call that gives an `int`.
fn int(result: c_long) -> c_int {
    c_int::try_from(result).unwrap_or(-1)
}

/// The result of a call that gives a number of bytes.
fn bytes(result: c_long) -> ssize_t {
    ssize_t::try_from(result).unwrap_or(-1)
}

/// # Safety
/// As of `write(2)`.
pub(crate) unsafe fn write(fd: c_int, data: *const c_void, count: size_t) -> ssize_t {
    // SAFETY: the caller's promise.
    bytes(unsafe { libc::syscall(libc::SYS_write, fd, data, count) })
}

/// # Safety
/// As of `writev(2)`.
pub(crate) unsafe fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the caller's promise.
    bytes(unsafe { libc::syscall(libc::SYS_writev, fd, parts, count) })
}

/// # Safety
/// As of `pwrite(2)`.
pub(crate) unsafe fn pwrite(
    fd: c_int,
    data: *const c_void,
    count: size_t,
    offset: off_t,
) -> ssize_t {
    // SAFETY: the caller's promise.
    bytes(unsafe { libc::syscall(libc::SYS_pwrite64, fd, data, count, offset) })
}

/// # Safety
/// As of `pwritev(2)`.
pub(crate) unsafe fn pwritev(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off_t,
) -> ssize_t {
    // The upper half of the offset is for machines of 32 bits.
    let upper: c_long = 0;
    // SAFETY: the caller's promise.
    bytes(unsafe { libc::syscall(libc::SYS_pwritev, fd, parts, count, offset, upper) })
}

/// # Safety
/// As of `openat(2)`.
pub(crate) unsafe fn openat(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // SAFETY: the caller's promise.
    int(unsafe { libc::syscall(libc::SYS_openat, directory, path, flags, mode) })
}

/// # Safety
/// As of `renameat(2)`.
pub(crate) unsafe fn renameat(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
) -> c_int {
    let flags: c_int = 0;
    // SAFETY: the caller's promise.
    int(unsafe {
        libc::syscall(libc::SYS_renameat2, from_directory, from, to_directory, to, flags)
    })
}

/// # Safety
/// As of `unlinkat(2)`.
pub(crate) unsafe fn unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller's promise.
    int(unsafe { libc::syscall(libc::SYS_unlinkat, directory, path, flags) })
}

/// Bytes of all parts together.
///
/// # Safety
/// As of `writev(2)`.
pub(crate) unsafe fn length(parts: *const iovec, count: c_int) -> usize {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the caller's promise: there are so many, one after the other.
    (0..count).map(|at| unsafe { (*parts.add(at)).iov_len }).fold(0, usize::saturating_add)
}

pub(crate) fn ftruncate(fd: c_int, length: off_t) -> c_int {
    // SAFETY: no memory is involved.
    int(unsafe { libc::syscall(libc::SYS_ftruncate, fd, length) })
}

pub(crate) fn fsync(fd: c_int) -> c_int {
    // SAFETY: no memory is involved.
    int(unsafe { libc::syscall(libc::SYS_fsync, fd) })
}

pub(crate) fn fdatasync(fd: c_int) -> c_int {
    // SAFETY: no memory is involved.
    int(unsafe { libc::syscall(libc::SYS_fdatasync, fd) })
}

/// Where the next `write(2)` goes.
pub(crate) fn position(fd: c_int) -> Option<u64> {
    let (offset, whence): (off_t, c_int) = (0, libc::SEEK_CUR);
    // SAFETY: no memory is involved.
    u64::try_from(unsafe { libc::syscall(libc::SYS_lseek, fd, offset, whence) }).ok()
}

/// Whether each write goes to the end.
pub(crate) fn appends(fd: c_int) -> bool {
    status_flags(fd).is_some_and(|flags| flags & libc::O_APPEND != 0)
}

/// Whether nothing can be read from it.
pub(crate) fn only_writes(fd: c_int) -> bool {
    status_flags(fd).is_some_and(|flags| flags & libc::O_ACCMODE == libc::O_WRONLY)
}

fn status_flags(fd: c_int) -> Option<c_int> {
    // SAFETY: no memory is involved.
    let flags = int(unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFL) });
    (flags >= 0).then_some(flags)
}

/// What is there; what lies behind the end of the file stays as it is in `buffer`.
pub(crate) fn read_at(fd: c_int, buffer: &mut [u8], offset: u64) {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(filled as u64);
        // SAFETY: the buffer is as long as is said.
        let read =
            unsafe { libc::syscall(libc::SYS_pread64, fd, rest.as_mut_ptr(), rest.len(), at) };
        match usize::try_from(read) {
            Ok(read) if read > 0 => filled += read,
            _ => return,
        }
    }
}

/// Another descriptor of the same file, to read; `-1` without.
pub(crate) fn open_again_to_read(fd: c_int) -> c_int {
    let path = format!("/proc/self/fd/{fd}\0");
    // SAFETY: the path is a string of C.
    unsafe {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        openat(libc::AT_FDCWD, path.as_ptr().cast(), flags, 0)
    }
}

pub(crate) fn close(fd: c_int) {
    // SAFETY: no memory is involved; nobody else has this descriptor.
    unsafe { libc::syscall(libc::SYS_close, fd) };
}

/// Facts of a descriptor, or, with a path, of what has that name.
pub(crate) fn facts(fd: c_int, path: &CStr) -> Option<libc::statx> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW;
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    let mut facts = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is a string of C, and there is room for the facts.
    let result = unsafe {
        libc::syscall(libc::SYS_statx, fd, path.as_ptr(), flags, mask, facts.as_mut_ptr())
    };
    // SAFETY: the kernel has filled it; zeroes are facts too.
    (result == 0).then(|| unsafe { facts.assume_init() })
}

/// Where a link leads to.
pub(crate) fn link_target(path: &CStr) -> Option<Vec<u8>> {
    let mut buffer = vec![0_u8; 4096];
    // SAFETY: the path is a string of C, and the buffer is as long as is said.
    let length = unsafe {
        let room = buffer.len();
        libc::syscall(
            libc::SYS_readlinkat,
            libc::AT_FDCWD,
            path.as_ptr(),
            buffer.as_mut_ptr(),
            room,
        )
    };
    buffer.truncate(usize::try_from(length).ok()?);
    Some(buffer)
}

/// A further name of a file. Whether it has it now.
pub(crate) fn link(from: &CStr, to: &CStr) -> bool {
    let (here, flags): (c_int, c_int) = (libc::AT_FDCWD, 0);
    // SAFETY: both paths are strings of C.
    let result =
        unsafe { libc::syscall(libc::SYS_linkat, here, from.as_ptr(), here, to.as_ptr(), flags) };
    result == 0
}
