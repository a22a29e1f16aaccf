//! All nodes, and what is taken of them.

use std::collections::{BTreeMap, BTreeSet};

use api::{ids::NodeId, run::RunId};

use crate::{
    Allowed, Capacity, Node, NodeSet, Request,
    by_free::ByFree,
    grant::{Free, Grant, least_domains},
    labels::{Labels, NoLabel, suits},
    node_set::Indices,
};

/// A run on a node with what it was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The run that is placed: one of those of its request.
    pub run: RunId,
    /// The node that it is placed on.
    pub node: NodeId,
    /// PUs of its cpuset, by OS index.
    pub cpus: Vec<u32>,
    /// Cores taken, by their place in [`Capacity::cores`].
    pub cores: Vec<u32>,
    /// Bytes by NUMA node.
    pub memory: Vec<(u32, u64)>,
    /// Names of devices.
    pub devices: Vec<String>,
    /// It has the whole node.
    pub exclusive: bool,
    /// When it is over at the latest, on the clock of [`Cluster::place`], seconds.
    pub ends: Option<i64>,
}

/// A request is larger than every node that it may go to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it wants {wanted}, and the largest node for it has {most}")]
pub struct TooLarge {
    /// What does not fit: `64 cores`.
    pub wanted: String,
    /// What there is at most: `4 cores (n1)`.
    pub most: String,
}

/// Members of a group fit on the nodes, and not so many at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it wants {wanted} members at once, and at most {most} fit on all nodes for it when they are empty")]
pub struct TooMany {
    /// Members of the group.
    pub wanted: usize,
    /// How many fit at most, at least 1.
    pub most: usize,
}

/// A request can never begin, however empty the nodes are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// No node that it may go to has its labels.
    #[error(transparent)]
    NoLabel(#[from] NoLabel),
    /// None of those that have them is large enough.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// All of them together have no room for so many members.
    #[error(transparent)]
    TooMany(#[from] TooMany),
}

/// A node and what is free of it.
#[derive(Debug, Clone)]
pub(crate) struct NodeState {
    pub(crate) node: Node,
    /// Its index in a [`NodeSet`].
    index: usize,
    pub(crate) free: Free,
    pub(crate) runs: BTreeMap<RunId, Placement>,
    /// Each of `runs` found free what it took, and none has the whole node: what one had can be given back
    /// by itself.
    pub(crate) are_apart: bool,
    pub(crate) layout: Layout,
}

impl NodeState {
    /// Whether a request may go to this node at all.
    pub(crate) fn is_meant(&self, request: &Request) -> bool {
        request.allowed.permits(self.node.id, self.index) && suits(&self.node, request)
    }

    fn take(&mut self, placement: &Placement) {
        self.are_apart &= self.free.take(&of(placement), placement.exclusive);
    }

    /// Counts again what is free: of runs that overlap, what one had may be another's too.
    pub(crate) fn count_free(&mut self) {
        self.free = Free::all(&self.node.capacity);
        self.are_apart = true;
        let runs = std::mem::take(&mut self.runs);
        runs.values().for_each(|placement| self.take(placement));
        self.runs = runs;
    }
}

/// How many cores each NUMA node has in each package, the memory of each NUMA node, and how many
/// devices of a kind are near one.
pub(crate) type Layout =
    (BTreeMap<(u32, u32), usize>, Vec<(u32, u64)>, BTreeMap<(String, Option<u32>), usize>);

fn layout(capacity: &Capacity) -> Layout {
    let mut cores = BTreeMap::new();
    for core in &capacity.cores {
        *cores.entry((core.numa, core.package)).or_default() += 1;
    }
    let mut devices = BTreeMap::new();
    for device in &capacity.devices {
        *devices.entry((device.kind.clone(), device.numa)).or_default() += 1;
    }
    (cores, capacity.memory.iter().map(|memory| (memory.numa, memory.bytes)).collect(), devices)
}

/// All nodes, and what is taken of them.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    pub(crate) places: BTreeMap<NodeId, NodeState>,
    indices: Indices,
    /// Nodes where something may begin, by how many cores are free: where to look first.
    pub(crate) by_free: ByFree,
    /// Labels of all nodes, available or not.
    labels: Labels,
    runs: BTreeMap<RunId, NodeId>,
}

impl Cluster {
    /// Adds a node, or changes what is known of it. What runs on it stays taken, as far as it is still there.
    pub fn put_node(&mut self, node: Node) {
        let id = node.id;
        let index = self.indices.of(id);
        self.unlist(id);
        let before = self.places.remove(&id);
        if let Some(place) = &before {
            self.labels.remove(&place.node);
        }
        self.labels.add(&node);
        let runs = before.map(|place| place.runs).unwrap_or_default();
        let free = Free::all(&node.capacity);
        let layout = layout(&node.capacity);
        let mut place = NodeState { node, index, free, runs, are_apart: true, layout };
        place.count_free();
        self.places.insert(id, place);
        self.list(id);
    }

