//! The certificates of a server, as people are told of them.

use std::path::Path;

use api::ids::{Digest, Timestamp};

use crate::{
    AuthorityError, DateProblem, Fleet,
    authority::{Authority, CLIENT_SECONDS},
    clock,
};

/// Life of the certificates that agents get, seconds. An agent renews its own after half of it.
pub const NODE_CERTIFICATE_SECONDS: i64 = CLIENT_SECONDS;

/// When a certificate is good, and which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateFacts {
    /// SHA-256 of its DER form.
    pub fingerprint: Digest,
    /// When it begins.
    pub begins: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
}

/// A certificate authority, and what is wrong with its dates or with the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorityFacts {
    /// Its certificate.
    pub certificate: CertificateFacts,
    /// What is wrong with its dates or with the clock; `None`: nothing.
    pub problem: Option<DateProblem>,
}

impl AuthorityFacts {
    fn of(authority: &Authority, now: Timestamp) -> Self {
        Self { certificate: authority.facts(), problem: authority.date_problem(now) }
    }
}

/// The CA in a state directory, for tools that start no fleet. `None`: there is none yet.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn authority_facts(state_dir: &Path) -> Result<Option<AuthorityFacts>, AuthorityError> {
    let authority = Authority::read(state_dir)?;
    Ok(authority.map(|authority| AuthorityFacts::of(&authority, clock::now())))
}

/// The certificate of the CA in a state directory, PEM. `None`: there is none yet.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn authority_pem(state_dir: &Path) -> Result<Option<String>, AuthorityError> {
    Ok(Authority::read(state_dir)?.map(|authority| authority.pem().to_owned()))
}

impl Fleet {
    /// The CA, and what is wrong with its dates or with the clock now.
    #[must_use]
    pub fn authority_facts(&self) -> AuthorityFacts {
        AuthorityFacts::of(&self.inner.authority, clock::now())
    }

    /// The certificate that the server's ports present now.
    #[must_use]
    pub fn server_certificate_facts(&self) -> CertificateFacts {
        self.inner.certificate.facts()
    }
}
