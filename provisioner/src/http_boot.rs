//! The HTTP boot port: plain HTTP for firmware, iPXE and stage 1.
//!
//! | request | answer |
//! |---|---|
//! | `GET /boot/MAC/script` | the node's iPXE script; with `?memory=MIB`, what iPXE says of the machine |
//! | `GET /boot/MAC/node.img` | the node's own initrd with its one-time token |
//! | `GET /blobs/sha256/HEX` | a root image, kernel or stage 1; ranges |
//! | `GET /firmware/FILE` | a boot file, for UEFI HTTP boot |
//!
//! Nothing secret is served here but the token, and that only to the address that
//! DHCP gave the node.

use std::{borrow::Cow, io, sync::Arc};

use api::ids::MacAddr;
use axum::{
    Router,
    extract::{ConnectInfo, Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use boot_proto::script::BootScript;
use fleet::Observation;
use image_catalog::{ImageRecord, Unbootable};
use rest::{
    causes,
    shell::{Listener, Opened, Shell, Transport},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use self::{blob_stream::BlobStream, unsent_limit::UnsentLimit};

use crate::{clock, holds::Part, provisioner::Provisioner, store::NodeRecord};

mod blob_stream;
mod blobs;
mod memory;
mod meter;
mod node_image;
mod unsent_limit;

pub(crate) use meter::Meter;
pub(crate) use node_image::ISSUE_TOKEN;
pub(crate) use unsent_limit::MAX_DEEP;

pub(crate) use rest::shell::Peer;

/// Connections that send small answers as they are, and blobs from their files.
struct Blobs {
    blobs: image_store::Store,
    meter: Arc<Meter>,
    /// A permit for each deep send queue ([`UnsentLimit`]).
    deep_queues: Arc<Semaphore>,
}

impl Transport for Blobs {
    type Io = BlobStream;

    async fn open(&self, tcp: TcpStream) -> io::Result<Opened<BlobStream>> {
        let limit = UnsentLimit::new(self.deep_queues.clone());
        let io = BlobStream::new(tcp, self.blobs.clone(), self.meter.clone(), limit);
        Ok(Opened { io, certificate: None })
    }
}

/// Serves until `shutdown`, within the limits of `shell`. `deep_queues`: [`MAX_DEEP`] places, which
/// all listeners share.
pub(crate) async fn serve(
    provisioner: Provisioner,
    shell: Shell,
    tcp: TcpListener,
    deep_queues: Arc<Semaphore>,
    shutdown: CancellationToken,
) {
    let (blobs, meter) = (provisioner.0.images.blobs().clone(), provisioner.0.meters.http.clone());
    let routes = router(provisioner);
    let transport = Blobs { blobs, meter, deep_queues };
    shell.serve(Listener::Boot, tcp, transport, routes, shutdown).await;
}

/// The routes.
pub(crate) fn router(provisioner: Provisioner) -> Router {
    let counting = meter::Counting(provisioner.0.meters.http.clone());
    Router::new()
        .route("/boot/{mac}/script", get(script))
        .route("/boot/{mac}/node.img", get(node_image::serve))
        .route("/blobs/sha256/{hex}", get(blobs::serve))
        .route("/firmware/{file}", get(firmware))
        .layer(counting)
        .with_state(provisioner)
}

/// A refusal that iPXE shows by its status and people read in the log.
pub(super) fn refuse(status: StatusCode, message: impl Into<String>) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], message.into() + "\n")
        .into_response()
}

/// A node that asks, and what it is to boot.
pub(super) struct Booting {
    pub(super) mac: MacAddr,
    pub(super) record: std::sync::Arc<crate::store::NodeRecord>,
    pub(super) spec: std::sync::Arc<api::machine::MachineSpec>,
    pub(super) image: Arc<ImageRecord>,
}

impl Booting {
    /// Finds the node of a MAC address, and its image.
    pub(super) fn find(
        provisioner: &Provisioner,
        mac: &str,
        peer: Peer,
    ) -> Result<Self, Box<Response>> {
        let source = peer.remote.ip();
        let bad = |error: api::ids::InvalidId| {
            Box::new(refuse(StatusCode::BAD_REQUEST, error.to_string()))
        };
        let mac: MacAddr = mac.parse().map_err(bad)?;
        let view = provisioner.view();
        let node = view.cluster.by_mac(mac);
        let node = node.and_then(|node| {
            Some((node.clone(), view.cluster.checked.resolved.get(&node.name)?.clone()))
        });
        let Some((record, spec)) = node else {
            if let Some(times) =
                provisioner.0.refusals.count("unregistered machine", source, clock::now())
            {
                tracing::warn!(
                    "refused to boot {mac} ({source}): no node has this MAC address; add one with \
                     `bedplate node add NAME --mac {mac}`{times}"
                );
            }
            return Err(Box::new(refuse(
                StatusCode::NOT_FOUND,
                format!("no node has the MAC address {mac}"),
            )));
        };
        let missing =
            |part, cause| Box::new(held(provisioner, &record, StatusCode::NOT_FOUND, part, cause));
        let Some(reference) = &spec.image else {
            let cause = format!(
                "it has no image; `bedplate node set {} --image NAME` gives it one",
                record.name
            );
            return Err(missing(Part::Boot, cause));
        };
        match provisioner.0.images.table().find(reference) {
            Ok(image) => Ok(Self { mac, image: image.clone(), record, spec }),
            Err(error) => Err(missing(Part::Image, error.to_string())),
        }
    }

