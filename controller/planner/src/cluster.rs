//! All nodes, and what is taken of them.

use std::{collections::BTreeMap, sync::Arc};

use api::{ids::NodeId, run::RunId};
use rpds::RedBlackTreeMapSync;

use crate::{
    Allowed, Capacity, Node, NodeSet, Request,
    by_free::ByFree,
    grant::{Free, Grant},
    labels::{Labels, NoLabel, suits},
    node_set::Indices,
    view::{ClusterView, NodeView},
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
#[error(
    "it wants {wanted} members at once, and at most {most} fit on all nodes for it when they are empty"
)]
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

/// A node and what is free of it. What readers see too ([`NodeView`]) is shared with them: it is
/// copied when it is changed while one of them has it.
#[derive(Debug, Clone)]
pub(crate) struct NodeState {
    pub(crate) node: Arc<Node>,
    /// Its index in a [`NodeSet`].
    pub(crate) index: usize,
    pub(crate) free: Arc<Free>,
    pub(crate) runs: BTreeMap<RunId, Placement>,
    /// Each of `runs` found free what it took, and none has the whole node: what one had can be
    /// given back by itself.
    pub(crate) are_apart: bool,
    pub(crate) layout: Arc<Layout>,
    /// It is listed in [`Cluster::changed`].
    is_changed: bool,
}

impl NodeState {
    /// Whether a request may go to this node at all.
    pub(crate) fn is_meant(&self, request: &Request) -> bool {
        request.allowed.permits(self.node.id, self.index) && suits(&self.node, request)
    }

    fn take(&mut self, placement: &Placement) {
        self.are_apart &= Arc::make_mut(&mut self.free).take(&of(placement), placement.exclusive);
    }

    /// Counts again what is free: of runs that overlap, what one had may be another's too.
    pub(crate) fn count_free(&mut self) {
        self.free = Arc::new(Free::all(&self.node.capacity));
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
    /// Nodes as readers were shown them last.
    shown: RedBlackTreeMapSync<NodeId, NodeView>,
    /// Nodes that have changed since.
    changed: Vec<NodeId>,
}

impl Cluster {
    /// Adds a node, or changes what is known of it. What runs on it stays taken, as far as it
    /// is still there.
    pub fn put_node(&mut self, node: Node) {
        let id = node.id;
        let index = self.indices.of(id);
        self.unlist(id);
        let before = self.places.remove(&id);
        if before.as_ref().is_none_or(|place| place.node.labels != node.labels) {
            if let Some(place) = &before {
                self.labels.remove(&place.node);
            }
            self.labels.add(&node);
        }
        let is_changed = before.as_ref().is_some_and(|place| place.is_changed);
        let runs = before.map(|place| place.runs).unwrap_or_default();
        let free = Arc::new(Free::all(&node.capacity));
        let layout = Arc::new(layout(&node.capacity));
        let node = Arc::new(node);
        let mut place = NodeState { node, index, free, runs, are_apart: true, layout, is_changed };
        place.count_free();
        self.places.insert(id, place);
        self.list(id);
        self.note_changed(id);
    }

    /// Removes a node with what runs on it.
    pub fn remove_node(&mut self, id: NodeId) {
        self.unlist(id);
        if let Some(place) = self.places.remove(&id) {
            self.changed.push(id);
            self.labels.remove(&place.node);
            for run in place.runs.keys() {
                self.runs.remove(run);
            }
        }
    }

    /// Takes what a run has, as it was placed before. A node that is not known yet is kept in mind
    /// with nothing free.
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
        self.note_changed(id);
    }

    /// Gives back what a run had. `false` if it had nothing.
    pub fn release(&mut self, run: RunId) -> bool {
        let Some(id) = self.runs.remove(&run) else { return false };
        self.unlist(id);
        if let Some(place) = self.places.get_mut(&id) {
            match place.runs.remove(&run) {
                Some(placement) if place.are_apart => {
                    Arc::make_mut(&mut place.free).give_back(of(&placement))
                }
                _ => place.count_free(),
            }
        }
        self.list(id);
        self.note_changed(id);
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
            Allowed::Of(set) => {
                Box::new(self.indices.nodes(set).filter_map(|node| self.places.get(&node)))
            }
        }
    }

    /// Cores that are free on a node.
    #[must_use]
    pub fn free_cores(&self, node: NodeId) -> usize {
        self.places.get(&node).map_or(0, |place| place.free.cores.len())
    }

    /// What readers see of all nodes now. It costs a step for each node that has changed since the
    /// last call, however many nodes there are.
    pub fn view(&mut self) -> ClusterView {
        for id in std::mem::take(&mut self.changed) {
            match self.places.get_mut(&id) {
                Some(place) => {
                    place.is_changed = false;
                    self.shown.insert_mut(id, NodeView::of(place));
                }
                None => drop(self.shown.remove_mut(&id)),
            }
        }
        ClusterView { nodes: self.shown.clone(), labels: self.labels.clone() }
    }

    fn note_changed(&mut self, id: NodeId) {
        if let Some(place) = self.places.get_mut(&id)
            && !std::mem::replace(&mut place.is_changed, true)
        {
            self.changed.push(id);
        }
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
