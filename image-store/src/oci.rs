//! OCI images: manifests, the choice of a platform, and image layouts on disk (`oci:DIR[:TAG]`).
//!
//! An image layout (OCI image-spec, `image-layout.md`) is a directory with `oci-layout`,
//! `index.json` and `blobs/sha256/HEX`. [`import_layout`] copies manifest, config and layers of one
//! image into the store, verified. `oci-pull` uses [`Document`], [`choose`] and [`describe`] on
//! what a registry sends.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use api::{ids::Digest, image::Platform};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use serde::{Deserialize, Serialize};

use crate::{
    layer::{Layer, MAX_LAYERS},
    platform::fitness,
    progress::Progress,
    store::{CHUNK_BYTES, Store, StoreError},
};

/// Largest manifest, index or config, bytes: registries are to take 4 MiB (distribution-spec).
pub const MAX_DOCUMENT_BYTES: u64 = 4 << 20;

/// Indexes within indexes that are followed; one level is common, more is rare.
pub const MAX_INDEX_DEPTH: usize = 4;

/// Layers that are copied at the same time: enough for a disk to be busy while a core hashes.
const COPY_THREADS: usize = 4;

/// Annotation of an entry of `index.json` that holds its tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An image whose layers are in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OciImage {
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Indexes of the store that led to the manifest, the outermost first. None where it was named
    /// itself, and of an image layout, whose index is a file beside its blobs.
    #[serde(default)]
    pub indexes: Vec<Digest>,
    /// `amd64`, `arm64`…
    pub architecture: String,
    /// The variant of the architecture, where one is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// How a container of it runs by default. Images that were taken before this was
    /// kept have none.
    #[serde(default)]
    pub run: RunConfig,
}

/// How a container of an image runs by default (OCI image-spec, `config.md`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RunConfig {
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Arguments, or program and arguments where there is no entrypoint.
    pub cmd: Vec<String>,
    /// Working directory.
    pub working_dir: Option<String>,
}

/// Why an image cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The directory is not an image layout, or a file of it cannot be read.
    #[error("cannot read {} of the OCI image layout", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The layout has no image of this tag, or several images and no tag was given.
    #[error("{} holds {}; name one of them: oci:DIR:TAG", path.display(), list(available))]
    Tag {
        /// The directory.
        path: PathBuf,
        /// The tags there are.
        available: Vec<String>,
    },
    /// A manifest, index or config is not what it should be.
    #[error("{what} {digest} is not valid: {problem}")]
    Document {
        /// `manifest`, `index`, `config`.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// What is wrong.
        problem: String,
    },
    /// There is no image for this platform.
    #[error(
        "there is no image for {wanted} here, only for {}; ask for one of those (--platform), or import another \
         image",
        list(available)
    )]
    Platform {
        /// What was asked for.
        wanted: Platform,
        /// What there is.
        available: Vec<String>,
    },
    /// A blob cannot be stored.
    #[error("cannot take {what} {digest}")]
    Blob {
        /// `manifest`, `config`, `layer`.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
}

fn list(words: &[String]) -> String {
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

/// What a manifest digest can lead to.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// Several images, one for each platform.
    Index(Box<ImageIndex>),
    /// One image.
    Manifest(Box<ImageManifest>),
}

impl Document {
    /// Parses an OCI or Docker (schema 2) manifest, index or manifest list.
    ///
    /// # Errors
    /// [`OciError::Document`].
    pub fn parse(digest: &Digest, bytes: &[u8]) -> Result<Self, OciError> {
        #[derive(Deserialize)]
        struct Shape {
            manifests: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
        }
        let invalid = |what, problem: String| OciError::Document { what, digest: *digest, problem };
        let shape: Shape =
            serde_json::from_slice(bytes).map_err(|e| invalid("manifest", e.to_string()))?;
        match shape {
            Shape { manifests: Some(_), .. } => serde_json::from_slice(bytes)
                .map(|index| Self::Index(Box::new(index)))
                .map_err(|e| invalid("index", e.to_string())),
            Shape { layers: Some(_), .. } => serde_json::from_slice(bytes)
                .map(|manifest| Self::Manifest(Box::new(manifest)))
                .map_err(|e| invalid("manifest", e.to_string())),
            _ => Err(invalid(
                "manifest",
                "it has neither layers nor manifests (Docker schema 1?)".to_owned(),
            )),
        }
    }
}

