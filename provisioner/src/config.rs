//! The checked configuration of the provisioner.
//!
//! `bedplate server` maps its configuration file onto [`ProvisionerConfig`] and refuses the file
//! before it gets here; nothing in this file reads a file or binds a port.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use boot_proto::{AddressPlan, dhcp::Subnet};
use ipnet::Ipv4Net;

/// Everything that the provisioner must be told.
#[derive(Debug, Clone)]
pub struct ProvisionerConfig {
    /// State directory, for example `/var/lib/bedplate`. Holds `ssh-host-keys/`.
    pub state_dir: PathBuf,
    /// Overlays that ship, for example `/usr/share/bedplate/overlays`.
    pub shipped_overlays: PathBuf,
    /// The site's overlays, for example `/etc/bedplate/overlays`. Made at the start if
    /// it is not there.
    pub site_overlays: PathBuf,
    /// Directory of boot script templates, for example `/usr/share/bedplate/ipxe`.
    pub ipxe_templates: PathBuf,
    /// Addresses that nodes reach this server at, in order of preference. At least one.
    pub server_addresses: Vec<IpAddr>,
    /// Further addresses that nodes are told to try, after the others: this machine need not have
    /// them, and nothing listens on them.
    pub announced_addresses: Vec<IpAddr>,
    /// Where the HTTP boot port (plain HTTP) listens. All have the same port.
    pub boot_listen: Vec<SocketAddr>,
    /// Port of the fleet listener (TLS), told to stage 1.
    pub fleet_port: u16,
    /// Section `dhcp` of the configuration.
    pub dhcp: DhcpConfig,
    /// Serve firmware files by TFTP on port 69 of the server's IPv4 addresses.
    pub tftp: bool,
    /// Boot files by client architecture.
    pub firmware: FirmwareFiles,
    /// The static `substrate` binary that becomes `/init` of stage 1.
    pub substrate: PathBuf,
}

impl ProvisionerConfig {
    /// All addresses that nodes are told, in the order in which they are to be tried.
    pub fn all_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.server_addresses.iter().chain(&self.announced_addresses).copied()
    }

    /// Port of the HTTP boot listener; 9480 where `boot_listen` is empty.
    #[must_use]
    pub fn boot_port(&self) -> u16 {
        self.boot_listen.first().map_or(9480, SocketAddr::port)
    }
}

/// What the configuration says of the network, for templates.
#[derive(Debug, Clone)]
pub(crate) struct NetworkFacts {
    /// [`ProvisionerConfig::server_addresses`].
    pub(crate) server_addresses: Vec<IpAddr>,
    /// NTP servers by subnet.
    pub(crate) ntp: Vec<(Ipv4Net, Vec<Ipv4Addr>)>,
}

impl NetworkFacts {
    pub(crate) fn of(config: &ProvisionerConfig) -> Self {
        let ntp =
            config.dhcp.subnets.iter().map(|subnet| (subnet.network, subnet.ntp.clone())).collect();
        Self { server_addresses: config.server_addresses.clone(), ntp }
    }
}

/// How the server takes part in DHCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DhcpMode {
    /// The only DHCP server: addresses for registered nodes, fixed ones or a pool's.
    Authoritative,
    /// Beside the site's own server: only boot options, ports 67 and 4011.
    Proxy,
    /// No DHCP.
    Off,
}

/// DHCP settings.
#[derive(Debug, Clone)]
pub struct DhcpConfig {
    /// Whether this server assigns addresses.
    pub mode: DhcpMode,
    /// Network interfaces to listen on, by name. At least one unless the mode is off.
    pub interfaces: Vec<String>,
    /// The subnets served. Relayed requests choose by the relay's address.
    pub subnets: Vec<DhcpSubnet>,
    /// Length of a lease in seconds.
    pub lease_seconds: u32,
}

impl DhcpConfig {
    /// Which addresses are somebody's by this configuration, for a server with these addresses.
    #[must_use]
    pub fn plan(&self, server_addresses: &[Ipv4Addr]) -> AddressPlan {
        AddressPlan::new(server_addresses, &self.core_subnets())
    }

    pub(crate) fn core_subnets(&self) -> Vec<Subnet> {
        let subnets = self.subnets.iter().map(|subnet| Subnet {
            network: subnet.network,
            pool: subnet.pool,
            gateway: subnet.gateway,
            dns: subnet.dns.clone(),
            ntp: subnet.ntp.clone(),
            domain: subnet.domain.clone(),
        });
        subnets.collect()
    }
}

/// An entry of `dhcp.subnets`.
#[derive(Debug, Clone)]
pub struct DhcpSubnet {
    /// Network address and prefix length.
    pub network: Ipv4Net,
    /// First and last address given to nodes without an address of their own.
    pub pool: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// NTP servers.
    pub ntp: Vec<Ipv4Addr>,
    /// Search domain.
    pub domain: Option<String>,
}

/// Boot files by client architecture (DHCP option 93). Each is served under its file name, by TFTP
/// and by HTTP at `/firmware/FILE`. `None`: clients of that architecture are refused with a log
/// line that names the setting.
#[derive(Debug, Clone, Default)]
pub struct FirmwareFiles {
    /// BIOS: iPXE's `undionly.kpxe`.
    pub bios: Option<PathBuf>,
    /// UEFI x86-64: iPXE's `snponly.efi`.
    pub efi_x86_64: Option<PathBuf>,
    /// UEFI arm64: iPXE's `snponly.efi`.
    pub efi_arm64: Option<PathBuf>,
}
