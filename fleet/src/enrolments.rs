//! Enrolments of one node, counted: which certificates are good, and when two agents claim to be
//! the node: pure.
//!
//! Each trade of a boot token for a certificate is an *epoch*: 1, 2, 3 and so on. It stands in the
//! certificate, and a renewal keeps it. Certificates of releases that did not count are of epoch 0.
//! A node that boots leaves its earlier agent behind for good, so only one epoch is ever alive:
//!
//! | what is seen | is |
//! |---|---|
//! | the newest epoch | the node |
//! | an earlier one, over a connection of before the newest enrolment | what was on its way when the node went down: nothing |
//! | an earlier one, over a connection that was accepted after it | a second agent that lives: a *conflict* |
//! | a later one | the database is older than the certificate (a backup): it counts from there |
//! | a later one, after a person trusted another one or revoked all | dead: [`JUMP`] epochs are left out then |
//!
//! The order is that of this process (monotonic clock), so no step of a clock makes a conflict; of
//! connections that are older than this process none is left. What an agent says of itself, such as
//! its boot id, counts for nothing: a thief can say it too.
//!
//! In a conflict the agent that is connected keeps the node's channel, or the earlier one if none
//! is; the others are refused. It ends by a person's word ([`Enrolments::trust`],
//! [`Enrolments::revoke`]) and by nothing else, but for [`Cause::TokenUsedTwice`]: the next
//! enrolment, which an admin armed the node for, ends that one.

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

use api::{
    ids::Timestamp,
    status::{NodeConflict, NodeEnrolment},
};
use serde::{Deserialize, Serialize};

/// Epochs of a node of which is kept when and where they were seen: 150 B each. The newest, those
/// of a conflict and the trusted one stay; of the others the good ones are the last to go.
const MAX_KNOWN: usize = 8;

/// Epochs that are left out when all others are revoked: certificates may be newer than what is
/// known here (a restored backup, a row that could not be read), and their epochs come never again.
const JUMP: u64 = 1 << 20;

/// Longest boot id that is kept of an agent, characters: it has 36 (RFC 9562).
const MAX_BOOT_ID_CHARS: usize = 64;

/// See the module. Its default is a node that never enrolled.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Enrolments {
    /// The newest epoch.
    current: u64,
    /// Certificates of earlier epochs are dead, but for that of `kept`.
    least: u64,
    kept: Option<u64>,
    known: BTreeMap<u64, Enrolment>,
    conflict: Option<Conflict>,
    /// When the newest enrolment was, if this process saw it.
    #[serde(skip)]
    enrolled: Option<Instant>,
}

/// What is known of one epoch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Enrolment {
    enrolled: Option<Timestamp>,
    address: Option<IpAddr>,
    boot_id: Option<String>,
    serial: Option<String>,
    first_seen: Option<Timestamp>,
    last_seen: Option<Timestamp>,
}

/// It is not known who the node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Conflict {
    pub(crate) since: Timestamp,
    pub(crate) cause: Cause,
    /// Whose the channel is until it is decided; `None`: anybody's.
    holder: Option<u64>,
}

/// Why there is a conflict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "is")]
pub(crate) enum Cause {
    /// The agent of an earlier enrolment lives.
    TwoAgents { older: u64, newer: u64 },
    /// The token of this enrolment was used again, from this address.
    TokenUsedTwice { epoch: u64, address: IpAddr },
    /// What was kept of the node's enrolments cannot be read.
    Unreadable {},
}

impl Cause {
    /// Whether it is told already by this one: a machine that is refused boots and boots again,
    /// each time as a newer one.
    pub(crate) fn is_reported_by(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::TwoAgents { older, .. }, Self::TwoAgents { older: before, .. }) => {
                older == before
            }
            _ => self == before,
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TwoAgents { older, newer } => write!(
                f,
                "the agent of enrolment {older} lives, though the node has enrolled again as {newer}: one of the \
                 two is not the node; it gets no overlays and no new jobs until `bedplate node revoke NODE --epoch \
                 {older}` or `bedplate node trust NODE --epoch EPOCH`"
            ),
            Self::TokenUsedTwice { epoch, address } => write!(
                f,
                "the token of enrolment {epoch} was used again from {address}: one of the two is not the node; it \
                 gets no overlays and no new jobs until `bedplate node trust NODE --epoch {epoch}` or `bedplate \
                 node revoke NODE`"
            ),
            Self::Unreadable {} => f.write_str(
                "it cannot be read which of its certificates were revoked; it gets no overlays and no new jobs \
                 until `bedplate node trust NODE --epoch EPOCH` or `bedplate node revoke NODE`",
            ),
        }
    }
}

/// The client certificate of a connection to the fleet port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PresentedCertificate {
    /// The enrolment that it is of.
    pub(crate) epoch: u64,
    /// Hexadecimal.
    pub(crate) serial: String,
    pub(crate) address: IpAddr,
    /// When the connection was accepted.
    pub(crate) accepted: Instant,
}

/// Who somebody with a good certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeIdentityState {
    /// The node.
    Node,
    /// Whose the channel is while the node is in conflict.
    Holder,
    /// Another one while the node is in conflict.
    Rival,
    /// An earlier agent, over a connection of before the node enrolled again. Should it live, it
    /// connects again.
    Superseded,
}

