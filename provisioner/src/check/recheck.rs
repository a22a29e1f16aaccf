//! The check of a whole cluster, and the one that goes on from it: what a change does not touch is
//! taken over.

use std::{collections::BTreeSet, sync::Arc};

use api::{
    ids::{MacAddr, NodeName, ProfileName},
    machine::MachineSpec,
};
use rpds::RedBlackTreeMapSync;

use super::{
    Bounds, DeclaredProfiles, DiagnosticSink, Finding, Known, Nodes, ResolvedNodes, Subject,
    check_node, check_profiles,
    claims::{AddressClaims, OwnAddress},
};
use crate::{resolve::Profiles, store::NodeRecord};

/// What a check of a cluster found and made. A copy shares all of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checked {
    /// Every node with its profiles applied; those whose profiles cannot be applied are left out.
    pub resolved: ResolvedNodes,
    /// Mistakes of nodes by themselves; nodes without any are left out.
    own: RedBlackTreeMapSync<NodeName, Arc<BTreeSet<Finding>>>,
    /// How many there are in `own`.
    own_count: usize,
    of_profiles: Arc<BTreeSet<Finding>>,
    claims: AddressClaims,
    /// The profiles, ready to be applied.
    layers: Arc<Profiles>,
    known: Arc<Known>,
}

impl Checked {
    /// The check was made with this knowledge.
    #[must_use]
    pub(crate) fn was_with(&self, known: &Known) -> bool {
        *self.known == *known
    }

    /// All mistakes. Looks at every node.
    #[must_use]
    pub(crate) fn findings(&self) -> BTreeSet<Finding> {
        let mut findings = self.of_profiles.as_ref().clone();
        findings.extend(self.own.values().flat_map(|of_node| of_node.iter()).cloned());
        self.claims.all_clashes(&mut findings);
        findings
    }

    /// How many mistakes there are, without those of addresses that several nodes have.
    #[must_use]
    pub(crate) fn count(&self) -> usize {
        self.of_profiles.len() + self.own_count
    }

    /// The node that has an interface with this MAC address.
    #[must_use]
    pub(crate) fn by_mac(&self, mac: MacAddr) -> Option<&Arc<NodeRecord>> {
        self.claims.by_mac(mac)
    }

    /// Both have the same addresses of the same nodes.
    #[cfg(test)]
    pub(crate) fn has_claims_of(&self, other: &Self) -> bool {
        self.claims == other.claims
    }

    fn put_own(&mut self, name: &NodeName, of_node: BTreeSet<Finding>) {
        if !of_node.is_empty() {
            self.own_count += of_node.len();
            self.own.insert_mut(name.clone(), Arc::new(of_node));
        }
    }

    fn remove_own(&mut self, name: &NodeName) {
        if let Some(of_node) = self.own.get(name) {
            self.own_count -= of_node.len();
            self.own.remove_mut(name);
        }
    }
}

/// Nodes and profiles as a change leaves them, and which of them it made others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edited<'a> {
    /// All nodes after the change.
    pub nodes: &'a Nodes,
    /// All profiles after the change.
    pub profiles: &'a DeclaredProfiles,
    /// Nodes that have another record than before, are new, or are gone.
    pub changed_nodes: &'a BTreeSet<NodeName>,
    /// Profiles whose record changed, that are new, or that are gone.
    pub changed_profiles: &'a BTreeSet<ProfileName>,
}

/// What became of a [`Checked`] by a change.
#[derive(Debug)]
pub(crate) struct Rechecked {
    /// What holds after it.
    pub checked: Checked,
    /// Nodes that may be resolved otherwise than before: those that changed, and those that a
    /// changed profile concerns. All others share what they were.
    pub resolved_again: BTreeSet<NodeName>,
    /// Mistakes that were not there before, if what nodes may refer to is the same; `None`: which
    /// are new takes a whole check.
    pub new: Option<BTreeSet<Finding>>,
    /// The check did not end at a bound.
    pub is_whole: bool,
}

/// Checks a cluster.
#[must_use]
pub(crate) fn check_cluster(nodes: &Nodes, profiles: &DeclaredProfiles, known: &Known) -> Checked {
    let (all_nodes, all_profiles) =
        (nodes.keys().cloned().collect(), profiles.keys().cloned().collect());
    let edited =
        Edited { nodes, profiles, changed_nodes: &all_nodes, changed_profiles: &all_profiles };
    recheck(&Checked::default(), edited, known, Bounds::NONE).checked
}

