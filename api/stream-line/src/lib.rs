//! The WebSocket of a stream, as both of its ends have it: the client and the node. What is said
//! over it: [`api::stream`].
//!
//! [`StreamSocket::next`] moves everything: it sends what is queued and hears what comes, both at
//! once, so that two ends which send to each other never wait for each other. Its owner calls it in
//! every turn of its loop, sends within [`StreamSocket::room`] and tells what has gone on
//! ([`StreamSocket::took`]).

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use api::stream::{self, Channel, Control, FlowWindow, MAX_STREAM_MESSAGE_BYTES, Malformed};
use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};

/// Data that waits for the connection, bytes. What is more waits where it comes from.
const MAX_QUEUED_BYTES: usize = 256 << 10;

/// Messages that wait for the connection: a program may write single bytes.
const MAX_QUEUED: usize = 256;

/// Time for the last words: the other side may be gone.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// Why a line ends.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection failed.
    #[error("the connection broke")]
    Broken(#[source] Box<tungstenite::Error>),
    /// The other side closed it.
    #[error("the connection was closed{0}")]
    Closed(String),
    /// The other side breaks the protocol.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// What [`StreamSocket`] receives from the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Data. It counts as held until [`StreamSocket::took`].
    Data(Channel, Bytes),
    /// A control message, never [`Control::Taken`].
    Control(Control),
    /// There is room again where there was none.
    Room,
}

/// One end of a stream's WebSocket, with its flow control.
#[derive(Debug)]
pub struct StreamSocket<T> {
    socket: WebSocketStream<T>,
    window: FlowWindow,
    queue: VecDeque<Message>,
    queued_bytes: usize,
    /// Bytes whose taking was not told yet.
    owed: usize,
    /// There was no room when it was last asked for.
    was_full: std::cell::Cell<bool>,
    /// Nothing can be sent any more. What the other side said before is still heard.
    is_deaf: bool,
}

/// Limits of what the other side can make this one hold.
#[must_use]
pub fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_STREAM_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_STREAM_MESSAGE_BYTES))
}

impl<T: AsyncRead + AsyncWrite + Unpin> StreamSocket<T> {
    /// An end of an open WebSocket.
    pub fn new(socket: WebSocketStream<T>) -> Self {
        Self {
            socket,
            window: FlowWindow::default(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            owed: 0,
            was_full: std::cell::Cell::new(false),
            is_deaf: false,
        }
    }

    /// Bytes that may be sent now. After 0 an [`Event::Room`] or further events come.
    pub fn room(&self) -> usize {
        let is_free = self.queued_bytes < MAX_QUEUED_BYTES && self.queue.len() < MAX_QUEUED;
        let room = if is_free { self.window.room() } else { 0 };
        self.was_full.set(room == 0);
        room
    }

    /// Sends data, within [`Self::room`].
    pub fn send(&mut self, channel: Channel, bytes: &[u8]) {
        self.window.sent(bytes.len());
        self.queued_bytes += bytes.len();
        self.queue.push_back(Message::binary(stream::data(channel, bytes)));
    }

    /// Says a word.
    pub fn send_control(&mut self, control: &Control) {
        // Serialising the protocol's own types into memory does not fail.
        if let Ok(text) = serde_json::to_string(control) {
            self.queue.push_back(Message::text(text));
        }
    }

    /// Data that came has gone where it should.
    pub fn took(&mut self, bytes: usize) {
        if let Some(Control::Taken { bytes }) = self.window.took(bytes) {
            self.owed += bytes;
        }
    }

    /// What comes next. Cancel-safe.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn next(&mut self) -> Result<Event, StreamError> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Event, StreamError>> {
        loop {
            if !self.is_deaf && self.poll_send(context).is_err() {
                // The last word may be on its way; without one, hearing ends as well.
                self.is_deaf = true;
                self.queue.clear();
            }
            if self.was_full.get() && self.room() > 0 {
                return Poll::Ready(Ok(Event::Room));
            }
            let message = ready!(Pin::new(&mut self.socket).poll_next(context));
            let message =
                message.ok_or_else(|| StreamError::Closed(String::new()))?.map_err(broken)?;
            if let Some(event) = self.handle_message(message)? {
                return Poll::Ready(Ok(event));
            }
        }
    }

