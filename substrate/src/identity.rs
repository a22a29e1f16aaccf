//! Who this node is: its key, and the file that stage 1 leaves for the agent
//! ([`api::enroll::AgentIdentity`]).
//!
//! The key is made on the node and never leaves it: only a certificate signing request goes out.
//! The file is JSON, mode 0600, in a directory of mode 0700 in RAM, so it is gone after a reboot.

use std::{
    fs,
    path::{Path, PathBuf},
};

use api::enroll::AgentIdentity;
use linux::root::{Ownership, Root};

/// Directory of everything that stage 1 leaves, mode 0700.
pub const DIRECTORY: &str = "/run/bedplate";

/// Where the identity is.
pub const PATH: &str = "/run/bedplate/agent.json";

/// Why a key or an identity cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The random source or the curve failed.
    #[error("cannot make a private key")]
    MakeKey(#[source] rcgen::Error),
    /// The PEM is no P-256 key in PKCS #8.
    #[error("cannot read the private key")]
    ReadKey(#[source] rcgen::Error),
    /// Signing failed.
    #[error("cannot make the certificate signing request")]
    Request(#[source] rcgen::Error),
    /// The file cannot be read: stage 1 did not run, or not with root rights.
    #[error("cannot read the node's identity {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what stage 1 writes.
    #[error("the node's identity {} is damaged; a reboot makes a new one", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where.
        #[source]
        source: serde_json::Error,
    },
    /// The file cannot be written.
    #[error("cannot store the node's identity")]
    Store(#[source] linux::LinuxError),
}

/// The node's private key: ECDSA on P-256.
pub struct NodeKey {
    pair: rcgen::KeyPair,
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeKey(secret)")
    }
}

impl NodeKey {
    /// A new key.
    ///
    /// # Errors
    /// [`IdentityError::MakeKey`].
    pub fn generate() -> Result<Self, IdentityError> {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(IdentityError::MakeKey)?;
        Ok(Self { pair })
    }

    /// The key of an [`AgentIdentity`].
    ///
    /// # Errors
    /// [`IdentityError::ReadKey`].
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        Ok(Self { pair: rcgen::KeyPair::from_pem(pem).map_err(IdentityError::ReadKey)? })
    }

    /// PKCS #8 PEM, for the identity file and TLS only.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.pair.serialize_pem()
    }

    /// A PKCS #10 request, PEM. It names nothing: the server sets the names.
    ///
    /// # Errors
    /// [`IdentityError::Request`].
    pub fn signing_request(&self) -> Result<String, IdentityError> {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters
            .serialize_request(&self.pair)
            .and_then(|request| request.pem())
            .map_err(IdentityError::Request)
    }
}

/// Reads the identity at `path` ([`PATH`]).
///
/// # Errors
/// [`IdentityError::Read`], [`IdentityError::Parse`].
pub fn load(path: &Path) -> Result<AgentIdentity, IdentityError> {
    let text =
        fs::read(path).map_err(|source| IdentityError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&text)
        .map_err(|source| IdentityError::Parse { path: path.to_owned(), source })
}

/// Writes the identity to `path` ([`PATH`]) with mode 0600, in one step. Its directory must exist.
///
/// # Errors
/// [`IdentityError::Store`].
pub fn store(path: &Path, identity: &AgentIdentity) -> Result<(), IdentityError> {
    let text = serde_json::to_vec_pretty(identity)
        .map_err(|source| IdentityError::Parse { path: path.to_owned(), source })?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let name = Path::new(path.file_name().unwrap_or_default());
    let (uid, gid) = linux::root::own_ids();
    Root::open(directory)
        .and_then(|root| {
            root.write_file(name, &mut text.as_slice(), Ownership { uid, gid, mode: 0o600 })
        })
        .map_err(IdentityError::Store)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_request_is_signed_by_the_key_and_names_nothing() {
        let key = NodeKey::generate().unwrap();
        let request = key.signing_request().unwrap();
        let parsed = rcgen::CertificateSigningRequestParams::from_pem(&request).unwrap();
        assert_eq!(parsed.params.distinguished_name.iter().count(), 0);
        assert!(parsed.params.subject_alt_names.is_empty());
        // The same key again after the file.
        let again = NodeKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.pair.public_key_pem(), key.pair.public_key_pem());
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }

    #[test]
    fn the_file_is_secret_and_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.json");
        let identity = AgentIdentity {
            node: "n1".parse().unwrap(),
            id: "6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11".parse().unwrap(),
            fleet_servers: vec!["10.0.0.1:9443".parse().unwrap()],
            ca: "CA".into(),
            certificate: "CERTIFICATE".into(),
            key: "KEY".into(),
            not_after: api::ids::Timestamp(7),
            image: "debian-node@2".into(),
        };
        store(&path, &identity).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(load(&path).unwrap(), identity);
        fs::write(&path, "{").unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("damaged"));
    }
}
