//! What can fail in the fleet as a whole: for its callers.

use std::{io, net::IpAddr};

use api::ids::{NodeId, NodeName};
use database::MigrateError;

use crate::{AuthorityError, StoreError};

/// A failed action of the fleet.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The node is not registered.
    #[error("node {id} is not registered")]
    UnknownNode {
        /// The node.
        id: NodeId,
    },
    /// The node's agent is not connected.
    #[error("the agent of {name} is not connected; power the node on, or look at its console")]
    NotConnected {
        /// The node.
        name: NodeName,
    },
    /// There is nothing to decide about such an enrolment.
    #[error("{name}: {why}; `bedplate node show {name}` tells its enrolments")]
    Undecidable {
        /// The node.
        name: NodeName,
        /// What is wrong with it.
        why: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tables could not be brought up to date.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// The certificate authority failed.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The fleet port cannot be served.
    #[error("the fleet port cannot be served")]
    Listen(#[source] io::Error),
}

/// Why no boot token is issued.
#[derive(Debug, thiserror::Error)]
pub enum TokenRefused {
    /// The node is not registered.
    #[error("node {id} is not registered")]
    UnknownNode {
        /// The node.
        id: NodeId,
    },
    /// Its agent is connected.
    #[error(
        "its agent is connected; a node gets no token while it runs (`bedplate node reboot` reboots it)"
    )]
    Connected,
    /// Stage 1 of this boot has its certificate already.
    #[error("a boot is under way; it gets no second token (`bedplate node arm` allows one)")]
    BootInProgress,
    /// A token of it was misused.
    #[error("it was disarmed because its token was misused; `bedplate node arm` arms it again")]
    Disarmed,
    /// The request does not come from the node's address.
    #[error("the request comes from {from}, not from the node's address {address}")]
    WrongSource {
        /// Where it comes from.
        from: IpAddr,
        /// Where it should come from.
        address: IpAddr,
    },
    /// Nobody knows the node's address.
    #[error(
        "the node's address is not known; give it one in its interfaces, or let this server answer its DHCP"
    )]
    NoAddress,
    /// No randomness.
    #[error("the operating system gave no random bytes")]
    Randomness,
}
