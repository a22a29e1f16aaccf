//! Identities of workflows and runs: UUIDs by time (RFC 9562, version 7) whose random part is the
//! operating system's; of streams: random. The one place of this crate that asks for randomness.

use api::{
    run::{RunId, WorkflowId},
    stream::StreamId,
};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::clock;

fn new() -> uuid::Uuid {
    let mut random = [0; 10];
    // It refuses only where there is no `getrandom`; the time still tells one from the next.
    let _ = SystemRandom::new().fill(&mut random);
    let milliseconds = u64::try_from(clock::now().0 / 1_000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid()
}

/// An identity that no workflow has.
pub(crate) fn new_workflow() -> WorkflowId {
    WorkflowId(new())
}

/// An identity that no run has.
pub(crate) fn new_run() -> RunId {
    RunId(new())
}

/// An identity that nobody can guess; `None` without randomness.
pub(crate) fn new_stream() -> Option<StreamId> {
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).ok()?;
    Some(StreamId(uuid::Builder::from_random_bytes(random).into_uuid()))
}
