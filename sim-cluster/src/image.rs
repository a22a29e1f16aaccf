//! The smallest image that can be imported, as an OCI image layout: a kernel that is none, an empty
//! `modules.dep`, and padding where some bytes shall move.

use std::{
    fs::{self, File},
    io::{BufReader, Write as _, copy},
    path::Path,
};

use anyhow::Context as _;
use api::ids::Digest;
use fastrand::Rng;
use sha2::{Digest as _, Sha256};

/// Release of its kernel.
const RELEASE: &str = "6.1.0-test";

/// Bytes that no compression makes smaller.
#[derive(Debug, Clone, Copy, Default)]
pub struct Padding {
    /// So many in the kernel.
    pub kernel_bytes: usize,
    /// So many in the root.
    pub root_bytes: usize,
}

/// Digest of bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// Writes a layout with the tag `1` into a directory, and returns the source for its import.
///
/// # Errors
/// If a file cannot be written.
pub fn write_layout(directory: &Path, padding: Padding) -> anyhow::Result<String> {
    let blobs = directory.join("blobs/sha256");
    harness::workspace::make(&blobs)?;
    let put = |bytes: &[u8], kind: &str| -> anyhow::Result<serde_json::Value> {
        write(&blobs.join(digest(bytes).hex()), bytes)?;
        Ok(descriptor(kind, digest(bytes), bytes.len() as u64))
    };
    let (layer, size) = write_layer(&blobs, padding).context("cannot write the layer")?;
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer]},
    });
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(config.to_string().as_bytes(), "config.v1+json")?,
        "layers": [descriptor("layer.v1.tar", layer, size)],
    });
    let mut entry = put(manifest.to_string().as_bytes(), "manifest.v1+json")?;
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "1"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    write(&directory.join("index.json"), index.to_string().as_bytes())?;
    write(&directory.join("oci-layout"), br#"{"imageLayoutVersion": "1.0.0"}"#)?;
    Ok(format!("oci:{}:1", directory.display()))
}

fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

fn descriptor(kind: &str, digest: Digest, size: u64) -> serde_json::Value {
    let kind = format!("application/vnd.oci.image.{kind}");
    serde_json::json!({"mediaType": kind, "digest": digest, "size": size})
}

/// The layer under its digest, and its size.
fn write_layer(blobs: &Path, padding: Padding) -> anyhow::Result<(Digest, u64)> {
    let path = blobs.join("layer");
    let mut tar = tar::Builder::new(File::create(&path)?);
    let modules = format!("lib/modules/{RELEASE}");
    let mut kernel = b"not really a kernel".to_vec();
    kernel.extend(noise(padding.kernel_bytes, 1));
    add(&mut tar, &format!("{modules}/modules.dep"), b"")?;
    add(&mut tar, &format!("{modules}/vmlinuz"), &kernel)?;
    if padding.root_bytes > 0 {
        add(&mut tar, "usr/share/padding", &noise(padding.root_bytes, 2))?;
    }
    tar.into_inner()?.flush()?;
    let mut hash = Sha256::new();
    let size = copy(&mut BufReader::new(File::open(&path)?), &mut hash)?;
    let digest = Digest(hash.finalize().into());
    fs::rename(&path, blobs.join(digest.hex()))?;
    Ok((digest, size))
}

fn add(tar: &mut tar::Builder<File>, path: &str, content: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content)
}

/// Bytes that look random and are the same each time.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    Rng::with_seed(seed).fill(&mut bytes);
    bytes
}
