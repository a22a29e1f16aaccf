//! Imports from image layouts: what they make, what they say of a bad image, and what a cut-off one
//! leaves.

use std::{fs, io::Write as _, path::PathBuf, time::Duration};

use api::{
    ids::ImageName,
    image::{ImportImage, Operation, OperationState, VersionProblem},
};
use nix::{sys::stat::Mode, unistd::mkfifo};
use tar::{Builder, Header};
use tempfile::TempDir;

use super::*;
use crate::{MAX_CONVERSIONS, store::sql::SqlStore};

mod deletion;

/// How long an import of a few bytes may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// A server's state directory with an image layout beside it.
struct Site {
    directory: TempDir,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("substrate"), "not really a program").unwrap();
        fs::create_dir(directory.path().join("state")).unwrap();
        Self { directory }
    }

    async fn open(&self) -> OsImages {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = Arc::new(SqlStore::in_directory(&self.path("state")).await);
        OsImages::open(store, self.config()).await.unwrap()
    }

    fn config(&self) -> OsImagesConfig {
        OsImagesConfig {
            state_dir: self.path("state"),
            substrate: self.path("substrate"),
            registries: Arc::default(),
            converter: Converter::in_this_process(),
            conversions: Turns::new(MAX_CONVERSIONS),
            access: None,
        }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    fn blob(&self, layer: &[u8]) -> PathBuf {
        self.path("layout/blobs/sha256").join(digest(layer).hex())
    }

    /// Names of what lies in `partial`.
    fn partial(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("state/images/partial")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Writes the layout again.
    fn layout(&self, architecture: &str, layers: &[Vec<u8>]) {
        let directory = self.path("layout");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
        let put = |bytes: &[u8], kind: &str| {
            fs::write(self.blob(bytes), bytes).unwrap();
            let kind = format!("application/vnd.oci.image.{kind}");
            serde_json::json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()})
        };
        let ids: Vec<Digest> = layers.iter().map(|layer| digest(layer)).collect();
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids},
        });
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "config": put(config.to_string().as_bytes(), "config.v1+json"),
            "layers": layers.iter().map(|layer| put(layer, "layer.v1.tar")).collect::<Vec<_>>(),
        });
        let entry = put(manifest.to_string().as_bytes(), "manifest.v1+json");
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
        fs::write(directory.join("index.json"), index.to_string()).unwrap();
    }

    fn request(&self) -> ImportImage {
        let source = format!("oci:{}", self.path("layout").display());
        ImportImage {
            source,
            name: Some("node".parse().unwrap()),
            insecure: false,
            platform: None,
            retry: false,
        }
    }

    /// Imports the layout and waits for the end.
    async fn import(&self, images: &OsImages) -> Result<String, NotImported> {
        let operation = images.start(self.request(), "ann").await.unwrap();
        end_of(images, operation.id).await
    }
}

