//! Rows get their numbers.
//!
//! ```text
//! change + row ─▶ access_audit_pending ─▶ chained: number, hash ─▶ access_audit
//! ```
//!
//! One turn at a time takes the pending rows in their order, chains them and moves them, in one
//! transaction. Rows of requests that still run wait for their outcome; they hold up nobody else.
//! Rows that nobody in this process knows are those of a server that ended before it had answered:
//! they are chained as they are. Whoever reads the log takes such a turn first, and so sees all
//! that is on disk by then.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api::{access::AuditCut, ids::Timestamp};
use database::outbox::{self, OutboxRow};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior},
};

use super::{
    Action, AuditLine, PendingRow, Request, Requester, Unchanged,
    cut::Keeping,
    open::{Answered, OpenRows},
};
use crate::{Access, AccessError, Caller, clock, store::audit::PendingLine};

/// Rows that are chained in one transaction: others write in between.
const CHAIN_PAGE: u32 = 500;

/// How often it is looked whether requests that changed nothing are to be summed up,
/// or a head is due.
const MINUTE: Duration = Duration::from_secs(60);

/// Tries to find a number that no other process has given to a pending row.
const MAX_TRIES: u32 = 16;

/// Lowest bits of a pending row's number, by which those of two processes differ.
const SALT_BITS: u32 = 11;

/// The action of a row that sums up requests that changed nothing.
const REPEATED: &str = "repeated";

/// What of the log is in memory.
#[derive(Debug, Default)]
pub(crate) struct Chainer {
    /// The number of the newest pending row, without the lowest bits.
    newest: Mutex<u64>,
    /// The lowest bits of the numbers that this process gives.
    salt: u64,
    /// The last row; held while rows are chained. `None`: the database knows.
    turn: tokio::sync::Mutex<Option<AuditLine>>,
    /// Requests that run, and the outcomes of those that have ended and whose rows are pending.
    requests: Mutex<BTreeMap<u64, Option<String>>>,
    /// Rows that a transaction writes, or writes again if nobody knows how its commit ended.
    open: Mutex<OpenRows>,
    unchanged: Mutex<Unchanged>,
    /// What is known of its cuts and its size.
    pub(super) keeping: Mutex<Keeping>,
    /// There is something to chain.
    wake: Notify,
}

impl Chainer {
    /// Goes on after the rows that the last run of the server left: their numbers are not given
    /// again, though the clock was set back. `process`: the id of this one. `cuts`: those of the
    /// database, newest first.
    pub(crate) fn after(newest: u64, process: u32, cuts: Vec<AuditCut>) -> Self {
        let salt = u64::from(process) & ((1 << SALT_BITS) - 1);
        let keeping = Mutex::new(Keeping::of(cuts));
        Self { newest: Mutex::new(newest >> SALT_BITS), salt, keeping, ..Self::default() }
    }

