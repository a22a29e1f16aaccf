//! The site's own certificate on the REST port, for browsers: `api.certificate` and `api.key` of
//! the configuration.
//!
//! It is shown to clients that ask for one of its names (SNI, RFC 6066). All others, those that
//! dial an address among them, still see the certificate of this server's own authority, which the
//! context files trust.
//!
//! The files are read again when one of them changes, and at SIGHUP. A pair that is not good
//! changes nothing: the one before stays, and the log says why.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use api::ids::{Digest, Timestamp};
use fleet::CertificateFacts;
use rustls::{
    ServerConfig,
    client::verify_server_name,
    crypto::ring::sign::any_supported_type,
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at: programs that renew certificates do it weeks
/// before it matters.
const LOOK_AFTER: Duration = Duration::from_secs(10);

/// Largest file that is read, bytes: a chain has a few certificates of some 2 KB each.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where the certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the certificate, and those that lead from it to one that clients trust.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

/// Why a certificate is not used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause, for people.
        #[source]
        source: std::io::Error,
    },
    /// A file is larger than [`MAX_FILE_BYTES`].
    #[error("{} is larger than {MAX_FILE_BYTES} bytes: is it the right file?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A file is not what it should be.
    #[error("{} holds no {what} in PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Certificate, or private key.
        what: &'static str,
        /// The cause, for people.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The key is of a kind that TLS does not have, or is not the certificate's.
    #[error("the key in {} is not that of the certificate in {}", key.display(), certificate.display())]
    Pair {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
        /// The cause, for people.
        #[source]
        source: rustls::Error,
    },
}

impl CertificateFiles {
    /// Reads both files and holds them together. Blocking.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn load(&self) -> Result<CertifiedKey, CertificateError> {
        let pem = |path: &Path, what, source| CertificateError::Pem {
            path: path.to_owned(),
            what,
            source,
        };
        let text = read(&self.certificate)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let chain = chain.map_err(|source| pem(&self.certificate, "certificate", source))?;
        if chain.is_empty() {
            let none = rustls_pki_types::pem::Error::NoItemsFound;
            return Err(pem(&self.certificate, "certificate", none));
        }
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?);
        let key = key.map_err(|source| pem(&self.key, "private key", source))?;
        let pair = |source| CertificateError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        };
        let key = any_supported_type(&key).map_err(pair)?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(pair)?;
        Ok(certified)
    }

    /// Which certificate it is, and when it is good; `None` if it cannot be used or read. Blocking.
    pub(super) fn facts(&self) -> Option<CertificateFacts> {
        facts(&self.load().ok()?)
    }

    /// What changes when a file is written or replaced.
    fn stamp(&self) -> [Option<(u64, u64, i64, i64)>; 2] {
        [&self.certificate, &self.key].map(|path| {
            let meta = fs::metadata(path).ok()?;
            // A change of owner or mode, which may be what makes it readable, shows in ctime alone.
            Some((meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec()))
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let failed = |source| CertificateError::Read { path: path.to_owned(), source };
    let mut text = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(CertificateError::TooLarge { path: path.to_owned() });
    }
    Ok(text)
}

/// Which certificate the first of a chain is, and when it is good.
fn facts(certified: &CertifiedKey) -> Option<CertificateFacts> {
    let der = certified.cert.first()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let validity = certificate.validity();
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let moment = |seconds| Timestamp(0).plus_seconds(seconds);
    Some(CertificateFacts {
        fingerprint: Digest(digest.as_ref().try_into().ok()?),
        begins: moment(validity.not_before.timestamp()),
        ends: moment(validity.not_after.timestamp()),
    })
}

/// The site's certificate for its names, the server's own for all others.
#[derive(Debug)]
pub(super) struct SiteCertificate {
    files: CertificateFiles,
    site: RwLock<Arc<CertifiedKey>>,
    own: Arc<dyn ResolvesServerCert>,
}

impl SiteCertificate {
    /// Reads the files. `own` is the TLS of the server's own authority.
    pub(super) fn open(
        files: CertificateFiles,
        own: &ServerConfig,
    ) -> Result<(Arc<Self>, Arc<ServerConfig>), CertificateError> {
        let site = RwLock::new(Arc::new(files.load()?));
        let certificate = Arc::new(Self { files, site, own: own.cert_resolver.clone() });
        let mut config = own.clone();
        config.cert_resolver = certificate.clone();
        Ok((certificate, Arc::new(config)))
    }

    /// When it ends, seconds since 1970; `None` if its dates cannot be read.
    pub(super) fn not_after(&self) -> Option<i64> {
        let site = self.site();
        let (_, certificate) = x509_parser::parse_x509_certificate(site.cert.first()?).ok()?;
        Some(certificate.validity().not_after.timestamp())
    }

    /// Which one it is, and when it is good; `None` if its dates cannot be read.
    pub(super) fn facts(&self) -> Option<CertificateFacts> {
        facts(&self.site())
    }

    fn site(&self) -> Arc<CertifiedKey> {
        self.site.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again. The certificate stays as it was if they are not good.
    fn reload(&self) {
        match self.files.load() {
            Ok(site) => {
                *self.site.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(site);
                tracing::info!(
                    "the REST port has the certificate of {} now",
                    self.files.certificate.display()
                );
            }
            Err(error) => {
                let why = rest::causes(&error);
                tracing::error!("the REST port keeps the certificate that it has: {why}");
            }
        }
    }

    /// Follows the files until `stop`.
    pub(super) async fn follow(self: Arc<Self>, stop: CancellationToken) -> std::io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut look = interval(LOOK_AFTER);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = self.files.stamp();
        loop {
            let wanted = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = hangup.recv() => true,
                _ = look.tick() => false,
            };
            let stamp = self.files.stamp();
            if wanted || stamp != known {
                known = stamp;
                let certificate = self.clone();
                // A panic there would be a defect of the parsers; the certificate stays.
                let _ = tokio::task::spawn_blocking(move || certificate.reload()).await;
            }
        }
    }
}

impl ResolvesServerCert for SiteCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let site = self.site();
        let is_its = |name: &str| {
            let end = ParsedCertificate::try_from(site.end_entity_cert().ok()?).ok()?;
            verify_server_name(&end, &ServerName::try_from(name).ok()?).ok()
        };
        if hello.server_name().and_then(is_its).is_some() {
            return Some(site);
        }
        self.own.resolve(hello)
    }
}

#[cfg(test)]
mod tests;
