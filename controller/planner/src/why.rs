//! Why a request waits, for people.

use std::collections::BTreeMap;

use crate::{Capacity, ClusterView, Request, grant::Free, labels::unsuited, view::NodeView};

/// Nodes that are named for one reason.
const MAX_NAMED: usize = 5;

impl ClusterView {
    /// Why a group of so many members, at least 1, does not begin now: how many of them could if
    /// there are several, and what one more lacks, by node. Nodes with the same reason are named
    /// together. Empty if all could begin.
    #[must_use]
    pub fn why(&self, request: &Request, members: usize) -> Vec<String> {
        if self.nodes.is_empty() {
            return vec!["there is no node".to_owned()];
        }
        if let Err(error) = self.fits(request, members, None) {
            return vec![error.to_string()];
        }
        let mut reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let mut room = 0;
        for place in self.places_of(&request.allowed) {
            let (there, reason) = reason(place, request, members.max(1) - room);
            room += there;
            let Some(reason) = reason else { return Vec::new() };
            reasons.entry(reason).or_default().push(&place.node.name);
        }
        let by_node = reasons.into_iter().map(|(reason, names)| {
            let more = names.len().saturating_sub(MAX_NAMED);
            let mut named = names.iter().take(MAX_NAMED).copied().collect::<Vec<_>>().join(", ");
            if more > 0 {
                named += &format!(" and {more} more");
            }
            format!("{named}: {reason}")
        });
        let of_group =
            (members > 1).then(|| format!("{room} of {members} members could begin now"));
        of_group.into_iter().chain(by_node).collect()
    }
}

/// For how many members there is room on one node, and what another lacks there; nothing if there
/// is room for all of so many.
fn reason(place: &NodeView, request: &Request, members: usize) -> (usize, Option<String>) {
    if let Some(why) = unsuited(&place.node, request) {
        return (0, Some(why));
    }
    if let Some(why) = &place.node.unavailable {
        return (0, Some(why.clone()));
    }
    let capacity = &place.node.capacity;
    if members == 1 {
        // Most often: nothing is copied.
        let lack = lack(capacity, &place.free, request);
        return (usize::from(lack.is_none()), lack);
    }
    let mut free = Free::clone(&place.free);
    let room = free.fill(capacity, request, members);
    if room == members {
        return (room, None);
    }
    let lack = match room {
        1 if request.spread || request.exclusive => Some("and no two on one node".to_owned()),
        _ => lack(capacity, &free, request),
    };
    let told = |lack| match room {
        0 => lack,
        1 => format!("room for 1 member, {lack}"),
        _ => format!("room for {room} members, {lack}"),
    };
    (room, lack.map(told))
}

/// What a member lacks of what is free of a node; `None` if nothing.
fn lack(capacity: &Capacity, free: &Free, request: &Request) -> Option<String> {
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
        let is_free =
            |device: &&crate::Device| device.kind == *kind && free.devices.contains(&device.name);
        let left = capacity.devices.iter().filter(is_free).count();
        if left < count as usize {
            let unhealthy = match capacity.count_unhealthy(kind) {
                0 => String::new(),
                unhealthy => {
                    format!("{unhealthy} of {} {kind} out of service, ", capacity.count(kind))
                }
            };
            return Some(format!("{unhealthy}{left} {kind} free, {count} wanted"));
        }
    }
    Some("free cores and memory are not near to each other".to_owned())
}
