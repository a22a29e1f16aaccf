//! Token for certificate, certificate for certificate, and the reports of stage 1. Wire types:
//! [`api::enroll`].

use std::{net::IpAddr, sync::Arc};

use api::{
    enroll::{Enroll, Enrolled, Renew, Report},
    ids::NodeId,
    status::Severity,
};
use axum::{
    Extension, Json,
    extract::{ConnectInfo, DefaultBodyLimit, FromRequest, Request as HttpRequest, State},
    http::StatusCode,
};
use rest::{Refusal, causes, shell::Peer};

use super::{NodeIdentity, Port};
use crate::{
    Fleet, FleetError,
    arming::{self, Refused, Verdict},
    authority::{MAX_CSR_BYTES, Request},
    clock,
    failures::{MAX_FAILURES, WINDOW_SECONDS},
    lifecycle::Event,
    token,
};

/// Characters of an unknown report that go into the log: whoever has a certificate can send many.
const MAX_LOGGED_CHARS: usize = 200;

/// Largest body of a stranger who asks for a certificate, bytes: a certificate request has half of
/// it, a token some 40.
const MAX_ENROLL_BYTES: usize = 2 * MAX_CSR_BYTES;

const CANNOT_ENROL: &str = "cannot enrol";

/// The request of somebody who may try to enrol. Of sources that failed too often, which get 429,
/// no byte of the body is read.
pub(super) struct EnrolAttempt {
    source: IpAddr,
    wanted: Enroll,
}

impl FromRequest<Arc<Port>> for EnrolAttempt {
    type Rejection = Refusal;

    async fn from_request(mut request: HttpRequest, port: &Arc<Port>) -> Result<Self, Refusal> {
        let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| *peer);
        let peer = peer.ok_or_else(|| {
            let why = "the connection did not come through the server's shell";
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, CANNOT_ENROL, why)
        })?;
        let (source, fleet) = (peer.remote.ip().to_canonical(), &port.fleet);
        if !fleet.registry().may_try(source, clock::now()) {
            fleet.inner.port.enrolments.inc("throttled");
            return Err(Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                CANNOT_ENROL,
                format!(
                    "{source} failed {MAX_FAILURES} times within {WINDOW_SECONDS} s; wait a minute"
                ),
            ));
        }
        DefaultBodyLimit::max(MAX_ENROLL_BYTES).apply(&mut request);
        let Json(wanted) = Json::from_request(request, port)
            .await
            .map_err(|error| Refusal::new(error.status(), CANNOT_ENROL, causes(&error)))?;
        Ok(Self { source, wanted })
    }
}

/// `POST /node/v1/enroll`.
pub(super) async fn enroll(
    State(port): State<Arc<Port>>,
    EnrolAttempt { source, wanted }: EnrolAttempt,
) -> Result<Json<Enrolled>, Refusal> {
    let fleet = &port.fleet;
    let now = clock::now();
    let counts = &fleet.inner.port.enrolments;
    let request = Request::parse(&wanted.csr).map_err(|error| {
        counts.inc("refused");
        fleet.registry().source_failed(source, now);
        Refusal::new(StatusCode::BAD_REQUEST, CANNOT_ENROL, error.to_string())
    })?;
    let redeemed = redeem(fleet, &wanted, &request, source)
        .await
        .map_err(|error| unavailable(CANNOT_ENROL, &error))?;
    let epoch = redeemed.map_err(|why| {
        counts.inc("refused");
        fleet.registry().source_failed(source, now);
        Refusal::new(StatusCode::FORBIDDEN, CANNOT_ENROL, why.in_words())
    })?;
    let granted = certificate(fleet, wanted.id, epoch, &request, CANNOT_ENROL);
    counts.inc(if granted.is_ok() { "granted" } else { "refused" });
    granted
}

/// `POST /node/v1/renew`.
pub(super) async fn renew(
    State(port): State<Arc<Port>>,
    Extension(node): Extension<NodeIdentity>,
    Json(wanted): Json<Renew>,
) -> Result<Json<Enrolled>, Refusal> {
    const TITLE: &str = "cannot renew the certificate";
    let request = Request::parse(&wanted.csr)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, TITLE, error.to_string()))?;
    tracing::info!(node = %node.name, "renewed its certificate from {}", node.address);
    certificate(&port.fleet, node.id, node.epoch, &request, TITLE)
}

