//! The command line's end of a stream: what is local on one side, the line on the other.
//!
//! Local input and output have threads or tasks of their own: the loop always listens to the line,
//! so that a pager which is full, or a disk which is slow, never looks like a client that is gone.

use std::{io::Write as _, thread::JoinHandle};

use anyhow::{anyhow, bail};
use api::{
    run::Outcome,
    stream::{Channel, Control, Copied},
};
use clap::Args;
use clap_complete::ArgValueCompleter;
use client::{Line, StreamOf};
use stream_line::Event;
use tokio::sync::mpsc;

use super::super::{complete, error, output::print_note};

/// Exit status where not the program but the way to it failed, as ssh has it.
pub(super) const STREAM_FAILED: u8 = 255;

/// Which task of which job.
#[derive(Debug, Args)]
pub(in super::super) struct Target {
    /// Id, or a name: the newest workflow of it.
    #[arg(add = ArgValueCompleter::new(complete::workflows))]
    pub(super) workflow: String,
    /// The job; may be left out if there is one.
    pub(super) job: Option<String>,
    /// Task of an array, by its number [default: the first that runs].
    #[arg(long, value_name = "N")]
    pub(super) task: Option<u32>,
    /// Member of the task's attempt, where it has several, from 0 [default: 0].
    #[arg(long, value_name = "N")]
    pub(super) member: Option<u32>,
}

impl Target {
    pub(super) fn of(&self) -> StreamOf {
        let (workflow, job) = (self.workflow.clone(), self.job.clone());
        StreamOf { workflow, job, task: self.task, member: self.member }
    }
}

/// What is local of a stream.
#[derive(Debug)]
pub(super) struct Local {
    /// Pieces of input; closed at its end.
    pub(super) input: Option<mpsc::Receiver<Vec<u8>>>,
    /// Where output goes; what it takes is told to `taken`.
    pub(super) output: Option<Output>,
    /// Bytes of output that have gone where they should.
    pub(super) taken: mpsc::UnboundedReceiver<usize>,
    /// Words to say: sizes of the terminal.
    pub(super) words: Option<mpsc::Receiver<Control>>,
}

/// How a stream ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Last {
    /// With this outcome of program or job.
    Ended(Outcome),
    /// A copy is done.
    Copied(Copied),
}

/// Carries a stream to its end and closes it. Local output may still be under way then.
pub(super) async fn carry(mut line: Line, local: Local) -> anyhow::Result<Last> {
    let last = to_the_end(&mut line, local).await?;
    line.close().await;
    Ok(last)
}

