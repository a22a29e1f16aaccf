//! What users are told of pulls that fail. Whoever may start workflows may name any host and port,
//! so an error must not tell what is there: a closed port, one that is silent, one that speaks
//! something else, what a page of the site says. Admins have all of it in the log.
//!
//! A registry that the configuration names is told of as it is. Any other is known by the codes of
//! the distribution specification; what comes without them is one error,
//! [`RequestError::NoAnswer`].

use std::error::Error as _;

use image_store::{OciError, StoreError};

use crate::{
    PullError, PullOptions,
    error::RequestError,
    registries::{Registries, RegistryHost},
};

/// For whom a pull is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Audience {
    /// An admin, who may name a registry wherever it is (but not a port of the server's own) and is
    /// told all. Where the registry leads is held against the list nevertheless.
    Admin,
    /// Somebody who may start workflows.
    #[default]
    User,
}

/// Codes of errors that the distribution specification has, and its forerunner. Who answers with
/// one is a registry.
const CODES: [&str; 15] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DENIED",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "NOT_FOUND",
    "SIZE_INVALID",
    "TOOMANYREQUESTS",
    "UNAUTHORIZED",
    "UNSUPPORTED",
];

impl PullOptions {
    /// An error as it is told to whoever wants the image. What is left out of it is logged.
    pub(crate) fn told(&self, host: &RegistryHost, error: PullError) -> PullError {
        match self.wanted_by {
            Audience::Admin => error,
            Audience::User => {
                let whole = causes(&error);
                let told = for_users(error, &self.registries, host);
                if causes(&told) != whole {
                    tracing::warn!(registry = %host, "a pull failed: {whole}");
                }
                told
            }
        }
    }

    /// Why a registry is waited for, as it is told to whoever wants the image.
    pub(crate) fn wait_reason_for_users(
        &self,
        host: &RegistryHost,
        cause: RequestError,
    ) -> RequestError {
        let is_whole = self.wanted_by == Audience::Admin || self.registries.names(host);
        if is_whole { cause } else { cause.for_strangers() }
    }
}

