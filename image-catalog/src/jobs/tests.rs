//! Job images while their registry is away.

use std::{collections::HashMap, net::SocketAddr, path::Path, time::Duration};

use oci_pull::{Reach, Wait, Waits};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::timeout,
};
use uuid::Uuid;

use self::book::Book;
use super::*;
use crate::store::sql::tables;

pub(super) mod book;

/// How long something that takes milliseconds may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// An image of one layer and an index that leads to it, by the path that a registry has them under.
pub(crate) struct Image {
    pub(crate) manifest: Digest,
    index: Digest,
    pub(crate) files: HashMap<String, Vec<u8>>,
}

pub(crate) fn image() -> Image {
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
    let index =
        serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
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

/// Of an image, the path of its layer, which is the largest blob.
fn layer_path(image: &Image) -> String {
    let blobs = image.files.iter().filter(|(path, _)| path.contains("/blobs/"));
    blobs.max_by_key(|(_, bytes)| bytes.len()).unwrap().0.clone()
}

/// Serves an image whose layer comes once `gate` opens; `asked` counts the requests for it.
async fn gated(image: Image, gate: Arc<Semaphore>) -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asks, asked) = mpsc::unbounded_channel();
    let (layer, files) = (layer_path(&image), Arc::new(image.files));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (gate, asks, layer, files) =
                (gate.clone(), asks.clone(), layer.clone(), files.clone());
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    request.push(byte);
                }
                let request = String::from_utf8(request).unwrap();
                let path = request.split_whitespace().nth(1).unwrap_or_default();
                let body = files.get(path).cloned().unwrap_or_default();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                if path == layer {
                    let _ = asks.send(());
                    gate.acquire().await.unwrap().forget();
                }
                let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
            });
        }
    });
    (address, asked)
}

/// Serves files by their path, a request a connection, until it is aborted.
pub(crate) async fn registry(files: HashMap<String, Vec<u8>>) -> (SocketAddr, JoinHandle<()>) {
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
            let (status, body) =
                file.map_or(("404 Not Found", &[][..]), |body| ("200 OK", body.as_slice()));
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
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

/// The one part of a group of this number.
fn requester(group: u128, user: &str, waits: Arc<dyn Waits>) -> Requester {
    Requester { group: Uuid::from_u128(group), part: 0, user: user.into(), waits }
}

async fn open(directory: &Path) -> JobImages {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let database = tables::open(&directory.join("db")).await;
    // Where the registries of these tests are.
    let reach = Reach { allowed: vec!["127.0.0.0/8".parse().unwrap()], ..Reach::default() };
    let config = JobImagesConfig {
        state_dir: directory.to_owned(),
        registries: Arc::new(Registries { reach, ..Registries::default() }),
        converter: Converter::in_this_process(),
        platform: Platform::default(),
    };
    JobImages::open(database, config).unwrap()
}

/// Fetches what is not there to be had, until it waits, and then ends that.
async fn waits(images: &JobImages, reference: &str) -> String {
    let (waits, mut told) = told();
    let requester = requester(1, "ann", waits);
    let group = requester.group;
    let fetched = images.fetch(reference, requester, Timestamp(0));
    let text = timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
    images.pulls().leave(group);
    let nothing = timeout(PATIENCE, fetched).await.unwrap();
    assert!(nothing.is_err(), "{nothing:?}");
    becomes_idle(images).await;
    text
}

/// Pulls that are not over, as they are told to whoever measures.
fn running(images: &JobImages) -> usize {
    let mut out = Exposition::new();
    images.expose(&mut out);
    let text = out.finish();
    let told = text.lines().find_map(|line| line.strip_prefix("bedplate_job_image_pulls_running "));
    told.unwrap().parse().unwrap()
}

async fn becomes(what: &str, is_so: impl Fn() -> bool) {
    let so = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, so).await.unwrap_or_else(|_| panic!("{what}"));
}