/// A certificate that is good no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("certificates of its enrolment {epoch} were revoked; boot the node again")]
pub(crate) struct Revoked {
    pub(crate) epoch: u64,
}

/// Why an agent does not get the node's channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTheNode {
    #[error(transparent)]
    Revoked(#[from] Revoked),
    #[error("another agent claims to be this node")]
    Rival,
}

/// An epoch that cannot be decided about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undecidable {
    #[error("it never enrolled as {epoch}; its newest enrolment is {current}")]
    NotYet { epoch: u64, current: u64 },
    #[error("certificates of enrolment {epoch} were revoked already; boot the node again")]
    Dead { epoch: u64 },
}

impl Enrolments {
    /// Nothing of it could be read.
    pub(crate) fn unreadable(now: Timestamp) -> Self {
        let conflict = Conflict { since: now, cause: Cause::Unreadable {}, holder: None };
        Self { conflict: Some(conflict), ..Self::default() }
    }

    /// Whether a certificate of this epoch is good. The one place that says so.
    ///
    /// # Errors
    /// [`Revoked`].
    pub(crate) fn check(&self, epoch: u64) -> Result<(), Revoked> {
        let is_good = epoch >= self.least || self.kept == Some(epoch);
        is_good.then_some(()).ok_or(Revoked { epoch })
    }

    /// Who somebody with a good certificate of this epoch is.
    pub(crate) fn standing(&self, epoch: u64) -> NodeIdentityState {
        match &self.conflict {
            None if self.newest_good().is_some_and(|newest| epoch < newest) => {
                NodeIdentityState::Superseded
            }
            None => NodeIdentityState::Node,
            Some(conflict) if conflict.holder.is_none_or(|holder| holder == epoch) => {
                NodeIdentityState::Holder
            }
            Some(_) => NodeIdentityState::Rival,
        }
    }

    /// The newest epoch whose certificates are good.
    pub(crate) fn newest_good(&self) -> Option<u64> {
        if self.current >= self.least { Some(self.current) } else { self.kept }
    }

    /// Whose the channel is until a conflict is decided.
    pub(crate) fn holder(&self) -> Option<u64> {
        self.conflict.as_ref()?.holder
    }

    /// The conflict that the node is in.
    pub(crate) fn conflict(&self) -> Option<&Conflict> {
        self.conflict.as_ref()
    }

    /// The node enrols: a new epoch.
    pub(crate) fn enrol(&mut self, address: IpAddr, now: Timestamp, at: Instant) -> u64 {
        self.current = (self.current + 1).max(self.least);
        self.enrolled = Some(at);
        let enrolment =
            Enrolment { enrolled: Some(now), address: Some(address), ..Enrolment::default() };
        self.known.insert(self.current, enrolment);
        match self.conflict.as_mut().map(|conflict| &mut conflict.cause) {
            Some(Cause::TwoAgents { newer, .. }) => *newer = self.current,
            Some(Cause::TokenUsedTwice { .. }) => self.conflict = None,
            Some(Cause::Unreadable {}) | None => {}
        }
        self.trim();
        self.current
    }

    /// The epoch of the newest enrolment: that of a token which is used once more by who used it
    /// first.
    pub(crate) fn current(&self) -> u64 {
        self.current
    }

    /// The token of the newest enrolment was used once more, by somebody else. A person's word
    /// about that enrolment stands: otherwise who has read the token could ask for it again and
    /// again.
    pub(crate) fn token_used_twice(&mut self, address: IpAddr, now: Timestamp) {
        let is_decided = self.kept == Some(self.current);
        // What is known already is not made less.
        if self.conflict.is_none() && !is_decided && self.check(self.current).is_ok() {
            let cause = Cause::TokenUsedTwice { epoch: self.current, address };
            self.conflict = Some(Conflict { since: now, cause, holder: Some(self.current) });
        }
    }

    /// Notes that a certificate was used. It changes nothing that is worth a write.
    pub(crate) fn seen(&mut self, presented: &PresentedCertificate, now: Timestamp) {
        let enrolment = self.known.entry(presented.epoch).or_default();
        enrolment.first_seen.get_or_insert(now);
        enrolment.last_seen = Some(now);
        enrolment.address = Some(presented.address);
        if enrolment.serial.as_ref() != Some(&presented.serial) {
            enrolment.serial = Some(presented.serial.clone());
        }
        if self.known.len() > MAX_KNOWN {
            self.trim();
        }
    }

    /// The agent of an epoch takes the node's channel, and tells in which boot it runs.
    ///
    /// # Errors
    /// [`NotTheNode`].
    pub(crate) fn attach(&mut self, epoch: u64, boot_id: &str) -> Result<(), NotTheNode> {
        self.check(epoch)?;
        if !self.may_hold_channel(epoch) {
            return Err(NotTheNode::Rival);
        }
        let boot_id = boot_id.chars().take(MAX_BOOT_ID_CHARS).collect();
        self.known.entry(epoch).or_default().boot_id = Some(boot_id);
        self.trim();
        Ok(())
    }

