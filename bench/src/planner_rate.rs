//! The planner alone, in this process on one core: 1,000,000 queued jobs on 10,000 nodes of 128
//! cores and 8 GPUs, once each job by itself, and once with groups among them on nodes that come
//! and go. It has no peer.
//!
//! The queue is planned from its head until nothing more begins; then all that runs ends, and the
//! rest is planned, until the queue is empty. Every placement is checked outside of the clock.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use api::{ids::NodeId, run::RunId};
use bench::outcome::{Better, Outcome, Row};
use planner::{
    Affinity, Allowed, Capacity, Cluster, Core, Device, Node, NumaMemory, Placement, Request,
};
use uuid::Uuid;

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
const GROUPS: &str = "placements on one core, 5 % of the jobs groups";

/// One job in this many is a group of 2 to 8 members.
const GROUP_EVERY: u32 = 20;

/// Nodes of one rack, where there are groups.
const RACK_NODES: u32 = 40;

/// One node in this many is away in each round, another one each time, where there are groups.
const AWAY_EVERY: u32 = 50;

/// The label that says which rack a node is in.
const RACK: &str = "rack";

/// A job: what it needs, and its runs.
type Job = (Request, Vec<RunId>);

/// Measures.
///
/// # Errors
/// None; a plan that is wrong is told as what could not be measured.
pub(crate) fn measure(frame: &Frame) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::new("planner");
    outcome.rows.push(Row::new(PLACED, "placements/s", Better::Higher).headline());
    outcome.rows.push(Row::new(GROUPS, "placements/s", Better::Higher));
    let (nodes, jobs) = frame.size((NODES, JOBS), (NODES / 10, JOBS / 10));
    let single = (nodes_of(nodes, false), queue(jobs, false));
    let groups = (nodes_of(nodes, true), queue(jobs, true));
    let turn = |_| {
        let samples: Samples = vec![
            (PLACED.to_owned(), rate(&single.0, &single.1, false)?),
            (GROUPS.to_owned(), rate(&groups.0, &groups.1, true)?),
        ];
        Ok(samples)
    };
    turns::take(&mut outcome, frame.size(5, 2), vec![Side::new(OURS, turn)]);
    outcome.note(format!(
        "{jobs} jobs of six shapes (1 to 128 cores, up to 8 GPUs, with and without NUMA affinity) on {nodes} \
         nodes of {CORES} cores and {GPUS} GPUs; planning uses one thread, so this is the rate per core too. \
         There is no peer that plans without running"
    ));
    outcome.note(format!(
        "with groups: one job in {GROUP_EVERY} has 2 to 8 members, all placed at once, a third of them near \
         to each other by rack and a third on nodes of their own; one node in {AWAY_EVERY} is away, another \
         one in each round. A member is a placement"
    ));
    Ok(outcome)
}

/// Placements a second, with the ends of what ran; `flaps`: and with nodes that go and come back.
fn rate(nodes: &[Node], queue: &[Job], flaps: bool) -> anyhow::Result<f64> {
    let mut cluster = Cluster::default();
    nodes.iter().for_each(|node| cluster.put_node(node.clone()));
    let mut waiting = queue.to_vec();
    let (mut seconds, mut now, mut count) = (0.0, 0, 0_usize);
    for round in 0.. {
        if waiting.is_empty() {
            break;
        }
        let away: Vec<&Node> = match flaps {
            true => nodes
                .iter()
                .skip(round % AWAY_EVERY as usize)
                .step_by(AWAY_EVERY as usize)
                .collect(),
            false => Vec::new(),
        };
        let (placed, took) = clock::timed(|| {
            for node in &away {
                cluster.put_node(Node { unavailable: Some("away".to_owned()), ..(*node).clone() });
            }
            Ok(cluster.place(&waiting, now))
        })?;
        ensure!(!placed.is_empty(), "{} jobs fit on no empty cluster", waiting.len());
        check(&waiting, &placed, &away)?;
        let ((), gave_back) = clock::timed(|| {
            let members = placed.iter().flat_map(|(_, group)| group);
            let all =
                members.map(|member| cluster.release(member.run)).fold(true, |all, one| all & one);
            ensure!(all, "a placement was not known to the cluster");
            away.iter().for_each(|node| cluster.put_node((*node).clone()));
            Ok(())
        })?;
        seconds += took + gave_back;
        count += placed.iter().map(|(_, group)| group.len()).sum::<usize>();
        let begun: BTreeSet<usize> = placed.iter().map(|&(index, _)| index).collect();
        let mut index = 0;
        waiting.retain(|_| {
            index += 1;
            !begun.contains(&(index - 1))
        });
        now += 3600;
    }
    Ok(f64::from(u32::try_from(count)?) / seconds)
}

