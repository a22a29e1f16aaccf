//! A workflow in memory: its stages and its runs. Every change goes through a method that
//! also writes it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api::{
    ids::{Digest, NodeId, NodeName, Timestamp},
    run::{FailedTry, Outcome, RunId, Usage, WorkflowId},
    workflow::{EventKind, State, Workflow, WorkflowEvent},
};
use document::plan::{Plan, StageAction, StageId, StagePlan, TaskId};
use image_catalog::JobImage;
use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use super::{Effects, attempt::Attempt, task::TaskTable, workflow_states::Stages};
use crate::record::{
    AttemptRow, Damage, Grant, Owner, Rows, RunRow, StageRow, SubmissionKey, SubmittedRow,
    VolumePlacement, WorkflowRow, Write,
};

/// Nodes of a stage that are shown.
const MAX_NODES_SHOWN: usize = 8;

/// A workflow that was handed in, checked.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) id: WorkflowId,
    pub(crate) sequence: u64,
    pub(crate) name: String,
    pub(crate) owner: Owner,
    /// The document as it was handed in.
    pub(crate) document: String,
    pub(crate) plan: Plan,
    /// The plan as it is stored.
    pub(crate) stored_plan: String,
    /// See [`SubmittedRow::key`].
    pub(crate) key: Option<(SubmissionKey, Digest)>,
}

/// A workflow. It is copied once after each view that has it, so whatever may be large is shared.
#[derive(Debug, Clone)]
pub(crate) struct WorkflowState {
    pub(crate) id: WorkflowId,
    /// Place in the order of submission.
    pub(crate) sequence: u64,
    pub(crate) name: Arc<str>,
    pub(crate) owner: Arc<Owner>,
    pub(crate) submitted: Timestamp,
    pub(crate) started: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) state: State,
    /// Why it failed or was canceled.
    pub(crate) reason: Option<String>,
    /// Why it shall stop.
    pub(crate) stop: Option<String>,
    /// Who paused it.
    pub(crate) paused: Option<String>,
    /// Where each group of volumes is, once that is chosen.
    pub(crate) volumes: Arc<Vec<Option<VolumePlacement>>>,
    /// What is shown of it, once it is over.
    pub(crate) final_view: Option<Arc<Workflow>>,
    /// What of its row could not be read.
    pub(crate) damage: Option<Damage>,
    /// Of a blocked workflow: stages that stand in for those that are not known.
    pub(crate) plan: Arc<Plan>,
    /// Why its plan is not known to this release. Then what is on nodes is followed to its end, and
    /// nothing else happens but that somebody stops it.
    pub(crate) blocked: Option<String>,
    pub(crate) stages: Stages,
    /// Runs that are not forgotten.
    pub(crate) runs: RedBlackTreeMapSync<RunId, Run>,
    /// Lines of its history.
    pub(crate) events: u64,
}

/// What is known of a workflow that the last run of the server left.
#[derive(Debug)]
pub(crate) enum KnownPlan {
    /// Its plan; all stages and runs in the store are of it.
    Plan(Plan),
    /// Its plan is not known.
    Blocked {
        /// Why not, for people.
        why: String,
        /// Stages that stand in for those that the store has rows of.
        stand_in: Plan,
    },
}

/// A run in memory.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) stage: StageId,
    pub(crate) task: TaskId,
    /// From 1.
    pub(crate) attempt: u32,
    /// Which member of the attempt, from 0.
    pub(crate) member: u32,
    pub(crate) node: NodeId,
    pub(crate) node_name: NodeName,
    /// The boot of the node that it was given to.
    pub(crate) boot: String,
    /// Of a job.
    pub(crate) grant: Option<Arc<Grant>>,
    pub(crate) placed: Timestamp,
    /// The node said that it has it.
    pub(crate) accepted: bool,
    pub(crate) started: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) usage: Usage,
    /// Length of its log on its node, bytes, once it is over; 0 before.
    pub(crate) log_bytes: u64,
    /// The server has its log up to this offset, bytes. A run that is over is forgotten when this
    /// reaches `log_bytes`, or when the rest cannot come any more ([`super::logs`]).
    pub(crate) log_here: u64,
    /// Of a run that is over: since when the rest of its log is awaited, by the clock of
    /// [`super::Engine::tick`] that nobody sets.
    pub(crate) log_awaited: Option<Duration>,
    /// The last try that failed, of those that its node makes by itself.
    pub(crate) failed_try: Option<FailedTry>,
    /// When the pause after it is over; `None` once it is.
    pub(crate) next_try: Option<Timestamp>,
    /// Remarks on it; each stands in the history once.
    pub(crate) remarks: Vec<String>,
    /// Lines about it in the history, beside those of its beginning and end.
    pub(crate) news: u32,
    /// The history says that something of it was not taken, for a quota.
    pub(crate) is_quota_told: bool,
}

