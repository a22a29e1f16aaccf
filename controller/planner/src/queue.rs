//! The order of the queue, the reservation for its head, and the backfill behind it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Cluster, NodeKey, Placement, Request,
    cluster::{Place, of},
    grant::{Free, Grant},
    labels::suits,
};

/// What the first request that waits is promised.
#[derive(Debug)]
struct Reservation {
    request: Request,
    node: NodeKey,
    /// When it can begin at the latest.
    at: i64,
}

/// What makes two requests equal for the question whether they may begin.
type Shape = (
    (u32, crate::Affinity, u64, bool),
    BTreeMap<String, u32>,
    BTreeMap<String, String>,
    Option<NodeKey>,
    Option<u64>,
);

fn shape(request: &Request) -> Shape {
    (
        (request.cores, request.affinity, request.memory_bytes, request.exclusive),
        request.devices.clone(),
        request.labels.clone(),
        request.pinned,
        request.limit_seconds,
    )
}

/// One pass through the queue: requests are offered in its order. The first one that must wait is not overtaken by what would
/// delay it.
#[derive(Debug)]
pub struct Pass<'a> {
    cluster: &'a mut Cluster,
    now: i64,
    reservation: Option<Reservation>,
    waiting: BTreeSet<Shape>,
}

impl Pass<'_> {
    /// Reserves for a request that cannot begin now, before anything else is offered: whatever is
    /// offered first, it is not delayed. Only one request of a pass has a reservation. `true`: the
    /// request can begin now, and nothing is reserved.
    pub fn reserve_for(&mut self, request: &Request) -> bool {
        let ends = request.limit_seconds.map(|limit| self.now.saturating_add_unsigned(limit));
        let can_begin = self.cluster.find(request, ends, None).is_some();
        if !can_begin && self.reservation.is_none() {
            self.reservation = self.cluster.reserve(request, self.now);
        }
        can_begin
    }

    /// Places a request if it can begin now; what it is granted is taken from now on. Once one has to wait, so has every other
    /// that wants the same. One that fits on no node even when that is empty holds up nobody.
    pub fn offer(&mut self, request: &Request) -> Option<Placement> {
        if self.waiting.contains(&shape(request)) {
            return None;
        }
        let ends = request.limit_seconds.map(|limit| self.now.saturating_add_unsigned(limit));
        if let Some((node, grant)) = self.cluster.find(request, ends, self.reservation.as_ref()) {
            let placement = self.cluster.placement(request, node, grant, ends);
            self.cluster.occupy(placement.clone());
            return Some(placement);
        }
        self.waiting.insert(shape(request));
        if self.reservation.is_none() {
            self.reservation = self.cluster.reserve(request, self.now);
        }
        None
    }
}

impl Cluster {
    /// Begins a pass through the queue; `now` in seconds of the clock that [`Placement::ends`] is on.
    pub fn pass(&mut self, now: i64) -> Pass<'_> {
        Pass { cluster: self, now, reservation: None, waiting: BTreeSet::new() }
    }

    /// Offers a whole queue in one [`Pass`]. Returns places in `queue` with what was granted.
    pub fn place(&mut self, queue: &[Request], now: i64) -> Vec<(usize, Placement)> {
        let mut pass = self.pass(now);
        let offered = queue.iter().enumerate();
        offered.filter_map(|(index, request)| Some((index, pass.offer(request)?))).collect()
    }

    /// The node with the fewest free cores that a request fits on.
    fn find(
        &self,
        request: &Request,
        ends: Option<i64>,
        reservation: Option<&Reservation>,
    ) -> Option<(NodeKey, Grant)> {
        let try_on = |key: NodeKey| {
            let place = self.places.get(&key).filter(|place| suits(&place.node, request))?;
            let grant = place.free.grant(&place.node.capacity, request)?;
            let delays = reservation.is_some_and(|reservation| {
                reservation.node == key && !leaves_room(place, &grant, request, ends, reservation)
            });
            (!delays).then_some((key, grant))
        };
        if let Some(pinned) = request.pinned {
            let place = self.places.get(&pinned)?;
            return place.node.unavailable.is_none().then(|| try_on(pinned)).flatten();
        }
        self.by_free.candidates(request).find_map(try_on)
    }

    fn placement(&self, request: &Request, node: NodeKey, grant: Grant, ends: Option<i64>) -> Placement {
        let capacity = &self.places[&node].node.capacity;
        let threads = if request.threads { usize::MAX } else { 1 };
        let pus = |&core: &u32| capacity.cores[core as usize].pus.iter().copied().take(threads);
        let mut cpus: Vec<u32> = grant.cores.iter().flat_map(pus).collect();
        cpus.sort_unstable();
        Placement {
            key: request.key,
            node,
            cpus,
            cores: grant.cores,
            memory: grant.memory,
            devices: grant.devices,
            exclusive: request.exclusive,
            ends,
        }
    }

    /// Where and when a request can begin at the latest, if what runs ends by its limits.
    fn reserve(&self, request: &Request, now: i64) -> Option<Reservation> {
        let mut best: Option<(i64, NodeKey)> = None;
        for (&key, place) in &self.places {
            let is_candidate = place.node.unavailable.is_none()
                && request.pinned.is_none_or(|pinned| pinned == key)
                && suits(&place.node, request);
            if !is_candidate {
                continue;
            }
            if let Some(at) = earliest(place, request, now)
                && best.is_none_or(|(time, _)| at < time)
            {
                best = Some((at, key));
            }
        }
        best.map(|(at, node)| Reservation { request: request.clone(), node, at })
    }
}

/// When a request fits on a node at the latest: at once, or after one of its runs ends. Runs without a limit never do.
fn earliest(place: &Place, request: &Request, now: i64) -> Option<i64> {
    let mut ends: Vec<i64> = place.runs.values().filter_map(|run| run.ends).collect();
    ends.sort_unstable();
    ends.dedup();
    std::iter::once(now)
        .chain(ends.into_iter().filter(|&end| end > now))
        .find(|&at| free_at(place, at).grant(&place.node.capacity, request).is_some())
}

/// What is free of a node when all is over that ends until then.
fn free_at(place: &Place, at: i64) -> Free {
    let mut free = Free::all(&place.node.capacity);
    for run in place.runs.values().filter(|run| run.ends.is_none_or(|end| end > at)) {
        free.take(&of(run), run.exclusive);
    }
    free
}

/// Whether the head of the queue can still begin when it was promised, if this is granted before it.
fn leaves_room(
    place: &Place,
    grant: &Grant,
    request: &Request,
    ends: Option<i64>,
    reservation: &Reservation,
) -> bool {
    if ends.is_some_and(|end| end <= reservation.at) {
        return true;
    }
    let mut free = free_at(place, reservation.at);
    free.take(grant, request.exclusive);
    free.grant(&place.node.capacity, &reservation.request).is_some()
}
