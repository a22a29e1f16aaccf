//! Nodes, profiles, overlays, and the way from power-on to the root file system.
//!
//! `bedplate server` opens a [`Provisioner`], merges its REST routes and node routes into its
//! listeners and runs it.
//!
//! | module | |
//! |---|---|
//! | `cluster`, `check`, `resolve`, `document`, `spread` | pure: nodes and profiles, what is wrong with them, YAML |
//! | `overlay` | what nodes get beside their image |
//! | `image_use` | which images they need, for `image-catalog` |
//! | `dhcp`, `tftp`, `http_boot` | the boot servers, around the cores of `boot-proto`; `dhcp::lease_log` keeps leases on disk |
//! | `holds` | what on the server holds a node |
//! | `feed` | changes of nodes, numbered for watchers |
//! | `conflicts` | nodes that two claim to be, in the audit log |
//! | `stored` | what of the database cannot be read, for a check |
//! | `rest`, `node_routes` | what people and nodes ask for |
//! | `provisioner`, `register`, `serve` | the shell |
//! | `published` | what boot servers and fleet are told of nodes |
//! | `meters` | what Prometheus is told of it |
//!
//! Invariants: a change happens as a whole or not at all; no blob is served that is no artifact of
//! an image version.

mod arp_table;
pub mod boot_log;
mod boot_state;
mod check;
mod clock;
mod cluster;
mod config;
mod conflicts;
mod datagram;
pub mod dhcp;
pub mod document;
mod feed;
mod holds;
mod http_boot;
mod identity;
mod image_use;
mod meters;
mod node_routes;
pub mod overlay;
pub mod preflight;
mod provisioner;
mod published;
mod refusals;
mod register;
mod resolve;
mod rest;
mod serve;
mod spread;
mod store;
mod stored;
pub mod tftp;

pub use boot_proto::addresses::list as list_owners;
pub use check::{Subject, is_domain};
pub use config::{DhcpConfig, DhcpMode, DhcpSubnet, FirmwareFiles, ProvisionerConfig};
pub use provisioner::{OpenError, Provisioner};
pub use register::migrate;
pub use serve::ServeError;
pub use store::sql::SCHEMA;
pub use stored::problems;
