//! Registries: what is written of each host, against each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use api::problem::Diagnostic;
use oci_pull::{
    AddressPattern, DEFAULT_PATIENCE, HostSettings, InvalidProxy, Limits, MAX_MIRRORS, Mirror,
    Proxy, Reach, Registries, RegistryHost,
};
use url::Url;

use super::super::raw::{Placed, Raw, RawRegistry, diagnostic};

/// Longest time that registries may be waited for, seconds: a job is better told that its image is
/// not there than after a night.
const MAX_WAIT_SECONDS: u32 = 86_400;

/// Largest speed that may be asked for, kB/s: no registry brings 1 GB/s.
const MAX_LEAST_KB: u32 = 1_000_000;

/// Longest time that a layer or a pull may be given, seconds: a week.
const MAX_PULL_SECONDS: u32 = 604_800;

/// Addresses that are read of `registries.allow` and of `registries.deny`. A site has a few.
const MAX_ADDRESSES: usize = 64;

/// What this server listens at, which no pull is to reach.
#[derive(Debug)]
pub(super) struct OwnPorts<'a> {
    /// Its TCP ports.
    pub(super) ports: [u16; 3],
    /// Its addresses, also those that it will have.
    pub(super) addresses: &'a [Ipv4Addr],
}

/// All registries. Mistakes are told with their keys.
pub(super) fn check(
    raw: &Raw,
    own: &OwnPorts<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Registries {
    let written = &raw.registries;
    let mut number = |key: &str, written: &Option<Placed<u32>>, range: RangeInclusive<u32>| {
        let written = written.as_ref()?;
        if !range.contains(&written.value) {
            let message =
                format!("{} is not between {} and {}", written.value, range.start(), range.end());
            diagnostics.push(diagnostic(written.at, &format!("registries.{key}"), message, None));
        }
        Some(u64::from(written.value))
    };
    let patience = number("wait-seconds", &written.wait_seconds, 0..=MAX_WAIT_SECONDS);
    let least = number("least-kb-per-second", &written.least_kb_per_second, 0..=MAX_LEAST_KB);
    let layer = number("layer-seconds", &written.layer_seconds, 1..=MAX_PULL_SECONDS);
    let pull = number("pull-seconds", &written.pull_seconds, 1..=MAX_PULL_SECONDS);
    let usual = Limits::default();
    let limits = Limits {
        least_bytes_per_second: least.map_or(usual.least_bytes_per_second, |kb| kb * 1_000),
        layer: layer.map_or(usual.layer, Duration::from_secs),
        pull: pull.map_or(usual.pull, Duration::from_secs),
        ..usual
    };
    let patience = patience.map_or(DEFAULT_PATIENCE, Duration::from_secs);
    let mut hosts: BTreeMap<RegistryHost, HostSettings> = BTreeMap::new();
    for written in &raw.registries.hosts {
        let settings = settings(written, diagnostics);
        let host: RegistryHost = match written.host.value.parse() {
            Ok(host) => host,
            Err(error) => {
                let message = format!("{:?} {error}", written.host.value);
                let hint = Some("write it as images are named: registry.example:5000".to_owned());
                diagnostics.push(diagnostic(written.at(), &written.path, message, hint));
                continue;
            }
        };
        if let Some(index) =
            settings.mirrors.iter().position(|mirror| mirror.host == host && mirror.path.is_empty())
        {
            let key = written.key(&format!("mirrors[{index}]"));
            let message = format!("{host} is no mirror of itself");
            diagnostics.push(diagnostic(written.at(), &key, message, Some("remove it".to_owned())));
        }
        if hosts.contains_key(&host) {
            let message = format!("{host} is written twice, in other letters");
            diagnostics.push(diagnostic(
                written.at(),
                &written.path,
                message,
                Some("keep one".to_owned()),
            ));
        }
        hosts.insert(host, settings);
    }
    Registries { hosts, patience, limits, reach: reach(raw, own, diagnostics) }
}

fn reach(raw: &Raw, own: &OwnPorts<'_>, diagnostics: &mut Vec<Diagnostic>) -> Reach {
    let allowed = addresses("allow", &raw.registries.allow, diagnostics);
    let denied = addresses("deny", &raw.registries.deny, diagnostics);
    let own_addresses: BTreeSet<IpAddr> = own.addresses.iter().copied().map(IpAddr::V4).collect();
    Reach { allowed, denied, own_ports: own.ports.into(), own_addresses }
}

/// The addresses of `registries.allow` or `registries.deny`.
fn addresses(
    key: &str,
    written: &[Placed<String>],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<AddressPattern> {
    let key = format!("registries.{key}");
    if let Some(first) = written.get(MAX_ADDRESSES) {
        let message = format!("has {} addresses; {MAX_ADDRESSES} are read", written.len());
        diagnostics.push(diagnostic(first.at, &key, message, None));
    }
    let mut addresses = Vec::new();
    for (index, address) in written.iter().take(MAX_ADDRESSES).enumerate() {
        match address.value.parse::<AddressPattern>() {
            Ok(parsed) => addresses.push(parsed),
            Err(error) => {
                let message = format!("{:?} {error}", address.value);
                let hint = "write 127.0.0.1:5000 or 10.0.0.0/8; a name goes into registries.hosts";
                diagnostics.push(diagnostic(
                    address.at,
                    &format!("{key}[{index}]"),
                    message,
                    Some(hint.to_owned()),
                ));
            }
        }
    }
    addresses
}

fn settings(written: &RawRegistry, diagnostics: &mut Vec<Diagnostic>) -> HostSettings {
    let mut mirrors: Vec<Mirror> = Vec::new();
    for (index, mirror) in written.mirrors.iter().enumerate() {
        let key = written.key(&format!("mirrors[{index}]"));
        match mirror.value.parse::<Mirror>() {
            Ok(parsed) if mirrors.contains(&parsed) => {
                let message = format!("{parsed} is written twice");
                diagnostics.push(diagnostic(mirror.at, &key, message, Some("keep one".to_owned())));
            }
            Ok(parsed) => mirrors.push(parsed),
            Err(error) => {
                let hint = Some("write mirrors: [mirror.example:5000/hub]".to_owned());
                diagnostics.push(diagnostic(
                    mirror.at,
                    &key,
                    format!("{:?} {error}", mirror.value),
                    hint,
                ));
            }
        }
    }
    if let Some(first) = written.mirrors.get(MAX_MIRRORS) {
        let message = format!("has {} mirrors; {MAX_MIRRORS} are asked", written.mirrors.len());
        diagnostics.push(diagnostic(first.at, &written.key("mirrors"), message, None));
    }
    let path = |setting: &str, diagnostics: &mut Vec<Diagnostic>| -> Option<PathBuf> {
        let file: &Placed<String> = written.file(setting)?;
        if !file.value.starts_with('/') || file.value.contains('\0') {
            let hint = Some("begin it with /".to_owned());
            let message = format!("{:?} is no absolute path", file.value);
            diagnostics.push(diagnostic(file.at, &written.key(setting), message, hint));
        }
        Some(PathBuf::from(&file.value))
    };
    let plain_http = written.plain_http.as_ref().is_some_and(|plain| plain.value);
    let ca = path("ca", diagnostics);
    if let (true, Some(_), Some(at)) = (plain_http, &ca, &written.ca) {
        let message = "is for HTTPS, and plain-http is set".to_owned();
        diagnostics.push(diagnostic(
            at.at,
            &written.key("ca"),
            message,
            Some("keep one of both".to_owned()),
        ));
    }
    let credentials = path("credentials", diagnostics);
    let (proxy, token_service) =
        (proxy(written, diagnostics), token_service(written, plain_http, diagnostics));
    HostSettings { mirrors, plain_http, ca, proxy, credentials, token_service }
}

fn token_service(
    written: &RawRegistry,
    plain_http: bool,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Url> {
    let service = written.token_service.as_ref()?;
    let told = |message| {
        let hint = Some("write token-service: https://auth.example".to_owned());
        diagnostic(service.at, &written.key("token-service"), message, hint)
    };
    match HostSettings::parse_token_service(&service.value) {
        Ok(url) if url.scheme() == "http" && !plain_http => {
            let message = "would get the login in plain HTTP, and plain-http is not set".to_owned();
            diagnostics.push(told(message));
            None
        }
        Ok(url) => Some(url),
        // It may hold a password.
        Err(error) => {
            diagnostics.push(told(error.to_string()));
            None
        }
    }
}

fn proxy(written: &RawRegistry, diagnostics: &mut Vec<Diagnostic>) -> Proxy {
    let Some(proxy) = &written.proxy else { return Proxy::default() };
    match proxy.value.parse() {
        Ok(parsed) => parsed,
        Err(error) => {
            // A password is not shown again.
            let message = match error {
                InvalidProxy::Login => error.to_string(),
                InvalidProxy::Form => format!("{:?} {error}", proxy.value),
            };
            let hint = match error {
                InvalidProxy::Login => "let the proxy know this machine by its address",
                InvalidProxy::Form => "write proxy: http://proxy.example:3128",
            };
            diagnostics.push(diagnostic(
                proxy.at,
                &written.key("proxy"),
                message,
                Some(hint.to_owned()),
            ));
            Proxy::default()
        }
    }
}