fn causes(error: &PullError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn for_users(error: PullError, registries: &Registries, host: &RegistryHost) -> PullError {
    match error {
        // Where the registry led to.
        PullError::OutOfReach { registry, .. } => PullError::OutOfReach { registry, source: None },
        error if registries.names(host) => error,
        error => for_strangers(error, host),
    }
}

/// Of a registry that nobody has vouched for.
fn for_strangers(error: PullError, host: &RegistryHost) -> PullError {
    let no_answer = || PullError::Unreachable {
        registry: host.to_string(),
        source: Box::new(RequestError::NoAnswer),
    };
    match error {
        PullError::Unreachable { .. } => no_answer(),
        PullError::Unauthorized { registry, repository, source } => match source.for_strangers() {
            RequestError::NoAnswer => no_answer(),
            source => PullError::Unauthorized { registry, repository, source: Box::new(source) },
        },
        PullError::Registry { registry, repository, what, source } => {
            match source.for_strangers() {
                RequestError::NoAnswer => no_answer(),
                source => {
                    PullError::Registry { registry, repository, what, source: Box::new(source) }
                }
            }
        }
        PullError::Unknown { tags, is_by_code: false, .. } if tags.is_empty() => no_answer(),
        // What is no manifest may be any page.
        PullError::Image(
            OciError::Document { what: "manifest" | "index", .. }
            | OciError::Blob {
                what: "manifest",
                source: StoreError::DigestMismatch { .. } | StoreError::SizeMismatch { .. },
                ..
            },
        ) => no_answer(),
        // Layers may be at other hosts.
        PullError::Interrupted { registry, repository, what, got, size, source } => {
            let source = Box::new(source.for_strangers());
            PullError::Interrupted { registry, repository, what, got, size, source }
        }
        PullError::Away { registry, waited, tries, source } => match for_strangers(*source, host) {
            // How many tries there were tells whether they were refused or not answered.
            PullError::Unreachable { .. } => no_answer(),
            source => PullError::Away { registry, waited, tries, source: Box::new(source) },
        },
        error => error,
    }
}

impl RequestError {
    /// Whether a registry has answered, and not just any server.
    pub(crate) fn is_by_code(&self) -> bool {
        matches!(self, Self::Status { codes, .. } if codes.iter().any(|code| is_code(code)))
    }

    /// What is told of a host that nobody has vouched for.
    fn for_strangers(&self) -> Self {
        match self {
            Self::Status { status, codes, retry_after, .. } if self.is_by_code() => {
                let codes: Vec<String> =
                    codes.iter().filter(|code| is_code(code)).cloned().collect();
                let message = codes.join(", ");
                Self::Status { status: *status, codes, message, retry_after: *retry_after }
            }
            // Told of layers, which a registry has promised.
            Self::Slow { .. } | Self::Overdue { .. } => self.clone(),
            _ => Self::NoAnswer,
        }
    }
}

fn is_code(code: &str) -> bool {
    CODES.contains(&code)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use api::ids::Digest;
    use reqwest::StatusCode;

    use super::*;
    use crate::error::Stage;

    fn host() -> RegistryHost {
        "10.0.0.1:8080".parse().unwrap()
    }

    fn status(status: StatusCode, codes: &[&str], message: &str) -> Box<RequestError> {
        let codes = codes.iter().map(|code| (*code).to_owned()).collect();
        Box::new(RequestError::Status {
            status,
            codes,
            message: message.to_owned(),
            retry_after: None,
        })
    }

    fn registry_error(source: Box<RequestError>) -> PullError {
        let (registry, repository) = (host().to_string(), "x".to_owned());
        PullError::Registry { registry, repository, what: "the manifest", source }
    }

    fn unreachable(cause: &str, stage: Stage) -> PullError {
        let source = Box::new(RequestError::Connection { cause: cause.to_owned(), stage });
        PullError::Unreachable { registry: host().to_string(), source }
    }

    /// All that tells what is at a host that is no registry.
    fn probes() -> Vec<PullError> {
        let invalid = |what| OciError::Document {
            what,
            digest: Digest([1; 32]),
            problem: "invalid type: string \"secret\"".to_owned(),
        };
        let refused = unreachable("connection refused", Stage::Connect);
        vec![
            unreachable("connection refused", Stage::Connect),
            unreachable("timed out", Stage::Connect),
            unreachable("received corrupt message of type InvalidContentType", Stage::Tls),
            registry_error(Box::new(RequestError::Connection {
                cause: "invalid HTTP version parsed".to_owned(),
                stage: Stage::Open,
            })),
            registry_error(status(StatusCode::OK, &[], "220 mail.site ESMTP")),
            registry_error(status(StatusCode::FORBIDDEN, &["SECRET"], "SECRET: of the site")),
            registry_error(Box::new(RequestError::TooLarge { limit: 1 })),
            registry_error(Box::new(RequestError::TokenService {
                realm: "http://secret".to_owned(),
            })),
            PullError::Unauthorized {
                registry: host().to_string(),
                repository: "x".to_owned(),
                source: status(StatusCode::UNAUTHORIZED, &[], "log in to the secret"),
            },
            PullError::Unknown {
                registry: host().to_string(),
                repository: "x".to_owned(),
                version: "1".to_owned(),
                tags: Vec::new(),
                is_by_code: false,
            },
            PullError::Image(invalid("manifest")),
            PullError::Image(invalid("index")),
            PullError::Away {
                registry: host().to_string(),
                waited: Duration::from_secs(300),
                tries: 37,
                source: Box::new(refused),
            },
        ]
    }

    #[test]
    fn what_is_no_registry_is_told_in_the_same_words() {
        let expected = "cannot reach the registry 10.0.0.1:8080; see whether its name and port are right, whether \
                        it runs, and whether it speaks HTTPS (for plain HTTP set plain-http in the server's \
                        configuration, or import with --insecure): it gives no answer of a registry";
        for error in probes() {
            let whole = causes(&error);
            let told = PullOptions::default().told(&host(), error);
            assert_eq!(causes(&told), expected, "{whole}");
        }
    }

    #[test]
    fn admins_and_users_of_named_registries_are_told_all() {
        let admin = PullOptions { wanted_by: Audience::Admin, ..PullOptions::default() };
        let mut registries = Registries::default();
        registries.hosts.insert(host(), crate::HostSettings::default());
        let named = PullOptions { registries: registries.into(), ..PullOptions::default() };
        for options in [admin, named] {
            for (error, whole) in probes().into_iter().zip(probes()) {
                assert_eq!(causes(&options.told(&host(), error)), causes(&whole));
            }
        }
    }

    #[test]
    fn a_registry_is_known_by_its_codes() {
        let told = |error| causes(&PullOptions::default().told(&host(), error));
        let throttled = status(
            StatusCode::TOO_MANY_REQUESTS,
            &["TOOMANYREQUESTS", "SECRET"],
            "SECRET: internal",
        );
        assert_eq!(
            told(registry_error(throttled)),
            "the registry 10.0.0.1:8080 does not give the manifest of x: 429 Too Many Requests: TOOMANYREQUESTS"
        );
        let wait = |cause| PullOptions::default().wait_reason_for_users(&host(), cause).to_string();
        let refused = RequestError::Connection {
            cause: "connection refused".to_owned(),
            stage: Stage::Connect,
        };
        assert_eq!(wait(refused), "it gives no answer of a registry");
    }

    #[test]
    fn where_a_registry_leads_is_in_the_log_alone() {
        let why = "127.0.0.1:9470, a port of this server".to_owned();
        let source = Some(Box::new(RequestError::OutOfReach { why }));
        let error = PullError::OutOfReach { registry: host().to_string(), source };
        let told = causes(&PullOptions::default().told(&host(), error));
        assert!(told.contains("10.0.0.1:8080 is out of reach") && !told.contains("9470"), "{told}");
    }
}
