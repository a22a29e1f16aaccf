//! Jobs and cluster in, placements out. Called by `controller`; pure: no I/O, no clock, no randomness.
//!
//! A [`Cluster`] knows what each node has and what is taken. A [`Pass`] goes through a queue in its order (first
//! in, first out) and grants cores, memory by NUMA node and devices. The first request that has to wait gets a
//! *reservation*: the node and time at which it can begin at the latest, from the limits of what runs. Later requests may
//! overtake it (backfill, after the EASY scheduler of Lifka, 1995) only where they do not delay it.
//!
//! | module | holds |
//! |---|---|
//! | [`topology`] | what a node has |
//! | [`domains`] | of how few NUMA nodes or packages a request can be had |
//! | [`grant`] | which cores, memory and devices of one node a request gets |
//! | [`labels`] | which nodes have the labels that are wanted |
//! | [`by_free`] | where to look first |
//! | [`cluster`] | all nodes, and what is taken |
//! | [`queue`] | the order, the reservation, the backfill |
//! | [`why`] | why a request waits |
//!
//! Invariants: no core, device or byte of memory is granted twice; a placement is exactly what was asked for; a request
//! that would fit on an empty node is never forgotten for later ones.

mod by_free;
mod cluster;
mod domains;
mod grant;
mod labels;
mod queue;
mod topology;
mod why;

pub use cluster::{Cluster, Placement, TooLarge, Unfit};
pub use labels::NoLabel;
pub use queue::Pass;
pub use topology::{Capacity, Core, Device, Node, NodeKey, NumaMemory};

use std::collections::BTreeMap;

/// How near the cores of a job are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Affinity {
    /// Anywhere on the node; of as few NUMA nodes as are free now.
    Core,
    /// In one package (socket), or in as few as the node has for so much. It waits until those are free.
    Socket,
    /// On one NUMA node, its memory too, or on as few as the node has for so much. It waits until those
    /// are free.
    Numa,
}

/// What one task of a job needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Names the run; never used twice.
    pub key: u128,
    /// Physical cores, at least 1.
    pub cores: u32,
    /// How near to each other.
    pub affinity: Affinity,
    /// `true`: all hardware threads of the cores; `false`: the first of each. The cores are taken whole either way.
    pub threads: bool,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Devices by kind: `nvidia.com/gpu`.
    pub devices: BTreeMap<String, u32>,
    /// Labels that the node must have, by key.
    pub labels: BTreeMap<String, String>,
    /// The whole node.
    pub exclusive: bool,
    /// Only this node.
    pub pinned: Option<NodeKey>,
    /// It ends after this time at the latest, seconds. Without it nothing is planned on its end.
    pub limit_seconds: Option<u64>,
}

#[cfg(test)]
mod near_tests;
#[cfg(test)]
mod tests;