    /// Removes a node with what runs on it.
    pub fn remove_node(&mut self, id: NodeId) {
        self.unlist(id);
        if let Some(place) = self.places.remove(&id) {
            self.labels.remove(&place.node);
            for run in place.runs.keys() {
                self.runs.remove(run);
            }
        }
    }

    /// Takes what a run has, as it was placed before. A node that is not known yet is kept in mind with nothing free.
    pub fn occupy(&mut self, placement: Placement) {
        let id = placement.node;
        if !self.places.contains_key(&id) {
            let capacity = Capacity::default();
            let unavailable = Some("not known yet".to_owned());
            let (name, labels) = (String::new(), BTreeMap::new());
            self.put_node(Node { id, name, labels, capacity, unavailable });
        }
        self.unlist(id);
        if let Some(place) = self.places.get_mut(&id) {
            place.take(&placement);
            self.runs.insert(placement.run, id);
            if place.runs.insert(placement.run, placement).is_some() {
                place.count_free();
            }
        }
        self.list(id);
    }

    /// Gives back what a run had. `false` if it had nothing.
    pub fn release(&mut self, run: RunId) -> bool {
        let Some(id) = self.runs.remove(&run) else { return false };
        self.unlist(id);
        if let Some(place) = self.places.get_mut(&id) {
            match place.runs.remove(&run) {
                Some(placement) if place.are_apart => place.free.give_back(of(&placement)),
                _ => place.count_free(),
            }
        }
        self.list(id);
        true
    }

    /// A set of these nodes, for [`Allowed::Of`]. They need not be known yet: one that is added
    /// later is in the set then.
    pub fn node_set(&mut self, nodes: impl IntoIterator<Item = NodeId>) -> NodeSet {
        NodeSet::of(nodes.into_iter().map(|node| self.indices.of(node)))
    }

    /// The nodes that are known of those that are allowed.
    pub(crate) fn places_of<'p: 'a, 'a>(
        &'p self,
        allowed: &'a Allowed,
    ) -> Box<dyn Iterator<Item = &'p NodeState> + 'a> {
        match allowed {
            Allowed::Any => Box::new(self.places.values()),
            Allowed::Only(node) => Box::new(self.places.get(node).into_iter()),
            Allowed::Of(set) => Box::new(self.indices.nodes(set).filter_map(|node| self.places.get(&node))),
        }
    }

    /// Cores that are free on a node.
    #[must_use]
    pub fn free_cores(&self, node: NodeId) -> usize {
        self.places.get(&node).map_or(0, |place| place.free.cores.len())
    }

    /// Whether so many members of a request, at least 1, fit at once on empty nodes: on `node` if
    /// there is one, else on all that are allowed. Nodes that are not available now count, and so
    /// do devices that are out of service. What does not fit is never placed; it holds up nothing
    /// else.
    ///
    /// # Errors
    /// [`NoLabel`] says which label no node has, [`TooLarge`] what is too much for the node that comes
    /// nearest, [`TooMany`] how many members fit.
    pub fn fits(&self, request: &Request, members: usize, node: Option<NodeId>) -> Result<(), Unfit> {
        let only = node.map(Allowed::Only);
        let allowed = only.as_ref().unwrap_or(&request.allowed);
        if *allowed == Allowed::Any {
            // For a label that none has no node is looked at.
            if !self.labels.has_each(request) {
                return Err(self.labels.no_label(request).into());
            }
            return fit_on(request, members, self.places.values(), || self.labels.no_label(request));
        }
        let no_label = || {
            let mut labels = Labels::default();
            self.places_of(allowed).for_each(|place| labels.add(&place.node));
            labels.no_label(request)
        };
        fit_on(request, members, self.places_of(allowed), no_label)
    }

    /// Of how few NUMA nodes or packages, as a request asks for them, it can be had, and the name of the node
    /// that is so near. `None`: it asks for neither, takes its node whole, or fits on no node.
    #[must_use]
    pub fn nearest(&self, request: &Request) -> Option<(usize, &str)> {
        if request.exclusive {
            return None;
        }
        // Machines come in a few kinds: of nodes that are alike one is looked at.
        let mut seen = BTreeSet::new();
        let mut near: Option<(usize, &str)> = None;
        for NodeState { node, layout, .. } in self.places_of(&request.allowed) {
            let is_new = suits(node, request) && seen.insert(layout);
            if !is_new || self.fits(request, 1, Some(node.id)).is_err() {
                continue;
            }
            let found = least_domains(&node.capacity, request).map(|count| (count, node.name.as_str()));
            near = near.into_iter().chain(found).min();
            if near.is_some_and(|(count, _)| count == 1) {
                break;
            }
        }
        near
    }

    pub(crate) fn list(&mut self, id: NodeId) {
        if let Some(place) = self.places.get(&id).filter(|place| place.node.unavailable.is_none()) {
            self.by_free.insert(&place.node, place.free.cores.len());
        }
    }

    fn unlist(&mut self, id: NodeId) {
        if let Some(place) = self.places.get(&id) {
            self.by_free.remove(&place.node, place.free.cores.len());
        }
    }
}