    fn requests(&self) -> MutexGuard<'_, BTreeMap<u64, Option<String>>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unchanged(&self) -> MutexGuard<'_, Unchanged> {
        self.unchanged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> MutexGuard<'_, OpenRows> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a row that goes with a change.
    fn watch(&self, id: u64, row: &OutboxRow) {
        self.open().watch(id, row);
    }

    /// How the request of a pending row ended; `None`: it runs, or its row may be written once
    /// more, which would then be a second line.
    fn outcome(&self, row: &PendingLine) -> Option<String> {
        if self.open().is_open(row.id) {
            return None;
        }
        match self.requests().get(&row.id) {
            None => Some(row.outcome.clone()),
            Some(ended) => ended.clone(),
        }
    }

    /// The number of a new pending row: the microsecond (until the year 2112), so that rows of
    /// several processes are in order too, and bits of this process, so that two of them give no
    /// number twice.
    fn next_id(&self, now: Timestamp) -> u64 {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = u64::try_from(now.0).unwrap_or_default().max(*newest + 1);
        (*newest << SALT_BITS) | self.salt
    }
}

/// A request that runs. Dropped before it is finished, its row says that nobody was
/// told how it ended.
#[derive(Debug)]
pub(crate) struct RunningRequest {
    access: Access,
    pub(crate) row: Arc<PendingRow>,
    pub(crate) outbox: OutboxRow,
}

impl RunningRequest {
    /// It has ended. `true`: it changed something, and its row is on disk; or work that is queued
    /// yet may change something, and its row comes with that, or its line when that has changed
    /// nothing. `kind`: the action that was wanted.
    pub(crate) fn finish(self, kind: &str, outcome: &str) -> bool {
        let is_elsewhere = self.outbox.is_elsewhere();
        let is_written = self.outbox.is_written();
        let (audit, outcome) = (&self.access.inner.audit, outcome.to_owned());
        if is_written {
            audit.requests().insert(self.row.id, Some(outcome));
        } else if is_elsewhere {
            audit.open().answer(Answered { row: self.row.clone(), kind: kind.to_owned(), outcome });
        }
        is_written || is_elsewhere
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        let audit = &self.access.inner.audit;
        let mut requests = audit.requests();
        if requests.get(&self.row.id).is_some_and(Option::is_none) {
            requests.remove(&self.row.id);
        }
        drop(requests);
        audit.wake.notify_one();
    }
}

impl Access {
    /// Adds a row to the audit log; it is on disk when this returns.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn record(
        &self,
        principal: &str,
        action: &str,
        subject: &str,
        outcome: &str,
    ) -> Result<(), AccessError> {
        self.record_request(Request { principal, action, subject, ..Request::default() }, outcome)
            .await
    }

