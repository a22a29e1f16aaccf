//! The log of one run to the server, from where the server left off, for as long as the run is held.
//!
//! `POST /node/v1/runs/RUN/log?offset=N` with the next bytes; [`LogTaken`] says how many the server has in all, which is
//! where it goes on. After a restart of the agent the first piece is sent again, and the answer says where to go on.

use std::{
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use api::run::{LogTaken, MAX_LOG_CHUNK_BYTES, RunId};
use bytes::Bytes;
use tokio::{sync::watch, time::sleep};

use super::servers::Servers;
use crate::agent::{backoff::Backoff, random};

/// How often a log that grows is looked at: what is written within it travels together.
const INTERVAL: Duration = Duration::from_millis(200);

/// How often one that does not grow is looked at: a node holds thousands of them.
const LONGEST_INTERVAL: Duration = Duration::from_secs(1);

/// Sends the log of `run` until the server has `complete_at` bytes, which is known when the run is over. Dropped when the
/// run is forgotten.
pub async fn send(servers: Servers, run: RunId, log: PathBuf, complete_at: watch::Receiver<Option<u64>>) {
    let mut sender = Sender { servers, run, taken: 0, backoff: Backoff::default() };
    let mut end = complete_at;
    let mut interval = INTERVAL;
    loop {
        let complete = *end.borrow_and_update();
        if complete.is_some_and(|length| sender.taken >= length) {
            return;
        }
        let pause = match sender.next(&log).await {
            // Nothing new. The end of a run is no news if its log has gone.
            Ok(0) => {
                interval = (interval * 5 / 4).min(LONGEST_INTERVAL);
                interval
            }
            Ok(read) if read == MAX_LOG_CHUNK_BYTES => continue,
            Ok(_) => {
                interval = INTERVAL;
                interval
            }
            Err(error) => {
                tracing::debug!(%run, "log: {error:#}; trying again");
                sender.backoff.pause(random())
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            Ok(()) = end.changed() => {}
        }
    }
}

struct Sender {
    servers: Servers,
    run: RunId,
    /// Bytes that the server has.
    taken: u64,
    backoff: Backoff,
}

impl Sender {
    /// Sends what is new, at most one chunk; how many bytes that were.
    async fn next(&mut self, log: &Path) -> anyhow::Result<usize> {
        let (path, offset) = (log.to_owned(), self.taken);
        // Most logs have nothing new most of the time; a look at a file in memory takes less than to ask a thread for it.
        if std::fs::metadata(log).is_ok_and(|log| log.len() <= offset) {
            return Ok(0);
        }
        let chunk = tokio::task::spawn_blocking(move || read_at(&path, offset)).await??;
        if chunk.is_empty() {
            return Ok(0);
        }
        let read = chunk.len();
        let route = format!("/node/v1/runs/{}/log?offset={offset}", self.run);
        let LogTaken { length } = self.servers.port()?.post_bytes(&route, chunk).await?;
        // A server that takes nothing is no reason for haste.
        anyhow::ensure!(length > offset, "the server has {length} bytes and takes no more");
        self.taken = length;
        self.backoff.reset();
        Ok(read)
    }
}

fn read_at(log: &Path, offset: u64) -> io::Result<Bytes> {
    let file = match std::fs::File::open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Bytes::new()),
        Err(error) => return Err(error),
    };
    let waiting = file.metadata()?.len().saturating_sub(offset);
    let mut chunk = vec![0; usize::try_from(waiting).unwrap_or(usize::MAX).min(MAX_LOG_CHUNK_BYTES)];
    file.read_exact_at(&mut chunk, offset)?;
    Ok(chunk.into())
}
