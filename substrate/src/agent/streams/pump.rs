//! Between a stream and a process in a job's container: input to it, output from it, its end.

use std::{
    collections::VecDeque, future::poll_fn, io, os::fd::OwnedFd, sync::Arc, task::Poll,
    time::Duration,
};

use api::{
    run::Outcome,
    stream::{Channel, Control, MAX_DATA_BYTES, StreamRequest},
};
use bytes::{Buf as _, Bytes};
use linux::terminal;
use stream_line::Event;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    Line,
    end::{End, EnterReplies},
    failed,
};
use crate::container::answer::EnterReply;

/// How long the process may take until it has begun: a connection waits up to ten
/// seconds for its port.
const BEGIN_DEADLINE: Duration = Duration::from_secs(30);

/// Messages of a user that wait for the process to begin.
const MAX_EARLY: usize = 4096;

/// How long output is awaited after the program is gone: something that it left behind may hold a
/// copy of the pipe.
const DRAIN: Duration = Duration::from_secs(1);

/// What a terminal takes for the end of input (`VEOF` of termios(3)).
const END_OF_INPUT: &[u8] = b"\x04";

/// Carries a stream to its end; the last word, if the user is still there. Dropped with its
/// answers, the process is told to end.
pub(super) async fn run(
    line: &mut Line,
    answers: OwnedFd,
    request: &StreamRequest,
) -> Option<Control> {
    let answers = match EnterReplies::new(answers) {
        Ok(answers) => answers,
        Err(error) => return Some(failed(&format!("cannot hear the container: {error}"))),
    };
    let mut early = Vec::new();
    let ends = match timeout(BEGIN_DEADLINE, begun(line, &answers, &mut early)).await {
        Ok(Ok(ends)) => ends,
        Ok(Err(last)) => return last,
        Err(_) => {
            let seconds = BEGIN_DEADLINE.as_secs();
            return Some(failed(&format!(
                "the process in the job did not begin within {seconds} s"
            )));
        }
    };
    match Pump::new(request, ends) {
        Ok(pump) => pump.run(line, &answers, early).await,
        Err(error) => Some(failed(&format!("cannot use what the container gave: {error}"))),
    }
}

/// The agent's ends, when the process has begun; else the last word. What the user says before
/// goes to `early`.
async fn begun(
    line: &mut Line,
    answers: &EnterReplies,
    early: &mut Vec<Event>,
) -> Result<Vec<OwnedFd>, Option<Control>> {
    let first = loop {
        tokio::select! {
            first = answers.next() => break first,
            event = line.next() => match event {
                Ok(event) if early.len() < MAX_EARLY => early.push(event),
                Ok(_) | Err(_) => return Err(None),
            },
        }
    };
    let why = match first {
        Ok(Some((EnterReply::Began {}, ends))) => return Ok(ends),
        Ok(Some((EnterReply::Failed { why }, _))) => why,
        Ok(Some((EnterReply::Ended { outcome }, _))) => {
            format!("the process in the job ended before it began: {outcome:?}")
        }
        Ok(Some((EnterReply::Copied { .. }, _)) | None) => {
            "the process in the job is gone".to_owned()
        }
        Err(error) => format!("cannot hear the container: {error}"),
    };
    Err(Some(Control::Failed { why }))
}