    /// Adds a row of what a caller does by a request that is none of a change: opens a
    /// stream into a job.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn record_of(
        &self,
        caller: &Caller,
        action: &str,
        subject: &str,
        outcome: &str,
    ) -> Result<(), AccessError> {
        let request = request_of(caller, action, subject);
        self.record_request(request, outcome).await
    }

    /// The same where it was refused: one of many has a row.
    pub async fn record_refused_of(
        &self,
        caller: &Caller,
        action: &str,
        subject: &str,
        outcome: &str,
    ) {
        let request = request_of(caller, action, subject);
        let who = Requester::User(&caller.principal.name);
        self.record_unchanged(who, caller.action.as_str(), request, outcome).await;
    }

    /// A row for a transaction of the server's own: committed in the scope of it
    /// ([`outbox::scope`]) it tells of what the transaction changes.
    #[must_use]
    pub fn event(&self, principal: &str, action: &str, subject: &str, outcome: &str) -> OutboxRow {
        let request = Request { principal, action, subject, ..Request::default() };
        self.event_of_object(request, "", outcome)
    }

    /// The same, which tells of an object.
    pub(super) fn event_of_object(
        &self,
        request: Request<'_>,
        object: &str,
        outcome: &str,
    ) -> OutboxRow {
        let row = self.pending_row(request, Some(outcome));
        row.annotate(|told| told.object = object.to_owned());
        let id = row.id;
        let row = row.into_outbox();
        self.inner.audit.watch(id, &row);
        row
    }

    /// A row of a request that has ended; it is on disk when this returns.
    pub(crate) async fn record_request(
        &self,
        request: Request<'_>,
        outcome: &str,
    ) -> Result<(), AccessError> {
        self.record_row(self.pending_row(request, Some(outcome))).await
    }

    /// The same, which tells of an object.
    pub(super) async fn record_of_object(
        &self,
        request: Request<'_>,
        object: &str,
        outcome: &str,
    ) -> Result<(), AccessError> {
        let row = self.pending_row(request, Some(outcome));
        row.annotate(|told| told.object = object.to_owned());
        self.record_row(row).await
    }

    async fn record_row(&self, mut row: PendingRow) -> Result<(), AccessError> {
        for _ in 0..MAX_TRIES {
            if outbox::alone(self.inner.store.put_pending(&row)).await? {
                break;
            }
            // Another process has given this number to a row of its own.
            row.id = self.inner.audit.next_id(clock::now());
        }
        self.inner.audit.wake.notify_one();
        Ok(())
    }

    /// Begins a request whose row goes with the change that it makes.
    pub(crate) fn begin_request(&self, request: Request<'_>) -> RunningRequest {
        let row = Arc::new(self.pending_row(request, None));
        self.inner.audit.requests().insert(row.id, None);
        let outbox = OutboxRow::new(row.clone());
        self.inner.audit.watch(row.id, &outbox);
        RunningRequest { access: self.clone(), row, outbox }
    }

    fn pending_row(&self, request: Request<'_>, outcome: Option<&str>) -> PendingRow {
        let now = clock::now();
        PendingRow::new(self.inner.audit.next_id(now), now, request, outcome)
    }

    /// Records a request that changed nothing, or counts it. `kind`: the action that was wanted. A
    /// failure is logged: nothing was done that would want a row.
    pub(crate) async fn record_unchanged(
        &self,
        who: Requester<'_>,
        kind: &str,
        request: Request<'_>,
        outcome: &str,
    ) {
        let (summaries, has_row) = {
            let mut unchanged = self.inner.audit.unchanged();
            (unchanged.rotate(clock::now()), unchanged.take(who, kind, outcome))
        };
        self.record_summaries(summaries).await;
        if has_row && let Err(error) = self.record_request(request, outcome).await {
            tracing::error!("audit log not written: {error}");
        }
    }

    async fn record_summaries(&self, summaries: Vec<super::unchanged::Summary>) {
        for super::unchanged::Summary { principal, outcome } in summaries {
            if let Err(error) = self.record(&principal, REPEATED, "requests", &outcome).await {
                tracing::error!("audit log not written: {error}");
            }
        }
    }

    /// Chains rows as they come, sums up requests that changed nothing and writes heads, until
    /// `stop`. Call [`Access::close_audit`] when nothing changes any more.
    pub async fn run_audit_writer(&self, stop: impl Future<Output = ()> + Send) {
        let mut stop = pin!(stop);
        let begun = Instant::now();
        let mut minute = tokio::time::interval(MINUTE);
        minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_minute = tokio::select! {
                () = &mut stop => return,
                () = self.inner.audit.wake.notified() => false,
                _ = minute.tick() => true,
            };
            if is_minute {
                let summaries = self.inner.audit.unchanged().rotate(clock::now());
                self.record_summaries(summaries).await;
            }
            self.record_queued(false).await;
            self.chain_and_sign(false).await;
            if is_minute && let Err(error) = self.tend_size(clock::now(), begun.elapsed()).await {
                tracing::error!("the audit log cannot be cut: {}", rest::causes(&error));
            }
        }
    }

    /// Chains what is left, sums up what changed nothing, and writes a last head.
    pub async fn close_audit(&self) {
        self.record_queued(true).await;
        let summaries = self.inner.audit.unchanged().finish();
        self.record_summaries(summaries).await;
        self.chain_and_sign(true).await;
    }

    /// Records requests whose work was queued when they were answered, and has changed nothing.
    /// `stops`: it will change nothing.
    async fn record_queued(&self, stops: bool) {
        let audit = &self.inner.audit;
        let ids = audit.open().unchanged(stops);
        // A row whose commit may have been carried out gets its line here.
        if ids.is_empty() || self.chain_pending().await.is_err() && !stops {
            return;
        }
        let unchanged = audit.open().take(&ids);
        for Answered { row, kind, outcome } in unchanged {
            let request = row.request();
            self.record_unchanged(Requester::User(request.principal), &kind, request, &outcome)
                .await;
        }
    }

    async fn chain_and_sign(&self, stops: bool) {
        // What is pending stays so, and is tried again.
        if let Err(error) = self.try_chain_and_sign(stops).await {
            tracing::error!("the audit log cannot be chained: {}", rest::causes(&error));
        }
    }

    async fn try_chain_and_sign(&self, stops: bool) -> Result<(), AccessError> {
        let last = self.chain_pending().await?;
        let Some(heads) = &self.audit_heads else { return Ok(()) };
        self.verify_against_saved(heads, last.as_ref().map_or(0, |line| line.number), stops)
            .await?;
        if let Some(last) = last {
            heads.write(&last, clock::now(), stops).await;
        }
        Ok(())
    }

    /// Gives pending rows their numbers. Returns the last row of the log.
    pub(crate) async fn chain_pending(&self) -> Result<Option<AuditLine>, AccessError> {
        let (store, audit) = (&self.inner.store, &self.inner.audit);
        let mut last = audit.turn.lock().await;
        // Also while the database fails, or they would become ever more.
        audit.open().tidy();
        if last.is_none() {
            *last = store.last_audit().await?;
        }
        let mut after = 0;
        loop {
            let page = store.pending(after, CHAIN_PAGE).await?;
            let Some(newest) = page.last().map(|row| row.id) else { break };
            after = newest;
            let mut end = last.clone();
            let mut chained: Vec<(u64, AuditLine)> = Vec::with_capacity(page.len());
            for row in page {
                let Some(outcome) = audit.outcome(&row) else { continue };
                let PendingLine { id, at, principal, action, subject, details, .. } = row;
                let what = Action { principal, action, subject, outcome, details };
                let line = super::next(end.as_ref(), what, at);
                end = Some(line.clone());
                chained.push((id, line));
            }
            if chained.is_empty() {
                continue;
            }
            // Whoever waits for this may go away in the middle: then the database knows.
            *last = None;
            outbox::alone(store.chain(&chained)).await?;
            *last = end;
            let (mut open, mut requests) = (audit.open(), audit.requests());
            for (id, _) in &chained {
                open.chained(*id);
                requests.remove(id);
            }
        }
        Ok(last.clone())
    }
}

