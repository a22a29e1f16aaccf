//! A run from its acceptance, or from where an earlier agent left it, to its end on disk.

use std::{sync::Arc, time::Duration};

use api::run::{Outcome, RunEnd, RunSpec, RunState, Usage, Work};
use tokio::sync::{mpsc, watch};

use super::{
    Node,
    directory::RunDirectory,
    job::{self, Containers},
    report::{RunProgress, RunReporter, end, stop_ordered},
    transfer::{Progress, Transfer, TransferError},
    volumes::VolumeError,
};
use crate::{
    clock,
    run_directory::{END, STARTED, Started, StopOrder},
};

/// Pause before an end that could not be written is written again: the node is short of memory.
const RETRY: Duration = Duration::from_secs(5);

/// Lives the run, and reports how it goes.
pub async fn run_to_completion<C: Containers>(
    node: Arc<Node<C>>,
    directory: RunDirectory,
    spec: RunSpec,
    mut stopped: watch::Receiver<Option<StopOrder>>,
    mut released: watch::Receiver<bool>,
    reports: mpsc::Sender<RunProgress>,
) {
    let reporter = RunReporter::new(reports, spec.run);
    let end = match &spec.work {
        Work::Job(container) => {
            let job = job::Job { node: &node, directory: &directory, spec: &spec, container };
            let end = job.run_to_completion(&mut stopped, &mut released, &reporter).await;
            job.epilog().await;
            node.claims.release(spec.run);
            end
        }
        _ => transfer(&node, &directory, &spec, &mut stopped, &reporter).await,
    };
    while let Err(error) = directory.write(END, &end) {
        tracing::error!(run = %spec.run, "{:#}", anyhow::Error::from(error));
        tokio::time::sleep(RETRY).await;
    }
    reporter.report(RunState::Ended(Box::new(end))).await;
}

/// Volumes and transfers: they can be begun again, so an agent that starts again does just that.
async fn transfer<C: Containers>(
    node: &Node<C>,
    directory: &RunDirectory,
    spec: &RunSpec,
    stopped: &mut watch::Receiver<Option<StopOrder>>,
    reporter: &RunReporter,
) -> RunEnd {
    let started = directory.started().unwrap_or_else(clock::now);
    if let Err(error) = directory.write(STARTED, &Started { started }) {
        let why = format!("{:#}", anyhow::Error::from(error));
        return end(directory, None, Outcome::Failed { why, transient: true });
    }
    reporter.report(RunState::Running { started }).await;
    let progress = Progress::new(directory, reporter);
    let outcome = tokio::select! {
        biased;
        order = stop_ordered(stopped) => Outcome::Stopped { why: order.why },
        outcome = work(node, &progress, spec) => outcome,
        () = tokio::time::sleep(Duration::from_secs(spec.timeout_seconds)) => {
            Outcome::TimedOut { seconds: spec.timeout_seconds, cause: progress.cause() }
        }
    };
    match &outcome {
        Outcome::Failed { why, .. } => directory.say(why),
        Outcome::Stopped { why } => directory.say(&format!("stopped: {why}")),
        Outcome::TimedOut { seconds, cause } => {
            let cause = cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
            directory.say(&format!("not done within {seconds} s{cause}"));
        }
        _ => {}
    }
    RunEnd {
        usage: usage_of(&spec.work, progress.moved_bytes()),
        ..end(directory, Some(started), outcome)
    }
}

/// What a transfer has used: what it wrote into the volume or read out of it, with all its tries.
fn usage_of(work: &Work, moved_bytes: u64) -> Usage {
    match work {
        Work::Ingress { .. } => Usage { written_bytes: moved_bytes, ..Usage::default() },
        Work::Egress { .. } => Usage { read_bytes: moved_bytes, ..Usage::default() },
        Work::Volume { .. } | Work::Job(_) | Work::Unknown => Usage::default(),
    }
}

async fn work<C: Containers>(node: &Node<C>, progress: &Progress<'_>, spec: &RunSpec) -> Outcome {
    let done = match &spec.work {
        Work::Volume { volume, limit_bytes } => {
            node.volumes.create(spec.workflow, volume, &spec.user, *limit_bytes).map_err(Into::into)
        }
        Work::Ingress { volume, path, source } => {
            Transfer::new(node, spec, progress, volume, path).fetch(source).await
        }
        Work::Egress { volume, path, destination } => {
            Transfer::new(node, spec, progress, volume, path).send(destination).await
        }
        // Jobs are not done here.
        Work::Job(_) | Work::Unknown => Err(TransferError::UnknownKind),
    };
    match done {
        Ok(()) => Outcome::Exited { code: 0 },
        // It is no failure of the work: it waits for an agent that can do it.
        Err(error @ TransferError::UnknownKind) => Outcome::Refused { why: error.to_string() },
        // Nor is what other volumes of the node keep from it.
        Err(TransferError::Volume(error @ VolumeError::TooManyVolumes(_))) => {
            Outcome::Refused { why: error.to_string() }
        }
        Err(error) => {
            let transient = error.is_transient();
            Outcome::Failed { why: format!("{:#}", anyhow::Error::from(error)), transient }
        }
    }
}
