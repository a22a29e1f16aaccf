//! Where boot events go: a line in the log, if there is room for it, and a message to the state of
//! the nodes. Called by [`crate::dhcp`] and [`crate::tftp`].

use std::sync::Arc;

use boot_proto::BootEvent;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::{
    clock,
    refusals::{Refusals, Sender},
};

/// Events that wait for the state of the nodes; beyond it they are dropped with a line in the log,
/// because a boot server that waits for a database answers too late. A burst of 1,000 nodes that
/// boot at once makes four each.
pub const MAX_WAITING_EVENTS: usize = 8192;

/// The way of boot events. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct BootLog {
    events: mpsc::Sender<BootEvent>,
    refusals: Arc<Refusals>,
}

impl BootLog {
    pub(crate) fn new(events: mpsc::Sender<BootEvent>) -> Self {
        Self { events, refusals: Arc::default() }
    }

    /// What decides how many lines there are.
    pub(crate) fn refusals(&self) -> &Arc<Refusals> {
        &self.refusals
    }

    /// Logs an event and passes it on.
    pub(crate) fn publish(&self, event: BootEvent) {
        let now = clock::now();
        match subject(&event) {
            Subject::Node(kind, machine) => {
                if self.refusals.may_log(kind, machine, now) {
                    log(&event, "");
                }
            }
            Subject::Stranger(kind, sender) => {
                if let Some(times) = self.refusals.count(kind, sender, now) {
                    log(&event, times);
                }
            }
        }
        if let Err(TrySendError::Full(event)) = self.events.try_send(event) {
            let (Subject::Node(_, sender) | Subject::Stranger(_, sender)) = subject(&event);
            if let Some(times) = self.refusals.count("event dropped", sender, now) {
                tracing::error!(
                    "{MAX_WAITING_EVENTS} boot events wait; this one does not reach the node's state: \
                     {event}{times}"
                );
            }
        }
    }
}

fn log(event: &BootEvent, times: impl std::fmt::Display) {
    if event.is_warning() {
        tracing::warn!("{event}{times}");
    } else {
        tracing::info!("{event}{times}");
    }
}

/// Whom an event is about, and its kind.
enum Subject {
    /// A machine that boots as it should: each boot is told.
    Node(&'static str, Sender),
    /// Something that is not as it should be, or nobody's.
    Stranger(&'static str, Sender),
}

fn subject(event: &BootEvent) -> Subject {
    match event {
        BootEvent::Offered { node, .. } => Subject::Node("offer", Sender::Machine(node.mac)),
        BootEvent::Leased { node, .. } => Subject::Node("lease", Sender::Machine(node.mac)),
        BootEvent::Released { node, .. } => Subject::Node("release", Sender::Machine(node.mac)),
        BootEvent::Refused { node, .. } => {
            Subject::Node("refused address", Sender::Machine(node.mac))
        }
        BootEvent::MissingFirmware { node, .. } => {
            Subject::Node("no boot file", Sender::Machine(node.mac))
        }
        BootEvent::NoAddress { node, .. } => Subject::Node("no address", Sender::Machine(node.mac)),
        BootEvent::Conflict { node, .. } => {
            Subject::Node("declined address", Sender::Machine(node.mac))
        }
        BootEvent::FirmwareSent { client, .. } => Subject::Node("boot file sent", (*client).into()),
        BootEvent::UnknownMac { mac, .. } => {
            Subject::Stranger("unregistered machine", Sender::Machine(*mac))
        }
        BootEvent::AddressInUse { mac, .. } => {
            Subject::Stranger("address in use", Sender::Machine(*mac))
        }
        BootEvent::FirmwareNotFound { client, .. } => {
            Subject::Stranger("unknown boot file", (*client).into())
        }
        BootEvent::FirmwareLost { client, .. } => {
            Subject::Stranger("lost transfer", (*client).into())
        }
    }
}
