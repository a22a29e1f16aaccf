//! Stages begin when what they wait for has happened, and end when their tasks are over.

use std::sync::Arc;

use api::{
    channel::FromServer,
    ids::Timestamp,
    workflow::{EventKind, State},
};
use document::plan::{Dependency, StageAction, StageId, Until};
use image_catalog::FetchedImage;

use super::{Effects, Engine, WorkflowState, effects::stop_run, workflow_state::StageState};
use crate::record::ToldFetchError;

impl Engine {
    /// Lets the stages of a workflow begin, end and take others with them, and the workflow end.
    pub(super) fn advance_workflow(&mut self, sequence: u64, now: Timestamp) {
        let goes_on = |workflow_state: &&WorkflowState| {
            workflow_state.ended.is_none() && workflow_state.can_advance()
        };
        if self.workflow_states.get(sequence).filter(goes_on).is_some()
            && let Some(workflow_state) = self.workflow_states.get_mut(sequence)
        {
            let mut effects = Effects::default();
            workflow_state.advance(&mut effects, now);
            if workflow_state.ended.is_some() {
                for volume_placement in workflow_state.volumes.iter().flatten() {
                    effects.send(
                        volume_placement.node,
                        FromServer::RemoveVolumes { workflow: workflow_state.id },
                    );
                }
            }
            if !effects.writes.is_empty() {
                self.take(effects);
                self.stale = true;
            }
        }
        self.drop_if_done(sequence);
    }

    /// A workflow that is over and whose runs are forgotten is in the store alone.
    pub(super) fn drop_if_done(&mut self, sequence: u64) {
        let is_done = |workflow_state: &WorkflowState| {
            workflow_state.ended.is_some() && workflow_state.runs.is_empty()
        };
        if self.workflow_states.get(sequence).is_some_and(is_done) {
            self.workflow_states.remove(sequence);
        }
    }
}

/// What is next for a stage.
enum StageStep {
    /// All its tasks are over.
    End,
    /// What it waits for cannot happen any more, or the workflow stops: why.
    Cancel(String),
    /// What it waits for has happened.
    Begin,
}

impl WorkflowState {
    /// Whether [`Self::advance`] would change anything: most often not, and a workflow that is not
    /// changed is not copied for its readers.
    fn can_advance(&self) -> bool {
        let mut stages = StageId::first(self.stages.len());
        !self.is_nobodys()
            && (stages.any(|stage| self.next_step(stage).is_some()) || self.is_over())
    }

    /// Of a blocked workflow nobody knows what comes next, so nothing does; but it can be ended.
    fn is_nobodys(&self) -> bool {
        self.blocked.is_some() && self.stop.is_none()
    }

    /// Until nothing more changes.
    fn advance(&mut self, effects: &mut Effects, now: Timestamp) {
        if self.is_nobodys() {
            return;
        }
        let mut changes = true;
        while changes {
            changes = false;
            for stage in StageId::first(self.stages.len()) {
                changes |= self.advance_stage(effects, stage, now);
            }
        }
        self.end_if_finished(effects, now);
    }

    /// What is next for a stage, if anything is.
    fn next_step(&self, id: StageId) -> Option<StageStep> {
        let stage = &self.stages[id];
        if stage.state.is_ended() {
            return None;
        }
        if stage.state == State::Started && stage.tasks.is_over() {
            return Some(StageStep::End);
        }
        // Stopped while it was blocked, with stages that nobody knew of: they are canceled now.
        if let Some(why) = self.stop.as_ref().filter(|_| stage.state == State::Pending) {
            return Some(StageStep::Cancel(why.clone()));
        }
        if stage.is_ready {
            return None;
        }
        let cancel = self.cannot_happen(id).map(StageStep::Cancel);
        cancel.or_else(|| self.has_what_it_waits_for(id).then_some(StageStep::Begin))
    }

    /// Takes the next step of a stage. `false`: there is none, or it cannot be taken
    /// to its end yet.
    fn advance_stage(&mut self, effects: &mut Effects, id: StageId, now: Timestamp) -> bool {
        match self.next_step(id) {
            None => false,
            Some(StageStep::End) => {
                self.end_stage(effects, id, now);
                true
            }
            Some(StageStep::Cancel(why)) => {
                self.cancel_stage(effects, id, &why, now);
                // One of whose row nothing could be read may have runs, and ends
                // when they are over.
                self.stages[id].state.is_ended()
            }
            Some(StageStep::Begin) => {
                self.make_ready(effects, id, now);
                true
            }
        }
    }

