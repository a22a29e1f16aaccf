//! When a group that waits can begin at the latest, and on which nodes.
//!
//! The plan is made at once for all members: what runs is let end by its limits, in the order of
//! time, until there is room for all of them; then nodes are chosen in a fixed order. It costs one
//! look at each node and at each run that ends before.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use api::ids::NodeId;

use crate::{
    Cluster, Placement, Request,
    cluster::{Layout, NodeState, of},
    grant::{Free, Grant},
};

/// What the first group that waits is promised.
#[derive(Debug)]
pub(crate) struct Reservation {
    request: Request,
    /// When all its members can begin at the latest.
    at: i64,
    nodes: BTreeMap<NodeId, Reserved>,
}

/// A node of a reservation.
#[derive(Debug, Clone)]
struct Reserved {
    /// How many members begin there.
    members: usize,
    /// What is free when they begin, less what this pass has put there and is not over by then.
    free: Free,
}

impl Reservation {
    /// What must be heeded on a node by a run that ends then, if anything.
    pub(crate) fn guard(&self, place: &NodeState, ends: Option<i64>) -> Option<Guard<'_>> {
        if ends.is_some_and(|end| end <= self.at) {
            return None;
        }
        let reserved = self.nodes.get(&place.node.id)?;
        Some(Guard {
            head: &self.request,
            members: reserved.members,
            free: Cow::Borrowed(&reserved.free),
        })
    }

    /// Counts a placement of this pass.
    pub(crate) fn count(&mut self, placement: &Placement) {
        if placement.ends.is_none_or(|end| end > self.at)
            && let Some(reserved) = self.nodes.get_mut(&placement.node)
        {
            reserved.free.take(&of(placement), placement.exclusive);
        }
    }
}

/// What a run must leave of a reserved node.
#[derive(Debug)]
pub(crate) struct Guard<'a> {
    head: &'a Request,
    members: usize,
    free: Cow<'a, Free>,
}

impl Guard<'_> {
    /// Whether a request may be small enough, without looking at which cores it gets: cheap, and
    /// most of those that have to wait are found so.
    pub(crate) fn may_spare(&self, request: &Request) -> bool {
        if self.head.exclusive || request.exclusive {
            return false;
        }
        let members = self.members as u64;
        let cores = u64::from(request.cores) + members * u64::from(self.head.cores);
        let memory =
            self.head.memory_bytes.saturating_mul(members).saturating_add(request.memory_bytes);
        self.free.cores.len() as u64 >= cores && self.free.memory_bytes() >= memory
    }

    /// Whether all members of the head can still begin there if this is granted before them. It is
    /// then taken out of what is left.
    pub(crate) fn spare(&mut self, place: &NodeState, grant: &Grant, exclusive: bool) -> bool {
        self.free.to_mut().take(grant, exclusive);
        self.free.room(&place.node.capacity, self.head, self.members) == self.members
    }
}

/// A node on the way to the time when the head can begin.
struct Prospect<'a> {
    place: &'a NodeState,
    /// What is free when all is over that ended so far.
    free: Cow<'a, Free>,
    /// For how many members there is room.
    room: usize,
}

impl Prospect<'_> {
    /// A run is over, and so is all that ends until then.
    fn end(&mut self, run: &Placement, time: i64) {
        if self.place.are_apart {
            self.free.to_mut().give_back(of(run));
        } else {
            self.free = Cow::Owned(free_at(self.place, time));
        }
    }

    fn count(&mut self, request: &Request, members: usize) {
        self.room = self.free.room(&self.place.node.capacity, request, members);
    }
}

