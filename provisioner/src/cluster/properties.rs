//! Changes in a row, each of many kinds at once: whatever is carried over from one cluster to the
//! next is what is made of the whole cluster from scratch.

use api::{ids::ProfileName, machine::MachineSpec};
use boot_proto::HostTable;
use fleet::NodeLabels;
use proptest::prelude::*;

use super::*;
use crate::{
    overlay::variables::ClusterVariables,
    published::{Published, host_table, labels},
    resolve::Profiles,
};

/// Nodes have few names, addresses and profiles, so that they meet often.
const NODES: usize = 5;
const PROFILES: [&str; 4] = ["base", "gpu", "net", "rack"];

const SPECS: [&str; 18] = [
    "{}",
    "{comment: x}",
    "{tags: {a: b}}",
    "{labels: {rack: a1}}",
    "{labels: {rack: a2}, profiles: [rack]}",
    "{groups: [g]}",
    "{profiles: [base]}",
    "{profiles: [gpu, ~base]}",
    "{profiles: [net, rack]}",
    "{profiles: [bsae]}",
    "{boot-overlays: [gone]}",
    "{interfaces: {e: {mac: '52:54:00:00:00:01', address: 10.0.0.1/24}}}",
    "{interfaces: {e: {mac: '52:54:00:00:00:02', address: 10.0.0.2/24, gateway: 10.0.0.254}}}",
    "{interfaces: {e: {mac: '52:54:00:00:00:02'}, f: {mac: '52:54:00:00:00:02'}}}",
    "{interfaces: {e: {mac: '52:54:00:00:00:03', address: 10.0.0.1/16}, v: {vlan: 7, parent: e, \
     address: 10.0.0.254/24}}}",
    "{profiles: [net], interfaces: {e: {mac: '52:54:00:00:00:01'}}}",
    "{profiles: [base], interfaces: {d: {address: 10.0.0.2/24}}, dns: {servers: [10.0.0.1, 10.0.0.9]}}",
    "{kernel-args: ['#']}",
];

const PROFILE_SPECS: [&str; 9] = [
    "{}",
    "{profiles: [base]}",
    "{profiles: [gpu, ~net]}",
    "{profiles: [rack]}",
    "{profiles: [gone]}",
    "{labels: {zone: north}}",
    "{interfaces: {e: {address: 10.0.0.3/24}}, groups: [h]}",
    "{dns: {servers: [10.0.0.2]}, tags: {t: u}}",
    "{kernel-args: ['#']}",
];

