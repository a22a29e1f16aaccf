//! What the REST routes of all roles share: problem documents, bodies, preconditions,
//! pages of lists, host lists, ids of events, how often one source may fail to prove who it is,
//! the pool in which work is done that grows with a user's input; and the shell of all
//! listeners ([`shell`]).
//!
//! Used by every crate that answers HTTP. Invariants: knows no role, no store, and of users no more
//! than a name to share permits by; nothing here decides who may do what (that is `access`).

mod body;
mod events;
mod failures;
mod held;
mod names;
mod page;
mod precondition;
mod refusal;
pub mod shell;
mod work;

pub use body::{Body, BodyOf, unread};
pub use events::{content_id, last_event_id};
pub use failures::{FailureLimit, Failures};
pub use held::holding;
pub use names::{node_names, quoted};
pub use page::{Linked, MAX_PAGE_ROWS, Page, PageParams, Paging};
pub use precondition::{Versioned, if_match};
pub use refusal::{Refusal, causes};
pub use work::{Abandoned, Turns, WorkError, WorkPool, detached, turns, work};
