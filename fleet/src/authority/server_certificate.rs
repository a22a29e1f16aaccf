//! The server's own certificate. It lives in memory only: a start makes it for the addresses of the
//! configuration, and the clock task makes another one before it ends. Running listeners use the
//! new one at once.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, PoisonError, RwLock},
};

use api::ids::{Digest, Timestamp};
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};

use super::{Authority, AuthorityError, BACKDATE_SECONDS, leaf};
use crate::certificates::CertificateFacts;

/// Life of a server certificate, seconds: 90 days.
const LIFE_SECONDS: i64 = 90 * 86_400;

/// Age at which the next one is made, seconds: 60 days.
const RENEW_SECONDS: i64 = 60 * 86_400;

/// Name that stage 1 may always ask for.
const NAME: &str = "bedplate";

/// The certificate that all listeners present now.
#[derive(Debug)]
pub(crate) struct ServerCertificate {
    addresses: Vec<IpAddr>,
    names: Vec<String>,
    present: RwLock<(Arc<CertifiedKey>, Timestamp)>,
}

impl ServerCertificate {
    /// Makes the first one.
    pub(crate) fn new(
        authority: &Authority,
        addresses: &[IpAddr],
        names: &[String],
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let mut all = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        all.extend(addresses.iter().filter(|address| !address.is_unspecified()));
        let mut all_names = vec![NAME.to_owned(), "localhost".to_owned()];
        all_names.extend(names.iter().cloned());
        let first = Arc::new(make(authority, &all, &all_names, now)?);
        Ok(Self { addresses: all, names: all_names, present: RwLock::new((first, now)) })
    }

    /// Which one is present, and when that is good.
    pub(crate) fn facts(&self) -> CertificateFacts {
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        let der: &[u8] = present.0.cert.first().map_or(&[], |certificate| certificate.as_ref());
        CertificateFacts {
            fingerprint: Digest(Sha256::digest(der).into()),
            begins: present.1.plus_seconds(-BACKDATE_SECONDS),
            ends: present.1.plus_seconds(LIFE_SECONDS),
        }
    }

    /// When the present one ends.
    pub(crate) fn not_after(&self) -> Timestamp {
        let made = self.present.read().unwrap_or_else(PoisonError::into_inner).1;
        made.plus_seconds(LIFE_SECONDS)
    }

    /// Makes the next one if it is time, or if the clock went back to before the
    /// present one was made.
    pub(crate) fn renew_if_due(
        &self,
        authority: &Authority,
        now: Timestamp,
    ) -> Result<(), AuthorityError> {
        let made = self.present.read().unwrap_or_else(PoisonError::into_inner).1;
        if now < made.plus_seconds(RENEW_SECONDS) && now >= made {
            return Ok(());
        }
        let next = Arc::new(make(authority, &self.addresses, &self.names, now)?);
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = (next, now);
        tracing::info!("renewed the server's certificate");
        Ok(())
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.present.read().unwrap_or_else(PoisonError::into_inner).0.clone())
    }
}

fn make(
    authority: &Authority,
    addresses: &[IpAddr],
    names: &[String],
    now: Timestamp,
) -> Result<CertifiedKey, AuthorityError> {
    let failed = |source| AuthorityError::Certificate { subject: "the server".to_owned(), source };
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = leaf(NAME, now, now.plus_seconds(LIFE_SECONDS))?;
    params.subject_alt_names = addresses.iter().copied().map(SanType::IpAddress).collect();
    for name in names {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(failed)?));
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, &authority.issuer).map_err(failed)?;
    let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signer = rustls::crypto::ring::sign::any_supported_type(&secret)
        .map_err(|error| AuthorityError::Tls { why: error.to_string() })?;
    Ok(CertifiedKey::new(vec![certificate.der().clone(), authority.certificate().clone()], signer))
}
