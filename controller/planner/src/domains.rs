//! Of how few NUMA nodes or packages a request can be had, and of which.
//!
//! Exact: all sets of the smallest size that can do are tried, and the best of them is taken. A
//! machine has a few such domains (two packages of four NUMA nodes are eight), and most requests
//! fit in one, so that is cheap. Past [`MAX_SETS`] sets of one size only the largest domains are
//! tried together: a set that has enough may then be missed, and the next size is tried.

use std::collections::BTreeMap;

use crate::Capacity;

/// Most sets of one size that are tried: all of 11 domains are (11 over 5 is 462),
/// and up to three of
/// 16. A queue asks this for many nodes in each pass.
const MAX_SETS: u64 = 560;

/// What domains are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A NUMA node: its cores and its memory. There may be one without cores, and one
    /// without memory.
    Numa,
    /// A package: its cores, and the memory of all NUMA nodes that they are on.
    Package,
}

impl Kind {
    /// In what order of levels cores are kept together within the domains.
    pub(crate) fn levels(self) -> [Self; 2] {
        match self {
            Self::Numa => [Self::Numa, Self::Package],
            Self::Package => [Self::Package, Self::Numa],
        }
    }

    /// The domain of a core.
    pub(crate) fn of(self, capacity: &Capacity, core: u32) -> u32 {
        let core = &capacity.cores[core as usize];
        match self {
            Self::Numa => core.numa,
            Self::Package => core.package,
        }
    }
}

/// A domain with what of it may be taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Domain {
    /// By place in [`Capacity::cores`], ascending.
    pub(crate) cores: Vec<u32>,
    /// NUMA nodes whose memory belongs to it, each once, in no order.
    pub(crate) numas: Vec<u32>,
    /// Bytes of those.
    memory: u64,
}

/// The domains of a node, with these of its cores and this memory by NUMA node.
pub(crate) fn domains(
    capacity: &Capacity,
    kind: Kind,
    cores: impl Iterator<Item = u32>,
    memory: &BTreeMap<u32, u64>,
) -> Vec<Domain> {
    // A queue asks this for a node a request: a list that is searched is cheaper than a
    // map for so few.
    let mut found: Vec<(u32, Domain)> = Vec::new();
    for core in cores {
        let domain = domain_of(&mut found, kind.of(capacity, core));
        domain.cores.push(core);
    }
    match kind {
        Kind::Numa => {
            for &numa in memory.keys() {
                domain_of(&mut found, numa).numas.push(numa);
            }
        }
        // Of all its cores, those that are taken too: their memory is near all the same.
        Kind::Package => {
            for core in &capacity.cores {
                let domain = domain_of(&mut found, core.package);
                add_once(&mut domain.numas, core.numa);
            }
        }
    }
    found.sort_unstable_by_key(|&(id, _)| id);
    let mut domains: Vec<Domain> = found.into_iter().map(|(_, domain)| domain).collect();
    for domain in &mut domains {
        domain.memory = memory_of(&domain.numas, memory);
    }
    domains
}

/// The domain with this id, added if it is the first time that it is asked for.
fn domain_of(found: &mut Vec<(u32, Domain)>, id: u32) -> &mut Domain {
    // Cores come domain by domain on most machines: the last one is looked at first.
    let at = found.iter().rposition(|&(other, _)| other == id).unwrap_or_else(|| {
        found.push((id, Domain::default()));
        found.len() - 1
    });
    &mut found[at].1
}

/// Adds a NUMA node to a list that has each once.
pub(crate) fn add_once(numas: &mut Vec<u32>, numa: u32) {
    if numas.last() != Some(&numa) && !numas.contains(&numa) {
        numas.push(numa);
    }
}

fn memory_of(numas: &[u32], memory: &BTreeMap<u32, u64>) -> u64 {
    numas.iter().filter_map(|numa| memory.get(numa)).sum()
}

/// The smallest set of domains that has so many cores and bytes together; of several the one that
/// `rank` puts first. Places in `domains`, ascending; `None` if not even all of them have that.
pub(crate) fn fewest<R: Ord>(
    domains: &[Domain],
    memory: &BTreeMap<u32, u64>,
    wanted: (usize, u64),
    rank: impl Fn(&[usize]) -> R,
) -> Option<Vec<usize>> {
    let mut best: Option<(R, Vec<usize>)> = None;
    search(domains, memory, wanted, |set| {
        let rank = rank(set);
        if best.as_ref().is_none_or(|(other, _)| rank < *other) {
            best = Some((rank, set.to_vec()));
        }
        true
    })?;
    best.map(|(_, set)| set)
}

