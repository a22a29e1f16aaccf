//! `GET /blobs/sha256/HEX`: boot artifacts by digest, from memory-mapped files.

use api::ids::Digest;
use axum::{
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, Method, StatusCode},
    response::Response,
};
use bytes::Bytes;
use fleet::blob::answer;

use super::{Peer, refuse};
use rest::causes;

use crate::{clock, provisioner::Provisioner};

pub(super) async fn serve(
    State(provisioner): State<Provisioner>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    method: Method,
    headers: HeaderMap,
    Path(hex): Path<String>,
) -> Response {
    let Ok(digest) = format!("sha256:{hex}").parse::<Digest>() else {
        return refuse(StatusCode::BAD_REQUEST, "not a SHA-256 digest");
    };
    if !provisioner.0.images.table().is_artifact(&digest) {
        return refuse(StatusCode::NOT_FOUND, "no image version has this file");
    }
    match provisioner.0.images.map(&digest) {
        Ok(mapped) => answer(&method, &headers, &digest, Bytes::from_owner(mapped)),
        Err(error) => {
            let refusals = &provisioner.0.refusals;
            if let Some(times) = refusals.count("unreadable file", peer.remote.ip(), clock::now()) {
                tracing::error!("cannot serve {digest}: {}{times}", causes(&error));
            }
            refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the file cannot be read; see the server's log",
            )
        }
    }
}
