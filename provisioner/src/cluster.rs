//! All nodes and profiles at one moment, resolved; and a draft of the next moment.
//!
//! Pure. The provisioner holds one [`Cluster`], makes a [`Draft`] of it for each change, has it
//! checked, writes what differs in one transaction and then shows the new cluster to everybody.
//! Both share all that did not change, so that a change of one node among 10,000 costs what one
//! among ten does ([decision 0014](../../docs/decisions/0014-register.md)).

mod draft;

use std::{collections::BTreeSet, sync::Arc};

use api::{
    hostlist,
    ids::{MacAddr, NodeId, NodeName},
};
use rpds::RedBlackTreeMapSync;

pub(crate) use self::draft::Draft;
use crate::{
    check::{
        Bounds, Checked, DeclaredProfiles, Finding, Known, MAX_RESOLVED_BYTES, Nodes, Rechecked,
        Subject, check_cluster, recheck,
    },
    store::{NodeRecord, ProfileRecord, Write},
};

/// Nodes that one cluster may have: what the host lists of one request can name.
pub(crate) const MAX_NODES: usize = hostlist::MAX_NAMES;

/// New mistakes with which a change is refused unseen: each costs some hundred bytes, and a
/// specification of a few bytes for many nodes has one for each.
const MAX_NEW_DIAGNOSTICS: usize = 10_000;

/// Nodes, and profiles, that one message names.
const MAX_NAMED: usize = 50;

/// All nodes and profiles at one moment.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    /// Nodes as declared.
    pub nodes: Nodes,
    /// Profiles as declared.
    pub profiles: DeclaredProfiles,
    /// Nodes with their profiles applied, and the mistakes that there are.
    pub checked: Checked,
    by_id: RedBlackTreeMapSync<NodeId, Arc<NodeRecord>>,
}

/// A checked change.
#[derive(Debug)]
pub(crate) struct Next {
    /// The cluster after it.
    pub cluster: Cluster,
    /// What it writes; empty if it changes nothing.
    pub writes: Vec<Write>,
    /// The names, before and after, of all nodes that it made others: by themselves or by their
    /// profiles. Some of them may not have changed.
    pub changed: BTreeSet<NodeName>,
}

/// Why a change was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChangeError {
    /// Objects that are not there.
    #[error("{}", told(kind, names, "does not exist", "do not exist"))]
    NotFound {
        /// `node` or `profile`.
        kind: &'static str,
        /// Their names, one at least.
        names: Vec<String>,
    },
    /// Objects that should be new.
    #[error("{}", told(kind, names, "exists already", "exist already"))]
    Exists {
        /// `node` or `profile`.
        kind: &'static str,
        /// Their names, one at least.
        names: Vec<String>,
    },
    /// `If-Match` named another version.
    #[error(
        "{kind} {name:?} has version {is} and the change was made on version {expected}; read it again"
    )]
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
    /// A part of a specification was to be changed that cannot be read.
    #[error(
        "{subject}: its specification in the database cannot be read ({cause}); give it a whole one \
         with `bedplate apply`, or delete it"
    )]
    Unreadable {
        /// The node or profile whose row was damaged.
        subject: Subject,
        /// What the decoder says.
        cause: String,
    },
    /// A profile that others list was to be deleted.
    #[error("profile {name} is used by {users}; take it from them first")]
    ProfileInUse {
        /// Its name.
        name: String,
        /// The nodes and profiles that list it: `n[1-8] and profile gpu`.
        users: String,
    },
    /// Too many nodes.
    #[error("a cluster has at most {MAX_NODES} nodes")]
    TooMany,
    /// The cluster would have mistakes that it does not have now.
    #[error("{}", list(findings))]
    Diagnostics {
        /// All of them.
        findings: Vec<Finding>,
    },
}

fn told(kind: &str, names: &[String], one: &str, several: &str) -> String {
    match names {
        [name] => format!("{kind} {name:?} {one}"),
        names => {
            format!("{kind}s {} {several}", hostlist::compress(names.iter().map(String::as_str)))
        }
    }
}

