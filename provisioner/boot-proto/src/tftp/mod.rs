//! TFTP, read only, without its socket: [`packet`] is the codec, [`transfer`] one transfer, and
//! [`admission`] says which transfers may run at once.
//!
//! The shell (`provisioner::tftp`) listens on port 69, reads the request with
//! [`packet::ReadRequest::parse`], opens a [`transfer::Transfer`] and a socket for it, and moves
//! packets between the two.

pub mod admission;
pub mod packet;
pub mod transfer;

pub use admission::{Admission, Admitted, Limits, TransferId};
pub use packet::{ErrorCode, ReadRequest, Refusal};
pub use transfer::{Outcome, Transfer, Transmit};