async fn to_the_end(line: &mut Line, local: Local) -> anyhow::Result<Last> {
    let Local { mut input, mut output, mut taken, mut words } = local;
    let mut waiting: Vec<u8> = Vec::new();
    loop {
        let room = line.room().min(waiting.len());
        if room > 0 {
            line.send(Channel::Input, &waiting[..room]);
            waiting.drain(..room);
        }
        tokio::select! {
            // In words: a connection that broke is no output that nobody reads.
            event = line.next() => match event.map_err(|error| anyhow!("{:#}", anyhow::Error::from(error)))? {
                Event::Room => {}
                Event::Data(channel, bytes) => {
                    // Whoever takes output is gone: what is left of it goes nowhere.
                    if output.as_ref().is_none_or(|output| output.send((channel, bytes)).is_err()) {
                        bail!(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
                    }
                }
                Event::Control(Control::EndOf { .. }) => output = None,
                Event::Control(Control::Ended { outcome }) => return Ok(Last::Ended(outcome)),
                Event::Control(Control::Copied { copied }) => {
                    // It is all there; what pads the end of the stream need not be.
                    if let Some(input) = &mut input {
                        while input.recv().await.is_some() {}
                    }
                    return Ok(Last::Copied(copied));
                }
                Event::Control(Control::Failed { why }) => bail!("{why}"),
                Event::Control(other) => bail!("the node says {other:?}, which is not for users"),
            },
            piece = next(&mut input), if waiting.is_empty() => match piece {
                Some(piece) => waiting = piece,
                None => {
                    input = None;
                    line.send_control(&Control::EndOf { channel: Channel::Input });
                }
            },
            Some(bytes) = taken.recv() => line.took(bytes),
            Some(word) = next(&mut words) => line.send_control(&word),
        }
    }
}

/// The next of what comes; for ever where nothing can.
async fn next<T>(from: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match from {
        Some(from) => from.recv().await,
        None => std::future::pending().await,
    }
}

/// Where output goes, a piece of a channel at a time.
pub(super) type Output = mpsc::UnboundedSender<(Channel, bytes::Bytes)>;

/// A thread that writes output, and what it is reached by. It ends with its sender.
#[derive(Debug)]
pub(super) struct Writing {
    /// Where output goes.
    pub(super) output: Output,
    /// Bytes that were written.
    pub(super) taken: mpsc::UnboundedReceiver<usize>,
    /// Its end.
    pub(super) thread: JoinHandle<std::io::Result<()>>,
}

/// Writes output to standard output and standard error.
pub(super) fn to_standard_output() -> Writing {
    let (output, mut pieces) = mpsc::unbounded_channel::<(Channel, bytes::Bytes)>();
    let (told, taken) = mpsc::unbounded_channel();
    let thread = std::thread::spawn(move || {
        while let Some((channel, bytes)) = pieces.blocking_recv() {
            if channel == Channel::Errors {
                std::io::stderr().lock().write_all(&bytes)?;
            } else {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(&bytes)?;
                stdout.flush()?;
            }
            // The stream may be over.
            let _ = told.send(bytes.len());
        }
        Ok(())
    });
    Writing { output, taken, thread }
}

/// The exit status that says how something ended, as shells and timeout(1) have them.
pub(super) fn status_of(outcome: &Outcome) -> u8 {
    let of_signal = |signal: i32| u8::try_from(128 + signal).unwrap_or(STREAM_FAILED);
    match outcome {
        Outcome::Exited { code } => u8::try_from(code & 0xff).unwrap_or(STREAM_FAILED),
        Outcome::Signaled { signal } => of_signal(*signal),
        Outcome::OutOfMemory { .. } => of_signal(9),
        Outcome::TimedOut { .. } => 124,
        Outcome::Stopped { .. } => of_signal(15),
        Outcome::Failed { .. }
        | Outcome::Lost { .. }
        | Outcome::Refused { .. }
        | Outcome::Unknown => 1,
    }
}

/// Why something ended that did not end by itself.
pub(super) fn reason_of(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Exited { .. } => None,
        Outcome::Signaled { signal } => Some(format!("ended by signal {signal}")),
        Outcome::OutOfMemory { limit_bytes } => {
            Some(format!("killed: more than {limit_bytes} bytes of memory"))
        }
        Outcome::TimedOut { seconds, .. } => Some(format!("ended after {seconds} s")),
        Outcome::Stopped { why } => Some(format!("stopped: {why}")),
        Outcome::Failed { why, .. } | Outcome::Lost { why, .. } | Outcome::Refused { why } => {
            Some(why.clone())
        }
        Outcome::Unknown => Some("ended in a way that this release doesn't know".to_owned()),
    }
}

/// Tells a failure of the way to a program; its exit status. A reader of our output that went
/// away is no failure.
pub(super) fn report(failure: &anyhow::Error) -> u8 {
    if error::is_about_closed_pipe(failure) {
        return 0;
    }
    print_note(&error::text(failure));
    STREAM_FAILED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_is_the_programs_own() {
        let statuses = [
            Outcome::Exited { code: 7 },
            Outcome::Signaled { signal: 9 },
            Outcome::OutOfMemory { limit_bytes: 1 },
            Outcome::TimedOut { seconds: 1, cause: None },
            Outcome::Stopped { why: "x".to_owned() },
            Outcome::Lost { why: "x".to_owned(), rebooted: false },
        ]
        .map(|outcome| status_of(&outcome));
        assert_eq!(statuses, [7, 137, 137, 124, 143, 1]);
    }
}
