//! All nodes, and what is taken of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Capacity, Node, NodeKey, Request,
    by_free::ByFree,
    grant::{Free, Grant, least_domains},
    labels::{Labels, NoLabel, suits},
};

/// A run on a node with what it was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The request's key.
    pub key: u128,
    /// Where.
    pub node: NodeKey,
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

/// A request can begin on no node, however empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// No node that it may go to has its labels.
    #[error(transparent)]
    NoLabel(#[from] NoLabel),
    /// None of those that have them is large enough.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// A node and what is free of it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) node: Node,
    pub(crate) free: Free,
    pub(crate) runs: BTreeMap<u128, Placement>,
    /// Each of `runs` found free what it took, and none has the whole node: what one had can be given back
    /// by itself.
    are_apart: bool,
    layout: Layout,
}

impl Place {
    fn take(&mut self, placement: &Placement) {
        self.are_apart &= self.free.take(&of(placement), placement.exclusive);
    }

    /// Counts anew what is free: of runs that overlap, what one had may be another's too.
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
type Layout = (BTreeMap<(u32, u32), usize>, Vec<(u32, u64)>, BTreeMap<(String, Option<u32>), usize>);

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
    pub(crate) places: BTreeMap<NodeKey, Place>,
    /// Nodes where something may begin, by how many cores are free: where to look first.
    pub(crate) by_free: ByFree,
    /// Labels of all nodes, available or not.
    labels: Labels,
    runs: BTreeMap<u128, NodeKey>,
}

impl Cluster {
    /// Adds a node, or changes what is known of it. What runs on it stays taken, as far as it is still there.
    pub fn put_node(&mut self, node: Node) {
        let key = node.key;
        self.unlist(key);
        let before = self.places.remove(&key);
        if let Some(place) = &before {
            self.labels.remove(&place.node);
        }
        self.labels.add(&node);
        let runs = before.map(|place| place.runs).unwrap_or_default();
        let free = Free::all(&node.capacity);
        let layout = layout(&node.capacity);
        let mut place = Place { node, free, runs, are_apart: true, layout };
        place.count_free();
        self.places.insert(key, place);
        self.list(key);
    }

    /// Removes a node with what runs on it.
    pub fn remove_node(&mut self, key: NodeKey) {
        self.unlist(key);
        if let Some(place) = self.places.remove(&key) {
            self.labels.remove(&place.node);
            for run in place.runs.keys() {
                self.runs.remove(run);
            }
        }
    }

    /// Takes what a run has, as it was placed before. A node that is not known yet is kept in mind with nothing free.
    pub fn occupy(&mut self, placement: Placement) {
        let key = placement.node;
        if !self.places.contains_key(&key) {
            let capacity = Capacity::default();
            let unavailable = Some("not known yet".to_owned());
            let (name, labels) = (String::new(), BTreeMap::new());
            self.put_node(Node { key, name, labels, capacity, unavailable });
        }
        self.unlist(key);
        if let Some(place) = self.places.get_mut(&key) {
            place.take(&placement);
            self.runs.insert(placement.key, key);
            if place.runs.insert(placement.key, placement).is_some() {
                place.count_free();
            }
        }
        self.list(key);
    }

    /// Gives back what a run had. `false` if it had nothing.
    pub fn release(&mut self, run: u128) -> bool {
        let Some(key) = self.runs.remove(&run) else { return false };
        self.unlist(key);
        if let Some(place) = self.places.get_mut(&key) {
            match place.runs.remove(&run) {
                Some(placement) if place.are_apart => place.free.give_back(of(&placement)),
                _ => place.count_free(),
            }
        }
        self.list(key);
        true
    }

    /// Cores that are free on a node.
    #[must_use]
    pub fn free_cores(&self, key: NodeKey) -> usize {
        self.places.get(&key).map_or(0, |place| place.free.cores.len())
    }