/// Chooses the entry that fits `platform` best, as containerd does: of several variants the highest
/// that is not above the wanted one. `os.version` and features are not looked at; Linux has none.
/// An entry without a platform counts only where it is the only one.
///
/// # Errors
/// [`OciError::Platform`], which lists what is there.
pub fn choose<'a>(
    entries: &[&'a Descriptor],
    platform: &Platform,
) -> Result<&'a Descriptor, OciError> {
    if let [only] = entries
        && stated(only).is_none()
    {
        return Ok(*only);
    }
    // Of those that fit alike the first is taken.
    let fit = |entry: &&'a Descriptor| Some((fitness(platform, &stated(entry)?)?, *entry));
    let best = entries.iter().rev().filter_map(fit).max_by_key(|(fitness, _)| *fitness);
    best.map(|(_, entry)| entry).ok_or_else(|| {
        let mut available: Vec<String> = entries
            .iter()
            .filter_map(|entry| stated(entry))
            .map(|platform| platform.to_string())
            .collect();
        available.sort_unstable();
        available.dedup();
        OciError::Platform { wanted: platform.clone(), available }
    })
}

/// The platform that an entry of an index states, if it states one. What comes with an image and is
/// none (attestations) is of `unknown/unknown`.
fn stated(entry: &Descriptor) -> Option<Platform> {
    let platform = entry.platform().as_ref()?;
    let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
    let is_one = !matches!(architecture.as_str(), "" | "unknown");
    is_one.then(|| Platform::new(&os, &architecture, platform.variant().as_deref()))
}

/// Digest of a descriptor.
///
/// # Errors
/// [`OciError::Document`] for anything but SHA-256; `parent` is the document that holds
/// the descriptor.
pub fn digest_of(parent: &Digest, descriptor: &Descriptor) -> Result<Digest, OciError> {
    let text = descriptor.digest().to_string();
    text.parse().map_err(|_| OciError::Document {
        what: "manifest",
        digest: *parent,
        problem: format!("the digest {text} is not a sha256 digest"),
    })
}

/// Puts together what is known of an image: its platform is checked, its layers are listed. A
/// config that says no variant is believed to have the wanted one: many lack it, and it was chosen
/// by an index that has it.
///
/// # Errors
/// [`OciError::Document`], [`OciError::Platform`].
pub fn describe(
    digest: &Digest,
    manifest: &ImageManifest,
    config: &[u8],
    platform: &Platform,
) -> Result<OciImage, OciError> {
    let invalid = |what, problem: String| OciError::Document { what, digest: *digest, problem };
    let config: ImageConfiguration =
        serde_json::from_slice(config).map_err(|e| invalid("config of", e.to_string()))?;
    let said = config.variant().as_deref().filter(|variant| !variant.is_empty());
    let variant = said.or_else(|| platform.variant());
    let is = Platform::new(&config.os().to_string(), &config.architecture().to_string(), variant);
    if fitness(platform, &is).is_none() {
        return Err(OciError::Platform {
            wanted: platform.clone(),
            available: vec![is.to_string()],
        });
    }
    if manifest.layers().is_empty() || manifest.layers().len() > MAX_LAYERS {
        let count = manifest.layers().len();
        return Err(invalid(
            "manifest",
            format!("it has {count} layers; 1 to {MAX_LAYERS} are taken"),
        ));
    }
    let diff_ids = diff_ids(digest, &config, manifest.layers().len())?;
    let mut layers = Vec::with_capacity(manifest.layers().len());
    for (descriptor, diff_id) in manifest.layers().iter().zip(diff_ids) {
        let media_type = descriptor.media_type().to_string();
        if !media_type.contains("tar") || media_type.contains("encrypted") {
            return Err(invalid(
                "manifest",
                format!("a layer is of media type {media_type}, not a tar"),
            ));
        }
        let (digest, size) = (digest_of(digest, descriptor)?, descriptor.size());
        layers.push(Layer { digest, size, media_type, diff_id });
    }
    let run = config.config().as_ref().map_or_else(RunConfig::default, |config| RunConfig {
        env: config.env().clone().unwrap_or_default(),
        entrypoint: config.entrypoint().clone().unwrap_or_default(),
        cmd: config.cmd().clone().unwrap_or_default(),
        working_dir: config.working_dir().clone().filter(|directory| !directory.is_empty()),
    });
    let (architecture, variant) = (is.architecture().to_owned(), is.variant().map(str::to_owned));
    Ok(OciImage { manifest: *digest, indexes: Vec::new(), architecture, variant, layers, run })
}

