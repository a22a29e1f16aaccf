//! Boot tokens: 32 random bytes in base64url. Only their SHA-256 is kept; a token is found by it.

use api::ids::Digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest as _, Sha256};

/// Makes a token; `None` if the operating system gives no random bytes.
pub(crate) fn generate() -> Option<String> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).ok()?;
    Some(URL_SAFE_NO_PAD.encode(secret))
}

/// What a token is kept and found by.
pub(crate) fn hash(token: &str) -> Digest {
    Digest(Sha256::digest(token.as_bytes()).into())
}