    /// Whether a request fits on an empty node: on `node`, else on the one that it is pinned to, else on any. Nodes that
    /// are not available now count, and so do devices that are out of service.
    ///
    /// # Errors
    /// [`NoLabel`] says which label no node has, [`TooLarge`] what is too much for the node that comes
    /// nearest.
    pub fn fits(&self, request: &Request, node: Option<NodeKey>) -> Result<(), Unfit> {
        if let Some(only) = node.or(request.pinned) {
            let place = self.places.get(&only);
            let no_label = || {
                let mut labels = Labels::default();
                place.into_iter().for_each(|place| labels.add(&place.node));
                labels.no_label(request)
            };
            return fits_one_of(request, place.into_iter(), no_label);
        }
        // For a label that none has no node is looked at.
        if !self.labels.has_each(request) {
            return Err(self.labels.no_label(request).into());
        }
        fits_one_of(request, self.places.values(), || self.labels.no_label(request))
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
        for Place { node, layout, .. } in self.places.values() {
            if !suits(node, request) || !seen.insert(layout) || self.fits(request, Some(node.key)).is_err() {
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

    pub(crate) fn list(&mut self, key: NodeKey) {
        if let Some(place) = self.places.get(&key).filter(|place| place.node.unavailable.is_none()) {
            self.by_free.insert(&place.node, place.free.cores.len());
        }
    }

    fn unlist(&mut self, key: NodeKey) {
        if let Some(place) = self.places.get(&key) {
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

/// Whether a request fits on one of these nodes that has its labels. Each is looked at once: there may
/// be tens of thousands.
fn fits_one_of<'a>(
    request: &'a Request,
    places: impl Iterator<Item = &'a Place>,
    no_label: impl FnOnce() -> NoLabel,
) -> Result<(), Unfit> {
    let mut largest = Largest::default();
    // Machines come in a few kinds: of those that are alike one is tried.
    let mut tried = BTreeSet::new();
    for place in places.filter(|place| suits(&place.node, request)) {
        let capacity = &place.node.capacity;
        if largest.see(&place.node, request)
            && tried.insert(&place.layout)
            && Free::ever(capacity).grant(capacity, request).is_some()
        {
            return Ok(());
        }
    }
    if largest.cores.is_none() && !request.labels.is_empty() {
        return Err(no_label().into());
    }
    Err(largest.too_large(request).into())
}

/// How much a node has, and its name.
type Most<'a> = Option<(u64, &'a str)>;

/// What nodes have at most of what a request wants.
#[derive(Debug, Default)]
struct Largest<'a> {
    cores: Most<'a>,
    /// Bytes.
    memory: Most<'a>,
    /// By kind.
    devices: BTreeMap<&'a str, Most<'a>>,
}

impl<'a> Largest<'a> {
    /// Looks at one more node. Whether it has enough of each.
    fn see(&mut self, node: &'a Node, request: &'a Request) -> bool {
        let capacity = &node.capacity;
        let mut is_enough = true;
        let mut see = |most: &mut Most<'a>, has: u64, wanted: u64| {
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
        let is_short = |most: Most<'_>, wanted: u64| most.is_none_or(|(most, _)| most < wanted);
        let told = |most: Most<'_>, unit: &dyn Fn(u64) -> String| {
            most.map_or_else(|| "no node".to_owned(), |(most, name)| format!("{} ({name})", unit(most)))
        };
        let cores = u64::from(request.cores);
        if is_short(self.cores, cores) {
            let unit = |count| format!("{count} cores");
            return TooLarge { wanted: unit(cores), most: told(self.cores, &unit) };
        }
        let memory = format!("{} MiB of memory", request.memory_bytes.div_ceil(1 << 20));
        if is_short(self.memory, request.memory_bytes) {
            let unit = |bytes: u64| format!("{} MiB of memory for jobs", bytes >> 20);
            return TooLarge { wanted: memory, most: told(self.memory, &unit) };
        }
        for (kind, &count) in &request.devices {
            let most = self.devices.get(kind.as_str()).copied().flatten();
            if is_short(most, count.into()) {
                let unit = |count: u64| format!("{count} {kind}");
                return TooLarge { wanted: unit(count.into()), most: told(most, &unit) };
            }
        }
        let wanted = format!("{} cores with {memory} together", request.cores);
        TooLarge { wanted, most: "not all of it on one node".to_owned() }
    }
}
