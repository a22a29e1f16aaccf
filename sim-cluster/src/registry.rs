//! A registry with one image, for jobs: what the OCI distribution specification wants for a pull
//! (section "Pulling manifests" and "Pulling blobs"), read from an image layout.
//!
//! It listens on loopback of the server's namespace, where plain HTTP is let through.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{Path as UrlPath, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};

use crate::network::Network;

/// Where it listens: named in the server's configuration, since it is on loopback.
pub(crate) const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

/// The image, as documents name it.
pub(crate) const IMAGE: &str = "docker://127.0.0.1:5000/tiny:1";

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// The layout's blobs and the digest of its one manifest.
#[derive(Debug)]
struct Layout {
    blobs: PathBuf,
    manifest: String,
}

/// Serves a layout for as long as the runtime lives.
///
/// # Errors
/// If the layout cannot be read, or the port is taken.
pub(crate) fn serve(network: &Network, layout: &Path) -> anyhow::Result<()> {
    let index = layout.join("index.json");
    let text = std::fs::read(&index).with_context(|| format!("cannot read {}", index.display()))?;
    let parsed: serde_json::Value = serde_json::from_slice(&text)?;
    let manifest =
        parsed["manifests"][0]["digest"].as_str().context("the layout has no manifest")?.to_owned();
    let layout = Arc::new(Layout { blobs: layout.join("blobs/sha256"), manifest });
    let routes = Router::new()
        .route("/v2/", get(|| async { "{}" }))
        .route("/v2/{name}/manifests/{reference}", get(manifest_of))
        .route("/v2/{name}/blobs/{digest}", get(blob_of))
        .with_state(layout);
    let listener = tokio::net::TcpListener::from_std(network.listen_beside_server(ADDRESS)?)?;
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(())
}

async fn manifest_of(
    State(layout): State<Arc<Layout>>,
    UrlPath((_, reference)): UrlPath<(String, String)>,
) -> Response {
    let digest = if reference.starts_with("sha256:") { reference } else { layout.manifest.clone() };
    answer(&layout, &digest, MANIFEST_TYPE)
}

async fn blob_of(
    State(layout): State<Arc<Layout>>,
    UrlPath((_, digest)): UrlPath<(String, String)>,
) -> Response {
    answer(&layout, &digest, "application/octet-stream")
}

fn answer(layout: &Layout, digest: &str, kind: &'static str) -> Response {
    let hex = digest.trim_start_matches("sha256:");
    let is_digest = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bytes = if is_digest { std::fs::read(layout.blobs.join(hex)).ok() } else { None };
    let (Some(bytes), Ok(shown)) = (bytes, HeaderValue::from_str(digest)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert("docker-content-digest", shown);
    (headers, bytes).into_response()
}
