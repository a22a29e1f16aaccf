//! One change of one node.

use api::{
    ids::Timestamp,
    status::{NodeEvent, Severity},
    visible,
};

use super::NodeEntry;
use crate::{
    arming::{self, Verdict},
    lifecycle::{self, Effect, Limits},
};

/// Characters kept of a message that a node sent.
const MAX_MESSAGE_CHARS: usize = 500;

/// The same message again within this time is not recorded again: what anyone can provoke must not
/// push the rest out of a node's history.
const REPEAT_SECONDS: i64 = 60;

/// Whether it is that long after a moment at most. A clock that was set back is not.
fn is_within(seconds: i64, at: Timestamp, now: Timestamp) -> bool {
    (at..at.plus_seconds(seconds)).contains(&now)
}

/// One change of one node, while the lock is held.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    pub(crate) entry: &'a mut NodeEntry,
    pub(super) now: Timestamp,
    pub(super) limits: &'a Limits,
    pub(super) events: Vec<(u64, NodeEvent)>,
    /// Who watches is told, whatever the status is.
    pub(super) tell: bool,
}

impl Change<'_> {
    /// Lets the node live through an event, with all that follows from it.
    pub(crate) fn apply_event(&mut self, event: lifecycle::Event) {
        let (life, effects) = self.entry.life.step(event, self.now, self.limits);
        self.entry.life = life;
        for effect in effects {
            match effect {
                Effect::Record(severity, message) => self.record(severity, &message),
                Effect::Arming(event) => {
                    let _noted = self.token(event);
                }
                Effect::Tell => self.tell = true,
                Effect::Probe => self.entry.link.probe(),
            }
        }
    }

    /// Takes an event of the node's token.
    pub(crate) fn token(&mut self, event: arming::Event) -> Verdict {
        let (arming, verdict) = self.entry.arming.step(event, self.now);
        self.entry.arming = arming;
        verdict
    }

    /// Writes a line into the node's history and into the log.
    pub(crate) fn record(&mut self, severity: Severity, message: &str) {
        let message: String = visible::line(message).chars().take(MAX_MESSAGE_CHARS).collect();
        let entry = &mut *self.entry;
        let repeated = entry
            .last_record
            .as_ref()
            .is_some_and(|(last, at)| *last == message && is_within(REPEAT_SECONDS, *at, self.now));
        if repeated && severity != Severity::Info {
            return;
        }
        let phase = entry.life.phase;
        match severity {
            Severity::Info => {
                tracing::info!(node = %entry.name, phase = phase.as_str(), "{message}")
            }
            Severity::Warning => {
                tracing::warn!(node = %entry.name, phase = phase.as_str(), "{message}")
            }
            Severity::Error => {
                tracing::error!(node = %entry.name, phase = phase.as_str(), "{message}")
            }
            Severity::Security => {
                tracing::error!(node = %entry.name, phase = phase.as_str(), "security: {message}");
            }
        }
        entry.history += 1;
        entry.last_record = Some((message.clone(), self.now));
        let (id, name) = (entry.id, entry.name.clone());
        self.events
            .push((entry.history, NodeEvent { id, name, at: self.now, phase, severity, message }));
    }
}
