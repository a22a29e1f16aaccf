//! What is wrong with nodes and profiles: every rule that a change must keep, over the whole cluster at once.
//!
//! Pure. [`check_cluster`] returns all mistakes; the caller refuses a change that adds one. A change cannot be refused
//! for a mistake that was there before it (an overlay directory that somebody removed, say). A change of one node among
//! thousands costs what it changes: [`recheck`] takes over what an earlier check found of all others.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use api::{
    ids::{ImageName, InvalidId, MacAddr, NodeName, OverlayName, ProfileName},
    machine::MachineSpec,
};

use boot_proto::AddressPlan;
use yaml_tree::did_you_mean;

use crate::{
    resolve::{Profiles, ResolveError},
    store::{NodeRecord, ProfileRecord},
};

mod addresses;
mod fields;
mod network;

pub use fields::is_domain;

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
    /// Whose.
    pub subject: Subject,
    /// Path of the field: `interfaces.eth0.mac`; empty for the whole.
    pub field: String,
    /// What is wrong.
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

/// What the nodes of one change may come to with their profiles, bytes as JSON: 65,536 nodes with 16 KiB
/// each. A large profile has little weight in its document, and much in a cluster.
pub(crate) const MAX_RESOLVED_BYTES: usize = 1 << 30;

/// What one check makes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Mistakes.
    pub findings: usize,
    /// Nodes with their profiles, bytes as JSON.
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

/// A checked reference to an image: `NAME` or `NAME@VERSION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageReference {
    /// The image.
    pub name: ImageName,
    /// The version; `None` follows the newest.
    pub version: Option<u32>,
}

/// Why a text is no reference to an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ImageReferenceError {
    /// What follows the `@`.
    #[error("{0:?} is not a version number")]
    Version(String),
    /// What stands before it.
    #[error(transparent)]
    Name(#[from] InvalidId),
}

impl ImageReference {
    /// Reads `NAME` or `NAME@VERSION`.
    ///
    /// # Errors
    /// [`ImageReferenceError`].
    pub(crate) fn parse(text: &str) -> Result<Self, ImageReferenceError> {
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => {
                let parsed = version.parse::<u32>().ok().filter(|version| *version > 0);
                let number = parsed.ok_or_else(|| ImageReferenceError::Version(version.to_owned()))?;
                (name, Some(number))
            }
            None => (text, None),
        };
        Ok(Self { name: name.parse()?, version })
    }
}

/// Nodes by name, as declared.
pub(crate) type Nodes = BTreeMap<NodeName, Arc<NodeRecord>>;

/// Profiles by name, as declared.
pub(crate) type DeclaredProfiles = BTreeMap<ProfileName, Arc<ProfileRecord>>;

/// What a check of a cluster found and made.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// All mistakes.
    pub findings: BTreeSet<Finding>,
    /// Every node with its profiles applied; those whose profiles cannot be applied are left out.
    pub resolved: BTreeMap<NodeName, Arc<MachineSpec>>,
    /// Mistakes of nodes by themselves; nodes without any are left out.
    own: BTreeMap<NodeName, BTreeSet<Finding>>,
    known: Known,
}

impl Checked {
    /// The check was made with this knowledge.
    #[must_use]
    pub(crate) fn was_with(&self, known: &Known) -> bool {
        self.known == *known
    }
}

/// A node as it was and as it is: one that is new was not, one that is gone is not.
pub(crate) type Difference<'a> = (Option<&'a Arc<NodeRecord>>, Option<&'a Arc<NodeRecord>>);

/// The nodes whose records are not shared, by name. One pass over both: a look-up of each of
/// thousands would cost more than the change.
pub(crate) fn differences<'a>(before: &'a Nodes, after: &'a Nodes) -> Vec<Difference<'a>> {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    let mut found = Vec::new();
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return found,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        let old = if order.is_le() { before.next() } else { None };
        let new = if order.is_ge() { after.next() } else { None };
        match (old.map(|(_, record)| record), new.map(|(_, record)| record)) {
            (Some(old), Some(new)) if Arc::ptr_eq(old, new) => {}
            difference => found.push(difference),
        }
    }
}

/// Checks a cluster.
#[must_use]
pub(crate) fn check_cluster(nodes: &Nodes, profiles: &DeclaredProfiles, known: &Known) -> Checked {
    let nothing = (&Nodes::new(), &DeclaredProfiles::new(), &Checked::default());
    recheck(nodes, profiles, known, nothing, Bounds::NONE)
}