/// `POST /node/v1/report`.
pub(super) async fn report(
    State(port): State<Arc<Port>>,
    Extension(node): Extension<NodeIdentity>,
    Json(report): Json<Report>,
) -> Result<StatusCode, Refusal> {
    const TITLE: &str = "cannot take the report";
    let Some(phase) = report.phase.into() else {
        port.fleet.inner.protocol.unknown_reports.inc();
        let message: String = report.message.chars().take(MAX_LOGGED_CHARS).collect();
        tracing::debug!(node = %node.name, "reported a phase that this server doesn't know: {message}");
        return Ok(StatusCode::NO_CONTENT);
    };
    let event = Event::Reported { phase, percent: report.percent, message: report.message };
    port.fleet.apply_event(node.id, event).await.map_err(|error| unavailable(TITLE, &error))?;
    Ok(StatusCode::NO_CONTENT)
}

fn unavailable(title: &str, error: &FleetError) -> Refusal {
    match error {
        FleetError::UnknownNode { .. } => {
            Refusal::new(StatusCode::FORBIDDEN, title, error.to_string())
        }
        _ => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, title, error.to_string()),
    }
}

fn certificate(
    fleet: &Fleet,
    id: NodeId,
    epoch: u64,
    request: &Request,
    title: &str,
) -> Result<Json<Enrolled>, Refusal> {
    let now = clock::now();
    let name = fleet.name(id).ok_or_else(|| {
        Refusal::new(StatusCode::FORBIDDEN, title, format!("node {id} was deleted"))
    })?;
    let issued = fleet
        .authority()
        .issue(id, epoch, request, now)
        .map_err(|error| Refusal::internal(title, &error))?;
    Ok(Json(Enrolled {
        node: name,
        certificate: issued.pem,
        ca: fleet.ca_pem(),
        not_after: issued.not_after,
        server_time: now,
    }))
}

/// Takes the token. The inner result has the number of the enrolment, or says why it is refused;
/// when it is granted, that is on disk.
async fn redeem(
    fleet: &Fleet,
    wanted: &Enroll,
    request: &Request,
    source: IpAddr,
) -> Result<Result<u64, Refused>, FleetError> {
    if let Err(why) = fleet.show_token(&wanted.token, source) {
        return Ok(Err(why));
    }
    let token = token::hash(&wanted.token);
    let owner = fleet.registry().owner(token);
    let event = match owner {
        Some(owner) if owner == wanted.id => {
            arming::Event::Redeem { token, key: request.key(), source }
        }
        Some(_) => arming::Event::ShownForOtherNode { token },
        None => {
            let message = format!("{source} tried to enrol with a token that is unknown");
            let known =
                fleet.change(wanted.id, |change| change.record(Severity::Warning, &message));
            if known.is_err() {
                tracing::warn!("{source} tried to enrol as {}, which is no node", wanted.id);
            }
            return Ok(Err(Refused::Unknown));
        }
    };
    let changed = fleet.change(owner.unwrap_or(wanted.id), |change| {
        let (verdict, epoch) = change.redeem(event, source, clock::monotonic());
        match &verdict {
            Verdict::Granted => change.apply_event(Event::CertificateIssued { address: source }),
            Verdict::Refused(why) => {
                let message = match why {
                    Refused::WrongNode => {
                        format!("{source} used its token in the name of {}", wanted.id)
                    }
                    _ => format!("{source} was refused a certificate: {}", why.in_words()),
                };
                change.record(why.severity(), &message);
                if let Some(cause) = held_by(*why, owner == Some(wanted.id), source) {
                    change.apply_event(Event::TokenRefused { cause: Some(cause) });
                }
            }
            Verdict::Allowed | Verdict::Noted => {}
        }
        (verdict, epoch)
    });
    let ((verdict, epoch), ticket) = changed?;
    fleet.durable(ticket).await?;
    Ok(match verdict {
        Verdict::Refused(why) => Err(why),
        Verdict::Granted | Verdict::Allowed | Verdict::Noted => Ok(epoch),
    })
}

/// What a node is held by whose token was refused; a token that was never its own holds nobody.
fn held_by(why: Refused, in_its_own_name: bool, source: IpAddr) -> Option<String> {
    match why {
        Refused::WrongNode => Some(format!(
            "its boot token was used at {source} in another node's name; it is disarmed until `bedplate node arm`"
        )),
        _ => in_its_own_name.then(|| why.holds(source)),
    }
}
