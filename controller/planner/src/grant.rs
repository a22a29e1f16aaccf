//! Which cores, memory and devices of one node a request gets, or that it gets none.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Affinity, Capacity, Request,
    domains::{Domain, Kind, add_once, domains, fewest, fewest_count},
};

/// What is free of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Free {
    /// By place in [`Capacity::cores`].
    pub(crate) cores: BTreeSet<u32>,
    /// Bytes by NUMA node.
    pub(crate) memory: BTreeMap<u32, u64>,
    /// Names.
    pub(crate) devices: BTreeSet<String>,
    /// Somebody has the whole node.
    pub(crate) is_exclusive: bool,
    /// Runs on it.
    pub(crate) runs: usize,
}

/// A part of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) cores: Vec<u32>,
    pub(crate) memory: Vec<(u32, u64)>,
    pub(crate) devices: Vec<String>,
}

impl Free {
    /// All of a node that is in service.
    pub(crate) fn all(capacity: &Capacity) -> Self {
        let mut free = Self::ever(capacity);
        for device in capacity.devices.iter().filter(|device| device.unhealthy) {
            free.devices.remove(&device.name);
        }
        free
    }

    /// All of a node once everything is well.
    pub(crate) fn ever(capacity: &Capacity) -> Self {
        let count = u32::try_from(capacity.cores.len()).unwrap_or(u32::MAX);
        Self {
            cores: (0..count).collect(),
            memory: capacity.memory.iter().map(|memory| (memory.numa, memory.bytes)).collect(),
            devices: capacity.devices.iter().map(|device| device.name.clone()).collect(),
            is_exclusive: false,
            runs: 0,
        }
    }

