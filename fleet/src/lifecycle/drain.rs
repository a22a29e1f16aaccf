//! Nothing new begins on a drained node: because a person says so, or because what was known of the
//! node is lost. Nor on one that says itself that it lacks something. And what holds a
//! node that boots.

use api::{
    ids::Timestamp,
    status::{Drain, Severity},
};

use super::{Effect, NodeLifecycle, Presence, info, warning};

/// Why a node is drained whose state cannot be read.
const UNREADABLE: &str = "its state in the database could not be read; look at it, then undrain it (and arm \
                          it, should it be about to boot)";

impl NodeLifecycle {
    pub(super) fn drained(&mut self, reason: String, by: String, now: Timestamp) -> Vec<Effect> {
        let message = format!("drained by {by}: {reason}");
        let since = self.drain.as_ref().map_or(now, |before| before.since);
        self.drain = Some(Drain { reason, by, since });
        vec![info(message)]
    }

    /// What was stored of it cannot be read. Somebody may have drained it: nothing new begins on it
    /// before a person says so.
    pub(super) fn recovered(&mut self, cause: &str, now: Timestamp) -> Vec<Effect> {
        if self.since == Timestamp(0) {
            self.since = now;
        }
        self.image_unknown = true;
        let mut effects = vec![Effect::Record(
            Severity::Error,
            format!("its state in the database cannot be read, and begins again: {cause}"),
        )];
        if self.drain.is_none() {
            effects.extend(self.drained(UNREADABLE.to_owned(), "bedplate".to_owned(), now));
        }
        effects
    }

    /// A token that is or was this node's was refused; `None`: that is over. What a machine that
    /// runs would get at its next boot is no matter of this one.
    pub(super) fn token_was_refused(&mut self, cause: Option<String>) -> Vec<Effect> {
        if cause.is_none() || self.presence != Presence::Connected {
            self.token_refused = cause;
        }
        Vec::new()
    }

    /// What holds it, each cause once.
    pub(super) fn held(&self) -> Option<String> {
        let causes: Vec<&str> =
            self.token_refused.as_deref().into_iter().chain(self.holding.cause()).collect();
        (!causes.is_empty()).then(|| causes.join("; "))
    }

    pub(super) fn undrained(&mut self, by: &str) -> Vec<Effect> {
        let was = self.drain.take();
        was.map(|_| info(format!("undrained by {by}"))).into_iter().collect()
    }

    pub(super) fn refusing(&mut self, reason: Option<String>) -> Vec<Effect> {
        let before = std::mem::replace(&mut self.refuses, reason);
        match (&before, &self.refuses) {
            (before, now) if before == now => Vec::new(),
            (_, Some(reason)) => vec![warning(format!("begins no jobs: {reason}"))],
            (_, None) => vec![info("begins jobs again")],
        }
    }
}
