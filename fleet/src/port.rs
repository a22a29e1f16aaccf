//! The fleet port: TLS, client certificate optional at the TLS level and demanded on every
//! route but enrolment.

mod channel;
mod enroll;
mod hello;
mod identity;
mod protocol;

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};
use rest::shell::{Listener, Opened, Shell, Tls, Transport};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::{Fleet, FleetError};

use hello::PendingHellos;
pub use identity::NodeIdentity;

/// Largest body of the routes of this crate, bytes. Overlays flow the other way, inventories
/// over the channel.
const MAX_BODY_BYTES: usize = 64 << 10;

/// TLS whose failed handshakes the fleet counts.
struct FleetTls {
    tls: Tls,
    fleet: Fleet,
}

impl Transport for FleetTls {
    type Io = <Tls as Transport>::Io;

    async fn open(&self, tcp: TcpStream) -> io::Result<Opened<Self::Io>> {
        self.tls.open(tcp).await
    }

    fn failed(&self, remote: SocketAddr, error: &io::Error) {
        self.fleet.inner.port.handshake_failures.inc();
        let peer = remote.ip().to_canonical();
        // The shell warns of it once a minute.
        tracing::debug!("fleet port: {peer} was not let in: {error}");
    }
}

/// Serves the fleet port until `shutdown`.
pub(crate) async fn serve(
    fleet: Fleet,
    shell: &Shell,
    listener: std::net::TcpListener,
    extra: Router,
    shutdown: CancellationToken,
) -> Result<(), FleetError> {
    let tcp = TcpListener::from_std(listener).map_err(FleetError::Listen)?;
    let tls = FleetTls { tls: Tls::new(&fleet.server_tls(true)), fleet: fleet.clone() };
    let routes = router(fleet, extra, shutdown.clone());
    shell.serve(Listener::Fleet, tcp, tls, routes, shutdown).await;
    Ok(())
}

fn router(fleet: Fleet, extra: Router, shutdown: CancellationToken) -> Router {
    let port = Arc::new(Port { fleet: fleet.clone(), hellos: PendingHellos::default(), shutdown });
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

/// What the routes share.
#[derive(Debug)]
struct Port {
    fleet: Fleet,
    hellos: PendingHellos,
    shutdown: CancellationToken,
}
