//! Nothing new begins on a drained node: because a person says so, or because what was known of the
//! node is lost.

use api::{
    ids::Timestamp,
    status::{Drain, Severity},
};

use super::{Effect, Life, info};

/// Why a node is drained whose state cannot be read.
const UNREADABLE: &str = "its state in the database could not be read; look at it, then undrain it (and arm \
                          it, should it be about to boot)";

impl Life {
    pub(super) fn drained(&mut self, reason: String, by: String, now: Timestamp) -> Vec<Effect> {
        let message = format!("drained by {by}: {reason}");
        let since = self.drain.as_ref().map_or(now, |before| before.since);
        self.drain = Some(Drain { reason, by, since });
        vec![info(message)]
    }

    /// What was stored of it cannot be read. Somebody may have drained it: nothing new begins on it
    /// before a person says so.
    pub(super) fn begun_anew(&mut self, cause: &str, now: Timestamp) -> Vec<Effect> {
        if self.since == Timestamp(0) {
            self.since = now;
        }
        self.image_unknown = true;
        let mut effects = vec![Effect::Record(
            Severity::Error,
            format!("its state in the database cannot be read, and begins anew: {cause}"),
        )];
        if self.drain.is_none() {
            effects.extend(self.drained(UNREADABLE.to_owned(), "bedplate".to_owned(), now));
        }
        effects
    }

    pub(super) fn undrained(&mut self, by: &str) -> Vec<Effect> {
        let was = self.drain.take();
        was.map(|_| info(format!("undrained by {by}"))).into_iter().collect()
    }
}