    /// All that a stage waits for has happened.
    fn make_ready(&mut self, effects: &mut Effects, id: StageId, now: Timestamp) {
        self.stages[id].is_ready = true;
        if !self.plan.stages[id].after.is_empty() {
            let message = "may begin".to_owned();
            self.event(effects, now, EventKind::DependencySatisfied, Some(id), message);
        }
        if let StageAction::Image { reference } = &self.plan.stages[id].work {
            let reference = reference.clone();
            self.begin_stage(effects, id, now);
            let message = format!("pulling {reference}");
            self.event(effects, now, EventKind::ImagePullStarted, Some(id), message);
            effects.fetch.push((self.id, id, reference));
        }
        effects.changed.insert(self.id);
    }

    /// All that a stage waits for has happened.
    pub(super) fn has_what_it_waits_for(&self, id: StageId) -> bool {
        self.plan.stages[id].after.iter().all(|after| self.has_happened(*after))
    }

    /// What is waited for of a stage has happened.
    pub(super) fn has_happened(&self, Dependency { stage, until }: Dependency) -> bool {
        let StageState { state, has_run, .. } = &self.stages[stage];
        match until {
            Until::Finished => *state == State::Finished,
            Until::Failed => *state == State::Failed,
            Until::Any => state.is_ended(),
            Until::Running => *has_run || *state == State::Finished,
        }
    }

    /// Why what a stage waits for cannot happen any more, if so: the other stage is over.
    fn cannot_happen(&self, id: StageId) -> Option<String> {
        let is_over = |after: &&Dependency| self.stages[after.stage].state.is_ended();
        let after = self.plan.stages[id].after.iter().filter(is_over);
        let Dependency { stage, .. } =
            *after.into_iter().find(|after| !self.has_happened(**after))?;
        let how = self.stages[stage].state.as_str();
        Some(format!("{} {} {how}", self.kind_of(stage), self.plan.stages[stage].name))
    }

