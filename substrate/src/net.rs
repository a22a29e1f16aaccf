//! The network of stage 1: the card that booted, up and down again.
//!
//! [`plan`] and [`dhcp_client`] decide and touch nothing; [`links`] speaks rtnetlink, [`dhcp`] owns
//! the socket, [`boot`] puts them together. Everything that is set up here is taken away before the
//! image's init starts.

pub mod boot;
pub mod dhcp;
pub mod dhcp_client;
pub mod links;
pub mod plan;
