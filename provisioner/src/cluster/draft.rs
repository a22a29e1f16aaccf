//! A change of a cluster under way. It notes what it changes, so that nobody looks for that later.

use std::{collections::BTreeSet, sync::Arc};

use api::{
    ids::{NodeId, NodeName, ProfileName},
    machine::MachineSpec,
};

use super::{ChangeError, users};
use crate::{
    check::{DeclaredProfiles, Edited, Nodes, Subject},
    store::{NodeRecord, ProfileRecord},
};

/// A change under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draft {
    pub(super) nodes: Nodes,
    pub(super) profiles: DeclaredProfiles,
    /// Names of nodes that have another record than in the cluster that it is a draft of.
    pub(super) changed_nodes: BTreeSet<NodeName>,
    /// Likewise of profiles.
    pub(super) changed_profiles: BTreeSet<ProfileName>,
}

impl Draft {
    /// Nodes as they shall be.
    pub(crate) fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// Profiles as they shall be.
    pub(crate) fn profiles(&self) -> &DeclaredProfiles {
        &self.profiles
    }

    /// What the check is told of it.
    pub(super) fn edited(&self) -> Edited<'_> {
        Edited {
            nodes: &self.nodes,
            profiles: &self.profiles,
            changed_nodes: &self.changed_nodes,
            changed_profiles: &self.changed_profiles,
        }
    }

    /// Adds a node, or replaces the one of its name.
    pub(super) fn put_node(&mut self, record: NodeRecord) {
        self.changed_nodes.insert(record.name.clone());
        self.nodes.insert_mut(record.name.clone(), Arc::new(record));
    }

    /// Takes a node away.
    pub(super) fn take_node(&mut self, name: &NodeName) {
        self.changed_nodes.insert(name.clone());
        self.nodes.remove_mut(name);
    }

    /// Adds a profile, or replaces the one of its name.
    pub(super) fn put_profile(&mut self, record: ProfileRecord) {
        self.changed_profiles.insert(record.name.clone());
        self.profiles.insert_mut(record.name.clone(), Arc::new(record));
    }

    /// Takes a profile away.
    pub(super) fn take_profile(&mut self, name: &ProfileName) {
        self.changed_profiles.insert(name.clone());
        self.profiles.remove_mut(name);
    }

    /// Says whether these nodes are there.
    ///
    /// # Errors
    /// [`ChangeError::NotFound`] with all that are not.
    pub(crate) fn has_nodes(&self, names: &[NodeName]) -> Result<(), ChangeError> {
        let missing = names.iter().filter(|name| !self.nodes.contains_key(*name));
        let names: Vec<String> = missing.map(ToString::to_string).collect();
        if names.is_empty() { Ok(()) } else { Err(ChangeError::NotFound { kind: "node", names }) }
    }

    /// Says whether these names of nodes are free.
    ///
    /// # Errors
    /// [`ChangeError::Exists`] with all that are not.
    pub(crate) fn are_free<'a>(
        &self,
        names: impl IntoIterator<Item = &'a NodeName>,
    ) -> Result<(), ChangeError> {
        let taken = names.into_iter().filter(|name| self.nodes.contains_key(*name));
        let names: Vec<String> = taken.map(ToString::to_string).collect();
        if names.is_empty() { Ok(()) } else { Err(ChangeError::Exists { kind: "node", names }) }
    }

    /// Adds a node.
    ///
    /// # Errors
    /// [`ChangeError::Exists`].
    pub(crate) fn add_node(
        &mut self,
        name: &NodeName,
        id: NodeId,
        spec: MachineSpec,
    ) -> Result<(), ChangeError> {
        if self.nodes.contains_key(name) {
            return Err(ChangeError::Exists { kind: "node", names: vec![name.to_string()] });
        }
        self.put_node(NodeRecord { id, name: name.clone(), spec, version: 1, unreadable: None });
        Ok(())
    }

    /// Gives a node another specification; the same one is no change.
    ///
    /// # Errors
    /// [`ChangeError::NotFound`], or [`ChangeError::VersionMismatch`] where `if_match` says
    /// another version.
    pub(crate) fn set_node(
        &mut self,
        name: &NodeName,
        spec: MachineSpec,
        if_match: Option<u64>,
    ) -> Result<(), ChangeError> {
        let old = self.nodes.get(name);
        let old = old
            .ok_or_else(|| ChangeError::NotFound { kind: "node", names: vec![name.to_string()] })?;
        check_version("node", name, old.version, if_match)?;
        if old.spec != spec || old.unreadable.is_some() {
            let (id, version) = (old.id, old.version + 1);
            self.put_node(NodeRecord { id, name: name.clone(), spec, version, unreadable: None });
        }
        Ok(())
    }

    /// Removes a node.
    ///
    /// # Errors
    /// As [`Draft::set_node`].
    pub(crate) fn remove_node(
        &mut self,
        name: &NodeName,
        if_match: Option<u64>,
    ) -> Result<(), ChangeError> {
        let old = self.nodes.get(name);
        let old = old
            .ok_or_else(|| ChangeError::NotFound { kind: "node", names: vec![name.to_string()] })?;
        check_version("node", name, old.version, if_match)?;
        self.take_node(name);
        Ok(())
    }

    /// Adds a profile.
    ///
    /// # Errors
    /// [`ChangeError::Exists`].
    pub(crate) fn add_profile(
        &mut self,
        name: &ProfileName,
        spec: MachineSpec,
    ) -> Result<(), ChangeError> {
        if self.profiles.contains_key(name) {
            return Err(ChangeError::Exists { kind: "profile", names: vec![name.to_string()] });
        }
        self.put_profile(ProfileRecord { name: name.clone(), spec, version: 1, unreadable: None });
        Ok(())
    }

    /// Gives a profile another specification; the same one is no change.
    ///
    /// # Errors
    /// As [`Draft::set_node`].
    pub(crate) fn set_profile(
        &mut self,
        name: &ProfileName,
        spec: MachineSpec,
        if_match: Option<u64>,
    ) -> Result<(), ChangeError> {
        let old = self.profiles.get(name);
        let old = old.ok_or_else(|| ChangeError::NotFound {
            kind: "profile",
            names: vec![name.to_string()],
        })?;
        check_version("profile", name, old.version, if_match)?;
        if old.spec != spec || old.unreadable.is_some() {
            let version = old.version + 1;
            self.put_profile(ProfileRecord { name: name.clone(), spec, version, unreadable: None });
        }
        Ok(())
    }

    /// Removes a profile.
    ///
    /// # Errors
    /// As [`Draft::set_node`].
    pub(crate) fn remove_profile(
        &mut self,
        name: &ProfileName,
        if_match: Option<u64>,
    ) -> Result<(), ChangeError> {
        let old = self.profiles.get(name);
        let old = old.ok_or_else(|| ChangeError::NotFound {
            kind: "profile",
            names: vec![name.to_string()],
        })?;
        check_version("profile", name, old.version, if_match)?;
        self.take_profile(name);
        Ok(())
    }

    /// Removes a profile that nothing lists.
    ///
    /// # Errors
    /// As [`Draft::set_node`], and [`ChangeError::ProfileInUse`].
    pub(crate) fn remove_unused_profile(
        &mut self,
        name: &ProfileName,
        if_match: Option<u64>,
    ) -> Result<(), ChangeError> {
        self.remove_profile(name, if_match)?;
        let lists = |spec: &MachineSpec| spec.profiles.iter().any(|listed| listed == name.as_str());
        let nodes =
            self.nodes.values().filter(|node| lists(&node.spec)).map(|node| node.name.as_str());
        let profiles =
            self.profiles.values().filter(|one| lists(&one.spec)).map(|one| one.name.as_str());
        match users(&nodes.collect::<Vec<_>>(), &profiles.collect::<Vec<_>>()) {
            None => Ok(()),
            Some(users) => Err(ChangeError::ProfileInUse { name: name.to_string(), users }),
        }
    }

    /// The specification of a node or profile, if it is there. Of one that cannot be read it is
    /// empty: see [`Draft::readable_spec`].
    #[must_use]
    pub(crate) fn spec(&self, subject: &Subject) -> Option<&MachineSpec> {
        match subject {
            Subject::Node(name) => self.nodes.get(name).map(|node| &node.spec),
            Subject::Profile(name) => self.profiles.get(name).map(|profile| &profile.spec),
        }
    }

    /// Why the stored specification of a node or profile cannot be read.
    #[must_use]
    pub(crate) fn unreadable(&self, subject: &Subject) -> Option<&str> {
        match subject {
            Subject::Node(name) => self.nodes.get(name)?.unreadable.as_deref(),
            Subject::Profile(name) => self.profiles.get(name)?.unreadable.as_deref(),
        }
    }

    /// The specification to change a part of.
    ///
    /// # Errors
    /// [`ChangeError::NotFound`]; [`ChangeError::Unreadable`]: what would be left of
    /// it is not known.
    pub(crate) fn readable_spec(&self, subject: &Subject) -> Result<MachineSpec, ChangeError> {
        if let Some(cause) = self.unreadable(subject) {
            return Err(ChangeError::Unreadable {
                subject: subject.clone(),
                cause: cause.to_owned(),
            });
        }
        self.spec(subject).cloned().ok_or_else(|| {
            let (kind, name) = match subject {
                Subject::Node(name) => ("node", name.to_string()),
                Subject::Profile(name) => ("profile", name.to_string()),
            };
            ChangeError::NotFound { kind, names: vec![name] }
        })
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
