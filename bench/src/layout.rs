//! A small OS image as an OCI image layout: a kernel that nobody boots, and as many bytes as are wanted.
//!
//! For benchmarks that need an image in the server and do not measure its import.

use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::data::noise;

/// Release of its kernel.
const RELEASE: &str = "6.1.0-bench";

/// Writes a layout with the tag `1` into an empty folder; returns the source for an import.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write(folder: &Path, noise_bytes: usize) -> anyhow::Result<String> {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("cannot make {}", blobs.display()))?;
    let (layer, digest, size) = layer(&blobs, noise_bytes)?;
    fs::rename(&layer, blobs.join(&digest))?;
    let put = |json: &serde_json::Value, kind: &str| -> anyhow::Result<serde_json::Value> {
        let text = json.to_string();
        let digest = hex(&Sha256::digest(&text));
        fs::write(blobs.join(&digest), &text)?;
        Ok(descriptor(kind, &digest, text.len() as u64))
    };
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(&config, "config.v1+json")?,
        "layers": [descriptor("layer.v1.tar", &digest, size)],
    });
    let mut entry = put(&manifest, "manifest.v1+json")?;
    entry["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": "1" });
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [entry] });
    fs::write(folder.join("index.json"), index.to_string())?;
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#)?;
    Ok(format!("oci:{}:1", folder.display()))
}

fn descriptor(kind: &str, digest: &str, size: u64) -> serde_json::Value {
    serde_json::json!({
        "mediaType": format!("application/vnd.oci.image.{kind}"),
        "digest": format!("sha256:{digest}"),
        "size": size,
    })
}

/// The layer in a file without its name yet, its digest and its size.
fn layer(blobs: &Path, noise_bytes: usize) -> anyhow::Result<(PathBuf, String, u64)> {
    let path = blobs.join("layer");
    let mut tar = tar::Builder::new(File::create(&path)?);
    let modules = format!("lib/modules/{RELEASE}");
    add(&mut tar, &format!("{modules}/modules.dep"), b"")?;
    add(&mut tar, &format!("{modules}/vmlinuz"), b"not really a kernel")?;
    add(&mut tar, "srv/noise", &noise(noise_bytes, 3))?;
    tar.into_inner()?.sync_all()?;
    let mut hash = Sha256::new();
    let size = std::io::copy(&mut BufReader::new(File::open(&path)?), &mut hash)?;
    Ok((path, hex(&hash.finalize()), size))
}

fn add(tar: &mut tar::Builder<File>, path: &str, content: &[u8]) -> anyhow::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    Ok(tar.append_data(&mut header, path, content)?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