/// Of how many domains [`fewest`] is.
pub(crate) fn fewest_count(
    domains: &[Domain],
    memory: &BTreeMap<u32, u64>,
    wanted: (usize, u64),
) -> Option<usize> {
    search(domains, memory, wanted, |_| false)
}

/// Calls `found` with sets of the smallest size that has enough, until it says `false`.
/// Returns the size.
fn search(
    domains: &[Domain],
    memory: &BTreeMap<u32, u64>,
    (wanted, bytes): (usize, u64),
    mut found: impl FnMut(&[usize]) -> bool,
) -> Option<usize> {
    let has_enough = |set: &[usize]| {
        set.iter().map(|&place| domains[place].cores.len()).sum::<usize>() >= wanted
            && match set {
                [only] => domains[*only].memory >= bytes,
                set => {
                    // Two packages may be on one NUMA node.
                    let mut numas = Vec::new();
                    set.iter()
                        .flat_map(|&place| &domains[place].numas)
                        .for_each(|&numa| add_once(&mut numas, numa));
                    memory_of(&numas, memory) >= bytes
                }
            }
    };
    (least_size(domains, wanted, bytes)?..=domains.len()).find(|&size| {
        if combinations(domains.len(), size) > MAX_SETS {
            let mut largest: Vec<usize> = (0..domains.len()).collect();
            largest.sort_by_key(|&place| {
                std::cmp::Reverse((domains[place].cores.len(), domains[place].memory))
            });
            largest.truncate(size);
            largest.sort_unstable();
            let is_enough = has_enough(&largest);
            if is_enough {
                found(&largest);
            }
            return is_enough;
        }
        let mut any = false;
        each_set(domains.len(), size, |set| {
            let is_enough = has_enough(set);
            any |= is_enough;
            !is_enough || found(set)
        });
        any
    })
}

/// So many domains at least, if the largest by cores and the largest by memory were the same.
fn least_size(domains: &[Domain], wanted: usize, bytes: u64) -> Option<usize> {
    let count = |mut each: Vec<u64>, wanted: u64| {
        each.sort_unstable_by_key(|&one| std::cmp::Reverse(one));
        let mut sum = 0_u64;
        let enough = each.iter().position(|one| {
            sum = sum.saturating_add(*one);
            sum >= wanted
        });
        enough.map(|place| place + 1)
    };
    let cores =
        count(domains.iter().map(|domain| domain.cores.len() as u64).collect(), wanted as u64)?;
    let memory = count(domains.iter().map(|domain| domain.memory).collect(), bytes)?;
    Some(cores.max(memory))
}

/// Calls `each` with every set of `size` places below `count`, ascending, until it says `false`.
fn each_set(count: usize, size: usize, mut each: impl FnMut(&[usize]) -> bool) {
    let mut set: Vec<usize> = (0..size).collect();
    loop {
        if !each(&set) {
            return;
        }
        // The last place that can go up does; those behind it follow it closely.
        let Some(at) = (0..size).rev().find(|&at| set[at] < count - size + at) else { return };
        set[at] += 1;
        for next in at + 1..size {
            set[next] = set[next - 1] + 1;
        }
    }
}

/// `count` over `size`, or more than [`MAX_SETS`].
fn combinations(count: usize, size: usize) -> u64 {
    let size = size.min(count - size);
    let mut sets = 1_u64;
    for step in 0..size {
        sets = sets * (count - step) as u64 / (step + 1) as u64;
        if sets > MAX_SETS {
            return sets;
        }
    }
    sets
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_sets_of_a_size_are_gone_through() {
        for (count, size) in [(1, 1), (4, 1), (5, 3), (6, 6), (8, 4)] {
            let mut sets = BTreeSet::new();
            each_set(count, size, |set| sets.insert(set.to_vec()));
            assert_eq!(sets.len() as u64, combinations(count, size));
            assert!(
                sets.iter().all(|set| set.is_sorted() && set.iter().all(|&place| place < count))
            );
        }
    }
}
