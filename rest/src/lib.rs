//! What the REST routes of all roles share: problem documents, bodies, preconditions.
//!
//! Used by every crate that answers HTTP. Invariants: knows no role, no store and no user; nothing here
//! decides who may do what (that is `access`).

mod body;
mod precondition;
mod refusal;

pub use body::Body;
pub use precondition::if_match;
pub use refusal::{Refusal, causes};
