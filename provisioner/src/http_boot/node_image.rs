//! `GET /boot/MAC/node.img`: the node's own initrd, a cpio archive with the one file
//! `api::stage1::PATH`.

use std::net::SocketAddr;

use api::{
    channel::MAX_FLEET_SERVERS,
    machine::MachineSpec,
    stage1::{FallbackAddress, PATH, RootImage, Stage1},
};
use axum::{
    extract::{ConnectInfo, Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use image_store::cpio;
use ipnet::IpNet;

use super::{Booting, Peer, held, refuse};
use rest::causes;

use crate::{clock, holds::Part, provisioner::Provisioner};

/// What the audit log calls it.
pub(crate) const ISSUE_TOKEN: &str = "issue-token";

pub(super) async fn serve(
    State(provisioner): State<Provisioner>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(mac): Path<String>,
) -> Response {
    let _choosing = provisioner.0.images.choosing().await;
    let booting = match Booting::find(&provisioner, &mac, peer) {
        Ok(booting) => booting,
        Err(refusal) => return *refusal,
    };
    let problem = provisioner.0.fleet.date_problem().filter(fleet::DateProblem::is_wrong_time);
    if let Some(problem) = problem {
        // Stage 1 would set the node's clock by this server's.
        let (status, cause) = (StatusCode::SERVICE_UNAVAILABLE, problem.to_string());
        return held(&provisioner, &booting.record, status, Part::Initrd, cause);
    }
    let (name, source) = (&booting.record.name, peer.remote.ip());
    let expected = provisioner.expected_address(booting.mac, &booting.spec, source);
    let issued =
        provisioner.0.fleet.issue_token(booting.record.id, source, expected, booting.version());
    let token = match issued {
        Ok(token) => token,
        Err(refused) => {
            let reason = causes(&refused);
            let refusals = &provisioner.0.refusals;
            if let Some(times) = refusals.count("boot token", source, clock::now()) {
                tracing::warn!("{name} ({}) gets no boot token: {reason}{times}", booting.mac);
            }
            let outcome = format!("refused to {source}: {reason}");
            refusals.audit.record(&provisioner.0.access, ISSUE_TOKEN, name, &outcome).await;
            return refuse(
                StatusCode::FORBIDDEN,
                format!("node {name} gets no boot token: {reason}"),
            );
        }
    };
    match archive(&document(&provisioner, &booting, peer, token)) {
        Ok(bytes) => {
            provisioner.hold(&booting.record, Part::Initrd, None);
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            (headers, bytes).into_response()
        }
        Err(error) => {
            let cause = format!("its initrd cannot be made: {error}");
            held(
                &provisioner,
                &booting.record,
                StatusCode::INTERNAL_SERVER_ERROR,
                Part::Initrd,
                cause,
            )
        }
    }
}

fn document(provisioner: &Provisioner, booting: &Booting, peer: Peer, token: String) -> Stage1 {
    let config = &provisioner.0.config;
    // The address that the node has just reached comes first.
    let mut addresses = vec![peer.local.ip()];
    addresses.extend(config.all_addresses().filter(|address| *address != peer.local.ip()));
    addresses.truncate(MAX_FLEET_SERVERS);
    let servers =
        |port: u16| addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
    let version = &booting.image.version;
    Stage1 {
        node: booting.record.name.clone(),
        id: booting.record.id,
        server_time: clock::now(),
        boot_servers: servers(peer.local.port()),
        fleet_servers: servers(config.fleet_port),
        ca_fingerprint: provisioner.0.fleet.ca_fingerprint(),
        token: Some(token),
        root: RootImage {
            format: version.root.format.clone(),
            digest: version.root.digest,
            size: version.root.size,
            version: booting.version(),
        },
        machine: MachineSpec {
            root: booting.spec.root.clone(),
            interfaces: booting.spec.interfaces.clone(),
            dns: booting.spec.dns.clone(),
            ..MachineSpec::default()
        },
        fallback_address: fallback(provisioner, booting, peer),
    }
}

/// The address of the interface that boots: its own, or the one that it has just come from.
fn fallback(provisioner: &Provisioner, booting: &Booting, peer: Peer) -> Option<FallbackAddress> {
    let interface =
        booting.spec.interfaces.values().find(|interface| interface.mac == Some(booting.mac))?;
    if let Some(address) = interface.address {
        return Some(FallbackAddress { address, gateway: interface.gateway });
    }
    let std::net::IpAddr::V4(address) = peer.remote.ip() else { return None };
    let subnet = provisioner
        .0
        .config
        .dhcp
        .subnets
        .iter()
        .find(|subnet| subnet.network.contains(&address))?;
    let address = IpNet::new(address.into(), subnet.network.prefix_len()).ok()?;
    Some(FallbackAddress { address, gateway: subnet.gateway.map(Into::into) })
}

/// The archive; its length is a multiple of 4, as the kernel wants it.
fn archive(document: &Stage1) -> std::io::Result<Vec<u8>> {
    let json = serde_json::to_vec(document)?;
    let mut writer = cpio::Writer::new(Vec::new());
    let path = PATH.trim_start_matches('/');
    if let Some((directory, _)) = path.rsplit_once('/') {
        writer.directory(directory, 0o700)?;
    }
    writer.file(path, 0o600, &json)?;
    writer.finish()
}
