//! The smallest image that can be imported, as an OCI image layout.

use std::{fs, path::Path};

use api::ids::Digest;
use sha2::{Digest as _, Sha256};

/// Release of its kernel.
const RELEASE: &str = "6.1.0-test";

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// Writes a layout with the tag `1`.
pub(crate) fn write_layout(folder: &Path) -> anyhow::Result<()> {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let put = |bytes: &[u8], kind: &str| -> anyhow::Result<serde_json::Value> {
        fs::write(blobs.join(digest(bytes).hex()), bytes)?;
        let kind = format!("application/vnd.oci.image.{kind}");
        Ok(serde_json::json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()}))
    };
    let layer = layer()?;
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
    fs::write(folder.join("index.json"), index.to_string())?;
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#)?;
    Ok(())
}

fn layer() -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let modules = format!("lib/modules/{RELEASE}");
    for (path, content) in [("modules.dep", &b""[..]), ("vmlinuz", b"not really a kernel")] {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, format!("{modules}/{path}"), content)?;
    }
    Ok(tar.into_inner()?)
}
