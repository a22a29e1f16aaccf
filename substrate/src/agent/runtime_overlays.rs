//! Runtime overlays on the running node: fetched over mutual TLS when the server names a
//! generation, checked against its digest, applied to `/`.
//!
//! [`PATH`] remembers what was applied, from one archive to the next and over
//! restarts of the agent:
//!
//! ```text
//! { "generation": {"digest": "sha256:…", "size": 10240} | null, "manifest": {"files": […], "folders": […]} }
//! ```
//!
//! `generation` is null while an archive is applied in part only; the next one carries on
//! from the manifest.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use api::{channel::FromAgent, enroll::AgentIdentity, ids::Digest, overlay::Generation};
use linux::root::{Ownership, Root};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::backoff::{agent_backoff, jitter};
use crate::{
    fleet_port::{FleetPort, FleetPortError},
    overlay::{MAX_ARCHIVE_BYTES, Manifest, OverlayError, Summary, Tree},
    random::random,
    tls,
};

/// Where the manifest is.
pub const PATH: &str = "/run/bedplate/runtime-overlays.json";

/// The image's own root, from which files come back that leave the overlays.
pub const LOWER: &str = "/run/bedplate/lower";

/// Attempts to fetch one generation, over about a minute. After them the server is told; it names
/// the generation again when the node reconnects or the overlays change.
const MAX_ATTEMPTS: u32 = 6;

/// Most time for one attempt: 256 MiB over a slow link.
const FETCH_DEADLINE: std::time::Duration = std::time::Duration::from_secs(600);

/// Largest manifest read, bytes: 100,000 paths of 100 characters.
const MAX_MANIFEST_BYTES: u64 = 32 << 20;

/// The runtime overlays that are applied, as the node stores it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Applied {
    /// The archive, if it was applied completely.
    pub generation: Option<Generation>,
    /// Files that archives brought, which a later one may take away.
    pub manifest: Manifest,
}

