//! All nodes, and what is taken of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Capacity, Node, NodeKey, Request,
    by_free::ByFree,
    grant::{Free, Grant, least_domains},
    labels::{NoLabel, no_label, suits},
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

/// How many cores each NUMA node has in each package, and the memory of each NUMA node.
type Layout = (BTreeMap<(u32, u32), usize>, Vec<(u32, u64)>);

fn layout(capacity: &Capacity) -> Layout {
    let mut cores = BTreeMap::new();
    for core in &capacity.cores {
        *cores.entry((core.numa, core.package)).or_default() += 1;
    }
    (cores, capacity.memory.iter().map(|memory| (memory.numa, memory.bytes)).collect())
}

/// All nodes, and what is taken of them.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    pub(crate) places: BTreeMap<NodeKey, Place>,
    /// Nodes where something may begin, by how many cores are free: where to look first.
    pub(crate) by_free: ByFree,
    runs: BTreeMap<u128, NodeKey>,
}

impl Cluster {
    /// Adds a node, or changes what is known of it. What runs on it stays taken, as far as it is still there.
    pub fn put_node(&mut self, node: Node) {
        let key = node.key;
        self.unlist(key);
        let runs = self.places.remove(&key).map(|place| place.runs).unwrap_or_default();
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
        let only = node.or(request.pinned);
        let places = self.places.values().filter(|place| only.is_none_or(|only| only == place.node.key));
        let candidates = || places.clone().filter(move |place| suits(&place.node, request));
        if !request.labels.is_empty() && candidates().next().is_none() {
            return Err(no_label(request, places.clone().map(|place| &place.node)).into());
        }
        let fits = |place: &Place| {
            let capacity = &place.node.capacity;
            Free::ever(capacity).grant(capacity, request).is_some()
        };
        if candidates().any(fits) { Ok(()) } else { Err(too_large(request, candidates()).into()) }
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

/// Names the first thing that is too much for every node.
fn too_large<'a>(request: &Request, places: impl Iterator<Item = &'a Place> + Clone) -> TooLarge {
    let most = |of: &dyn Fn(&Capacity) -> u64, unit: &dyn Fn(u64) -> String| {
        let largest = places.clone().max_by_key(|place| of(&place.node.capacity));
        largest.map_or_else(
            || "no node".to_owned(),
            |place| format!("{} ({})", unit(of(&place.node.capacity)), place.node.name),
        )
    };
    let exceeds = |of: &dyn Fn(&Capacity) -> u64, wanted: u64| {
        !places.clone().any(|place| of(&place.node.capacity) >= wanted)
    };
    let cores = |capacity: &Capacity| capacity.cores.len() as u64;
    if exceeds(&cores, request.cores.into()) {
        let unit = |count| format!("{count} cores");
        return TooLarge { wanted: unit(request.cores.into()), most: most(&cores, &unit) };
    }
    let memory = Capacity::memory_bytes;
    if exceeds(&memory, request.memory_bytes) {
        let unit = |bytes: u64| format!("{} MiB of memory for jobs", bytes >> 20);
        let wanted = format!("{} MiB of memory", request.memory_bytes.div_ceil(1 << 20));
        return TooLarge { wanted, most: most(&memory, &unit) };
    }
    for (kind, &count) in &request.devices {
        let devices = |capacity: &Capacity| u64::from(capacity.count(kind));
        if exceeds(&devices, count.into()) {
            let unit = |count| format!("{count} {kind}");
            return TooLarge { wanted: unit(count.into()), most: most(&devices, &unit) };
        }
    }
    let memory = format!("{} MiB of memory", request.memory_bytes.div_ceil(1 << 20));
    let wanted = format!("{} cores with {memory} together", request.cores);
    TooLarge { wanted, most: "not all of it on one node".to_owned() }
}
