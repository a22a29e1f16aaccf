//! The decisions of network boot, without a socket, a file or a clock: bytes and `now`
//! in, effects out.
//!
//! - [`addresses`]: whose an address is by the server's configuration;
//! - [`host`]: which MAC address is which node, built by `provisioner` from its resolved nodes;
//! - [`dhcp`]: what to answer to a DHCP, proxyDHCP or PXE packet (RFC 2131, RFC 4578, PXE 2.1);
//! - [`firmware`]: which boot file a client of which architecture gets;
//! - [`tftp`]: read-only transfers with block size, size, timeout and window options (RFC 1350,
//!   2347, 2348, 2349, 7440);
//! - [`script`]: the iPXE script of a node, rendered from a template;
//! - [`event`]: what the server saw, for the log and for the state of the nodes.
//!
//! `provisioner` drives the cores from its `dhcp` and `tftp` modules.

pub mod addresses;
pub mod dhcp;
pub mod event;
pub mod firmware;
pub mod host;
pub mod script;
pub mod tftp;

pub use addresses::{AddressPlan, Owner};
pub use event::{BootEvent, Client, NodeRef};
pub use firmware::{Architecture, FirmwareClass, FirmwareMap};
pub use host::{Host, HostTable};