    /// Memory in all, bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory.values().sum()
    }

    /// What a request gets of what is free; `None` if that is not enough.
    pub(crate) fn grant(&self, capacity: &Capacity, request: &Request) -> Option<Grant> {
        if self.is_exclusive || (request.exclusive && self.runs > 0) {
            return None;
        }
        let enough = self.cores.len() >= request.cores as usize
            && self.memory_bytes() >= request.memory_bytes;
        if !enough {
            return None;
        }
        if request.exclusive {
            self.devices(capacity, request, &[])?;
            return Some(Grant {
                cores: self.cores.iter().copied().collect(),
                memory: self.memory.iter().map(|(numa, bytes)| (*numa, *bytes)).collect(),
                devices: self.devices.iter().cloned().collect(),
            });
        }
        let (cores, domain) = self.choose_cores(capacity, request)?;
        let near = numas_of(capacity, cores.iter());
        let memory = self.choose_memory(request.memory_bytes, &near, domain.as_deref())?;
        let devices = self.devices(capacity, request, &near)?;
        Some(Grant { cores, memory, devices })
    }

    /// For how many equal members there is room, at most `most`. They are granted one after the
    /// other, as equal requests would be.
    pub(crate) fn room(&self, capacity: &Capacity, request: &Request, most: usize) -> usize {
        let most = most.min(self.room_bound(request));
        match most {
            0 => 0,
            1 => usize::from(self.grant(capacity, request).is_some()),
            _ => self.clone().fill(capacity, request, most),
        }
    }

    /// Takes out of what is free what equal members get, at most `most` of them. Returns how many
    /// there was room for.
    pub(crate) fn fill(&mut self, capacity: &Capacity, request: &Request, most: usize) -> usize {
        let most = most.min(self.room_bound(request));
        let granted = (0..most).map_while(|_| {
            let grant = self.grant(capacity, request)?;
            self.take(&grant, request.exclusive);
            Some(())
        });
        granted.count()
    }

    /// More members than this have no room here, by cores, memory, and whether they may share the
    /// node.
    pub(crate) fn room_bound(&self, request: &Request) -> usize {
        if self.is_exclusive || (request.exclusive && self.runs > 0) {
            return 0;
        }
        let by_cores = self.cores.len().checked_div(request.cores as usize).unwrap_or(usize::MAX);
        let by_memory = self.memory_bytes().checked_div(request.memory_bytes).unwrap_or(u64::MAX);
        let by_memory = usize::try_from(by_memory).unwrap_or(usize::MAX);
        let by_sharing = if request.spread || request.exclusive { 1 } else { usize::MAX };
        by_cores.min(by_memory).min(by_sharing)
    }

    /// The cores, and the NUMA nodes that the memory must come from, if not from anywhere.
    ///
    /// Of as few domains as can be. What asks for nearness gets no more of them than it would on
    /// the empty node: it waits for those.
    fn choose_cores(
        &self,
        capacity: &Capacity,
        request: &Request,
    ) -> Option<(Vec<u32>, Option<Vec<u32>>)> {
        let kind = match request.affinity {
            Affinity::Socket => Kind::Package,
            Affinity::Core | Affinity::Numa => Kind::Numa,
        };
        let domains = domains(capacity, kind, self.cores.iter().copied(), &self.memory);
        let wanted = (request.cores as usize, request.memory_bytes);
        let rank = |set: &[usize]| self.rank(capacity, request, &domains, set);
        let (set, with_memory) = match fewest(&domains, &self.memory, wanted, rank) {
            Some(set) => (set, true),
            // Memory that is near no core of any package, for one.
            None => (fewest(&domains, &self.memory, (wanted.0, 0), rank)?, false),
        };
        if request.affinity != Affinity::Core
            && (set.len() > 1 || !with_memory)
            && !as_near_as_empty(capacity, kind, wanted, set.len(), with_memory)
        {
            return None;
        }
        let cores: Vec<u32> =
            set.iter().flat_map(|&place| domains[place].cores.iter().copied()).collect();
        let mut cores = self.pick(capacity, request, cores, request.cores as usize, &kind.levels());
        cores.sort_unstable();
        let numas = set.iter().flat_map(|&place| domains[place].numas.iter().copied()).collect();
        Some((cores, with_memory.then_some(numas)))
    }

    /// What makes one set of domains better than another of its size: devices near to it, cores in
    /// fewer packages, and less left over.
    fn rank(
        &self,
        capacity: &Capacity,
        request: &Request,
        domains: &[Domain],
        set: &[usize],
    ) -> (usize, usize, usize) {
        let cores = || set.iter().flat_map(|&place| &domains[place].cores);
        let far = if request.devices.is_empty() {
            0
        } else {
            self.devices_far(capacity, request, cores())
        };
        let mut packages: Vec<(u32, usize)> = Vec::new();
        for &core in cores() {
            let package = Kind::Package.of(capacity, core);
            match packages.iter_mut().rfind(|(other, _)| *other == package) {
                Some((_, size)) => *size += 1,
                None => packages.push((package, 1)),
            }
        }
        let all = packages.iter().map(|&(_, size)| size).sum();
        packages.sort_unstable_by_key(|&(_, size)| std::cmp::Reverse(size));
        let mut rest = request.cores as usize;
        let packages = packages.iter().take_while(|&&(_, size)| {
            let is_needed = rest > 0;
            rest = rest.saturating_sub(size);
            is_needed
        });
        (far, packages.count(), all)
    }

    /// So many of these cores, of as few domains of the first level as can be, in each of those of
    /// as few of the next. A domain near a wanted device comes first.
    fn pick(
        &self,
        capacity: &Capacity,
        request: &Request,
        mut cores: Vec<u32>,
        wanted: usize,
        levels: &[Kind],
    ) -> Vec<u32> {
        let Some((level, below)) = levels.split_first().filter(|_| wanted < cores.len()) else {
            cores.truncate(wanted);
            return cores;
        };
        let mut groups: Vec<(u32, Vec<u32>)> = Vec::new();
        for core in cores {
            let id = level.of(capacity, core);
            match groups.iter_mut().rfind(|(other, _)| *other == id) {
                Some((_, group)) => group.push(core),
                None => groups.push((id, vec![core])),
            }
        }
        let mut picked = Vec::with_capacity(wanted);
        while picked.len() < wanted {
            let rest = wanted - picked.len();
            let next = groups.iter().enumerate().min_by_key(|(_, (id, group))| {
                let apart = self.devices_apart(capacity, request, group);
                // The smallest that is enough, else the largest.
                let fit = if group.len() >= rest {
                    (0, group.len())
                } else {
                    (1, usize::MAX - group.len())
                };
                (apart, fit, *id)
            });
            let Some(at) = next.map(|(at, _)| at) else { break };
            let (_, group) = groups.swap_remove(at);
            let count = rest.min(group.len());
            picked.extend(self.pick(capacity, request, group, count, below));
        }
        picked
    }

    /// How many of the devices wanted are not free near these cores.
    fn devices_far<'a>(
        &self,
        capacity: &Capacity,
        request: &Request,
        cores: impl Iterator<Item = &'a u32>,
    ) -> usize {
        let near = numas_of(capacity, cores);
        let far = |(kind, &count): (&String, &u32)| {
            let is_near = |device: &&crate::Device| {
                device.kind == *kind
                    && device.numa.is_some_and(|numa| near.contains(&numa))
                    && self.devices.contains(&device.name)
            };
            (count as usize).saturating_sub(capacity.devices.iter().filter(is_near).count())
        };
        request.devices.iter().map(far).sum()
    }

    /// 0 for cores with one near a free device that is wanted, 1 for others.
    fn devices_apart(&self, capacity: &Capacity, request: &Request, cores: &[u32]) -> u8 {
        if request.devices.is_empty() {
            return 1;
        }
        let near = numas_of(capacity, cores.iter());
        let is_near = capacity.devices.iter().any(|device| {
            device.numa.is_some_and(|numa| near.contains(&numa))
                && request.devices.contains_key(&device.kind)
                && self.devices.contains(&device.name)
        });
        u8::from(!is_near)
    }

    /// Memory near the cores first, then from the rest of the domain, or of the node
    /// if there is none.
    fn choose_memory(
        &self,
        bytes: u64,
        near: &[u32],
        domain: Option<&[u32]>,
    ) -> Option<Vec<(u32, u64)>> {
        let allowed = |numa: &u32| domain.is_none_or(|domain| domain.contains(numa));
        let mut numas: Vec<u32> = self.memory.keys().copied().filter(allowed).collect();
        numas.sort_by_key(|numa| (!near.contains(numa), std::cmp::Reverse(self.memory[numa])));
        let mut rest = bytes;
        let mut granted = Vec::new();
        for numa in numas {
            let part = rest.min(self.memory[&numa]);
            if part > 0 {
                granted.push((numa, part));
                rest -= part;
            }
        }
        granted.sort_unstable();
        (rest == 0).then_some(granted)
    }

    /// Free devices of the kinds wanted, those near the cores first.
    fn devices(&self, capacity: &Capacity, request: &Request, near: &[u32]) -> Option<Vec<String>> {
        let mut granted = Vec::new();
        for (kind, &count) in &request.devices {
            let mut free: Vec<_> = capacity
                .devices
                .iter()
                .filter(|device| device.kind == *kind && self.devices.contains(&device.name))
                .collect();
            free.sort_by_key(|device| !device.numa.is_some_and(|numa| near.contains(&numa)));
            if free.len() < count as usize {
                return None;
            }
            granted.extend(free.into_iter().take(count as usize).map(|device| device.name.clone()));
        }
        Some(granted)
    }

    /// Takes a grant out of what is free. `true`: all of it was free, and
    /// [`Self::give_back`] may undo it.
    pub(crate) fn take(&mut self, grant: &Grant, exclusive: bool) -> bool {
        let mut all = !exclusive;
        for core in &grant.cores {
            all &= self.cores.remove(core);
        }
        for (numa, bytes) in &grant.memory {
            let free = self.memory.get_mut(numa);
            all &= free.as_ref().is_some_and(|free| **free >= *bytes);
            if let Some(free) = free {
                *free = free.saturating_sub(*bytes);
            }
        }
        for device in &grant.devices {
            all &= self.devices.remove(device);
        }
        self.is_exclusive |= exclusive;
        self.runs += 1;
        all
    }

    /// Undoes a [`Self::take`] that found all of it free.
    pub(crate) fn give_back(&mut self, grant: Grant) {
        self.cores.extend(grant.cores);
        for (numa, bytes) in grant.memory {
            *self.memory.entry(numa).or_default() += bytes;
        }
        self.devices.extend(grant.devices);
        self.runs -= 1;
    }
}

