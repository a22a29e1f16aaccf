//! Granted devices: from the names in an order to what the container's start makes, and
//! which run has what.
//!
//! What a name means is read again for each run (`inventory::devices`): specs and nodes may have
//! changed since the inventory was sent. The server grants no device twice; a run whose device
//! another one has is refused all the same, by name and by the numbers of the nodes that are no
//! shared ones. What a run has is in `devices.json` of its directory, so that an agent that starts
//! again knows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use api::{
    device::DeviceName,
    run::{RunId, RunUser},
};
use inventory::{
    devices::Offer,
    edits::{Edits, Node, NodeKind},
    soname::soname,
};
use serde::{Deserialize, Serialize};

use crate::{
    container::spec::{DeviceLink, DeviceMount, DeviceNode},
    run_directory::{DEVICES_NAME, JsonFile},
};

/// Variable in which the loader of a container finds directories of libraries (ld.so(8)).
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// Why a run does not get its devices.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The node has none of this name.
    #[error("the node has no device {name} any more")]
    Unknown {
        /// Which.
        name: DeviceName,
    },
    /// Its spec wants something that is not done.
    #[error("{name} of {spec} cannot be granted: {why}")]
    Refused {
        /// Which.
        name: DeviceName,
        /// File of the spec, or `built-in`.
        spec: String,
        /// What.
        why: String,
    },
    /// Something of it is not there.
    #[error("cannot look at {} for {name}", path.display())]
    Look {
        /// Which.
        name: String,
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A node is not what the spec says.
    #[error("{path} of {name} is {found}, and its spec says {told}")]
    Other {
        /// Which.
        name: DeviceName,
        /// The node.
        path: String,
        /// What it is.
        found: String,
        /// What it should be.
        told: String,
    },
    /// Two devices want different nodes at one place.
    #[error("two of the devices want to be {path} in the container")]
    SamePlace {
        /// Where.
        path: String,
    },
    /// Another run has it.
    #[error("run {by} has {device}, which is granted to one at a time")]
    Taken {
        /// The device, or its node.
        device: String,
        /// The other run.
        by: RunId,
    },
}

impl DeviceError {
    /// Whether the node may do better at another time.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::Look { .. } | Self::Taken { .. })
    }
}

/// What a container gets with its devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Granted {
    /// Device nodes to make in the container.
    pub nodes: Vec<DeviceNode>,
    /// Files and directories of the node to mount.
    pub mounts: Vec<DeviceMount>,
    /// Symbolic links to make, once the mounts are there.
    pub links: Vec<DeviceLink>,
    /// GIDs of supplementary groups.
    pub gids: Vec<u32>,
    /// Environment variables, `NAME=VALUE`.
    pub env: Vec<String>,
    /// Directories of libraries.
    pub library_directories: Vec<String>,
    /// What it has alone.
    pub claim: Claim,
}

impl Granted {
    /// The environment of a job with that of its devices: theirs counts where both have a variable.
    /// Directories of libraries are searched after those of the job.
    #[must_use]
    pub fn environment(&self, job: &[String]) -> Vec<String> {
        let mut env = job.to_vec();
        let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
        for pair in &self.env {
            env.retain(|known| name(known) != name(pair));
            env.push(pair.clone());
        }
        if !self.library_directories.is_empty() {
            let known = env
                .iter()
                .position(|pair| name(pair) == LIBRARY_PATH)
                .map(|place| env.remove(place));
            let known = known
                .as_deref()
                .and_then(|pair| pair.split_once('='))
                .map(|(_, directories)| directories.to_owned());
            let directories = known
                .filter(|directories| !directories.is_empty())
                .into_iter()
                .chain(self.library_directories.clone());
            env.push(format!("{LIBRARY_PATH}={}", directories.collect::<Vec<_>>().join(":")));
        }
        env
    }
}

/// Where a run keeps its [`Claim`].
pub const FILE: JsonFile<Claim> = JsonFile::new(DEVICES_NAME);

/// What a run has alone: `devices.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Claim {
    names: BTreeSet<DeviceName>,
    nodes: BTreeSet<DeviceNumbers>,
}

/// A device as the kernel knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct DeviceNumbers {
    block: bool,
    major: u32,
    minor: u32,
}

impl DeviceNumbers {
    fn told(self) -> String {
        let kind = if self.block { "block" } else { "character" };
        format!("the {kind} device {}:{}", self.major, self.minor)
    }
}

/// What the runs of a node have.
#[derive(Debug, Default)]
pub struct Claims(Mutex<BTreeMap<RunId, Claim>>);

impl Claims {
    /// Gives a run what it claims.
    ///
    /// # Errors
    /// [`DeviceError::Taken`]: another has some of it. Nothing changes.
    pub fn take(&self, run: RunId, claim: Claim) -> Result<(), DeviceError> {
        let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (&by, theirs) in claims.iter().filter(|(other, _)| **other != run) {
            let name = theirs.names.intersection(&claim.names).next().map(ToString::to_string);
            let node = || theirs.nodes.intersection(&claim.nodes).next().map(|node| node.told());
            if let Some(device) = name.or_else(node) {
                return Err(DeviceError::Taken { device, by });
            }
        }
        claims.insert(run, claim);
        Ok(())
    }

