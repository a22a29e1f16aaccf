//! The planner alone, in this process on one core: 1,000,000 queued jobs on 10,000 nodes of 128 cores and 8 GPUs. It has no peer.
//!
//! The queue is planned from its head until nothing more begins; then all that runs ends, and the rest is planned, until the queue is
//! empty. Every placement is checked outside of the clock.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use bench::outcome::{Better, Outcome, Row};
use planner::{Affinity, Capacity, Cluster, Core, Device, Node, NodeKey, NumaMemory, Placement, Request};

use crate::{
    clock,
    frame::Frame,
    turns::{self, OURS, Samples, Side},
};

const NODES: u32 = 10_000;
const JOBS: u32 = 1_000_000;

/// Of a node: two packages of four NUMA nodes.
const CORES: u32 = 128;
const NUMA_NODES: u32 = 8;
const GPUS: u32 = 8;
const MEMORY_BYTES: u64 = 512 << 30;

const GPU: &str = "nvidia.com/gpu";

const PLACED: &str = "placements on one core";

/// Measures.
///
/// # Errors
/// None; a plan that is wrong is told as what could not be measured.
pub(crate) fn measure(frame: &Frame) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::new("planner");
    outcome.rows.push(Row::new(PLACED, "placements/s", Better::Higher).headline());
    let (nodes, jobs) = frame.size((NODES, JOBS), (NODES / 10, JOBS / 10));
    let (cluster, queue) = (cluster(nodes), queue(jobs));
    let turn = |_| {
        let seconds = plan_all(cluster.clone(), &queue)?;
        let samples: Samples = vec![(PLACED.to_owned(), f64::from(jobs) / seconds)];
        Ok(samples)
    };
    turns::take(&mut outcome, frame.size(5, 2), vec![Side::new(OURS, turn)]);
    outcome.note(format!(
        "{jobs} jobs of six shapes (1 to 128 cores, up to 8 GPUs, with and without NUMA affinity) on {nodes} nodes of {CORES} cores and {GPUS} GPUs; planning \
         uses one thread, so this is the rate per core too. There is no peer that plans without running"
    ));
    Ok(outcome)
}

/// Seconds that planning took, with the ends of what ran.
fn plan_all(mut cluster: Cluster, queue: &[Request]) -> anyhow::Result<f64> {
    let mut waiting = queue.to_vec();
    let (mut seconds, mut now) = (0.0, 0);
    while !waiting.is_empty() {
        let (placed, took) = clock::timed(|| Ok(cluster.place(&waiting, now)))?;
        ensure!(!placed.is_empty(), "{} jobs fit on no empty cluster", waiting.len());
        check(&waiting, &placed)?;
        let ((), gave_back) = clock::timed(|| {
            let all = placed.iter().all(|(_, placement)| cluster.release(placement.key));
            ensure!(all, "a placement was not known to the cluster");
            Ok(())
        })?;
        seconds += took + gave_back;
        let begun: BTreeSet<usize> = placed.iter().map(|&(index, _)| index).collect();
        let mut index = 0;
        waiting.retain(|_| {
            index += 1;
            !begun.contains(&(index - 1))
        });
        now += 3600;
    }
    Ok(seconds)
}

/// Nothing is granted twice, and each job got what it asked for.
fn check(queue: &[Request], placed: &[(usize, Placement)]) -> anyhow::Result<()> {
    let mut cores: BTreeSet<(NodeKey, u32)> = BTreeSet::new();
    let mut devices: BTreeSet<(NodeKey, &str)> = BTreeSet::new();
    let mut memory: BTreeMap<(NodeKey, u32), u64> = BTreeMap::new();
    for (index, placement) in placed {
        let (request, node) = (&queue[*index], placement.node);
        ensure!(request.key == placement.key, "the placement of another job");
        ensure!(placement.cores.len() == request.cores as usize, "not as many cores as asked for");
        let gpus = request.devices.values().sum::<u32>();
        ensure!(placement.devices.len() == gpus as usize, "not as many devices as asked for");
        let bytes: u64 = placement.memory.iter().map(|&(_, bytes)| bytes).sum();
        ensure!(bytes == request.memory_bytes, "not as much memory as asked for");
        ensure!(placement.cores.iter().all(|&core| cores.insert((node, core))), "a core was granted twice");
        ensure!(
            placement.devices.iter().all(|name| devices.insert((node, name))),
            "a device was granted twice"
        );
        for &(numa, bytes) in &placement.memory {
            *memory.entry((node, numa)).or_default() += bytes;
        }
    }
    let most = memory.values().max().copied().unwrap_or(0);
    ensure!(most <= MEMORY_BYTES / u64::from(NUMA_NODES), "more memory was granted than there is");
    Ok(())
}

fn cluster(nodes: u32) -> Cluster {
    let numa_of = |number: u32, of: u32| number / (of / NUMA_NODES);
    let cores = (0..CORES).map(|core| {
        let numa = numa_of(core, CORES);
        Core { pus: vec![core, core + CORES], package: numa / (NUMA_NODES / 2), numa }
    });
    let memory = (0..NUMA_NODES).map(|numa| NumaMemory { numa, bytes: MEMORY_BYTES / u64::from(NUMA_NODES) });
    let device = |gpu: u32| Device {
        kind: GPU.to_owned(),
        name: format!("{GPU}={gpu}"),
        numa: Some(numa_of(gpu, GPUS)),
        sick: false,
    };
    let capacity = Capacity {
        cores: cores.collect(),
        memory: memory.collect(),
        devices: (0..GPUS).map(device).collect(),
    };
    let mut cluster = Cluster::default();
    for number in 0..nodes {
        cluster.put_node(Node {
            key: NodeKey(u128::from(number)),
            name: format!("n{number}"),
            labels: BTreeMap::new(),
            capacity: capacity.clone(),
            unavailable: None,
        });
    }
    cluster
}

/// Cores, GPUs, GiB of memory and affinity of the jobs, in turn: arrays of single cores, and now and then something large.
const SHAPES: [(u32, u32, u64, Affinity); 6] = [
    (1, 0, 2, Affinity::Core),
    (4, 0, 8, Affinity::Core),
    (1, 0, 4, Affinity::Core),
    (16, 1, 32, Affinity::Numa),
    (2, 0, 4, Affinity::Socket),
    (32, 2, 64, Affinity::Socket),
];

/// One job in this many takes a whole node.
const WHOLE_NODE_EVERY: u32 = 1000;

fn queue(jobs: u32) -> Vec<Request> {
    (0..jobs).map(request).collect()
}

fn request(number: u32) -> Request {
    let (cores, gpus, gib, affinity) = match number % WHOLE_NODE_EVERY {
        0 => (CORES, GPUS, 256, Affinity::Core),
        _ => SHAPES[number as usize % SHAPES.len()],
    };
    let devices = if gpus == 0 { BTreeMap::new() } else { BTreeMap::from([(GPU.to_owned(), gpus)]) };
    Request {
        key: u128::from(number),
        cores,
        affinity,
        threads: false,
        memory_bytes: gib << 30,
        devices,
        labels: BTreeMap::new(),
        exclusive: false,
        pinned: None,
        limit_seconds: Some(3600),
    }
}
