//! All nodes and profiles at one moment, resolved; and a draft of the next moment.
//!
//! Pure. The provisioner holds one [`Cluster`], makes a [`Draft`] of it for each change, has it checked as a whole, writes
//! what differs in one transaction and then shows the new cluster to everybody. Records are shared, so that a change
//! of one node among 10,000 copies pointers only.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use api::{
    ids::{MacAddr, NodeId, NodeName, ProfileName},
    machine::MachineSpec,
};

use crate::{
    check::{Finding, Known, Subject, check_cluster},
    store::{NodeRecord, ProfileRecord, Write},
};

/// Nodes that one cluster may have: what the host lists of one request can name.
pub const MAX_NODES: usize = crate::hostlist::MAX_NAMES;

/// All nodes and profiles at one moment.
#[derive(Debug, Default)]
pub struct Cluster {
    /// Nodes as declared.
    pub nodes: BTreeMap<NodeName, Arc<NodeRecord>>,
    /// Profiles as declared.
    pub profiles: BTreeMap<ProfileName, Arc<ProfileRecord>>,
    /// Nodes with their profiles applied.
    pub resolved: BTreeMap<NodeName, Arc<MachineSpec>>,
    by_id: HashMap<NodeId, NodeName>,
    by_mac: HashMap<MacAddr, NodeName>,
}

/// Why a change was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// An object that is not there.
    #[error("{kind} {name:?} does not exist")]
    NotFound {
        /// `node` or `profile`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// An object that should be new.
    #[error("{kind} {name:?} exists already")]
    Exists {
        /// `node` or `profile`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// `If-Match` named another version.
    #[error("{kind} {name:?} has version {is} and the change was made on version {expected}; read it again")]
    VersionMismatch {
        /// `node` or `profile`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Its version.
        is: u64,
        /// The version that the change was made on.
        expected: u64,
    },
    /// A specification that cannot be read.
    #[error("{kind} {name:?}: {cause}")]
    Spec {
        /// `node` or `profile`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What the decoder says.
        cause: String,
    },
    /// Too many nodes.
    #[error("a cluster has at most {MAX_NODES} nodes")]
    TooMany,
    /// The cluster would have mistakes that it does not have now.
    #[error("{}", list(findings))]
    Mistakes {
        /// All of them.
        findings: Vec<Finding>,
    },
}

/// Mistakes one under the other, the first few of many.
fn list(findings: &[Finding]) -> String {
    let shown = 20;
    let mut lines: Vec<String> = findings.iter().take(shown).map(Finding::to_string).collect();
    if findings.len() > shown {
        lines.push(format!("and {} more", findings.len() - shown));
    }
    lines.join("\n")
}

impl Cluster {
    /// A cluster as stored.
    #[must_use]
    pub fn new(nodes: Vec<NodeRecord>, profiles: Vec<ProfileRecord>) -> Self {
        let draft = Draft {
            nodes: nodes.into_iter().map(|node| (node.name.clone(), Arc::new(node))).collect(),
            profiles: profiles.into_iter().map(|one| (one.name.clone(), Arc::new(one))).collect(),
        };
        let (_, resolved) = check_cluster(&draft.nodes, &draft.profiles, &Known::default());
        Self::assemble(draft, resolved)
    }

    fn assemble(draft: Draft, resolved: BTreeMap<NodeName, MachineSpec>) -> Self {
        let by_id = draft.nodes.values().map(|node| (node.id, node.name.clone())).collect();
        let macs = resolved.iter().flat_map(|(name, spec)| {
            spec.interfaces.values().filter_map(move |interface| Some((interface.mac?, name.clone())))
        });
        let by_mac = macs.collect();
        let resolved = resolved.into_iter().map(|(name, spec)| (name, Arc::new(spec))).collect();
        Self { nodes: draft.nodes, profiles: draft.profiles, resolved, by_id, by_mac }
    }

    /// The node with this identity.
    #[must_use]
    pub fn by_id(&self, id: NodeId) -> Option<&Arc<NodeRecord>> {
        self.nodes.get(self.by_id.get(&id)?)
    }

    /// The node that has an interface with this hardware address.
    #[must_use]
    pub fn by_mac(&self, mac: MacAddr) -> Option<&Arc<NodeRecord>> {
        self.nodes.get(self.by_mac.get(&mac)?)
    }

    /// A draft of a change.
    #[must_use]
    pub fn draft(&self) -> Draft {
        Draft { nodes: self.nodes.clone(), profiles: self.profiles.clone() }
    }

    /// Checks a draft and says what must be written.
    ///
    /// # Errors
    /// [`ChangeError::Mistakes`] with every mistake that this cluster does not have already.
    pub fn finish(&self, draft: Draft, known: &Known) -> Result<(Self, Vec<Write>), ChangeError> {
        if draft.nodes.len() > MAX_NODES {
            return Err(ChangeError::TooMany);
        }
        let (after, resolved) = check_cluster(&draft.nodes, &draft.profiles, known);
        if !after.is_empty() {
            let (before, _) = check_cluster(&self.nodes, &self.profiles, known);
            let findings: Vec<Finding> = after.difference(&before).cloned().collect();
            if !findings.is_empty() {
                return Err(ChangeError::Mistakes { findings });
            }
        }
        let writes = self.writes(&draft);
        Ok((Self::assemble(draft, resolved), writes))
    }

    /// Deletions first, so that a name is free before it is taken again.
    fn writes(&self, draft: &Draft) -> Vec<Write> {
        let mut writes = Vec::new();
        for (name, node) in &self.nodes {
            if draft.nodes.get(name).is_none_or(|kept| kept.id != node.id) {
                writes.push(Write::DeleteNode { id: node.id, version: node.version });
            }
        }
        for (name, profile) in &self.profiles {
            if !draft.profiles.contains_key(name) {
                writes.push(Write::DeleteProfile { name: name.clone(), version: profile.version });
            }
        }
        for (name, profile) in &draft.profiles {
            if self.profiles.get(name).is_none_or(|old| old.version != profile.version) {
                writes.push(Write::PutProfile(profile.as_ref().clone()));
            }
        }
        for (name, node) in &draft.nodes {
            if self.nodes.get(name).is_none_or(|old| old.id != node.id || old.version != node.version) {
                writes.push(Write::PutNode(node.as_ref().clone()));
            }
        }
        writes
    }
}

/// A change under way.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Nodes as they shall be.
    pub nodes: BTreeMap<NodeName, Arc<NodeRecord>>,
    /// Profiles as they shall be.
    pub profiles: BTreeMap<ProfileName, Arc<ProfileRecord>>,
}

