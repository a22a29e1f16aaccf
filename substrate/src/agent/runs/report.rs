//! What a run tells the keeper of itself, its end where the agent ends it, and the wait for the
//! order to end it: below all that does the work of runs.

use api::{
    ids::Timestamp,
    run::{Outcome, RunEnd, RunId, RunNews, RunReport, RunState, Usage},
};
use tokio::sync::{mpsc, watch};

use super::directory::RunDirectory;
use crate::{clock, run_directory::StopOrder};

/// What a life tells the keeper.
#[derive(Debug)]
pub enum RunProgress {
    /// The run went forward.
    Report(RunReport),
    /// Something happened in it.
    News(RunId, RunNews),
}

/// Says how one run is.
#[derive(Debug, Clone)]
pub(super) struct RunReporter {
    reports: mpsc::Sender<RunProgress>,
    run: RunId,
}

impl RunReporter {
    pub(super) fn new(reports: mpsc::Sender<RunProgress>, run: RunId) -> Self {
        Self { reports, run }
    }

    pub(super) async fn report(&self, state: RunState) {
        // Nobody listens only while the agent ends; the next one reads it from the directory.
        let _ = self.reports.send(RunProgress::Report(RunReport { run: self.run, state })).await;
    }

    pub(super) async fn news(&self, news: RunNews) {
        let _ = self.reports.send(RunProgress::News(self.run, news)).await;
    }
}

/// The end of a run that the agent ends itself.
pub(super) fn end(
    directory: &RunDirectory,
    started: Option<Timestamp>,
    outcome: Outcome,
) -> RunEnd {
    let (ended, log_bytes) = (clock::now(), directory.log_bytes());
    RunEnd { started, ended, outcome, log_bytes, usage: Usage::default() }
}

/// Waits until the server wants an end; for ever if nobody can tell any more.
pub(super) async fn stop_ordered(stopped: &mut watch::Receiver<Option<StopOrder>>) -> StopOrder {
    if let Ok(order) = stopped.wait_for(Option::is_some).await
        && let Some(order) = order.clone()
    {
        return order;
    }
    std::future::pending().await
}
