//! Which cores, memory and devices of one node a request gets, or that it gets none.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Affinity, Capacity, Request};

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
        for device in capacity.devices.iter().filter(|device| device.sick) {
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
        let enough =
            self.cores.len() >= request.cores as usize && self.memory_bytes() >= request.memory_bytes;
        if !enough {
            return None;
        }
        if request.exclusive {
            self.devices(capacity, request, &BTreeSet::new())?;
            return Some(Grant {
                cores: self.cores.iter().copied().collect(),
                memory: self.memory.iter().map(|(numa, bytes)| (*numa, *bytes)).collect(),
                devices: self.devices.iter().cloned().collect(),
            });
        }
        let (cores, domain) = self.choose_cores(capacity, request)?;
        let near = numas_of(capacity, &cores);
        let memory = self.choose_memory(request.memory_bytes, &near, domain.as_ref())?;
        let devices = self.devices(capacity, request, &near)?;
        Some(Grant { cores, memory, devices })
    }

    /// The cores, and the NUMA nodes that the memory must come from, if not from anywhere.
    fn choose_cores(
        &self,
        capacity: &Capacity,
        request: &Request,
    ) -> Option<(Vec<u32>, Option<BTreeSet<u32>>)> {
        let wanted = request.cores as usize;
        let domain_of = |core: u32| match request.affinity {
            Affinity::Socket => capacity.cores[core as usize].package,
            Affinity::Core | Affinity::Numa => capacity.cores[core as usize].numa,
        };
        let mut free: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for &core in &self.cores {
            free.entry(domain_of(core)).or_default().push(core);
        }
        let free_near = |cores: &[u32]| -> u64 {
            let near = numas_of(capacity, cores);
            near.iter().filter_map(|numa| self.memory.get(numa)).sum()
        };
        let tightest = free
            .values()
            .filter(|cores| cores.len() >= wanted && free_near(cores) >= request.memory_bytes)
            .min_by_key(|cores| (self.devices_far(capacity, request, cores), cores.len()));
        if let Some(cores) = tightest {
            let domain = numas_of(capacity, cores);
            let mut cores = cores.clone();
            cores.sort_by_key(|&core| self.devices_apart(capacity, request, core));
            cores.truncate(wanted);
            cores.sort_unstable();
            return Some((cores, Some(domain)));
        }
        if request.affinity != Affinity::Core && self.would_fit_one_domain(capacity, request, &domain_of) {
            return None;
        }
        let mut domains: Vec<Vec<u32>> = free.into_values().collect();
        domains.sort_by_key(|cores| std::cmp::Reverse(cores.len()));
        let mut cores: Vec<u32> = domains.into_iter().flatten().take(wanted).collect();
        cores.sort_unstable();
        (cores.len() == wanted).then_some((cores, None))
    }

    /// Whether one domain of the empty node is large enough: then the request waits for it and is not spread.
    fn would_fit_one_domain(
        &self,
        capacity: &Capacity,
        request: &Request,
        domain_of: &dyn Fn(u32) -> u32,
    ) -> bool {
        let mut cores: BTreeMap<u32, (u32, BTreeSet<u32>)> = BTreeMap::new();
        for (place, core) in (0..).zip(&capacity.cores) {
            let entry = cores.entry(domain_of(place)).or_default();
            entry.0 += 1;
            entry.1.insert(core.numa);
        }
        cores.values().any(|(count, numas)| {
            let near = capacity.memory.iter().filter(|memory| numas.contains(&memory.numa));
            *count >= request.cores && near.map(|memory| memory.bytes).sum::<u64>() >= request.memory_bytes
        })
    }

    /// How many of the devices wanted are not free near these cores.
    fn devices_far(&self, capacity: &Capacity, request: &Request, cores: &[u32]) -> usize {
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

    /// 0 for a core near a free device that is wanted, 1 for others.
    fn devices_apart(&self, capacity: &Capacity, request: &Request, core: u32) -> u8 {
        let numa = capacity.cores[core as usize].numa;
        let near = capacity.devices.iter().any(|device| {
            device.numa == Some(numa)
                && request.devices.contains_key(&device.kind)
                && self.devices.contains(&device.name)
        });
        u8::from(!near)
    }

    /// Memory near the cores first, then from the rest of the domain, or of the node if there is none.
    fn choose_memory(
        &self,
        bytes: u64,
        near: &BTreeSet<u32>,
        domain: Option<&BTreeSet<u32>>,
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
    fn devices(&self, capacity: &Capacity, request: &Request, near: &BTreeSet<u32>) -> Option<Vec<String>> {
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

    /// Takes a grant out of what is free.
    pub(crate) fn take(&mut self, grant: &Grant, exclusive: bool) {
        for core in &grant.cores {
            self.cores.remove(core);
        }
        for (numa, bytes) in &grant.memory {
            if let Some(free) = self.memory.get_mut(numa) {
                *free = free.saturating_sub(*bytes);
            }
        }
        for device in &grant.devices {
            self.devices.remove(device);
        }
        self.is_exclusive |= exclusive;
        self.runs += 1;
    }
}

/// NUMA nodes of cores.
fn numas_of(capacity: &Capacity, cores: &[u32]) -> BTreeSet<u32> {
    cores.iter().map(|&core| capacity.cores[core as usize].numa).collect()
}
