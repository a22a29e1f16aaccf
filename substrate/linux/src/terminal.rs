//! Pseudo-terminals (`pty(7)`, `ioctl_tty(2)`), made and used without a path on the
//! terminal's side.

use std::{
    fs::OpenOptions,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
};

use rustix::termios::Winsize;

use crate::{LinuxError, Result};

/// Opens a new pair at `ptmx`; both ends are closed at the next `exec`. The terminal
/// belongs to who calls.
///
/// # Errors
/// `ENOENT` without a `devpts` there, `ENOSPC` past its limit of terminals.
pub fn open(ptmx: &Path) -> Result<(OwnedFd, OwnedFd)> {
    let fail = |errno: std::io::Error| LinuxError::path("open a terminal at", ptmx, errno);
    let master = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(ptmx);
    let master = OwnedFd::from(master.map_err(fail)?);
    rustix::pty::unlockpt(&master).map_err(|errno| fail(errno.into()))?;
    // SAFETY: this request takes flags, touches no memory and gives a new descriptor.
    let slave = unsafe {
        libc::ioctl(
            master.as_raw_fd(),
            libc::TIOCGPTPEER,
            libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC,
        )
    };
    if slave < 0 {
        return Err(fail(std::io::Error::last_os_error()));
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok((master, unsafe { OwnedFd::from_raw_fd(slave) }))
}

/// Sets the size; programs on it get `SIGWINCH` if it changes.
///
/// # Errors
/// `ENOTTY` if it is no terminal.
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size)
        .map_err(|errno| LinuxError::new("set the size of", "a terminal", errno))
}

/// Makes a terminal that of this session, whose leader this process is.
///
/// # Errors
/// `EPERM` for who leads none, or has a terminal already.
pub fn control(terminal: BorrowedFd<'_>) -> Result<()> {
    rustix::process::ioctl_tiocsctty(terminal)
        .map_err(|errno| LinuxError::new("make the session's", "a terminal", errno))
}

/// Whether `file` is a terminal's controlling side; what a peer sends may be anything.
#[must_use]
pub fn is_master(file: BorrowedFd<'_>) -> bool {
    let mut number: libc::c_uint = 0;
    // SAFETY: the request writes one number into the variable, which lives until the call returns.
    unsafe { libc::ioctl(file.as_raw_fd(), libc::TIOCGPTN, &raw mut number) == 0 }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read as _, Write as _},
        os::fd::AsFd as _,
    };

    use super::*;

    #[test]
    fn what_goes_in_at_one_end_comes_out_at_the_other() {
        let (master, slave) = open(Path::new("/dev/ptmx")).unwrap();
        assert!(is_master(master.as_fd()) && !is_master(slave.as_fd()));
        resize(master.as_fd(), 12, 34).unwrap();
        let size = rustix::termios::tcgetwinsize(&slave).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (12, 34));
        let (mut master, mut slave) = (File::from(master), File::from(slave));
        slave.write_all(b"x\n").unwrap();
        let mut bytes = [0; 3];
        master.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"x\r\n");
    }
}
