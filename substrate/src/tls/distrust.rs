//! Why a server's certificate is not trusted, by its cause: another CA, or a clock that is wrong.
//!
//! rustls says `UnknownIssuer` and counts seconds since 1970; the admin who reads the console of a
//! node must know what to compare and where to set it. These words take part in no decision: what
//! webpki has refused stays refused.

use api::ids::{Digest, Timestamp};
use rustls::{
    CertificateError, Error, OtherError,
    pki_types::{CertificateDer, UnixTime},
};

use super::fingerprint;

/// Certificates of a chain that are named; ours has one beside the leaf.
const MAX_NAMED: usize = 4;

/// Why the server is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// It presents another CA than the one that this node was told to trust.
    #[error(
        "the server's certificate is of another CA: expected fingerprint {expected}, got {}; \
         another server answers at this address, or this one's `ca/` was replaced: boot the node again",
        listed(got)
    )]
    OtherCa {
        /// SHA-256 of the DER of the CA that is trusted.
        expected: Digest,
        /// Those of the certificates that were presented beside the leaf.
        got: Vec<Digest>,
    },
    /// It presents the right CA, which did not sign its own certificate: somebody in between.
    #[error(
        "the server's certificate was not made by the CA {ca} that it presents: this is not the server"
    )]
    NotSigned {
        /// SHA-256 of the DER of the CA.
        ca: Digest,
    },
    /// Its certificate begins later than it is here.
    #[error(
        "the server's certificate is valid from {begins}, and this node's clock says {now}{}: one of the \
         two clocks is wrong; the server makes its certificate by its own clock",
        told(*server)
    )]
    NotYetValid {
        /// First moment of its validity.
        begins: Timestamp,
        /// This node's clock.
        now: Timestamp,
        /// The server's clock, as it said when this node booted.
        server: Option<Timestamp>,
    },
    /// Its certificate has ended by this node's clock. The server makes a new one in time, by its
    /// own clock.
    #[error(
        "the server's certificate ended on {ended}, and this node's clock says {now}{}: one of the two \
         clocks is wrong, since the server renews its certificate long before its end",
        told(*server)
    )]
    Expired {
        /// Last moment of its validity.
        ended: Timestamp,
        /// This node's clock.
        now: Timestamp,
        /// The server's clock, as it said when this node booted.
        server: Option<Timestamp>,
    },
}

fn listed(got: &[Digest]) -> String {
    let named: Vec<String> = got.iter().take(MAX_NAMED).map(Digest::to_string).collect();
    if named.is_empty() { "none".to_owned() } else { named.join(", ") }
}

fn told(server: Option<Timestamp>) -> String {
    server.map_or_else(String::new, |told| {
        format!(", the server's said {told} when this node booted")
    })
}

impl From<TrustError> for Error {
    /// As rustls carries the words of others.
    fn from(cause: TrustError) -> Self {
        Self::Other(OtherError(std::sync::Arc::new(cause)))
    }
}

impl TrustError {
    /// The chain of the server has no certificate of the trusted CA.
    pub(super) fn other_ca(expected: Digest, presented: &[CertificateDer<'_>]) -> Self {
        Self::OtherCa { expected, got: presented.iter().map(fingerprint).collect() }
    }

    /// The words for what webpki refused; other refusals are left as they are. `presented`: what
    /// came beside the leaf; `server`: the server's clock as it said at boot.
    pub(super) fn explain(
        refused: Error,
        ca: Digest,
        presented: &[CertificateDer<'_>],
        server: Option<Timestamp>,
    ) -> Error {
        let Error::InvalidCertificate(why) = &refused else { return refused };
        match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                if presented.iter().any(|certificate| fingerprint(certificate) == ca) {
                    Self::NotSigned { ca }.into()
                } else {
                    Self::other_ca(ca, presented).into()
                }
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                Self::NotYetValid { begins: moment(*not_before), now: moment(*time), server }.into()
            }
            CertificateError::ExpiredContext { time, not_after } => {
                Self::Expired { ended: moment(*not_after), now: moment(*time), server }.into()
            }
            _ => refused,
        }
    }
}

fn moment(time: UnixTime) -> Timestamp {
    Timestamp(0).plus_seconds(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}
