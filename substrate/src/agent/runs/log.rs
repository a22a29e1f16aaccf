//! The log of one run to the server, from where the server left off, for as long as
//! the run is held.
//!
//! `POST /node/v1/runs/RUN/log?offset=N` with the next bytes; [`LogTaken`] says up to where the
//! server has the log, which is where it goes on. After a restart of the agent the first piece is
//! sent again, and the answer says where to go on. Where what comes next is not kept here any more,
//! because the job writes faster than its log travels, `&after=M` says that the piece goes on
//! behind a gap. Where the server wants to know when the log was written, `&times=…` has the time
//! marks of the piece ([`api::log::times`]).

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use api::{
    backoff::Backoff,
    log::times::{MAX_MARKS_PER_PIECE, TimeMark},
    run::{LogTaken, MAX_LOG_CHUNK_BYTES, RunId},
};
use tokio::{sync::watch, time::sleep};

use super::servers::Servers;
use crate::{
    agent::backoff::{agent_backoff, jitter},
    random::random,
};

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
    /// The file of its head in the run's directory; segments of the tail lie beside it.
    pub path: PathBuf,
    /// It may have a gap, and the server knows what that is.
    pub has_tail: bool,
    /// The server takes its times.
    pub has_times: bool,
}

/// Sends a log until the server has it up to `complete_at`, which is known when the run is over.
/// Dropped when the run is forgotten.
pub async fn send(servers: Servers, log: Log, complete_at: watch::Receiver<Option<u64>>) {
    let mut sender = Sender { servers, log, taken: 0, backoff: agent_backoff() };
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
                sender.backoff.pause(jitter(random()))
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
        let (&Log { run, ref path, has_tail, has_times }, offset) = (&self.log, self.taken);
        // Most logs have nothing new most of the time; a look at files in memory takes less than to
        // ask a thread for it.
        if complete.is_none() && !log_files::may_have_more(path, offset) {
            return Ok(Sent::Nothing);
        }
        let head = path.clone();
        let read = tokio::task::spawn_blocking(move || {
            let piece = log_files::read(&head, offset, MAX_LOG_CHUNK_BYTES)?;
            let end = piece.from + piece.bytes.len() as u64;
            let times = if has_times { times(&head, offset, end) } else { String::new() };
            Ok::<_, std::io::Error>((
                piece,
                std::fs::metadata(&head).map_or(0, |head| head.len()),
                times,
            ))
        });
        let (mut piece, head_bytes, times) = read.await??;
        if piece.bytes.is_empty() {
            // The last bytes of a job could not be written: the log ends with a gap.
            piece.from = complete.filter(|_| has_tail).unwrap_or(piece.from);
        }
        if piece.from <= offset && piece.bytes.is_empty() {
            return Ok(Sent::Nothing);
        }
        let after = if piece.from > offset { format!("&after={offset}") } else { String::new() };
        let route = format!("/node/v1/runs/{run}/log?offset={}{after}{times}", piece.from);
        let sent = match piece.bytes.len() {
            MAX_LOG_CHUNK_BYTES => Sent::Full { is_tail: piece.from >= head_bytes },
            _ => Sent::Rest,
        };
        let LogTaken { length } =
            self.servers.port()?.post_bytes(&route, piece.bytes.into()).await?;
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

/// The part of a URL with the time marks after `offset` and up to `end`; empty where there are
/// none. Of more than may travel every second, third, … one is left out, and not the last.
fn times(path: &Path, offset: u64, end: u64) -> String {
    // A log travels without its times rather than not at all.
    let mut marks = log_files::time_marks(path).unwrap_or_default();
    marks.retain(|mark| offset < mark.offset && mark.offset <= end);
    let (last, step) = (marks.len().saturating_sub(1), marks.len().div_ceil(MAX_MARKS_PER_PIECE));
    let travel =
        marks.into_iter().enumerate().filter(|(index, _)| (last - index).is_multiple_of(step));
    let marks: Vec<TimeMark> = travel.map(|(_, mark)| mark).collect();
    if marks.is_empty() { String::new() } else { format!("&times={}", TimeMark::query(&marks)) }
}

#[cfg(test)]
mod tests {
    use api::ids::Timestamp;

    use super::*;
    use crate::run_directory::LOG;

    #[test]
    fn a_piece_travels_with_its_times_and_no_more_than_may() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(LOG);
        assert_eq!(times(&path, 0, 100), "");
        let mut writer =
            log_files::TimesWriter::open(log_files::LogLocation::of(&path).unwrap()).unwrap();
        for offset in 1..=1_000 {
            let time = Timestamp(1_795_464_000_000_000 + offset * 2_000_000);
            writer.mark([TimeMark { offset: offset.cast_unsigned(), time }]).unwrap();
        }
        assert_eq!(times(&path, 5, 7), "&times=6:1795464012000000,7:1795464014000000");
        assert_eq!(times(&path, 1_000, 2_000), "");
        let all = TimeMark::from_query(times(&path, 0, 1_000).strip_prefix("&times=").unwrap());
        let offsets: Vec<u64> = all.iter().map(|mark| mark.offset).collect();
        assert_eq!(
            (offsets.len(), &offsets[..2], offsets.last()),
            (63, &[8, 24][..], Some(&1_000))
        );
    }
}