/// What the configuration says of the tar of each layer; nothing where it says nothing at all.
fn diff_ids(
    digest: &Digest,
    config: &ImageConfiguration,
    layers: usize,
) -> Result<Vec<Option<Digest>>, OciError> {
    let invalid = |problem| OciError::Document { what: "config of", digest: *digest, problem };
    let said = config.rootfs().diff_ids();
    if said.is_empty() {
        return Ok(vec![None; layers]);
    }
    if said.len() != layers {
        let said = said.len();
        return Err(invalid(format!(
            "it names {said} layers (rootfs.diff_ids), and the manifest has {layers}"
        )));
    }
    let parse = |text: &String| {
        text.parse()
            .map(Some)
            .map_err(|_| invalid(format!("{text} in rootfs.diff_ids is no sha256 digest")))
    };
    said.iter().map(parse).collect()
}

/// Copies an image of a layout into the store. `reference` is `DIR[:TAG]`.
///
/// # Errors
/// Any [`OciError`]. Layers that were whole stay in the store.
pub fn import_layout(
    store: &Store,
    reference: &str,
    platform: &Platform,
    progress: &dyn Progress,
) -> Result<OciImage, OciError> {
    let layout = Layout::of(reference);
    let index = layout.index()?;
    let mut entry = layout.entry(&index, platform)?.clone();
    let mut parent = Digest([0; 32]);
    let mut of_index = None;
    for _ in 0..MAX_INDEX_DEPTH {
        of_index = stated(&entry).or(of_index);
        let digest = digest_of(&parent, &entry)?;
        let bytes = layout.document(store, "manifest", &digest)?;
        match Document::parse(&digest, &bytes)? {
            Document::Index(index) => {
                entry = choose(&index.manifests().iter().collect::<Vec<_>>(), platform)?.clone();
                parent = digest;
            }
            Document::Manifest(manifest) => {
                let config = digest_of(&digest, manifest.config())?;
                let config = layout.document(store, "config", &config)?;
                let mut image = describe(&digest, &manifest, &config, platform)?;
                if let Some(of_index) = of_index {
                    image.variant = of_index.variant().map(str::to_owned);
                }
                layout.copy_layers(store, &image.layers, progress)?;
                return Ok(image);
            }
        }
    }
    Err(OciError::Document {
        what: "index",
        digest: parent,
        problem: format!("more than {MAX_INDEX_DEPTH} indexes lie within each other"),
    })
}

/// A directory in OCI image layout.
struct Layout {
    directory: PathBuf,
    tag: Option<String>,
}

impl Layout {
    /// Splits `DIR[:TAG]` at the first colon, as skopeo does: a tag is any reference name, and
    /// those of the image-spec hold `/` and `:` (`registry.example/site/node:12`). A directory
    /// whose own name has a colon is found by being there.
    fn of(reference: &str) -> Self {
        let colons = reference.match_indices(':').map(|(at, _)| at);
        let ends: Vec<usize> = colons.chain([reference.len()]).collect();
        let is_layout = |end: &&usize| Path::new(&reference[..**end]).join("index.json").is_file();
        let end = ends.iter().find(is_layout).or(ends.first()).copied().unwrap_or(reference.len());
        let tag = reference.get(end + 1..).map(str::to_owned);
        Self { directory: reference[..end].into(), tag }
    }