    /// Sends as much as the connection takes.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Result<(), tungstenite::Error> {
        while self.owed > 0 || !self.queue.is_empty() {
            match Pin::new(&mut self.socket).poll_ready(context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(ready) => ready?,
            }
            if self.owed > 0 {
                let taken = Control::Taken { bytes: std::mem::take(&mut self.owed) };
                self.send_control(&taken);
                // Before the data that waits: the other side may wait for it.
                self.queue.rotate_right(1);
            }
            if let Some(message) = self.queue.pop_front() {
                if let Message::Binary(bytes) = &message {
                    self.queued_bytes = self.queued_bytes.saturating_sub(bytes.len() - 1);
                }
                Pin::new(&mut self.socket).start_send(message)?;
            }
        }
        match Pin::new(&mut self.socket).poll_flush(context) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }

    fn handle_message(&mut self, message: Message) -> Result<Option<Event>, StreamError> {
        match message {
            Message::Binary(message) => {
                let (channel, data) = stream::parse_data(&message)?;
                self.window.received(data.len())?;
                Ok(Some(Event::Data(channel, message.slice(1..))))
            }
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(Control::Taken { bytes }) => {
                    self.window.was_taken(bytes)?;
                    Ok(None)
                }
                // What the other side, of a later release, says on top.
                Ok(Control::Unknown | Control::EndOf { channel: Channel::Unknown }) => Ok(None),
                Ok(control) => Ok(Some(Event::Control(control))),
                Err(error) => Err(Malformed(format!("no word of it: {error}")).into()),
            },
            Message::Close(close) => {
                let why = close.filter(|close| !close.reason.is_empty());
                Err(StreamError::Closed(
                    why.map_or(String::new(), |close| format!(": {}", close.reason)),
                ))
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(None),
        }
    }

    /// Sends what is queued, closes, and waits until the other side has heard it.
    pub async fn close(mut self) {
        let words = async {
            for message in std::mem::take(&mut self.queue) {
                self.socket.feed(message).await?;
            }
            self.socket.close(None).await?;
            while let Some(Ok(_)) = self.socket.next().await {}
            Ok::<(), tungstenite::Error>(())
        };
        // Who does not listen any more is told nothing.
        let _ = timeout(CLOSE_DEADLINE, words).await;
    }
}

fn broken(error: tungstenite::Error) -> StreamError {
    match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            StreamError::Closed(String::new())
        }
        other => StreamError::Broken(Box::new(other)),
    }
}

#[cfg(test)]
mod tests {
    use api::run::Outcome;
    use tokio::io::DuplexStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    async fn pair() -> (StreamSocket<DuplexStream>, StreamSocket<DuplexStream>) {
        let (one, other) = tokio::io::duplex(4096);
        let one = WebSocketStream::from_raw_socket(one, Role::Client, Some(limits())).await;
        let other = WebSocketStream::from_raw_socket(other, Role::Server, Some(limits())).await;
        (StreamSocket::new(one), StreamSocket::new(other))
    }

    /// Sends and takes so much; both ends do it at once over a connection that holds 4 KiB.
    async fn exchange(
        mut line: StreamSocket<DuplexStream>,
        channel: Channel,
        total: usize,
    ) -> StreamSocket<DuplexStream> {
        let (mut sent, mut taken) = (0, 0);
        while sent < total || taken < total {
            let room = line.room().min(total - sent);
            if room > 0 {
                line.send(channel, &vec![7; room]);
                sent += room;
            }
            match line.next().await.unwrap() {
                Event::Data(_, bytes) => {
                    taken += bytes.len();
                    line.took(bytes.len());
                }
                Event::Room => {}
                other => panic!("{other:?}"),
            }
        }
        line
    }

    #[tokio::test]
    async fn two_ends_that_send_more_than_fits_do_not_wait_for_each_other() {
        let (one, other) = pair().await;
        let total = 3 * stream::WINDOW_BYTES;
        let exchanged = async {
            tokio::join!(
                exchange(one, Channel::Input, total),
                exchange(other, Channel::Output, total)
            )
        };
        let (mut one, mut other) = timeout(Duration::from_secs(60), exchanged).await.unwrap();
        let ended = Control::Ended { outcome: Outcome::Exited { code: 7 } };
        other.send_control(&ended);
        let handle_message = async {
            let handle_message = one.next().await.unwrap();
            assert!(matches!(one.next().await, Err(StreamError::Closed(_))));
            handle_message
        };
        let ((), handle_message) = tokio::join!(other.close(), handle_message);
        assert_eq!(handle_message, Event::Control(ended));
    }

    #[tokio::test]
    async fn a_last_word_is_heard_by_one_that_cannot_send_any_more() {
        let (mut one, mut other) = pair().await;
        let ended = Control::Ended { outcome: Outcome::Exited { code: 7 } };
        other.send_control(&ended);
        assert!(timeout(Duration::from_millis(50), other.next()).await.is_err());
        drop(other);
        one.send(Channel::Input, &[0; 10_000]);
        assert_eq!(one.next().await.unwrap(), Event::Control(ended));
        assert!(one.next().await.is_err());
    }

    #[tokio::test]
    async fn who_takes_nothing_is_sent_one_window() {
        let (mut one, mut other) = pair().await;
        let sending = async {
            let mut sent = 0;
            loop {
                let room = one.room();
                if room > 0 {
                    one.send(Channel::Input, &vec![0; room]);
                    sent += room;
                    assert!(sent != stream::WINDOW_BYTES || one.room() == 0);
                } else {
                    one.next().await.unwrap();
                }
            }
        };
        let receiving = async {
            let mut received = 0;
            while received < stream::WINDOW_BYTES {
                if let Event::Data(_, bytes) = other.next().await.unwrap() {
                    received += bytes.len();
                }
            }
            // Nothing more comes until it is taken.
            assert!(timeout(Duration::from_millis(50), other.next()).await.is_err());
            other.took(received);
            assert!(matches!(other.next().await.unwrap(), Event::Data(..)));
        };
        tokio::select! {
            () = receiving => {}
            () = sending => {}
        }
    }
}
