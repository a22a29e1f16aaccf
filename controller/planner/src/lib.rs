//! Jobs and cluster in, placements out. Called by `controller`; pure: no I/O, no clock, no
//! randomness.
//!
//! A [`Cluster`] knows what each node has and what is taken. A [`QueuePass`] grants cores, memory
//! by NUMA node and devices to a queue, in the order in which its caller offers: the planner knows
//! no users (the server lets them take turns, `controller::engine::turns`). What is offered is a
//! *group*: one [`Request`] and a run for each member, most often one. All members are placed or
//! none.
//!
//! The first group that has to wait gets a *reservation*: a set of nodes, with so many members on
//! each, and the time at which all of them can begin at the latest, from the limits of what runs.
//! Later groups may overtake it (backfill, after the EASY scheduler of Lifka, 1995) only where they
//! do not delay it, so a wide group is not starved by narrow ones. Nothing is taken for a group
//! that waits: no group holds nodes while it waits for others, so no two block each other. What a
//! run without a limit has is never counted on: a group that needs it has no reservation.
//!
//! Members may share a node unless the request says [`spread`](Request::spread). With
//! [`near`](Request::near) they go to nodes with one common value of a label, where there is room
//! for all of them, else to nodes with as few values as possible.
//!
//! | module | holds |
//! |---|---|
//! | [`topology`] | what a node has |
//! | [`node_set`] | which nodes a request may go to |
//! | [`domains`] | of how few NUMA nodes or packages a request can be had |
//! | [`grant`] | which cores, memory and devices of one node a request gets |
//! | [`labels`] | which nodes have the labels that are wanted |
//! | [`by_free`] | where to look first |
//! | [`cluster`] | all nodes, and what is taken |
//! | [`view`] | the same at one moment, for readers |
//! | [`group`] | on which nodes the members of a group go |
//! | [`reservation`] | when a group that waits can begin, and where |
//! | [`queue`] | one pass over what is offered, and the backfill |
//! | [`why`] | why a group waits |
//!
//! Invariants: no core, device or byte of memory is granted twice; a placement is exactly what was
//! asked for; no group is placed in part; a group that would fit on empty nodes is never forgotten
//! for later ones.

mod by_free;
mod cluster;
mod domains;
mod grant;
mod group;
mod labels;
mod node_set;
mod queue;
mod reservation;
mod topology;
mod view;
mod why;

pub use cluster::{Cluster, Placement, TooLarge, TooMany, Unfit};
pub use labels::NoLabel;
pub use node_set::{Allowed, NodeSet};
pub use queue::QueuePass;
pub use topology::{Capacity, Core, Device, Node, NumaMemory};
pub use view::ClusterView;

use std::collections::BTreeMap;

/// How near the cores of a job are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Affinity {
    /// Anywhere on the node; of as few NUMA nodes as are free now.
    Core,
    /// In one package (socket), or in as few as the node has for so much. It waits until those are
    /// free.
    Socket,
    /// On one NUMA node, its memory too, or on as few as the node has for so much. It waits until
    /// those are free.
    Numa,
}

/// What a task of a job needs, or each member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Physical cores, at least 1.
    pub cores: u32,
    /// How near the cores must be to each other.
    pub affinity: Affinity,
    /// `true`: all hardware threads of the cores; `false`: the first of each. The cores are taken
    /// whole either way.
    pub threads: bool,
    /// Memory of one member, bytes.
    pub memory_bytes: u64,
    /// Number of devices of one member, by kind: `nvidia.com/gpu`.
    pub devices: BTreeMap<String, u32>,
    /// Labels that the node must have, by key.
    pub labels: BTreeMap<String, String>,
    /// No other run may be on the node meanwhile.
    pub exclusive: bool,
    /// Nodes that it may go to.
    pub allowed: Allowed,
    /// A label: members of a group go to nodes with one common value of it if there is room for all
    /// of them now, else to nodes with as few values as possible. They do not wait to be near.
    /// Nodes without the label come last. It says nothing of a group of one.
    pub near: Option<String>,
    /// At most one member of a group on each node.
    pub spread: bool,
    /// It ends after this time at the latest, seconds. Without it nothing is planned on its end.
    pub limit_seconds: Option<u64>,
}

#[cfg(test)]
mod tests;
