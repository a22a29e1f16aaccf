//! How a transfer goes, for whoever must say why it is not over: its log, the server,
//! and its own end.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use api::run::{FailedTry, MAX_NEWS_CHARS, RunNews};

use super::super::{directory::RunDirectory, report::RunReporter};

/// How one transfer goes.
#[derive(Debug)]
pub struct Progress<'a> {
    directory: &'a RunDirectory,
    reporter: &'a RunReporter,
    /// Bytes of the request that is under way.
    moved: Arc<AtomicU64>,
    /// Bytes of those before it.
    moved_before: AtomicU64,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    /// The request that is under way: `GET http://host/file`.
    doing: Option<String>,
    /// The last try that failed.
    failed: Option<String>,
}

impl<'a> Progress<'a> {
    pub(in super::super) fn new(directory: &'a RunDirectory, reporter: &'a RunReporter) -> Self {
        let (moved, moved_before) = (Arc::default(), AtomicU64::default());
        Self { directory, reporter, moved, moved_before, now: Mutex::default() }
    }

    /// Adds a line to the log.
    pub(super) fn say(&self, line: &str) {
        self.directory.say(line);
    }

    /// A request begins. What it moves is to be added to what is returned, bytes.
    pub(super) fn begins(&self, doing: String) -> Arc<AtomicU64> {
        self.moved_before.fetch_add(self.moved.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        self.change(|now| now.doing = Some(doing));
        self.moved.clone()
    }

    /// Bytes that all requests have moved, also those that failed.
    pub(in super::super) fn moved_bytes(&self) -> u64 {
        self.moved_before.load(Ordering::Relaxed).saturating_add(self.moved.load(Ordering::Relaxed))
    }

    /// A try failed, and the next one comes after a pause: told at once.
    pub(super) async fn failed(&self, failed: FailedTry) {
        let why: String = failed.why.chars().take(MAX_NEWS_CHARS).collect();
        let failed = FailedTry { why, ..failed };
        let told = format!("try {} of {}: {}", failed.number, failed.of, failed.why);
        self.say(&format!("{told}; trying again in {} s", failed.pause_seconds));
        self.change(|now| {
            now.doing = None;
            now.failed = Some(told);
        });
        self.reporter.news(RunNews::FailedTry(failed)).await;
    }

    /// What failed before is over.
    pub(super) fn succeeded(&self) {
        self.change(|now| *now = Now::default());
    }

    /// Something that people should know and that is no failure.
    pub(super) async fn remark(&self, text: &str) {
        self.say(text);
        let text = text.chars().take(MAX_NEWS_CHARS).collect();
        self.reporter.news(RunNews::Remark { text }).await;
    }

    /// What keeps it from being over; `None` if nothing was begun.
    pub(in super::super) fn cause(&self) -> Option<String> {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let doing = now.doing.as_ref().map(|doing| match self.moved.load(Ordering::Relaxed) {
            0 => format!("{doing} has no answer yet"),
            bytes => format!("{doing} has moved {bytes} bytes so far"),
        });
        match (&now.failed, doing) {
            (Some(failed), Some(doing)) => Some(format!("{failed}; then {doing}")),
            (Some(failed), None) => Some(failed.clone()),
            (None, doing) => doing,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
