//! What can go wrong with a pull, and what of it may be over in a moment.

use std::{error::Error, io, path::PathBuf, time::Duration};

use image_store::{OciError, StoreError};
use reqwest::StatusCode;

use crate::{endpoint::shown, reach::OutOfReach};

/// Errors in a chain that are looked at.
const MAX_CHAIN: usize = 32;

/// Why one request brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There was no connection, or it broke.
    #[error("{cause}")]
    Connection {
        /// In a few words: `connection refused`.
        cause: String,
        /// When it happened.
        stage: Stage,
    },
    /// Bytes came, but too few to wait for the rest.
    #[error(
        "it sent {bytes} bytes of {} in {seconds} s, less than the {least_bytes} that \
         registries.least-kb-per-second asks for",
        if *is_whole { "all layers together" } else { "this layer" }
    )]
    Slow {
        /// What came.
        bytes: u64,
        /// In how long.
        seconds: u64,
        /// What is asked of it.
        least_bytes: u64,
        /// `true` for all layers of the pull together.
        is_whole: bool,
    },
    /// A single layer takes too long.
    #[error("it did not send all of it in the {seconds} s of registries.layer-seconds")]
    Overdue {
        /// How long it had.
        seconds: u64,
    },
    /// The answer is an error.
    #[error("{status}{}{message}", if message.is_empty() { "" } else { ": " })]
    Status {
        /// The status.
        status: StatusCode,
        /// Codes of the distribution specification, such as `MANIFEST_UNKNOWN`.
        codes: Vec<String>,
        /// What was said beside it, one line.
        message: String,
        /// How long the registry wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// A document is too large.
    #[error("it has more than {limit} bytes")]
    TooLarge {
        /// The limit, bytes.
        limit: u64,
    },
    /// No URL can be made of the name.
    #[error("no URL can be made of its name: {problem}")]
    Address {
        /// What the parser of URLs says.
        problem: String,
    },
    /// The login is not sent where the registry wants it.
    #[error("it wants logins to be sent to {realm}, which is not HTTPS")]
    TokenService {
        /// The token service that it named.
        realm: String,
    },
    /// The login is not for whom the registry wants it to be sent to.
    #[error(
        "it wants its login to be sent to {origin}; if that is its token service, set \
         token-service: {origin} for it in the server's configuration, registries.hosts"
    )]
    OtherTokenService {
        /// `https://HOST[:PORT]` of the service that it named.
        origin: String,
    },
    /// It is, or leads to, where no pull goes.
    #[error("{why}")]
    OutOfReach {
        /// Which address, and why: for admins and the log.
        why: String,
    },
    /// The answer is not what the specification says.
    #[error("{problem}")]
    Nonsense {
        /// What is wrong with it.
        problem: String,
    },
    /// Something else, which is told in the log alone: whether a port is closed, silent or not a
    /// registry's, and what answers there, is nothing for whoever may name any host.
    #[error("it gives no answer of a registry")]
    NoAnswer,
}

/// When a connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before there was one: nobody listens, the name is not known, the way is closed.
    Connect,
    /// While the two ends agreed on TLS; another try ends in the same way.
    Tls,
    /// Afterwards.
    Open,
    /// The request itself is impossible, for example redirected without end.
    Request,
}

impl RequestError {
    pub(crate) fn out_of_reach(why: OutOfReach) -> Self {
        Self::OutOfReach { why: why.to_string() }
    }

    /// What `reqwest` could not do.
    pub(crate) fn of(error: &reqwest::Error) -> Self {
        let chain = chain(error);
        if let Some(why) = chain.iter().find_map(|error| error.downcast_ref::<OutOfReach>()) {
            return Self::out_of_reach(why.clone());
        }
        let last = chain.last().map_or_else(String::new, |error| shown(&error.to_string()));
        let kinds = || {
            chain.iter().filter_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind)
        };
        let has = |wanted: &[io::ErrorKind]| kinds().any(|kind| wanted.contains(&kind));
        let stage = if error.is_builder() || error.is_redirect() {
            Stage::Request
        } else if error.is_connect() && has(&[io::ErrorKind::InvalidData]) {
            Stage::Tls
        } else if error.is_connect() {
            Stage::Connect
        } else {
            Stage::Open
        };
        let cause = if stage == Stage::Request || stage == Stage::Tls {
            last
        } else if has(&[io::ErrorKind::ConnectionRefused]) {
            "connection refused".to_owned()
        } else if has(&[
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::BrokenPipe,
        ]) {
            "connection reset".to_owned()
        } else if error.is_timeout() || has(&[io::ErrorKind::TimedOut]) {
            "timed out".to_owned()
        } else {
            last
        };
        Self::Connection { cause, stage }
    }

    /// Nothing that is complete came in time.
    pub(crate) fn timed_out() -> Self {
        Self::Connection { cause: "timed out".to_owned(), stage: Stage::Open }
    }

    /// The answer has fewer bytes than it should.
    pub(crate) fn ended_early() -> Self {
        Self::Connection { cause: "the answer ended early".to_owned(), stage: Stage::Open }
    }

    /// Whether asking again may bring more.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Connection { stage, .. } => matches!(stage, Stage::Connect | Stage::Open),
            Self::Slow { .. } | Self::Overdue { .. } => true,
            Self::Status { status, .. } => {
                let is_passing = matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504);
                is_passing || status.as_u16() > 511
            }
            Self::TooLarge { .. }
            | Self::Address { .. }
            | Self::TokenService { .. }
            | Self::OtherTokenService { .. }
            | Self::OutOfReach { .. }
            | Self::NoAnswer
            | Self::Nonsense { .. } => false,
        }
    }

    /// How long the registry wants to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(crate) fn is_unauthorized(&self) -> bool {
        match self {
            Self::Status { status, codes, .. } => {
                matches!(status.as_u16(), 401 | 403) || has(codes, &["UNAUTHORIZED", "DENIED"])
            }
            _ => false,
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        match self {
            Self::Status { status, codes, .. } => {
                let unknown = ["MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND", "BLOB_UNKNOWN"];
                *status == StatusCode::NOT_FOUND || has(codes, &unknown)
            }
            _ => false,
        }
    }

    /// The blob has no byte where a transfer was to go on.
    pub(crate) fn is_past_the_end(&self) -> bool {
        matches!(self, Self::Status { status, .. } if *status == StatusCode::RANGE_NOT_SATISFIABLE)
    }
}

