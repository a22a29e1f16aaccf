//! Which boot token of a node may be redeemed, and whether another one may be made. Pure.
//!
//! Any number of tokens can be out: [`crate::token`] makes them and stores nothing of them, and
//! [`Event::Ask`] changes nothing here. A token comes here when somebody shows it to enrol with it
//! (`boot_tokens.rs`); it may then be redeemed, and the one that was shown before it no longer.
//!
//! | state | means | another token may be made or shown |
//! |---|---|---|
//! | `Armed` | a boot is expected, or nobody knows | yes |
//! | `Shown` | a token was shown, and is not redeemed yet | yes: the one that is shown replaces it |
//! | `Used` | stage 1 has its certificate, the agent has not connected yet | no |
//! | `Connected` | the agent is connected | no |
//! | `Disarmed` | a token was misused, or all certificates were revoked | no, until [`Event::Ordered`] |
//!
//! | event | legal in | leads to |
//! |---|---|---|
//! | `Ask` | all | no change: the verdict says whether a token may be made |
//! | `Show` | all | `Shown`, or a refusal, which changes nothing |
//! | `Redeem` | all | `Used`, or a refusal; misuse leads to `Disarmed` (a connected node: when its channel is gone) |
//! | `ShownForOtherNode` | all | misuse, as above, if the token was shown or redeemed last; else a refusal |
//! | `Connected` | all | `Connected` |
//! | `ChannelGone` | `Connected`; else nothing | `Armed`, or `Disarmed` after misuse |
//! | `BootSeen`, `BootFailed` | `Used`; else nothing | `Armed`: that boot is over |
//! | `Ordered` | all | `Armed` (a node in `Shown` or `Connected` stays so, the latter without its misuse) |
//! | `Revoked` | all | `Disarmed` |
//!
//! Each token is bound to an address and names the token that was redeemed before it was made, so
//! the first that is redeemed makes all others void. There are never two that can be redeemed,
//! because only the one that was shown last can. The token that was redeemed last (*spent*) is
//! remembered until the next one is redeemed, so that a second use can be told from a guess. Some
//! older tokens are remembered too, only to tell a machine that boots with one what is wrong.
//!
//! The same token from the same address for the same key is not a second use: it is the first one,
//! whose response was lost, and the certificate is good only with that key. Until the token expires
//! it is granted again, even if its boot counts as failed by then; after that it is refused, which
//! is no misuse. It is a second use once an
//! agent has connected or a person has revoked the certificates.

use std::net::IpAddr;

use api::{
    ids::{Digest, Timestamp},
    status::Severity,
};
use serde::{Deserialize, Serialize};

/// Life of a token, seconds: a slow machine loads a kernel and an initramfs in it.
pub(crate) const TOKEN_SECONDS: i64 = 600;

/// Past tokens that are remembered: a boot that is tried again every few minutes takes another each
/// time.
const MAX_PAST: usize = 4;

/// Where a node's token is. See the head of this file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Arming {
    state: State,
    /// SHA-256 of the token that was redeemed last, or was shown when all tokens became void.
    #[serde(default)]
    spent: Option<Digest>,
    /// Tokens of this node that cannot be redeemed any more, the newest last: replaced, expired, or
    /// spent before the last one. They tell a machine that boots with one from a stranger.
    #[serde(default)]
    past: Vec<Digest>,
    /// What the token that was spent last was traded for, until an agent connects or it is void.
    #[serde(default)]
    redeemed: Option<Redeemed>,
    /// How often all tokens that were out became void, by misuse or by a revocation.
    #[serde(default)]
    voids: u64,
}

/// The first use of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Redeemed {
    key: Digest,
    source: IpAddr,
    expires: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
enum State {
    Armed,
    /// Rows have the word that was used before.
    #[serde(rename = "issued")]
    Shown {
        token: Digest,
        source: IpAddr,
        expires: Timestamp,
    },
    Used {
        key: Digest,
        source: IpAddr,
        expires: Timestamp,
    },
    Connected {
        misused: bool,
    },
    Disarmed,
}

/// What happens to a node's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Somebody asks for a token in its name. `expected`: the address that DHCP gave this node.
    Ask { source: IpAddr, expected: Option<IpAddr> },
    /// A token that was made for it is shown at the enrolment port, just before it is redeemed.
    /// `source`: who the token was made for.
    Show { token: Digest, source: IpAddr, expected: Option<IpAddr> },
    /// A token that is (or was) this node's is used for a certificate of `key`.
    Redeem { token: Digest, key: Digest, source: IpAddr },
    /// This node's token was shown in the name of another node.
    ShownForOtherNode { token: Digest },
    /// The agent connected.
    Connected,
    /// Its channel is gone for good.
    ChannelGone,
    /// The firmware asks for an address: a new boot.
    BootSeen,
    /// The boot failed or is stuck.
    BootFailed,
    /// A person or the server itself wants this node to boot: `node arm`, `node reboot`, power on.
    Ordered,
    /// A person revoked all its certificates.
    Revoked,
}

