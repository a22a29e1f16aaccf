//! The configuration of `bedplate server`: read from YAML, checked as a whole, printed by
//! `server check-config`.
//!
//! Two forms: [`Raw`] is the file, every key optional, each with its default; [`Checked`] is what
//! the roles get. The check reads no file and binds no port: what the network interfaces look like
//! is an argument.

mod check;
mod connections;
mod raw;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use access::{AuditKeep, QuotaLimits, SessionLimits, TokenLimits};
use api::problem::Diagnostic;
use fleet::FleetConfig;
use image_catalog::ImageLimits;
use ipnet::Ipv4Net;
use oci_pull::Registries;
use provisioner::ProvisionerConfig;

pub use self::{check::check, connections::ConnectionLimits, raw::Raw};
use crate::server::CertificateFiles;

/// Where the file is looked for.
pub const DEFAULT_PATH: &str = "/etc/bedplate/server.yaml";

/// Largest file that is read, bytes: a configuration with a thousand subnets needs a tenth of it.
pub const MAX_BYTES: u64 = 1 << 20;

/// What a job could pretend with to be a machine that boots: DHCP (RFC 2131), TFTP (RFC 1350), PXE
/// (section 2.2.3).
const BOOT_PORTS: [u16; 3] = [67, 69, 4011];

/// IPv4 addresses of the machine's network interfaces, by name.
pub type Interfaces = BTreeMap<String, Vec<Ipv4Net>>;

/// What the server runs with.
#[derive(Debug, Clone)]
pub struct Checked {
    /// State directory; holds the database.
    pub state_dir: PathBuf,
    /// Where the REST API listens (TLS).
    pub api_listen: SocketAddr,
    /// The site's own certificate for the REST port, if there is one.
    pub api_certificate: Option<CertificateFiles>,
    /// How long sessions of browsers are good.
    pub sessions: SessionLimits,
    /// How long tokens are good that are made from now on.
    pub tokens: TokenLimits,
    /// What each user may have who has no limits of their own.
    pub quotas: QuotaLimits,
    /// Where nodes reach the fleet port (TLS).
    pub fleet_listen: Vec<SocketAddr>,
    /// Settings of the fleet.
    pub fleet: FleetConfig,
    /// The provisioner's part.
    pub provisioner: ProvisionerConfig,
    /// How much is kept of the log of a job, here and on its node, bytes.
    pub job_log_bytes: u64,
    /// What an ephemeral volume may hold of which the document does not say it, bytes.
    pub volume_bytes: u64,
    /// How the registries of node and job images are reached.
    pub registries: Arc<Registries>,
    /// What is kept of job images that no workflow needs.
    pub job_images: ImageLimits,
    /// How many connections the server has.
    pub connections: ConnectionLimits,
    /// Where signed heads of the audit log are appended.
    pub audit_head_file: Option<PathBuf>,
    /// How long and how large the audit log is kept.
    pub audit_keep: AuditKeep,
    /// The server's own log.
    pub log: Log,
    /// What is no mistake and worth a look, in the order of the file.
    pub notes: Vec<Diagnostic>,
}

/// How the server logs, on standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// One JSON object a line, for log collectors.
    pub json: bool,
    /// A filter as `tracing` reads it: `info`, or `info,provisioner=debug`.
    pub level: String,
}

/// Why there is no configuration to run with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than [`MAX_BYTES`].
    #[error("configuration {} is larger than {MAX_BYTES} bytes: is it the right file?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The interfaces of this machine cannot be listed.
    #[error("cannot list the network interfaces of this machine")]
    Interfaces(#[source] std::io::Error),
    /// The file says what cannot be.
    #[error("configuration {} has {} mistake(s):{}", path.display(), diagnostics.len(), listed(diagnostics))]
    Diagnostics {
        /// The file.
        path: PathBuf,
        /// All of them, in the order of the file.
        diagnostics: Vec<Diagnostic>,
    },
}

fn listed(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|diagnostic| format!("\n  {diagnostic}")).collect()
}

