//! Image layouts that are not what they should be.

use std::{error::Error as _, fs};

use image_store::{NoProgress, OciError, OciImage, Platform, Store, oci::import_layout};
use tempfile::TempDir;

use crate::image::{add_to_layout, digest, kernel_layer, noise, write_layout};

fn import(directory: &TempDir, reference: &str) -> Result<OciImage, OciError> {
    let store = Store::open(directory.path().join("store")).unwrap();
    let reference = format!("{}/layout{reference}", directory.path().display());
    import_layout(&store, &reference, &Platform::default(), &NoProgress)
}

/// The error and its cause, without the directory of this run.
fn told(directory: &TempDir, error: &OciError) -> String {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}").replace(&directory.path().display().to_string(), "TMP")
}

#[test]
fn a_sound_layout_comes_whole() {
    let directory = tempfile::tempdir().unwrap();
    let layers = [kernel_layer(), noise(1 << 20)];
    write_layout(&directory.path().join("layout"), "amd64", &layers);
    let image = import(&directory, "").unwrap();
    assert_eq!(import(&directory, ":1").unwrap(), image);
    let store = Store::open(directory.path().join("store")).unwrap();
    for (layer, bytes) in image.layers.iter().zip(&layers) {
        assert_eq!(store.map(&layer.digest).unwrap().as_ref(), bytes.as_slice());
    }
    assert!(store.contains(&image.manifest));
}

/// skopeo and containerd write whole references as names of the images in a layout.
#[test]
fn a_tag_may_be_a_whole_reference() {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout");
    let names = ["registry.example/site/node:12", "registry.example/site/node:13"];
    for (name, size) in names.iter().zip([10, 20]) {
        add_to_layout(&layout, "amd64", name, &[kernel_layer(), noise(size)]);
    }
    for (name, size) in names.iter().zip([10, 20]) {
        let image = import(&directory, &format!(":{name}")).unwrap();
        assert_eq!(image.layers[1].size, size);
    }
    let error = import(&directory, ":registry.example/site/node:14").unwrap_err();
    assert_eq!(
        told(&directory, &error),
        "TMP/layout holds registry.example/site/node:12, registry.example/site/node:13; name one of \
         them: oci:DIR:TAG"
    );
    // A directory may have a colon of its own.
    fs::rename(&layout, directory.path().join("layout:a")).unwrap();
    assert_eq!(import(&directory, ":a:registry.example/site/node:12").unwrap().layers[1].size, 10);
}

#[test]
fn a_falsified_layer_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let layers = [kernel_layer(), noise(1 << 20)];
    let paths = write_layout(&directory.path().join("layout"), "amd64", &layers);
    let mut bytes = layers[1].clone();
    bytes[77] ^= 1;
    fs::write(&paths[1], &bytes).unwrap();
    let error = import(&directory, "").unwrap_err();
    let (expected, got) = (digest(&layers[1]), digest(&bytes));
    assert_eq!(
        told(&directory, &error),
        format!(
            "cannot take layer {expected}: digest mismatch: expected {expected}, got {got}; the source is damaged or was \
             tampered with"
        )
    );
    let store = Store::open(directory.path().join("store")).unwrap();
    assert!(!store.contains(&expected) && !store.contains(&got));
    assert_eq!(fs::read_dir(store.root().join("partial")).unwrap().count(), 0);
}

#[test]
fn a_layer_that_is_cut_off_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let layers = [noise(100_000)];
    let paths = write_layout(&directory.path().join("layout"), "amd64", &layers);
    fs::write(&paths[0], &layers[0][..70_000]).unwrap();
    let layer = digest(&layers[0]);
    assert_eq!(
        told(&directory, &import(&directory, "").unwrap_err()),
        format!("cannot take layer {layer}: {layer} should have 100000 bytes, got 70000")
    );
    fs::remove_file(&paths[0]).unwrap();
    assert_eq!(
        told(&directory, &import(&directory, "").unwrap_err()),
        format!(
            "cannot read TMP/layout/blobs/sha256/{} of the OCI image layout: No such file or directory (os error 2)",
            layer.hex()
        )
    );
    // Mended, the same import goes through.
    fs::write(&paths[0], &layers[0]).unwrap();
    import(&directory, "").unwrap();
}

#[test]
fn another_architecture_and_another_tag_are_named() {
    let directory = tempfile::tempdir().unwrap();
    write_layout(&directory.path().join("layout"), "arm64", &[kernel_layer()]);
    assert_eq!(
        told(&directory, &import(&directory, "").unwrap_err()),
        "there is no image for linux/amd64 here, only for linux/arm64; ask for one of those (--platform), or import \
         another image"
    );
    assert_eq!(
        told(&directory, &import(&directory, ":2").unwrap_err()),
        "TMP/layout holds 1; name one of them: oci:DIR:TAG"
    );
    assert_eq!(
        told(&directory, &import(&directory, "/nothing").unwrap_err()),
        "cannot read TMP/layout/nothing/index.json of the OCI image layout: No such file or directory (os error 2)"
    );
}

/// Of several variants the highest that is not above the wanted one is taken, wherever it stands.
#[test]
fn a_variant_is_chosen_as_containerd_chooses() {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout");
    for (tag, size) in [("v5", 5), ("v7", 7), ("v6", 6), ("8", 8)] {
        add_to_layout(&layout, "arm", tag, &[noise(size)]);
    }
    // The entries are told apart by their platforms instead of tags.
    let path = layout.join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for entry in index["manifests"].as_array_mut().unwrap() {
        let tag = entry["annotations"].take();
        let variant = tag["org.opencontainers.image.ref.name"].clone();
        entry["platform"] =
            serde_json::json!({"os": "linux", "architecture": "arm", "variant": variant});
    }
    fs::write(&path, index.to_string()).unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    let import = |platform: &str| {
        let image = import_layout(
            &store,
            layout.to_str().unwrap(),
            &platform.parse().unwrap(),
            &NoProgress,
        );
        image.map(|image| (image.layers[0].size, image.variant)).map_err(|error| error.to_string())
    };
    assert_eq!(import("linux/arm/v6"), Ok((6, Some("v6".to_owned()))));
    assert_eq!(import("linux/arm"), Ok((7, Some("v7".to_owned()))));
    assert_eq!(import("linux/arm/v9"), Ok((8, Some("v8".to_owned()))));
    assert_eq!(
        import("linux/arm64").unwrap_err(),
        "there is no image for linux/arm64 here, only for linux/arm/v5, linux/arm/v6, linux/arm/v7, \
         linux/arm/v8; ask for one of those (--platform), or import another image"
    );
}
