//! Loading kernel modules.

use std::{ffi::CString, fs::File, path::Path};

use nix::{errno::Errno, kmod::ModuleInitFlags};

use crate::{LinuxError, Result};

/// `MODULE_INIT_COMPRESSED_FILE` of `linux/module.h`: the kernel unpacks the file itself (5.17, if
/// so configured).
const COMPRESSED_FILE: i32 = 4;

/// Loads the module in `file` with `parameters` ("a=1 b=2"). A module that is loaded
/// already is success.
///
/// # Errors
/// `ENOENT` where the file is missing, else what `finit_module(2)` says: `ENODEV` for a driver
/// without its hardware, `ENOEXEC` for another kernel's module.
pub fn load(file: &Path, parameters: &str) -> Result<()> {
    let fail = |errno: std::io::Error| LinuxError::path("load the module", file, errno);
    let opened = File::open(file).map_err(fail)?;
    let parameters = CString::new(parameters).map_err(|_| fail(Errno::EINVAL.into()))?;
    let plain = file.extension().is_some_and(|extension| extension == "ko");
    let flags = if plain { 0 } else { COMPRESSED_FILE };
    match nix::kmod::finit_module(
        &opened,
        &parameters,
        ModuleInitFlags::from_bits_retain(flags.cast_unsigned()),
    ) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(fail(errno.into())),
    }
}

/// The release of the running kernel: `6.1.0-40-amd64`.
///
/// # Errors
/// `uname(2)` does not fail on Linux.
pub fn kernel_release() -> Result<String> {
    let names = nix::sys::utsname::uname()
        .map_err(|errno| LinuxError::new("ask for", "the kernel's release", errno))?;
    Ok(names.release().to_string_lossy().into_owned())
}
