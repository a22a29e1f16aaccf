//! What the agent knows of its runs and what an order does to them. Pure; [`super::keep`]
//! does what it says.
//!
//! ```text
//!             accept              began               over
//!   StartRun ────────► preparing ───────► running ───────► ended ──► ForgetRuns
//!                          │                 ▲
//!                          └──► prepared ────┘ ReleaseRun: of a run that awaits it
//! ```
//!
//! A state only goes forward. What the server has not been told yet waits, one report per run: a
//! run that goes on before its word is said is told as it is then. That a run has begun is not
//! urgent; that it is accepted is, since the server counts on it if the node goes down.

use std::collections::{BTreeMap, VecDeque};

use api::{
    channel::FromAgent,
    ids::Timestamp,
    run::{
        MAX_RUNS_PER_NODE, Outcome, RunEnd, RunId, RunNews, RunReport, RunSpec, RunState, Usage,
        Work, WorkflowId,
    },
};

/// Remarks about one run that are told: a transfer makes one.
const MAX_REMARKS: usize = 4;

/// What the server wants.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerRequest {
    /// Begin a run.
    Start(Box<RunSpec>),
    /// End one.
    Stop {
        /// Which.
        run: RunId,
        /// Time between SIGTERM and SIGKILL, seconds.
        grace_seconds: u32,
        /// The server's words.
        why: String,
    },
    /// Let a job stand still, or go on.
    Pause {
        /// Which.
        run: RunId,
        /// `false`: go on.
        paused: bool,
    },
    /// Start the process of a run that awaits its release.
    Release(RunId),
    /// Forget runs that have ended.
    Forget(Vec<RunId>),
    /// Delete the volumes of a workflow.
    RemoveVolumes(WorkflowId),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write the run's directory, then begin it. If it cannot be written: [`Core::not_accepted`].
    Accept(Box<RunSpec>),
    /// Write down that it shall end, and tell it.
    Stop {
        /// Which.
        run: RunId,
        /// Seconds between the signals.
        grace_seconds: u32,
        /// Why.
        why: String,
    },
    /// Write down that it shall stand still or go on, and tell it.
    Pause {
        /// Which.
        run: RunId,
        /// `false`: go on.
        paused: bool,
    },
    /// Write down that it is released, and tell it.
    Release(RunId),
    /// Stop sending its log, delete its directory.
    Delete(RunId),
    /// Delete the volumes of a workflow.
    RemoveVolumes(WorkflowId),
}

/// All runs that the agent holds.
#[derive(Debug, Default)]
pub struct Core {
    runs: BTreeMap<RunId, RunState>,
    /// Unsaid that they are accepted or over: of runs held, and of those refused; the latter go out
    /// over the connection that brought the order.
    urgent: BTreeMap<RunId, RunReport>,
    /// Unsaid that they have begun.
    begun: BTreeMap<RunId, RunReport>,
    /// Of runs that are not over: the last try that failed, and remarks; of those that are,
    /// remarks. Each new session is told them.
    news: BTreeMap<RunId, Vec<RunNews>>,
    /// Those that were not told.
    pending_news: VecDeque<(RunId, RunNews)>,
    /// Why no job is begun here.
    refusing: Option<String>,
    /// The server has not been told of the last change of that.
    pending_refusal: bool,
}

impl Core {
    /// Takes back a run that was found on disk.
    pub fn adopt(&mut self, run: RunId, state: RunState) {
        self.runs.insert(run, state);
    }

    /// What an order asks for. `now` goes into the ends of runs that never were.
    pub fn order(&mut self, order: ServerRequest, now: Timestamp) -> Vec<Effect> {
        match order {
            ServerRequest::Start(spec) => self.start(spec, now),
            ServerRequest::Stop { run, grace_seconds, why } => match self.runs.get(&run) {
                None => {
                    self.say(run, never(now, Outcome::Stopped { why }));
                    Vec::new()
                }
                Some(state @ RunState::Ended(_)) => {
                    self.say(run, state.clone());
                    Vec::new()
                }
                Some(_) => vec![Effect::Stop { run, grace_seconds, why }],
            },
            ServerRequest::Pause { run, paused } => match self.runs.get(&run) {
                None | Some(RunState::Ended(_)) => Vec::new(),
                Some(_) => vec![Effect::Pause { run, paused }],
            },
            ServerRequest::Release(run) => match self.runs.get(&run) {
                Some(RunState::Preparing {} | RunState::Prepared {}) => vec![Effect::Release(run)],
                _ => Vec::new(),
            },
            ServerRequest::Forget(runs) => {
                runs.into_iter().filter(|run| self.forget(*run)).map(Effect::Delete).collect()
            }
            ServerRequest::RemoveVolumes(workflow) => vec![Effect::RemoveVolumes(workflow)],
        }
    }

    fn start(&mut self, spec: Box<RunSpec>, now: Timestamp) -> Vec<Effect> {
        if self.runs.contains_key(&spec.run) {
            return Vec::new();
        }
        if self.runs.len() >= MAX_RUNS_PER_NODE {
            let why = format!("the node already holds {MAX_RUNS_PER_NODE} runs");
            self.say(spec.run, never(now, Outcome::Failed { why, transient: true }));
            return Vec::new();
        }
        // Not failed: an agent that knows it can do it, here after an upgrade or on another node.
        if !spec.work.is_known() {
            let why = "its agent is older than the server and doesn't know this kind of work: upgrade it \
                       with `bedplate node upgrade`";
            self.say(spec.run, never(now, Outcome::Refused { why: why.to_owned() }));
            return Vec::new();
        }
        // Volumes and transfers belong to workflows that run here already.
        if let (Some(why), Work::Job(_)) = (&self.refusing, &spec.work) {
            let refused = Outcome::Refused { why: why.clone() };
            self.say(spec.run, never(now, refused));
            return Vec::new();
        }
        self.runs.insert(spec.run, RunState::Preparing {});
        self.say(spec.run, RunState::Preparing {});
        vec![Effect::Accept(spec)]
    }