/// The answer to [`Event::Ask`], [`Event::Show`], [`Event::Redeem`] and
/// [`Event::ShownForOtherNode`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A token may be made, or the one that was shown may be redeemed.
    Allowed,
    /// The certificate may be made.
    Granted,
    /// No token, or no certificate.
    Refused(Refused),
    /// The event asked for nothing.
    Noted,
}

/// Why a token is not made or not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Connected,
    BootInProgress,
    Disarmed,
    WrongSource,
    NoAddress,
    Expired,
    SecondUse,
    WrongNode,
    /// Another token that was made for the same boot was redeemed first.
    OtherTokenUsed,
    /// It was made before a misuse or a revocation.
    Void,
    /// Neither shown last nor spent last: a replaced token, or one made before a backup was
    /// restored.
    Unknown,
}

impl Refused {
    /// Does this look like theft? Then it is recorded as a security event.
    pub(crate) fn is_security(self) -> bool {
        matches!(self, Self::WrongSource | Self::SecondUse | Self::WrongNode | Self::OtherTokenUsed)
    }

    /// How it is recorded.
    pub(crate) fn severity(self) -> Severity {
        if self.is_security() { Severity::Security } else { Severity::Warning }
    }

    /// The text for the machine whose token was refused, and for the node's history.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Expired => "the token has expired; boot again",
            Self::WrongSource => {
                "the token is bound to another address; the node is disarmed until `bedplate node arm`"
            }
            Self::SecondUse => {
                "the token was used before; the node is disarmed until `bedplate node arm`"
            }
            Self::WrongNode => {
                "the token is another node's; that node is disarmed until `bedplate node arm`"
            }
            Self::OtherTokenUsed => {
                "another token of this node was used first; if the node boots, boot it again"
            }
            Self::Void => {
                "the token was issued before the node was disarmed; boot again when it is armed"
            }
            Self::Unknown => {
                "the token is unknown: it was replaced by a later boot, or never issued"
            }
            Self::Connected => "the node's agent is connected",
            Self::BootInProgress => {
                "another token of this node is in use; if the node boots, boot it again"
            }
            Self::Disarmed => "the node is disarmed until `bedplate node arm`",
            Self::NoAddress => "the node has no address",
        }
    }

    /// Why a node is held whose stage 1 showed its own token and was refused.
    pub(crate) fn holds(self, source: IpAddr) -> String {
        format!("its stage 1 at {source} was refused a certificate: {}", self.in_words())
    }
}

impl Default for Arming {
    fn default() -> Self {
        Self { state: State::Armed, spent: None, past: Vec::new(), redeemed: None, voids: 0 }
    }
}

impl Arming {
    /// Of a node for which no token is made before [`Event::Ordered`].
    pub(crate) fn disarmed() -> Self {
        Self { state: State::Disarmed, ..Self::default() }
    }

    /// A boot token may be made now.
    pub(crate) fn is_armed(&self) -> bool {
        matches!(self.state, State::Armed | State::Shown { .. })
    }

    /// The token that was redeemed last.
    pub(crate) fn spent(&self) -> Option<Digest> {
        self.spent
    }

    /// How often all tokens that were out became void.
    pub(crate) fn voids(&self) -> u64 {
        self.voids
    }

    /// What the token that was spent last was traded for is in use: its boot goes on, or its agent
    /// is connected.
    pub(crate) fn is_in_use(&self) -> bool {
        matches!(self.state, State::Used { .. } | State::Connected { misused: false })
    }