struct Pump {
    kind: Kind,
    /// Where input goes; `None` if it takes none, or no more.
    input: Option<Arc<End>>,
    /// Input that waits, at most a window.
    waiting: VecDeque<Bytes>,
    /// No more input comes.
    input_ended: bool,
    outputs: Vec<(Channel, Arc<End>)>,
    /// Nothing more is heard of the process.
    is_gone: bool,
    /// How it ended, and until when its output is awaited.
    over: Option<(Control, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Program,
    Terminal,
    Port,
    Copy,
}

enum Turn {
    Heard(Event),
    Gone,
    Written(io::Result<usize>),
    Read(usize, io::Result<usize>),
    Answered(io::Result<Option<(EnterReply, Vec<OwnedFd>)>>),
    Drained,
}

impl Pump {
    fn new(request: &StreamRequest, ends: Vec<OwnedFd>) -> io::Result<Self> {
        use Channel::{Errors, Output};

        let wrong = || io::Error::from(io::ErrorKind::InvalidData);
        let mut ends = ends.into_iter().map(|end| End::new(end).map(Arc::new));
        let mut next = || ends.next().ok_or_else(wrong)?;
        let (kind, input, outputs) = match request {
            StreamRequest::Exec { terminal: Some(_), input, .. } => {
                let master = next()?;
                if !terminal::is_master(master.descriptor()) {
                    return Err(wrong());
                }
                (Kind::Terminal, input.then(|| master.clone()), vec![(Output, master)])
            }
            StreamRequest::Exec { terminal: None, input, .. } => {
                let input = if *input { Some(next()?) } else { None };
                (Kind::Program, input, vec![(Output, next()?), (Errors, next()?)])
            }
            StreamRequest::Port { .. } => {
                let socket = next()?;
                (Kind::Port, Some(socket.clone()), vec![(Output, socket)])
            }
            StreamRequest::CopyOut { .. } => (Kind::Copy, None, vec![(Output, next()?)]),
            StreamRequest::CopyIn { .. } => (Kind::Copy, Some(next()?), Vec::new()),
            StreamRequest::Attach { .. } | StreamRequest::Unknown => return Err(wrong()),
        };
        let (waiting, input_ended) = (VecDeque::new(), false);
        Ok(Self { kind, input, waiting, input_ended, outputs, is_gone: false, over: None })
    }

    async fn run(
        mut self,
        line: &mut Line,
        answers: &EnterReplies,
        early: Vec<Event>,
    ) -> Option<Control> {
        for event in early {
            self.heard(line, event)?;
        }
        let mut buffer = vec![0; MAX_DATA_BYTES];
        loop {
            if let Some(last) = self.last_word() {
                return Some(last);
            }
            match self.turn(line, answers, &mut buffer).await {
                Turn::Gone => return None,
                Turn::Heard(event) => self.heard(line, event)?,
                Turn::Written(written) => self.written(line, written),
                Turn::Read(index, read) => self.read(line, index, read.map(|read| &buffer[..read])),
                Turn::Answered(answer) => self.answered(answer),
                Turn::Drained => self.outputs.clear(),
            }
        }
    }

    /// The last word, when all is said: the process has ended and its output is out. A connection
    /// is over when both of its directions are; the process that made it is long gone.
    fn last_word(&self) -> Option<Control> {
        if self.kind == Kind::Port {
            let is_over = self.outputs.is_empty() && self.input.is_none();
            return is_over.then_some(Control::Ended { outcome: Outcome::Exited { code: 0 } });
        }
        let (last, _) = self.over.as_ref()?;
        self.outputs.is_empty().then(|| last.clone())
    }

    async fn turn(&self, line: &mut Line, answers: &EnterReplies, buffer: &mut [u8]) -> Turn {
        let room = line.room().min(buffer.len());
        let may_read = room > 0 && !self.outputs.is_empty();
        // Nobody is waited for whose output does not fit, and what the program wrote before its end
        // is in the pipes by now: it goes out however slowly the user takes it.
        let drained = self.over.as_ref().map(|(_, drained)| *drained);
        let drained = drained.filter(|_| may_read && !self.has_output());
        tokio::select! {
            event = line.next() => event.map_or(Turn::Gone, Turn::Heard),
            written = self.write() => Turn::Written(written),
            (index, read) = self.read_any(&mut buffer[..room]), if may_read => Turn::Read(index, read),
            answer = answers.next(), if !self.is_gone => Turn::Answered(answer),
            () = sleep_until(drained.unwrap_or_else(Instant::now)), if drained.is_some() => Turn::Drained,
        }
    }

    /// Whether there is output that was not read.
    fn has_output(&self) -> bool {
        self.outputs.iter().any(|(_, output)| output.has_bytes())
    }