    fn index(&self) -> Result<ImageIndex, OciError> {
        let path = self.directory.join("index.json");
        let failed = |source| OciError::Read { path: path.clone(), source };
        let file = File::open(&path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        serde_json::from_slice(&bytes).map_err(|e| failed(e.into()))
    }

    /// The entry that the tag and the platform choose.
    fn entry<'a>(
        &self,
        index: &'a ImageIndex,
        platform: &Platform,
    ) -> Result<&'a Descriptor, OciError> {
        let tag =
            |entry: &'a Descriptor| entry.annotations().as_ref().and_then(|a| a.get(REF_NAME));
        let mut tags: Vec<String> = index.manifests().iter().filter_map(tag).cloned().collect();
        tags.sort_unstable();
        tags.dedup();
        let wanted: Vec<&Descriptor> = index
            .manifests()
            .iter()
            .filter(|entry| self.tag.is_none() || tag(entry) == self.tag.as_ref())
            .collect();
        if wanted.is_empty() || (self.tag.is_none() && tags.len() > 1) {
            return Err(OciError::Tag { path: self.directory.clone(), available: tags });
        }
        choose(&wanted, platform)
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs/sha256").join(digest.hex())
    }

    /// Copies a small blob into the store and returns it.
    fn document(
        &self,
        store: &Store,
        what: &'static str,
        digest: &Digest,
    ) -> Result<Vec<u8>, OciError> {
        let path = self.blob(digest);
        let failed = |source| OciError::Read { path: path.clone(), source };
        let bytes = match fs::metadata(&path).map_err(failed)?.len() {
            size if size <= MAX_DOCUMENT_BYTES => fs::read(&path).map_err(failed)?,
            size => {
                let problem =
                    format!("it has {size} bytes; at most {MAX_DOCUMENT_BYTES} are taken");
                return Err(OciError::Document { what, digest: *digest, problem });
            }
        };
        put_document(store, what, digest, &bytes)?;
        Ok(bytes)
    }

    fn copy_layers(
        &self,
        store: &Store,
        layers: &[Layer],
        progress: &dyn Progress,
    ) -> Result<(), OciError> {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = self.copy_layer(store, layer, progress) {
                    // The others need not begin another layer.
                    next.store(layers.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..COPY_THREADS.min(layers.len())).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }

    fn copy_layer(
        &self,
        store: &Store,
        layer: &Layer,
        progress: &dyn Progress,
    ) -> Result<(), OciError> {
        let path = self.blob(&layer.digest);
        let unreadable = |source| OciError::Read { path: path.clone(), source };
        let blob = |source| OciError::Blob { what: "layer", digest: layer.digest, source };
        let mut file = File::open(&path).map_err(unreadable)?;
        if let Some(mut writer) = store.writer(&layer.digest, layer.size).map_err(blob)? {
            writer.restart().map_err(blob)?;
            let mut buffer = vec![0; CHUNK_BYTES];
            loop {
                let count = file.read(&mut buffer).map_err(unreadable)?;
                if count == 0 {
                    break;
                }
                writer.write(&buffer[..count]).map_err(blob)?;
                progress.advance(&layer.label(), writer.offset(), layer.size);
                if progress.cancelled() {
                    return Err(OciError::Cancelled);
                }
            }
            writer.finish().map_err(blob)?;
        }
        progress.advance(&layer.label(), layer.size, layer.size);
        Ok(())
    }
}

/// Verifies a small blob and puts it into the store.
///
/// # Errors
/// [`OciError::Blob`].
pub fn put_document(
    store: &Store,
    what: &'static str,
    digest: &Digest,
    bytes: &[u8],
) -> Result<(), OciError> {
    let blob = |source| OciError::Blob { what, digest: *digest, source };
    if let Some(mut writer) = store.writer(digest, bytes.len() as u64).map_err(blob)? {
        writer.restart().map_err(blob)?;
        writer.write(bytes).map_err(blob)?;
        writer.finish().map_err(blob)?;
    }
    Ok(())
}
