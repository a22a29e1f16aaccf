//! One WebSocket of the channel and when something last went over it.

use std::time::Duration;

use api::channel::{Frame, FromAgent, FromServer, kind_of_message};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message},
};

use super::{ChannelError, MISSED_HEARTBEATS, WELCOME_DEADLINE};

/// A frame of the server, and the type of its message where it is unknown.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) frame: Frame<FromServer>,
    pub(super) unknown: String,
}

/// One WebSocket and when something last went over it.
pub(super) struct Line<T> {
    pub(super) socket: WebSocketStream<T>,
    pub(super) heartbeat: Duration,
    heard: Instant,
    spoke: Instant,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Line<T> {
    pub(super) fn new(socket: WebSocketStream<T>) -> Self {
        let now = Instant::now();
        Self { socket, heartbeat: WELCOME_DEADLINE, heard: now, spoke: now }
    }

    fn idle_timeout(&self) -> Duration {
        self.heartbeat * MISSED_HEARTBEATS
    }

    pub(super) fn next_heartbeat(&self) -> Instant {
        self.spoke + self.heartbeat
    }

    pub(super) fn silence(&self) -> Instant {
        self.heard + self.idle_timeout()
    }

    pub(super) fn is_silent(&self) -> ChannelError {
        ChannelError::Silent(self.idle_timeout().as_secs())
    }

    pub(super) async fn send(&mut self, frame: &Frame<FromAgent>) -> Result<(), ChannelError> {
        let text = serde_json::to_string(frame).map_err(ChannelError::Message)?;
        let sent = timeout(self.idle_timeout(), self.socket.send(Message::text(text))).await;
        sent.map_err(|_| self.is_silent())?.map_err(broken)?;
        // A bare acknowledgement is no sign of life that the server counts on, so it does not put
        // off the heartbeat.
        if frame.message.is_some() {
            self.spoke = Instant::now();
        }
        Ok(())
    }

    /// The next frame; pings and pongs count as a sign of life. Cancel-safe.
    pub(super) async fn receive(&mut self) -> Result<Received, ChannelError> {
        loop {
            let message =
                self.socket.next().await.ok_or_else(|| ChannelError::Closed(String::new()))?;
            let message = message.map_err(broken)?;
            self.heard = Instant::now();
            match message {
                Message::Text(text) => {
                    let frame: Frame<FromServer> =
                        serde_json::from_str(&text).map_err(ChannelError::Message)?;
                    let is_unknown = frame.message == Some(FromServer::Unknown);
                    let unknown = if is_unknown { kind_of_message(&text) } else { String::new() };
                    return Ok(Received { frame, unknown });
                }
                Message::Close(close) => {
                    let why = close.filter(|close| !close.reason.is_empty());
                    return Err(ChannelError::Closed(
                        why.map_or(String::new(), |close| format!(": {}", close.reason)),
                    ));
                }
                Message::Binary(_) => {
                    return Err(ChannelError::Protocol("it sent binary".to_owned()));
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}

pub(super) fn broken(error: tungstenite::Error) -> ChannelError {
    match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            ChannelError::Closed(String::new())
        }
        other => ChannelError::Socket(Box::new(other)),
    }
}
