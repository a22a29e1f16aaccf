//! What the conductor is asked and told, and what it answers when that is on disk.

use std::{sync::Arc, time::Duration};

use api::run::{RunId, WorkflowId};
use database::outbox::OutboxRow;
use document::plan::StageId;
use image_catalog::{Delivery, JobImages};
use rest::causes;
use tokio::{
    sync::{OwnedMutexGuard, mpsc, oneshot},
    time::timeout,
};

use crate::{engine::Submission, ledger::SubmissionCharge, results::Results, store::Store};

/// How long somebody who has deleted workflows waits for their files to go: whoever makes room
/// finds it, and whoever has a million files does not wait for each.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(10);

/// How long somebody waits for an order to be on disk: half of what clients wait for an answer, so
/// that they are told why there is none.
pub(crate) const ORDER_PATIENCE: Duration = Duration::from_secs(30);

/// What the conductor is asked or told. `told`: rows that say who asked, committed
/// with what is done.
#[derive(Debug)]
pub(crate) enum Command {
    /// Take a workflow. Answered when it is on disk; `turn` ends then, whether or not somebody
    /// still waits for the answer: until then its place may not be given to another. `lease`: holds
    /// its files until the engine knows of them. `charge`: uncounts it if the order is never taken.
    Submit {
        submission: Box<Submission>,
        turn: OwnedMutexGuard<()>,
        lease: Box<JobImages>,
        charge: SubmissionCharge,
        done: oneshot::Sender<()>,
        told: Vec<OutboxRow>,
    },
    /// End a workflow. Answered with whether there was something to end, when that is on disk.
    Stop { workflow: WorkflowId, why: String, done: oneshot::Sender<bool>, told: Vec<OutboxRow> },
    /// Pause a workflow, or let it go on. Answered with whether that changed something,
    /// when it is on disk.
    Pause {
        workflow: WorkflowId,
        paused: bool,
        by: String,
        done: oneshot::Sender<bool>,
        told: Vec<OutboxRow>,
    },
    /// Forget workflows that are over, with their logs and files. Answered with `None` if one
    /// of them is still held here, and nothing was forgotten; else when the database has them
    /// no more, with the removal of their logs and files, which goes on whether or not
    /// somebody waits for it.
    Forget {
        workflows: Vec<WorkflowId>,
        done: oneshot::Sender<Option<Removal>>,
        told: Vec<OutboxRow>,
    },
    /// An image is here, or cannot be had.
    Image { workflow: WorkflowId, stage: StageId, delivery: Box<Delivery> },
    /// The registry of an image is waited for, and why; or the pull goes on.
    ImageWaits { workflow: WorkflowId, stage: StageId, why: Option<String> },
    /// The server has so much of a log.
    Log { run: RunId, length: u64 },
    /// Something of a run is not taken, for a quota: what, and why.
    QuotaMet { run: RunId, what: String },
}

/// Logs and files of workflows that the database has no more are being removed.
#[derive(Debug)]
pub(crate) struct Removal(oneshot::Receiver<()>);

impl Removal {
    /// Waits until all are gone, at most [`REMOVAL_PATIENCE`]: that they take longer is no failure.
    pub(crate) async fn wait_for(removals: Vec<Self>) {
        let all_gone = async {
            for Self(gone) in removals {
                // An error: it was given up, and the log says why.
                let _ = gone.await;
            }
        };
        let _ = timeout(REMOVAL_PATIENCE, all_gone).await;
    }
}

/// Removes logs and files of forgotten workflows, and tells the database which are gone.
pub(crate) async fn remove_forgotten(
    results: &Results,
    store: &dyn Store,
    workflows: Vec<WorkflowId>,
) {
    let mut gone = Vec::new();
    for workflow in workflows {
        if results.clone().forget(workflow).await {
            gone.push(workflow);
        }
    }
    if let Err(error) = store.removed(&gone).await {
        // The next start finds nothing of them, and tells it then.
        tracing::warn!("{} forgotten workflows stay noted: {}", gone.len(), causes(&error));
    }
}

/// Answers that are due when the batch is on disk.
pub(super) enum PendingReply {
    Plain(oneshot::Sender<()>),
    Submitted(oneshot::Sender<()>, OwnedMutexGuard<()>),
    Flag(oneshot::Sender<bool>, bool),
    Forgotten {
        done: oneshot::Sender<Option<Removal>>,
        workflows: Vec<WorkflowId>,
        results: Results,
        store: Arc<dyn Store>,
    },
    StillHeld(oneshot::Sender<Option<Removal>>),
}

impl PendingReply {
    pub(super) fn give(self) {
        // Whoever asked may be gone.
        match self {
            Self::Plain(sender) => drop(sender.send(())),
            Self::Submitted(sender, turn) => {
                drop(turn);
                _ = sender.send(());
            }
            Self::Flag(sender, flag) => drop(sender.send(flag)),
            Self::StillHeld(sender) => drop(sender.send(None)),
            // Also if nobody waits any more, and beside the next batch: a log may be long.
            Self::Forgotten { done, workflows, results, store } => {
                let (gone, removal) = oneshot::channel();
                let workflows = results.ledger().start_forgetting(&workflows);
                drop(done.send(Some(Removal(removal))));
                tokio::spawn(async move {
                    remove_forgotten(&results, store.as_ref(), workflows).await;
                    _ = gone.send(());
                });
            }
        }
    }
}

/// Why an order has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoReply {
    /// The conductor is gone.
    #[error("the server is stopping; try again when it is back")]
    Stopping,
    /// The database takes no writes. The order is carried out when it does.
    #[error(
        "the server cannot write its database at the moment, and its log says why; it goes on trying, \
         so this may still be done: look before you send it again"
    )]
    NotWritten,
}

/// Hands an order over and waits for its answer, at most [`ORDER_PATIENCE`].
pub(crate) async fn ask<T>(
    orders: &mpsc::Sender<Command>,
    order: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Result<T, NoReply> {
    let (sender, answer) = oneshot::channel();
    let asked = async {
        orders.send(order(sender)).await.map_err(|_| NoReply::Stopping)?;
        answer.await.map_err(|_| NoReply::Stopping)
    };
    timeout(ORDER_PATIENCE, asked).await.unwrap_or(Err(NoReply::NotWritten))
}
