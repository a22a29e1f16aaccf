//! What the conductor is asked and told, and what it answers when that is on disk.

use api::run::{RunId, WorkflowId};
use database::outbox::OutboxRow;
use tokio::sync::{OwnedMutexGuard, oneshot};

use crate::{
    engine::Submission,
    images::{Delivery, JobImages},
    results::Results,
};

/// What the conductor is asked or told. `told`: rows that say who asked, committed with what is done.
#[derive(Debug)]
pub(crate) enum Order {
    /// Take a workflow. Answered when it is on disk; `turn` ends then, whether or not somebody still
    /// waits for the answer: until then its place may not be given to another. `lease`: holds its
    /// files until the engine knows of them.
    Submit {
        submission: Box<Submission>,
        turn: OwnedMutexGuard<()>,
        lease: Box<JobImages>,
        done: oneshot::Sender<()>,
        told: Vec<OutboxRow>,
    },
    /// End a workflow. Answered with whether there was something to end, when that is on disk.
    Stop { workflow: WorkflowId, why: String, done: oneshot::Sender<bool>, told: Vec<OutboxRow> },
    /// Pause a workflow, or let it go on. Answered with whether that changed something, when it is on disk.
    Pause {
        workflow: WorkflowId,
        paused: bool,
        by: String,
        done: oneshot::Sender<bool>,
        told: Vec<OutboxRow>,
    },
    /// Forget workflows that are over, with their logs and files. Answered with `false` if one of them
    /// is still held here, and nothing was forgotten; else when all is gone.
    Forget { workflows: Vec<WorkflowId>, done: oneshot::Sender<bool>, told: Vec<OutboxRow> },
    /// An image is here, or cannot be had.
    Image { workflow: WorkflowId, stage: u32, delivery: Box<Delivery> },
    /// The registry of an image is waited for, and why; or the pull goes on.
    ImageWaits { workflow: WorkflowId, stage: u32, why: Option<String> },
    /// The server has so much of a log.
    Log { run: RunId, length: u64 },
    /// Something of a run is not taken, for a quota: what, and why.
    QuotaMet { run: RunId, what: String },
}

/// Answers that are due when the batch is on disk.
pub(super) enum Answer {
    Plain(oneshot::Sender<()>),
    Submitted(oneshot::Sender<()>, OwnedMutexGuard<()>),
    Flag(oneshot::Sender<bool>, bool),
    Forgotten(oneshot::Sender<bool>, Vec<WorkflowId>, Results),
}

impl Answer {
    pub(super) fn give(self) {
        // Whoever asked may be gone.
        match self {
            Self::Plain(sender) => drop(sender.send(())),
            Self::Submitted(sender, turn) => {
                drop(turn);
                _ = sender.send(());
            }
            Self::Flag(sender, flag) => drop(sender.send(flag)),
            // Also if nobody waits any more, and beside the next batch: a log may be long.
            Self::Forgotten(sender, workflows, results) => {
                tokio::spawn(async move {
                    for workflow in workflows {
                        results.clone().forget(workflow).await;
                    }
                    _ = sender.send(true);
                });
            }
        }
    }
}