impl Run {
    /// One that was just placed; without a boot and a grant.
    pub(crate) fn new(
        id: RunId,
        (stage, task): (StageId, TaskId),
        (attempt, member): (u32, u32),
        (node, node_name): (NodeId, NodeName),
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            stage,
            task,
            attempt,
            member,
            node,
            node_name,
            boot: String::new(),
            grant: None,
            placed: now,
            accepted: false,
            started: None,
            ended: None,
            outcome: None,
            usage: Usage::default(),
            log_bytes: 0,
            log_here: 0,
            log_awaited: None,
            failed_try: None,
            next_try: None,
            remarks: Vec::new(),
            news: 0,
            is_quota_told: false,
        }
    }

    /// Out of its row. `task`: the one that the row names. `log_here`: bytes that are
    /// here of its log.
    pub(crate) fn restore(row: RunRow, task: TaskId, log_here: u64) -> Self {
        let placed = (row.node, row.node_name);
        Self {
            boot: row.boot,
            grant: row.grant.map(Arc::new),
            accepted: row.accepted,
            started: row.started,
            ended: row.ended,
            outcome: row.outcome,
            usage: row.usage,
            log_bytes: row.log_bytes,
            log_here,
            ..Self::new(row.run, (row.stage, task), (row.attempt, row.member), placed, row.placed)
        }
    }
}

/// A stage in memory.
#[derive(Debug, Clone)]
pub(crate) struct StageState {
    pub(crate) state: State,
    pub(crate) reason: Option<String>,
    pub(crate) started: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) image: Option<Arc<JobImage>>,
    /// All that it waits for has happened.
    pub(crate) is_ready: bool,
    /// All members of an attempt of one of its tasks have begun, whatever became of them since.
    pub(crate) has_run: bool,
    pub(crate) tasks: TaskTable,
    pub(crate) nodes: RedBlackTreeSetSync<NodeName>,
}

impl StageState {
    pub(crate) fn new(plan: &StagePlan) -> Self {
        Self {
            state: State::Pending,
            reason: None,
            started: None,
            ended: None,
            image: None,
            is_ready: false,
            has_run: false,
            tasks: TaskTable::new(plan.tasks.count),
            nodes: RedBlackTreeSetSync::new_sync(),
        }
    }

    /// `false` for an image that was being fetched when the server ended: it is fetched again.
    fn image_is_known(&self, plan: &StagePlan) -> bool {
        !matches!(plan.work, StageAction::Image { .. }) || self.state.is_ended()
    }

    /// One of its tasks is on a node.
    pub(crate) fn note_node(&mut self, name: &NodeName) {
        if !self.nodes.contains(name) {
            self.nodes.insert_mut(name.clone());
        }
    }

    pub(crate) fn nodes_shown(&self) -> Vec<NodeName> {
        self.nodes.iter().take(MAX_NODES_SHOWN).cloned().collect()
    }
}