impl Draft {
    /// Adds a node.
    ///
    /// # Errors
    /// [`ChangeError::Exists`].
    pub fn add_node(&mut self, name: &NodeName, id: NodeId, spec: MachineSpec) -> Result<(), ChangeError> {
        if self.nodes.contains_key(name) {
            return Err(ChangeError::Exists { kind: "node", name: name.to_string() });
        }
        let record = NodeRecord { id, name: name.clone(), spec, version: 1 };
        self.nodes.insert(name.clone(), Arc::new(record));
        Ok(())
    }

    /// Gives a node another specification; the same one is no change.
    ///
    /// # Errors
    /// [`ChangeError::NotFound`], or [`ChangeError::VersionMismatch`] where `if_match` says another version.
    pub fn set_node(
        &mut self,
        name: &NodeName,
        spec: MachineSpec,
        if_match: Option<u64>,
    ) -> Result<(), ChangeError> {
        let old = self.nodes.get_mut(name);
        let old = old.ok_or_else(|| ChangeError::NotFound { kind: "node", name: name.to_string() })?;
        check_version("node", name, old.version, if_match)?;
        if old.spec != spec {
            let version = old.version + 1;
            *old = Arc::new(NodeRecord { id: old.id, name: name.clone(), spec, version });
        }
        Ok(())
    }