/// What a placement takes.
pub(crate) fn of(placement: &Placement) -> Grant {
    Grant {
        cores: placement.cores.clone(),
        memory: placement.memory.clone(),
        devices: placement.devices.clone(),
    }
}

/// Whether so many members fit on those of these nodes that have their labels. Each is looked at
/// once: there may be tens of thousands.
fn fit_on<'a>(
    request: &'a Request,
    members: usize,
    places: impl Iterator<Item = &'a NodeState>,
    no_label: impl FnOnce() -> NoLabel,
) -> Result<(), Unfit> {
    let mut largest = Largest::default();
    // Machines come in a few kinds: of those that are alike one is tried.
    let mut tried: BTreeMap<&Layout, usize> = BTreeMap::new();
    let mut most = 0;
    for place in places.filter(|place| suits(&place.node, request)) {
        let capacity = &place.node.capacity;
        if !largest.see(&place.node, request) {
            continue;
        }
        let room = || Free::ever(capacity).room(capacity, request, members.max(1));
        most += *tried.entry(&place.layout).or_insert_with(room);
        if most >= members.max(1) {
            return Ok(());
        }
    }
    if most > 0 {
        return Err(TooMany { wanted: members, most }.into());
    }
    if largest.cores.is_none() && !request.labels.is_empty() {
        return Err(no_label().into());
    }
    Err(largest.too_large(request).into())
}

/// How much a node has, and its name.
type LargestOf<'a> = Option<(u64, &'a str)>;

/// What nodes have at most of what a request wants.
#[derive(Debug, Default)]
struct Largest<'a> {
    cores: LargestOf<'a>,
    /// Bytes.
    memory: LargestOf<'a>,
    /// By kind.
    devices: BTreeMap<&'a str, LargestOf<'a>>,
}

impl<'a> Largest<'a> {
    /// Looks at one more node. Whether it has enough of each.
    fn see(&mut self, node: &'a Node, request: &'a Request) -> bool {
        let capacity = &node.capacity;
        let mut is_enough = true;
        let mut see = |most: &mut LargestOf<'a>, has: u64, wanted: u64| {
            is_enough &= has >= wanted;
            if most.is_none_or(|(most, _)| has >= most) {
                *most = Some((has, node.name.as_str()));
            }
        };
        see(&mut self.cores, capacity.cores.len() as u64, request.cores.into());
        see(&mut self.memory, capacity.memory_bytes(), request.memory_bytes);
        for (kind, &count) in &request.devices {
            let most = self.devices.entry(kind.as_str()).or_default();
            see(most, capacity.count(kind).into(), count.into());
        }
        is_enough
    }

    /// Names the first thing that is too much for every node.
    fn too_large(&self, request: &Request) -> TooLarge {
        let is_short = |most: LargestOf<'_>, wanted: u64| most.is_none_or(|(most, _)| most < wanted);
        let format_amount = |most: LargestOf<'_>, unit: &dyn Fn(u64) -> String| {
            most.map_or_else(|| "no node".to_owned(), |(most, name)| format!("{} ({name})", unit(most)))
        };
        let cores = u64::from(request.cores);
        if is_short(self.cores, cores) {
            let unit = |count| format!("{count} cores");
            return TooLarge { wanted: unit(cores), most: format_amount(self.cores, &unit) };
        }
        let memory = format!("{} MiB of memory", request.memory_bytes.div_ceil(1 << 20));
        if is_short(self.memory, request.memory_bytes) {
            let unit = |bytes: u64| format!("{} MiB of memory for jobs", bytes >> 20);
            return TooLarge { wanted: memory, most: format_amount(self.memory, &unit) };
        }
        for (kind, &count) in &request.devices {
            let most = self.devices.get(kind.as_str()).copied().flatten();
            if is_short(most, count.into()) {
                let unit = |count: u64| format!("{count} {kind}");
                return TooLarge { wanted: unit(count.into()), most: format_amount(most, &unit) };
            }
        }
        let wanted = format!("{} cores with {memory} together", request.cores);
        TooLarge { wanted, most: "not all of it on one node".to_owned() }
    }
}
