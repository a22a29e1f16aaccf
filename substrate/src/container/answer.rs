//! What the agent is told of a container that is entered ([`super::enter`]), over a socket, each a
//! JSON [`EnterReply`]. [`EnterReply::Began`] brings descriptors:
//!
//! | request | descriptors |
//! |---|---|
//! | exec | with a terminal its master; else input (if wanted), output, errors: pipes |
//! | port | the connected socket |
//! | copy-out, copy-in | a pipe |

use std::os::fd::BorrowedFd;

use api::{run::Outcome, stream::Copied};
use serde::{Deserialize, Serialize};

use super::passing;

/// Longest reason in an answer, bytes: it must fit into one message.
const MAX_REASON_BYTES: usize = 16 << 10;

/// What the agent hears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum EnterReply {
    /// Here are the descriptors.
    Began {},
    /// A copy is done.
    Copied {
        /// What became of it.
        copied: Copied,
    },
    /// It could not be done.
    Failed {
        /// What failed and why, in one line for the user who asked.
        why: String,
    },
    /// The entered process has ended; the last answer.
    Ended {
        /// Exit status or signal of the entered process, as its parent in the container saw it.
        outcome: Outcome,
    },
}

/// Tells the agent why it failed. It may be gone.
pub(super) fn fail(answers: BorrowedFd<'_>, why: String) {
    let mut why = why;
    why.truncate(why.floor_char_boundary(MAX_REASON_BYTES));
    answer(answers, &EnterReply::Failed { why });
}

/// Tells the agent something that is not worth waiting for one that does not listen.
pub(super) fn answer(answers: BorrowedFd<'_>, answer: &EnterReply) {
    if let Ok(message) = serde_json::to_vec(answer) {
        let _ = passing::send_at_once(answers, &message);
    }
}
