//! Identities of new nodes: random UUIDs (RFC 9562, version 4). The one place of this crate that
//! asks for randomness for them.

use api::ids::NodeId;
use ring::rand::{SecureRandom as _, SystemRandom};

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub(crate) struct NoRandomness;

/// An identity that no node has.
pub(crate) fn new_node() -> Result<NodeId, NoRandomness> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(NodeId(uuid::Builder::from_random_bytes(bytes).into_uuid()))
}
