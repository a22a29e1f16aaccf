//! The log of one run to the server, from where the server left off, for as long as the run is held.
//!
//! `POST /node/v1/runs/RUN/log?offset=N` with the next bytes; [`LogTaken`] says up to where the server has
//! the log, which is where it goes on. After a restart of the agent the first piece is sent again, and the
//! answer says where to go on. Where what comes next is not kept here any more, because the job writes
//! faster than its log travels, `&after=M` says that the piece goes on behind a gap.

use std::{path::PathBuf, time::Duration};

use api::run::{LogTaken, MAX_LOG_CHUNK_BYTES, RunId};
use tokio::{sync::watch, time::sleep};

use super::servers::Servers;
use crate::agent::{backoff::Backoff, random};

/// How often a log that grows is looked at: what is written within it travels together.
const INTERVAL: Duration = Duration::from_millis(200);

/// How often one that does not grow is looked at: a node holds thousands of them.
const LONGEST_INTERVAL: Duration = Duration::from_secs(1);

/// Pause between full pieces of a running job's log past its head: of a job that writes without end
/// most is left out anyway, and only as much travels as somebody who follows can read.
const TAIL_INTERVAL: Duration = Duration::from_millis(50);

/// A log to be sent.
#[derive(Debug)]
pub struct Log {
    /// The attempt that writes it; the server's URL names it.
    pub run: RunId,
    /// The file of its head in the run's folder; segments of the tail lie beside it.
    pub path: PathBuf,
    /// It may have a gap, and the server knows what that is.
    pub has_tail: bool,
}

/// Sends a log until the server has it up to `complete_at`, which is known when the run is over. Dropped
/// when the run is forgotten.
pub async fn send(servers: Servers, log: Log, complete_at: watch::Receiver<Option<u64>>) {
    let mut sender = Sender { servers, log, taken: 0, backoff: Backoff::default() };
    let mut end = complete_at;
    let mut interval = INTERVAL;
    loop {
        let complete = *end.borrow_and_update();
        if complete.is_some_and(|length| sender.taken >= length) {
            return;
        }
        let pause = match sender.next(complete).await {
            // Nothing new. The end of a run is no news if its log has gone.
            Ok(Sent::Nothing) => {
                interval = (interval * 5 / 4).min(LONGEST_INTERVAL);
                interval
            }
            Ok(Sent::Full { is_tail }) if complete.is_none() && is_tail => TAIL_INTERVAL,
            Ok(Sent::Full { .. }) => continue,
            Ok(Sent::Rest) => {
                interval = INTERVAL;
                interval
            }
            Err(error) => {
                tracing::debug!(run = %sender.log.run, "log: {error:#}; trying again");
                sender.backoff.pause(random())
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            Ok(()) = end.changed() => {}
        }
    }
}

/// What was there to send.
enum Sent {
    Nothing,
    /// As much as one request takes: there may be more.
    Full {
        is_tail: bool,
    },
    Rest,
}

struct Sender {
    servers: Servers,
    log: Log,
    /// Up to where the server has the log.
    taken: u64,
    backoff: Backoff,
}

impl Sender {
    /// Sends what is new, at most one chunk. `complete`: where the log ends, if it does.
    async fn next(&mut self, complete: Option<u64>) -> anyhow::Result<Sent> {
        let (Log { run, path, has_tail }, offset) = (&self.log, self.taken);
        // Most logs have nothing new most of the time; a look at files in memory takes less than to ask a
        // thread for it.
        if complete.is_none() && !log_files::may_have_more(path, offset) {
            return Ok(Sent::Nothing);
        }
        let head = path.clone();
        let read = tokio::task::spawn_blocking(move || {
            let piece = log_files::read(&head, offset, MAX_LOG_CHUNK_BYTES)?;
            Ok::<_, std::io::Error>((piece, std::fs::metadata(&head).map_or(0, |head| head.len())))
        });
        let (mut piece, head_bytes) = read.await??;
        if piece.bytes.is_empty() {
            // The last bytes of a job could not be written: the log ends with a gap.
            piece.from = complete.filter(|_| *has_tail).unwrap_or(piece.from);
        }
        if piece.from <= offset && piece.bytes.is_empty() {
            return Ok(Sent::Nothing);
        }
        let after = if piece.from > offset { format!("&after={offset}") } else { String::new() };
        let route = format!("/node/v1/runs/{run}/log?offset={}{after}", piece.from);
        let sent = match piece.bytes.len() {
            MAX_LOG_CHUNK_BYTES => Sent::Full { is_tail: piece.from >= head_bytes },
            _ => Sent::Rest,
        };
        let LogTaken { length } = self.servers.port()?.post_bytes(&route, piece.bytes.into()).await?;
        if length < offset {
            // A server that crashed has lost what was not on its disk yet.
            self.taken = length;
        }
        // A server that takes nothing is no reason for haste.
        anyhow::ensure!(length > offset, "the server has {length} bytes and takes no more");
        self.taken = length;
        self.backoff.reset();
        Ok(sent)
    }
}
