//! Telling systemd how a service of ours is, the agent or the holder of jobs: sd_notify(3), a
//! datagram of `KEY=value` lines to `$NOTIFY_SOCKET`.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// The service runs. The agent sends it before the first server answers: a server's absence must
/// not hold up the boot.
pub fn ready() {
    send("READY=1\nSTATUS=starting");
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    send(&format!("STATUS={}", line.replace('\n', " ")));
}

/// The service is about to end.
pub fn stopping() {
    send("STOPPING=1");
}

fn send(text: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send_to(&path.to_string_lossy(), text) {
        tracing::debug!(%error, "cannot notify systemd");
    }
}

/// A path, or `@NAME` in the abstract name space.
fn send_to(path: &str, text: &str) -> io::Result<()> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    // The service manager's buffer may be full; a status line is not worth waiting for.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_reach_both_kinds_of_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send_to(path.to_str().unwrap(), "READY=1").unwrap();
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");

        let name = format!("bedplate-test-{}", std::process::id());
        let socket =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send_to(&format!("@{name}"), "STATUS=x").unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"STATUS=x");
    }
}