    /// Writes what waits; for ever where nothing does.
    async fn write(&self) -> io::Result<usize> {
        match (&self.input, self.waiting.front()) {
            (Some(input), Some(bytes)) => input.write(bytes).await,
            _ => std::future::pending().await,
        }
    }

    async fn read_any(&self, buffer: &mut [u8]) -> (usize, io::Result<usize>) {
        poll_fn(|context| {
            for (index, (_, output)) in self.outputs.iter().enumerate() {
                if let Poll::Ready(read) = output.poll_read(context, buffer) {
                    return Poll::Ready((index, read));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// `None`: the user breaks the protocol.
    fn heard(&mut self, line: &mut Line, event: Event) -> Option<()> {
        match event {
            Event::Room => {}
            Event::Data(Channel::Input, bytes) if !self.input_ended => {
                if self.input.is_some() {
                    self.waiting.push_back(bytes);
                } else {
                    line.took(bytes.len());
                }
            }
            Event::Control(Control::EndOf { channel: Channel::Input }) => {
                self.input_ended = true;
                if self.kind == Kind::Terminal && self.input.is_some() {
                    self.waiting.push_back(Bytes::from_static(END_OF_INPUT));
                }
                self.end_input_if_written();
            }
            Event::Control(Control::Resize { size }) if self.kind == Kind::Terminal => {
                let master = self.outputs.first().map(|(_, master)| master.descriptor());
                // A terminal that has ended needs no size.
                let _ = master.map(|master| terminal::resize(master, size.rows, size.columns));
            }
            _ => return None,
        }
        Some(())
    }

    fn written(&mut self, line: &mut Line, written: io::Result<usize>) {
        match written {
            Ok(written) => {
                if let Some(front) = self.waiting.front_mut() {
                    front.advance(written);
                    if front.is_empty() {
                        self.waiting.pop_front();
                    }
                }
                line.took(written);
                self.end_input_if_written();
            }
            Err(_) => self.take_no_more(line),
        }
    }

    /// What waits and what comes from now on is taken by nobody.
    fn take_no_more(&mut self, line: &mut Line) {
        line.took(self.waiting.drain(..).map(|bytes| bytes.len()).sum());
        self.input = None;
    }

    fn end_input_if_written(&mut self) {
        if self.input_ended && self.waiting.is_empty() {
            // A pipe is closed with its last copy; a socket has another direction, which stays.
            if let Some(input) = self.input.take().filter(|_| self.kind == Kind::Port) {
                input.end_of_writing();
            }
        }
    }

    fn read(&mut self, line: &mut Line, index: usize, read: io::Result<&[u8]>) {
        match read {
            Ok(bytes) if !bytes.is_empty() => {
                let (channel, _) = self.outputs[index];
                line.send(channel, bytes);
                // The others have their turn.
                self.outputs.rotate_left(index + 1);
                if let Some((_, drained)) = &mut self.over {
                    *drained = Instant::now() + DRAIN;
                }
            }
            ended => {
                let (channel, _) = self.outputs.remove(index);
                if self.kind == Kind::Port {
                    line.send_control(&Control::EndOf { channel });
                    // A connection that was reset has no other direction either.
                    if ended.is_err() {
                        self.take_no_more(line);
                    }
                }
            }
        }
    }

    fn answered(&mut self, answer: io::Result<Option<(EnterReply, Vec<OwnedFd>)>>) {
        self.is_gone = true;
        if self.kind == Kind::Port {
            return;
        }
        let last = match answer {
            Ok(Some((EnterReply::Ended { outcome }, _))) => match self.kind {
                Kind::Copy => failed(&format!("the copy ended early: {outcome:?}")),
                _ => Control::Ended { outcome },
            },
            Ok(Some((EnterReply::Failed { why }, _))) => Control::Failed { why },
            Ok(Some((EnterReply::Copied { copied }, _))) => Control::Copied { copied },
            Ok(Some((EnterReply::Began {}, _)) | None) => failed("the process in the job is gone"),
            Err(error) => failed(&format!("cannot hear the container: {error}")),
        };
        self.over = Some((last, Instant::now() + DRAIN));
    }
}
