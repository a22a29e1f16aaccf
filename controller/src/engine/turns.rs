//! In whose turn jobs are offered to the planner: users take turns, so that a thousand workflows of
//! one do not hold back everybody.
//!
//! The next offer is of the user whose jobs hold the fewest cores, those placed in this pass among
//! them; of equals of the one whose waiting job is oldest. A user's own jobs go in their order,
//! those of the oldest workflow first.
//!
//! The oldest job of all that these nodes could ever run, the head, is not delayed for ever
//! by whoever's turn it is. While it cannot begin it has a reservation: others begin before
//! it only where they do not delay it. If it could begin and was passed over, it is offered
//! first from then on.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    iter::Peekable,
};

use api::{ids::Timestamp, run::RunId};
use document::plan::{StageAction, StageId, TaskId};
use planner::{Allowed, QueuePass, Request};

use super::{
    Engine, View, WorkflowState, WorkflowStates,
    schedule::{MAX_PLACED, StartedTask},
    task::RetryState,
};

/// Users whose oldest jobs are looked at for the head: nodes are gone through for each.
const MAX_HEADS: usize = 16;

/// Tasks of one stage that may begin now, and what each of them needs.
struct Offer<'a> {
    sequence: u64,
    stage: StageId,
    request: Request,
    /// Runs of one task, which are placed together or not at all.
    members: u32,
    due: Peekable<Box<dyn Iterator<Item = (TaskId, RetryState)> + 'a>>,
}

/// What one user has to offer.
#[derive(Default)]
struct Queue<'a> {
    offers: VecDeque<Offer<'a>>,
    cores: u64,
}

impl<'a> Queue<'a> {
    /// Adds what a workflow may start, and counts what it holds. `for_members`: nodes for attempts
    /// of several members.
    fn add(
        &mut self,
        sequence: u64,
        workflow_state: &'a WorkflowState,
        for_members: &Allowed,
        now: Timestamp,
    ) {
        for (stage, plan) in workflow_state.plan.numbered() {
            let StageAction::Job(job) = &plan.work else { continue };
            let book = &workflow_state.stages[stage].tasks;
            self.cores += match job.resource.exclusive {
                // It asks for few, and has all of its node.
                true => book
                    .running
                    .values()
                    .flat_map(|of| &of.runs)
                    .map(|run| held(workflow_state, *run))
                    .sum(),
                false => {
                    let of_one = u64::from(job.resource.cores) * u64::from(plan.members);
                    of_one.saturating_mul(book.running.size() as u64)
                }
            };
            if !workflow_state.may_begin(stage) {
                continue;
            }
            let room = (plan.tasks.concurrency as usize).saturating_sub(book.running.size());
            let Some(request) = workflow_state.request(stage, for_members) else { continue };
            let due: Box<dyn Iterator<Item = _>> =
                Box::new(book.due(now).take(room.min(MAX_PLACED)));
            let mut due = due.peekable();
            if due.peek().is_some() {
                self.offers.push_back(Offer {
                    sequence,
                    stage,
                    request,
                    members: plan.members,
                    due,
                });
            }
        }
    }

    /// Offers the next task; what has to wait, and what is exhausted, is offered no
    /// more in this pass.
    fn offer(
        &mut self,
        pass: &mut QueuePass<'_>,
        new_run: &mut dyn FnMut() -> RunId,
    ) -> Option<StartedTask> {
        let Offer { sequence, stage, request, members, due } = self.offers.front_mut()?;
        if !pass.is_hopeless(request, *members as usize)
            && let Some((task, retry)) = due.next()
        {
            let runs: Vec<RunId> = (0..*members).map(|_| new_run()).collect();
            if let Some(placements) = pass.offer(request, &runs) {
                self.cores +=
                    placements.iter().map(|placement| placement.cores.len() as u64).sum::<u64>();
                return Some(StartedTask {
                    sequence: *sequence,
                    stage: *stage,
                    task,
                    retry,
                    placements,
                });
            }
        }
        self.offers.pop_front();
        None
    }

    /// Whose turn it is: the smallest is next.
    fn turn(&self) -> Option<(u64, u64)> {
        Some((self.cores, self.offers.front()?.sequence))
    }
}

