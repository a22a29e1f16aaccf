//! From what is written to what the server runs with.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use access::SessionLimits;
use api::{channel::MAX_FLEET_SERVERS, problem::Diagnostic};
use fleet::FleetConfig;
use ipnet::Ipv4Net;
use provisioner::{DhcpConfig, DhcpMode, DhcpSubnet, FirmwareFiles, ProvisionerConfig, is_domain};
use tracing_subscriber::filter::{LevelFilter, Targets};
use yaml_tree::Location;

use super::{
    Checked, Interfaces, Log,
    raw::{Placed, Raw, diagnostic},
};
use crate::server::CertificateFiles;

mod audit;
mod connections;
mod files;
mod jobs;
mod quotas;
mod registries;
mod subnets;
mod tokens;

pub(super) use files::check as check_files;

/// The top of the file: for what is missing.
const TOP: Location = Location { line: 1, column: 1 };

/// Checks a file against the machine's interfaces. Without mistakes the first part is there.
#[must_use]
pub fn check(raw: &Raw, interfaces: &Interfaces) -> (Option<Checked>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let networks = networks(raw, interfaces, &mut diagnostics);
    let addresses = server_addresses(raw, &networks);
    if addresses.is_empty() && diagnostics.is_empty() {
        let hint = "name the interface that nodes boot from: `interfaces: [eth1]`".to_owned();
        let text = "no address to serve nodes on".to_owned();
        diagnostics.push(diagnostic(TOP, "interfaces", text, Some(hint)));
    }
    let ports = ports(raw, &mut diagnostics);
    addresses_once(raw, &mut diagnostics);
    let announced = announced(raw, &addresses, &mut diagnostics);
    let dhcp = dhcp(raw, &networks, &mut diagnostics);
    // What the server will have is as much its own as what it has.
    let own: Vec<Ipv4Addr> = addresses.iter().chain(&announced).copied().collect();
    let notes = subnets::notes(raw, &dhcp, &own, &networks, &mut diagnostics);
    let (log, jobs) = (log(raw, &mut diagnostics), jobs::check(raw, &mut diagnostics));
    let quotas = quotas::check(raw, &mut diagnostics);
    check_single_keys(raw, &mut diagnostics);
    let (api_certificate, sessions) =
        (api_certificate(raw, &mut diagnostics), sessions(raw, &mut diagnostics));
    let (connections, tokens) =
        (connections::check(raw, &mut diagnostics), tokens::check(raw, &mut diagnostics));
    let registries = Arc::new(registries::check(raw, &ports.of(&own), &mut diagnostics));
    let audit_keep = audit::check(raw, &mut diagnostics);
    if !diagnostics.is_empty() {
        return (None, diagnostics);
    }
    let state_dir = path(raw.state_dir.as_ref(), "/var/lib/bedplate");
    let fleet = fleet(raw, &state_dir, &own, ports.fleet);
    let listen = |port| {
        addresses.iter().map(|&address| SocketAddr::from((address, port))).collect::<Vec<_>>()
    };
    let provisioner = ProvisionerConfig {
        state_dir: state_dir.clone(),
        shipped_overlays: path(raw.shipped_overlays.as_ref(), "/usr/share/bedplate/overlays"),
        site_overlays: path(raw.site_overlays.as_ref(), "/etc/bedplate/overlays"),
        ipxe_templates: path(raw.templates.as_ref(), "/usr/share/bedplate/ipxe"),
        server_addresses: addresses.iter().copied().map(IpAddr::V4).collect(),
        announced_addresses: announced.iter().copied().map(IpAddr::V4).collect(),
        boot_listen: listen(ports.http),
        fleet_port: ports.fleet,
        dhcp,
        tftp: raw.tftp.as_ref().is_none_or(|tftp| tftp.value),
        firmware: firmware(raw),
        substrate: path(raw.substrate.as_ref(), "/usr/lib/bedplate/substrate"),
    };
    let checked = Checked {
        state_dir,
        api_listen: ports.api,
        api_certificate,
        sessions,
        tokens,
        quotas,
        fleet_listen: listen(ports.fleet),
        fleet,
        provisioner,
        job_log_bytes: jobs.log_bytes,
        volume_bytes: jobs.volume_bytes,
        registries,
        job_images: jobs.images,
        connections,
        audit_head_file: raw.audit_head_file.as_ref().map(|file| PathBuf::from(&file.value)),
        audit_keep,
        log,
        notes,
    };
    (Some(checked), diagnostics)
}

