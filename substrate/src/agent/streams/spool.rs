//! `attach`: the log of a running job straight from its folder, as it grows, and how the job ends.

use std::{io, os::unix::fs::FileExt as _, path::PathBuf, time::Duration};

use api::{
    run::RunEnd,
    stream::{Channel, Control},
};
use stream_line::Event;

use super::{Line, failed};
use crate::agent::runs::{changes::Changes, folder::RunFolder};

/// How often the log is looked at for new bytes. The end of the job is heard of at once.
const INTERVAL: Duration = Duration::from_millis(100);

/// Sends the log until the job is over; the last word, if the user is still there.
pub(super) async fn follow(
    line: &mut Line,
    folder: &RunFolder,
    changes: &Changes,
    all: bool,
) -> Option<Control> {
    let changes = changes.watch(folder.path());
    let mut offset = if all { 0 } else { folder.log_bytes() };
    loop {
        // Asked before the log is read: what came in between is read by the next turn.
        let end = folder.end();
        let room = line.room();
        let bytes = match read(folder.log(), offset, room).await {
            Ok(bytes) => bytes,
            Err(error) => return Some(failed(&format!("cannot read the job's output: {error}"))),
        };
        if !bytes.is_empty() {
            line.send(Channel::Output, &bytes);
            offset += bytes.len() as u64;
        } else if room > 0 {
            if let Some(end) = end {
                return Some(last_word(end, offset));
            }
            if !folder.path().exists() {
                return Some(failed("the job is over, and its node has forgotten it before all was read"));
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
        return failed(&format!("the job is over, and of its {bytes} bytes of output {offset} can be read"));
    }
    Control::Ended { outcome: end.outcome }
}

/// What the log has from `offset` on, at most `most` bytes.
async fn read(log: PathBuf, offset: u64, most: usize) -> io::Result<Vec<u8>> {
    let read = move || {
        let file = match std::fs::File::open(&log) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; most];
        let length = file.read_at(&mut bytes, offset)?;
        bytes.truncate(length);
        Ok(bytes)
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

    #[test]
    fn an_end_is_told_only_after_all_of_the_output() {
        let outcome = Outcome::Exited { code: 3 };
        let (started, ended, usage) = (None, Timestamp(1), Usage::default());
        let end = RunEnd { started, ended, outcome: outcome.clone(), log_bytes: 10, usage };
        assert_eq!(last_word(end.clone(), 10), Control::Ended { outcome });
        let Control::Failed { why } = last_word(end, 4) else { panic!("4 of 10 bytes are no whole") };
        assert!(why.contains("10 bytes") && why.contains(" 4 "), "{why}");
    }
}
