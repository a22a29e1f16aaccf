//! Where an image is imported from, as a person writes it.

use api::{
    ids::ImageName,
    sources::{holds_secret, shown},
};

/// A checked source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// `docker://HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]`, without the scheme.
    Registry(String),
    /// `oci:DIR[:TAG]`, without the scheme; the directory is on the server and absolute.
    Layout(String),
}

/// Why a source is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceError {
    /// Another scheme.
    #[error(
        "{source_text:?} is no source; write docker://HOST[:PORT]/REPOSITORY[:TAG] or oci:/DIR[:TAG]"
    )]
    Scheme {
        /// As given.
        source_text: String,
    },
    /// A directory that depends on where the server was started.
    #[error("the directory of {source_text:?} must be an absolute path on the server")]
    Relative {
        /// As given.
        source_text: String,
    },
    /// A login or a query, which would be stored and shown to everybody who lists images.
    #[error(
        "{source_text} has a user, a password or a query in it, which nobody would keep secret; logins of \
         registries are in the server's configuration (`registries`)"
    )]
    Secret {
        /// As given, without what is secret.
        source_text: String,
    },
    /// No name can be made of it.
    #[error("no image name can be made of {source_text:?}; give one")]
    Name {
        /// As given.
        source_text: String,
    },
}

impl Source {
    /// Reads a source.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub(crate) fn parse(text: &str) -> Result<Self, SourceError> {
        if holds_secret(text) {
            return Err(SourceError::Secret { source_text: shown(text).into_owned() });
        }
        if let Some(reference) = text.strip_prefix("docker://") {
            if reference.is_empty() {
                return Err(SourceError::Scheme { source_text: shown(text).into_owned() });
            }
            return Ok(Self::Registry(reference.to_owned()));
        }
        match text.strip_prefix("oci:") {
            Some(reference) if reference.starts_with('/') => Ok(Self::Layout(reference.to_owned())),
            Some(_) => Err(SourceError::Relative { source_text: shown(text).into_owned() }),
            None => Err(SourceError::Scheme { source_text: shown(text).into_owned() }),
        }
    }

    /// The last part of the repository or directory, made fit.
    ///
    /// # Errors
    /// [`SourceError::Name`].
    pub(crate) fn default_name(&self) -> Result<ImageName, SourceError> {
        let (Self::Registry(whole) | Self::Layout(whole)) = self;
        let without_digest = whole.split_once('@').map_or(whole.as_str(), |(name, _)| name);
        let last = without_digest.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let name = last.split_once(':').map_or(last, |(name, _)| name);
        let fit: String = name
            .to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
            .collect();
        fit.trim_matches('-').parse().map_err(|_| SourceError::Name { source_text: whole.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_last_part() {
        let name = |text: &str| {
            Source::parse(text).and_then(|source| source.default_name()).map(|n| n.to_string())
        };
        assert_eq!(
            name("docker://127.0.0.1:5000/site/debian-node:12").as_deref(),
            Ok("debian-node")
        );
        assert_eq!(name("docker://h/Debian_Node@sha256:00").as_deref(), Ok("debian-node"));
        assert_eq!(name("oci:/srv/images/rocky9:latest").as_deref(), Ok("rocky9"));
        assert_eq!(name("oci:/srv/images/rocky9/").as_deref(), Ok("rocky9"));
        assert_eq!(
            name("oci:/").unwrap_err().to_string(),
            "no image name can be made of \"/\"; give one"
        );
    }

    #[test]
    fn a_source_with_a_login_is_refused_without_telling_it() {
        for text in [
            "docker://user:PASSWORD@h/x:1",
            "user:PASSWORD@h/x",
            "docker://h/x?token=PASSWORD",
            "https://PASSWORD@h/x",
        ] {
            let error = Source::parse(text).unwrap_err();
            assert!(matches!(error, SourceError::Secret { .. }), "{text}");
            assert!(
                !error.to_string().contains("PASSWORD")
                    && !format!("{error:?}").contains("PASSWORD")
            );
        }
    }

    #[test]
    fn other_sources_are_refused() {
        assert!(matches!(Source::parse("debian:12"), Err(SourceError::Scheme { .. })));
        assert!(matches!(Source::parse("docker://"), Err(SourceError::Scheme { .. })));
        assert!(matches!(Source::parse("oci:images/x"), Err(SourceError::Relative { .. })));
    }
}