/// Checks a cluster that came from another by a change: what it gives is what [`check_cluster`]
/// gives. `before`: what the check of the other one found. Looks at what changed, at the nodes that
/// list a profile that changed, and at who has their addresses; at all nodes where what they may
/// refer to is another. At one of the bounds the check stops early: `is_whole` is false, and what
/// was not reached has no addresses.
#[must_use]
pub(crate) fn recheck(
    before: &Checked,
    edited: Edited<'_>,
    known: &Known,
    bounds: Bounds,
) -> Rechecked {
    let is_known = before.was_with(known);
    let resolved_again = nodes_to_resolve(before, &edited);
    let mut under_way = UnderWay::new(before, edited, known, bounds);
    let mut names: BTreeSet<&NodeName> = resolved_again.iter().collect();
    if !is_known {
        names.extend(edited.nodes.keys());
    }
    let mut left = names.into_iter();
    let is_whole = left.all(|name| under_way.check(name, resolved_again.contains(name)));
    // What was not reached has no addresses: its old ones may be another node's by this change.
    left.filter(|name| resolved_again.contains(*name))
        .for_each(|name| under_way.resolved(name, None));
    let touched = under_way.claim(&resolved_again);
    let after = under_way.after;
    let new = is_known.then(|| new_findings(before, &after, &resolved_again, &touched));
    Rechecked { checked: after, resolved_again, new, is_whole }
}

/// A check that goes on from the one before.
#[derive(Debug)]
struct UnderWay<'a> {
    before: &'a Checked,
    edited: Edited<'a>,
    bounds: Bounds,
    after: Checked,
    /// Of the nodes that were resolved, bytes.
    weight: usize,
}

impl<'a> UnderWay<'a> {
    fn new(before: &'a Checked, edited: Edited<'a>, known: &Known, bounds: Bounds) -> Self {
        let mut after = before.clone();
        let is_known = before.was_with(known);
        if !is_known {
            after.known = Arc::new(known.clone());
            (after.own, after.own_count) = (RedBlackTreeMapSync::default(), 0);
        }
        if !edited.changed_profiles.is_empty() {
            after.layers = Arc::new(Profiles::of_records(edited.profiles));
        }
        if !is_known || !edited.changed_profiles.is_empty() {
            let of_profiles =
                check_profiles(edited.profiles, &after.layers, known, bounds.findings);
            after.of_profiles = Arc::new(of_profiles);
        }
        Self { before, edited, bounds, after, weight: 0 }
    }

    /// Checks a node, which may be gone. `is_other`: its record or a profile of it changed, so it
    /// must be resolved again. False: a bound is reached.
    fn check(&mut self, name: &NodeName, is_other: bool) -> bool {
        let Self { edited, bounds, after, .. } = self;
        if after.count() >= bounds.findings {
            if is_other {
                self.resolved(name, None);
            }
            return false;
        }
        after.remove_own(name);
        let Some(record) = edited.nodes.get(name) else {
            self.resolved(name, None);
            return true;
        };
        let mut of_node = BTreeSet::new();
        let mut note =
            DiagnosticSink::new(&mut of_node, Subject::Node(name.clone()), bounds.findings);
        let mut is_bounded = false;
        if let Some(cause) = &record.unreadable {
            note.unreadable(cause);
            self.resolved(name, None);
        } else if let Some(spec) = after.resolved.get(name).filter(|_| !is_other) {
            check_node(record, Ok(spec), edited.profiles, &after.known, &mut note);
        } else {
            self.weight = self.weight.saturating_add(after.layers.weight(&record.spec));
            is_bounded = self.weight > bounds.resolved_bytes;
            if is_bounded {
                let message = format!(
                    "up to here, nodes that the change concerns have more than {} bytes with their profiles",
                    bounds.resolved_bytes
                );
                note.add("profiles", message, Some("make the profiles smaller".to_owned()));
                self.resolved(name, None);
            } else {
                let resolved = after.layers.resolve(&record.spec);
                check_node(record, resolved.as_ref(), edited.profiles, &after.known, &mut note);
                self.resolved(name, resolved.ok());
            }
        }
        self.after.put_own(name, of_node);
        !is_bounded && self.after.count() < self.bounds.findings
    }

