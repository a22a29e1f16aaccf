//! Small images, made as layers and as a layout on disk.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use api::ids::Digest;
use image_store::{BuildOptions, Layer, Store};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// Release of the kernel in [`kernel_layer`].
pub(crate) const RELEASE: &str = "6.1.0-test";

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// An entry of a layer.
pub(crate) enum Entry<'a> {
    Directory(&'a str, u32),
    File(&'a str, u32, &'a [u8]),
    Symlink(&'a str, &'a str),
    Hardlink(&'a str, &'a str),
    CharacterDevice(&'a str, u32, u32),
    Owned(&'a str, u64, u64),
    Attribute(&'a str, &'a str, &'a [u8]),
}

/// A layer of these entries.
pub(crate) fn layer(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_ustar();
        header.set_mtime(1_700_000_000);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(0o644);
        header.set_size(0);
        match entry {
            Entry::Directory(path, mode) => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(*mode);
                tar.append_data(&mut header, format!("{path}/"), io::empty()).unwrap();
            }
            Entry::File(path, mode, bytes) => {
                header.set_mode(*mode);
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, path, *bytes).unwrap();
            }
            Entry::Symlink(path, target) | Entry::Hardlink(path, target) => {
                let symbolic = matches!(entry, Entry::Symlink(..));
                header.set_entry_type(if symbolic { EntryType::Symlink } else { EntryType::Link });
                header.set_mode(0o777);
                tar.append_link(&mut header, path, target).unwrap();
            }
            Entry::CharacterDevice(path, major, minor) => {
                header.set_entry_type(EntryType::Char);
                header.set_device_major(*major).unwrap();
                header.set_device_minor(*minor).unwrap();
                tar.append_data(&mut header, path, io::empty()).unwrap();
            }
            Entry::Owned(path, uid, gid) => {
                header.set_uid(*uid);
                header.set_gid(*gid);
                tar.append_data(&mut header, path, io::empty()).unwrap();
            }
            Entry::Attribute(path, name, value) => {
                let key = format!("SCHILY.xattr.{name}");
                tar.append_pax_extensions([(key.as_str(), *value)]).unwrap();
                tar.append_data(&mut header, path, io::empty()).unwrap();
            }
        }
    }
    tar.into_inner().unwrap()
}

/// A layer with all that a kernel needs to be found.
pub(crate) fn kernel_layer() -> Vec<u8> {
    let modules = format!("lib/modules/{RELEASE}");
    let file = |name: &str| format!("{modules}/{name}");
    layer(&[
        Entry::Directory("lib", 0o755),
        Entry::File(&file("modules.dep"), 0o644, b""),
        Entry::File(&file("vmlinuz"), 0o600, b"not really a kernel"),
    ])
}

/// `size` bytes that do not compress.
pub(crate) fn noise(size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 32);
    let mut next = [0; 32];
    while bytes.len() < size {
        next = Sha256::digest(next).into();
        bytes.extend_from_slice(&next);
    }
    bytes.truncate(size);
    bytes
}

/// Puts layers into a store, as an import does.
pub(crate) fn put(store: &Store, layers: &[Vec<u8>]) -> Vec<Layer> {
    let put = |bytes: &Vec<u8>| {
        let (digest, size) = store.put(bytes.as_slice()).unwrap();
        let media_type = "application/vnd.oci.image.layer.v1.tar".to_owned();
        Layer { digest, size, media_type, diff_id: Some(self::digest(bytes)) }
    };
    layers.iter().map(put).collect()
}

/// Any file does as the substrate program: nothing here starts it.
pub(crate) fn options(directory: &Path) -> BuildOptions {
    let substrate = directory.join("substrate");
    fs::write(&substrate, "not really a program").unwrap();
    BuildOptions { substrate }
}

/// Writes an image layout with the tag `1`; returns the paths of its layers.
pub(crate) fn write_layout(
    directory: &Path,
    architecture: &str,
    layers: &[Vec<u8>],
) -> Vec<PathBuf> {
    add_to_layout(directory, architecture, "1", layers)
}

/// Adds an image to a layout, which is made if it is not there; returns the paths of its layers.
pub(crate) fn add_to_layout(
    directory: &Path,
    architecture: &str,
    tag: &str,
    layers: &[Vec<u8>],
) -> Vec<PathBuf> {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8], kind: &str| {
        fs::write(blobs.join(digest(bytes).hex()), bytes).unwrap();
        let kind = format!("application/vnd.oci.image.{kind}");
        serde_json::json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()})
    };
    let ids: Vec<Digest> = layers.iter().map(|layer| digest(layer)).collect();
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids},
    });
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(config.to_string().as_bytes(), "config.v1+json"),
        "layers": layers.iter().map(|layer| put(layer, "layer.v1.tar")).collect::<Vec<_>>(),
    });
    let mut entry = put(manifest.to_string().as_bytes(), "manifest.v1+json");
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": tag});
    let mut index = match fs::read(directory.join("index.json")) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
        Err(_) => serde_json::json!({"schemaVersion": 2, "manifests": []}),
    };
    index["manifests"].as_array_mut().unwrap().push(entry);
    fs::write(directory.join("index.json"), index.to_string()).unwrap();
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    ids.iter().map(|id| blobs.join(id.hex())).collect()
}