    fn kind_of(&self, stage: StageId) -> &'static str {
        self.plan.stages[stage].work.kind().as_str()
    }

    /// The first of its tasks is on a node, or its image is being pulled.
    pub(super) fn begin_stage(&mut self, effects: &mut Effects, index: StageId, now: Timestamp) {
        if self.stages[index].state != State::Pending {
            return;
        }
        let stage = &mut self.stages[index];
        stage.state = State::Started;
        stage.started = Some(now);
        stage.reason = None;
        self.save_stage(effects, index);
        self.event(effects, now, EventKind::StageStarted, Some(index), "started".to_owned());
        if self.started.is_none() {
            self.started = Some(now);
            self.state = State::Started;
            self.save(effects);
        }
    }

    /// All its tasks are over.
    fn end_stage(&mut self, effects: &mut Effects, index: StageId, now: Timestamp) {
        let stage = &mut self.stages[index];
        let book = &stage.tasks;
        let (state, reason) = if book.failed > 0 {
            let why = book.failure.clone().unwrap_or_default();
            let why = if book.count > 1 {
                format!("{} of {} tasks failed; the first: {why}", book.failed, book.count)
            } else {
                why
            };
            (State::Failed, Some(why))
        } else if book.canceled > 0 {
            (State::Canceled, self.stop.clone().or_else(|| stage.reason.clone()))
        } else {
            (State::Finished, None)
        };
        self.close_stage(effects, index, state, reason, now);
    }

    /// Ends a stage, whatever its tasks were.
    fn close_stage(
        &mut self,
        effects: &mut Effects,
        index: StageId,
        state: State,
        reason: Option<String>,
        now: Timestamp,
    ) {
        let stage = &mut self.stages[index];
        stage.state = state;
        stage.reason.clone_from(&reason);
        stage.ended = Some(now);
        self.save_stage(effects, index);
        let event = match state {
            State::Finished => EventKind::StageFinished,
            State::Failed => EventKind::StageFailed,
            _ => EventKind::StageCanceled,
        };
        let message = reason.unwrap_or_else(|| state.as_str().to_owned());
        self.event(effects, now, event, Some(index), message);
    }

    /// What has not begun will not; what runs goes on to its end.
    pub(super) fn cancel_stage(
        &mut self,
        effects: &mut Effects,
        index: StageId,
        why: &str,
        now: Timestamp,
    ) {
        // To look is no change: a view keeps what is changed from being shared.
        if self.stages[index].state.is_ended() {
            return;
        }
        let stage = &mut self.stages[index];
        stage.tasks.cancel_waiting();
        stage.reason = Some(why.to_owned());
        if stage.tasks.running.is_empty() {
            self.close_stage(effects, index, State::Canceled, Some(why.to_owned()), now);
        }
    }

    /// Fails a stage for a reason that is none of its tasks'.
    pub(super) fn fail_stage(
        &mut self,
        effects: &mut Effects,
        index: StageId,
        why: &str,
        now: Timestamp,
    ) {
        if self.stages[index].state.is_ended() {
            return;
        }
        let stage = &mut self.stages[index];
        stage.tasks.cancel_waiting();
        self.close_stage(effects, index, State::Failed, Some(why.to_owned()), now);
    }

    /// Ends what runs and lets nothing more begin.
    pub(super) fn stop_all(&mut self, effects: &mut Effects, why: &str, now: Timestamp) {
        for run in self.runs.values().filter(|run| run.ended.is_none()) {
            effects.send(run.node, stop_run(run.id, why));
        }
        let plan = self.plan.clone();
        for (stage, plan) in plan.numbered() {
            self.stages[stage].tasks.give_up_unread(plan.retries, now);
        }
        for stage in StageId::first(self.stages.len()) {
            self.cancel_stage(effects, stage, why, now);
        }
        effects.changed.insert(self.id);
    }

    /// An image is here, or cannot be had.
    pub(super) fn image_fetched(
        &mut self,
        effects: &mut Effects,
        index: StageId,
        fetched: Result<FetchedImage, ToldFetchError>,
        now: Timestamp,
    ) {
        if self.stages[index].state != State::Started {
            return;
        }
        match fetched {
            Ok(FetchedImage { image, was_cached }) => {
                let (event, how) = if was_cached {
                    (EventKind::ImageCacheHit, "was here already")
                } else {
                    (EventKind::ImageConvertCompleted, "pulled and converted")
                };
                let message = format!("{} {how}, {} bytes", image.manifest, image.root.size);
                self.event(effects, now, event, Some(index), message);
                let stage = &mut self.stages[index];
                stage.image = Some(Arc::new(image));
                stage.tasks.finished = stage.tasks.count;
                stage.tasks.next = stage.tasks.count;
                self.close_stage(effects, index, State::Finished, None, now);
            }
            Err(error) => self.fail_stage(effects, index, &error.to_string(), now),
        }
    }

    /// All its stages have ended, and no run is left: a stage fails with its volume before the runs
    /// that were in it are known to be lost.
    fn is_over(&self) -> bool {
        self.stages.iter().all(|stage| stage.state.is_ended())
            && self.runs.values().all(|run| run.ended.is_some())
    }

    /// The workflow ends when all of it is over.
    fn end_if_finished(&mut self, effects: &mut Effects, now: Timestamp) {
        if self.ended.is_some() || !self.is_over() {
            return;
        }
        let failed = self.numbered().find(|(_, stage)| stage.state == State::Failed);
        let (state, reason, event) = match (failed, &self.stop) {
            (Some((index, stage)), None) => {
                let name = &self.plan.stages[index].name;
                let why = stage.reason.clone().unwrap_or_default();
                let why = format!("{} {name}: {why}", self.kind_of(index));
                (State::Failed, Some(why), EventKind::WorkflowFailed)
            }
            (_, Some(why)) => (State::Canceled, Some(why.clone()), EventKind::WorkflowCanceled),
            (None, None) => (State::Finished, None, EventKind::WorkflowFinished),
        };
        self.state = state;
        self.reason.clone_from(&reason);
        self.ended = Some(now);
        self.event(effects, now, event, None, reason.unwrap_or_else(|| state.as_str().to_owned()));
        self.final_view = Some(Arc::new(self.view()));
        self.save(effects);
    }
}
