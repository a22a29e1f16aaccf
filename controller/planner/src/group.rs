//! On which nodes the members of a group go: all of them, or none.
//!
//! Nodes are filled one after the other, those with the fewest free cores first. How many members
//! there is room for on one node does not depend on the others, so the members fit if the rooms of
//! all nodes add up to enough; no order of nodes finds more.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use api::ids::NodeId;

use crate::{
    Allowed, Cluster, Request, by_free::Listed, cluster::NodeState, grant::Grant,
    reservation::Reservation,
};

/// A set of allowed nodes that has fewer than one in so many of all nodes is gone through itself;
/// otherwise nodes are gone through by what is free, and those that are not in the set are skipped.
const SMALL_SET: usize = 8;

/// What a member gets, and where.
type Found = (NodeId, Grant);

/// What is looked for.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    /// What each member needs.
    pub(crate) request: &'a Request,
    /// When it is over at the latest.
    pub(crate) ends: Option<i64>,
    /// What it may not delay.
    pub(crate) reservation: Option<&'a Reservation>,
}

impl Search<'_> {
    /// What members get on one node, at most `most` of them.
    fn on(&self, place: &NodeState, most: usize, found: &mut Vec<Found>) {
        let (id, capacity, request) = (place.node.id, &place.node.capacity, self.request);
        let most = most.min(place.free.room_bound(request));
        let mut guard =
            self.reservation.and_then(|reservation| reservation.guard(place, self.ends));
        if most == 0 || guard.as_ref().is_some_and(|guard| !guard.may_spare(request)) {
            return;
        }
        let mut free = Cow::Borrowed(&*place.free);
        for member in 1..=most {
            let Some(grant) = free.grant(capacity, request) else { return };
            if guard.as_mut().is_some_and(|guard| !guard.spare(place, &grant, request.exclusive)) {
                return;
            }
            // What is free is copied only if there is another to look for.
            if member < most {
                free.to_mut().take(&grant, request.exclusive);
            }
            found.push((id, grant));
        }
    }
}

/// Nodes with one value of the label that members are to be near by.
struct Value<'a> {
    name: &'a str,
    free_cores: usize,
    nodes: Nodes<'a>,
}

enum Nodes<'a> {
    Listed(&'a Listed),
    /// The fewest free cores first.
    These(Vec<NodeId>),
}

impl Value<'_> {
    fn nodes(&self, request: &Request) -> Box<dyn Iterator<Item = NodeId> + '_> {
        match &self.nodes {
            Nodes::Listed(listed) => Box::new(listed.with_cores(request.cores)),
            Nodes::These(nodes) => Box::new(nodes.iter().copied()),
        }
    }

    /// More members than this have no room there.
    fn room_bound(&self, request: &Request) -> usize {
        self.free_cores.checked_div(request.cores as usize).unwrap_or(usize::MAX)
    }
}

impl Cluster {
    /// A node and a grant for each of so many members that can begin now; `None` if there is not
    /// room for all.
    pub(crate) fn find(&self, search: &Search<'_>, members: usize) -> Option<Vec<Found>> {
        let found = match &search.request.near {
            Some(near) if members > 1 => self.collect_near(search, near, members),
            _ => self.collect(search, self.candidates(search.request), members),
        };
        (found.len() == members).then_some(found)
    }

    /// Nodes where a member may begin, the fewest free cores first: all that can be, and maybe
    /// others.
    fn candidates<'a>(&'a self, request: &'a Request) -> Box<dyn Iterator<Item = NodeId> + 'a> {
        let is_small = match &request.allowed {
            Allowed::Any => false,
            Allowed::Only(_) => true,
            Allowed::Of(set) => set.len() < self.places.len() / SMALL_SET,
        };
        if !is_small {
            return Box::new(self.by_free.candidates(request));
        }
        let is_candidate = |place: &&NodeState| {
            place.node.unavailable.is_none() && place.free.cores.len() >= request.cores as usize
        };
        let places = self.places_of(&request.allowed).filter(is_candidate);
        let mut nodes: Vec<(usize, NodeId)> =
            places.map(|place| (place.free.cores.len(), place.node.id)).collect();
        nodes.sort_unstable();
        Box::new(nodes.into_iter().map(|(_, node)| node))
    }

    /// What members get on these nodes, in their order, until all of so many have a place.
    fn collect(
        &self,
        search: &Search<'_>,
        nodes: impl Iterator<Item = NodeId>,
        members: usize,
    ) -> Vec<Found> {
        let request = search.request;
        let mut found = Vec::new();
        for node in nodes {
            if found.len() == members {
                break;
            }
            if let Some(place) = self.places.get(&node).filter(|place| place.is_meant(request)) {
                search.on(place, members - found.len(), &mut found);
            }
        }
        found
    }

    /// What members get on nodes with one value of a label if there is room for all, of several
    /// such values the one with the fewest free cores. Else on nodes with as few values as
    /// possible: those with room for the most members. Nodes without the label come last.
    fn collect_near(&self, search: &Search<'_>, near: &str, members: usize) -> Vec<Found> {
        let request = search.request;
        let mut values = self.values(request, near);
        values.sort_by_key(|value| (value.free_cores, value.name));
        // By the room that they have at most, and have indeed if it is known already.
        let mut rooms = BinaryHeap::new();
        let mut known: Vec<Option<Vec<Found>>> = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let mut room = value.room_bound(request);
            let found =
                (room >= members).then(|| self.collect(search, value.nodes(request), members));
            if let Some(found) = &found {
                room = found.len();
                if room == members {
                    return found.clone();
                }
            }
            rooms.push((room, Reverse(index)));
            known.push(found);
        }
        let mut found = Vec::new();
        while found.len() < members
            && let Some((_, Reverse(index))) = rooms.pop()
        {
            let rest = members - found.len();
            match known[index].take() {
                Some(there) => found.extend(there.into_iter().take(rest)),
                None => {
                    let there = self.collect(search, values[index].nodes(request), rest);
                    rooms.push((there.len(), Reverse(index)));
                    known[index] = Some(there);
                }
            }
        }
        if found.len() < members {
            let has_none = |node: &NodeId| {
                self.places.get(node).is_some_and(|place| !place.node.labels.contains_key(near))
            };
            let others = self.candidates(request).filter(has_none);
            let rest = members - found.len();
            found.extend(self.collect(search, others, rest));
        }
        found
    }

    /// The nodes where a member may begin, by their value of a label.
    fn values<'a>(&'a self, request: &Request, near: &str) -> Vec<Value<'a>> {
        if request.allowed == Allowed::Any && request.labels.is_empty() {
            let value = |(name, listed): (&'a str, &'a Listed)| Value {
                name,
                free_cores: listed.free_cores,
                nodes: Nodes::Listed(listed),
            };
            return self.by_free.by_value(near).map(value).collect();
        }
        let mut values: BTreeMap<&str, (usize, Vec<NodeId>)> = BTreeMap::new();
        for node in self.candidates(request) {
            let Some(place) = self.places.get(&node).filter(|place| place.is_meant(request)) else {
                continue;
            };
            if let Some(value) = place.node.labels.get(near) {
                let (free_cores, nodes) = values.entry(value).or_default();
                *free_cores += place.free.cores.len();
                nodes.push(node);
            }
        }
        let value =
            |(name, (free_cores, nodes))| Value { name, free_cores, nodes: Nodes::These(nodes) };
        values.into_iter().map(value).collect()
    }
}