    /// Takes what a node is with its profiles; `None`: that cannot be told, or it is gone.
    fn resolved(&mut self, name: &NodeName, spec: Option<MachineSpec>) {
        match (self.before.resolved.get(name), spec) {
            // Whoever compares sees at once that it is the same.
            (Some(old), Some(spec)) if **old == spec => {}
            (_, Some(spec)) => self.after.resolved.insert_mut(name.clone(), Arc::new(spec)),
            (Some(_), None) => {
                self.after.resolved.remove_mut(name);
            }
            (None, None) => {}
        }
    }

    /// Gives nodes the addresses that they have now. Returns those whose owners may be others.
    fn claim(&mut self, nodes: &BTreeSet<NodeName>) -> BTreeSet<OwnAddress> {
        let Self { before, edited, after, .. } = self;
        let is_other = |name: &&NodeName| {
            let (old, new) = (before.resolved.get(*name), after.resolved.get(*name));
            let is_same = match (old, new) {
                (Some(old), Some(new)) => Arc::ptr_eq(old, new) || old.interfaces == new.interfaces,
                (None, None) => true,
                _ => false,
            };
            !is_same || edited.changed_nodes.contains(*name)
        };
        let others: Vec<&NodeName> = nodes.iter().filter(is_other).collect();
        let mut touched = BTreeSet::new();
        // All of them first: a node may get the address that another one loses.
        for name in &others {
            if let Some(spec) = before.resolved.get(*name) {
                after.claims.remove(name.as_str(), spec, &mut touched);
            }
        }
        for name in others {
            if let (Some(record), Some(spec)) = (edited.nodes.get(name), after.resolved.get(name)) {
                after.claims.add(record, spec, &mut touched);
            }
        }
        touched
    }
}

/// The nodes that must be resolved, or are gone: what changed, what a changed profile may concern,
/// and what has mistakes, for a hint (did you mean …) depends on which profiles there are.
fn nodes_to_resolve(before: &Checked, edited: &Edited<'_>) -> BTreeSet<NodeName> {
    let mut names = edited.changed_nodes.clone();
    if edited.changed_profiles.is_empty() {
        return names;
    }
    let mut concerned: BTreeSet<&str> =
        edited.changed_profiles.iter().map(ProfileName::as_str).collect();
    // One that is taken away with `~` came by another that lists it.
    let lists = |spec: &MachineSpec, concerned: &BTreeSet<&str>| {
        spec.profiles.iter().any(|name| concerned.contains(name.as_str()))
    };
    // Those that list them, and those that list those. What a changed profile listed before needs
    // no look: whoever got values through it lists the changed profile, and is found by that.
    loop {
        let others = edited.profiles.iter().filter(|(name, _)| !concerned.contains(name.as_str()));
        let more = others.filter(|(_, record)| lists(&record.spec, &concerned));
        let more: Vec<&str> = more.map(|(name, _)| name.as_str()).collect();
        if more.is_empty() {
            break;
        }
        concerned.extend(more);
    }
    let listing = edited.nodes.iter().filter(|(_, record)| lists(&record.spec, &concerned));
    names.extend(listing.map(|(name, _)| name.clone()));
    names.extend(before.own.keys().cloned());
    names
}

/// The mistakes after a change that were not there before. The change touched these nodes and
/// addresses; profiles are looked at as a whole.
fn new_findings(
    before: &Checked,
    after: &Checked,
    nodes: &BTreeSet<NodeName>,
    addresses: &BTreeSet<OwnAddress>,
) -> BTreeSet<Finding> {
    let mut new: BTreeSet<Finding> =
        after.of_profiles.difference(&before.of_profiles).cloned().collect();
    for name in nodes {
        let Some(is) = after.own.get(name) else { continue };
        match before.own.get(name) {
            None => new.extend(is.iter().cloned()),
            Some(was) => new.extend(is.difference(was).cloned()),
        }
    }
    let (mut was, mut is) = (BTreeSet::new(), BTreeSet::new());
    before.claims.clashes(addresses, &mut was);
    after.claims.clashes(addresses, &mut is);
    new.extend(is.difference(&was).cloned());
    new
}