impl Cluster {
    /// Where and when all members of a group can begin at the latest, if what runs ends by its
    /// limits. `None`: there is no such time.
    pub(crate) fn reserve(
        &self,
        request: &Request,
        members: usize,
        now: i64,
    ) -> Option<Reservation> {
        let mut prospects = self.prospects(request, members)?;
        let mut runs = Vec::new();
        let mut ends = Vec::new();
        for (index, prospect) in prospects.iter().enumerate() {
            for run in prospect.place.runs.values() {
                // What should be over may be so at any time.
                ends.extend(run.ends.map(|end| Reverse((end.max(now), runs.len()))));
                runs.push((index, run));
            }
        }
        let mut ends = BinaryHeap::from(ends);
        let mut room: usize = prospects.iter().map(|prospect| prospect.room).sum();
        let mut at = now;
        while room < members {
            let &Reverse((time, _)) = ends.peek()?;
            at = time;
            let mut changed = Vec::new();
            while let Some(&Reverse((end, run))) = ends.peek()
                && end == time
            {
                ends.pop();
                let (index, run) = runs[run];
                prospects[index].end(run, time);
                changed.push(index);
            }
            changed.sort_unstable();
            changed.dedup();
            for index in changed {
                let prospect = &mut prospects[index];
                room -= prospect.room;
                prospect.count(request, members);
                room += prospect.room;
            }
        }
        Some(Reservation {
            request: request.clone(),
            at,
            nodes: choose(prospects, request, members),
        })
    }

    /// The nodes that have room for a member when they are empty, by identity. `None` if they have
    /// not room for all members even then.
    fn prospects(&self, request: &Request, members: usize) -> Option<Vec<Prospect<'_>>> {
        // Machines come in a few kinds: of those that are alike one is tried.
        let mut tried: BTreeMap<&Layout, usize> = BTreeMap::new();
        let mut prospects = Vec::new();
        let mut most = 0;
        for place in self.places.values() {
            if place.node.unavailable.is_some() || !place.is_meant(request) {
                continue;
            }
            let capacity = &place.node.capacity;
            let when_empty = || Free::ever(capacity).room(capacity, request, members);
            let when_empty = *tried.entry(&place.layout).or_insert_with(when_empty);
            if when_empty > 0 {
                most += when_empty;
                let free = Cow::Borrowed(&*place.free);
                let room = free.room(capacity, request, members);
                prospects.push(Prospect { place, free, room });
            }
        }
        (most >= members).then_some(prospects)
    }
}

/// What is free of a node when all is over that ends until then.
fn free_at(place: &NodeState, at: i64) -> Free {
    let mut free = Free::all(&place.node.capacity);
    for run in place.runs.values().filter(|run| run.ends.is_none_or(|end| end > at)) {
        free.take(&of(run), run.exclusive);
    }
    free
}

/// The nodes where so many members begin: by their values of the label that the members are to be
/// near by, as few as can be, and then by identity.
fn choose(
    mut prospects: Vec<Prospect<'_>>,
    request: &Request,
    members: usize,
) -> BTreeMap<NodeId, Reserved> {
    if let Some(near) = request.near.as_ref().filter(|_| members > 1) {
        let mut rooms: BTreeMap<&str, usize> = BTreeMap::new();
        for prospect in &prospects {
            if let Some(value) = prospect.place.node.labels.get(near) {
                *rooms.entry(value).or_default() += prospect.room;
            }
        }
        let values = order_of_values(rooms, members);
        let ranks: BTreeMap<&str, usize> = values.into_iter().zip(0..).collect();
        // The sort is stable: by identity within a value.
        prospects.sort_by_key(|prospect| {
            let value = prospect.place.node.labels.get(near);
            value.and_then(|value| ranks.get(value.as_str())).copied().unwrap_or(usize::MAX)
        });
    }
    let mut rest = members;
    let mut nodes = BTreeMap::new();
    for Prospect { place, free, room } in prospects {
        let members = room.min(rest);
        if members > 0 {
            rest -= members;
            nodes.insert(place.node.id, Reserved { members, free: free.into_owned() });
        }
    }
    nodes
}

/// In which order values of a label are taken for so many members, by the room of their nodes:
/// first the smallest that has room for all of them, then those with most room.
fn order_of_values(rooms: BTreeMap<&str, usize>, members: usize) -> Vec<&str> {
    let mut values: Vec<(&str, usize)> = rooms.into_iter().collect();
    values.sort_by_key(|&(value, room)| match room >= members {
        true => (0, room, value),
        false => (1, usize::MAX - room, value),
    });
    values.into_iter().map(|(value, _)| value).collect()
}