impl WorkflowState {
    /// A workflow that was just handed in, and the write that stores it.
    pub(crate) fn new(submission: Submission, now: Timestamp) -> (Self, Write) {
        let Submission { id, sequence, name, owner, document, plan, stored_plan, key } = submission;
        let row = WorkflowRow {
            id,
            sequence,
            name,
            owner,
            submitted: now,
            started: None,
            ended: None,
            state: State::Pending,
            reason: None,
            stop: None,
            paused: None,
            volume_placements: vec![None; plan.groups],
            view: None,
            unreadable: None,
        };
        let submitted = SubmittedRow { row: row.clone(), document, plan: stored_plan, key };
        (Self::of(row, Arc::new(plan), None), Write::Submit(Box::new(submitted)))
    }

    fn of(row: WorkflowRow, plan: Arc<Plan>, blocked: Option<String>) -> Self {
        let stages = Stages::new(plan.stages.iter().map(StageState::new));
        let WorkflowRow { id, sequence, name, owner, submitted, started, ended, state, .. } = row;
        let WorkflowRow { reason, stop, paused, volume_placements, view, unreadable, .. } = row;
        Self {
            id,
            sequence,
            name: name.into(),
            owner: Arc::new(owner),
            submitted,
            started,
            ended,
            state,
            reason,
            stop,
            paused,
            volumes: Arc::new(volume_placements),
            final_view: view.map(Arc::new),
            damage: unreadable,
            plan,
            blocked,
            stages,
            runs: RedBlackTreeMapSync::new_sync(),
            events: 0,
        }
    }

    /// Its row as it is now.
    fn row(&self) -> WorkflowRow {
        WorkflowRow {
            id: self.id,
            sequence: self.sequence,
            name: self.name.to_string(),
            owner: Owner::clone(&self.owner),
            submitted: self.submitted,
            started: self.started,
            ended: self.ended,
            state: self.state,
            reason: self.reason.clone(),
            stop: self.stop.clone(),
            paused: self.paused.clone(),
            volume_placements: Vec::clone(&self.volumes),
            view: self.final_view.as_deref().cloned(),
            unreadable: self.damage.clone(),
        }
    }

    /// The row of one of its runs as it is now.
    fn run_row(&self, run: &Run) -> RunRow {
        RunRow {
            run: run.id,
            workflow: self.id,
            stage: run.stage,
            task: self.plan.stages[run.stage].tasks.number(run.task),
            attempt: run.attempt,
            member: run.member,
            node: run.node,
            node_name: run.node_name.clone(),
            boot: run.boot.clone(),
            grant: run.grant.as_deref().cloned(),
            placed: run.placed,
            accepted: run.accepted,
            started: run.started,
            ended: run.ended,
            outcome: run.outcome.clone(),
            usage: run.usage.clone(),
            log_bytes: run.log_bytes,
        }
    }

    /// The row of an attempt of several members as it is now.
    fn attempt_row(&self, stage: StageId, task: TaskId, attempt: &Attempt) -> AttemptRow {
        AttemptRow {
            workflow: self.id,
            stage,
            task: self.plan.stages[stage].tasks.number(task),
            attempt: attempt.retry.attempt,
            members: u32::try_from(attempt.members).unwrap_or(u32::MAX),
            placed: attempt.placed,
            released: attempt.released,
            ended: None,
            outcome: attempt.failure().cloned(),
        }
    }