    /// Whether the agent of this epoch may have the node's channel.
    pub(crate) fn may_hold_channel(&self, epoch: u64) -> bool {
        self.check(epoch).is_ok()
            && matches!(self.standing(epoch), NodeIdentityState::Node | NodeIdentityState::Holder)
    }

    /// Whether [`Self::learn`] would change anything.
    pub(crate) fn is_news(&self, presented: &PresentedCertificate) -> bool {
        presented.epoch > self.current || self.is_rival(presented)
    }

    /// Takes what a good certificate tells. `connected`: epoch of the agent that is connected.
    pub(crate) fn learn(
        &mut self,
        presented: &PresentedCertificate,
        connected: Option<u64>,
        now: Timestamp,
    ) {
        if presented.epoch > self.current {
            self.current = presented.epoch;
        } else if self.is_rival(presented) {
            let cause = Cause::TwoAgents { older: presented.epoch, newer: self.current };
            let holder = Some(connected.unwrap_or(presented.epoch));
            self.conflict = Some(Conflict { since: now, cause, holder });
        }
    }

    /// A good certificate of an earlier epoch than the node's, over a connection that began after
    /// the node had enrolled again.
    fn is_rival(&self, presented: &PresentedCertificate) -> bool {
        let is_known = self
            .conflict
            .as_ref()
            .is_some_and(|conflict| matches!(conflict.cause, Cause::TwoAgents { .. }));
        let is_later = self.enrolled.is_none_or(|enrolled| presented.accepted >= enrolled);
        !is_known
            && is_later
            && self.check(presented.epoch).is_ok()
            && self.newest_good().is_some_and(|newest| presented.epoch < newest)
    }

    /// A person says that the agent of this epoch is the node: all other certificates up to now are
    /// dead, also those of epochs that are not known here.
    ///
    /// # Errors
    /// [`Undecidable`].
    pub(crate) fn trust(&mut self, epoch: u64) -> Result<(), Undecidable> {
        self.decidable(epoch)?;
        self.check(epoch).map_err(|Revoked { epoch }| Undecidable::Dead { epoch })?;
        self.least = self.least.max(self.current + 1 + JUMP);
        self.kept = Some(epoch);
        self.conflict = None;
        Ok(())
    }

    /// A person says that the agents of epochs up to this one, or of all, are not the node: their
    /// certificates are dead. All are also those of epochs that are not known here.
    ///
    /// # Errors
    /// [`Undecidable::NotYet`].
    pub(crate) fn revoke(&mut self, up_to: Option<u64>) -> Result<(), Undecidable> {
        let last = up_to.unwrap_or(self.current);
        self.decidable(last)?;
        let jump = if up_to.is_none() { JUMP } else { 0 };
        self.least = self.least.max(last + 1 + jump);
        self.kept = self.kept.filter(|kept| *kept > last);
        let is_over = |conflict: &Conflict| match conflict.cause {
            Cause::TwoAgents { older, .. } => older <= last,
            Cause::TokenUsedTwice { epoch, .. } => epoch <= last,
            // Certificates of later epochs than is known may be out.
            Cause::Unreadable {} => up_to.is_none(),
        };
        if self.conflict.as_ref().is_some_and(is_over) {
            self.conflict = None;
        }
        Ok(())
    }

    fn decidable(&self, epoch: u64) -> Result<(), Undecidable> {
        let current = self.current;
        if epoch > current { Err(Undecidable::NotYet { epoch, current }) } else { Ok(()) }
    }

    /// What people and programs are shown of a conflict.
    pub(crate) fn shown(&self, connected: Option<u64>) -> Option<NodeConflict> {
        let Conflict { since, cause, holder } = self.conflict.as_ref()?;
        let good = self.known.iter().rev().filter(|(epoch, _)| self.check(**epoch).is_ok());
        let one = |(epoch, enrolment): (&u64, &Enrolment)| NodeEnrolment {
            epoch: *epoch,
            enrolled: enrolment.enrolled,
            address: enrolment.address,
            boot_id: enrolment.boot_id.clone(),
            serial: enrolment.serial.clone(),
            first_seen: enrolment.first_seen,
            last_seen: enrolment.last_seen,
            connected: connected == Some(*epoch),
        };
        Some(NodeConflict {
            since: *since,
            cause: cause.to_string(),
            channel: *holder,
            enrolments: good.map(one).collect(),
        })
    }

    /// Forgets the oldest, dead ones first; never those that a person has to tell apart.
    fn trim(&mut self) {
        let older = match self.conflict() {
            Some(Conflict { cause: Cause::TwoAgents { older, .. }, .. }) => Some(*older),
            _ => None,
        };
        let needed = [Some(self.current), self.kept, self.holder(), older];
        while self.known.len() > MAX_KNOWN {
            let others =
                || self.known.keys().copied().filter(|epoch| !needed.contains(&Some(*epoch)));
            let dead = others().find(|epoch| self.check(*epoch).is_err());
            let Some(oldest) = dead.or_else(|| others().next()) else { return };
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
#[path = "enrolments/tests.rs"]
mod tests;