/// Why a generation was not applied.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeOverlayError {
    /// The node's certificate is of no use.
    #[error("cannot use the node's identity")]
    Identity(#[from] tls::TlsError),
    /// No server gave the archive.
    #[error("cannot fetch the overlays")]
    Fetch(#[from] FleetPortError),
    /// It took longer than the deadline.
    #[error("the overlays did not come within {} s", FETCH_DEADLINE.as_secs())]
    Deadline,
    /// What came is not what was named: the overlays changed in between, or something
    /// falsifies them.
    #[error("the overlays fetched are {got}, not {wanted}")]
    Digest {
        /// What was named.
        wanted: Digest,
        /// What came.
        got: Digest,
    },
    /// The archive could not be applied.
    #[error("cannot apply the overlays")]
    Apply(#[from] OverlayError),
    /// What was applied could not be remembered.
    #[error("cannot write {PATH}")]
    Remember(#[source] std::io::Error),
}

impl RuntimeOverlayError {
    /// Whether asking again may help.
    fn may_pass(&self) -> bool {
        match self {
            Self::Fetch(error) => !error.is_final(),
            Self::Deadline | Self::Digest { .. } => true,
            Self::Identity(_) | Self::Apply(_) | Self::Remember(_) => false,
        }
    }
}

/// Where overlays are applied: `/` and its state on a node, directories in tests.
#[derive(Debug, Clone)]
pub struct OverlayTarget {
    /// Root of the file system that overlays are applied to.
    pub root: PathBuf,
    /// The image's own root.
    pub lower: PathBuf,
    /// The file of [`Applied`].
    pub state: PathBuf,
}

impl Default for OverlayTarget {
    fn default() -> Self {
        Self { root: "/".into(), lower: LOWER.into(), state: PATH.into() }
    }
}

impl OverlayTarget {
    /// What was applied before. A damaged file counts as nothing: what it named stays until
    /// somebody removes it.
    #[must_use]
    pub fn applied(&self) -> Applied {
        match read_bounded(&self.state) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, path = %self.state.display(), "the list of applied overlays is damaged; starting again");
                Applied::default()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Applied::default(),
            Err(error) => {
                tracing::warn!(%error, path = %self.state.display(), "cannot read the list of applied overlays");
                Applied::default()
            }
        }
    }

    /// Applies an archive and remembers it.
    ///
    /// # Errors
    /// [`RuntimeOverlayError`]: the digest does not fit, or a change failed.
    pub fn apply(
        &self,
        generation: Generation,
        archive: &[u8],
    ) -> Result<Summary, RuntimeOverlayError> {
        let tree = Tree::read(archive)?;
        let got = tree.digest();
        if got != generation.digest {
            return Err(RuntimeOverlayError::Digest { wanted: generation.digest, got });
        }
        let before = self.applied();
        let lower = self.lower.exists().then_some(self.lower.as_path());
        match tree.apply(&self.root, &before.manifest, lower) {
            Ok((manifest, summary)) => {
                self.remember(&Applied { generation: Some(generation), manifest })?;
                Ok(summary)
            }
            Err(error) => {
                if let OverlayError::Partial { manifest, .. } = &error {
                    self.remember(&Applied { generation: None, manifest: (**manifest).clone() })?;
                }
                Err(error.into())
            }
        }
    }

    fn remember(&self, applied: &Applied) -> Result<(), RuntimeOverlayError> {
        let bytes = serde_json::to_vec(applied)
            .map_err(|error| RuntimeOverlayError::Remember(error.into()))?;
        let directory = self.state.parent().unwrap_or(Path::new("/"));
        let name = Path::new(self.state.file_name().unwrap_or_default());
        let (uid, gid) = linux::root::own_ids();
        Root::open(directory)
            .and_then(|root| {
                root.write_file(name, &mut bytes.as_slice(), Ownership { uid, gid, mode: 0o600 })
            })
            .map_err(|error| RuntimeOverlayError::Remember(error.errno))
    }
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;

    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_MANIFEST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Applies whatever is wanted, one at a time, for ever. A newer wish overtakes attempts
/// for an older one.
pub async fn apply_overlays_forever(
    place: OverlayTarget,
    identity: watch::Receiver<Arc<AgentIdentity>>,
    mut wanted: watch::Receiver<Option<Generation>>,
    applied: watch::Sender<Option<Generation>>,
    outbox: mpsc::Sender<FromAgent>,
) {
    while wanted.changed().await.is_ok() {
        let Some(generation) = *wanted.borrow_and_update() else { continue };
        let Some(result) = attempt(&place, &identity, &mut wanted, generation).await else {
            continue;
        };
        applied.send_replace(place.applied().generation);
        let message = match result {
            Ok(summary) => {
                tracing::info!(
                    digest = %generation.digest, written = summary.written, removed = summary.removed,
                    "runtime overlays applied"
                );
                let Summary { written, removed } = summary;
                FromAgent::OverlaysApplied { generation, written, removed, error: None }
            }
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::error!(digest = %generation.digest, "runtime overlays not applied: {error}");
                FromAgent::OverlaysApplied {
                    generation,
                    written: 0,
                    removed: 0,
                    error: Some(error),
                }
            }
        };
        if outbox.send(message).await.is_err() {
            return;
        }
    }
}

/// The result for `generation`; `None` if another is wanted meanwhile.
async fn attempt(
    place: &OverlayTarget,
    identity: &watch::Receiver<Arc<AgentIdentity>>,
    wanted: &mut watch::Receiver<Option<Generation>>,
    generation: Generation,
) -> Option<Result<Summary, RuntimeOverlayError>> {
    let mut backoff = agent_backoff();
    let mut attempts = 1;
    loop {
        let error = match fetch_and_apply(place, identity, generation).await {
            Err(error) if error.may_pass() && attempts < MAX_ATTEMPTS => error,
            result => return Some(result),
        };
        tracing::warn!(
            attempts,
            "runtime overlays: {:#}; trying again",
            anyhow::Error::from(error)
        );
        attempts += 1;
        tokio::select! {
            () = tokio::time::sleep(backoff.pause(jitter(random()))) => {}
            _ = wanted.changed() => {
                wanted.mark_changed();
                return None;
            }
        }
    }
}

async fn fetch_and_apply(
    place: &OverlayTarget,
    identity: &watch::Receiver<Arc<AgentIdentity>>,
    generation: Generation,
) -> Result<Summary, RuntimeOverlayError> {
    let identity = identity.borrow().clone();
    let port = FleetPort::new(identity.fleet_servers.clone(), tls::authenticated(&identity)?)?;
    let limit = generation.size.min(MAX_ARCHIVE_BYTES);
    let archive =
        tokio::time::timeout(FETCH_DEADLINE, port.get("/node/v1/overlays/runtime", limit))
            .await
            .map_err(|_| RuntimeOverlayError::Deadline)??;
    let place = place.clone();
    let applied = tokio::task::spawn_blocking(move || place.apply(generation, &archive)).await;
    applied.unwrap_or_else(|panic| Err(RuntimeOverlayError::Remember(std::io::Error::other(panic))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &str)]) -> (Generation, Vec<u8>) {
        let (uid, gid) = linux::root::own_ids();
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_uid(uid.into());
            header.set_gid(gid.into());
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        let bytes = tar.into_inner().unwrap();
        let digest = Tree::read(bytes.as_slice()).unwrap().digest();
        (Generation { digest, size: bytes.len() as u64 }, bytes)
    }

    fn place(directory: &Path) -> OverlayTarget {
        let place = OverlayTarget {
            root: directory.join("root"),
            lower: directory.join("lower"),
            state: directory.join("state.json"),
        };
        fs::create_dir(&place.root).unwrap();
        fs::create_dir(&place.lower).unwrap();
        place
    }

    #[test]
    fn what_left_the_overlays_leaves_the_node_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        fs::write(place.lower.join("motd"), "image").unwrap();
        assert_eq!(place.applied(), Applied::default());

        let (first, bytes) = archive(&[("motd", "hello"), ("extra", "x")]);
        assert_eq!(place.apply(first, &bytes).unwrap(), Summary { written: 2, removed: 0 });
        assert_eq!(place.applied().generation, Some(first));

        let (second, bytes) = archive(&[]);
        let restarted = place.clone();
        assert_eq!(restarted.apply(second, &bytes).unwrap(), Summary { written: 0, removed: 2 });
        assert_eq!(fs::read_to_string(place.root.join("motd")).unwrap(), "image");
        assert!(!place.root.join("extra").exists());
        assert_eq!(
            place.applied(),
            Applied { generation: Some(second), manifest: Manifest::default() }
        );
    }

    #[test]
    fn other_bytes_than_named_change_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        let (named, _) = archive(&[("a", "1")]);
        let (_, bytes) = archive(&[("a", "2")]);
        let error = place.apply(named, &bytes).unwrap_err();
        assert!(matches!(error, RuntimeOverlayError::Digest { .. }) && error.may_pass(), "{error}");
        assert_eq!((place.root.join("a").exists(), place.state.exists()), (false, false));
    }

    #[test]
    fn an_archive_applied_in_part_is_no_generation() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        fs::create_dir(place.root.join("taken")).unwrap();
        let (generation, bytes) = archive(&[("first", "x"), ("taken", "x")]);
        let error = place.apply(generation, &bytes).unwrap_err();
        assert!(!error.may_pass(), "{error}");
        let applied = place.applied();
        assert_eq!(applied.generation, None);
        assert_eq!(applied.manifest.files.len(), 1);
    }

    #[test]
    fn a_damaged_list_is_no_obstacle() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        fs::write(&place.state, "{").unwrap();
        let (generation, bytes) = archive(&[("a", "1")]);
        place.apply(generation, &bytes).unwrap();
        assert_eq!(place.applied().generation, Some(generation));
    }
}