impl Checked {
    /// Reads and checks a file. Without a path, [`DEFAULT_PATH`]; if that does not
    /// exist, the defaults.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn load(path: Option<PathBuf>) -> Result<Self, ConfigError> {
        let explicit = path.is_some();
        let path = path.unwrap_or_else(|| PathBuf::from(DEFAULT_PATH));
        let text = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.len() > MAX_BYTES => {
                return Err(ConfigError::TooLarge { path });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !explicit => {
                String::new()
            }
            _ => match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(source) => return Err(ConfigError::Read { path, source }),
            },
        };
        let interfaces = interfaces().map_err(ConfigError::Interfaces)?;
        let checked = Self::parse(&text, &interfaces);
        let mut checked = match checked {
            Ok(checked) => checked,
            Err(diagnostics) => return Err(ConfigError::Diagnostics { path, diagnostics }),
        };
        let (diagnostics, notes) = check::check_files(&Raw::read(&text), &checked);
        if !diagnostics.is_empty() {
            return Err(ConfigError::Diagnostics { path, diagnostics });
        }
        checked.notes.extend(notes);
        checked.notes.sort();
        Ok(checked)
    }

    /// Checks the text of a file.
    ///
    /// # Errors
    /// All mistakes, in the order of the file.
    pub fn parse(text: &str, interfaces: &Interfaces) -> Result<Self, Vec<Diagnostic>> {
        let raw = Raw::read(text);
        if raw.unreadable {
            return Err(raw.diagnostics);
        }
        let (checked, mut diagnostics) = check(&raw, interfaces);
        diagnostics.extend(raw.diagnostics);
        diagnostics.sort();
        match checked {
            Some(checked) if diagnostics.is_empty() => Ok(checked),
            _ => Err(diagnostics),
        }
    }

    /// What no job may reach: the ports that nodes boot and enrol by, at this server's addresses
    /// and by broadcast.
    #[must_use]
    pub fn out_of_reach_of_jobs(&self) -> Vec<SocketAddr> {
        let provisioner = &self.provisioner;
        let subnets =
            provisioner.dhcp.subnets.iter().map(|subnet| IpAddr::V4(subnet.network.broadcast()));
        let everybody = std::iter::once(IpAddr::V4(Ipv4Addr::BROADCAST)).chain(subnets);
        let addresses = provisioner.all_addresses().chain(everybody);
        let ports = [provisioner.boot_port(), provisioner.fleet_port].into_iter().chain(BOOT_PORTS);
        addresses
            .flat_map(|address| ports.clone().map(move |port| SocketAddr::new(address, port)))
            .collect()
    }

    /// What no transfer on a node may reach: what no job may, and this server's TCP ports at each
    /// address of its machine (`own`) that `registries.allow` does not name with the port.
    #[must_use]
    pub fn out_of_reach_of_transfers(&self, own: &[IpAddr]) -> Vec<SocketAddr> {
        let ports =
            [self.provisioner.boot_port(), self.provisioner.fleet_port, self.api_listen.port()];
        let addresses: BTreeSet<IpAddr> =
            self.provisioner.all_addresses().chain(own.iter().copied()).collect();
        let mut all = self.out_of_reach_of_jobs();
        let closed: BTreeSet<SocketAddr> = all.iter().copied().collect();
        let own = addresses
            .into_iter()
            .flat_map(|address| ports.into_iter().map(move |port| SocketAddr::new(address, port)));
        let is_new = |place: &SocketAddr| {
            !closed.contains(place) && !self.registries.reach.names_port(*place)
        };
        all.extend(own.filter(is_new));
        all
    }
}

/// All addresses of this machine's interfaces but loopback's, as they are now. Where the kernel
/// does not tell them there are none.
#[must_use]
pub fn machine_addresses() -> Vec<IpAddr> {
    let found = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses = found.filter_map(|entry| {
        let address = entry.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    let unique: BTreeSet<IpAddr> = addresses.filter(|address| !address.is_loopback()).collect();
    unique.into_iter().collect()
}

/// IPv4 addresses of this machine's interfaces; interfaces without one are in the list too.
fn interfaces() -> std::io::Result<Interfaces> {
    let mut interfaces = Interfaces::new();
    for entry in nix::ifaddrs::getifaddrs()? {
        let addresses = interfaces.entry(entry.interface_name.clone()).or_default();
        let address = entry.address.as_ref().and_then(|address| address.as_sockaddr_in());
        let mask = entry.netmask.as_ref().and_then(|mask| mask.as_sockaddr_in());
        if let (Some(address), Some(mask)) = (address, mask) {
            let net = Ipv4Net::with_netmask(address.ip(), mask.ip());
            addresses.extend(net.ok());
        }
    }
    Ok(interfaces)
}

#[cfg(test)]
mod tests;
