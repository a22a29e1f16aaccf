//! Nodes, profiles, images, overlays, and the way from power-on to the root file system.
//!
//! `bedplate server` opens a [`Provisioner`], merges its REST routes and node routes into its listeners and runs it.
//!
//! Coming signatures: `Provisioner::open(pool: SqlitePool, config: ProvisionerConfig, fleet: Fleet, access: Access)
//! -> Result<Provisioner, OpenError>`, `rest(&self) -> OpenApiRouter`, `node_routes(&self) -> axum::Router`,
//! `serve(&self, shutdown: CancellationToken) -> Result<(), ServeError>`.

pub mod boot_log;
pub mod check;
pub mod clock;
pub mod cluster;
pub mod config;
mod datagram;
pub mod dhcp;
pub mod document;
pub mod hostlist;
pub mod images;
pub mod overlay;
pub mod resolve;
pub mod spread;
pub mod store;
mod suggest;
pub mod tftp;

pub use config::{DhcpConfig, DhcpMode, DhcpSubnet, FirmwareFiles, ProvisionerConfig};
