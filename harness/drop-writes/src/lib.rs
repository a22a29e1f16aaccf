//! Stands before the C library of a program (`LD_PRELOAD`) and writes down what each of its
//! writes is about to replace, so that after a `SIGKILL` all that was not synced can be taken
//! back, as a power cut would: [`harness::write_journal`] has the form of the journal, the model,
//! and the roll-back.
//!
//! Watched are regular files below the directories of [`ROOTS_VARIABLE`] but those of shared memory
//! (`-shm`), which SQLite makes again. Calls for anything else pass through. A sync of a watched
//! file is a record of the journal and nothing else: its disk is pretended.
//!
//! | function | before it is done |
//! |---|---|
//! | `write`, `writev`, `pwrite`, `pwritev` and their twins | the sectors that it goes over, and the size |
//! | `ftruncate`, `open` with `O_TRUNC` | what is cut off, and the size |
//! | `fsync`, `fdatasync` | all before is on the disk; of a directory: its names |
//! | `rename`, `renameat`, `unlink`, `unlinkat` | the file that loses its name gets another one |
//!
//! Not seen is what goes past the C library (system calls of `rustix`: the logs of runs), what the
//! kernel copies by itself (`copy_file_range`), and memory that is mapped to be written.
//!
//! [`ROOTS_VARIABLE`]: harness::write_journal::ROOTS_VARIABLE

#![allow(unsafe_code)]

mod journal;
mod raw;

use std::ffi::{CStr, c_char, c_int, c_void};

use libc::{iovec, mode_t, off_t, size_t, ssize_t};

/// `write(2)`.
///
/// # Safety
/// As of `write(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
    let _order = journal::before_write(fd, None, count);
    // SAFETY: the caller's promise.
    unsafe { raw::write(fd, bytes, count) }
}

/// `writev(2)`.
///
/// # Safety
/// As of `writev(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the caller's promise.
    let bytes = unsafe { raw::length(parts, count) };
    let _order = journal::before_write(fd, None, bytes);
    // SAFETY: the caller's promise.
    unsafe { raw::writev(fd, parts, count) }
}

/// `pwrite(2)`.
///
/// # Safety
/// As of `pwrite(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(
    fd: c_int,
    bytes: *const c_void,
    count: size_t,
    offset: off_t,
) -> ssize_t {
    let _order = journal::before_write(fd, Some(offset), count);
    // SAFETY: the caller's promise.
    unsafe { raw::pwrite(fd, bytes, count, offset) }
}

/// `pwrite64`, which is `pwrite(2)` where `off_t` has 64 bits.
///
/// # Safety
/// As of `pwrite(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    fd: c_int,
    bytes: *const c_void,
    count: size_t,
    offset: off_t,
) -> ssize_t {
    // SAFETY: the caller's promise.
    unsafe { pwrite(fd, bytes, count, offset) }
}

/// `pwritev(2)`.
///
/// # Safety
/// As of `pwritev(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off_t,
) -> ssize_t {
    // SAFETY: the caller's promise.
    let bytes = unsafe { raw::length(parts, count) };
    let _order = journal::before_write(fd, Some(offset), bytes);
    // SAFETY: the caller's promise.
    unsafe { raw::pwritev(fd, parts, count, offset) }
}

/// `pwritev64`, which is `pwritev(2)` where `off_t` has 64 bits.
///
/// # Safety
/// As of `pwritev(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev64(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off_t,
) -> ssize_t {
    // SAFETY: the caller's promise.
    unsafe { pwritev(fd, parts, count, offset) }
}

/// `ftruncate(2)`.
#[unsafe(no_mangle)]
pub extern "C" fn ftruncate(fd: c_int, length: off_t) -> c_int {
    let _order = journal::before_truncation(fd, length);
    raw::ftruncate(fd, length)
}

/// `ftruncate64`, which is `ftruncate(2)` where `off_t` has 64 bits.
#[unsafe(no_mangle)]
pub extern "C" fn ftruncate64(fd: c_int, length: off_t) -> c_int {
    ftruncate(fd, length)
}

/// `fsync(2)`.
#[unsafe(no_mangle)]
pub extern "C" fn fsync(fd: c_int) -> c_int {
    if journal::sync(fd) { 0 } else { raw::fsync(fd) }
}

/// `fdatasync(2)`.
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(fd: c_int) -> c_int {
    if journal::sync(fd) { 0 } else { raw::fdatasync(fd) }
}

/// `open(2)`. In C it takes any number of arguments; on the architectures that we build for, the
/// third lies where that of any other function does, and the kernel looks at it only
/// to make a file.
///
/// # Safety
/// As of `open(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { openat(libc::AT_FDCWD, path, flags, mode) }
}

/// `open64`, which is `open(2)`.
///
/// # Safety
/// As of `open(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { openat(libc::AT_FDCWD, path, flags, mode) }
}

/// `openat(2)`: see [`open`].
///
/// # Safety
/// As of `openat(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // SAFETY: the caller's promise.
    let truncates = flags & libc::O_TRUNC != 0 && unsafe { watched(directory, path) }.is_some();
    let flags = if truncates { flags & !libc::O_TRUNC } else { flags };
    // SAFETY: the caller's promise.
    let fd = unsafe { raw::openat(directory, path, flags, mode) };
    if truncates && fd >= 0 {
        // As of a file that was opened with O_TRUNC: what cannot be cut stays as it is.
        ftruncate(fd, 0);
    }
    fd
}

/// `openat64`, which is `openat(2)`.
///
/// # Safety
/// As of `openat(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { openat(directory, path, flags, mode) }
}

/// `rename(2)`.
///
/// # Safety
/// As of `rename(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { renameat(libc::AT_FDCWD, from, libc::AT_FDCWD, to) }
}

/// `renameat(2)`.
///
/// # Safety
/// As of `renameat(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
) -> c_int {
    // SAFETY: the caller's promise.
    let paths = unsafe { (watched(from_directory, from), watched(to_directory, to)) };
    let _order = match paths {
        (Some(from), Some(to)) => journal::before_rename(&from, &to),
        _ => None,
    };
    // SAFETY: the caller's promise.
    unsafe { raw::renameat(from_directory, from, to_directory, to) }
}

/// `unlink(2)`.
///
/// # Safety
/// As of `unlink(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { unlinkat(libc::AT_FDCWD, path, 0) }
}

/// `unlinkat(2)`.
///
/// # Safety
/// As of `unlinkat(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller's promise.
    let watched = unsafe { watched(directory, path) }.filter(|_| flags == 0);
    let _order = watched.and_then(|path| journal::before_removal(&path));
    // SAFETY: the caller's promise.
    unsafe { raw::unlinkat(directory, path, flags) }
}

/// The whole path, if it is one that is watched.
///
/// # Safety
/// `path` is a string of C, or null.
unsafe fn watched(directory: c_int, path: *const c_char) -> Option<Vec<u8>> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let path = unsafe { CStr::from_ptr(path) };
    journal::watched(directory, path.to_bytes())
}
