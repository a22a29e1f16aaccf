//! What the two ends of a channel agree on in their hellos: a protocol version and capabilities.
//!
//! A *version* is raised when what was said before changes its meaning; a *capability* is added
//! when something can be said that could not be said before. Each side offers a range of versions
//! and the capabilities that it knows ([`Offer`]); both sides then use the highest common version
//! and the common capabilities ([`Agreement`]), and send nothing that needs more.
//!
//! | version | spoken by | differs from the one before |
//! |---|---|---|
//! | 1 | commit 244c59b | a hello names one version, and any other ends the connection; so does an unknown message |
//! | 2 | this release | ranges and capabilities; unknown messages are acknowledged and ignored |
//!
//! A release speaks its own version and those of the two releases before it. Servers are upgraded
//! while agents run on, and an image may hold an agent that is newer than the server it boots from:
//! both directions are supported. On the HTTP routes of the fleet port the node sends
//! its range in the header [`HEADER`]; a request without it is one of version 1.

use std::{collections::BTreeSet, fmt, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Oldest version that this release speaks.
pub const MIN_PROTOCOL: u32 = 1;

/// Newest version that this release speaks.
pub const MAX_PROTOCOL: u32 = 2;

/// First version whose hellos name a range, and whose speakers ignore unknown messages.
pub const FIRST_NEGOTIATED: u32 = 2;

/// HTTP header in which a node tells the versions it speaks, and the server those it speaks:
/// `bedplate-protocol: 1-2`.
pub const HEADER: &str = "bedplate-protocol";

/// Capabilities that one hello may name. A longer list is cut off here: it is what a stranger sent.
const MAX_NAMED: usize = 256;

/// Something that a side can say or understand beyond what its protocol version promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Commands that the agent doesn't know are answered with
    /// [`super::FromAgent::Unsupported`].
    Unsupported,
    /// The agent keeps the addresses of [`super::FromServer::Servers`].
    ServerAddresses,
    /// What happens in a run before its end is told with [`super::FromAgent::RunNews`].
    RunNews,
    /// Attempts of several members: the agent prepares a run and starts its process when the server
    /// says [`super::FromServer::ReleaseRun`]; before, it reports
    /// [`crate::run::RunState::Prepared`].
    Attempts,
    /// The state [`crate::run::RunState::Ready`] of a run is understood.
    Ready,
}

impl Capability {
    /// All that this release has.
    pub const ALL: [Self; 5] =
        [Self::Unsupported, Self::ServerAddresses, Self::RunNews, Self::Attempts, Self::Ready];

    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsupported => "unsupported",
            Self::ServerAddresses => "server-addresses",
            Self::RunNews => "run-news",
            Self::Attempts => "attempts",
            Self::Ready => "ready",
        }
    }
}

/// A set of capabilities: on the wire a list of names, of which unknown ones are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities(BTreeSet<Capability>);

impl Capabilities {
    /// All that this release has.
    #[must_use]
    pub fn all() -> Self {
        Self(Capability::ALL.into())
    }

    /// Whether it is in the set.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.0.contains(&capability)
    }

    /// None at all: a peer of version 1.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn common(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }
}

impl Serialize for Capabilities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|capability| capability.name()))
    }
}

impl<'de> Deserialize<'de> for Capabilities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        let known = |name: &String| Capability::ALL.into_iter().find(|known| known.name() == name);
        Ok(Self(names.iter().take(MAX_NAMED).filter_map(known).collect()))
    }
}

/// What one side speaks, as its hello says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Offer {
    /// The oldest version, for peers of version 1: they accept a hello only if this is 1.
    pub protocol: u32,
    /// Oldest version; absent in a hello of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// Newest version; absent in a hello of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// What this side can say or understand beyond its version.
    #[serde(default, skip_serializing_if = "Capabilities::is_empty")]
    pub capabilities: Capabilities,
}

impl Offer {
    /// The offer of this release.
    #[must_use]
    pub fn ours() -> Self {
        let (min, max) = (MIN_PROTOCOL, MAX_PROTOCOL);
        Self { protocol: min, min: Some(min), max: Some(max), capabilities: Capabilities::all() }
    }

    /// What a side of version 1 offers.
    #[must_use]
    pub fn version_1() -> Self {
        Self { protocol: 1, min: None, max: None, capabilities: Capabilities::default() }
    }

    /// The versions in it.
    #[must_use]
    pub fn versions(&self) -> Versions {
        let min = self.min.unwrap_or(self.protocol);
        Versions(min..=self.max.unwrap_or(min))
    }

    /// What this side and the one that offers `theirs` both speak.
    ///
    /// # Errors
    /// [`NoCommonProtocol`] if the ranges don't meet, or one is empty (its oldest version is newer
    /// than its newest).
    pub fn agree(&self, theirs: &Self) -> Result<Agreement, NoCommonProtocol> {
        let protocol = self.versions().newest_common(&theirs.versions())?;
        Ok(Agreement { protocol, capabilities: self.capabilities.common(&theirs.capabilities) })
    }
}

