//! Token for certificate, and the reports of a booting node. All on the fleet port, over TLS.
//!
//! | request | certificate | body → answer |
//! |---|---|---|
//! | `POST /node/v1/enroll` | none | [`Enroll`] → [`Enrolled`] |
//! | `POST /node/v1/renew` | client | [`Renew`] → [`Enrolled`] |
//! | `POST /node/v1/report` | client | [`Report`] → 204 |
//! | `GET /node/v1/overlays/boot` | client | → tar, see [`crate::overlay`] |
//! | `GET /node/v1/overlays/runtime` | client | → tar |
//! | `GET /node/v1/channel` | client | → WebSocket, see [`crate::channel`] |
//!
//! Errors are [`crate::problem::Problem`]. Node and server may be of different releases: unknown
//! fields are ignored, and the node sends the protocol versions that it speaks in a header of each
//! request ([`crate::channel::negotiation::HEADER`]).

use serde::{Deserialize, Serialize};

use crate::{
    ids::{NodeId, NodeName, Timestamp},
    status::Phase,
};

/// Asks for a client certificate, once per token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Enroll {
    /// The node that asks; must be the one that the token was issued to.
    pub id: NodeId,
    /// The one-time boot token.
    pub token: String,
    /// PKCS #10 certificate signing request, PEM, for a P-256 key. Its names are ignored: the
    /// server sets them.
    pub csr: String,
}

/// Asks for a fresh certificate with one that is still good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Renew {
    /// PKCS #10 certificate signing request, PEM, as in [`Enroll::csr`].
    pub csr: String,
}

/// The certificate granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Enrolled {
    /// The node's name.
    pub node: NodeName,
    /// The client certificate, PEM. Subject CN = node id, SAN = `urn:bedplate:node:ID` and
    /// `urn:bedplate:epoch:N`, the number of the enrolment.
    pub certificate: String,
    /// The CA certificate, PEM.
    pub ca: String,
    /// When the certificate ends; renew after half its life.
    pub not_after: Timestamp,
    /// The server's clock.
    pub server_time: Timestamp,
}

/// Progress of a booting node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// The phase that stage 1 has reached.
    pub phase: BootPhase,
    /// Percent of the root image.
    #[serde(default)]
    pub percent: Option<u8>,
    /// What happened, in one line; the cause for `failed`.
    pub message: String,
}

/// The phases of a boot that the node itself reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootPhase {
    /// Stage 1 runs.
    Stage1,
    /// Stage 1 fetches the root image.
    Fetching,
    /// Stage 1 hands over to the image's own init.
    Switching,
    /// A step failed.
    Failed,
    /// A phase of a later release. The report is acknowledged and ignored; never sent.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl BootPhase {
    /// The word that people see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Option::<Phase>::from(self).map_or("unknown", Phase::as_str)
    }
}

impl From<BootPhase> for Option<Phase> {
    /// The phase that the node is in now; `None` for [`BootPhase::Unknown`].
    fn from(phase: BootPhase) -> Self {
        match phase {
            BootPhase::Stage1 => Some(Phase::Stage1),
            BootPhase::Fetching => Some(Phase::Fetching),
            BootPhase::Switching => Some(Phase::Switching),
            BootPhase::Failed => Some(Phase::Failed),
            BootPhase::Unknown => None,
        }
    }
}

/// What stage 1 leaves for the agent in `/run/bedplate/agent.json`, mode 0600, in a
/// directory of mode 0700.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AgentIdentity {
    /// The node's name.
    pub node: NodeName,
    /// The node's identity.
    pub id: NodeId,
    /// Fleet ports of the servers.
    pub fleet_servers: Vec<std::net::SocketAddr>,
    /// The CA certificate, PEM.
    pub ca: String,
    /// The client certificate, PEM.
    pub certificate: String,
    /// Its private key, PKCS #8 PEM. Made on the node; never leaves it.
    pub key: String,
    /// End of the certificate's validity.
    pub not_after: Timestamp,
    /// Image version that was booted: `debian-node@2`.
    pub image: String,
}
