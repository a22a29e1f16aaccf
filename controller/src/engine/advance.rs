//! Stages begin when those before them have finished, and end when their tasks are over.

use api::{channel::FromServer, ids::Timestamp, workflow::State};
use document::plan::Planned;

use super::{Engine, Flow, Output};
use crate::images::{Fetched, ToldFetchError};

/// Time that a run gets between SIGTERM and SIGKILL, seconds.
const GRACE_SECONDS: u32 = 10;

impl Engine {
    /// Lets the stages of a workflow begin, end and take others with them, and the workflow end.
    pub(super) fn settle_flow(&mut self, place: u64, now: Timestamp) {
        let Some(flow) = self.flows.get_mut(&place) else { return };
        if flow.row.ended.is_none() {
            let mut output = Output::default();
            flow.advance(&mut output, now);
            if flow.row.ended.is_some() {
                for home in flow.row.homes.iter().flatten() {
                    output.say(home.node, FromServer::RemoveVolumes { workflow: flow.row.id });
                }
            }
            if !output.writes.is_empty() {
                self.take(output);
                self.stale = true;
            }
        }
        self.drop_if_done(place);
    }

    /// A workflow that is over and whose runs are forgotten is in the store alone.
    pub(super) fn drop_if_done(&mut self, place: u64) {
        let is_done = |flow: &Flow| flow.row.ended.is_some() && flow.runs.is_empty();
        if self.flows.get(&place).is_some_and(is_done)
            && let Some(flow) = self.flows.remove(&place)
        {
            self.places.remove(&flow.row.id);
        }
    }
}

impl Flow {
    /// Until nothing more changes. Of a blocked workflow nobody knows what comes next, so nothing
    /// does; but it can be ended.
    fn advance(&mut self, output: &mut Output, now: Timestamp) {
        if self.blocked.is_some() && self.row.stop.is_none() {
            return;
        }
        let mut changes = true;
        while changes {
            changes = false;
            for index in 0..self.plan.stages.len() {
                changes |= self.advance_stage(output, index, now);
            }
        }
        self.end_if_over(output, now);
    }

    fn advance_stage(&mut self, output: &mut Output, index: usize, now: Timestamp) -> bool {
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let stage = &self.stages[index];
        if stage.state.is_ended() {
            return false;
        }
        if stage.state == State::Started && stage.tasks.is_over() {
            self.end_stage(output, number, now);
            return true;
        }
        // Stopped while it was blocked, with stages that nobody knew of: they are canceled now.
        if let Some(why) = self.row.stop.clone().filter(|_| stage.state == State::Pending) {
            self.cancel_stage(output, number, &why, now);
            return self.stages[index].state.is_ended();
        }
        if stage.is_ready {
            return false;
        }
        let before = self.plan.stages[index].after.clone();
        let bad = before
            .iter()
            .find(|&&other| matches!(self.stages[other as usize].state, State::Failed | State::Canceled));
        if let Some(&bad) = bad {
            let how = self.stages[bad as usize].state.as_str();
            let why = format!("{} {} {how}", self.kind_of(bad), self.plan.stages[bad as usize].name);
            self.cancel_stage(output, number, &why, now);
            // One of whose row nothing could be read may have runs, and ends when they are over.
            return self.stages[index].state.is_ended();
        }
        if before.iter().all(|&other| self.stages[other as usize].state == State::Finished) {
            self.stages[index].is_ready = true;
            if !before.is_empty() {
                self.event(output, now, "DEPENDENCY_SATISFIED", Some(number), "may begin".to_owned());
            }
            if let Planned::Image { reference } = &self.plan.stages[index].work {
                let reference = reference.clone();
                self.begin_stage(output, number, now);
                self.event(output, now, "IMAGE_PULL_STARTED", Some(number), format!("pulling {reference}"));
                output.fetch.push((self.row.id, number, reference));
            }
            output.changed.insert(self.row.id);
            return true;
        }
        false
    }