/// Why an import made no version, in the words that its user gets.
#[derive(Debug, thiserror::Error)]
enum NotImported {
    /// It did not begin.
    #[error(transparent)]
    Refused(#[from] StartError),
    /// It began; what its operation tells.
    #[error("{0}")]
    Failed(String),
}

async fn end_of(images: &OsImages, id: u64) -> Result<String, NotImported> {
    let mut operation = images.operation(id).unwrap();
    let ended =
        tokio::time::timeout(PATIENCE, operation.wait_for(|operation| !is_running(operation)));
    match ended.await.expect("the operation does not end").unwrap().state.clone() {
        OperationState::Done { result } => Ok(result),
        OperationState::Failed { error } => Err(NotImported::Failed(error)),
        OperationState::Running { .. } => unreachable!(),
    }
}

/// Deletes versions of `node`.
async fn delete(images: &OsImages, versions: &[u32]) {
    let deleting = images.deleting().await.unwrap();
    images.delete("node".parse().unwrap(), versions.to_vec(), deleting).await.unwrap();
}

/// Waits for what a removal in the background does.
async fn becomes(what: &str, is_so: impl Fn() -> bool) {
    let begin = tokio::time::Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = Header::new_ustar();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

fn kernel() -> Vec<u8> {
    layer(&[
        ("lib/modules/6.1.0/modules.dep", b""),
        ("lib/modules/6.1.0/vmlinuz", b"not really a kernel"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_count_up_and_the_same_content_makes_none() {
    let site = Site::new();
    let images = site.open().await;
    let (one, two) = (layer(&[("etc/version", b"1")]), layer(&[("etc/version", b"2")]));
    site.layout("amd64", &[kernel(), one.clone()]);
    assert_eq!(site.import(&images).await.unwrap(), "node@1");
    assert_eq!(
        site.import(&images).await.unwrap(),
        "node@1 has this content already; no new version was made"
    );
    site.layout("amd64", &[kernel(), two.clone()]);
    assert_eq!(site.import(&images).await.unwrap(), "node@2");
    let table = images.table();
    let roots: Vec<Digest> =
        ["node@1", "node"].map(|name| table.find(name).unwrap().version.root.digest).into();
    assert!(roots[0] != roots[1] && table.is_artifact(&roots[0]) && images.map(&roots[1]).is_ok());
    // The layers are there for stage 1 to be made again, and are served to nobody.
    assert!(images.0.blobs.contains(&digest(&one)) && !table.is_artifact(&digest(&one)));

    delete(&images, &[1]).await;
    let begin = tokio::time::Instant::now();
    while images.0.blobs.contains(&roots[0]) || images.0.blobs.contains(&digest(&one)) {
        assert!(begin.elapsed() < PATIENCE, "blobs of a version that is gone stay");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(images.0.blobs.contains(&roots[1]) && images.0.blobs.contains(&digest(&kernel())));
    // A number is never given twice.
    site.layout("amd64", &[kernel(), one]);
    assert_eq!(site.import(&images).await.unwrap(), "node@3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_image_is_told_and_leaves_no_version() {
    let site = Site::new();
    let images = site.open().await;
    site.layout("amd64", &[layer(&[("etc/hostname", b"x")])]);
    let error = site.import(&images).await.unwrap_err().to_string();
    assert!(
        error.starts_with(
            "the image has no kernel that can boot: it has neither modules nor a kernel"
        ),
        "{error}"
    );
    assert!(
        error.ends_with("(Debian: linux-image-amd64, Fedora: kernel-core) and import it again"),
        "{error}"
    );
    let is_empty = || images.0.blobs.list().unwrap().is_empty();
    becomes("layers, manifest and config of a failed import stay", is_empty).await;
    site.layout("arm64", &[kernel()]);
    assert_eq!(
        site.import(&images).await.unwrap_err().to_string(),
        "there is no image for linux/amd64 here, only for linux/arm64; ask for one of those (--platform), or import \
         another image"
    );
    site.layout("amd64", &[kernel()]);
    let mut bytes = kernel();
    bytes[0] ^= 1;
    fs::write(site.blob(&kernel()), &bytes).unwrap();
    let error = site.import(&images).await.unwrap_err().to_string();
    assert!(error.contains("digest mismatch: expected sha256:"), "{error}");
    fs::remove_file(site.path("layout/index.json")).unwrap();
    let error = site.import(&images).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot read ") && error.contains("layout/index.json"), "{error}");
    assert!(images.table().images.is_empty());
    becomes("something of them is left", || site.partial().is_empty() && is_empty()).await;
    // Mended, it is the first version.
    site.layout("amd64", &[kernel()]);
    assert_eq!(site.import(&images).await.unwrap(), "node@1");
    let failed = |operation: &Operation| matches!(operation.state, OperationState::Failed { .. });
    assert_eq!(images.operations().iter().filter(|operation| failed(operation)).count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_are_checked_before_an_operation_begins() {
    let site = Site::new();
    let images = site.open().await;
    let start = async |source: &str| {
        let request = ImportImage {
            source: source.to_owned(),
            name: None,
            insecure: false,
            platform: None,
            retry: false,
        };
        images.start(request, "ann").await.unwrap_err().to_string()
    };
    assert_eq!(
        start("debian:12").await,
        "\"debian:12\" is no source; write docker://HOST[:PORT]/REPOSITORY[:TAG] or oci:/DIR[:TAG]"
    );
    assert_eq!(
        start("oci:layout").await,
        "the directory of \"oci:layout\" must be an absolute path on the server"
    );
    assert!(images.operations().is_empty());
}

/// A `kill -9` runs no code of ours: the operation is in the database, half a layer in `partial`,
/// and perhaps an artifact that was being made.
#[test]
fn an_import_that_was_killed_starts_again_with_the_server() {
    let site = Site::new();
    let big = layer(&[("big", &vec![7; 3 << 20])]);
    site.layout("amd64", &[kernel(), big.clone()]);
    // A pipe in the place of the layer holds the import in the middle.
    let blob = site.blob(&big);
    fs::remove_file(&blob).unwrap();
    mkfifo(&blob, Mode::S_IRWXU).unwrap();

    let first = tokio::runtime::Runtime::new().unwrap();
    let id = first.block_on(async {
        let images = site.open().await;
        images.start(site.request(), "ann").await.unwrap().id
    });
    let mut pipe = fs::OpenOptions::new().write(true).open(&blob).unwrap();
    pipe.write_all(&big[..2 << 20]).unwrap();
    while !site.partial().contains(&digest(&big).hex()) {
        std::thread::sleep(Duration::from_millis(5));
    }
    first.shutdown_background();
    drop(pipe);
    fs::write(site.path("state/images/partial/tmp-1-1"), "half an artifact").unwrap();
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, &big).unwrap();

    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let images = site.open().await;
        assert!(is_running(&images.operations()[0]), "it is known before it starts again");
        assert!(images.table().images.is_empty());
        let (stray, _) = images.0.blobs.put(&b"of another one"[..]).unwrap();
        images.resume();
        // Nothing is removed while it may be taken up.
        images.remove_unused().await;
        assert_eq!(end_of(&images, id).await.unwrap(), "node@1");
        let is_clean = || !images.0.blobs.contains(&stray) && site.partial().is_empty();
        becomes("what the import did not take up stays", is_clean).await;
        assert!(images.0.blobs.contains(&digest(&big)));
        // Once more from the start: it is not done twice.
        let images = site.open().await;
        images.resume();
        assert!(!is_running(&images.operations()[0]));
        assert_eq!(images.table().images.values().map(BTreeMap::len).sum::<usize>(), 1);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn another_substrate_makes_stage_1_again_and_nothing_else() {
    let site = Site::new();
    site.layout("amd64", &[kernel()]);
    let images = site.open().await;
    assert_eq!(site.import(&images).await.unwrap(), "node@1");
    let before = images.table().find("node").unwrap().version.clone();
    fs::write(site.path("substrate"), "a newer program").unwrap();
    let images = site.open().await;
    let mut table = images.watch();
    images.resume();
    let newer = |table: &Arc<ImageTable>| table.find("node").unwrap().version != before;
    let table =
        tokio::time::timeout(PATIENCE, table.wait_for(newer)).await.unwrap().unwrap().clone();
    let after = &table.find("node").unwrap().version;
    assert_eq!((after.version, &after.root), (1, &before.root));
    assert_eq!(after.kernels[0].kernel, before.kernels[0].kernel);
    assert_ne!(after.kernels[0].stage1, before.kernels[0].stage1);
    assert!(table.is_artifact(&after.kernels[0].stage1.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_is_told_and_holds_up_nobody_else() {
    let site = Site::new();
    site.layout("amd64", &[kernel()]);
    let images = site.open().await;
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for _ in 0..=MAX_PULLS {
        let request =
            ImportImage { source: format!("docker://{away}/site/node:1"), ..site.request() };
        let operation = images.start(request, "ann").await.unwrap();
        let mut operation = images.operation(operation.id).unwrap();
        let waits = |operation: &Operation| match &operation.state {
            OperationState::Running { waiting, .. } => waiting.is_some(),
            _ => panic!("{operation:?}"),
        };
        let shown =
            tokio::time::timeout(PATIENCE, operation.wait_for(waits)).await.unwrap().unwrap();
        let OperationState::Running { waiting: Some(text), .. } = &shown.state else {
            unreachable!()
        };
        let begin = format!("waiting for {away}: connection refused; next try in ");
        assert!(text.starts_with(&begin) && text.ends_with(" s"), "{text}");
    }
    // A removal of blobs waits for none of them, and neither does an import.
    images.remove_unused().await;
    assert_eq!(site.import(&images).await.unwrap(), "node@1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_told_and_made_again_by_an_import() {
    let site = Site::new();
    let images = site.open().await;
    site.layout("amd64", &[kernel(), layer(&[("sbin/init", b"x"), ("etc/version", b"1")])]);
    assert_eq!(site.import(&images).await.unwrap(), "node@1");
    let name = "node".parse().unwrap();
    let problems = || {
        let shown = images.show(&images.table(), &name).unwrap().problems;
        shown.into_iter().map(|one| one.problem).collect::<Vec<String>>()
    };
    assert_eq!(problems(), [""; 0]);
    let version = images.table().find("node").unwrap().version.clone();
    let root = images.0.blobs.path(&version.root.digest);
    let kernel = images.0.blobs.path(&version.kernels[0].kernel.digest);
    for (damaged, expected) in
        [(&root, "the squashfs of image node@1"), (&kernel, "of image node@1")]
    {
        for cut in [true, false] {
            fs::remove_file(damaged).unwrap();
            if cut {
                fs::write(damaged, "half").unwrap();
            }
            let said = problems();
            let what = if cut {
                "has 4 bytes on the server's disk"
            } else {
                "is missing on the server's disk"
            };
            assert!(
                said.len() == 1 && said[0].contains(expected) && said[0].contains(what),
                "{said:?}"
            );
            let again = site.import(&images).await.unwrap();
            assert_eq!(again, "node@1 is whole again; no new version was made");
            assert_eq!(problems(), [""; 0]);
        }
    }
    let same = site.import(&images).await.unwrap();
    assert_eq!(same, "node@1 has this content already; no new version was made");
}

/// Leaves `node@1` and `node@2` in the state directory.
async fn import_two_versions(site: &Site) {
    let images = site.open().await;
    for version in ["1", "2"] {
        site.layout("amd64", &[kernel(), layer(&[("sbin/init", b"x"), ("v", version.as_bytes())])]);
        site.import(&images).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_cannot_be_read_takes_no_other_with_it() {
    let site = Site::new();
    import_two_versions(&site).await;
    let text = "UPDATE provisioner_image_versions SET layers = '{' WHERE version = 2";
    let database = SqlStore::in_directory(&site.path("state")).await;
    database.damage(text).await;
    let images = site.open().await;
    let table = images.table();
    assert!(table.find("node@1").is_ok());
    let newest = table.find("node").unwrap_err().to_string();
    assert!(
        newest.starts_with("image node@2 cannot be read"),
        "no older one replaces it: {newest}"
    );
    let blobs = || images.0.blobs.list().unwrap().len();
    let before = blobs();
    delete(&images, &[1]).await;
    images.remove_unused().await;
    assert_eq!(blobs(), before, "nobody knows what the other one needs");
    delete(&images, &[2]).await;
    images.remove_unused().await;
    assert_eq!(blobs(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_without_a_name_keeps_its_files() {
    let site = Site::new();
    import_two_versions(&site).await;
    let database = SqlStore::in_directory(&site.path("state")).await;
    database.damage("UPDATE provisioner_image_versions SET version = -1 WHERE version = 2").await;
    let nameless = database.images().await.unwrap().nameless;
    assert!(nameless.len() == 1 && nameless[0].contains("version"), "{nameless:?}");
    let images = site.open().await;
    assert!(images.table().find("node@1").is_ok() && images.table().unreadable.is_empty());
    let blobs = || images.0.blobs.list().unwrap().len();
    let before = blobs();
    delete(&images, &[1]).await;
    images.remove_unused().await;
    assert_eq!(blobs(), before, "nobody knows what the other one needs");
    database.damage("DELETE FROM provisioner_image_versions WHERE version = -1").await;
    images.reload().await.unwrap();
    images.remove_unused().await;
    assert_eq!(blobs(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_version_serves_the_files_of_the_others() {
    let site = Site::new();
    import_two_versions(&site).await;
    let images = site.open().await;
    let (table, name) = (images.table(), "node".parse().unwrap());
    let version = |reference| table.find(reference).unwrap().version.clone();
    let left = table.without(&name, &[1]);
    assert!(left.find("node@1").is_err() && left.find("node@2").is_ok());
    assert!(!left.is_artifact(&version("node@1").root.digest));
    assert!(left.is_artifact(&version("node@2").root.digest));
    // Both have it.
    assert!(left.is_artifact(&version("node@1").kernels[0].kernel.digest));
    assert!(left.without(&name, &[2]).names().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_content_as_a_version_that_was_deleted_meanwhile_is_no_success() {
    let site = Site::new();
    let images = site.open().await;
    site.layout("amd64", &[kernel()]);
    assert_eq!(site.import(&images).await.unwrap(), "node@1");
    let record = images.table().find("node").unwrap().clone();
    let operation = images.operations()[0].clone();
    let end = async || {
        let same = import::Outcome::Same(record.clone(), "has this content already");
        import::end(&images, &operation, &site.request(), Ok(same)).await.state
    };
    let result = "node@1 has this content already".to_owned();
    assert_eq!(end().await, OperationState::Done { result });
    delete(&images, &[1]).await;
    let error = "node@1 was deleted meanwhile; import it again".to_owned();
    assert_eq!(end().await, OperationState::Failed { error });
}

/// A program for these machines, as far as anybody looks: ELF, 64 bits, little-endian.
fn program(machine: u8) -> Vec<u8> {
    let mut program = vec![0; 64];
    program[..6].copy_from_slice(b"\x7fELF\x02\x01");
    program[18] = machine;
    program
}

const AMD64: u8 = 62;
const ARM64: u8 = 183;

/// Imports the layout for a platform.
async fn import_for(
    site: &Site,
    images: &OsImages,
    name: &str,
    platform: &str,
) -> Result<String, NotImported> {
    let (name, platform) = (Some(name.parse().unwrap()), Some(platform.parse().unwrap()));
    let operation = images.start(ImportImage { name, platform, ..site.request() }, "ann").await;
    end_of(images, operation?.id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_for_other_machines_is_kept_and_not_booted() {
    let site = Site::new();
    fs::write(site.path("substrate"), program(AMD64)).unwrap();
    let images = site.open().await;
    site.layout("amd64", &[kernel()]);
    assert_eq!(site.import(&images).await.unwrap(), "node@1");
    // The other one needs no kernel here: stage 1 could not be made for it.
    let hostname = layer(&[("etc/hostname", b"x")]);
    site.layout("arm64", &[kernel(), hostname]);
    assert_eq!(
        import_for(&site, &images, "node", "linux/arm64").await.unwrap_err().to_string(),
        "image node is for linux/amd64, and nodes that boot its newest version cannot boot one for \
         linux/arm64; give this one a name of its own, such as --name node-arm64"
    );
    assert_eq!(
        import_for(&site, &images, "w", "windows/amd64").await.unwrap_err().to_string(),
        "images for windows/amd64 cannot be imported: nodes run Linux; write --platform linux/ARCHITECTURE"
    );
    assert_eq!(import_for(&site, &images, "arm", "linux/arm64/v8").await.unwrap(), "arm@1");
    let why = "image arm@1 is for linux/arm64: not bootable here; this server boots linux/amd64";
    let table = images.table();
    let record = table.find("arm").unwrap();
    assert_eq!((record.version.architecture.as_str(), record.version.kernels.len()), ("arm64", 0));
    assert_eq!(images.kernel_to_boot(record, None).unwrap_err().to_string(), why);
    let shown = images.show(&table, &record.name).unwrap();
    assert_eq!(shown.problems, [VersionProblem { version: 1, problem: why.to_owned() }]);
    assert_eq!(table.not_bootable().into_values().collect::<Vec<_>>(), [why]);
    assert!(images.kernel_to_boot(table.find("node").unwrap(), None).is_ok());
}

/// With another substrate program the server boots other machines: stage 1 is made for those.
#[tokio::test(flavor = "multi_thread")]
async fn the_substrate_program_says_what_is_booted() {
    let site = Site::new();
    fs::write(site.path("substrate"), program(AMD64)).unwrap();
    let images = site.open().await;
    site.layout("arm64", &[kernel()]);
    assert_eq!(import_for(&site, &images, "arm", "linux/arm64").await.unwrap(), "arm@1");
    site.layout("amd64", &[kernel()]);
    assert_eq!(site.import(&images).await.unwrap(), "node@1");
    fs::write(site.path("substrate"), program(ARM64)).unwrap();
    let images = site.open().await;
    let mut table = images.watch();
    images.resume();
    let has_kernel =
        |table: &Arc<ImageTable>| !table.find("arm").unwrap().version.kernels.is_empty();
    let table =
        tokio::time::timeout(PATIENCE, table.wait_for(has_kernel)).await.unwrap().unwrap().clone();
    assert!(images.kernel_to_boot(table.find("arm").unwrap(), None).is_ok());
    assert_eq!(
        images.kernel_to_boot(table.find("node").unwrap(), None).unwrap_err().to_string(),
        "image node@1 is for linux/amd64: not bootable here; this server boots linux/arm64"
    );
    // What the server boots is what is imported without a word.
    site.layout("arm64", &[kernel(), layer(&[("etc/hostname", b"x")])]);
    let request = ImportImage { name: Some("arm".parse().unwrap()), ..site.request() };
    let operation = images.start(request, "ann").await.unwrap();
    assert_eq!(end_of(&images, operation.id).await.unwrap(), "arm@2");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_substrate_makes_no_new_version_for_other_machines() {
    let site = Site::new();
    fs::write(site.path("substrate"), program(AMD64)).unwrap();
    site.layout("arm64", &[kernel()]);
    let images = site.open().await;
    assert_eq!(import_for(&site, &images, "arm", "linux/arm64").await.unwrap(), "arm@1");
    fs::write(site.path("substrate"), [program(AMD64), b"newer".to_vec()].concat()).unwrap();
    let images = site.open().await;
    assert_eq!(
        import_for(&site, &images, "arm", "linux/arm64").await.unwrap(),
        "arm@1 has this content already; no new version was made"
    );
}

/// One import fails, which removes what nothing needs, while another one is in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_import_takes_nothing_from_one_under_way() {
    let site = Site::new();
    let images = site.open().await;
    let (small, big) = (kernel(), layer(&[("big", &vec![7; 1 << 20])]));
    site.layout("amd64", &[small.clone(), big.clone()]);
    let (blob, pipe_of) = (site.blob(&big), site.path("big"));
    fs::rename(&blob, &pipe_of).unwrap();
    mkfifo(&blob, Mode::S_IRWXU).unwrap();
    let slow = images.start(site.request(), "ann").await.unwrap().id;
    let begin = tokio::time::Instant::now();
    while !images.0.blobs.contains(&digest(&small)) {
        assert!(begin.elapsed() < PATIENCE, "the first layer does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Another layout beside it, which has no kernel.
    let other = Site::new();
    let stray = layer(&[("etc/hostname", b"x")]);
    other.layout("amd64", std::slice::from_ref(&stray));
    let operation = images.start(other.request(), "ann").await.unwrap();
    end_of(&images, operation.id).await.unwrap_err();
    let is_gone = || !images.0.blobs.contains(&digest(&stray));
    becomes("the layer of a failed import stays", is_gone).await;
    assert!(images.0.blobs.contains(&digest(&small)), "an import under way lost a layer");
    let bytes = big.clone();
    let feeding = tokio::task::spawn_blocking(move || fs::write(&blob, bytes));
    assert_eq!(end_of(&images, slow).await.unwrap(), "node@1");
    feeding.await.unwrap().unwrap();
    assert!(images.0.blobs.contains(&digest(&big)));
}

/// What a `kill -9` left without an import that goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_removes_what_nothing_needs() {
    let site = Site::new();
    site.layout("amd64", &[kernel()]);
    let images = site.open().await;
    assert_eq!(site.import(&images).await.unwrap(), "node@1");
    let before = images.0.blobs.list().unwrap();
    let needed = images.table().find("node").unwrap().layers[0].digest;
    let (stray, _) = images.0.blobs.put(&b"of an import that was killed"[..]).unwrap();
    fs::write(site.path("state/images/partial").join(digest(b"half").hex()), "half").unwrap();
    let images = site.open().await;
    images.resume();
    images.remove_unused().await;
    let begin = tokio::time::Instant::now();
    while images.0.blobs.contains(&stray) || !site.partial().is_empty() {
        assert!(begin.elapsed() < PATIENCE, "what a killed import left stays");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(images.0.blobs.contains(&needed));
    assert!(images.0.blobs.list().unwrap().len() <= before.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_are_counted_by_how_they_ended() {
    let site = Site::new();
    let images = site.open().await;
    let samples = || {
        let mut out = Exposition::new();
        images.expose(&mut out);
        let text = out.finish();
        let left_out = ["#", "_bucket", "_sum", "_removed_"];
        let told = |line: &&str| !left_out.iter().any(|part| line.contains(part));
        text.lines().filter(told).map(|line| format!("{line}\n")).collect::<String>()
    };
    site.layout("amd64", &[kernel()]);
    site.import(&images).await.unwrap();
    site.import(&images).await.unwrap();
    site.layout("arm64", &[kernel()]);
    site.import(&images).await.unwrap_err();
    let text = samples();
    let pulled =
        text.lines().find_map(|line| line.strip_prefix("bedplate_import_pulled_bytes_total "));
    let pulled = pulled.unwrap().to_owned();
    // Manifests and configs are small.
    assert!((kernel().len()..kernel().len() + 8192).contains(&pulled.parse().unwrap()), "{pulled}");
    expect_test::expect![[r#"
        bedplate_imports_running 0
        bedplate_imports_total{outcome="new"} 1
        bedplate_imports_total{outcome="unchanged"} 1
        bedplate_imports_total{outcome="failed"} 1
        bedplate_imports_total{outcome="cut-off"} 0
        bedplate_import_seconds_count 3
        bedplate_imports_unfinished 0
        bedplate_import_pulled_bytes_total LAYER AND MORE
        bedplate_image_versions 1
    "#]]
    .assert_eq(&text.replace(&pulled, "LAYER AND MORE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_is_counted() {
    let site = Site::new();
    let images = site.open().await;
    let told = || {
        let mut out = Exposition::new();
        images.expose(&mut out);
        let text = out.finish();
        let told = |line: &&str| line.starts_with("bedplate_image_removed_");
        text.lines().filter(told).map(|line| format!("{line}\n")).collect::<String>()
    };
    for text in ["of an import", "of another import"] {
        images.0.blobs.put(text.as_bytes()).unwrap();
    }
    fs::write(site.path("state/images/partial").join(digest(b"half").hex()), "half").unwrap();
    for _ in 0..2 {
        images.remove_unused().await;
        expect_test::expect![[r#"
            bedplate_image_removed_files_total{kind="blob"} 2
            bedplate_image_removed_files_total{kind="partial"} 1
            bedplate_image_removed_bytes_total 33
        "#]]
        .assert_eq(&told());
    }
}

/// A registry that takes requests and answers none.
fn silent() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, format!("docker://{address}/site/node:1"))
}

/// So many imports of somebody from there.
async fn begin(images: &OsImages, site: &Site, source: &str, by: &str, count: usize) -> Vec<u64> {
    let mut begun = Vec::new();
    for _ in 0..count {
        let request = ImportImage { source: source.to_owned(), ..site.request() };
        begun.push(images.start(request, by).await.unwrap().id);
    }
    begun
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_ends_at_once_when_somebody_cancels_it() {
    let site = Site::new();
    let images = site.open().await;
    let (_listener, source) = silent();
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let waits = begin(&images, &site, &format!("docker://{away}/site/node:1"), "eve", 1).await[0];
    let mut operation = images.operation(waits).unwrap();
    let is_waiting = |operation: &Operation| {
        matches!(&operation.state, OperationState::Running { waiting: Some(_), .. })
    };
    tokio::time::timeout(PATIENCE, operation.wait_for(is_waiting)).await.unwrap().unwrap();
    // Under way, and behind those in the queue.
    let mut ids = begin(&images, &site, &source, "ann", MAX_PULLS).await;
    ids.push(waits);
    for id in ids {
        let ended =
            tokio::time::timeout(PATIENCE / 2, images.cancel(id, "bob")).await.unwrap().unwrap();
        assert_eq!(ended.state, OperationState::Failed { error: "cancelled by bob".to_owned() });
        assert_eq!(images.cancel(id, "bob").await, Err(CancelError::IsOver(id)));
    }
    assert_eq!(images.cancel(99, "bob").await, Err(CancelError::Unknown(99)));
    // Also for the next server.
    let kept = images.0.store.operations().await.unwrap();
    assert!(
        kept.len() == MAX_PULLS + 1 && kept.iter().all(|kept| !is_running(&kept.operation)),
        "{kept:?}"
    );
    // The places are free again.
    site.layout("amd64", &[kernel()]);
    assert_eq!(site.import(&images).await.unwrap(), "node@1");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_imports_much_leaves_a_place_to_others() {
    let site = Site::new();
    let images = site.open().await;
    let (_listener, source) = silent();
    let of_ann = begin(&images, &site, &source, "ann", 2 * MAX_PULLS).await;
    let of_bob = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = format!("docker://{}/site/node:1", of_bob.local_addr().unwrap());
    begin(&images, &site, &source, "bob", 1).await;
    tokio::time::timeout(PATIENCE / 2, of_bob.accept()).await.expect("bob has no place").unwrap();
    // Copies take no place of pulls.
    site.layout("amd64", &[kernel()]);
    assert_eq!(site.import(&images).await.unwrap(), "node@1");
    let running = images.operations().iter().filter(|operation| is_running(operation)).count();
    assert_eq!(running, of_ann.len() + 1);
}
