//! In whose turn jobs are offered to the planner: users take turns, so that a thousand workflows of one
//! do not hold back everybody.
//!
//! The next offer is of the user whose jobs hold the fewest cores, those placed in this pass among them;
//! of equals of the one whose waiting job is oldest. A user's own jobs go in their order, those of the
//! oldest workflow first. The oldest job of all that has to wait keeps its reservation, whoever's turn
//! it is: others begin before it only where they do not delay it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    iter::Peekable,
};

use api::ids::Timestamp;
use document::plan::Planned;
use planner::Request;

use super::{
    Engine, Flow,
    flow::Again,
    schedule::{Begun, MAX_PLACED, key},
};

/// Tasks of one stage that may begin now, and what each of them needs.
struct Offer<'a> {
    place: u64,
    stage: u32,
    request: Request,
    due: Peekable<Box<dyn Iterator<Item = (u32, Again)> + 'a>>,
}

/// What one user has to offer.
#[derive(Default)]
struct Queue<'a> {
    offers: VecDeque<Offer<'a>>,
    cores: u64,
}

impl<'a> Queue<'a> {
    /// Adds what a flow may begin, and counts what it holds.
    fn add(&mut self, place: u64, flow: &'a Flow, now: Timestamp) {
        for (stage, plan) in (0..).zip(&flow.plan.stages) {
            let Planned::Job(job) = &plan.work else { continue };
            let book = &flow.stages[stage as usize].tasks;
            self.cores += u64::from(job.resource.cores) * book.running.len() as u64;
            if !flow.may_begin(stage) {
                continue;
            }
            let room = (plan.tasks.concurrency as usize).saturating_sub(book.running.len());
            let Some(request) = flow.request(stage) else { continue };
            let due: Box<dyn Iterator<Item = _>> = Box::new(book.due(now).take(room.min(MAX_PLACED)));
            let mut due = due.peekable();
            if due.peek().is_some() {
                self.offers.push_back(Offer { place, stage, request, due });
            }
        }
    }

    /// Whose turn it is: the smallest is next.
    fn turn(&self) -> Option<(u64, u64)> {
        Some((self.cores, self.offers.front()?.place))
    }
}

impl Engine {
    /// Offers jobs to the planner. Tasks of a stage want the same: behind the first that has to wait the
    /// others are not looked at, so a large array costs no more than a small one.
    pub(super) fn place_jobs(&mut self, now: Timestamp) -> Vec<Begun> {
        let mut users: BTreeMap<&str, Queue<'_>> = BTreeMap::new();
        for (&place, flow) in &self.flows {
            users.entry(&flow.row.owner.name).or_default().add(place, flow, now);
        }
        let mut queues: Vec<Queue<'_>> = users.into_values().filter(|user| user.turn().is_some()).collect();
        let mut pass = self.cluster.pass(now.seconds());
        if let Some(head) = queues.iter().filter_map(|user| user.offers.front()).min_by_key(|head| head.place)
        {
            pass.reserve_for(&head.request);
        }
        let turns =
            queues.iter().enumerate().filter_map(|(index, user)| Some(Reverse((user.turn()?, index))));
        let mut turns: BinaryHeap<_> = turns.collect();
        let mut begun = Vec::new();
        while let Some(Reverse((_, index))) = turns.pop()
            && begun.len() < MAX_PLACED
        {
            let user = &mut queues[index];
            let Some(offer) = user.offers.front_mut() else { continue };
            let Offer { place, stage, request, due } = offer;
            if let Some((task, again)) = due.next() {
                request.key = key((self.new_run)());
                match pass.offer(request) {
                    Some(placement) => {
                        user.cores += u64::from(request.cores);
                        begun.push(Begun { place: *place, stage: *stage, task, again, placement });
                    }
                    None => drop(user.offers.pop_front()),
                }
            } else {
                user.offers.pop_front();
            }
            turns.extend(queues[index].turn().map(|turn| Reverse((turn, index))));
        }
        begun
    }
}
