//! Which node makes a request.

use std::net::IpAddr;

use api::ids::{NodeId, NodeName, Timestamp};
use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use rest::{Refusal, shell::Client};
use tokio_util::sync::CancellationToken;

use crate::{
    Fleet,
    authority::{client_log::ClientName, line_budget::LineBudget},
    clock,
    enrolments::{NodeIdentityState, PresentedCertificate},
    registry::Admitted,
};

const TITLE: &str = "not a node of this cluster";

/// Characters of a path that go into the log: it may be as long as a head of a request.
const MAX_PATH_CHARS: usize = 100;

/// What an agent may ask for that is refused otherwise, because it is not known who the node is: to
/// whom an admin gives right must have a certificate then.
pub(super) const RENEW: &str = "/node/v1/renew";

/// The node that makes a request, proved by its client certificate. In the extensions of every
/// request to a route behind the fleet port.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    /// The node.
    pub id: NodeId,
    /// Its name now.
    pub name: NodeName,
    /// Where the connection comes from; an IPv4 address is never in its IPv6 form.
    pub address: IpAddr,
    /// Which enrolment of the node its certificate is of.
    pub epoch: u64,
    /// Two claim to be this node, and nobody has decided yet: no secret is for who asks.
    pub in_conflict: bool,
    /// Cancelled when the certificate is good no more: what is under way by it ends.
    pub revoked: CancellationToken,
}

/// Demands a good certificate of a registered node.
pub(super) async fn demand(
    State(fleet): State<Fleet>,
    Extension(client): Extension<Client>,
    mut request: Request,
    next: Next,
) -> Response {
    let address = client.peer.remote.ip().to_canonical();
    match identify(&fleet, &client, request.uri().path()) {
        Ok(identity) => {
            let revoked = identity.revoked.clone();
            request.extensions_mut().insert(identity);
            tokio::select! {
                response = next.run(request) => response,
                () = revoked.cancelled() => {
                    let why = "its certificate was revoked while the request was dealt with";
                    Refusal::new(StatusCode::FORBIDDEN, TITLE, why).into_response()
                }
            }
        }
        Err((status, detail)) => {
            let refused = Refused { path: request.uri().path(), address, detail: &detail };
            for line in refused.lines(&fleet.inner.port.refusals, clock::now()) {
                tracing::warn!("fleet port: {line}");
            }
            let mut response = Refusal::new(status, TITLE, detail).into_response();
            // A certificate that is good no more lets nobody keep a connection.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        }
    }
}

/// What the log has of a request that was refused.
struct Refused<'a> {
    path: &'a str,
    address: IpAddr,
    detail: &'a str,
}

impl Refused<'_> {
    /// Its lines: none if there were too many, since anybody can be refused.
    fn lines(&self, budget: &LineBudget, now: Timestamp) -> Vec<String> {
        let Self { path, address, detail } = self;
        let allowed = budget.take(now);
        let left_out =
            allowed.left_out.map(|more| format!("refused {more} more requests within a minute"));
        let path: String = path.chars().take(MAX_PATH_CHARS).collect();
        let line = allowed.line.then(|| format!("{path} from {address} refused: {detail}"));
        left_out.into_iter().chain(line).collect()
    }
}

fn identify(
    fleet: &Fleet,
    client: &Client,
    path: &str,
) -> Result<NodeIdentity, (StatusCode, String)> {
    let Some(certificate) = client.certificate.as_deref() else {
        return Err((StatusCode::UNAUTHORIZED, "no client certificate; enrol first".to_owned()));
    };
    let forbidden = |why: String| (StatusCode::FORBIDDEN, why);
    let read = ClientName::read(certificate);
    let read = read.ok_or_else(|| forbidden("the certificate is none of a node".to_owned()))?;
    let ClientName { name, epoch, serial } = read;
    let id: NodeId = name
        .parse()
        .map_err(|_| forbidden(format!("the certificate's name {name:?} is no node id")))?;
    let (address, accepted) = (client.peer.remote.ip().to_canonical(), client.accepted());
    let presented = PresentedCertificate { epoch, serial, address, accepted };
    let admitted = fleet.registry().admit(id, &presented, clock::now());
    let Admitted { name, standing, revoked } = admitted
        .ok_or_else(|| forbidden(format!("node {id} was deleted")))?
        .map_err(|dead| forbidden(dead.to_string()))?;
    let in_conflict = match standing {
        NodeIdentityState::Node => false,
        NodeIdentityState::Holder => true,
        NodeIdentityState::Rival if path == RENEW => true,
        NodeIdentityState::Rival => {
            let why = format!(
                "two claim to be {name}, and the other one is heard until an admin decides"
            );
            return Err(forbidden(why));
        }
        NodeIdentityState::Superseded => {
            let why =
                format!("{name} has enrolled again since this connection began; connect again");
            return Err((StatusCode::CONFLICT, why));
        }
    };
    Ok(NodeIdentity { id, name, address, epoch, in_conflict, revoked })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_who_are_refused_write_few_and_short_lines() {
        let (budget, path) = (LineBudget::default(), format!("/node/v1/{}", "x".repeat(60_000)));
        let address = IpAddr::from([10, 0, 0, 9]);
        let refused =
            Refused { path: &path, address, detail: "no client certificate; enrol first" };
        let lines: Vec<String> =
            (0..1_000).flat_map(|_| refused.lines(&budget, Timestamp(0))).collect();
        assert_eq!(lines.len(), 20);
        assert!(lines.iter().all(|line| line.len() < 200), "{lines:?}");
        let later = refused.lines(&budget, Timestamp(0).plus_seconds(60));
        assert_eq!(
            (later.len(), later[0].as_str()),
            (2, "refused 980 more requests within a minute")
        );
        let end = "x from 10.0.0.9 refused: no client certificate; enrol first";
        assert!(later[1].ends_with(end), "{later:?}");
    }
}
