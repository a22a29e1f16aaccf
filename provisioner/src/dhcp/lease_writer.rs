//! The thread that puts records of leases on disk, and what happens once they are there.
//!
//! Records that come while the disk is busy are the next batch: one `fdatasync` for all of them.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use boot_proto::dhcp::{Effect, LeaseRecord};
use tokio::sync::mpsc;

use super::{DhcpCore, Listener};

/// Records that wait for the disk; beyond it new leases get no answer, and the clients ask again. A
/// burst of 1,000 machines that boot at once makes one each.
const MAX_WAITING_RECORDS: usize = 8192;

/// Records written at once. A batch of this size takes the time of one `fdatasync`; a larger one
/// would delay its first client for the sake of its last.
const MAX_BATCH_RECORDS: usize = 1024;

/// A record that nobody waits for is written this much later, together with what comes until then:
/// a renewal is no reason to wake the disk.
const LINGER: Duration = Duration::from_secs(1);

/// Answered batches that wait for their packets to be sent.
const MAX_ANSWERED_BATCHES: usize = 4;

/// Of failures in a row, one in so many is logged after the first.
const LOG_EVERY: u64 = 1000;

/// What is done once a record is on disk.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) listener: Arc<Listener>,
    pub(super) effects: Vec<Effect>,
}

/// A record, and who waits for it.
#[derive(Debug)]
struct Job {
    record: LeaseRecord,
    waiting: Option<Waiting>,
}

/// The way to the thread. Clones share it; it ends when all are gone.
#[derive(Debug, Clone)]
pub(super) struct LeaseWriter {
    jobs: SyncSender<Job>,
}

impl LeaseWriter {
    /// The way to a writer, the writer itself, which blocks a thread of its own, and what is to be
    /// done, batch by batch.
    pub(super) fn new(
        core: DhcpCore,
    ) -> (Self, impl FnOnce() + Send, mpsc::Receiver<Vec<Waiting>>) {
        let (jobs, received) = sync_channel(MAX_WAITING_RECORDS);
        let (answered_in, answered) = mpsc::channel(MAX_ANSWERED_BATCHES);
        let run = move || write_all(&core, &received, &answered_in);
        (Self { jobs }, run, answered)
    }

    /// Has a record written. False if too many wait: it is not written, and nothing is done.
    pub(super) fn write(&self, record: LeaseRecord, waiting: Option<Waiting>) -> bool {
        match self.jobs.try_send(Job { record, waiting }) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

/// Writes until all senders are gone and everything is written.
fn write_all(core: &DhcpCore, jobs: &Receiver<Job>, answered: &mpsc::Sender<Vec<Waiting>>) {
    let mut failures = Failures::default();
    while let Some(batch) = next_batch(jobs) {
        let records: Vec<LeaseRecord> = batch.iter().map(|job| job.record).collect();
        let written = core.write(&records);
        failures.note(
            core,
            written.as_ref().err(),
            batch.iter().filter(|job| job.waiting.is_some()).count(),
        );
        if let Ok(stands) = written {
            let standing =
                batch.into_iter().zip(stands).filter_map(|(job, stands)| stands.then_some(job));
            let waiting: Vec<Waiting> = standing.filter_map(|job| job.waiting).collect();
            // The receiver is gone when the server stops: there is nobody to answer any more.
            if !waiting.is_empty() && answered.blocking_send(waiting).is_err() {
                tracing::debug!("leases are on disk that nobody is told of: the server stops");
            }
        }
    }
}

/// What is to be written next; `None` when no more can come.
fn next_batch(jobs: &Receiver<Job>) -> Option<Vec<Job>> {
    let mut batch = vec![jobs.recv().ok()?];
    if batch.iter().all(|job| job.waiting.is_none()) {
        match jobs.recv_timeout(LINGER) {
            Ok(job) => batch.push(job),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
    while batch.len() < MAX_BATCH_RECORDS
        && let Ok(job) = jobs.try_recv()
    {
        batch.push(job);
    }
    Some(batch)
}

/// Writes that failed since the last one that did not.
#[derive(Debug, Default)]
struct Failures {
    batches: u64,
    refused: usize,
}

impl Failures {
    fn note(&mut self, core: &DhcpCore, error: Option<&io::Error>, waiting: usize) {
        let Some(error) = error else {
            if self.batches > 0 {
                tracing::info!(
                    "the log of DHCP leases is written again; {} request(s) for new leases were not answered",
                    self.refused
                );
            }
            *self = Self::default();
            return;
        };
        if self.batches.is_multiple_of(LOG_EVERY) {
            tracing::error!(
                "no new lease of a pool is given, leases are only renewed: cannot write {}: {error}",
                core.log_path().display()
            );
        }
        self.batches += 1;
        self.refused += waiting;
    }
}