    fn forget(&mut self, run: RunId) -> bool {
        let over = matches!(self.runs.get(&run), Some(RunState::Ended(_)));
        if over {
            self.runs.remove(&run);
            self.urgent.remove(&run);
            self.news.remove(&run);
            self.pending_news.retain(|(of, _)| *of != run);
        }
        over
    }

    /// The run's directory could not be written; it never begins.
    pub fn not_accepted(&mut self, run: RunId, why: String, now: Timestamp) {
        self.runs.remove(&run);
        self.say(run, never(now, Outcome::Failed { why, transient: true }));
    }

    /// A run went on. `false` if that is nothing new: it is not held, or was further already.
    pub fn advanced(&mut self, report: RunReport) -> bool {
        let Some(state) = self.runs.get_mut(&report.run) else { return false };
        if rank(&report.state) <= rank(state) {
            return false;
        }
        *state = report.state.clone();
        if matches!(report.state, RunState::Ended(_))
            && let Some(news) = self.news.get_mut(&report.run)
        {
            // Its end says what failed last, and no remark.
            news.retain(|news| matches!(news, RunNews::Remark { .. }));
        }
        self.say(report.run, report.state);
        true
    }

    /// Something is to be told of a run that goes on. Of failed tries only the last one matters.
    pub fn happened(&mut self, run: RunId, news: RunNews) {
        if self.runs.get(&run).is_none_or(|state| matches!(state, RunState::Ended(_))) {
            return;
        }
        let is_try = |news: &RunNews| matches!(news, RunNews::FailedTry(_));
        let known = self.news.entry(run).or_default();
        if is_try(&news) {
            known.retain(|known| !is_try(known));
            self.pending_news.retain(|(of, pending)| *of != run || !is_try(pending));
        } else if known.iter().filter(|known| !is_try(known)).count() >= MAX_REMARKS {
            return;
        }
        known.push(news.clone());
        self.pending_news.push_back((run, news));
    }

    /// Everything, for the beginning of a session. Nothing is unsaid then but refusals and news.
    pub fn list(&mut self) -> Vec<RunReport> {
        self.begun.clear();
        self.urgent.retain(|run, _| !self.runs.contains_key(run));
        self.pending_refusal = self.refusing.is_some();
        let news =
            self.news.iter().flat_map(|(run, all)| all.iter().map(|news| (*run, news.clone())));
        self.pending_news = news.collect();
        self.runs.iter().map(|(run, state)| RunReport { run: *run, state: state.clone() }).collect()
    }

    /// Why no job is begun here from now on; `None` if jobs are begun.
    pub fn refuse(&mut self, why: Option<String>) {
        self.pending_refusal |= self.refusing != why;
        self.refusing = why;
    }

    /// `true` if something waits to be said.
    #[must_use]
    pub fn has_pending_reports(&self) -> bool {
        self.has_urgent() || !self.begun.is_empty()
    }

    /// `true` if something waits that is to be said at once.
    #[must_use]
    pub fn has_urgent(&self) -> bool {
        self.pending_refusal || !self.urgent.is_empty() || !self.pending_news.is_empty()
    }

    /// Takes what is to be said next: before the refusal of a run, that the node refuses; before
    /// the end of a run, what happened in it; what is urgent before the rest.
    pub fn take_pending_report(&mut self) -> Option<FromAgent> {
        if std::mem::take(&mut self.pending_refusal) {
            return Some(FromAgent::Refusing { reason: self.refusing.clone() });
        }
        if let Some((run, news)) = self.pending_news.pop_front() {
            return Some(FromAgent::RunNews { run, news });
        }
        let next = self.urgent.pop_first().or_else(|| self.begun.pop_first());
        next.map(|(_, report)| FromAgent::Run { report })
    }

    fn say(&mut self, run: RunId, state: RunState) {
        let has_begun = matches!(state, RunState::Running { .. } | RunState::Ready { .. });
        let report = RunReport { run, state };
        if has_begun {
            // Of one that is not even known to be accepted, this says both.
            let pending =
                if self.urgent.contains_key(&run) { &mut self.urgent } else { &mut self.begun };
            pending.insert(run, report);
        } else {
            self.begun.remove(&run);
            self.urgent.insert(run, report);
        }
    }
}

fn rank(state: &RunState) -> u8 {
    match state {
        // Made by none of this agent's own tasks.
        RunState::Unknown => 0,
        RunState::Preparing {} => 0,
        RunState::Prepared {} => 1,
        RunState::Running { .. } => 2,
        RunState::Ready { .. } => 3,
        RunState::Ended(_) => 4,
    }
}

/// The end of a run that never began.
#[must_use]
pub fn never(ended: Timestamp, outcome: Outcome) -> RunState {
    let usage = Usage::default();
    RunState::Ended(Box::new(RunEnd { started: None, ended, outcome, log_bytes: 0, usage }))
}

#[cfg(test)]
#[path = "state/tests.rs"]
mod tests;
