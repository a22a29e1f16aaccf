//! What the administrator decided about DHCP.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::firmware::FirmwareMap;

/// How the server takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Gives addresses and boot files.
    Authoritative,
    /// Gives boot files only, beside a server that gives addresses.
    Proxy,
}

/// One network that addresses are given in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Network address and prefix length.
    pub network: Ipv4Net,
    /// First and last address for registered nodes that have no address of their own.
    pub pool: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Default gateway (option 3).
    pub gateway: Option<Ipv4Addr>,
    /// Name servers (option 6).
    pub dns: Vec<Ipv4Addr>,
    /// NTP servers (option 42).
    pub ntp: Vec<Ipv4Addr>,
    /// Domain name (option 15).
    pub domain: Option<String>,
}

/// What the administrator decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Whether this server assigns addresses.
    pub mode: Mode,
    /// Networks in which addresses are assigned, in the order of the configuration: the first that
    /// fits counts.
    pub subnets: Vec<Subnet>,
    /// Addresses of this server, on all interfaces that nodes reach it by.
    pub server_addresses: Vec<Ipv4Addr>,
    /// Length of a lease in seconds.
    pub lease_seconds: u32,
    /// Port of the HTTP boot listener, on the same address as the DHCP server.
    pub http_port: u16,
    /// Names of the boot files, by the client's architecture.
    pub firmware: FirmwareMap,
}
