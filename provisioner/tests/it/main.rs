//! Protocol tests: plain clients against the real sockets, each test in network
//! namespaces of its own.
//!
//! They need root, iproute2 and the Debian package `ipxe`, so their names begin with `privileged_`.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod boot;
mod client;
mod leases;
mod network;
mod server;
