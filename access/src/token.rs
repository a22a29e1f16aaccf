//! API tokens: `bp_` and 32 random bytes in base64url without padding. Only the SHA-256 of a token is kept, so a
//! token is found by its hash: comparing secrets byte by byte, whose time could be measured, does not happen.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

/// What every token starts with, so that scanners find leaked ones.
const PREFIX: &str = "bp_";

/// Longest bearer string that is hashed, bytes. A token has 46.
const MAX_BYTES: usize = 128;

/// SHA-256 of a token.
pub(crate) type TokenHash = [u8; 32];

/// The system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandomness;

/// Makes a token from the system's random source.
pub(crate) fn generate() -> Result<String, NoRandomness> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| NoRandomness)?;
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret)))
}

/// The hash that a token is kept and found by; `None` if `bearer` cannot be a token.
pub(crate) fn hash(bearer: &str) -> Option<TokenHash> {
    let plausible = bearer.starts_with(PREFIX) && bearer.len() <= MAX_BYTES;
    plausible.then(|| Sha256::digest(bearer.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_are_found_by_hash() {
        let (one, two) = (generate().unwrap(), generate().unwrap());
        assert_eq!(one.len(), 46);
        assert_ne!(hash(&one), hash(&two));
        assert!(hash(&one).is_some());
        assert_eq!(hash("Basic abc"), None);
        assert_eq!(hash(&format!("bp_{}", "x".repeat(200))), None);
    }
}
