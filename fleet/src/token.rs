//! Boot tokens as bytes: made, sealed and opened. Nothing is stored when one is made, so a request
//! that anybody on the boot network can send writes nothing and replaces no token that is out: a
//! token contains what it is good for, under a seal of this server.
//!
//! ```text
//! base64url( HMAC-SHA256 (32 bytes) | JSON: node, address, end, image, spent token, voids, random bytes )
//! ```
//! It names the token of the node that was redeemed last when it was made. As soon as one is
//! redeemed, that is another one, and all others that are out are void. They also become void by a
//! misuse and by a revocation, which are counted. What may be done with a token is in
//! [`crate::arming`], which knows it by its SHA-256.

use std::net::IpAddr;

use api::ids::{Digest, NodeId, Timestamp};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Longest token that is looked at, characters. Those that are made have some 400.
const MAX_TOKEN_CHARS: usize = 2048;

/// What the key is made for: no other use of the same secret gives the same key.
const PURPOSE: &[u8] = b"bedplate boot tokens 1";

const SEAL_BYTES: usize = 32;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Claim {
    /// Whose token it is.
    pub(crate) node: NodeId,
    /// The only address that it may be used from.
    pub(crate) source: IpAddr,
    /// When it ends.
    pub(crate) expires: Timestamp,
    /// Image version that the initrd with it names: `debian-node@2`.
    pub(crate) image: String,
    /// The token of this node that was redeemed last when this one was made.
    pub(crate) spent: Option<Digest>,
    /// How often the node's tokens had become void by then. Tokens of older releases do not have
    /// it.
    #[serde(default)]
    pub(crate) voids: u64,
}

/// A claim, and what makes two tokens of the same claim differ.
#[derive(Serialize, Deserialize)]
struct Content {
    #[serde(flatten)]
    claim: Claim,
    nonce: String,
}

/// The key of the seal.
#[derive(Debug, Clone)]
pub(crate) struct Seal(hmac::Key);

impl Seal {
    /// Made from a secret of the server that outlives its restarts.
    pub(crate) fn new(secret: &[u8]) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&secret, PURPOSE).as_ref()))
    }

    /// Makes a token; `None` if the operating system gives no random bytes.
    pub(crate) fn token(&self, claim: Claim) -> Option<String> {
        let mut nonce = [0; 16];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let content = Content { claim, nonce: URL_SAFE_NO_PAD.encode(nonce) };
        let content = serde_json::to_vec(&content).ok()?;
        let seal = hmac::sign(&self.0, &content);
        Some(URL_SAFE_NO_PAD.encode([seal.as_ref(), &content].concat()))
    }

    /// What a token says; `None` if it is none of this server.
    pub(crate) fn open(&self, token: &str) -> Option<Claim> {
        if token.len() > MAX_TOKEN_CHARS {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (seal, content) = bytes.split_at_checked(SEAL_BYTES)?;
        hmac::verify(&self.0, content, seal).ok()?;
        serde_json::from_slice::<Content>(content).ok().map(|content| content.claim)
    }
}

/// The SHA-256 by which [`crate::arming`] knows a token.
pub(crate) fn hash(token: &str) -> Digest {
    Digest(Sha256::digest(token.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> Claim {
        Claim {
            node: NodeId(uuid::Uuid::from_u128(7)),
            source: IpAddr::from([10, 0, 0, 9]),
            expires: Timestamp(1_000_000),
            image: "debian-node@2".to_owned(),
            spent: Some(Digest([3; 32])),
            voids: 2,
        }
    }

    #[test]
    fn a_token_says_what_it_was_made_for_and_no_two_are_alike() {
        let seal = Seal::new(b"a secret");
        for claim in [claim(), Claim { spent: None, source: "fd00::9".parse().unwrap(), ..claim() }]
        {
            let (first, second) =
                (seal.token(claim.clone()).unwrap(), seal.token(claim.clone()).unwrap());
            assert_ne!(first, second);
            assert_eq!((seal.open(&first), seal.open(&second)), (Some(claim.clone()), Some(claim)));
            assert_eq!(Seal::new(b"a secret").open(&first), seal.open(&first), "over a restart");
        }
    }

    #[test]
    fn what_was_changed_or_sealed_by_another_is_no_token() {
        let seal = Seal::new(b"a secret");
        let token = seal.token(claim()).unwrap();
        assert_eq!(Seal::new(b"another").open(&token), None);
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last character has bits that mean nothing; base64 refuses all but one spelling.
            assert_eq!(seal.open(&changed), None, "at {at}");
        }
        for none in ["", "A", "!", &token[..40], &"A".repeat(100_000)] {
            assert_eq!(seal.open(none), None);
        }
    }
}
