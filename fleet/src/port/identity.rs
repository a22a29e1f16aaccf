//! Which node makes a request.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use api::ids::{NodeId, NodeName};
use axum::{
    Extension,
    extract::{ConnectInfo, Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use axum_server::tls::TlsInfo;
use rest::Refusal;

use crate::{Fleet, authority::client_log::common_name};

/// The node that makes a request, proved by its client certificate. In the extensions of every request to a route
/// behind the fleet port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The node.
    pub id: NodeId,
    /// Its name now.
    pub name: NodeName,
    /// Where the connection comes from; an IPv4 address is never in its IPv6 form.
    pub address: IpAddr,
}

/// Demands the certificate of a registered node.
pub(super) async fn demand(
    State(fleet): State<Fleet>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    tls: Option<Extension<Arc<TlsInfo>>>,
    mut request: Request,
    next: Next,
) -> Response {
    let address = peer.ip().to_canonical();
    match identify(&fleet, address, tls.as_deref().map(|tls| tls.peer_certificates.as_slice())) {
        Ok(identity) => {
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err((status, detail)) => {
            tracing::warn!("fleet port: {} from {address} refused: {detail}", request.uri().path());
            Refusal::new(status, "not a node of this cluster", detail).into_response()
        }
    }
}

fn identify(
    fleet: &Fleet,
    address: IpAddr,
    certificates: Option<&[Vec<u8>]>,
) -> Result<NodeIdentity, (StatusCode, String)> {
    let Some(certificate) = certificates.and_then(<[_]>::first) else {
        return Err((StatusCode::UNAUTHORIZED, "no client certificate; enrol first".to_owned()));
    };
    let name = common_name(certificate).unwrap_or_default();
    let id: NodeId = name
        .parse()
        .map_err(|_| (StatusCode::FORBIDDEN, format!("the certificate's name {name:?} is no node id")))?;
    let Some(name) = fleet.name(id) else {
        return Err((StatusCode::FORBIDDEN, format!("node {id} was deleted")));
    };
    Ok(NodeIdentity { id, name, address })
}