/// One edit of a change.
#[derive(Debug, Clone)]
enum Step {
    Add(usize, usize),
    Set(usize, usize),
    Remove(usize),
    /// Two nodes get each other's specification, with all addresses.
    Swap(usize, usize),
    /// A node gets another name and keeps its identity.
    Rename(usize, usize),
    /// A row that cannot be read.
    Damage(usize),
    PutProfile(usize, usize),
    RemoveProfile(usize),
    DamageProfile(usize),
    /// Other overlays are there.
    Overlays(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (node, spec) = (0..NODES, 0..SPECS.len());
    let (profile, profile_spec) = (0..PROFILES.len(), 0..PROFILE_SPECS.len());
    prop_oneof![
        4 => (node.clone(), spec.clone()).prop_map(|(node, spec)| Step::Add(node, spec)),
        6 => (node.clone(), spec).prop_map(|(node, spec)| Step::Set(node, spec)),
        2 => node.clone().prop_map(Step::Remove),
        3 => (node.clone(), node.clone()).prop_map(|(one, other)| Step::Swap(one, other)),
        1 => (node.clone(), node.clone()).prop_map(|(one, other)| Step::Rename(one, other)),
        1 => node.prop_map(Step::Damage),
        3 => (profile.clone(), profile_spec).prop_map(|(name, spec)| Step::PutProfile(name, spec)),
        1 => profile.clone().prop_map(Step::RemoveProfile),
        1 => profile.prop_map(Step::DamageProfile),
        1 => (0..2_usize).prop_map(Step::Overlays),
    ]
}

fn spec(yaml: &str) -> MachineSpec {
    serde_saphyr::from_str(yaml).unwrap()
}

fn node(number: usize) -> NodeName {
    format!("n{number}").parse().unwrap()
}

fn profile(number: usize) -> ProfileName {
    PROFILES[number].parse().unwrap()
}

fn known(choice: usize) -> Known {
    let defaults = crate::resolve::DEFAULT_BOOT_OVERLAYS.iter();
    let more = [&[] as &[&str], &["gone"]][choice];
    Known {
        overlays: defaults.chain(more).map(|name| name.parse().unwrap()).collect(),
        ..Known::default()
    }
}

/// Does one edit; what cannot be done is left.
fn take(draft: &mut Draft, step: &Step, next_id: &mut u128) {
    match *step {
        Step::Add(name, choice) => {
            *next_id += 1;
            let id = NodeId(uuid::Uuid::from_u128(*next_id));
            drop(draft.add_node(&node(name), id, spec(SPECS[choice])));
        }
        Step::Set(name, choice) => drop(draft.set_node(&node(name), spec(SPECS[choice]), None)),
        Step::Remove(name) => drop(draft.remove_node(&node(name), None)),
        Step::Swap(one, other) => {
            let specs = [one, other].map(|name| draft.spec(&Subject::Node(node(name))).cloned());
            if let [Some(first), Some(second)] = specs {
                draft.set_node(&node(one), second, None).unwrap();
                draft.set_node(&node(other), first, None).unwrap();
            }
        }
        Step::Rename(from, to) => {
            if let (Some(old), false) =
                (draft.nodes.get(&node(from)).cloned(), draft.nodes.contains_key(&node(to)))
            {
                draft.take_node(&node(from));
                let version = old.version + 1;
                draft.put_node(NodeRecord { name: node(to), version, ..old.as_ref().clone() });
            }
        }
        Step::Damage(name) => {
            if let Some(old) = draft.nodes.get(&node(name)).cloned() {
                let (id, version) = (old.id, old.version + 1);
                let unreadable = Some("no JSON".to_owned());
                let spec = MachineSpec::default();
                draft.put_node(NodeRecord { id, name: node(name), spec, version, unreadable });
            }
        }
        Step::PutProfile(name, choice) => {
            let (name, spec) = (profile(name), spec(PROFILE_SPECS[choice]));
            if draft.profiles.contains_key(&name) {
                draft.set_profile(&name, spec, None).unwrap();
            } else {
                draft.add_profile(&name, spec).unwrap();
            }
        }
        Step::RemoveProfile(name) => drop(draft.remove_profile(&profile(name), None)),
        Step::DamageProfile(name) => {
            if let Some(old) = draft.profiles.get(&profile(name)).cloned() {
                let unreadable = Some("no JSON".to_owned());
                let (spec, version) = (MachineSpec::default(), old.version + 1);
                draft.put_profile(ProfileRecord {
                    name: old.name.clone(),
                    spec,
                    version,
                    unreadable,
                });
            }
        }
        Step::Overlays(_) => {}
    }
}

/// What the writes of a change are, by a comparison of all that there was and is.
fn all_writes(before: &Cluster, draft: &Draft) -> Vec<Write> {
    let mut writes = Vec::new();
    for (name, old) in &before.nodes {
        if draft.nodes.get(name).is_none_or(|new| new.id != old.id) {
            writes.push(Write::DeleteNode { id: old.id, version: old.version });
        }
    }
    for (name, old) in &before.profiles {
        if !draft.profiles.contains_key(name) {
            writes.push(Write::DeleteProfile { name: name.clone(), version: old.version });
        }
    }
    for (name, new) in &draft.profiles {
        if before.profiles.get(name).is_none_or(|old| old.version != new.version) {
            writes.push(Write::PutProfile(new.as_ref().clone()));
        }
    }
    for (name, new) in &draft.nodes {
        let is_same = |old: &Arc<NodeRecord>| old.id == new.id && old.version == new.version;
        if !before.nodes.get(name).is_some_and(is_same) {
            writes.push(Write::PutNode(new.as_ref().clone()));
        }
    }
    writes
}

/// Mistakes, values and clashes of the whole cluster by rules of their own: no line of these is
/// shared with what they are held against.
fn naive_clashes(cluster: &Cluster) -> BTreeSet<Finding> {
    let mut findings = BTreeSet::new();
    let mut owners = std::collections::BTreeMap::<String, (NodeName, String)>::new();
    for (name, spec) in &cluster.checked.resolved {
        for (interface, one) in &spec.interfaces {
            let mac = one.mac.map(|mac| (format!("MAC address {mac}"), "mac"));
            let address = one.address.map(|net| (format!("address {}", net.addr()), "address"));
            for (what, field) in mac.into_iter().chain(address) {
                match owners.get(&what) {
                    None => drop(owners.insert(what, (name.clone(), interface.clone()))),
                    Some((node, of)) => findings.extend([Finding {
                        subject: Subject::Node(name.clone()),
                        field: format!("interfaces.{interface}.{field}"),
                        message: format!("{what} already belongs to node {node}, interface {of}"),
                        hint: None,
                    }]),
                }
            }
        }
    }
    findings
}

fn is_clash(finding: &Finding) -> bool {
    finding.message.contains(" already belongs to node ")
}

/// Nodes with their profiles applied, each by itself.
fn naive_resolved(cluster: &Cluster) -> Vec<(NodeName, MachineSpec)> {
    let profiles = Profiles::of_records(&cluster.profiles);
    let nodes = cluster.nodes.iter().filter(|(_, node)| node.unreadable.is_none());
    nodes
        .filter_map(|(name, node)| Some((name.clone(), profiles.resolve(&node.spec).ok()?)))
        .collect()
}

/// What boot servers and fleet were told, one change after the other.
#[derive(Default)]
struct Told {
    labels: NodeLabels,
    hosts: HostTable,
}

impl Told {
    fn tell(&mut self, published: &Published<'_>) {
        for (id, labels) in published.labels() {
            match labels {
                Some(labels) => self.labels.insert_mut(id, labels),
                None => {
                    self.labels.remove_mut(&id);
                }
            }
        }
        if let Some(hosts) = published.hosts(&self.hosts) {
            self.hosts = hosts;
        }
    }
}

fn variables(cluster: &Cluster) -> String {
    let nodes = cluster.checked.resolved.iter().map(|(name, spec)| (name, spec.as_ref()));
    let variables = ClusterVariables::new(nodes, &[]);
    let name = "n0".parse().unwrap();
    let facts = crate::overlay::variables::NodeFacts {
        name: &name,
        id: NodeId(uuid::Uuid::nil()),
        spec: &MachineSpec::default(),
        image: None,
        host_key: None,
    };
    let variables = crate::overlay::variables::Variables::new(&variables, &facts);
    variables.get("nodes").unwrap().digest().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A whole cluster of the same records.
fn again(cluster: &Cluster, known: &Known) -> Cluster {
    let records = |cluster: &Cluster| {
        let nodes = cluster.nodes.values().map(|node| node.as_ref().clone()).collect();
        (nodes, cluster.profiles.values().map(|profile| profile.as_ref().clone()).collect())
    };
    let (nodes, profiles) = records(cluster);
    let mut whole = Cluster::new(nodes, profiles);
    whole.checked = check_cluster(&whole.nodes, &whole.profiles, known);
    whole
}

fn check_is_whole(cluster: &Cluster, known: &Known) -> Result<(), TestCaseError> {
    let whole = again(cluster, known);
    prop_assert_eq!(&cluster.checked.findings(), &whole.checked.findings());
    prop_assert_eq!(&cluster.checked.resolved, &whole.checked.resolved);
    prop_assert_eq!(&cluster.by_id, &whole.by_id);
    prop_assert_eq!(cluster.checked.count(), whole.checked.count());
    prop_assert!(cluster.checked.has_claims_of(&whole.checked));
    let resolved: Vec<(NodeName, MachineSpec)> = cluster
        .checked
        .resolved
        .iter()
        .map(|(name, spec)| (name.clone(), spec.as_ref().clone()))
        .collect();
    prop_assert_eq!(resolved, naive_resolved(cluster));
    let (clashes, others): (BTreeSet<Finding>, BTreeSet<Finding>) =
        cluster.checked.findings().into_iter().partition(is_clash);
    prop_assert_eq!(clashes, naive_clashes(cluster));
    prop_assert_eq!(others.len(), cluster.checked.count());
    for number in 1..4 {
        let mac = MacAddr([0x52, 0x54, 0, 0, 0, number]);
        let has = |spec: &MachineSpec| spec.interfaces.values().any(|one| one.mac == Some(mac));
        let last = cluster
            .checked
            .resolved
            .iter()
            .filter(|(_, spec)| has(spec))
            .map(|(name, _)| name)
            .next_back();
        prop_assert_eq!(cluster.by_mac(mac).map(|node| &node.name), last);
    }
    Ok(())
}

/// What a change is refused with, or what it writes, by checks of both clusters as a whole.
fn whole_outcome(
    before: &Cluster,
    draft: &Draft,
    known: &Known,
) -> Result<Vec<Write>, BTreeSet<Finding>> {
    let had = check_cluster(&before.nodes, &before.profiles, known).findings();
    let has = check_cluster(&draft.nodes, &draft.profiles, known).findings();
    let new: BTreeSet<Finding> = has.difference(&had).cloned().collect();
    if new.is_empty() { Ok(all_writes(before, draft)) } else { Err(new) }
}

proptest! {
    /// Whatever changes: the outcome, and all that is kept, is that of a whole check.
    #[test]
    fn a_change_is_what_a_whole_check_makes_of_it(
        changes in prop::collection::vec(prop::collection::vec(step(), 1..5), 1..12),
        // Stored by an earlier release, or before addresses had to differ.
        stored in prop::collection::vec(0..SPECS.len(), 0..NODES),
        // All there, and many list each other: a change of one reaches nodes over others.
        stored_profiles in prop::collection::vec(0..PROFILE_SPECS.len(), PROFILES.len()),
    ) {
        let mut next_id = 100;
        let records = (0_u32..).zip(stored).map(|(number, choice)| NodeRecord {
            id: NodeId(uuid::Uuid::from_u128(number.into())),
            name: format!("n{number}").parse().unwrap(),
            spec: spec(SPECS[choice]),
            version: 1,
            unreadable: None,
        });
        let profiles = stored_profiles.iter().enumerate().map(|(number, choice)| ProfileRecord {
            name: profile(number),
            spec: spec(PROFILE_SPECS[*choice]),
            version: 1,
            unreadable: None,
        });
        let mut cluster = Cluster::new(records.collect(), profiles.collect());
        check_is_whole(&cluster, &Known::default())?;
        let mut known_now = known(0);
        let mut told = Told { labels: labels(&cluster), hosts: host_table(&cluster) };
        for change in changes {
            let mut draft = cluster.draft();
            for step in &change {
                take(&mut draft, step, &mut next_id);
                if let Step::Overlays(choice) = step {
                    known_now = known(*choice);
                }
            }
            let expected = whole_outcome(&cluster, &draft, &known_now);
            let next = match (cluster.finish(draft, &known_now), expected) {
                (Ok(next), Ok(writes)) => {
                    prop_assert_eq!(&next.writes, &writes);
                    next
                }
                (Err(ChangeError::Diagnostics { findings }), Err(new)) => {
                    prop_assert_eq!(findings, new.into_iter().collect::<Vec<_>>());
                    continue;
                }
                (is, expected) => return Err(TestCaseError::fail(format!("{is:?}, not {expected:?}"))),
            };
            check_is_whole(&next.cluster, &known_now)?;
            // A change that writes nothing is not shown, so what it knew is not kept.
            let published =
                Published { before: &cluster, after: &next.cluster, changed: &next.changed };
            told.tell(&published);
            prop_assert_eq!(&told.labels, &labels(&next.cluster));
            prop_assert_eq!(&told.hosts, &host_table(&next.cluster));
            let is_same = variables(&cluster) == variables(&next.cluster);
            prop_assert_eq!(published.is_same_for_templates(), is_same);
            cluster = next.cluster;
        }
    }
}
