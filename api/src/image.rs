//! OS images, their versions, and long operations with progress.

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, ImageName, Timestamp};

/// Where the init of an image may be, in the order of looking: those of Linux (`init/main.c`) that
/// are an init, and systemd's own places. A node's kernel argument `init=` names another.
pub const INITS: [&str; 4] = ["/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd", "/etc/init"];

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
    /// Where it was imported from.
    pub source: String,
    /// Digest of the OCI manifest.
    pub manifest: Digest,
    /// `amd64`, `arm64`…, as OCI names them.
    pub architecture: String,
    /// When the import ended.
    pub imported: Timestamp,
    /// The root file system.
    pub root: Artifact,
    /// Kernels, newest first.
    pub kernels: Vec<KernelArtifact>,
    /// What the admin should know: ACLs that squashfs cannot hold, firmware that modules ask for and the image lacks.
    #[serde(default)]
    pub warnings: Vec<String>,
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
}

/// `POST /v1/images`: starts an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ImportImage {
    /// `docker://HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]`, or `oci:DIR[:TAG]` (a folder on the server).
    pub source: String,
    /// Name of the image; default: the last part of the repository or folder.
    #[serde(default)]
    pub name: Option<ImageName>,
    /// Speak plain HTTP to a registry that is not on loopback.
    #[serde(default)]
    pub insecure: bool,
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
    /// When it was asked for.
    pub created: Timestamp,
    /// How it stands.
    pub state: OperationState,
}

/// How an operation stands.
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
        /// What came of it: "debian-node@2".
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
    /// Bytes done.
    pub done: u64,
    /// Bytes in all; 0 where that is not known.
    pub total: u64,
}
