//! The only source of chance: names of starts and drafts, and the spread of pauses.

use ring::rand::SystemRandom;

use crate::clock;

/// 64 bits by the kernel. It refuses only where there is no `getrandom`, long before anything here
/// runs; the clock then still tells one start from the next.
#[must_use]
pub fn random() -> u64 {
    match ring::rand::generate::<[u8; 8]>(&SystemRandom::new()) {
        Ok(bytes) => u64::from_le_bytes(bytes.expose()),
        Err(_) => clock::now().0.unsigned_abs(),
    }
}