    /// Removes a node.
    ///
    /// # Errors
    /// As [`Draft::set_node`].
    pub fn remove_node(&mut self, name: &NodeName, if_match: Option<u64>) -> Result<(), ChangeError> {
        let old = self.nodes.get(name);
        let old = old.ok_or_else(|| ChangeError::NotFound { kind: "node", name: name.to_string() })?;
        check_version("node", name, old.version, if_match)?;
        self.nodes.remove(name);
        Ok(())
    }

    /// Adds a profile.
    ///
    /// # Errors
    /// [`ChangeError::Exists`].
    pub fn add_profile(&mut self, name: &ProfileName, spec: MachineSpec) -> Result<(), ChangeError> {
        if self.profiles.contains_key(name) {
            return Err(ChangeError::Exists { kind: "profile", name: name.to_string() });
        }
        let record = ProfileRecord { name: name.clone(), spec, version: 1 };
        self.profiles.insert(name.clone(), Arc::new(record));
        Ok(())
    }

    /// Gives a profile another specification; the same one is no change.
    ///
    /// # Errors
    /// As [`Draft::set_node`].
    pub fn set_profile(
        &mut self,
        name: &ProfileName,
        spec: MachineSpec,
        if_match: Option<u64>,
    ) -> Result<(), ChangeError> {
        let old = self.profiles.get_mut(name);
        let old = old.ok_or_else(|| ChangeError::NotFound { kind: "profile", name: name.to_string() })?;
        check_version("profile", name, old.version, if_match)?;
        if old.spec != spec {
            let version = old.version + 1;
            *old = Arc::new(ProfileRecord { name: name.clone(), spec, version });
        }
        Ok(())
    }

    /// Removes a profile.
    ///
    /// # Errors
    /// As [`Draft::set_node`].
    pub fn remove_profile(&mut self, name: &ProfileName, if_match: Option<u64>) -> Result<(), ChangeError> {
        let old = self.profiles.get(name);
        let old = old.ok_or_else(|| ChangeError::NotFound { kind: "profile", name: name.to_string() })?;
        check_version("profile", name, old.version, if_match)?;
        self.profiles.remove(name);
        Ok(())
    }

    /// The specification of a node or profile, if it is there.
    #[must_use]
    pub fn spec(&self, subject: &Subject) -> Option<&MachineSpec> {
        match subject {
            Subject::Node(name) => self.nodes.get(name).map(|node| &node.spec),
            Subject::Profile(name) => self.profiles.get(name).map(|profile| &profile.spec),
        }
    }
}

