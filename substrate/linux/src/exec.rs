//! Becoming another program without a fork: stage 1 becomes the image's own init.

use std::{convert::Infallible, ffi::CString, os::unix::ffi::OsStrExt, path::Path};

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal};

use crate::{LinuxError, Result};

/// Replaces this process by `program` with `arguments` (without `argv[0]`, which is `program`). The
/// environment is kept; the signal mask is emptied and `SIGPIPE`, which Rust's runtime ignores, is
/// back at its default.
///
/// # Errors
/// Returns only on failure.
pub fn replace_process(program: &Path, arguments: &[CString]) -> Result<Infallible> {
    let fail = |errno: nix::Error| LinuxError::path("execute", program, errno);
    let path =
        CString::new(program.as_os_str().as_bytes()).map_err(|_| fail(nix::Error::EINVAL))?;
    let mut argv = vec![path.clone()];
    argv.extend_from_slice(arguments);
    // SAFETY: SIG_DFL is no handler of ours, so no code runs in signal context
    // because of this call.
    unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) }.map_err(fail)?;
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .map_err(fail)?;
    nix::unistd::execv(&path, &argv).map_err(fail)
}
