//! The smallest image that can be imported, as an OCI image layout: a kernel that is none, an empty `modules.dep`, and
//! padding where a boot shall move some bytes.

use std::{fs, path::Path};

use anyhow::Context as _;
use api::ids::Digest;
use sha2::{Digest as _, Sha256};

/// Release of its kernel.
const RELEASE: &str = "6.1.0-test";

/// Digest of bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// Writes a layout with the tag `1`. `padding` bytes, which no compression makes smaller, are in the kernel and in the root
/// each.
///
/// # Errors
/// If a file cannot be written.
pub fn write_layout(folder: &Path, padding: usize) -> anyhow::Result<()> {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("cannot make {}", blobs.display()))?;
    let put = |bytes: &[u8], kind: &str| -> anyhow::Result<serde_json::Value> {
        let path = blobs.join(digest(bytes).hex());
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        let kind = format!("application/vnd.oci.image.{kind}");
        Ok(serde_json::json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()}))
    };
    let layer = layer(padding)?;
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(config.to_string().as_bytes(), "config.v1+json")?,
        "layers": [put(&layer, "layer.v1.tar")?],
    });
    let mut entry = put(manifest.to_string().as_bytes(), "manifest.v1+json")?;
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "1"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    for (name, text) in
        [("index.json", index.to_string()), ("oci-layout", r#"{"imageLayoutVersion": "1.0.0"}"#.to_owned())]
    {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn layer(padding: usize) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let modules = format!("lib/modules/{RELEASE}");
    let mut kernel = b"not really a kernel".to_vec();
    kernel.extend(noise(padding, 1));
    let files = [
        (format!("{modules}/modules.dep"), Vec::new()),
        (format!("{modules}/vmlinuz"), kernel),
        ("usr/share/padding".to_owned(), noise(padding, 2)),
    ];
    for (path, content) in
        files.iter().filter(|(path, content)| !content.is_empty() || path.starts_with("lib"))
    {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content.as_slice())?;
    }
    Ok(tar.into_inner()?)
}

/// Bytes that look random and are the same each time.
fn noise(bytes: usize, part: u64) -> Vec<u8> {
    let mut dice = crate::dice::Dice::new(0, part);
    (0..bytes.div_ceil(8)).flat_map(|_| dice.next().to_le_bytes()).take(bytes).collect()
}
