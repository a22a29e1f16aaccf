//! `attach`: the log of a running job straight from its directory, as it grows, and how the job
//! ends. What is left out of it, because it is longer than its limit or the user reads slower than
//! the job writes, is told in a line on the channel of errors.

use std::{io, path::PathBuf, time::Duration};

use api::{
    log::LogGap,
    run::RunEnd,
    stream::{Channel, Control},
};
use log_files::Piece;
use stream_line::Event;

use super::{Line, failed};
use crate::agent::runs::{changes::Changes, directory::RunDirectory};

/// How often the log is looked at for new bytes. The end of the job is heard of at once.
const INTERVAL: Duration = Duration::from_millis(100);

/// Room that the line about a gap needs, bytes: it has two numbers of 64 bits.
const TELL_ROOM: usize = 200;

/// Sends the log until the job is over; the last word, if the user is still there.
pub(super) async fn follow(
    line: &mut Line,
    directory: &RunDirectory,
    changes: &Changes,
    all: bool,
) -> Option<Control> {
    let changes = changes.watch(directory.path());
    let mut offset = if all { 0 } else { directory.log_bytes() };
    loop {
        // Asked before the log is read: what came in between is read by the next turn.
        let end = directory.end();
        let room = line.room();
        let mut piece = match read(directory.log(), offset, room, end.is_some()).await {
            Ok(piece) => piece,
            Err(error) => return Some(failed(&format!("cannot read the job's output: {error}"))),
        };
        let to = piece.from;
        if to > offset {
            if room > TELL_ROOM {
                let gap = LogGap { from: offset, to };
                line.send(Channel::Errors, format!("bedplate: {gap}\n").as_bytes());
                offset = to;
                continue;
            }
            piece.bytes.clear();
        }
        let bytes = piece.bytes;
        if !bytes.is_empty() {
            line.send(Channel::Output, &bytes);
            offset += bytes.len() as u64;
        } else if room > TELL_ROOM {
            if let Some(end) = end {
                return Some(last_word(end, offset));
            }
            if !directory.path().exists() {
                return Some(failed(
                    "the job is over, and its node has forgotten it before all was read",
                ));
            }
        }
        let heard = async {
            match &changes {
                Some(changes) => changes.changed().await,
                None => std::future::pending().await,
            }
        };
        let pause = if bytes.is_empty() { INTERVAL } else { Duration::ZERO };
        tokio::select! {
            biased;
            event = line.next() => match event {
                Ok(Event::Room | Event::Control(_)) => {}
                // There is no input, and no user without a connection.
                Ok(Event::Data(..)) | Err(_) => return None,
            },
            () = heard => {}
            () = tokio::time::sleep(pause), if room > 0 => {}
        }
    }
}

/// The job's end, if all that it wrote was sent: bytes up to `offset`.
fn last_word(end: RunEnd, offset: u64) -> Control {
    if offset < end.log_bytes {
        let bytes = end.log_bytes;
        return failed(&format!(
            "the job is over, and of its {bytes} bytes of output {offset} can be read"
        ));
    }
    Control::Ended { outcome: end.outcome }
}

/// What the log has from `offset` on, at most `most` bytes. Where a running job has overtaken
/// the user, half of what is kept is passed over too: whoever reads at its very edge is
/// overtaken all the time.
async fn read(log: PathBuf, offset: u64, most: usize, is_over: bool) -> io::Result<Piece> {
    let read = move || {
        let piece = log_files::read(&log, offset, most)?;
        if piece.from <= offset || is_over {
            return Ok(piece);
        }
        let end = log_files::extent(&log)?.end();
        log_files::read(&log, piece.from + end.saturating_sub(piece.from) / 2, most)
    };
    tokio::task::spawn_blocking(read).await?
}

#[cfg(test)]
mod tests {
    use api::{
        ids::Timestamp,
        run::{Outcome, Usage},
    };

    use super::*;
    use crate::run_directory::LOG;

    #[test]
    fn an_end_is_told_only_after_all_of_the_output() {
        let outcome = Outcome::Exited { code: 3 };
        let (started, ended, usage) = (None, Timestamp(1), Usage::default());
        let end = RunEnd { started, ended, outcome: outcome.clone(), log_bytes: 10, usage };
        assert_eq!(last_word(end.clone(), 10), Control::Ended { outcome });
        let Control::Failed { why } = last_word(end, 4) else {
            panic!("4 of 10 bytes are no whole")
        };
        assert!(why.contains("10 bytes") && why.contains(" 4 "), "{why}");
    }

    #[tokio::test]
    async fn who_is_overtaken_by_a_running_job_passes_over_more() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(LOG);
        let place = log_files::LogLocation::of(&path).unwrap();
        let mut log = log_files::Writer::open(place, log_files::Limits::of(1 << 10)).unwrap();
        log.append(&[b'x'; 5_000]).unwrap();
        let gap = log_files::extent(&path).unwrap().gap().unwrap();
        let read = async |offset, is_over| read(path.clone(), offset, 10, is_over).await.unwrap();
        assert_eq!(read(500, false).await.from, 500);
        assert_eq!(read(512, true).await.from, gap.to);
        assert_eq!(read(512, false).await.from, gap.to.midpoint(5_000));
        assert_eq!(read(5_000, false).await, Piece { from: 5_000, bytes: Vec::new() });
    }
}