/// NUMA nodes of cores, each once.
fn numas_of<'a>(capacity: &Capacity, cores: impl Iterator<Item = &'a u32>) -> Vec<u32> {
    let mut numas = Vec::new();
    cores.for_each(|&core| add_once(&mut numas, capacity.cores[core as usize].numa));
    numas
}

/// Of how few NUMA nodes or packages, as it asks for them, a request could be had of the empty
/// node. `None`: it asks for neither, or there is not so much.
pub(crate) fn least_domains(capacity: &Capacity, request: &Request) -> Option<usize> {
    let kind = match request.affinity {
        Affinity::Core => return None,
        Affinity::Socket => Kind::Package,
        Affinity::Numa => Kind::Numa,
    };
    let (domains, memory) = all_domains(capacity, kind);
    let least = |bytes| fewest_count(&domains, &memory, (request.cores as usize, bytes));
    least(request.memory_bytes).or_else(|| least(0))
}

fn all_domains(capacity: &Capacity, kind: Kind) -> (Vec<Domain>, BTreeMap<u32, u64>) {
    let all = (0..).zip(&capacity.cores).map(|(place, _)| place);
    let memory = capacity.memory.iter().map(|memory| (memory.numa, memory.bytes)).collect();
    (domains(capacity, kind, all, &memory), memory)
}

/// Whether the empty node could not do with fewer domains than `count`; `with_memory`: of
/// its memory too.
fn as_near_as_empty(
    capacity: &Capacity,
    kind: Kind,
    (cores, bytes): (usize, u64),
    count: usize,
    with_memory: bool,
) -> bool {
    let (domains, memory) = all_domains(capacity, kind);
    let least = |bytes| fewest_count(&domains, &memory, (cores, bytes)).unwrap_or(usize::MAX);
    match (with_memory, least(bytes)) {
        (true, least) => count <= least,
        (false, usize::MAX) => count <= least(0),
        (false, _) => false,
    }
}
