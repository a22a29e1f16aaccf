//! Job images while their registry is away.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use database::Database;
use oci_pull::Wait;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::store::sql::{SCHEMA, SqlStore};

/// How long something that takes milliseconds may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// An image of one layer and an index that leads to it, by the path that a registry has them under.
struct Image {
    manifest: Digest,
    index: Digest,
    files: HashMap<String, Vec<u8>>,
}

fn image() -> Image {
    // The end of a tar is a tar.
    let layer = vec![0; 1024];
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = config.to_string().into_bytes();
    let described = |kind: &str, bytes: &[u8]| {
        let media_type = format!("application/vnd.oci.image.{kind}");
        serde_json::json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("config.v1+json", &config), "layers": [described("layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = described("manifest.v1+json", &manifest);
    entry["platform"] = serde_json::json!({"os": "linux", "architecture": "amd64"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
    let (of_manifest, of_index) = (digest(&manifest), digest(&index));
    let blob = |bytes: &[u8]| format!("/v2/site/job/blobs/{}", digest(bytes));
    let files = [
        (blob(&config), config.clone()),
        (blob(&layer), layer.clone()),
        (format!("/v2/site/job/manifests/{of_manifest}"), manifest),
        (format!("/v2/site/job/manifests/{of_index}"), index.clone()),
        ("/v2/site/job/manifests/1".to_owned(), index),
    ];
    Image { manifest: of_manifest, index: of_index, files: files.into() }
}

/// Serves files by their path, a request a connection, until it is aborted.
async fn registry(files: HashMap<String, Vec<u8>>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n")
                && let Ok(byte) = stream.read_u8().await
            {
                request.push(byte);
            }
            let request = String::from_utf8(request).unwrap();
            let file = request.split_whitespace().nth(1).and_then(|path| files.get(path));
            let (status, body) = file.map_or(("404 Not Found", &[][..]), |body| ("200 OK", body.as_slice()));
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // Who went away gets nothing.
            let _ = stream.write_all(&[head.as_bytes(), body].concat()).await;
        }
    });
    (address, serving)
}

#[derive(Debug)]
struct Told(mpsc::UnboundedSender<String>);

impl Waits for Told {
    fn waits(&self, wait: Option<&Wait>) {
        let _ = self.0.send(wait.map(ToString::to_string).unwrap_or_default());
    }
}

fn told() -> (Arc<dyn Waits>, mpsc::UnboundedReceiver<String>) {
    let (sender, told) = mpsc::unbounded_channel();
    (Arc::new(Told(sender)), told)
}

/// Whom images are fetched for here.
const STAGE: (WorkflowId, u32) = (WorkflowId(uuid::Uuid::nil()), 0);

async fn open(folder: &Path) -> JobImages {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let database = Database::open(&folder.join("db"), &[&SCHEMA]).await.unwrap();
    let store = Arc::new(SqlStore::open(database).await.unwrap());
    let converter = Converter::in_this_process();
    let shutdown = CancellationToken::new();
    JobImages::open(folder, converter, store, Arc::default(), Platform::default(), shutdown).unwrap()
}

/// Fetches what is not there to be had, until it waits, and then ends that.
async fn waits(images: &JobImages, reference: &str) -> String {
    let ((waits, mut told), cancelled) = (told(), images.cancellation());
    let fetching = {
        let (images, reference, cancelled) = (images.clone(), reference.to_owned(), cancelled.clone());
        tokio::spawn(async move { images.fetch(&reference, STAGE, waits, cancelled, Timestamp(0)).await })
    };
    let text = timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
    cancelled.cancel();
    let fetched = timeout(PATIENCE, fetching).await.unwrap().unwrap();
    assert!(matches!(fetched, Err(FetchError::Pull(PullError::Cancelled))), "{fetched:?}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_here_by_digest_needs_no_registry() {
    let folder = tempfile::tempdir().unwrap();
    let images = open(folder.path()).await;
    let image = image();
    let (address, serving) = registry(image.files).await;
    let fetch = async |version: String| {
        let (waits, _told) = told();
        let reference = format!("{address}/site/job{version}");
        let fetching = images.fetch(&reference, STAGE, waits, images.cancellation(), Timestamp(0));
        timeout(PATIENCE, fetching).await.unwrap().unwrap()
    };
    let first = fetch(":1".to_owned()).await;
    assert_eq!((first.was_cached, first.image.manifest), (false, image.manifest));
    assert_eq!(first.image.indexes, Some(vec![image.index]), "it stays with the image");
    serving.abort();
    let _ = serving.await;
    for version in
        [format!("@{}", image.manifest), format!("@{}", image.index), format!(":1@{}", image.index)]
    {
        let again = fetch(version.clone()).await;
        assert_eq!((again.was_cached, &again.image), (true, &first.image), "{version}");
    }
    // What a tag stands for today only the registry knows.
    let text = waits(&images, &format!("{address}/site/job:1")).await;
    assert_eq!(text, format!("waiting for {address}: connection refused; next try in 1 s"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_registry_gave_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let images = open(folder.path()).await;
    // All of an image, in the files of somebody's documents.
    let image = image();
    for bytes in image.files.into_values() {
        images.keep(bytes).await.unwrap();
    }
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = waits(&images, &format!("{address}/site/job@{}", image.index)).await;
    assert!(text.starts_with("waiting for "), "{text}");
}
