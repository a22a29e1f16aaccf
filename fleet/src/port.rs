//! The fleet port: TLS, client certificate optional at the TLS level and demanded on every route but enrolment.

mod channel;
mod enroll;
mod identity;
mod protocol;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, connect_info::Connected},
    middleware,
    routing::{get, post},
};
use axum_server::{
    Handle,
    accept::NoDelayAcceptor,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use tokio_util::sync::CancellationToken;

use crate::{Fleet, FleetError, clock};

pub use identity::NodeIdentity;

/// Time for a TLS handshake: a node in software emulation needs about one second.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for the first request of a connection, and for the head of each.
const REQUEST_TIMEOUT: Duration = api::http::IDLE_LIMIT;

/// Largest body of the routes of this crate, bytes. Overlays flow the other way, inventories over the channel.
const MAX_BODY_BYTES: usize = 64 << 10;

/// Time that connections get to end when the server stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves the fleet port until `shutdown`.
pub(crate) async fn serve(
    fleet: Fleet,
    listener: std::net::TcpListener,
    extra: Router,
    shutdown: CancellationToken,
) -> Result<(), FleetError> {
    let tls = RustlsConfig::from_config(fleet.server_tls(true));
    let counting = fleet.clone();
    let routes = router(fleet, extra, shutdown.clone());
    let acceptor =
        RustlsAcceptor::new(tls).handshake_timeout(HANDSHAKE_TIMEOUT).acceptor(NoDelayAcceptor::new());
    let handle = Handle::new();
    let mut server = axum_server::from_tcp(listener)
        .map_err(FleetError::Listen)?
        .acceptor(acceptor)
        .handle(handle.clone())
        .first_request_timeout(REQUEST_TIMEOUT)
        .accept_error_handler(move |peer: Option<&SocketAddr>, error| {
            counting.inner.port.handshake_failures.inc();
            let peer =
                peer.map_or_else(|| "a client".to_owned(), |peer| peer.ip().to_canonical().to_string());
            // Whoever shows a certificate that is no good has a line of its own; these are counted.
            tracing::debug!("fleet port: {peer} was not let in: {error}");
        });
    server.http_builder().http1().header_read_timeout(REQUEST_TIMEOUT);
    let serving = server.serve(routes.into_make_service_with_connect_info::<Peer>());
    let stop = async {
        shutdown.cancelled().await;
        handle.graceful_shutdown(Some(SHUTDOWN_TIMEOUT));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = serving => served.map_err(FleetError::Listen),
        () = stop => Ok(()),
    }
}

fn router(fleet: Fleet, extra: Router, shutdown: CancellationToken) -> Router {
    let port = Arc::new(Port { fleet: fleet.clone(), shutdown });
    let own = Router::new()
        .route(identity::RENEW, post(enroll::renew))
        .route("/node/v1/report", post(enroll::report))
        .route("/node/v1/channel", get(channel::upgrade))
        .with_state(port.clone());
    let identified = own
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .merge(extra)
        .layer(middleware::from_fn_with_state(fleet, identity::demand));
    Router::new()
        .route("/node/v1/enroll", post(enroll::enroll))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(port)
        .merge(identified)
        .layer(middleware::from_fn(protocol::check))
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
struct Peer {
    /// An IPv4 address is never in its IPv6 form.
    address: IpAddr,
    /// When the connection was accepted, before its TLS handshake.
    accepted: Instant,
}

impl Connected<SocketAddr> for Peer {
    fn connect_info(address: SocketAddr) -> Self {
        Self { address: address.ip().to_canonical(), accepted: clock::monotonic() }
    }
}

/// What the routes share.
#[derive(Debug)]
struct Port {
    fleet: Fleet,
    shutdown: CancellationToken,
}
