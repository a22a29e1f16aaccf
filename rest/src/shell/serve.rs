//! HTTP/1.1 over the connections of one listener.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, Response, StatusCode},
    response::IntoResponse as _,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{
    Client, Listener, Peer, Shell, Transport,
    accept::{self, Acceptor},
    guarded::Guarded,
    meters::Cause,
    request_body::{NoRoom, RequestBody},
    seat::{ConnectionSlot, Running},
};
use crate::{Refusal, held::Holding};

/// Largest head of a request, and what is held of a body or an answer at once, bytes: of a stranger
/// without whole head so much may be in memory.
const MAX_HTTP_BUFFER_BYTES: usize = 32 << 10;

/// A client that has gone without a word is known after two minutes (tcp(7)): watches may be silent
/// for longer.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEP_ALIVE_TIMES: u32 = 4;

/// What the kernel holds of a response that it cannot send yet, bytes (`TCP_NOTSENT_LOWAT`,
/// tcp(7)), on a connection for which nobody has [set](limit_unsent) another limit. Bytes in flight
/// are not counted, so it makes no connection slower. Without it, each client that does not read
/// would hold up to 4 MiB (`tcp_wmem`) of memory that no limit of ours knows. The server is woken
/// for each half of it, so a transport that sends much to few clients sets a higher limit for
/// those.
pub const DEFAULT_UNSENT_BYTES: u32 = 256 << 10;

/// What the connections of a listener share.
struct Serving<T> {
    transport: T,
    routes: Router,
    /// No new requests.
    stop: CancellationToken,
    /// The time for those that run is over.
    end: CancellationToken,
}

impl Shell {
    /// Serves a listener until `stop`, then for as long as requests run, at most
    /// [`Deadlines::stop`]. Every request has [`Client`] and `ConnectInfo<Peer>` in its extensions.
    ///
    /// [`Deadlines::stop`]: super::Deadlines::stop
    pub async fn serve<T: Transport>(
        &self,
        listener: Listener,
        tcp: TcpListener,
        transport: T,
        routes: Router,
        stop: CancellationToken,
    ) {
        self.serve_door(listener, tcp, transport, routes, stop).await;
    }

    pub(super) async fn serve_door<D: Acceptor, T: Transport>(
        &self,
        listener: Listener,
        door: D,
        transport: T,
        routes: Router,
        stop: CancellationToken,
    ) {
        let end = CancellationToken::new();
        // However this ends, no connection outlives it.
        let _end = end.clone().drop_guard();
        let serving = Arc::new(Serving { transport, routes, stop: stop.clone(), end });
        let connections = TaskTracker::new();
        let accepting = accept::accept(self, listener, door, |tcp, remote, seat| {
            connections.spawn(serving.clone().connection(tcp, remote, seat));
        });
        tokio::select! {
            never = accepting => match never {},
            () = stop.cancelled() => {}
        }
        connections.close();
        // Those that still run are ended by the guard.
        let _ = timeout(self.0.limits.deadlines.stop, connections.wait()).await;
    }
}

impl<T: Transport> Serving<T> {
    async fn connection(self: Arc<Self>, tcp: TcpStream, remote: SocketAddr, seat: ConnectionSlot) {
        let seat = Arc::new(seat);
        tokio::select! {
            () = seat.kicked() => {}
            () = self.end.cancelled() => {}
            () = self.serve(tcp, remote, &seat) => {}
        }
    }

    async fn serve(&self, tcp: TcpStream, remote: SocketAddr, seat: &Arc<ConnectionSlot>) {
        let peer = Peer { remote, local: tcp.local_addr().unwrap_or(remote) };
        set_options(&tcp);
        let opening = timeout(seat.deadlines().handshake, self.transport.open(tcp));
        let opened = tokio::select! {
            () = self.stop.cancelled() => return,
            opened = opening => opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                seat.count_handshake(&error);
                return self.transport.failed(remote, &error);
            }
        };
        if opened.certificate.is_some() {
            seat.prove();
        }
        let client = Client { peer, certificate: opened.certificate, seat: seat.clone() };
        let routes = self.routes.clone();
        let service = service_fn(move |request| answer(routes.clone(), client.clone(), request));
        let serving = http1::Builder::new()
            // The guard has the deadlines of heads, and tells silence from slowness.
            .header_read_timeout(None::<Duration>)
            .max_buf_size(MAX_HTTP_BUFFER_BYTES)
            .serve_connection(TokioIo::new(Guarded::new(opened.io, seat.clone())), service)
            .with_upgrades();
        let mut serving = pin!(serving);
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = self.stop.cancelled() => {
                if seat.begun() == 0 {
                    return;
                }
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!("a connection of {remote} ended: {}", crate::causes(&error));
        }
    }
}

/// Sets how many bytes of a connection's responses the kernel holds beyond those in flight. Every
/// connection begins with [`DEFAULT_UNSENT_BYTES`].
pub fn limit_unsent(tcp: &TcpStream, bytes: u32) {
    // It only costs time or memory where it cannot be set.
    let _ = socket2::SockRef::from(tcp).set_tcp_notsent_lowat(bytes);
}

/// They only cost time, places or memory where they cannot be set.
fn set_options(tcp: &TcpStream) {
    limit_unsent(tcp, DEFAULT_UNSENT_BYTES);
    let _ = tcp.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(tcp, true);
    let _ = sockopt::set_tcp_keepidle(tcp, KEEP_ALIVE_AFTER);
    let _ = sockopt::set_tcp_keepintvl(tcp, KEEP_ALIVE_EVERY);
    let _ = sockopt::set_tcp_keepcnt(tcp, KEEP_ALIVE_TIMES);
}

async fn answer(
    routes: Router,
    client: Client,
    request: Request<Incoming>,
) -> Result<Response<Holding<Running>>, Infallible> {
    let seat = client.seat.clone();
    let running = seat.begin();
    let (body_seat, no_room) = (seat.clone(), NoRoom::default());
    let mut request =
        request.map(|body| Body::new(RequestBody::new(body, body_seat, no_room.clone())));
    let extensions = request.extensions_mut();
    extensions.insert(ConnectInfo(client.peer));
    extensions.insert(client);
    let response = tokio::select! {
        biased;
        answered = routes.oneshot(request) => match no_room.load(Relaxed) {
            // A route that collects no body by `rest::Body` may say that the request is bad.
            true => {
                let title = "the server receives too many bodies of requests at once";
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, title, "try again later").into_response()
            }
            false => answered?,
        },
        () = overdue(&seat) => {
            seat.count(Cause::Request);
            let title = "the request was not answered in time";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, title, "try again later").into_response()
        }
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        seat.upgraded();
    }
    // Its request runs until its last part is handed over; when that is written, the guard tells
    // the seat.
    Ok(response.map(|body| Holding::new(body, running)))
}

/// Returns when a request without proof has taken too long.
async fn overdue(seat: &ConnectionSlot) {
    sleep(seat.deadlines().request).await;
    if seat.is_proven() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_holds_little_for_who_does_not_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (_client, accepted) = tokio::join!(client, listener.accept());
        let (tcp, _) = accepted.unwrap();
        set_options(&tcp);
        let option = socket2::SockRef::from(&tcp).tcp_notsent_lowat().unwrap();
        assert_eq!(option, DEFAULT_UNSENT_BYTES);
    }
}