/// Cores that a run has.
fn held(workflow_state: &WorkflowState, run: RunId) -> u64 {
    let grant = workflow_state.runs.get(&run).and_then(|run| run.grant.as_ref());
    grant.map_or(0, |grant| grant.cores.len() as u64)
}

/// The queues of all users who have something to offer. `for_members`: nodes for attempts of
/// several members.
fn queues<'a>(
    workflow_states: &'a WorkflowStates,
    for_members: &Allowed,
    now: Timestamp,
) -> Vec<Queue<'a>> {
    let mut users: BTreeMap<&str, Queue<'_>> = BTreeMap::new();
    for (sequence, workflow_state) in workflow_states.iter() {
        users.entry(&workflow_state.owner.name).or_default().add(
            sequence,
            workflow_state,
            for_members,
            now,
        );
    }
    users.into_values().filter(|user| user.turn().is_some()).collect()
}

/// The head: its place and stage, its queue, and whether it can begin now. One that fits
/// on no nodes even when they are empty can neither begin nor have a reservation, and the
/// next is the head.
fn head(queues: &[Queue<'_>], pass: &mut QueuePass<'_>) -> Option<((u64, StageId), usize, bool)> {
    let fronts = queues.iter().enumerate();
    let mut fronts: Vec<_> =
        fronts.filter_map(|(index, user)| Some((user.offers.front()?, index))).collect();
    fronts.sort_by_key(|(front, _)| front.sequence);
    fronts.into_iter().take(MAX_HEADS).find_map(|(front, index)| {
        let can_begin = pass.reserve_for(&front.request, front.members as usize);
        let name = (front.sequence, front.stage);
        (can_begin || pass.has_reservation()).then_some((name, index, can_begin))
    })
}

impl View {
    /// Jobs with tasks that are due, by place of their workflow and stage, in the order in which
    /// the next pass offers them as long as none of them can begin: with each one that begins, its
    /// user's others come later.
    pub(super) fn queue(&self, now: Timestamp) -> Vec<(u64, StageId)> {
        let mut queue: Vec<(bool, u64, u64, StageId)> = Vec::new();
        for Queue { offers, cores } in queues(&self.workflow_states, &self.for_members, now) {
            queue.extend(offers.iter().map(|offer| {
                let is_behind = self.passed_over != Some((offer.sequence, offer.stage));
                (is_behind, cores, offer.sequence, offer.stage)
            }));
        }
        queue.sort_unstable();
        queue.into_iter().map(|(_, _, sequence, stage)| (sequence, stage)).collect()
    }
}

impl Engine {
    /// Offers jobs to the planner. Tasks of a stage want the same: behind the first that has to
    /// wait the others are not looked at, so a large array costs no more than a small one.
    pub(super) fn schedule_jobs(&mut self, now: Timestamp) -> Vec<StartedTask> {
        let mut queues = queues(&self.workflow_states, &self.for_members, now);
        let mut pass = self.cluster.pass(now.seconds());
        let head = head(&queues, &mut pass);

        let (mut begun, mut placed): (Vec<StartedTask>, usize) = (Vec::new(), 0);
        if let Some((name, index, true)) = head
            && self.passed_over == Some(name)
        {
            begun.extend(queues[index].offer(&mut pass, &mut self.new_run));
        }
        let turn = |(index, user): (usize, &Queue<'_>)| Some(Reverse((user.turn()?, index)));
        let mut turns: BinaryHeap<_> = queues.iter().enumerate().filter_map(turn).collect();
        while let Some(Reverse((_, index))) = turns.pop()
            && placed < MAX_PLACED
        {
            if let Some(next) = queues[index].offer(&mut pass, &mut self.new_run) {
                placed += next.placements.len();
                begun.push(next);
            }
            turns.extend(turn((index, &queues[index])));
        }
        self.passed_over = head.and_then(|(name, _, can_begin)| {
            let has_begun = begun.iter().any(|begun| (begun.sequence, begun.stage) == name);
            // While it cannot begin it stays what it was.
            (!has_begun && (can_begin || self.passed_over == Some(name))).then_some(name)
        });
        begun
    }
}
