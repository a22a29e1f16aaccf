//! All nodes at one moment, for readers: why a group waits, and what fits on empty nodes. A view
//! shares with its [`Cluster`](crate::Cluster) whatever has not changed since it was made.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api::ids::NodeId;
use rpds::RedBlackTreeMapSync;

use crate::{
    Allowed, Node, Request, TooLarge, TooMany, Unfit,
    cluster::{Layout, NodeState},
    grant::{Free, least_domains},
    labels::{Labels, NoLabel, suits},
};

/// A node and what was free of it.
#[derive(Debug, Clone)]
pub(crate) struct NodeView {
    pub(crate) node: Arc<Node>,
    index: usize,
    pub(crate) free: Arc<Free>,
    layout: Arc<Layout>,
}

impl NodeView {
    pub(crate) fn of(place: &NodeState) -> Self {
        let NodeState { node, index, free, layout, .. } = place;
        Self { node: node.clone(), index: *index, free: free.clone(), layout: layout.clone() }
    }
}

/// See the module. Clones share everything.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    pub(crate) nodes: RedBlackTreeMapSync<NodeId, NodeView>,
    pub(crate) labels: Labels,
}

impl ClusterView {
    /// The nodes that are known of those that are allowed, by identity.
    pub(crate) fn places_of<'v: 'a, 'a>(
        &'v self,
        allowed: &'a Allowed,
    ) -> Box<dyn Iterator<Item = &'v NodeView> + 'a> {
        match allowed {
            Allowed::Any => Box::new(self.nodes.values()),
            Allowed::Only(node) => Box::new(self.nodes.get(node).into_iter()),
            Allowed::Of(set) => {
                Box::new(self.nodes.values().filter(|place| set.contains(place.index)))
            }
        }
    }

    /// Whether so many members of a request, at least 1, fit at once on empty nodes: on `node` if
    /// there is one, else on all that are allowed. Nodes that are not available now count, and so
    /// do devices that are out of service. What does not fit is never placed; it holds up nothing
    /// else.
    ///
    /// # Errors
    /// [`NoLabel`] says which label no node has, [`TooLarge`] what is too much for the node that
    /// comes nearest, [`TooMany`] how many members fit.
    pub fn fits(
        &self,
        request: &Request,
        members: usize,
        node: Option<NodeId>,
    ) -> Result<(), Unfit> {
        let only = node.map(Allowed::Only);
        let allowed = only.as_ref().unwrap_or(&request.allowed);
        if *allowed == Allowed::Any {
            // For a label that none has no node is looked at.
            if !self.labels.has_each(request) {
                return Err(self.labels.no_label(request).into());
            }
            return fit_on(request, members, self.nodes.values(), || self.labels.no_label(request));
        }
        let no_label = || {
            let mut labels = Labels::default();
            self.places_of(allowed).for_each(|place| labels.add(&place.node));
            labels.no_label(request)
        };
        fit_on(request, members, self.places_of(allowed), no_label)
    }

    /// Of how few NUMA nodes or packages, as a request asks for them, it can be had, and the
    /// name of the node that is so near. `None`: it asks for neither, takes its node whole, or
    /// fits on no node.
    #[must_use]
    pub fn nearest(&self, request: &Request) -> Option<(usize, &str)> {
        if request.exclusive {
            return None;
        }
        // Machines come in a few kinds: of nodes that are alike one is looked at.
        let mut seen = BTreeSet::new();
        let mut near: Option<(usize, &str)> = None;
        for NodeView { node, layout, .. } in self.places_of(&request.allowed) {
            let is_new = suits(node, request) && seen.insert(layout);
            if !is_new || self.fits(request, 1, Some(node.id)).is_err() {
                continue;
            }
            let found =
                least_domains(&node.capacity, request).map(|count| (count, node.name.as_str()));
            near = near.into_iter().chain(found).min();
            if near.is_some_and(|(count, _)| count == 1) {
                break;
            }
        }
        near
    }
}

/// Whether so many members fit on those of these nodes that have their labels. Each is looked at
/// once: there may be tens of thousands.
fn fit_on<'a>(
    request: &'a Request,
    members: usize,
    nodes: impl Iterator<Item = &'a NodeView>,
    no_label: impl FnOnce() -> NoLabel,
) -> Result<(), Unfit> {
    let mut largest = Largest::default();
    // Machines come in a few kinds: of those that are alike one is tried.
    let mut tried: BTreeMap<&Layout, usize> = BTreeMap::new();
    let mut most = 0;
    for place in nodes.filter(|place| suits(&place.node, request)) {
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
            most.map_or_else(
                || "no node".to_owned(),
                |(most, name)| format!("{} ({name})", unit(most)),
            )
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
