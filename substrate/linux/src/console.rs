//! The console of the machine and the kernel's log.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
};

use crate::{LinuxError, Result};

/// The system console: the last `console=` of the kernel command line.
pub const CONSOLE: &str = "/dev/console";

/// The kernel log; a line written to it reaches every console if its level is below the console's,
/// and the journal.
pub const KMSG: &str = "/dev/kmsg";

/// `<5>` in front of a line: facility user (1), level notice (5), as in `sd-daemon(3)`.
const NOTICE_OF_USER: u8 = (1 << 3) | 5;

/// Makes standard input, output and error the console.
///
/// # Errors
/// `/dev/console` cannot be opened.
pub fn take_over() -> Result<()> {
    let path = Path::new(CONSOLE);
    let console = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|errno| LinuxError::path("open", path, errno))?;
    nix::unistd::dup2_stdin(&console)
        .and_then(|()| nix::unistd::dup2_stdout(&console))
        .and_then(|()| nix::unistd::dup2_stderr(&console))
        .map_err(|errno| LinuxError::path("make standard input and output of", path, errno))
}

/// Opens the console for writing.
///
/// # Errors
/// It cannot be opened.
pub fn open() -> Result<File> {
    open_for_writing(CONSOLE)
}

/// Opens the kernel log for writing.
///
/// # Errors
/// It cannot be opened.
pub fn open_kmsg() -> Result<File> {
    open_for_writing(KMSG)
}

fn open_for_writing(path: &str) -> Result<File> {
    OpenOptions::new().write(true).open(path).map_err(|errno| LinuxError::new("open", path, errno))
}

/// Writes one line to the kernel log with level notice.
///
/// # Errors
/// The kernel refuses it, for example because it limits the rate
/// (`/proc/sys/kernel/printk_devkmsg`).
pub fn log(kmsg: &mut File, line: &str) -> Result<()> {
    // One write is one record.
    kmsg.write_all(format!("<{NOTICE_OF_USER}>{line}\n").as_bytes())
        .map_err(|errno| LinuxError::new("write to", KMSG, errno))
}