/// Waits for the end of all pulls.
async fn becomes_idle(images: &JobImages) {
    becomes("a pull goes on", || running(images) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_here_by_digest_needs_no_registry() {
    let directory = tempfile::tempdir().unwrap();
    let images = open(directory.path()).await;
    let image = image();
    let (address, serving) = registry(image.files).await;
    let fetch = async |version: String| {
        let (waits, _told) = told();
        let reference = format!("{address}/site/job{version}");
        let fetching = images.fetch(&reference, requester(1, "ann", waits), Timestamp(0));
        timeout(PATIENCE, fetching).await.unwrap().unwrap().fetched.unwrap()
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
    let directory = tempfile::tempdir().unwrap();
    let images = open(directory.path()).await;
    // All of an image, in the files of somebody's documents.
    let image = image();
    for bytes in image.files.into_values() {
        images.keep(bytes).await.unwrap();
    }
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = waits(&images, &format!("{address}/site/job@{}", image.index)).await;
    assert!(text.starts_with("waiting for "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_two_want_is_pulled_once_and_goes_on_for_who_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let images = open(directory.path()).await;
    let (image, gate) = (image(), Arc::new(Semaphore::new(0)));
    let manifest = image.manifest;
    let (address, mut asked) = gated(image, gate.clone()).await;
    let reference = format!("{address}/site/job:1");
    let want = |group, user| {
        let requester = requester(group, user, told().0);
        (requester.group, images.fetch(&reference, requester, Timestamp(0)))
    };
    let (first, of_first) = want(1, "ann");
    timeout(PATIENCE, asked.recv()).await.unwrap().unwrap();
    let (second, of_second) = want(2, "bob");
    let (third, of_third) = want(3, "bob");
    for other in [second, third] {
        let words = |group| images.pulls().of_group(group).into_values().next();
        let joined = || words(other) == words(first) && words(first).unwrap().contains(" of ");
        becomes("it does not join the first", joined).await;
    }
    becomes("those that joined go on", || running(&images) == 1).await;
    images.pulls().leave(first);
    assert!(of_first.await.is_err());
    images.pulls().leave(second);
    assert!(of_second.await.is_err());
    gate.add_permits(1);
    let delivery = timeout(PATIENCE, of_third).await.unwrap().unwrap();
    assert_eq!(delivery.fetched.unwrap().image.manifest, manifest);
    assert!(asked.try_recv().is_err(), "the layer was asked for once");
    becomes_idle(&images).await;
    let removal = std::pin::pin!(images.failed.notified());
    let is_asked_for =
        removal.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready();
    assert!(!is_asked_for, "nothing has failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_ends_at_once_with_the_last_who_wants_it() {
    let directory = tempfile::tempdir().unwrap();
    let images = open(directory.path()).await;
    let gate = Arc::new(Semaphore::new(0));
    let (address, mut asked) = gated(image(), gate).await;
    let requester = requester(1, "ann", told().0);
    let group = requester.group;
    let fetched = images.fetch(&format!("{address}/site/job:1"), requester, Timestamp(0));
    timeout(PATIENCE, asked.recv()).await.unwrap().unwrap();
    images.pulls().leave(group);
    assert!(fetched.await.is_err());
    // Its layer never comes.
    becomes_idle(&images).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_pulls_of_one_user_leave_a_place_to_others() {
    let directory = tempfile::tempdir().unwrap();
    let images = open(directory.path()).await;
    // It takes requests and answers none.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let reference = format!("{}/site/job:1", silent.local_addr().unwrap());
    let of_ann: Vec<_> = (1..=20)
        .map(|group| images.fetch(&reference, requester(group, "ann", told().0), Timestamp(0)))
        .collect();
    let (address, _serving) = registry(image().files).await;
    let of_bob = images.fetch(
        &format!("{address}/site/job:1"),
        requester(99, "bob", told().0),
        Timestamp(0),
    );
    timeout(PATIENCE, of_bob).await.unwrap().unwrap().fetched.unwrap();
    becomes("those of ann do not go on", || running(&images) == of_ann.len()).await;
}

/// The same, used by somebody else.
fn used_by(images: &JobImages, users: &Arc<Book>) -> JobImages {
    let other = JobImages { users: Arc::default(), ..images.clone() };
    other.used_by(users.clone());
    other
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_charged_to_who_pulled_it_first() {
    let directory = tempfile::tempdir().unwrap();
    let images = open(directory.path()).await;
    let (narrow, wide) = (Book::with_room_for(1), Book::with_room_for(1 << 30));
    let (small, images) = (used_by(&images, &narrow), used_by(&images, &wide));
    let (address, _serving) = registry(image().files).await;
    let fetch = async |images: &JobImages, number, user: &str| {
        let (waits, _told) = told();
        let reference = format!("{address}/site/job:1");
        let fetching = images.fetch(&reference, requester(number, user, waits), Timestamp(0));
        timeout(PATIENCE, fetching).await.unwrap().unwrap().fetched
    };
    let refused = fetch(&small, 1, "ann").await.unwrap_err().to_string();
    assert!(refused.contains("past the limit of 1 bytes (quota `images`)"), "{refused}");
    assert_eq!((narrow.used("ann"), images.kept_images().await.unwrap().len()), (0, 0));

    let first = fetch(&images, 2, "ann").await.unwrap();
    assert_eq!((first.was_cached, first.image.pulled_by.as_deref()), (false, Some("ann")));
    assert_eq!(wide.used("ann"), first.image.root.size);
    // Others use it too, and whoever has no room for another one may use it on.
    for (number, user) in [(3, "bob"), (4, "ann")] {
        let by_digest = format!("{address}/site/job@{}", first.image.manifest);
        let (waits, _told) = told();
        let fetching = small.fetch(&by_digest, requester(number, user, waits), Timestamp(0));
        let again = timeout(PATIENCE, fetching).await.unwrap().unwrap().fetched.unwrap();
        assert_eq!(
            (again.was_cached, again.image.pulled_by.as_deref()),
            (true, Some("ann")),
            "{user}"
        );
    }
    narrow.fill("ann");
    let by_tag = fetch(&small, 5, "ann").await.unwrap();
    assert!(by_tag.was_cached, "what is here costs nothing, whatever it is called");
    assert_eq!((wide.used("ann"), wide.used("bob")), (first.image.root.size, 0));
    let another = JobImage { manifest: Digest([9; 32]), ..first.image.clone() };
    let (_, charge) = images.charge(another, &"bob".into()).await.unwrap();
    assert_eq!(wide.used("bob"), first.image.root.size);
    drop(charge);
    assert_eq!(wide.used("bob"), 0, "it was not kept");
    // As after a restart.
    let kept = images.kept_images().await.unwrap();
    let of_ann = kept.iter().filter(|kept| kept.image.pulled_by.as_deref() == Some("ann"));
    assert_eq!(of_ann.map(|kept| kept.image.root.size).sum::<u64>(), wide.used("ann"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_no_room_at_all_fetches_no_layer() {
    let directory = tempfile::tempdir().unwrap();
    let book = Book::with_room_for(1);
    book.fill("ann");
    let images = used_by(&open(directory.path()).await, &book);
    // Its layer never comes.
    let (address, _asked) = gated(image(), Arc::new(Semaphore::new(0))).await;
    let (waits, _told) = told();
    let fetching =
        images.fetch(&format!("{address}/site/job:1"), requester(1, "ann", waits), Timestamp(0));
    let refused = timeout(PATIENCE, fetching).await.unwrap().unwrap().fetched.unwrap_err();
    assert!(matches!(*refused, FetchError::Quota(_)), "{refused}");
}
