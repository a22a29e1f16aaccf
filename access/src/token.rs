//! Secrets: a prefix and 32 random bytes in base64url without padding. Only the SHA-256 of a secret
//! is kept, so it is found by its hash: comparing secrets byte by byte, whose time could be
//! measured, does not happen.
//!
//! The prefixes let scanners find leaked secrets, and keep one kind from being taken for another.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

/// What every API token starts with.
pub(crate) const PREFIX: &str = "bp_";

/// What the cookie of a session starts with.
pub(crate) const SESSION_PREFIX: &str = "bps_";

/// What a ticket starts with.
pub(crate) const TICKET_PREFIX: &str = "bpt_";

/// Longest secret that is hashed, bytes. A token has 46.
const MAX_BYTES: usize = 128;

/// SHA-256 of a secret.
pub(crate) type TokenHash = [u8; 32];

/// The system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandomness;

/// Makes a secret from the system's random source.
pub(crate) fn generate(prefix: &str) -> Result<String, NoRandomness> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| NoRandomness)?;
    Ok(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(secret)))
}

/// The hash that a secret is kept and found by; `None` if `secret` cannot be one of that prefix.
pub(crate) fn hash(prefix: &str, secret: &str) -> Option<TokenHash> {
    let plausible = secret.starts_with(prefix) && secret.len() <= MAX_BYTES;
    plausible.then(|| Sha256::digest(secret.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_are_found_by_hash() {
        let (one, two) = (generate(PREFIX).unwrap(), generate(PREFIX).unwrap());
        assert_eq!(one.len(), 46);
        assert_ne!(hash(PREFIX, &one), hash(PREFIX, &two));
        assert!(hash(PREFIX, &one).is_some());
        assert_eq!(hash(SESSION_PREFIX, &one), None);
        assert_eq!(hash(PREFIX, "Basic abc"), None);
        assert_eq!(hash(PREFIX, &format!("bp_{}", "x".repeat(200))), None);
    }
}
