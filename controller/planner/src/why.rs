//! Why a request waits, for people.

use std::collections::BTreeMap;

use crate::{Cluster, Request, cluster::Place, grant::Free, labels::unsuited};

/// Nodes that are named for one reason.
const MAX_NAMED: usize = 5;

impl Cluster {
    /// Why a request does not begin now, by node; nodes with the same reason are named together. Empty if it could.
    #[must_use]
    pub fn why(&self, request: &Request) -> Vec<String> {
        if self.places.is_empty() {
            return vec!["there is no node".to_owned()];
        }
        if let Err(error) = self.fits(request, None) {
            return vec![error.to_string()];
        }
        let mut reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (key, place) in &self.places {
            if request.pinned.is_some_and(|pinned| pinned != *key) {
                continue;
            }
            let Some(reason) = reason(place, request) else { return Vec::new() };
            reasons.entry(reason).or_default().push(&place.node.name);
        }
        let told = |(reason, names): (String, Vec<&str>)| {
            let more = names.len().saturating_sub(MAX_NAMED);
            let mut named = names.iter().take(MAX_NAMED).copied().collect::<Vec<_>>().join(", ");
            if more > 0 {
                named += &format!(" and {more} more");
            }
            format!("{named}: {reason}")
        };
        reasons.into_iter().map(told).collect()
    }
}

/// What one node lacks; `None` if nothing.
fn reason(place: &Place, request: &Request) -> Option<String> {
    if let Some(why) = unsuited(&place.node, request) {
        return Some(why);
    }
    if let Some(why) = &place.node.unavailable {
        return Some(why.clone());
    }
    let (capacity, free) = (&place.node.capacity, &place.free);
    if free.grant(capacity, request).is_some() {
        return None;
    }
    if Free::ever(capacity).grant(capacity, request).is_none() {
        return Some("too small".to_owned());
    }
    if free.is_exclusive {
        return Some("taken whole by another job".to_owned());
    }
    if request.exclusive {
        return Some(format!("{} others run there, and it wants the node for itself", free.runs));
    }
    if free.cores.len() < request.cores as usize {
        return Some(format!(
            "{} of {} cores free, {} wanted",
            free.cores.len(),
            capacity.cores.len(),
            request.cores
        ));
    }
    if free.memory_bytes() < request.memory_bytes {
        return Some(format!(
            "{} of {} MiB of memory free, {} wanted",
            free.memory_bytes() >> 20,
            capacity.memory_bytes() >> 20,
            request.memory_bytes.div_ceil(1 << 20)
        ));
    }
    for (kind, &count) in &request.devices {
        let is_free = |device: &&crate::Device| device.kind == *kind && free.devices.contains(&device.name);
        let left = capacity.devices.iter().filter(is_free).count();
        if left < count as usize {
            let sick = match capacity.count_sick(kind) {
                0 => String::new(),
                sick => format!("{sick} of {} {kind} out of service, ", capacity.count(kind)),
            };
            return Some(format!("{sick}{left} {kind} free, {count} wanted"));
        }
    }
    Some("free cores and memory are not near to each other".to_owned())
}
