//! Taking connections from a listener, also when there are no descriptors for them.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::io::Errno;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

use super::{
    Listener, Shell,
    meters::{Cause, Last},
};

/// Pause when the process may open no more files and none could be closed at once.
const PAUSE: Duration = Duration::from_millis(20);

/// Connections that are closed for want of descriptors before the next is taken.
const CLOSED_AT_ONCE: usize = 8;

/// While so many connections have been told to end and have not yet, no new one is taken.
const MOST_LEAVING: usize = 64;

/// Where connections come from.
pub(super) trait Acceptor: Send {
    /// The next one.
    fn next(&mut self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;

    /// A descriptor that can be given up when there are no more.
    fn spare(&self) -> io::Result<OwnedFd>;
}

impl Acceptor for TcpListener {
    async fn next(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept().await
    }

    fn spare(&self) -> io::Result<OwnedFd> {
        self.as_fd().try_clone_to_owned()
    }
}

/// Takes connections for ever and hands over those that are let in.
pub(super) async fn accept<D: Acceptor>(
    shell: &Shell,
    listener: Listener,
    mut door: D,
    mut take: impl FnMut(TcpStream, SocketAddr, super::seat::ConnectionSlot),
) -> std::convert::Infallible {
    let mut spare = door.spare().ok();
    loop {
        match door.next().await {
            Ok((tcp, remote)) => {
                if let Some(seat) = shell.enter(listener, remote) {
                    take(tcp, remote, seat);
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                let last = Last { client: None, error: Some(&error) };
                shell.0.meters.count(listener, Cause::Descriptors, last, Instant::now());
                shell.evict(CLOSED_AT_ONCE);
                // Without a descriptor nobody can even be refused: who waits in the kernel's queue
                // would wait there until others leave.
                drop(spare.take());
                let refused = timeout(PAUSE, door.next()).await;
                drop(refused);
                sleep(PAUSE).await;
                spare = door.spare().ok();
            }
        }
        while shell.0.book().leaving() > MOST_LEAVING {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// The client went away before it was taken (accept(2)); the next one may be as good as any.
fn is_of_one_connection(error: &io::Error) -> bool {
    let passing = [
        Errno::CONNABORTED,
        Errno::CONNRESET,
        Errno::INTR,
        Errno::NETDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NETUNREACH,
        Errno::OPNOTSUPP,
    ];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}