/// Nodes and profiles in words, of bounded length; `None` if there are neither.
fn users(nodes: &[&str], profiles: &[&str]) -> Option<String> {
    let more = |all: &[&str]| match all.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let of_nodes = (!nodes.is_empty())
        .then(|| hostlist::compress(nodes.iter().take(MAX_NAMED).copied()) + &more(nodes));
    let of_profiles = (!profiles.is_empty()).then(|| {
        let word = if profiles.len() == 1 { "profile" } else { "profiles" };
        format!("{word} {}{}", profiles[..profiles.len().min(MAX_NAMED)].join(", "), more(profiles))
    });
    let users: Vec<String> = of_nodes.into_iter().chain(of_profiles).collect();
    (!users.is_empty()).then(|| users.join(" and "))
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
    pub(crate) fn new(nodes: Vec<NodeRecord>, profiles: Vec<ProfileRecord>) -> Self {
        let mut draft = Draft::default();
        nodes.into_iter().for_each(|node| draft.put_node(node));
        profiles.into_iter().for_each(|profile| draft.put_profile(profile));
        let checked = check_cluster(&draft.nodes, &draft.profiles, &Known::default());
        Self::default().with(draft, checked)
    }

    /// The cluster that a draft of this one is.
    fn with(&self, draft: Draft, checked: Checked) -> Self {
        let mut by_id = self.by_id.clone();
        // All of them first: one may have another name now.
        for old in draft.changed_nodes.iter().filter_map(|name| self.nodes.get(name)) {
            by_id.remove_mut(&old.id);
        }
        for new in draft.changed_nodes.iter().filter_map(|name| draft.nodes.get(name)) {
            by_id.insert_mut(new.id, new.clone());
        }
        Self { nodes: draft.nodes, profiles: draft.profiles, checked, by_id }
    }

    /// The node with this identity.
    #[must_use]
    pub(crate) fn by_id(&self, id: NodeId) -> Option<&Arc<NodeRecord>> {
        self.by_id.get(&id)
    }

    /// The node that has an interface with this MAC address.
    #[must_use]
    pub(crate) fn by_mac(&self, mac: MacAddr) -> Option<&Arc<NodeRecord>> {
        self.checked.by_mac(mac)
    }

    /// A draft of a change.
    #[must_use]
    pub(crate) fn draft(&self) -> Draft {
        Draft { nodes: self.nodes.clone(), profiles: self.profiles.clone(), ..Draft::default() }
    }

    /// Checks a draft of this cluster and says what must be written.
    ///
    /// # Errors
    /// [`ChangeError::Diagnostics`] with every mistake that this cluster does not have already, or
    /// with many of them if there are more than 10,000.
    pub(crate) fn finish(&self, draft: Draft, known: &Known) -> Result<Next, ChangeError> {
        if draft.nodes.size() > MAX_NODES {
            return Err(ChangeError::TooMany);
        }
        let most = self.checked.count() + MAX_NEW_DIAGNOSTICS;
        let bounds = Bounds { findings: most, resolved_bytes: MAX_RESOLVED_BYTES };
        let mut after = recheck(&self.checked, draft.edited(), known, bounds);
        let mut new = self.new_findings(&after, known);
        // The bound counts mistakes by the old knowledge. All that were found are old ones: check
        // again without it.
        if new.is_empty() && !after.is_whole {
            let bounds = Bounds { findings: usize::MAX, ..bounds };
            after = recheck(&self.checked, draft.edited(), known, bounds);
            new = self.new_findings(&after, known);
        }
        if !new.is_empty() {
            return Err(ChangeError::Diagnostics { findings: new.into_iter().collect() });
        }
        let writes = self.writes(&draft);
        let cluster = self.with(draft, after.checked);
        Ok(Next { cluster, writes, changed: after.resolved_again })
    }

    /// The mistakes after a change that this cluster does not have, by what is known now.
    fn new_findings(&self, after: &Rechecked, known: &Known) -> BTreeSet<Finding> {
        if let Some(new) = &after.new {
            return new.clone();
        }
        let is = after.checked.findings();
        if is.is_empty() {
            return is;
        }
        let had = check_cluster(&self.nodes, &self.profiles, known).findings();
        is.difference(&had).cloned().collect()
    }

    /// Deletions first, so that a name is free before it is taken again.
    fn writes(&self, draft: &Draft) -> Vec<Write> {
        let mut writes = Vec::new();
        let nodes =
            || draft.changed_nodes.iter().map(|name| (self.nodes.get(name), draft.nodes.get(name)));
        for (old, new) in nodes() {
            if let Some(old) = old.filter(|old| new.is_none_or(|new| new.id != old.id)) {
                writes.push(Write::DeleteNode { id: old.id, version: old.version });
            }
        }
        let profiles = || draft.changed_profiles.iter();
        for old in profiles().filter_map(|name| self.profiles.get(name)) {
            if !draft.profiles.contains_key(&old.name) {
                writes.push(Write::DeleteProfile { name: old.name.clone(), version: old.version });
            }
        }
        for profile in profiles().filter_map(|name| draft.profiles.get(name)) {
            if self.profiles.get(&profile.name).is_none_or(|old| old.version != profile.version) {
                writes.push(Write::PutProfile(profile.as_ref().clone()));
            }
        }
        for (old, new) in nodes() {
            let is_other = |new: &Arc<NodeRecord>| {
                old.is_none_or(|old| old.id != new.id || old.version != new.version)
            };
            writes.extend(
                new.filter(|new| is_other(new)).map(|new| Write::PutNode(new.as_ref().clone())),
            );
        }
        writes
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use api::machine::MachineSpec;

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
        empty.finish(draft, &Known::default()).unwrap().cluster
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
        let Next { cluster: after, writes, .. } = cluster.finish(draft, &known).unwrap();
        assert_eq!(after.nodes.size(), 2);
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
    fn another_node_of_the_same_name_replaces_the_one_before() {
        let cluster = cluster(&[("n1", "{}"), ("n2", "{}"), ("n3", "{}")]);
        let mut draft = cluster.draft();
        draft.remove_node(&"n2".parse().unwrap(), None).unwrap();
        draft.add_node(&"n2".parse().unwrap(), id(9), spec("{}")).unwrap();
        draft.add_node(&"n0".parse().unwrap(), id(8), spec("{}")).unwrap();
        let known = Known {
            overlays: crate::resolve::DEFAULT_BOOT_OVERLAYS.map(|o| o.parse().unwrap()).into(),
            ..Known::default()
        };
        let Next { cluster: after, writes, .. } = cluster.finish(draft, &known).unwrap();
        let told = writes.iter().map(|write| match write {
            Write::PutNode(node) => format!("put {} {}", node.name, node.id),
            Write::DeleteNode { id, .. } => format!("delete {id}"),
            other => format!("{other:?}"),
        });
        let expected =
            [format!("delete {}", id(1)), format!("put n0 {}", id(8)), format!("put n2 {}", id(9))];
        assert_eq!(told.collect::<Vec<_>>(), expected);
        assert!(after.by_id(id(1)).is_none());
        assert_eq!(after.by_id(id(9)).unwrap().name.as_str(), "n2");
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
    fn who_uses_a_profile_that_shall_go_is_named() {
        let cluster =
            cluster(&[("n1", "{profiles: [base]}"), ("n2", "{profiles: [base]}"), ("n3", "{}")]);
        let base = "base".parse().unwrap();
        let mut draft = cluster.draft();
        let refused = draft.remove_unused_profile(&base, None).unwrap_err().to_string();
        assert_eq!(refused, "profile base is used by n[1-2]; take it from them first");
        let mut draft = cluster.draft();
        draft.add_profile(&"gpu".parse().unwrap(), spec("{profiles: [base]}")).unwrap();
        let refused = draft.remove_unused_profile(&base, None).unwrap_err().to_string();
        assert_eq!(
            refused,
            "profile base is used by n[1-2] and profile gpu; take it from them first"
        );
        let mut draft = cluster.draft();
        for name in ["n1", "n2"] {
            draft.remove_node(&name.parse().unwrap(), None).unwrap();
        }
        assert!(draft.remove_unused_profile(&base, None).is_ok());
    }

    #[test]
    fn a_lost_update_is_refused() {
        let mut draft = cluster(&[("n1", "{}")]).draft();
        let error =
            draft.set_node(&"n1".parse().unwrap(), spec("{comment: x}"), Some(7)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "node \"n1\" has version 1 and the change was made on version 7; read it again"
        );
    }

    #[test]
    fn old_diagnostics_do_not_stop_new_changes() {
        let broken = NodeRecord {
            id: id(1),
            name: "n1".parse().unwrap(),
            spec: spec("{boot-overlays: [gone]}"),
            version: 1,
            unreadable: None,
        };
        let cluster = Cluster::new(vec![broken], vec![]);
        let mut draft = cluster.draft();
        draft.add_node(&"n2".parse().unwrap(), id(2), spec("{}")).unwrap();
        assert!(cluster.finish(draft.clone(), &Known::default()).is_ok());
        draft.add_node(&"n3".parse().unwrap(), id(3), spec("{boot-overlays: [gone]}")).unwrap();
        assert!(cluster.finish(draft, &Known::default()).is_err());
    }

    #[test]
    fn a_change_is_refused_before_all_its_diagnostics_are_made() {
        let empty = Cluster::default();
        let bad = |count: usize| MachineSpec {
            kernel_args: vec!["a b".to_owned(); count],
            ..MachineSpec::default()
        };
        let findings = |draft: Draft| match empty.finish(draft, &Known::default()) {
            Err(ChangeError::Diagnostics { findings }) => findings.len(),
            _ => 0,
        };
        let mut draft = empty.draft();
        for number in 0..1_000 {
            draft.add_node(&format!("n{number}").parse().unwrap(), id(number), bad(100)).unwrap();
        }
        let found = findings(draft);
        assert!((MAX_NEW_DIAGNOSTICS..MAX_NEW_DIAGNOSTICS + 200).contains(&found), "{found}");
        let mut draft = empty.draft();
        draft.add_node(&"n1".parse().unwrap(), id(1), bad(100_000)).unwrap();
        assert_eq!(findings(draft), MAX_NEW_DIAGNOSTICS);
    }

    #[test]
    fn what_profiles_make_of_nodes_is_weighed_before_it_is_made() {
        let empty = Cluster::default();
        let mut draft = empty.draft();
        let tags = [("t".to_owned(), "x".repeat(1_000))].into();
        draft
            .add_profile(&"large".parse().unwrap(), MachineSpec { tags, ..MachineSpec::default() })
            .unwrap();
        let node = MachineSpec { profiles: vec!["large".to_owned()], ..MachineSpec::default() };
        for number in 0..100 {
            draft
                .add_node(&format!("n{number:02}").parse().unwrap(), id(number), node.clone())
                .unwrap();
        }
        let weight = crate::resolve::Profiles::of_records(&draft.profiles).weight(&node);
        let check = |resolved_bytes: usize| {
            let bounds = Bounds { findings: usize::MAX, resolved_bytes };
            recheck(&empty.checked, draft.edited(), &Known::default(), bounds)
        };
        let whole = check(100 * weight);
        assert!(whole.is_whole && whole.checked.resolved.size() == 100);
        assert_eq!(whole.checked.findings(), BTreeSet::new());
        let cut = check(50 * weight);
        assert_eq!(cut.checked.resolved.size(), 50, "the others were not made");
        let told: Vec<String> = cut.new.unwrap().iter().map(Finding::to_string).collect();
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("nodes.n50.profiles: up to here"), "{told:?}");
    }

    /// The check ends early at mistakes that are known now alone; they hold up no
    /// change all the same.
    #[test]
    fn many_old_diagnostics_under_new_knowledge_hold_up_nothing() {
        let args = vec!["a b".to_owned(); 2 * MAX_NEW_DIAGNOSTICS];
        let broken = MachineSpec { kernel_args: args, ..MachineSpec::default() };
        let record = |number: u128, name: &str, spec: MachineSpec| NodeRecord {
            id: id(number),
            name: name.parse().unwrap(),
            spec,
            version: 1,
            unreadable: None,
        };
        let old = Cluster::new(vec![record(1, "n1", broken), record(2, "n2", spec("{}"))], vec![]);
        // As after a release that knows of no mistake in what is stored.
        let old = Cluster { checked: Checked::default(), ..old };
        let mut draft = old.draft();
        draft.set_node(&"n2".parse().unwrap(), spec("{comment: x}"), None).unwrap();
        let known = Known {
            overlays: crate::resolve::DEFAULT_BOOT_OVERLAYS
                .map(|name| name.parse().unwrap())
                .into(),
            ..Known::default()
        };
        assert!(old.finish(draft, &known).is_ok());
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
        draft
            .set_node(&"n1".parse().unwrap(), spec(&format!("{{comment: x, {}", &bad[1..])), None)
            .unwrap();
        // The overlays of all nodes are missing here, which is another matter.
        let told = |draft: Draft| match cluster.finish(draft, &known) {
            Err(ChangeError::Diagnostics { findings }) => findings,
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
        assert_eq!(
            cluster.by_mac("52:54:00:00:00:01".parse().unwrap()).unwrap().name.as_str(),
            "n1"
        );
        assert!(cluster.by_mac("52:54:00:00:00:02".parse().unwrap()).is_none());
    }
    #[test]
    fn all_that_are_missing_or_taken_are_named() {
        let draft = cluster(&[("n1", "{}"), ("n2", "{}")]).draft();
        let names = ["n1", "n2", "n3", "n4", "x"].map(|name| name.parse().unwrap());
        let told = draft.has_nodes(&names).unwrap_err().to_string();
        assert_eq!(told, "nodes x,n[3-4] do not exist");
        assert_eq!(draft.are_free(&names).unwrap_err().to_string(), "nodes n[1-2] exist already");
        assert_eq!(
            draft.has_nodes(&names[..3]).unwrap_err().to_string(),
            "node \"n3\" does not exist"
        );
    }
}