    /// A workflow out of its rows. `runs`: all, by stage, task, attempt and member. `log_here`:
    /// bytes that are here of a log.
    pub(crate) fn restore(
        row: WorkflowRow,
        known: KnownPlan,
        Rows { stages, attempts, runs, .. }: Rows,
        events: u64,
        log_here: impl Fn(RunId) -> u64,
    ) -> Self {
        let (plan, blocked) = match known {
            KnownPlan::Plan(plan) => (plan, None),
            KnownPlan::Blocked { why, stand_in } => (stand_in, Some(why)),
        };
        let mut workflow_state = Self::of(row, Arc::new(plan), blocked);
        workflow_state.events = events;
        for row in stages {
            let Some(stage) = workflow_state.stages.get_mut(row.stage) else { continue };
            stage.state = row.state;
            stage.reason = row.reason;
            stage.started = row.started;
            stage.ended = row.ended;
            stage.image = row.result.map(Arc::new);
        }
        let attempts: BTreeMap<_, _> = attempts.into_iter().map(|row| (row.key(), row)).collect();
        for runs in runs.chunk_by(|one, other| one.attempt_key() == other.attempt_key()) {
            workflow_state.recall(runs, attempts.get(&runs[0].attempt_key()), &log_here);
        }
        let plan = workflow_state.plan.clone();
        for (stage, plan) in plan.numbered() {
            let stage = &mut workflow_state.stages[stage];
            if matches!(stage.state, State::Canceled | State::Failed)
                || workflow_state.stop.is_some()
            {
                stage.tasks.cancel_waiting();
            } else if plan.tasks.count > 0
                && stage.state == State::Finished
                && stage.tasks.finished == 0
            {
                // An image has no runs.
                stage.tasks.finished = stage.tasks.count;
                stage.tasks.next = stage.tasks.count;
            }
        }
        for stage in StageId::first(workflow_state.stages.len()) {
            workflow_state.stages[stage].is_ready = workflow_state.has_what_it_waits_for(stage)
                && workflow_state.stages[stage].image_is_known(&workflow_state.plan.stages[stage]);
        }
        workflow_state
    }

    /// The stages with their numbers.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (StageId, &StageState)> {
        StageId::first(self.stages.len()).zip(self.stages.iter())
    }

    /// Writes the workflow's own row.
    pub(crate) fn save(&self, effects: &mut Effects) {
        effects.writes.push(Write::Workflow(Box::new(self.row())));
        effects.changed.insert(self.id);
    }

    /// Writes a stage's row.
    pub(crate) fn save_stage(&self, effects: &mut Effects, id: StageId) {
        let stage = &self.stages[id];
        effects.writes.push(Write::Stage(Box::new(StageRow {
            workflow: self.id,
            stage: id,
            state: stage.state,
            reason: stage.reason.clone(),
            started: stage.started,
            ended: stage.ended,
            result: stage.image.as_deref().cloned(),
        })));
        effects.changed.insert(self.id);
    }

    /// Writes the row of an attempt of several members; one of a single member has none. One that
    /// cannot be read is left as it is, for somebody who mends it.
    pub(crate) fn keep_attempt(&self, effects: &mut Effects, stage: StageId, task: TaskId) {
        let attempt = self.stages[stage].tasks.running.get(&task);
        if let Some(attempt) = attempt.filter(|attempt| attempt.has_barrier() && !attempt.is_unread)
        {
            let mut row = self.attempt_row(stage, task, attempt);
            if let Some(end) = attempt.end(self.stop.is_some()) {
                let runs = attempt.runs.iter().filter_map(|run| self.runs.get(run)?.ended);
                (row.ended, row.outcome) = (runs.max(), Some(end.outcome));
            }
            effects.writes.push(Write::Attempt(Box::new(row)));
            effects.changed.insert(self.id);
        }
    }

    /// Writes a run's row.
    pub(crate) fn save_run(&self, effects: &mut Effects, run: RunId) {
        if let Some(run) = self.runs.get(&run) {
            effects.writes.push(Write::Run(Box::new(self.run_row(run))));
            effects.changed.insert(self.id);
        }
    }

    /// Adds a line to the history.
    pub(crate) fn event(
        &mut self,
        effects: &mut Effects,
        at: Timestamp,
        event: EventKind,
        stage: Option<StageId>,
        message: String,
    ) {
        self.events += 1;
        let name = stage.map(|stage| self.plan.stages[stage].name.clone());
        let (number, stage) = (self.events, stage.map(|stage| stage.0));
        effects.history(self.id, WorkflowEvent { number, at, event, stage, name, message });
        effects.changed.insert(self.id);
    }

    pub(crate) fn has_task_due(&self, now: Timestamp) -> bool {
        self.blocked.is_none() && self.next_due().is_some_and(|due| due <= now)
    }

    /// When the next pause of a task ends.
    fn next_due(&self) -> Option<Timestamp> {
        self.stages
            .iter()
            .flat_map(|stage| stage.tasks.retries.values())
            .map(|retry| retry.retry_at)
            .min()
    }
}