/// Nothing is granted twice, and each job got what it asked for.
fn check(queue: &[Job], placed: &[(usize, Vec<Placement>)], away: &[&Node]) -> anyhow::Result<()> {
    let mut cores: BTreeSet<(NodeId, u32)> = BTreeSet::new();
    let mut devices: BTreeSet<(NodeId, &str)> = BTreeSet::new();
    let mut memory: BTreeMap<(NodeId, u32), u64> = BTreeMap::new();
    let away: BTreeSet<NodeId> = away.iter().map(|node| node.id).collect();
    for (index, group) in placed {
        let (request, runs) = &queue[*index];
        ensure!(runs.iter().eq(group.iter().map(|member| &member.run)), "a group in part");
        let nodes: BTreeSet<NodeId> = group.iter().map(|member| member.node).collect();
        ensure!(!request.spread || nodes.len() == group.len(), "two members on a node");
        ensure!(nodes.is_disjoint(&away), "a placement on a node that is away");
        for member in group {
            let node = member.node;
            ensure!(member.cores.len() == request.cores as usize, "not as many cores as asked for");
            let gpus = request.devices.values().sum::<u32>();
            ensure!(member.devices.len() == gpus as usize, "not as many devices as asked for");
            let bytes: u64 = member.memory.iter().map(|&(_, bytes)| bytes).sum();
            ensure!(bytes == request.memory_bytes, "not as much memory as asked for");
            ensure!(
                member.cores.iter().all(|&core| cores.insert((node, core))),
                "a core was granted twice"
            );
            ensure!(
                member.devices.iter().all(|name| devices.insert((node, name))),
                "a device was granted twice"
            );
            for &(numa, bytes) in &member.memory {
                *memory.entry((node, numa)).or_default() += bytes;
            }
        }
    }
    let most = memory.values().max().copied().unwrap_or(0);
    ensure!(most <= MEMORY_BYTES / u64::from(NUMA_NODES), "more memory was granted than there is");
    Ok(())
}

fn nodes_of(nodes: u32, in_racks: bool) -> Vec<Node> {
    let numa_of = |number: u32, of: u32| number / (of / NUMA_NODES);
    let cores = (0..CORES).map(|core| {
        let numa = numa_of(core, CORES);
        Core { pus: vec![core, core + CORES], package: numa / (NUMA_NODES / 2), numa }
    });
    let memory = (0..NUMA_NODES)
        .map(|numa| NumaMemory { numa, bytes: MEMORY_BYTES / u64::from(NUMA_NODES) });
    let device = |gpu: u32| Device {
        kind: GPU.to_owned(),
        name: format!("{GPU}={gpu}"),
        numa: Some(numa_of(gpu, GPUS)),
        unhealthy: false,
    };
    let capacity = Capacity {
        cores: cores.collect(),
        memory: memory.collect(),
        devices: (0..GPUS).map(device).collect(),
    };
    let node = |number: u32| {
        let rack = in_racks.then(|| (RACK.to_owned(), format!("r{}", number / RACK_NODES)));
        Node {
            id: NodeId(Uuid::from_u128(number.into())),
            name: format!("n{number}"),
            labels: rack.into_iter().collect(),
            capacity: capacity.clone(),
            unavailable: None,
        }
    };
    (0..nodes).map(node).collect()
}

/// Cores, GPUs, GiB of memory and affinity of the jobs, in turn: arrays of single cores, and now
/// and then something large.
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

fn queue(jobs: u32, with_groups: bool) -> Vec<Job> {
    let mut runs = (0..).map(|number| RunId(Uuid::from_u128(number)));
    let job = |number: u32| match with_groups && number.is_multiple_of(GROUP_EVERY) {
        true => {
            let group = number / GROUP_EVERY;
            let members = 2 + group % 7;
            (of_group(number, group), runs.by_ref().take(members as usize).collect())
        }
        false => (request(number, number), runs.by_ref().take(1).collect()),
    };
    (0..jobs).map(job).collect()
}

/// What each member of a group needs. Half of them may run for longer than all else: those must
/// leave room for the head of the queue.
fn of_group(number: u32, group: u32) -> Request {
    Request {
        near: (group % 3 == 1).then(|| RACK.to_owned()),
        spread: group % 3 == 2,
        limit_seconds: Some(if group.is_multiple_of(2) { 3600 } else { 7200 }),
        ..request(number, group)
    }
}

fn request(number: u32, shape: u32) -> Request {
    let (cores, gpus, gib, affinity) = match number % WHOLE_NODE_EVERY {
        0 => (CORES, GPUS, 256, Affinity::Core),
        _ => SHAPES[shape as usize % SHAPES.len()],
    };
    let devices =
        if gpus == 0 { BTreeMap::new() } else { BTreeMap::from([(GPU.to_owned(), gpus)]) };
    Request {
        cores,
        affinity,
        threads: false,
        memory_bytes: gib << 30,
        devices,
        labels: BTreeMap::new(),
        exclusive: false,
        allowed: Allowed::Any,
        near: None,
        spread: false,
        limit_seconds: Some(3600),
    }
}