fn request_of<'a>(caller: &'a Caller, action: &'a str, subject: &'a str) -> Request<'a> {
    let source = caller.origin.source.map(|source| source.to_string()).unwrap_or_default();
    let token = caller.origin.token.clone();
    Request { principal: &caller.principal.name, action, subject, source, token }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_may_be_written_again_is_not_chained_yet() {
        let chainer = Chainer::after(0, 1, Vec::new());
        let request =
            || Request { principal: "server", action: "end", subject: "7", ..Request::default() };
        let told = PendingRow::new(9, Timestamp(7), request(), Some("done")).into_outbox();
        chainer.watch(9, &told);
        // On disk, though nobody was told that its commit went through.
        let on_disk = PendingLine {
            id: 9,
            at: Timestamp(7),
            principal: "server".to_owned(),
            action: "end".to_owned(),
            subject: "7".to_owned(),
            outcome: "done".to_owned(),
            details: super::super::Details::default(),
        };
        assert_eq!(chainer.outcome(&on_disk), None, "a second line would come with the next try");
        drop(told);
        assert_eq!(chainer.outcome(&on_disk).as_deref(), Some("done"));
    }

    #[test]
    fn two_processes_give_no_number_twice_and_none_below_an_old_one() {
        let now = Timestamp(1_800_000_000_000_000);
        let [server, other] = [4_711, 4_712].map(|process| Chainer::after(0, process, Vec::new()));
        let numbers = |chainer: &Chainer| [(); 3].map(|()| chainer.next_id(now));
        let (of_server, of_other) = (numbers(&server), numbers(&other));
        assert!(of_server.is_sorted() && of_other.is_sorted());
        assert!(
            of_server.iter().all(|number| !of_other.contains(number)),
            "{of_server:?} {of_other:?}"
        );
        let newest = of_server[2].max(of_other[2]);
        // The clock was set back, and the process has smaller bits.
        let next = Chainer::after(newest, 1, Vec::new()).next_id(Timestamp(7));
        assert!(next > newest && i64::try_from(next).is_ok());
    }
}