/// The boot files, by the firmware of the client; those of Debian's ipxe package where
/// none are named.
fn firmware(raw: &Raw) -> FirmwareFiles {
    FirmwareFiles {
        bios: Some(path(raw.firmware_bios.as_ref(), "/usr/lib/ipxe/undionly.kpxe")),
        efi_x86_64: Some(path(raw.firmware_efi_x86_64.as_ref(), "/usr/lib/ipxe/snponly.efi")),
        efi_arm64: raw.firmware_efi_arm64.as_ref().map(|file| PathBuf::from(&file.value)),
    }
}

/// The addresses that nodes reach the server at: those that are written, or else those
/// of its networks.
fn server_addresses(raw: &Raw, networks: &[Ipv4Net]) -> Vec<Ipv4Addr> {
    match raw.server_addresses.as_slice() {
        [] => networks.iter().map(Ipv4Net::addr).collect(),
        addresses => addresses.iter().map(|address| address.value).collect(),
    }
}

/// Values that no other one depends on.
fn check_single_keys(raw: &Raw, diagnostics: &mut Vec<Diagnostic>) {
    paths(raw, diagnostics);
    server_names(raw, diagnostics);
    heartbeat(raw, diagnostics);
}

/// Fleet's part. `own`: all addresses that nodes are told.
fn fleet(raw: &Raw, state_dir: &Path, own: &[Ipv4Addr], port: u16) -> FleetConfig {
    let addresses = own.iter().copied().map(IpAddr::V4);
    let mut fleet = FleetConfig::new(state_dir.to_owned(), addresses.clone().collect());
    fleet.fleet_servers = addresses.map(|address| SocketAddr::new(address, port)).collect();
    fleet.server_names = raw.server_names.iter().map(|name| name.value.clone()).collect();
    fleet.heartbeat_seconds = raw.heartbeat_seconds.as_ref().map_or(20, |seconds| seconds.value);
    fleet
}

fn heartbeat(raw: &Raw, diagnostics: &mut Vec<Diagnostic>) {
    if let Some(seconds) = &raw.heartbeat_seconds
        && !(1..=300).contains(&seconds.value)
    {
        let message = format!("{} is not between 1 and 300", seconds.value);
        diagnostics.push(diagnostic(seconds.at, "fleet.heartbeat-seconds", message, None));
    }
}

/// A certificate goes with a key.
fn api_certificate(raw: &Raw, diagnostics: &mut Vec<Diagnostic>) -> Option<CertificateFiles> {
    let alone = |key: &Placed<String>, written: &str, missing: &str| {
        let hint = Some(format!("write {missing} too"));
        diagnostic(key.at, written, format!("goes with {missing}, which is not there"), hint)
    };
    match (&raw.api_certificate, &raw.api_key) {
        (None, None) => {}
        (Some(certificate), None) => {
            diagnostics.push(alone(certificate, "api.certificate", "api.key"))
        }
        (None, Some(key)) => diagnostics.push(alone(key, "api.key", "api.certificate")),
        (Some(certificate), Some(key)) => {
            let (certificate, key) = (PathBuf::from(&certificate.value), PathBuf::from(&key.value));
            return Some(CertificateFiles { certificate, key });
        }
    }
    None
}

/// Shortest time that a session may be idle, seconds: its use is noted once a minute.
const MIN_SESSION_SECONDS: u32 = 300;

/// Longest life of a session, seconds: 90 days.
const MAX_SESSION_SECONDS: u32 = 90 * 86_400;

fn sessions(raw: &Raw, diagnostics: &mut Vec<Diagnostic>) -> SessionLimits {
    let mut limits = SessionLimits::default();
    for (written, key, limit) in [
        (&raw.session_idle_seconds, "api.session-idle-seconds", &mut limits.idle),
        (&raw.session_life_seconds, "api.session-life-seconds", &mut limits.life),
    ] {
        let Some(seconds) = written else { continue };
        if !(MIN_SESSION_SECONDS..=MAX_SESSION_SECONDS).contains(&seconds.value) {
            let message = format!(
                "{} is not between {MIN_SESSION_SECONDS} and {MAX_SESSION_SECONDS}",
                seconds.value
            );
            diagnostics.push(diagnostic(seconds.at, key, message, None));
        }
        *limit = Duration::from_secs(seconds.value.into());
    }
    limits
}

/// Paths do not depend on where the server was started.
fn paths(raw: &Raw, diagnostics: &mut Vec<Diagnostic>) {
    for (key, written) in [
        ("state-dir", &raw.state_dir),
        ("boot.substrate", &raw.substrate),
        ("boot.templates", &raw.templates),
        ("firmware.bios", &raw.firmware_bios),
        ("firmware.efi-x86-64", &raw.firmware_efi_x86_64),
        ("firmware.efi-arm64", &raw.firmware_efi_arm64),
        ("overlays.shipped", &raw.shipped_overlays),
        ("overlays.site", &raw.site_overlays),
        ("api.certificate", &raw.api_certificate),
        ("api.key", &raw.api_key),
        ("audit.head-file", &raw.audit_head_file),
    ] {
        let Some(written) = written else { continue };
        if !written.value.starts_with('/') || written.value.contains('\0') {
            let message = format!("{:?} is no absolute path", written.value);
            diagnostics.push(diagnostic(
                written.at,
                key,
                message,
                Some("begin it with /".to_owned()),
            ));
        }
    }
}