fn check_version(
    kind: &'static str,
    name: &impl ToString,
    is: u64,
    if_match: Option<u64>,
) -> Result<(), ChangeError> {
    match if_match {
        Some(expected) if expected != is => {
            Err(ChangeError::VersionMismatch { kind, name: name.to_string(), is, expected })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(yaml: &str) -> MachineSpec {
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn id(number: u128) -> NodeId {
        NodeId(uuid::Uuid::from_u128(number))
    }

    fn cluster(nodes: &[(&str, &str)]) -> Cluster {
        let empty = Cluster::default();
        let mut draft = empty.draft();
        draft.add_profile(&"base".parse().unwrap(), spec("{kernel-args: [quiet]}")).unwrap();
        for (number, (name, yaml)) in nodes.iter().enumerate() {
            draft.add_node(&name.parse().unwrap(), id(number as u128), spec(yaml)).unwrap();
        }
        empty.finish(draft, &Known::default()).unwrap().0
    }

    #[test]
    fn a_change_writes_what_differs_and_nothing_else() {
        let cluster = cluster(&[("n1", "{profiles: [base]}"), ("n2", "{}"), ("n3", "{}")]);
        let mut draft = cluster.draft();
        draft.set_node(&"n1".parse().unwrap(), spec("{profiles: [base]}"), None).unwrap();
        draft.set_node(&"n2".parse().unwrap(), spec("{comment: x}"), Some(1)).unwrap();
        draft.remove_node(&"n3".parse().unwrap(), None).unwrap();
        let known = Known {
            overlays: crate::resolve::DEFAULT_BOOT_OVERLAYS.map(|o| o.parse().unwrap()).into(),
            ..Known::default()
        };
        let (after, writes) = cluster.finish(draft, &known).unwrap();
        assert_eq!(after.nodes.len(), 2);
        let names: Vec<String> = writes
            .iter()
            .map(|write| match write {
                Write::PutNode(node) => format!("put {} {}", node.name, node.version),
                Write::DeleteNode { id, .. } => format!("delete {id}"),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(names, [format!("delete {}", id(2)), "put n2 2".to_owned()]);
    }

    #[test]
    fn a_profile_in_use_cannot_go() {
        let cluster = cluster(&[("n1", "{profiles: [base]}")]);
        let mut draft = cluster.draft();
        draft.remove_profile(&"base".parse().unwrap(), None).unwrap();
        let error = cluster.finish(draft, &Known::default()).unwrap_err();
        assert_eq!(error.to_string(), "nodes.n1.profiles: profile \"base\" does not exist");
    }

    #[test]
    fn a_lost_update_is_refused() {
        let mut draft = cluster(&[("n1", "{}")]).draft();
        let error = draft.set_node(&"n1".parse().unwrap(), spec("{comment: x}"), Some(7)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "node \"n1\" has version 1 and the change was made on version 7; read it again"
        );
    }

    #[test]
    fn old_mistakes_do_not_stop_new_changes() {
        let broken = NodeRecord {
            id: id(1),
            name: "n1".parse().unwrap(),
            spec: spec("{boot-overlays: [gone]}"),
            version: 1,
        };
        let cluster = Cluster::new(vec![broken], vec![]);
        let mut draft = cluster.draft();
        draft.add_node(&"n2".parse().unwrap(), id(2), spec("{}")).unwrap();
        assert!(cluster.finish(draft.clone(), &Known::default()).is_ok());
        draft.add_node(&"n3".parse().unwrap(), id(3), spec("{boot-overlays: [gone]}")).unwrap();
        assert!(cluster.finish(draft, &Known::default()).is_err());
    }

    #[test]
    fn a_new_rule_holds_nobody_who_was_there_before() {
        let server = "10.0.0.1".parse().unwrap();
        let plan = std::sync::Arc::new(boot_proto::AddressPlan::new(&[server], &[]));
        let addresses = crate::check::KnownAddresses { plan, gives_addresses: true };
        let known = Known { addresses, ..Known::default() };
        let bad = "{interfaces: {e: {address: 10.0.0.1/24}}}";
        let cluster = cluster(&[("n1", bad)]);
        let mut draft = cluster.draft();
        draft.set_node(&"n1".parse().unwrap(), spec(&format!("{{comment: x, {}", &bad[1..])), None).unwrap();
        // The overlays of all nodes are missing here, which is another matter.
        let told = |draft: Draft| match cluster.finish(draft, &known) {
            Err(ChangeError::Mistakes { findings }) => findings,
            _ => Vec::new(),
        };
        let of = |name: &str, draft: Draft| {
            let subject = Subject::Node(name.parse().unwrap());
            let findings = told(draft);
            findings.iter().any(|found| found.subject == subject && found.field.contains("address"))
        };
        assert!(!of("n1", draft.clone()));
        draft.set_node(&"n1".parse().unwrap(), spec("{}"), None).unwrap();
        draft.add_node(&"n2".parse().unwrap(), id(2), spec(bad)).unwrap();
        assert!(of("n2", draft));
    }

    #[test]
    fn nodes_are_found_by_identity_and_hardware_address() {
        let cluster = cluster(&[("n1", "{interfaces: {e: {mac: '52:54:00:00:00:01'}}}")]);
        assert_eq!(cluster.by_id(id(0)).unwrap().name.as_str(), "n1");
        assert_eq!(cluster.by_mac("52:54:00:00:00:01".parse().unwrap()).unwrap().name.as_str(), "n1");
        assert!(cluster.by_mac("52:54:00:00:00:02".parse().unwrap()).is_none());
    }
}