    /// `debian-node@2`.
    pub(super) fn version(&self) -> String {
        format!("{}@{}", self.image.name, self.image.version.version)
    }

    /// The kernel that the node wants, or the newest, of an image whose files are there.
    fn kernel(
        &self,
        provisioner: &Provisioner,
    ) -> Result<&api::image::KernelArtifact, Box<Response>> {
        let refused =
            |status, cause| Box::new(held(provisioner, &self.record, status, Part::Image, cause));
        let (images, wanted) = (&provisioner.0.images, self.spec.kernel.as_deref());
        let kernel = images.kernel_to_boot_now(&self.image, wanted, clock::now());
        kernel.map_err(|error| {
            let status = match error {
                Unbootable::Damaged(_) => StatusCode::INTERNAL_SERVER_ERROR,
                Unbootable::Architecture(_) | Unbootable::NoKernel(_) => StatusCode::NOT_FOUND,
            };
            refused(status, error.to_string())
        })
    }
}

/// Refuses a node's boot for a cause that is in the server, and says so in the node's status.
pub(super) fn held(
    provisioner: &Provisioner,
    record: &NodeRecord,
    status: StatusCode,
    part: Part,
    cause: String,
) -> Response {
    let message = format!("node {} cannot boot: {cause}", record.name);
    // It is logged there, once: firmware asks again every few seconds.
    provisioner.hold(record, part, Some(cause));
    refuse(status, message)
}

async fn script(
    State(provisioner): State<Provisioner>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(mac): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let _choosing = provisioner.0.images.choosing().await;
    let booting = match Booting::find(&provisioner, &mac, peer) {
        Ok(booting) => booting,
        Err(refusal) => return *refusal,
    };
    let kernel = match booting.kernel(&provisioner) {
        Ok(kernel) => kernel,
        Err(refusal) => return *refusal,
    };
    if let Some(refusal) = memory::refusal(&provisioner, &booting, kernel, peer, query.as_deref()) {
        return refusal;
    }
    let server = peer.local.to_string();
    let url = |digest: &api::ids::Digest| format!("http://{server}/blobs/sha256/{}", digest.hex());
    let script = BootScript {
        node: booting.record.name.clone(),
        mac: booting.mac,
        image: booting.version(),
        kernel_url: url(&kernel.kernel.digest),
        stage1_url: url(&kernel.stage1.digest),
        node_url: format!("http://{server}/boot/{}/node.img", booting.mac.hyphenated()),
        kernel_args: Cow::Borrowed(&booting.spec.kernel_args),
        time: clock::now(),
        image_bytes: booting.image.version.root.size,
        server,
    };
    match provisioner.0.script.render(&script) {
        Ok(text) => {
            provisioner.hold(&booting.record, Part::Boot, None);
            let (address, image) = (peer.remote.ip(), booting.version());
            provisioner
                .record_observation(booting.record.id, Observation::Script { address, image });
            let headers = [
                (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            (headers, text).into_response()
        }
        Err(error) => {
            let (status, cause) = (StatusCode::INTERNAL_SERVER_ERROR, causes(&error));
            held(&provisioner, &booting.record, status, Part::Boot, cause)
        }
    }
}

async fn firmware(
    State(provisioner): State<Provisioner>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(file): Path<String>,
) -> Response {
    match provisioner.0.firmware.file(&file) {
        Some(bytes) => {
            let client = peer.remote.ip();
            if provisioner.0.refusals.may_log("boot file sent", client, clock::now()) {
                tracing::info!("sent {file} ({} bytes) to {client} by HTTP", bytes.len());
            }
            ([(header::CONTENT_TYPE, "application/efi")], bytes).into_response()
        }
        None => {
            let shown: String = file.chars().take(80).collect();
            let sender = peer.remote.ip();
            if let Some(times) =
                provisioner.0.refusals.count("unknown boot file", sender, clock::now())
            {
                tracing::warn!("{sender} asked by HTTP for {shown:?}, which is not served{times}");
            }
            refuse(StatusCode::NOT_FOUND, "no such boot file")
        }
    }
}