fn server_names(raw: &Raw, diagnostics: &mut Vec<Diagnostic>) {
    for (index, name) in raw.server_names.iter().enumerate() {
        if !is_domain(&name.value) {
            let message = format!("{:?} is no DNS name", name.value);
            diagnostics.push(diagnostic(name.at, &format!("server-names[{index}]"), message, None));
        }
    }
}

fn path(written: Option<&Placed<String>>, default: &str) -> PathBuf {
    PathBuf::from(written.map_or(default, |path| path.value.as_str()))
}

/// The networks of the interfaces that were named.
fn networks(raw: &Raw, interfaces: &Interfaces, diagnostics: &mut Vec<Diagnostic>) -> Vec<Ipv4Net> {
    let mut networks = Vec::new();
    for (index, name) in raw.interfaces.iter().enumerate() {
        let at = format!("interfaces[{index}]");
        if raw.interfaces[..index].iter().any(|earlier| earlier.value == name.value) {
            let message = format!("interface {} is named twice", name.value);
            diagnostics.push(diagnostic(name.at, &at, message, Some("keep one".to_owned())));
            continue;
        }
        match interfaces.get(&name.value) {
            None => {
                let known: Vec<&str> = interfaces.keys().map(String::as_str).collect();
                let hint = format!("this machine has {}", known.join(", "));
                diagnostics.push(diagnostic(
                    name.at,
                    &at,
                    format!("there is no interface {}", name.value),
                    Some(hint),
                ));
            }
            Some(found) if found.is_empty() && raw.server_addresses.is_empty() => {
                let hint = "give it one, or set server-addresses".to_owned();
                let message = format!("interface {} has no IPv4 address", name.value);
                diagnostics.push(diagnostic(name.at, &at, message, Some(hint)));
            }
            Some(found) => networks.extend(found),
        }
    }
    networks
}

/// An address is bound once.
fn addresses_once(raw: &Raw, diagnostics: &mut Vec<Diagnostic>) {
    for (index, address) in raw.server_addresses.iter().enumerate() {
        if raw.server_addresses[..index].iter().any(|earlier| earlier.value == address.value) {
            let path = format!("server-addresses[{index}]");
            let message = format!("{} is written twice", address.value);
            diagnostics.push(diagnostic(address.at, &path, message, Some("keep one".to_owned())));
        }
    }
}

/// The addresses that are announced beside the server's own.
fn announced(raw: &Raw, own: &[Ipv4Addr], diagnostics: &mut Vec<Diagnostic>) -> Vec<Ipv4Addr> {
    let mut announced = Vec::new();
    for (index, written) in raw.announced_addresses.iter().enumerate() {
        let address = written.value;
        let path = format!("announced-addresses[{index}]");
        let (message, hint) = if own.contains(&address) {
            (
                format!("{address} is one of the server's addresses, which nodes are told anyway"),
                "leave it out",
            )
        } else if announced.contains(&address) {
            (format!("{address} is written twice"), "keep one")
        } else if address.is_unspecified()
            || address.is_loopback()
            || address.is_multicast()
            || address.is_broadcast()
        {
            (
                format!("{address} is no address that a node can reach"),
                "write where nodes will find the server",
            )
        } else {
            announced.push(address);
            continue;
        };
        diagnostics.push(diagnostic(written.at, &path, message, Some(hint.to_owned())));
    }
    if own.len() + announced.len() > MAX_FLEET_SERVERS {
        let at = raw
            .announced_addresses
            .first()
            .or(raw.server_addresses.first())
            .map_or(TOP, |first| first.at);
        let message =
            format!("nodes are told at most {MAX_FLEET_SERVERS} addresses, and these are more");
        let hint = Some("name those that nodes reach in server-addresses".to_owned());
        diagnostics.push(diagnostic(at, "server-addresses", message, hint));
    }
    announced
}

struct Ports {
    api: SocketAddr,
    fleet: u16,
    http: u16,
}

impl Ports {
    /// With the server's addresses.
    fn of<'a>(&self, addresses: &'a [Ipv4Addr]) -> registries::OwnPorts<'a> {
        registries::OwnPorts { ports: [self.api.port(), self.fleet, self.http], addresses }
    }
}

