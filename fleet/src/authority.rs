//! The certificate authority: made at first start, kept in `ca/authority.pem`, mode 0600.
//!
//! The file holds the certificate and then the private key (PKCS #8), both PEM, so that the two can
//! never come apart. It is written under another name, synced and renamed: after a `kill -9` there
//! is either no authority or a whole one. A file that cannot be read is an error and never
//! replaced: all nodes would be locked out.

pub(crate) mod client_log;
pub(crate) mod dates;
pub(crate) mod line_budget;
pub(crate) mod server_certificate;

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use api::ids::{Digest, NodeId, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

pub use self::dates::DateProblem;
use self::dates::Dates;
use crate::{certificates::CertificateFacts, token::Seal};

/// Directory in the state directory.
const DIRECTORY: &str = "ca";

/// File in that directory.
const FILE: &str = "authority.pem";

/// Largest file that is read, bytes. It has about 1 KB.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Life of the authority, seconds: ten years. Nodes pin its fingerprint at each boot, so a new one
/// needs no roll-out.
const AUTHORITY_SECONDS: i64 = 10 * 365 * 86_400;

/// Life of a node's certificate, seconds. The agent renews after half of it.
pub(crate) const CLIENT_SECONDS: i64 = 86_400;

/// Certificates are valid from this much before they are made, for clocks that are a little
/// behind, seconds.
const BACKDATE_SECONDS: i64 = 300;

/// What precedes the number of the enrolment in the URI of a node's certificate.
pub(crate) const EPOCH_URN: &str = "urn:bedplate:epoch:";

/// 2026-01-01. A clock before it was never set; an authority made then would have expired
/// when it is set.
const EARLIEST: Timestamp = Timestamp(1_767_225_600_000_000);

/// Largest certificate signing request, bytes of PEM. One for a P-256 key has about 500.
pub(crate) const MAX_CSR_BYTES: usize = 8 << 10;

/// Something is wrong with the authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file or directory cannot be used.
    #[error("cannot {action} {path}")]
    File {
        /// What was to be done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error(
        "{path} does not hold the certificate authority: {why}; restore it from a backup (removing it makes a new \
         authority: every node must then boot again)"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: DamagedAuthority,
    },
    /// The clock was never set.
    #[error(
        "the clock says {now}; set it before the first start, because the certificate authority is dated by it"
    )]
    Clock {
        /// What it says.
        now: Timestamp,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate for {subject}")]
    Certificate {
        /// For whom.
        subject: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// No randomness.
    #[error("the operating system gave no random bytes")]
    Randomness,
    /// TLS cannot be set up with the authority.
    #[error("cannot set up TLS: {why}")]
    Tls {
        /// Why.
        why: String,
    },
    /// A node's request for a certificate cannot be used.
    #[error("the certificate signing request cannot be used: {why}")]
    Request {
        /// Why.
        why: String,
    },
}

/// Why a text is no certificate authority.
#[derive(Debug, thiserror::Error)]
pub enum DamagedAuthority {
    /// No certificate in PEM.
    #[error("no certificate in it ({0})")]
    NoCertificate(rustls_pki_types::pem::Error),
    /// The end of its certificate is missing.
    #[error("no certificate in it")]
    CutCertificate,
    /// No key in PEM.
    #[error("no private key in it ({0})")]
    NoKey(rustls_pki_types::pem::Error),
    /// A private key that is damaged, or of a kind that the authority does not use.
    #[error("its key cannot be used ({0})")]
    Key(rcgen::Error),
    /// The bytes of the PEM block are no X.509 certificate.
    #[error("its certificate cannot be read ({0})")]
    Certificate(x509_parser::nom::Err<x509_parser::error::X509Error>),
    /// Key and certificate are of two authorities.
    #[error("its key is not that of its certificate")]
    ForeignKey,
    /// Nothing can be issued with them.
    #[error(transparent)]
    Issuer(rcgen::Error),
}

/// The certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    dates: Dates,
    pem: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

/// A node's certificate.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) pem: String,
    pub(crate) not_after: Timestamp,
}

/// A certificate signing request that was read and whose signature is right.
#[derive(Debug)]
pub(crate) struct Request(CertificateSigningRequestParams);

impl Request {
    /// Reads a request. Only its public key will be used.
    pub(crate) fn parse(pem: &str) -> Result<Self, AuthorityError> {
        let bad = |why: String| AuthorityError::Request { why };
        if pem.len() > MAX_CSR_BYTES {
            return Err(bad(format!("it is longer than {MAX_CSR_BYTES} bytes")));
        }
        let request = CertificateSigningRequestParams::from_pem(pem)
            .map_err(|error| bad(error.to_string()))?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(bad("its key is not a P-256 key".to_owned()));
        }
        Ok(Self(request))
    }

    /// Which key it is for: SHA-256 of the public key.
    pub(crate) fn key(&self) -> Digest {
        Digest(Sha256::digest(self.0.public_key.der_bytes()).into())
    }
}

impl Authority {
    /// Reads the authority, or makes it at the first start.
    pub(crate) fn open(state_dir: &Path, now: Timestamp) -> Result<Self, AuthorityError> {
        if let Some(authority) = Self::read(state_dir)? {
            return Ok(authority);
        }
        let directory = state_dir.join(DIRECTORY);
        let path = directory.join(FILE);
        let text = generate(now)?;
        write_whole(&directory, &path, text.as_bytes())?;
        tracing::info!("made a certificate authority: {}", path.display());
        Self::parse(&text).map_err(|why| AuthorityError::Damaged { path, why })
    }

