//! Two WebSockets as one: messages of each go to the other as they are, one after the other, each
//! way on its own. A side that takes nothing holds the other up, no memory.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// How often each side is asked for a sign of life.
const PING: Duration = Duration::from_secs(15);

/// A side without one for so long is gone.
const PATIENCE: Duration = Duration::from_secs(45);

/// Time for one message to be taken by the operating system. Both ends always read, so one that
/// does not is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for the closing words, and for what is still on its way: a socket that is closed before all
/// of it was read loses what the other side has not read (RST of TCP).
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The socket that a node has dialled.
#[derive(Debug)]
pub(crate) struct NodeSocket {
    pub(crate) socket: WebSocket,
    /// Cancelled when the node's certificate is good no more.
    pub(crate) revoked: CancellationToken,
}

/// Bridges until one side is gone, the node's certificate is revoked or the server stops; then both
/// are closed.
pub(crate) async fn bridge(user: WebSocket, node: NodeSocket, stop: CancellationToken) {
    let (mut to_user, mut from_user) = user.split();
    let (mut to_node, mut from_node) = node.socket.split();
    let why = tokio::select! {
        why = carry(&mut from_user, &mut to_node) => why.unwrap_or("the user is gone"),
        why = carry(&mut from_node, &mut to_user) => why.unwrap_or("the node is gone"),
        () = node.revoked.cancelled() => "the node's certificate was revoked",
        () = stop.cancelled() => "the server is stopping",
    };
    tokio::join!(
        close(&mut to_user, &mut from_user, why),
        close(&mut to_node, &mut from_node, why)
    );
}

/// Passes messages on until `from` ends; why it did, where that is not said by the closing itself.
async fn carry(
    from: &mut SplitStream<WebSocket>,
    to: &mut SplitSink<WebSocket, Message>,
) -> Option<&'static str> {
    let mut deadline = Instant::now() + PATIENCE;
    let mut ping = interval(PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            message = from.next() => {
                deadline = Instant::now() + PATIENCE;
                match message {
                    Some(Ok(message @ (Message::Binary(_) | Message::Text(_)))) => message,
                    // The library answers a ping itself.
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Close(_))) => return Some("the other side has closed"),
                    Some(Err(_)) | None => return None,
                }
            }
            // To the other side, whose sign of life is heard by the other direction.
            _ = ping.tick() => Message::Ping(Vec::new().into()),
            () = sleep_until(deadline) => return None,
        };
        if !matches!(timeout(SEND_TIMEOUT, to.send(message)).await, Ok(Ok(()))) {
            // Its last words may still be on their way: the other direction ends it.
            std::future::pending::<()>().await;
        }
    }
}

async fn close(
    to: &mut SplitSink<WebSocket, Message>,
    from: &mut SplitStream<WebSocket>,
    why: &'static str,
) {
    let frame = CloseFrame { code: close_code::NORMAL, reason: why.into() };
    let words = async {
        // Who is gone already is told nothing.
        let _ = to.send(Message::Close(Some(frame))).await;
        while let Some(Ok(_)) = from.next().await {}
    };
    let _ = timeout(CLOSE_TIMEOUT, words).await;
}
