//! OS images, their versions, and long operations with progress.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, ImageName, InvalidId, Timestamp, string_serde};

/// Where the init of an image may be, in the order of looking: those of Linux (`init/main.c`) that
/// are an init, and systemd's own places. A node's kernel argument `init=` names another.
pub const INITS: [&str; 4] =
    ["/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd", "/etc/init"];

/// What an image runs on, in OCI's words: `linux/amd64`, `linux/arm/v6`.
///
/// Always in the one spelling that containerd gives it too: `x86_64` is `amd64`, and a variant that
/// goes without saying is not said (`amd64/v1`, `arm64/v8`), but for `arm`, where it is `v7`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// A platform as documents of OCI have it. Without a variant, or with an empty one, the usual.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let said = variant.map(str::to_lowercase).filter(|variant| !variant.is_empty());
        let is_number = |variant: &str| variant.starts_with(|c: char| c.is_ascii_digit());
        let said =
            said.map(|variant| if is_number(&variant) { format!("v{variant}") } else { variant });
        let architecture = architecture.to_lowercase();
        let (architecture, variant) = match architecture.as_str() {
            "x86_64" | "x86-64" => ("amd64", said),
            "aarch64" => ("arm64", said),
            "i386" => ("386", None),
            "armhf" => ("arm", Some("v7".to_owned())),
            "armel" => ("arm", Some("v6".to_owned())),
            "arm" => ("arm", said.or_else(|| Some("v7".to_owned()))),
            other => (other, said),
        };
        let is_usual = |variant: &String| {
            matches!((architecture, variant.as_str()), ("amd64", "v1") | ("arm64", "v8" | "v8.0"))
        };
        let variant = variant.filter(|variant| !is_usual(variant));
        let (os, architecture) = (os.to_lowercase(), architecture.to_owned());
        Self { os, architecture, variant }
    }

    /// `linux`.
    #[must_use]
    pub fn os(&self) -> &str {
        &self.os
    }

    /// `amd64`, `arm64`…
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// `v6`; `None` where it goes without saying.
    #[must_use]
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }
}

impl Default for Platform {
    /// `linux/amd64`.
    fn default() -> Self {
        Self::new("linux", "amd64", None)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = InvalidId;

    /// `OS/ARCHITECTURE[/VARIANT]`, or an architecture of Linux alone.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        const RULE: &str = "write OS/ARCHITECTURE[/VARIANT], such as linux/arm64 or linux/arm/v7";
        let is_part = |part: &&str| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            (1..=32).contains(&part.len()) && part.chars().all(is_plain)
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(is_part) {
            return Err(InvalidId::new("platform", text, RULE));
        }
        match parts[..] {
            [architecture] if architecture != "linux" => Ok(Self::new("linux", architecture, None)),
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(InvalidId::new("platform", text, RULE)),
        }
    }
}

string_serde!(Platform, "linux/arm64");

/// An image with its versions, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Image {
    /// Its name.
    pub name: ImageName,
    /// Immutable versions, newest first.
    pub versions: Vec<ImageVersion>,
    /// Versions that no node can boot now, newest first; one that cannot be read at all is not in
    /// `versions`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<VersionProblem>,
}

/// Why a version of an image cannot be booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct VersionProblem {
    /// Number of the version.
    pub version: u32,
    /// What is missing or damaged, and how to mend it.
    pub problem: String,
}

/// One immutable version of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct ImageVersion {
    /// Counts from 1 in each image.
    pub version: u32,
    /// Source that the import named: `docker://debian:12`.
    pub source: String,
    /// Digest of the OCI manifest.
    pub manifest: Digest,
    /// `amd64`, `arm64`…, as OCI names them.
    pub architecture: String,
    /// The variant of the architecture (`v6` of `arm`), where one is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Time when the import finished.
    pub imported: Timestamp,
    /// The root file system.
    pub root: Artifact,
    /// Kernels, newest first. An image of an architecture that the server does not boot has none.
    pub kernels: Vec<KernelArtifact>,
    /// What the admin should know: ACLs that squashfs cannot hold, firmware that modules ask for
    /// and the image lacks.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl ImageVersion {
    /// The platform that the version is built for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform::new("linux", &self.architecture, self.variant.as_deref())
    }
}

/// A file of the content-addressed store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Artifact {
    /// What it is: `squashfs`, `vmlinuz`, `initramfs`.
    pub format: String,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// A kernel and the stage-1 initramfs that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct KernelArtifact {
    /// As `uname -r` prints it.
    pub release: String,
    /// The kernel.
    pub kernel: Artifact,
    /// The initramfs.
    pub stage1: Artifact,
    /// Bytes of the initramfs once a kernel has unpacked it; not known of those of
    /// earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage1_unpacked: Option<u64>,
}

/// `POST /v1/images`: starts an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ImportImage {
    /// `docker://HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]`, or `oci:DIR[:TAG]` (a directory
    /// on the server).
    pub source: String,
    /// Name of the image; default: the last part of the repository or directory.
    #[serde(default)]
    pub name: Option<ImageName>,
    /// Speak plain HTTP to a registry that is not on loopback.
    #[serde(default)]
    pub insecure: bool,
    /// The platform to choose where the source has several; default: the one that the server boots.
    /// An image of another architecture is kept, and no node can boot it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Try an image again with which the image converter has crashed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry: bool,
}

/// A long operation. It goes on when the client leaves, and again after the server was killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Operation {
    /// Counts from 1.
    pub id: u64,
    /// What it does: "import docker://… as debian-node".
    pub title: String,
    /// Time when a user asked for the operation.
    pub created: Timestamp,
    /// State of the operation; on failure with its cause.
    pub state: OperationState,
}

/// State of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum OperationState {
    /// Under way; the bars that a client should draw, in order.
    Running {
        /// One bar for each part of the work.
        bars: Vec<Bar>,
        /// What it waits for, with the reason: `waiting for registry.example: connection refused;
        /// next try in 8 s`. Absent while it goes on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waiting: Option<String>,
    },
    /// Ended well.
    Done {
        /// The object that the operation made: "debian-node@2".
        result: String,
    },
    /// Ended without effect.
    Failed {
        /// What failed, why, and what to do.
        error: String,
    },
}

/// One progress bar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Bar {
    /// What is being done: "layer 1a2b3c4d", "squashfs".
    pub label: String,
    /// Progress so far, bytes.
    pub done: u64,
    /// Bytes in all; 0 where that is not known.
    pub total: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_has_one_spelling() {
        for (text, want) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("arm64", "linux/arm64"),
            ("linux/aarch64/8", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/v9", "linux/arm64/v9"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/riscv64", "linux/riscv64"),
        ] {
            let platform: Platform = text.parse().unwrap();
            assert_eq!(platform.to_string(), want);
            assert_eq!(want.parse::<Platform>().unwrap(), platform);
        }
        for bad in ["", "linux", "linux/", "/amd64", "linux/a/b/c", "linux/a b", "linux/\u{e4}"] {
            let error = bad.parse::<Platform>().unwrap_err().to_string();
            assert!(error.contains("OS/ARCHITECTURE[/VARIANT]"), "{bad}: {error}");
        }
    }
}