fn ports(raw: &Raw, diagnostics: &mut Vec<Diagnostic>) -> Ports {
    let ports = Ports {
        api: raw
            .api_listen
            .as_ref()
            .map_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 9470)), |api| api.value),
        fleet: raw.fleet_port.as_ref().map_or(9443, |port| port.value),
        http: raw.http_port.as_ref().map_or(9480, |port| port.value),
    };
    let named = [
        ("api.listen", ports.api.port(), raw.api_listen.as_ref().map(|api| api.at)),
        ("fleet.port", ports.fleet, raw.fleet_port.as_ref().map(|port| port.at)),
        ("boot.http-port", ports.http, raw.http_port.as_ref().map(|port| port.at)),
    ];
    for (index, &(key, port, at)) in named.iter().enumerate() {
        if port == 0 && key != "api.listen" {
            let message = "port 0 cannot be told to nodes".to_owned();
            diagnostics.push(diagnostic(
                at.unwrap_or(TOP),
                key,
                message,
                Some("choose a fixed port".to_owned()),
            ));
        }
        if let Some((other, ..)) =
            named[..index].iter().find(|(_, earlier, _)| *earlier == port && port != 0)
        {
            let message = format!("port {port} is taken by {other}");
            diagnostics.push(diagnostic(
                at.unwrap_or(TOP),
                key,
                message,
                Some("choose another port".to_owned()),
            ));
        }
    }
    ports
}

fn dhcp(raw: &Raw, networks: &[Ipv4Net], diagnostics: &mut Vec<Diagnostic>) -> DhcpConfig {
    let mode = match raw.dhcp_mode.as_ref().map(|mode| (mode.at, mode.value.as_str())) {
        None | Some((_, "authoritative")) => DhcpMode::Authoritative,
        Some((_, "proxy")) => DhcpMode::Proxy,
        Some((_, "off")) => DhcpMode::Off,
        Some((at, other)) => {
            let hint = Some("use authoritative, proxy or off".to_owned());
            diagnostics.push(diagnostic(at, "dhcp.mode", format!("{other:?} is no mode"), hint));
            DhcpMode::Off
        }
    };
    if mode != DhcpMode::Off && raw.interfaces.is_empty() {
        let hint = "name them, or set dhcp.mode to off".to_owned();
        diagnostics.push(diagnostic(
            TOP,
            "interfaces",
            "DHCP needs interfaces to listen on".to_owned(),
            Some(hint),
        ));
    }
    let lease_seconds = raw.lease_seconds.as_ref().map_or(3600, |lease| lease.value);
    if let Some(lease) = &raw.lease_seconds
        && lease.value < 60
    {
        let message = format!("{} is below 60: clients would renew all the time", lease.value);
        diagnostics.push(diagnostic(lease.at, "dhcp.lease-seconds", message, None));
    }
    let subnets = if raw.subnets.is_empty() {
        let subnet = |net: &Ipv4Net| DhcpSubnet {
            network: net.trunc(),
            pool: None,
            gateway: None,
            dns: Vec::new(),
            ntp: Vec::new(),
            domain: None,
        };
        networks.iter().map(subnet).collect()
    } else {
        let subnets: Vec<DhcpSubnet> = raw
            .subnets
            .iter()
            .filter_map(|written| subnets::subnet(written, diagnostics))
            .collect();
        subnets::overlaps(raw, &subnets, diagnostics);
        subnets
    };
    let interfaces = raw.interfaces.iter().map(|name| name.value.clone()).collect();
    DhcpConfig { mode, interfaces, subnets, lease_seconds }
}

fn log(raw: &Raw, diagnostics: &mut Vec<Diagnostic>) -> Log {
    let json = match raw.log_format.as_ref().map(|format| (format.at, format.value.as_str())) {
        None | Some((_, "text")) => false,
        Some((_, "json")) => true,
        Some((at, other)) => {
            let hint = Some("use text or json".to_owned());
            diagnostics.push(diagnostic(at, "log.format", format!("{other:?} is no format"), hint));
            false
        }
    };
    let level = raw.log_level.as_ref().map_or("info", |level| level.value.as_str()).to_owned();
    if let Some(written) = &raw.log_level {
        let problem = match level.parse::<Targets>() {
            Err(error) => Some(format!("{level:?} is no filter: {error}")),
            // A word that is no level is read as the name of a part, and all else is silent.
            Ok(_) if !level.split(',').any(names_level) => {
                Some(format!("{level:?} names no level"))
            }
            Ok(_) => None,
        };
        let hint =
            "use error, warn, info, debug or trace, or a filter such as info,provisioner=debug";
        diagnostics.extend(
            problem.map(|told| diagnostic(written.at, "log.level", told, Some(hint.to_owned()))),
        );
    }
    Log { json, level }
}

/// `LEVEL`, or `PART=LEVEL`.
fn names_level(directive: &str) -> bool {
    let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level).trim();
    !level.is_empty() && level.parse::<LevelFilter>().is_ok()
}
