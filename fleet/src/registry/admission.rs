//! Who is let in as a node, and who gets its certificates: [`crate::enrolments`] among all that is
//! known of a node.

use std::{net::IpAddr, time::Instant};

use api::{
    ids::{NodeId, NodeName, Timestamp},
    status::Severity,
};
use tokio_util::sync::CancellationToken;

use super::{Change, NodeEntry, Registry};
use crate::{
    arming::{self, Refused, Verdict},
    enrolments::{Enrolments, NodeIdentityState, PresentedCertificate, Revoked},
};

impl Change<'_> {
    /// Changes the node's enrolments, with all that follows from it: what begins or ends a conflict
    /// is told, overlays are withheld or sent, and a connection whose certificate is dead ends.
    pub(crate) fn enrolments<T>(
        &mut self,
        act: impl FnOnce(&mut Enrolments, Option<u64>) -> T,
    ) -> T {
        let connected = self.entry.link.epoch();
        let before = self.entry.enrolments.conflict().map(|conflict| conflict.cause.clone());
        let value = act(&mut self.entry.enrolments, connected);
        let after = self.entry.enrolments.conflict().map(|conflict| conflict.cause.clone());
        match &after {
            Some(cause) if before.as_ref().is_none_or(|before| !cause.is_reported_by(before)) => {
                self.record(Severity::Security, &format!("in conflict: {cause}"));
            }
            None if before.is_some() => self.record(Severity::Info, "no longer in conflict"),
            _ => {}
        }
        if connected.is_some_and(|epoch| !self.entry.enrolments.may_hold_channel(epoch)) {
            self.entry.link.close("its certificate is not the node's any more");
        }
        let enrolments = &self.entry.enrolments;
        self.entry.under_way.end_unless(|epoch| enrolments.check(epoch).is_ok());
        self.entry.link.withhold_overlays(after.is_some());
        value
    }

    /// Takes a token for a certificate. Returns the verdict, and the epoch of the certificate if it
    /// is granted.
    pub(crate) fn redeem(
        &mut self,
        event: arming::Event,
        source: IpAddr,
        at: Instant,
    ) -> (Verdict, u64) {
        let before = self.entry.arming.clone();
        let verdict = self.token(event);
        let now = self.now;
        match &verdict {
            // The answer to the first request was lost, and it is answered again.
            Verdict::Granted if before.spent() == self.entry.arming.spent() => {}
            Verdict::Granted => {
                self.enrolments(|enrolments, _| enrolments.enrol(source, now, at));
            }
            // A token that was void before it was traded, or whose boot is over, is of no enrolment
            // that is in use.
            Verdict::Refused(Refused::SecondUse) if before.is_in_use() => {
                self.enrolments(|enrolments, _| enrolments.token_used_twice(source, now));
            }
            Verdict::Allowed | Verdict::Refused(_) | Verdict::Noted => {}
        }
        (verdict, self.entry.enrolments.current())
    }
}

/// Somebody with a good certificate of a node.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// The node's name.
    pub(crate) name: NodeName,
    pub(crate) standing: NodeIdentityState,
    /// Cancelled when the certificate is good no more.
    pub(crate) revoked: CancellationToken,
}

impl Admitted {
    fn of(entry: &mut NodeEntry, epoch: u64, standing: NodeIdentityState) -> Self {
        Self {
            name: entry.name.clone(),
            standing,
            revoked: entry.under_way.of(epoch, entry.enrolments.holder()),
        }
    }
}

impl Registry {
    /// Lets somebody in with a certificate of a node, or not. In nearly all cases it is a look into
    /// memory. `None` if the node is not registered.
    pub(crate) fn admit(
        &self,
        id: NodeId,
        presented: &PresentedCertificate,
        now: Timestamp,
    ) -> Option<Result<Admitted, Revoked>> {
        let mut state = self.lock();
        let entry = state.nodes.get_mut(&id)?;
        if let Err(revoked) = entry.enrolments.check(presented.epoch) {
            return Some(Err(revoked));
        }
        entry.enrolments.seen(presented, now);
        if !entry.enrolments.is_news(presented) {
            let standing = entry.enrolments.standing(presented.epoch);
            return Some(Ok(Admitted::of(entry, presented.epoch, standing)));
        }
        drop(state);
        let admitted = self.update(id, now, |change| {
            let epoch = presented.epoch;
            let learnt =
                change.enrolments(|enrolments, connected| -> Result<NodeIdentityState, Revoked> {
                    // It may have been decided in this moment.
                    enrolments.check(epoch)?;
                    enrolments.learn(presented, connected, now);
                    Ok(enrolments.standing(epoch))
                });
            learnt.map(|standing| Admitted::of(change.entry, epoch, standing))
        });
        admitted.map(|(admitted, _written_soon)| admitted)
    }
}

#[cfg(test)]
mod tests;
