//! What is wrong with nodes and profiles: every rule that a change must keep, over the whole
//! cluster at once.
//!
//! Pure. [`check_cluster`] returns all mistakes; the caller refuses a change that adds one. A
//! change cannot be refused for a mistake that was there before it (an overlay directory that
//! somebody removed, say). A change of one node among thousands costs what it changes: [`recheck`]
//! takes over what an earlier check found of all others ([decision
//! 0014](../../docs/decisions/0014-register.md)).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use api::{
    ids::{ImageName, NodeName, OverlayName, ProfileName},
    machine::MachineSpec,
};

use boot_proto::AddressPlan;
use rpds::RedBlackTreeMapSync;
use yaml_tree::did_you_mean;

use crate::{
    resolve::{Profiles, ResolveError},
    store::{NodeRecord, ProfileRecord},
};

mod addresses;
mod claims;
mod fields;
mod network;
mod recheck;

pub use self::fields::is_domain;
pub(crate) use self::recheck::{Checked, Edited, Rechecked, check_cluster, recheck};

/// What a mistake is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A profile.
    Profile(ProfileName),
    /// A node.
    Node(NodeName),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile(name) => write!(f, "profiles.{name}"),
            Self::Node(name) => write!(f, "nodes.{name}"),
        }
    }
}

/// One mistake in one field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Finding {
    /// Node or profile that the field is in.
    pub subject: Subject,
    /// Path of the field: `interfaces.eth0.mac`; empty for the whole.
    pub field: String,
    /// What is wrong, for people.
    pub message: String,
    /// How to mend it, where that can be told.
    pub hint: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.subject)?;
        if !self.field.is_empty() {
            write!(f, ".{}", self.field)?;
        }
        write!(f, ": {}", self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

/// What the nodes of one change may come to with their profiles, bytes as JSON: 65,536 nodes with
/// 16 KiB each. A large profile has little weight in its document, and much in a cluster.
pub(crate) const MAX_RESOLVED_BYTES: usize = 1 << 30;

/// What one check makes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Largest number of mistakes that are collected.
    pub findings: usize,
    /// Largest size of all nodes with their profiles, bytes as JSON.
    pub resolved_bytes: usize,
}

impl Bounds {
    /// Of what is stored: it was bounded when it came.
    pub(crate) const NONE: Self = Self { findings: usize::MAX, resolved_bytes: usize::MAX };
}

/// What nodes may refer to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Overlays, shipped and of the site.
    pub overlays: BTreeSet<OverlayName>,
    /// Images with their versions.
    pub images: BTreeMap<ImageName, BTreeSet<u32>>,
    /// Versions that no node can boot here, and why.
    pub not_bootable: BTreeMap<(ImageName, u32), String>,
    /// Whose addresses are.
    pub addresses: KnownAddresses,
}

/// What the server's configuration says of addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KnownAddresses {
    /// Whose they are.
    pub plan: Arc<AddressPlan>,
    /// Nodes get their addresses here, and not from another DHCP server.
    pub gives_addresses: bool,
}

/// Nodes by name, as declared. A copy shares all of them, and a change of one copies its path.
pub(crate) type Nodes = RedBlackTreeMapSync<NodeName, Arc<NodeRecord>>;

/// Profiles by name, as declared.
pub(crate) type DeclaredProfiles = RedBlackTreeMapSync<ProfileName, Arc<ProfileRecord>>;

/// Nodes with their profiles applied, by name.
pub(crate) type ResolvedNodes = RedBlackTreeMapSync<NodeName, Arc<MachineSpec>>;

fn check_profiles(
    profiles: &DeclaredProfiles,
    layers: &Profiles,
    known: &Known,
    most: usize,
) -> BTreeSet<Finding> {
    let mut findings = BTreeSet::new();
    for (name, record) in profiles {
        let mut note = DiagnosticSink::new(&mut findings, Subject::Profile(name.clone()), most);
        if let Some(cause) = &record.unreadable {
            note.unreadable(cause);
            continue;
        }
        fields::check(&record.spec, known, &mut note);
        if let Err(error) = layers.linearise(std::slice::from_ref(&name.to_string())) {
            note.resolve_error(&error, profiles);
        }
    }
    findings
}

/// `resolved`: the node with its profiles applied, or why they cannot be.
fn check_node(
    record: &NodeRecord,
    resolved: Result<&MachineSpec, &ResolveError>,
    profiles: &DeclaredProfiles,
    known: &Known,
    note: &mut DiagnosticSink<'_>,
) {
    fields::check(&record.spec, known, note);
    match resolved {
        Ok(spec) => {
            fields::check_resolved(spec, note);
            network::check(spec, note);
            addresses::check(spec, &known.addresses, note);
        }
        Err(error) => note.resolve_error(error, profiles),
    }
}

/// Collects the mistakes of one subject.
#[derive(Debug)]
struct DiagnosticSink<'a> {
    findings: &'a mut BTreeSet<Finding>,
    subject: Subject,
    /// With so many, no further ones are made.
    most: usize,
}

impl<'a> DiagnosticSink<'a> {
    fn new(findings: &'a mut BTreeSet<Finding>, subject: Subject, most: usize) -> Self {
        Self { findings, subject, most }
    }

    fn add(&mut self, field: &str, message: impl Into<String>, hint: Option<String>) {
        if self.findings.len() >= self.most {
            return;
        }
        let finding = Finding {
            subject: self.subject.clone(),
            field: field.to_owned(),
            message: message.into(),
            hint,
        };
        self.findings.insert(finding);
    }

    /// Nothing more can be said of it.
    fn unreadable(&mut self, cause: &str) {
        let hint = "give it a whole specification with `bedplate apply`, or delete it".to_owned();
        self.add("", format!("its row in the database cannot be read: {cause}"), Some(hint));
    }

    fn resolve_error(&mut self, error: &ResolveError, profiles: &DeclaredProfiles) {
        match error {
            ResolveError::UnknownProfile { name, listed_by } => {
                let own = match (&self.subject, listed_by) {
                    (Subject::Node(_), listed_by) => listed_by.is_none(),
                    (Subject::Profile(profile), Some(listed_by)) => profile.as_str() == listed_by,
                    (Subject::Profile(_), None) => true,
                };
                // The profile that lists an unknown one has a mistake of its own.
                if own {
                    let hint = did_you_mean(name, profiles.keys().map(ProfileName::as_str));
                    self.add("profiles", error.to_string(), hint);
                }
            }
            other => self.add("profiles", other.to_string(), None),
        }
    }
}

#[cfg(test)]
mod tests;