    /// The tokens that are known to belong to this node: the one that was shown last, the one that
    /// was redeemed last, and some that were before them.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = Digest> {
        self.present().chain(self.past.iter().copied())
    }

    /// The tokens that were shown last and redeemed last: whoever shows one of them where it is not
    /// good has it from this node's boot.
    fn present(&self) -> impl Iterator<Item = Digest> {
        let shown = match self.state {
            State::Shown { token, .. } => Some(token),
            _ => None,
        };
        shown.into_iter().chain(self.spent)
    }

    /// Past tokens, when this one is past too.
    fn past_with(&self, token: Option<Digest>) -> Vec<Digest> {
        let mut past = self.past.clone();
        past.retain(|known| Some(*known) != token);
        past.extend(token);
        past.drain(..past.len().saturating_sub(MAX_PAST));
        past
    }

    /// Takes one event.
    pub(crate) fn step(&self, event: Event, now: Timestamp) -> (Self, Verdict) {
        match event {
            Event::Show { token, source, expected } => self.show(token, source, expected, now),
            Event::Ask { source, expected } => match self.why_no_token(source, expected) {
                None => (self.clone(), Verdict::Allowed),
                Some(why) => self.refused(why),
            },
            Event::Redeem { token, key, source } => self.redeem(token, key, source, now),
            Event::ShownForOtherNode { token } if self.present().any(|known| known == token) => {
                self.misused(Refused::WrongNode)
            }
            Event::ShownForOtherNode { .. } => (self.clone(), Verdict::Refused(Refused::Unknown)),
            Event::Connected => {
                let misused =
                    matches!(self.state, State::Disarmed | State::Connected { misused: true });
                (
                    Self { redeemed: None, ..self.moved(State::Connected { misused }).0 },
                    Verdict::Noted,
                )
            }
            Event::ChannelGone => match self.state {
                State::Connected { misused: true } => self.moved(State::Disarmed),
                State::Connected { misused: false } => self.moved(State::Armed),
                _ => (self.clone(), Verdict::Noted),
            },
            Event::BootSeen | Event::BootFailed => match self.state {
                State::Used { .. } => self.moved(State::Armed),
                _ => (self.clone(), Verdict::Noted),
            },
            Event::Ordered => match self.state {
                State::Connected { .. } => self.moved(State::Connected { misused: false }),
                State::Used { .. } | State::Disarmed => self.moved(State::Armed),
                State::Armed | State::Shown { .. } => (self.clone(), Verdict::Noted),
            },
            Event::Revoked => (self.voided(State::Disarmed), Verdict::Noted),
        }
    }

    fn moved(&self, state: State) -> (Self, Verdict) {
        (Self { state, ..self.clone() }, Verdict::Noted)
    }

    fn refused(&self, why: Refused) -> (Self, Verdict) {
        (self.clone(), Verdict::Refused(why))
    }

    fn show(
        &self,
        token: Digest,
        source: IpAddr,
        expected: Option<IpAddr>,
        now: Timestamp,
    ) -> (Self, Verdict) {
        if let Some(why) = self.why_no_token(source, expected) {
            return self.refused(why);
        }
        let replaced = match self.state {
            State::Shown { token: replaced, .. } => Some(replaced),
            _ => None,
        };
        let state = State::Shown { token, source, expires: now.plus_seconds(TOKEN_SECONDS) };
        (Self { state, past: self.past_with(replaced), ..self.clone() }, Verdict::Allowed)
    }

    fn why_no_token(&self, source: IpAddr, expected: Option<IpAddr>) -> Option<Refused> {
        match (expected, &self.state) {
            (None, _) => Some(Refused::NoAddress),
            (Some(expected), _) if expected != source => Some(Refused::WrongSource),
            (_, State::Connected { .. }) => Some(Refused::Connected),
            (_, State::Used { .. }) => Some(Refused::BootInProgress),
            (_, State::Disarmed) => Some(Refused::Disarmed),
            (_, State::Armed | State::Shown { .. }) => None,
        }
    }

    fn redeem(
        &self,
        token: Digest,
        key: Digest,
        source: IpAddr,
        now: Timestamp,
    ) -> (Self, Verdict) {
        match &self.state {
            State::Shown { token: shown, source: bound, expires } if *shown == token => {
                if now >= *expires {
                    let past = self.past_with(Some(token));
                    let armed = Self { state: State::Armed, past, ..self.clone() };
                    return (armed, Verdict::Refused(Refused::Expired));
                }
                if *bound != source {
                    return self.misused(Refused::WrongSource);
                }
                let expires = *expires;
                let used = Self {
                    state: State::Used { key, source, expires },
                    spent: Some(token),
                    past: self.past_with(self.spent),
                    redeemed: Some(Redeemed { key, source, expires }),
                    voids: self.voids,
                };
                (used, Verdict::Granted)
            }
            _ if self.spent == Some(token) => self.redeem_again(key, source, now),
            _ => self.refused(Refused::Unknown),
        }
    }

    /// The token that was spent last is used once more: by who used it first, or not.
    fn redeem_again(&self, key: Digest, source: IpAddr, now: Timestamp) -> (Self, Verdict) {
        let first = match self.state {
            State::Connected { .. } | State::Disarmed => None,
            // Rows of releases before have it nowhere else.
            State::Used { key, source, expires } => Some(Redeemed { key, source, expires }),
            State::Armed | State::Shown { .. } => self.redeemed,
        };
        let Some(first) = first.filter(|first| first.key == key && first.source == source) else {
            return self.misused(Refused::SecondUse);
        };
        if now >= first.expires {
            return self.refused(Refused::Expired);
        }
        let shown_later = match self.state {
            State::Shown { token, .. } => Some(token),
            _ => None,
        };
        let state = State::Used { key, source, expires: first.expires };
        let past = self.past_with(shown_later);
        (Self { state, past, ..self.clone() }, Verdict::Granted)
    }

    fn misused(&self, why: Refused) -> (Self, Verdict) {
        let state = match self.state {
            State::Connected { .. } => State::Connected { misused: true },
            _ => State::Disarmed,
        };
        (self.voided(state), Verdict::Refused(why))
    }

    /// A token that was out is void, but remembered, so that its next use is seen for what it is.
    fn voided(&self, state: State) -> Self {
        let (spent, past) = match self.state {
            State::Shown { token, .. } => (Some(token), self.past_with(self.spent)),
            _ => (self.spent, self.past.clone()),
        };
        // None was made since it was disarmed, and a token that is shown often writes nothing.
        let is_void = matches!(self.state, State::Disarmed | State::Connected { misused: true });
        Self { state, spent, past, redeemed: None, voids: self.voids + u64::from(!is_void) }
    }
}

#[cfg(test)]
#[path = "arming/tests.rs"]
mod tests;
