//! What can go wrong with a pull, and how a registry's errors are told apart.

use std::{error::Error, io, path::PathBuf};

use image_store::{OciError, StoreError};
use oci_client::errors::{OciDistributionError, OciErrorCode};

/// Why an image could not be pulled. What was transferred stays in the store for the next pull.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The reference makes no sense.
    #[error(
        "{reference:?} is not an image reference ({problem}); write docker://HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]"
    )]
    Reference {
        /// As given.
        reference: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The HTTP client cannot be made.
    #[error("cannot set up the HTTP client for registries")]
    Client(#[source] Box<OciDistributionError>),
    /// A file with logins cannot be read.
    #[error("cannot read the registry logins in {}; mend or remove the file", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody answers, or not in the way expected.
    #[error(
        "cannot reach the registry {registry}; see whether its name and port are right, whether it runs, and whether \
         it speaks HTTPS (for plain HTTP import with --insecure)"
    )]
    Unreachable {
        /// The registry.
        registry: String,
        /// Why.
        #[source]
        source: Box<OciDistributionError>,
    },
    /// A login is missing or wrong.
    #[error(
        "the registry {registry} refuses access to {repository}; log in on the server, as the user that it runs as, with \
         `podman login {registry}` or `docker login {registry}` (credential helpers are not asked)"
    )]
    Unauthorized {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// Why.
        #[source]
        source: Box<OciDistributionError>,
    },
    /// There is no such tag, or no such repository.
    #[error("the registry {registry} has no {repository}:{version}; {}", known(repository, tags))]
    Unknown {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// Tag or digest asked for.
        version: String,
        /// Tags that there are; empty if there is no such repository, or it cannot be listed.
        tags: Vec<String>,
    },
    /// The registry answered with an error, or with nonsense.
    #[error("the registry {registry} does not give {what} of {repository}")]
    Registry {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// What was asked for.
        what: &'static str,
        /// What it said.
        #[source]
        source: Box<OciDistributionError>,
    },
    /// A transfer broke off and could not be taken up again.
    #[error(
        "{what} of {repository} broke off at {got} of {size} bytes, and {attempts} attempts to go on with the registry \
         {registry} failed; what came is kept: import again to go on from there"
    )]
    Interrupted {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// `layer 1a2b3c4d`.
        what: String,
        /// Bytes that are there.
        got: u64,
        /// Bytes in all.
        size: u64,
        /// Attempts in a row without a byte.
        attempts: u32,
        /// Why the last one failed.
        #[source]
        source: Box<OciDistributionError>,
    },
    /// The registry's own copy of a layer is shorter than its manifest says.
    #[error(
        "the registry {registry} has only {got} of the {size} bytes of {what} of {repository}: the image is damaged \
         there; push it again"
    )]
    Truncated {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// `layer 1a2b3c4d`.
        what: String,
        /// Bytes that it has.
        got: u64,
        /// Bytes in all.
        size: u64,
    },
    /// A layer cannot be stored, or is not what the manifest says.
    #[error("cannot take {what} of {repository} from the registry {registry}")]
    Layer {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// `layer 1a2b3c4d`.
        what: String,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// The manifest cannot be stored.
    #[error("cannot store the manifest")]
    Store {
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The image is not one that can be used.
    #[error(transparent)]
    Image(#[from] OciError),
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
}

fn known(repository: &str, tags: &[String]) -> String {
    if tags.is_empty() {
        format!("it lists no tags of {repository}: see whether the name is right")
    } else {
        format!("it has the tags {}", tags.join(", "))
    }
}

/// The first error of type `E` in the chain.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Trying again can help: the connection broke, or the registry is overloaded.
pub(crate) fn is_transient(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::RequestError(_) | OciDistributionError::IoError(_) => true,
        OciDistributionError::ServerError { code, .. } => *code >= 500 || *code == 429,
        OciDistributionError::RegistryError { .. } => has_code(error, &[OciErrorCode::Toomanyrequests]),
        _ => false,
    }
}

/// No connection came about.
pub(crate) fn is_connect(error: &OciDistributionError) -> bool {
    matches!(error, OciDistributionError::RequestError(e) if e.is_connect())
        || find::<io::Error>(error).is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
}

pub(crate) fn is_unauthorized(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => {
            true
        }
        OciDistributionError::ServerError { code, .. } => matches!(code, 401 | 403),
        _ => has_code(error, &[OciErrorCode::Unauthorized, OciErrorCode::Denied]),
    }
}

pub(crate) fn is_not_found(error: &OciDistributionError) -> bool {
    let codes = [OciErrorCode::ManifestUnknown, OciErrorCode::NameUnknown, OciErrorCode::NotFound];
    match error {
        OciDistributionError::ImageManifestNotFoundError(_) => true,
        OciDistributionError::ServerError { code, .. } => *code == 404,
        _ => has_code(error, &codes),
    }
}

/// The blob has no byte where a transfer was to go on.
pub(crate) fn is_past_the_end(error: &OciDistributionError) -> bool {
    matches!(error, OciDistributionError::ServerError { code: 416, .. })
}

fn has_code(error: &OciDistributionError, codes: &[OciErrorCode]) -> bool {
    match error {
        OciDistributionError::RegistryError { envelope, .. } => {
            envelope.errors.iter().any(|error| codes.contains(&error.code))
        }
        _ => false,
    }
}
