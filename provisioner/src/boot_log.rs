//! Where boot events go: one line in the log, one message to the state of the nodes. Called by [`crate::dhcp`] and
//! [`crate::tftp`].

use boot_proto::BootEvent;
use tokio::sync::mpsc::{Sender, error::TrySendError};

/// Events that wait for the state of the nodes; beyond it they are dropped with a line in the log, because a boot server
/// that waits for a database answers too late. A burst of 1,000 nodes that boot at once makes four each.
pub const MAX_WAITING_EVENTS: usize = 8192;

/// Logs an event and passes it on.
pub(crate) fn publish(event: BootEvent, events: &Sender<BootEvent>) {
    if event.is_warning() {
        tracing::warn!("{event}");
    } else {
        tracing::info!("{event}");
    }
    if let Err(TrySendError::Full(event)) = events.try_send(event) {
        tracing::error!(
            "{MAX_WAITING_EVENTS} boot events wait; this one does not reach the node's state: {event}"
        );
    }
}
