//! Subnets that addresses are given in: each by itself, against each other, and against what is
//! somebody's.

use std::{collections::BTreeMap, net::Ipv4Addr};

use api::problem::Diagnostic;
use ipnet::Ipv4Net;
use provisioner::{DhcpConfig, DhcpSubnet, is_domain, list_owners};
use yaml_tree::Location;

use super::super::raw::{Placed, Raw, RawSubnet, diagnostic};

/// Addresses named in one note; of more the number is told.
const MAX_NAMED: usize = 5;

/// Most NTP servers of a subnet: chrony and systemd-timesyncd take these, and a DHCP
/// packet holds them.
const MAX_NTP_SERVERS: usize = 8;

/// What is worth a look, in the order of the file; and mistakes of pools.
pub(super) fn notes(
    raw: &Raw,
    dhcp: &DhcpConfig,
    addresses: &[Ipv4Addr],
    networks: &[Ipv4Net],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Diagnostic> {
    let mut notes = pools(raw, dhcp, addresses, networks, diagnostics);
    notes.extend(of_no_interface(raw, networks));
    notes.extend(nested(raw));
    notes.extend(own_ntp(raw, addresses));
    notes.sort();
    notes
}

/// Pools against what is somebody's: such addresses are never given, and a pool of nothing
/// else is a mistake.
fn pools(
    raw: &Raw,
    dhcp: &DhcpConfig,
    addresses: &[Ipv4Addr],
    networks: &[Ipv4Net],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Diagnostic> {
    let own: Vec<Ipv4Addr> =
        addresses.iter().copied().chain(networks.iter().map(Ipv4Net::addr)).collect();
    let plan = dhcp.plan(&own);
    let mut notes = Vec::new();
    // Subnets with mistakes of form are not among those of `dhcp`.
    let written = raw.subnets.iter().filter_map(|subnet| Some((subnet, subnet.pool.as_ref()?)));
    for (subnet, pool) in written {
        let Some(network) = subnet.network.as_ref().map(|network| network.value.trunc()) else {
            continue;
        };
        let checked = dhcp.subnets.iter().find(|checked| checked.network == network);
        let Some((first, last)) = checked.and_then(|checked| checked.pool) else { continue };
        let taken = plan.taken_of_pool((first, last));
        if taken.is_empty() {
            continue;
        }
        let mut named: Vec<String> = taken
            .iter()
            .take(MAX_NAMED)
            .map(|(address, owners)| format!("{address} is {}", list_owners(owners)))
            .collect();
        if taken.len() > MAX_NAMED {
            named.push(format!("and {} more are somebody's", taken.len() - MAX_NAMED));
        }
        let at = format!("{}.pool", subnet.path);
        let size = u64::from(u32::from(last) - u32::from(first)) + 1;
        if u64::try_from(taken.len()).is_ok_and(|taken| taken >= size) {
            let message = format!("has no address to give: {}", named.join("; "));
            let hint = Some("choose a range of addresses that are nobody's".to_owned());
            diagnostics.push(diagnostic(pool.at, &at, message, hint));
        } else {
            let message = format!("is not given whole: {}", named.join("; "));
            notes.push(diagnostic(pool.at, &at, message, None));
        }
    }
    notes
}

pub(super) fn subnet(raw: &RawSubnet, diagnostics: &mut Vec<Diagnostic>) -> Option<DhcpSubnet> {
    let Some(network) = raw.network.as_ref().map(|network| network.value.trunc()) else {
        let hint = Some("write network: 10.1.0.0/24".to_owned());
        diagnostics.push(diagnostic(raw.at, &raw.path, "has no network".to_owned(), hint));
        return None;
    };
    let mut inside = |address: Ipv4Addr, at: Location, key: &str| {
        let fits = network.contains(&address);
        if !fits {
            let message = format!("{address} is not in {network}");
            diagnostics.push(diagnostic(at, &format!("{}.{key}", raw.path), message, None));
        }
        fits
    };
    if let Some(gateway) = &raw.gateway {
        inside(gateway.value, gateway.at, "gateway");
    }
    let mut pool = None;
    if let Some(written) = &raw.pool {
        let ends = written.value.split_once('-');
        let ends = ends.and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
        match ends {
            Some((first, last)) if first <= last => {
                if inside(first, written.at, "pool") && inside(last, written.at, "pool") {
                    pool = Some((first, last));
                }
            }
            _ => {
                let hint = Some("write pool: 10.1.0.100-10.1.0.199".to_owned());
                let message = format!("{:?} is no range of addresses", written.value);
                diagnostics.push(diagnostic(
                    written.at,
                    &format!("{}.pool", raw.path),
                    message,
                    hint,
                ));
            }
        }
    }
    if let Some(domain) = &raw.domain
        && (domain.value.trim().is_empty() || !domain.value.split_whitespace().all(is_domain))
    {
        let message = format!("{:?} is no domain name", domain.value);
        let hint = Some("write domain: cluster.example".to_owned());
        diagnostics.push(diagnostic(domain.at, &format!("{}.domain", raw.path), message, hint));
    }
    servers(raw, diagnostics);
    Some(DhcpSubnet {
        network,
        pool,
        gateway: raw.gateway.as_ref().map(|gateway| gateway.value),
        dns: raw.dns.iter().map(|server| server.value).collect(),
        ntp: raw.ntp.iter().map(|server| server.value).collect(),
        domain: raw.domain.as_ref().map(|domain| domain.value.clone()),
    })
}

/// Servers that nodes are told must be such as another machine can ask.
fn servers(raw: &RawSubnet, diagnostics: &mut Vec<Diagnostic>) {
    for (key, written) in [("dns", &raw.dns), ("ntp", &raw.ntp)] {
        for (index, server) in written.iter().enumerate() {
            let address = server.value;
            let is_none = address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || address.is_broadcast();
            if is_none {
                let message = format!("{address} is no address that a node can ask");
                let at = format!("{}.{key}[{index}]", raw.path);
                diagnostics.push(diagnostic(server.at, &at, message, None));
            }
        }
    }
    if let Some(server) = raw.ntp.get(MAX_NTP_SERVERS) {
        let message = format!("more than {MAX_NTP_SERVERS} NTP servers");
        let hint = Some("four are enough to tell which of them is wrong".to_owned());
        diagnostics.push(diagnostic(server.at, &format!("{}.ntp", raw.path), message, hint));
    }
}

/// An NTP server that is this machine works if another program serves it.
fn own_ntp(raw: &Raw, addresses: &[Ipv4Addr]) -> Vec<Diagnostic> {
    let mut notes = Vec::new();
    for subnet in &raw.subnets {
        for (index, server) in
            subnet.ntp.iter().enumerate().filter(|(_, server)| addresses.contains(&server.value))
        {
            let message = format!(
                "{} is this server's, and Bedplate serves no NTP: a program such as chrony must do so there",
                server.value
            );
            notes.push(diagnostic(
                server.at,
                &format!("{}.ntp[{index}]", subnet.path),
                message,
                None,
            ));
        }
    }
    notes
}

/// Networks that are written twice, and pools that share addresses: two machines would get one.
pub(super) fn overlaps(raw: &Raw, subnets: &[DhcpSubnet], diagnostics: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<Ipv4Net, &str> = BTreeMap::new();
    for (subnet, written) in networks(raw) {
        if let Some(first) = seen.insert(written.value.trunc(), &subnet.path) {
            let at = format!("{}.network", subnet.path);
            let message = format!("{} is that of {first} too", written.value.trunc());
            diagnostics.push(diagnostic(
                written.at,
                &at,
                message,
                Some("make one subnet of both".to_owned()),
            ));
        }
    }
    let mut pools: Vec<(Ipv4Addr, Ipv4Addr, Ipv4Net)> = subnets
        .iter()
        .filter_map(|subnet| subnet.pool.map(|(first, last)| (first, last, subnet.network)))
        .collect();
    pools.sort_unstable();
    let mut before: Option<(Ipv4Addr, Ipv4Net)> = None;
    for (first, last, network) in pools {
        if let Some((end, other)) = before.filter(|(end, other)| first <= *end && *other != network)
        {
            let written = raw.subnets.iter().find(|subnet| {
                subnet.network.as_ref().is_some_and(|written| written.value.trunc() == network)
            });
            let Some((subnet, pool)) =
                written.and_then(|subnet| Some((subnet, subnet.pool.as_ref()?)))
            else {
                continue;
            };
            let message = format!("{first} to {} are in the pool of {other} too", end.min(last));
            let hint = Some("give each address to one pool".to_owned());
            diagnostics.push(diagnostic(pool.at, &format!("{}.pool", subnet.path), message, hint));
        }
        before = before.into_iter().chain([(last, network)]).max();
    }
}

fn networks(raw: &Raw) -> impl Iterator<Item = (&RawSubnet, &Placed<Ipv4Net>)> {
    raw.subnets.iter().filter_map(|subnet| Some((subnet, subnet.network.as_ref()?)))
}

/// A network within another works if the order of the file is meant: the first that fits is taken.
fn nested(raw: &Raw) -> Vec<Diagnostic> {
    let mut sorted: Vec<(Ipv4Net, &RawSubnet, &Placed<Ipv4Net>)> =
        networks(raw).map(|(subnet, written)| (written.value.trunc(), subnet, written)).collect();
    // Two networks are apart or one lies in the other, so one that begins within the widest
    // before it is in that.
    sorted.sort_by_key(|(network, ..)| (network.network(), network.prefix_len()));
    let mut around: Option<(Ipv4Net, &str)> = None;
    let mut notes = Vec::new();
    for (network, subnet, written) in sorted {
        match around {
            Some((outer, _)) if outer == network => {}
            Some((outer, of)) if outer.contains(&network) => {
                let at = format!("{}.network", subnet.path);
                let message = format!(
                    "{network} lies in {outer} of {of}: of subnets that fit a request the first of the \
                     file is taken"
                );
                notes.push(diagnostic(written.at, &at, message, None));
            }
            _ => around = Some((network, &subnet.path)),
        }
    }
    notes
}

/// What is no mistake, since relays can bring requests for it, and is one where there is no relay.
fn of_no_interface(raw: &Raw, networks: &[Ipv4Net]) -> Vec<Diagnostic> {
    let mut notes = Vec::new();
    for subnet in &raw.subnets {
        let Some(network) = &subnet.network else { continue };
        let net = network.value.trunc();
        if !networks.iter().any(|own| own.trunc() == net || net.contains(&own.addr())) {
            let message = format!(
                "none of the interfaces has an address in {net}: only requests that a DHCP relay forwards \
                 are answered from it"
            );
            notes.push(diagnostic(network.at, &format!("{}.network", subnet.path), message, None));
        }
    }
    notes
}