    /// Notes what a run has that an earlier agent began.
    pub fn adopt(&self, run: RunId, claim: Claim) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(run, claim);
    }

    /// A run is over.
    pub fn release(&self, run: RunId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }
}

/// What a run of `user` gets with the devices `names` of the machine at `root`, which is
/// `/` but in tests.
///
/// # Errors
/// [`DeviceError`].
pub fn resolve(root: &Path, names: &[DeviceName], user: &RunUser) -> Result<Granted, DeviceError> {
    if names.is_empty() {
        return Ok(Granted::default());
    }
    let offers = inventory::devices::offers(root);
    let (mut all, mut claim) = (Edits::default(), Claim::default());
    let mut nodes: BTreeMap<String, (Node, DeviceNode)> = BTreeMap::new();
    for name in names {
        let offer = offers.iter().find(|offer| offer.name == *name);
        let Offer { source, edits, .. } =
            offer.ok_or_else(|| DeviceError::Unknown { name: name.clone() })?;
        if let Some(why) = edits.refused.first() {
            let (name, spec, why) = (name.clone(), source.clone(), why.clone());
            return Err(DeviceError::Refused { name, spec, why });
        }
        claim.names.insert(name.clone());
        for node in &edits.nodes {
            let (numbers, mode) = look(root, name, node)?;
            if !node.shared {
                claim.nodes.insert(numbers);
            }
            let made = made(node, numbers, mode, user);
            let known =
                nodes.entry(node.path.clone()).or_insert_with(|| (node.clone(), made.clone()));
            if known.1 != made {
                return Err(DeviceError::SamePlace { path: node.path.clone() });
            }
        }
        all.add(edits);
    }
    let links = links(root, &all)?;
    let mount = |mount: &inventory::edits::Mount| DeviceMount {
        source: below(root, &mount.source),
        target: mount.target.clone(),
        read_only: mount.read_only,
        no_exec: mount.no_exec,
    };
    Ok(Granted {
        nodes: nodes.into_values().map(|(_, made)| made).collect(),
        mounts: all.mounts.iter().map(mount).collect(),
        links,
        gids: all.gids,
        env: all.env,
        library_directories: all.library_directories,
        claim,
    })
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// The real node, which must be what its spec says, and its permission bits.
fn look(root: &Path, name: &DeviceName, node: &Node) -> Result<(DeviceNumbers, u32), DeviceError> {
    let path = below(root, &node.source);
    let fail = |source| DeviceError::Look { name: name.to_string(), path: path.clone(), source };
    let meta = std::fs::metadata(&path).map_err(fail)?;
    let block = meta.file_type().is_block_device();
    if !block && !meta.file_type().is_char_device() {
        return Err(fail(io::Error::other("it is no device")));
    }
    let numbers =
        DeviceNumbers { block, major: libc::major(meta.rdev()), minor: libc::minor(meta.rdev()) };
    let told = DeviceNumbers {
        block: node.kind.map_or(block, |kind| kind == NodeKind::Block),
        major: node.major.unwrap_or(numbers.major),
        minor: node.minor.unwrap_or(numbers.minor),
    };
    if told != numbers {
        let (name, path) = (name.clone(), node.source.clone());
        return Err(DeviceError::Other { name, path, found: numbers.told(), told: told.told() });
    }
    Ok((numbers, meta.mode() & 0o777))
}

/// The node in the container. It is the user's unless the spec says otherwise: who was granted a
/// device may open it.
fn made(node: &Node, numbers: DeviceNumbers, mode: u32, user: &RunUser) -> DeviceNode {
    DeviceNode {
        path: node.path.clone(),
        block: numbers.block,
        major: numbers.major,
        minor: numbers.minor,
        read: node.read,
        write: node.write,
        mode: node.mode.unwrap_or(mode),
        uid: node.uid.unwrap_or(user.uid),
        gid: node.gid.unwrap_or(user.gid),
    }
}

/// The links of a spec, and those that `ldconfig` would make in its directories of libraries: by
/// the names that libraries give themselves.
fn links(root: &Path, edits: &Edits) -> Result<Vec<DeviceLink>, DeviceError> {
    let mut links: BTreeMap<String, String> =
        edits.links.iter().map(|link| (link.path.clone(), link.target.clone())).collect();
    for mount in &edits.mounts {
        let Some((directory, file)) = mount.target.rsplit_once('/') else { continue };
        let source = below(root, &mount.source);
        if !edits.library_directories.iter().any(|known| known == directory) || !source.is_file() {
            continue;
        }
        let name = File::open(&source).and_then(|library| soname(&library));
        let fail = |error| DeviceError::Look {
            name: mount.target.clone(),
            path: source.clone(),
            source: error,
        };
        if let Some(name) = name.map_err(fail)?.filter(|name| name != file) {
            let path = format!("{directory}/{name}");
            if !edits.mounts.iter().any(|other| other.target == path) {
                links.entry(path).or_insert_with(|| file.to_owned());
            }
        }
    }
    Ok(links.into_iter().map(|(path, target)| DeviceLink { path, target }).collect())
}

#[cfg(test)]
#[path = "devices/tests.rs"]
mod tests;