fn has(codes: &[String], wanted: &[&str]) -> bool {
    codes.iter().any(|code| wanted.contains(&code.as_str()))
}

/// An error and what it came from. `io::Error` hides one of them from [`Error::source`].
fn chain<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut all: Vec<&'a (dyn Error + 'static)> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next
        && all.len() < MAX_CHAIN
    {
        all.push(error);
        let hidden = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match hidden {
            Some(hidden) => Some(hidden),
            None => error.source(),
        };
    }
    all
}

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
    #[error("cannot set up the HTTP client for the registry {registry}")]
    Client {
        /// The registry.
        registry: String,
        /// What `reqwest` says of its settings.
        #[source]
        source: reqwest::Error,
    },
    /// A file of certificates cannot be used.
    #[error("cannot use the certificates in {} for the registry {registry}", path.display())]
    Certificates {
        /// The registry.
        registry: String,
        /// The file.
        path: PathBuf,
        /// Why it cannot be read, or what is wrong in it.
        #[source]
        source: io::Error,
    },
    /// A file with logins cannot be read.
    #[error("cannot use the registry logins in {}; mend or remove the file", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No pull goes there.
    #[error(
        "the registry {registry} is out of reach of pulls, or leads to where none goes; an admin can name it in the \
         server's configuration, registries.hosts or registries.allow"
    )]
    OutOfReach {
        /// The registry.
        registry: String,
        /// Which address, and why; `None` where that is in the log alone.
        #[source]
        source: Option<Box<RequestError>>,
    },
    /// Nobody answers, or not in the way expected.
    #[error(
        "cannot reach the registry {registry}; see whether its name and port are right, whether it runs, and whether \
         it speaks HTTPS (for plain HTTP set plain-http in the server's configuration, or import with --insecure)"
    )]
    Unreachable {
        /// The registry.
        registry: String,
        /// Why.
        #[source]
        source: Box<RequestError>,
    },
    /// A login is missing or wrong.
    #[error(
        "the registry {registry} refuses access to {repository}; log in on the server, as the user that it runs as, with \
         `podman login {registry}` or `docker login {registry}` (credential helpers are not asked), or set credentials \
         in the server's configuration"
    )]
    Unauthorized {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// Why.
        #[source]
        source: Box<RequestError>,
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
        /// It said so as registries do, and not with a bare 404.
        is_by_code: bool,
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
        source: Box<RequestError>,
    },
    /// The registry was away for longer than it is waited for.
    #[error(
        "the registry {registry} was away for {} s ({tries} tries), and is waited for no longer; what came is \
         kept: try again to go on from there", waited.as_secs()
    )]
    Away {
        /// The registry.
        registry: String,
        /// Since something came last.
        waited: Duration,
        /// Tries in that time.
        tries: u32,
        /// What the last one brought.
        #[source]
        source: Box<PullError>,
    },
    /// The whole pull took too long, its tries and the pauses between them together.
    #[error(
        "{repository} did not come from the registry {registry} in the {} s of registries.pull-seconds: {got} \
         bytes came, and are kept; try again to go on from there, or raise it", limit.as_secs()
    )]
    TooLong {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// Bytes of layers that came in that time.
        got: u64,
        /// How long it had.
        limit: Duration,
    },
    /// A transfer broke off.
    #[error("{what} of {repository} broke off at {got} of {size} bytes at the registry {registry}")]
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
        /// Why the last attempt failed.
        #[source]
        source: Box<RequestError>,
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

impl PullError {
    /// What is the matter with the registry, if it may be over in a moment.
    pub(crate) fn passing(&self) -> Option<&RequestError> {
        match self {
            Self::Unreachable { source, .. }
            | Self::Unauthorized { source, .. }
            | Self::Registry { source, .. }
            | Self::Interrupted { source, .. } => {
                Some(&**source).filter(|source| source.is_transient())
            }
            _ => None,
        }
    }

    /// Whether what came is not what the digest names.
    pub(crate) fn is_of_other_content(&self) -> bool {
        matches!(self, Self::Layer { source, .. } if matches!(**source, StoreError::DigestMismatch { .. }))
    }

    /// Whether the fault is this machine's, so that no other registry is a way out.
    pub(crate) fn is_ours(&self) -> bool {
        match self {
            Self::Cancelled | Self::Store { .. } | Self::Reference { .. } => true,
            Self::Layer { source, .. } => !matches!(
                **source,
                StoreError::DigestMismatch { .. } | StoreError::SizeMismatch { .. }
            ),
            Self::Image(OciError::Blob { source, .. }) => !matches!(
                source,
                StoreError::DigestMismatch { .. } | StoreError::SizeMismatch { .. }
            ),
            _ => false,
        }
    }
}

fn known(repository: &str, tags: &[String]) -> String {
    if tags.is_empty() {
        format!("it lists no tags of {repository}: see whether the name is right")
    } else {
        format!("it has the tags {}", tags.join(", "))
    }
}
