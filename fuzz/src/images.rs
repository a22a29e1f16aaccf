//! What a registry sends: layers, manifests and configurations.

use api::{ids::Digest, image::Platform};
use image_store::{
    fuzzing::{MAX_MERGE_STEPS, merge_layers},
    layer::MAX_LAYERS,
    oci::{Document, choose, describe, digest_of},
};

/// What the layers of one input may make the converter hold, bytes.
const BUDGET_BYTES: u64 = 32 << 20;

/// Contents that are read of one input, bytes.
const MAX_CONTENT_BYTES: u64 = 8 << 20;

/// Two layers: the first has the length that the first four bytes say (big-endian), the
/// second the rest.
pub(crate) fn layers(input: &[u8]) -> bool {
    let Some((length, rest)) = input.split_first_chunk::<4>() else { return false };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX).min(rest.len());
    let (lower, upper) = rest.split_at(length);
    let Ok(merged) = merge_layers(&[lower, upper], BUDGET_BYTES, MAX_CONTENT_BYTES) else {
        return false;
    };
    assert!(merged.held_bytes <= BUDGET_BYTES, "{} bytes are held", merged.held_bytes);
    assert!(merged.steps <= MAX_MERGE_STEPS, "{} steps", merged.steps);
    for (name, depth) in &merged.names {
        let is_name = !name.contains(&b'/') && !matches!(name.as_slice(), b"" | b"." | b"..");
        assert!(is_name && !name.contains(&0), "{name:?} is no name");
        assert!(*depth <= 4096, "{name:?} is {depth} deep");
    }
    !merged.names.is_empty()
}

/// A manifest or index and, behind a byte of zero, a configuration.
pub(crate) fn manifest(input: &[u8]) -> bool {
    let mut documents = input.splitn(2, |byte| *byte == 0);
    let (manifest, config) =
        (documents.next().unwrap_or_default(), documents.next().unwrap_or_default());
    let digest = Digest([0; 32]);
    let platform = Platform::new("linux", "amd64", None);
    match Document::parse(&digest, manifest) {
        Err(_) => false,
        Ok(Document::Index(index)) => {
            let entries: Vec<_> = index.manifests().iter().collect();
            let Ok(chosen) = choose(&entries, &platform) else { return false };
            assert!(
                entries.iter().any(|entry| std::ptr::eq(*entry, chosen)),
                "it is one of those there"
            );
            digest_of(&digest, chosen).is_ok()
        }
        Ok(Document::Manifest(manifest)) => {
            let Ok(image) = describe(&digest, &manifest, config, &platform) else { return false };
            assert_eq!(image.layers.len(), manifest.layers().len(), "no layer is lost");
            assert!(
                (1..=MAX_LAYERS).contains(&image.layers.len()),
                "{} layers",
                image.layers.len()
            );
            assert_eq!(image.manifest, digest);
            for (layer, descriptor) in image.layers.iter().zip(manifest.layers()) {
                assert_eq!(
                    layer.digest.to_string(),
                    descriptor.digest().to_string().to_lowercase()
                );
                assert_eq!(layer.size, descriptor.size());
            }
            true
        }
    }
}