    fn parse(text: &str) -> Result<Self, DamagedAuthority> {
        let certificate = CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(DamagedAuthority::NoCertificate)?;
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
            .map_err(DamagedAuthority::NoKey)?;
        let key = KeyPair::try_from(&key).map_err(DamagedAuthority::Key)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
            .map_err(DamagedAuthority::Certificate)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(DamagedAuthority::ForeignKey);
        }
        let dates = Dates::of(&parsed);
        let pem = certificate_pem(text).ok_or(DamagedAuthority::CutCertificate)?;
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(DamagedAuthority::Issuer)?;
        Ok(Self { issuer, certificate: certificate.clone(), dates, pem })
    }

    /// Reads the authority if there is one. Makes none.
    pub(crate) fn read(state_dir: &Path) -> Result<Option<Self>, AuthorityError> {
        let path = state_dir.join(DIRECTORY).join(FILE);
        match read_bounded(&path) {
            Ok(text) => match Self::parse(&text) {
                Ok(authority) => Ok(Some(authority)),
                Err(why) => Err(AuthorityError::Damaged { path, why }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(AuthorityError::File { action: "read", path, source }),
        }
    }

    /// What is wrong with its dates by this clock.
    pub(crate) fn date_problem(&self, now: Timestamp) -> Option<DateProblem> {
        self.dates.problem(now)
    }

    /// The seal of boot tokens: its key comes from the authority's, so that it is the same
    /// after a restart.
    pub(crate) fn seal(&self) -> Seal {
        Seal::new(&self.issuer.key().serialize_der())
    }

    /// SHA-256 of the DER of the certificate: what stage 1 pins.
    pub(crate) fn fingerprint(&self) -> Digest {
        Digest(Sha256::digest(&self.certificate).into())
    }

    /// Which certificate it has, and when that is good.
    pub(crate) fn facts(&self) -> CertificateFacts {
        let (begins, ends) = (self.dates.begins(), self.dates.ends());
        CertificateFacts { fingerprint: self.fingerprint(), begins, ends }
    }

    /// When it ends: no node trusts this server afterwards.
    pub(crate) fn not_after(&self) -> Timestamp {
        self.dates.ends()
    }

    /// The certificate, PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate, DER.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A node's certificate for the key of its request. Names, life and use are the server's
    /// choice. `epoch`: which enrolment of the node it is of; 0 is not told.
    pub(crate) fn issue(
        &self,
        node: NodeId,
        epoch: u64,
        request: &Request,
        now: Timestamp,
    ) -> Result<Issued, AuthorityError> {
        let subject = node.to_string();
        let failed = |source| AuthorityError::Certificate { subject: subject.clone(), source };
        let not_after = now.plus_seconds(CLIENT_SECONDS);
        let mut params = leaf(&subject, now, not_after)?;
        let urn = format!("urn:bedplate:node:{node}");
        params.subject_alt_names = vec![SanType::URI(urn.try_into().map_err(failed)?)];
        if epoch > 0 {
            let urn = format!("{EPOCH_URN}{epoch}");
            params.subject_alt_names.push(SanType::URI(urn.try_into().map_err(failed)?));
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&request.0.public_key, &self.issuer).map_err(failed)?;
        Ok(Issued { pem: certificate.pem(), not_after })
    }
}

/// What all certificates but the authority's have in common.
fn leaf(
    subject: &str,
    now: Timestamp,
    not_after: Timestamp,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.not_before = date(now.plus_seconds(-BACKDATE_SECONDS));
    params.not_after = date(not_after);
    params.serial_number = Some(serial()?);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A new authority in the shape of the file.
fn generate(now: Timestamp) -> Result<String, AuthorityError> {
    if now < EARLIEST {
        return Err(AuthorityError::Clock { now });
    }
    let failed = |source| AuthorityError::Certificate {
        subject: "the certificate authority".to_owned(),
        source,
    };
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = CertificateParams::default();
    let serial = serial()?;
    params.distinguished_name = DistinguishedName::new();
    // The serial in the name keeps two sites' authorities apart for whoever sees both.
    params.distinguished_name.push(DnType::CommonName, format!("bedplate {serial}"));
    params.not_before = date(now.plus_seconds(-BACKDATE_SECONDS));
    params.not_after = date(now.plus_seconds(AUTHORITY_SECONDS));
    params.serial_number = Some(serial);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}

/// The part of the file that is no secret.
fn certificate_pem(text: &str) -> Option<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let begin = text.find("-----BEGIN CERTIFICATE-----")?;
    let end = begin + text[begin..].find(END)? + END.len();
    Some(format!("{}\n", &text[begin..end]))
}

/// A random serial number: positive, 16 bytes (RFC 5280, section 4.1.2.2).
fn serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| AuthorityError::Randomness)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn date(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn read_bounded(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > MAX_FILE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {MAX_FILE_BYTES} bytes"),
        ));
    }
    fs::read_to_string(path)
}

/// Writes a file so that it is either there as a whole or not at all.
fn write_whole(directory: &Path, path: &Path, bytes: &[u8]) -> Result<(), AuthorityError> {
    let file = |action, path: &Path| {
        let path = path.to_owned();
        move |source| AuthorityError::File { action, path, source }
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(file("make", directory))?;
    let unfinished = path.with_extension("pem.new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut writer = options.open(&unfinished).map_err(file("create", &unfinished))?;
    writer.write_all(bytes).map_err(file("write", &unfinished))?;
    writer.sync_all().map_err(file("write", &unfinished))?;
    fs::rename(&unfinished, path).map_err(file("rename to", path))?;
    let directory_file = fs::File::open(directory).map_err(file("open", directory))?;
    directory_file.sync_all().map_err(file("sync", directory))
}

#[cfg(test)]
#[path = "authority/tests.rs"]
mod tests;