/// Checks a cluster that came from another by a change: gives what [`check_cluster`] gives. `before` are
/// nodes and profiles of the other and what its check found; records that are shared are not looked
/// at again, unless a profile or what nodes may refer to is another. At one of the bounds the check ends
/// with a mistake that the other had not, or with as many as are bounded, and what it gives is not whole.
#[must_use]
pub(crate) fn recheck(
    nodes: &Nodes,
    profiles: &DeclaredProfiles,
    known: &Known,
    before: (&Nodes, &DeclaredProfiles, &Checked),
    bounds: Bounds,
) -> Checked {
    let most = bounds.findings;
    let mut findings = BTreeSet::new();
    let (nodes_before, profiles_before, checked) = before;
    let kept = checked.was_with(known)
        && profiles.len() == profiles_before.len()
        && profiles.iter().zip(profiles_before).all(|(now, then)| Arc::ptr_eq(now.1, then.1));
    let layers = Profiles::of_records(profiles);
    check_profiles(profiles, &layers, known, &mut findings, most);
    let none = Nodes::new();
    let (nodes_before, mut resolved, mut own) = match kept {
        true => (nodes_before, checked.resolved.clone(), checked.own.clone()),
        false => (&none, BTreeMap::new(), BTreeMap::new()),
    };
    let mut weight = 0_usize;
    let mut found = findings.len() + own.values().map(BTreeSet::len).sum::<usize>();
    for (old, new) in differences(nodes_before, nodes) {
        if found >= most {
            break;
        }
        if let Some(old) = old {
            resolved.remove(&old.name);
            found -= own.remove(&old.name).map_or(0, |of_node| of_node.len());
        }
        let Some(record) = new else { continue };
        let name = &record.name;
        let mut of_node = BTreeSet::new();
        let mut note = DiagnosticSink::new(&mut of_node, Subject::Node(name.clone()), most);
        if let Some(cause) = &record.unreadable {
            note.unreadable(cause);
            own.insert(name.clone(), of_node);
            continue;
        }
        weight = weight.saturating_add(layers.weight(&record.spec));
        if weight > bounds.resolved_bytes {
            let message = format!(
                "up to here, nodes that the change concerns have more than {} bytes with their profiles",
                bounds.resolved_bytes
            );
            note.add("profiles", message, Some("make the profiles smaller".to_owned()));
            own.insert(name.clone(), of_node);
            break;
        }
        if let Some(spec) = check_node(record, &layers, profiles, known, &mut note) {
            resolved.insert(name.clone(), Arc::new(spec));
        }
        found += of_node.len();
        if !of_node.is_empty() {
            own.insert(name.clone(), of_node);
        }
    }
    findings.extend(own.values().flatten().cloned());
    check_unique(&resolved, &mut findings);
    Checked { findings, resolved, own, known: known.clone() }
}

fn check_profiles(
    profiles: &DeclaredProfiles,
    layers: &Profiles,
    known: &Known,
    findings: &mut BTreeSet<Finding>,
    most: usize,
) {
    for (name, record) in profiles {
        let mut note = DiagnosticSink::new(findings, Subject::Profile(name.clone()), most);
        if let Some(cause) = &record.unreadable {
            note.unreadable(cause);
            continue;
        }
        fields::check(&record.spec, known, &mut note);
        if let Err(error) = layers.linearise(std::slice::from_ref(&name.to_string())) {
            note.resolve_error(&error, profiles);
        }
    }
}

/// The node with its profiles applied, unless they cannot be.
fn check_node(
    record: &NodeRecord,
    layers: &Profiles,
    profiles: &DeclaredProfiles,
    known: &Known,
    note: &mut DiagnosticSink<'_>,
) -> Option<MachineSpec> {
    fields::check(&record.spec, known, note);
    match layers.resolve(&record.spec) {
        Ok(spec) => {
            fields::check_resolved(&spec, note);
            network::check(&spec, note);
            addresses::check(&spec, &known.addresses, note);
            Some(spec)
        }
        Err(error) => {
            note.resolve_error(&error, profiles);
            None
        }
    }
}

/// Every MAC address and every address belongs to one interface of one node.
fn check_unique(resolved: &BTreeMap<NodeName, Arc<MachineSpec>>, findings: &mut BTreeSet<Finding>) {
    let mut macs: HashMap<MacAddr, (&NodeName, &str)> = HashMap::with_capacity(resolved.len());
    let mut addresses: HashMap<IpAddr, (&NodeName, &str)> = HashMap::with_capacity(resolved.len());
    let mut clash = |node: &NodeName, field: &str, message: String| {
        DiagnosticSink::new(findings, Subject::Node(node.clone()), usize::MAX).add(field, message, None);
    };
    for (node, spec) in resolved {
        for (name, interface) in &spec.interfaces {
            if let Some(mac) = interface.mac {
                if let Some((other, other_interface)) = macs.get(&mac) {
                    let message = format!(
                        "MAC address {mac} already belongs to node {other}, interface {other_interface}"
                    );
                    clash(node, &format!("interfaces.{name}.mac"), message);
                } else {
                    macs.insert(mac, (node, name));
                }
            }
            if let Some(address) = interface.address {
                if let Some((other, other_interface)) = addresses.get(&address.addr()) {
                    let message = format!(
                        "address {} already belongs to node {other}, interface {other_interface}",
                        address.addr()
                    );
                    clash(node, &format!("interfaces.{name}.address"), message);
                } else {
                    addresses.insert(address.addr(), (node, name));
                }
            }
        }
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
        let finding =
            Finding { subject: self.subject.clone(), field: field.to_owned(), message: message.into(), hint };
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
