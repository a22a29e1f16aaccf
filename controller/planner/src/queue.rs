//! The order of the queue, and the backfill behind the head that waits.

use std::collections::BTreeMap;

use api::{ids::NodeId, run::RunId};

use crate::{
    Allowed, Cluster, Placement, Request, grant::Grant, group::Search, reservation::Reservation,
};

/// What makes two requests equal for the question whether they may begin, but for how many members
/// there are of them.
type Shape = (
    (u32, crate::Affinity, u64, bool),
    BTreeMap<String, u32>,
    BTreeMap<String, String>,
    (Allowed, Option<String>, bool),
    Option<u64>,
);

fn shape(request: &Request) -> Shape {
    (
        (request.cores, request.affinity, request.memory_bytes, request.exclusive),
        request.devices.clone(),
        request.labels.clone(),
        (request.allowed.clone(), request.near.clone(), request.spread),
        request.limit_seconds,
    )
}

/// One pass through the queue: groups of equal requests are offered in its order. The first one
/// that must wait is not overtaken by what would delay it.
#[derive(Debug)]
pub struct QueuePass<'a> {
    cluster: &'a mut Cluster,
    now: i64,
    reservation: Option<Reservation>,
    /// Of each shape how many members had no room: as many or more are not looked for again.
    waiting: BTreeMap<Shape, usize>,
}

impl QueuePass<'_> {
    /// Reserves for a group of so many members that cannot begin now, before anything else is
    /// offered: whatever is offered first, it is not delayed. Only one group of a pass has a
    /// reservation. `true`: the group can begin now, and nothing is reserved.
    pub fn reserve_for(&mut self, request: &Request, members: usize) -> bool {
        let search = Search { request, ends: self.ends(request), reservation: None };
        let can_begin = self.cluster.find(&search, members).is_some();
        if !can_begin && self.reservation.is_none() {
            self.reservation = self.cluster.reserve(request, members, self.now);
        }
        can_begin
    }

    /// A group that could not begin has a reservation.
    #[must_use]
    pub fn has_reservation(&self) -> bool {
        self.reservation.is_some()
    }

    /// One that wants the same, for as many members or fewer, had to wait in this pass already.
    #[must_use]
    pub fn is_hopeless(&self, request: &Request, members: usize) -> bool {
        let waits = |shape: &Shape| self.waiting.get(shape).is_some_and(|least| *least <= members);
        !self.waiting.is_empty() && waits(&shape(request))
    }

    /// Places a group of equal requests, one for each run, if all of them can begin now; what they
    /// are granted is taken from now on. The placements are in the order of `runs`. None of it is
    /// taken if not all can begin. Once a group has to wait, so has every other that wants the same
    /// for as many members or more. One that fits on no nodes even when they are empty holds up
    /// nobody.
    pub fn offer(&mut self, request: &Request, runs: &[RunId]) -> Option<Vec<Placement>> {
        let members = runs.len();
        if self.is_hopeless(request, members) {
            return None;
        }
        let ends = self.ends(request);
        let search = Search { request, ends, reservation: self.reservation.as_ref() };
        let Some(found) = self.cluster.find(&search, members) else {
            self.waiting.insert(shape(request), members);
            if self.reservation.is_none() {
                self.reservation = self.cluster.reserve(request, members, self.now);
            }
            return None;
        };
        let mut placements = Vec::with_capacity(members);
        for (&run, (node, grant)) in runs.iter().zip(found) {
            let placement = self.cluster.placement(request, run, node, grant, ends);
            self.cluster.occupy(placement.clone());
            if let Some(reservation) = &mut self.reservation {
                reservation.count(&placement);
            }
            placements.push(placement);
        }
        Some(placements)
    }

    /// When what begins now is over at the latest.
    fn ends(&self, request: &Request) -> Option<i64> {
        request.limit_seconds.map(|limit| self.now.saturating_add_unsigned(limit))
    }
}

impl Cluster {
    /// Begins a pass through the queue; `now` in seconds of the clock that
    /// [`Placement::ends`] is on.
    pub fn pass(&mut self, now: i64) -> QueuePass<'_> {
        QueuePass { cluster: self, now, reservation: None, waiting: BTreeMap::new() }
    }

    /// Offers a whole queue of groups in one [`QueuePass`]: what each member needs, and the runs of
    /// the members. Returns places in `queue` with what was granted, by member.
    pub fn place(
        &mut self,
        queue: &[(Request, Vec<RunId>)],
        now: i64,
    ) -> Vec<(usize, Vec<Placement>)> {
        let mut pass = self.pass(now);
        let offered = queue.iter().enumerate();
        offered
            .filter_map(|(index, (request, runs))| Some((index, pass.offer(request, runs)?)))
            .collect()
    }

    fn placement(
        &self,
        request: &Request,
        run: RunId,
        node: NodeId,
        grant: Grant,
        ends: Option<i64>,
    ) -> Placement {
        let capacity = &self.places[&node].node.capacity;
        let threads = if request.threads { usize::MAX } else { 1 };
        let pus = |&core: &u32| capacity.cores[core as usize].pus.iter().copied().take(threads);
        let mut cpus: Vec<u32> = grant.cores.iter().flat_map(pus).collect();
        cpus.sort_unstable();
        Placement {
            run,
            node,
            cpus,
            cores: grant.cores,
            memory: grant.memory,
            devices: grant.devices,
            exclusive: request.exclusive,
            ends,
        }
    }
}