    fn kind_of(&self, stage: u32) -> &'static str {
        self.plan.stages[stage as usize].work.kind().as_str()
    }

    /// The first of its tasks is on a node, or its image is being pulled.
    pub(super) fn begin_stage(&mut self, output: &mut Output, index: u32, now: Timestamp) {
        let stage = &mut self.stages[index as usize];
        if stage.state != State::Pending {
            return;
        }
        stage.state = State::Started;
        stage.started = Some(now);
        stage.reason = None;
        self.keep_stage(output, index);
        self.event(output, now, "STAGE_STARTED", Some(index), "started".to_owned());
        if self.row.started.is_none() {
            self.row.started = Some(now);
            self.row.state = State::Started;
            self.keep(output);
        }
    }

    /// All its tasks are over.
    fn end_stage(&mut self, output: &mut Output, index: u32, now: Timestamp) {
        let stage = &mut self.stages[index as usize];
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
            (State::Canceled, self.row.stop.clone().or_else(|| stage.reason.clone()))
        } else {
            (State::Finished, None)
        };
        self.close_stage(output, index, state, reason, now);
    }

    /// Ends a stage, whatever its tasks were.
    fn close_stage(
        &mut self,
        output: &mut Output,
        index: u32,
        state: State,
        reason: Option<String>,
        now: Timestamp,
    ) {
        let stage = &mut self.stages[index as usize];
        stage.state = state;
        stage.reason.clone_from(&reason);
        stage.ended = Some(now);
        self.keep_stage(output, index);
        let event = match state {
            State::Finished => "STAGE_FINISHED",
            State::Failed => "STAGE_FAILED",
            _ => "STAGE_CANCELED",
        };
        let message = reason.unwrap_or_else(|| state.as_str().to_owned());
        self.event(output, now, event, Some(index), message);
    }

    /// What has not begun will not; what runs goes on to its end.
    pub(super) fn cancel_stage(&mut self, output: &mut Output, index: u32, why: &str, now: Timestamp) {
        let stage = &mut self.stages[index as usize];
        if stage.state.is_ended() {
            return;
        }
        stage.tasks.cancel_waiting();
        stage.reason = Some(why.to_owned());
        if stage.tasks.running.is_empty() {
            self.close_stage(output, index, State::Canceled, Some(why.to_owned()), now);
        }
    }

    /// Fails a stage for a reason that is none of its tasks'.
    pub(super) fn fail_stage(&mut self, output: &mut Output, index: u32, why: &str, now: Timestamp) {
        let stage = &mut self.stages[index as usize];
        if stage.state.is_ended() {
            return;
        }
        stage.tasks.cancel_waiting();
        self.close_stage(output, index, State::Failed, Some(why.to_owned()), now);
    }

    /// Ends what runs and lets nothing more begin.
    pub(super) fn stop_all(&mut self, output: &mut Output, why: &str, now: Timestamp) {
        for run in self.runs.values().filter(|run| run.row.ended.is_none()) {
            output.say(run.row.node, stop_run(run.row.run, why));
        }
        for index in 0..self.stages.len() {
            self.cancel_stage(output, u32::try_from(index).unwrap_or(u32::MAX), why, now);
        }
        output.changed.insert(self.row.id);
    }

    /// An image is here, or cannot be had.
    pub(super) fn image_fetched(
        &mut self,
        output: &mut Output,
        index: u32,
        fetched: Result<Fetched, ToldFetchError>,
        now: Timestamp,
    ) {
        if self.stages[index as usize].state != State::Started {
            return;
        }
        match fetched {
            Ok(Fetched { image, was_cached }) => {
                let (event, how) = if was_cached {
                    ("IMAGE_CACHE_HIT", "was here already")
                } else {
                    ("IMAGE_CONVERT_COMPLETED", "pulled and converted")
                };
                let message = format!("{} {how}, {} bytes", image.manifest, image.root.size);
                self.event(output, now, event, Some(index), message);
                let stage = &mut self.stages[index as usize];
                stage.image = Some(image);
                stage.tasks.finished = stage.tasks.count;
                stage.tasks.next = stage.tasks.count;
                self.close_stage(output, index, State::Finished, None, now);
            }
            Err(error) => self.fail_stage(output, index, &error.to_string(), now),
        }
    }

    /// The workflow ends when all its stages have, and no run is left: a stage fails with its volume before the runs that
    /// were in it are known to be lost.
    fn end_if_over(&mut self, output: &mut Output, now: Timestamp) {
        let is_over = self.stages.iter().all(|stage| stage.state.is_ended())
            && self.runs.values().all(|run| run.row.ended.is_some());
        if self.row.ended.is_some() || !is_over {
            return;
        }
        let failed = (0..).zip(&self.stages).find(|(_, stage)| stage.state == State::Failed);
        let (state, reason, event) = match (failed, &self.row.stop) {
            (Some((index, stage)), None) => {
                let name = &self.plan.stages[index as usize].name;
                let why = stage.reason.clone().unwrap_or_default();
                (State::Failed, Some(format!("{} {name}: {why}", self.kind_of(index))), "WORKFLOW_FAILED")
            }
            (_, Some(why)) => (State::Canceled, Some(why.clone()), "WORKFLOW_CANCELED"),
            (None, None) => (State::Finished, None, "WORKFLOW_FINISHED"),
        };
        self.row.state = state;
        self.row.reason.clone_from(&reason);
        self.row.ended = Some(now);
        self.event(output, now, event, None, reason.unwrap_or_else(|| state.as_str().to_owned()));
        self.row.view = Some(self.view());
        self.keep(output);
    }
}

/// The order to end a run.
pub(super) fn stop_run(run: api::run::RunId, why: &str) -> FromServer {
    FromServer::StopRun { run, grace_seconds: GRACE_SECONDS, why: why.to_owned() }
}
