//! Nearness of what is granted, beside all that could have been granted on a small machine.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::{
    Affinity, Capacity, Core, NumaMemory, Request,
    grant::{Free, Grant},
};

const GIB: u64 = 1 << 30;

/// A machine: for each core its NUMA node and package, for each NUMA node its memory;
/// and what is taken.
fn machine(cores: &[(u32, u32)], memory: &[u64], taken: &[bool], used: &[u64]) -> (Capacity, Free) {
    let capacity = Capacity {
        cores: (0..)
            .zip(cores)
            .map(|(pu, &(numa, package))| Core { pus: vec![pu], package, numa })
            .collect(),
        memory: (0..)
            .zip(memory)
            .map(|(numa, gib)| NumaMemory { numa, bytes: gib * GIB })
            .collect(),
        devices: Vec::new(),
    };
    let mut free = Free::ever(&capacity);
    let cores = (0..).zip(cores).zip(taken).filter(|(_, taken)| **taken).map(|((core, _), _)| core);
    let memory =
        (0..).zip(used.iter().zip(memory)).map(|(numa, (used, all))| (numa, used.min(all) * GIB));
    free.take(
        &Grant { cores: cores.collect(), memory: memory.collect(), devices: Vec::new() },
        false,
    );
    (capacity, free)
}

fn request(cores: u32, affinity: Affinity, gib: u64) -> Request {
    crate::tests::request(cores, affinity, gib)
}

fn subsets(of: &[u32]) -> Vec<Vec<u32>> {
    let chosen = |bits: u32| {
        of.iter().enumerate().filter(move |(place, _)| bits >> place & 1 == 1).map(|(_, one)| *one)
    };
    (0..1 << of.len()).map(|bits| chosen(bits).collect()).collect()
}

/// Of how few domains something is: NUMA nodes of cores and memory; or packages that have the
/// cores, and near to which all the memory is.
fn spread(
    capacity: &Capacity,
    affinity: Affinity,
    cores: &[u32],
    memory: &BTreeSet<u32>,
) -> Option<usize> {
    let of = |core: &u32| &capacity.cores[*core as usize];
    if affinity != Affinity::Socket {
        let numas: BTreeSet<u32> =
            cores.iter().map(|core| of(core).numa).chain(memory.iter().copied()).collect();
        return Some(numas.len());
    }
    let packages: BTreeSet<u32> = capacity.cores.iter().map(|core| core.package).collect();
    let packages: Vec<u32> = packages.into_iter().collect();
    let covers = |set: &Vec<u32>| {
        let near = |numa: &u32| {
            capacity.cores.iter().any(|core| core.numa == *numa && set.contains(&core.package))
        };
        cores.iter().all(|core| set.contains(&of(core).package)) && memory.iter().all(near)
    };
    subsets(&packages).iter().filter(|set| covers(set)).map(Vec::len).min()
}

