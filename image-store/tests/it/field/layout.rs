//! Layouts in the shapes that tools give them.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use api::ids::Digest;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::image::digest;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Packing {
    Plain,
    Gzip,
    /// Many gzip members, as pigz, bgzip and eStargz write.
    GzipMembers,
    Zstd,
    /// Frames, each after one to be skipped, as pzstd writes; podman's `zstd:chunked` ends with
    /// such.
    Pzstd,
}

impl Packing {
    pub(super) fn pack(self, tar: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => tar.to_vec(),
            Self::Gzip => gzip(tar),
            Self::GzipMembers => tar.chunks(700).flat_map(gzip).collect(),
            Self::Zstd => zstd::encode_all(tar, 3).unwrap(),
            Self::Pzstd => tar
                .chunks(700)
                .flat_map(|part| {
                    let frame = zstd::encode_all(part, 3).unwrap();
                    let skipped = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0];
                    let size = u32::try_from(frame.len()).unwrap().to_le_bytes();
                    [&skipped[..], &size, &frame].concat()
                })
                .collect(),
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Plain => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip | Self::GzipMembers => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd | Self::Pzstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layout under construction.
pub(super) struct Layout(PathBuf);

/// What refers to a blob of it.
pub(super) type Descriptor = Value;

pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Layout {
    pub(super) fn new(directory: &Path) -> Self {
        fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
        Self(directory.to_owned())
    }

    pub(super) fn put(&self, bytes: &[u8], media_type: &str) -> Descriptor {
        fs::write(self.0.join("blobs/sha256").join(digest(bytes).hex()), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
    }

    pub(super) fn put_json(&self, document: &Value, media_type: &str) -> Descriptor {
        self.put(document.to_string().as_bytes(), media_type)
    }

    /// Layers, and the digests of what they unpack to.
    pub(super) fn layers(&self, layers: &[(Vec<u8>, Packing)]) -> (Vec<Descriptor>, Vec<Digest>) {
        let put = |(tar, packing): &(Vec<u8>, Packing)| {
            self.put(&packing.pack(tar), packing.media_type())
        };
        (layers.iter().map(put).collect(), layers.iter().map(|(tar, _)| digest(tar)).collect())
    }

    /// A manifest with a config for `platform`; `more` goes into the config.
    pub(super) fn image(
        &self,
        platform: &Value,
        layers: &[(Vec<u8>, Packing)],
        more: Value,
    ) -> Descriptor {
        let (layers, ids) = self.layers(layers);
        let mut config = platform.clone();
        config["rootfs"] = json!({"type": "layers", "diff_ids": ids});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = self.put_json(&config, CONFIG);
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.put_json(&manifest, MANIFEST)
    }

    /// Writes `index.json`; the first entry gets the tag `1`.
    pub(super) fn end(self, mut entries: Vec<Descriptor>) {
        entries[0]["annotations"] = json!({"org.opencontainers.image.ref.name": "1"});
        let index = json!({"schemaVersion": 2, "manifests": entries});
        fs::write(self.0.join("index.json"), index.to_string()).unwrap();
    }
}

pub(super) fn amd64() -> Value {
    json!({"architecture": "amd64", "os": "linux"})
}

/// The plain layout of one image.
pub(super) fn write(directory: &Path, layers: &[(Vec<u8>, Packing)]) {
    let layout = Layout::new(directory);
    let entry = layout.image(&amd64(), layers, json!({}));
    layout.end(vec![entry]);
}
