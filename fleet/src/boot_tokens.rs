//! Boot tokens as the server makes them for nodes that boot, and as machines show them to enrol.

use std::net::IpAddr;

use api::ids::{Digest, NodeId, Timestamp};

use crate::{
    Fleet, TokenRefused,
    arming::{self, Refused, Verdict},
    clock,
    lifecycle::{BootFile, Event},
    registry::Change,
    token::{self, Claim},
};

impl Fleet {
    /// Makes a boot token for an armed node, bound to `source`, good for ten minutes and one use.
    /// Nothing is kept of it, and those that are out stay good until one of them is used. `image`:
    /// the version that the node boots with it (`debian-node@2`). `expected`: the address that DHCP
    /// (or the node's record) gives it.
    ///
    /// # Errors
    /// [`TokenRefused`] says why not; a request from a wrong address is recorded as a security
    /// event, not more than one a minute.
    pub fn issue_token(
        &self,
        id: NodeId,
        source: IpAddr,
        expected: Option<IpAddr>,
        image: String,
    ) -> Result<String, TokenRefused> {
        let (source, expected) =
            (source.to_canonical(), expected.map(|address| address.to_canonical()));
        let changed = self.change(id, |change| {
            let verdict = change.token(arming::Event::Ask { source, expected });
            if let Verdict::Refused(why) = verdict {
                let severity = why.severity();
                let why = refused(why, id, source, expected);
                change.record_request(severity, &format!("{source} got no boot token: {why}"));
                // Only the node's own address gets as far as this.
                if matches!(why, TokenRefused::Disarmed) {
                    change.apply_event(Event::TokenRefused {
                        cause: Some(format!("gets no boot token: {why}")),
                    });
                }
                return Err(why);
            }
            change.apply_event(Event::Fetched {
                file: BootFile::Initrd { image: image.clone() },
                address: source,
            });
            Ok((change.spent_token(), change.token_voids()))
        });
        let (made, _soon) = changed.map_err(|_| TokenRefused::UnknownNode { id })?;
        let (spent, voids) = made?;
        let expires = clock::now().plus_seconds(arming::TOKEN_SECONDS);
        let claim = Claim { node: id, source, expires, image, spent, voids };
        self.inner.seal.token(claim).ok_or(TokenRefused::Randomness)
    }

    /// Makes a token that was made here and is shown by somebody at `source` the one that can be
    /// redeemed, if it is still good. Two machines that each have a token of one node are not both
    /// the node. A refusal is in the node's history, and holds the node if it came from its own
    /// address.
    pub(crate) fn show_token(&self, token: &str, source: IpAddr) -> Result<(), Refused> {
        let (Some(claim), now) = (self.inner.seal.open(token), clock::now()) else { return Ok(()) };
        let token = token::hash(token);
        let shown = self.change(claim.node, |change| {
            let shown = shown(change, token, &claim, now);
            if let Err(why) = shown {
                let message = format!("{source} was refused a certificate: {}", why.in_words());
                change.record(why.severity(), &message);
                if source == claim.source {
                    change.apply_event(Event::TokenRefused { cause: Some(why.holds(source)) });
                }
            }
            shown
        });
        // A node that was deleted has no token.
        shown.map_or(Ok(()), |(shown, _soon)| shown)
    }
}

/// Whether a token is still good; then it is the one that can be redeemed.
fn shown(
    change: &mut Change<'_>,
    token: Digest,
    claim: &Claim,
    now: Timestamp,
) -> Result<(), Refused> {
    let (spent, voids) = (change.spent_token(), change.token_voids());
    if spent == Some(token) {
        return Ok(());
    }
    if now >= claim.expires {
        return Err(Refused::Expired);
    }
    // After a backup was restored a token may say what never was here.
    let is_of_here =
        claim.spent.is_none_or(|spent| change.knows_token(spent)) && claim.voids <= voids;
    if !is_of_here {
        return Err(Refused::Unknown);
    }
    // Before the next test: what voids all tokens leaves the one that was shown as spent.
    if claim.voids < voids {
        return Err(Refused::Void);
    }
    if spent != claim.spent {
        return Err(Refused::OtherTokenUsed);
    }
    let (source, expected) = (claim.source, Some(claim.source));
    match change.token(arming::Event::Show { token, source, expected }) {
        Verdict::Refused(why) => Err(why),
        Verdict::Allowed | Verdict::Granted | Verdict::Noted => {
            change.apply_event(Event::TokenShown { image: claim.image.clone() });
            Ok(())
        }
    }
}

fn refused(why: Refused, id: NodeId, from: IpAddr, expected: Option<IpAddr>) -> TokenRefused {
    match (why, expected) {
        (Refused::Connected, _) => TokenRefused::Connected,
        (Refused::BootInProgress, _) => TokenRefused::BootInProgress,
        (Refused::WrongSource, Some(address)) => TokenRefused::WrongSource { from, address },
        (Refused::NoAddress, _) => TokenRefused::NoAddress,
        (Refused::Disarmed, _) => TokenRefused::Disarmed,
        // The rest is said of tokens that are used, not of those that are asked for.
        _ => TokenRefused::UnknownNode { id },
    }
}

#[cfg(test)]
#[path = "boot_tokens/tests.rs"]
mod tests;