/// What both ends of a channel speak. The server states it in its welcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Agreement {
    /// The version.
    pub protocol: u32,
    /// What may be said beyond it; absent where a side speaks version 1.
    #[serde(default, skip_serializing_if = "Capabilities::is_empty")]
    pub capabilities: Capabilities,
}

impl Agreement {
    /// Whether an agent may speak like this with the server that says it: what is outside of the
    /// agent's own offer is a defect of the server.
    ///
    /// # Errors
    /// [`NoCommonProtocol`] if this release doesn't speak the version.
    pub fn check(&self) -> Result<(), NoCommonProtocol> {
        Offer::ours().versions().newest_common(&Versions(self.protocol..=self.protocol)).map(drop)
    }
}

/// A range of protocol versions: `1-2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions(RangeInclusive<u32>);

impl Versions {
    /// Those that this release speaks.
    #[must_use]
    pub fn ours() -> Self {
        Self(MIN_PROTOCOL..=MAX_PROTOCOL)
    }

    /// The newest version in both ranges.
    ///
    /// # Errors
    /// [`NoCommonProtocol`].
    pub fn newest_common(&self, theirs: &Self) -> Result<u32, NoCommonProtocol> {
        let oldest = *self.0.start().max(theirs.0.start());
        let newest = *self.0.end().min(theirs.0.end());
        if oldest > newest {
            return Err(NoCommonProtocol { ours: self.clone(), theirs: theirs.clone() });
        }
        Ok(newest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.start(), self.0.end())
    }
}

impl FromStr for Versions {
    type Err = UnreadableVersions;

    fn from_str(text: &str) -> Result<Self, UnreadableVersions> {
        let versions = text
            .split_once('-')
            .and_then(|(min, max)| Some(Self(min.trim().parse().ok()?..=max.trim().parse().ok()?)));
        versions.ok_or(UnreadableVersions)
    }
}

/// A value of [`HEADER`] that is no range of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the header {HEADER} must be a range of versions, such as {MIN_PROTOCOL}-{MAX_PROTOCOL}")]
pub struct UnreadableVersions;

/// The two sides have no version in common: more than two releases lie between them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no common protocol version: this side speaks {ours}, the other {theirs}")]
pub struct NoCommonProtocol {
    /// This side's versions.
    pub ours: Versions,
    /// The other side's.
    pub theirs: Versions,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(min: u32, max: u32, capabilities: Capabilities) -> Offer {
        Offer { protocol: min, min: Some(min), max: Some(max), capabilities }
    }

    #[test]
    fn the_newest_common_version_and_the_common_capabilities_are_used() {
        let all = Capabilities::all;
        let version =
            |min, max| Offer::ours().agree(&offer(min, max, all())).map(|both| both.protocol);
        assert_eq!(version(1, 2), Ok(2));
        assert_eq!(version(2, 9), Ok(2));
        assert_eq!(version(0, 1), Ok(1));
        let refused = version(3, 5).unwrap_err().to_string();
        assert_eq!(refused, "no common protocol version: this side speaks 1-2, the other 3-5");
        assert!(version(2, 1).is_err(), "an empty range");
        assert_eq!(
            Offer::ours().agree(&Offer::version_1()),
            Ok(Agreement { protocol: 1, capabilities: Capabilities::default() })
        );
        let both = Offer::ours().agree(&Offer::ours()).unwrap();
        assert!(both.capabilities.has(Capability::Unsupported));
        let none = Offer::ours().agree(&offer(2, 2, Capabilities::default())).unwrap();
        assert!(!none.capabilities.has(Capability::Unsupported));
    }

    #[test]
    fn hellos_of_all_releases_are_read() {
        let read = |text: &str| serde_json::from_str::<Offer>(text).unwrap();
        assert_eq!(read(r#"{"protocol":1}"#), Offer::version_1());
        let later =
            r#"{"protocol":2,"min":2,"max":7,"capabilities":["gangs","unsupported","run-news"]}"#;
        let two = Capabilities([Capability::Unsupported, Capability::RunNews].into());
        assert_eq!(read(later), offer(2, 7, two));
        let ours = serde_json::to_string(&Offer::ours()).unwrap();
        let all =
            r#""capabilities":["unsupported","server-addresses","run-news","attempts","ready"]"#;
        assert_eq!(ours, format!(r#"{{"protocol":1,"min":1,"max":2,{all}}}"#));
        let many = format!(r#"{{"protocol":1,"capabilities":[{}"x"]}}"#, r#""x","#.repeat(100_000));
        assert!(read(&many).capabilities.is_empty());
    }

    #[test]
    fn the_header_names_a_range() {
        let ours = Versions::ours();
        assert_eq!(ours.to_string().parse(), Ok(ours));
        for wrong in ["", "1", "-", "1-", "-2", "one-two", "1-99999999999"] {
            assert_eq!(wrong.parse::<Versions>(), Err(UnreadableVersions), "{wrong}");
        }
    }
}