/// The least spread of all ways to take so much of what is free.
fn least(capacity: &Capacity, free: &Free, request: &Request, with_memory: bool) -> Option<usize> {
    let cores: Vec<u32> = free.cores.iter().copied().collect();
    let numas: Vec<u32> = free.memory.keys().copied().collect();
    let bytes = |memory: &Vec<u32>| memory.iter().map(|numa| free.memory[numa]).sum::<u64>();
    let memories = match with_memory {
        true => subsets(&numas)
            .into_iter()
            .filter(|memory| bytes(memory) >= request.memory_bytes)
            .collect(),
        false => vec![Vec::new()],
    };
    let memories: Vec<BTreeSet<u32>> =
        memories.into_iter().map(|memory: Vec<u32>| memory.into_iter().collect()).collect();
    let cores = subsets(&cores).into_iter().filter(|cores| cores.len() == request.cores as usize);
    let ways = cores.flat_map(|cores| {
        let spread = |memory| spread(capacity, request.affinity, &cores, memory);
        memories.iter().filter_map(spread).min()
    });
    ways.min()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn nothing_nearer_could_have_been_granted(
        cores in prop::collection::vec((0..3_u32, 0..3_u32), 1..8),
        memory in prop::collection::vec(0..4_u64, 3..5),
        taken in prop::collection::vec(prop::bool::weighted(0.3), 8),
        used in prop::collection::vec(0..3_u64, 5),
        wanted in 1..5_u32,
        gib in 0..6_u64,
        affinity in prop_oneof![Just(Affinity::Core), Just(Affinity::Socket), Just(Affinity::Numa)],
    ) {
        let (capacity, free) = machine(&cores, &memory, &taken, &used);
        let request = request(wanted, affinity, gib);
        let granted = free.grant(&capacity, &request);
        let is_enough =
            free.cores.len() >= wanted as usize && free.memory_bytes() >= request.memory_bytes;
        let empty = Free::ever(&capacity);
        // What of memory is near no package counts only where it must.
        let with_memory = affinity != Affinity::Socket || least(&capacity, &empty, &request, true).is_some();
        let now = least(&capacity, &free, &request, with_memory);
        let ever = least(&capacity, &empty, &request, with_memory);
        let can_be = is_enough && now.is_some() && (affinity == Affinity::Core || now <= ever);
        prop_assert_eq!(granted.is_some(), can_be, "now {:?}, on the empty node {:?}", now, ever);
        if let Some(grant) = granted {
            prop_assert_eq!(grant.cores.len(), wanted as usize);
            prop_assert_eq!(grant.memory.iter().map(|(_, bytes)| bytes).sum::<u64>(), gib * GIB);
            let memory = match with_memory {
                true => grant.memory.iter().map(|(numa, _)| *numa).collect(),
                false => BTreeSet::new(),
            };
            prop_assert_eq!(spread(&capacity, affinity, &grant.cores, &memory), now);
        }
    }
}

/// Two packages on one NUMA node, as small machines have: a request that fits in one package is not
/// put on two.
#[test]
fn cores_of_one_numa_node_are_of_one_package() {
    let cores: Vec<(u32, u32)> = (0..8).map(|core| (0, core / 4)).collect();
    let taken = [true, false, false, false, false, false, false, false];
    let (capacity, free) = machine(&cores, &[16], &taken, &[4]);
    for affinity in [Affinity::Core, Affinity::Socket, Affinity::Numa] {
        let granted = free.grant(&capacity, &request(4, affinity, 2)).unwrap();
        assert_eq!(granted.cores, [4, 5, 6, 7], "{affinity:?}");
        let granted = free.grant(&capacity, &request(3, affinity, 2)).unwrap();
        assert_eq!(granted.cores, [1, 2, 3], "{affinity:?}");
    }
}

#[test]
fn the_least_spread_of_a_cluster_is_known() {
    let mut cluster = crate::Cluster::default();
    for (key, cores) in [(1, 2), (2, 4)] {
        let places: Vec<(u32, u32)> =
            (0..2 * cores).map(|core| (core / cores, core / cores)).collect();
        let (capacity, _) = machine(&places, &[8, 8], &[], &[]);
        let name = format!("n{key}");
        let labels = BTreeMap::new();
        let id = crate::tests::node_id(key);
        cluster.put_node(crate::Node { id, name, labels, capacity, unavailable: None });
    }
    let cluster = cluster.view();
    assert_eq!(cluster.nearest(&request(3, Affinity::Numa, 2)), Some((1, "n2")));
    assert_eq!(cluster.nearest(&request(3, Affinity::Numa, 9)), Some((2, "n1")));
    assert_eq!(cluster.nearest(&request(9, Affinity::Numa, 1)), None);
    assert_eq!(cluster.nearest(&request(3, Affinity::Core, 1)), None);
}

/// Four of eight cores are free, two in each package: who wants them together waits.
#[test]
fn what_cannot_be_near_now_waits() {
    let cores: Vec<(u32, u32)> = (0..8).map(|core| (core / 4, core / 4)).collect();
    let taken = [true, true, false, false, true, true, false, false];
    let (capacity, free) = machine(&cores, &[8, 8], &taken, &[0, 0]);
    assert_eq!(free.grant(&capacity, &request(4, Affinity::Numa, 2)), None);
    assert_eq!(free.grant(&capacity, &request(4, Affinity::Socket, 2)), None);
    assert!(free.grant(&capacity, &request(4, Affinity::Core, 2)).is_some());
    // Of more than one NUMA node has, two do: its memory makes it two.
    let granted = free.grant(&capacity, &request(4, Affinity::Numa, 10)).unwrap();
    assert_eq!(granted.cores, [2, 3, 6, 7]);
}
