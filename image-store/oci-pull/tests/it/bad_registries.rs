//! What a pull says, keeps and takes up again when the registry fails it.

use std::{error::Error, sync::Arc, time::Duration};

use api::backoff::Schedule;
use image_store::{NoProgress, OciImage, Platform, Store};
use oci_pull::{PullError, PullOptions, Reach, Registries, pull};
use tempfile::TempDir;

use crate::registry::{Fault, Image, Registry, digest};

pub(crate) fn image() -> Image {
    // Not a multiple of anything, and no byte like its neighbour.
    let layer =
        |seed: usize, size: usize| (0..size).map(|i| ((i * 31 + seed) % 251) as u8).collect();
    Image { architecture: "amd64", layers: vec![layer(1, 70_001), layer(2, 300_007)] }
}

/// As usual, and the registries of tests, which are on this machine, are within reach.
pub(crate) fn registries() -> Registries {
    let allowed = vec!["127.0.0.0/8".parse().unwrap(), "0.0.0.0".parse().unwrap()];
    Registries { reach: Reach { allowed, ..Reach::default() }, ..Registries::default() }
}

/// Without logins, and with short pauses, so that it waits in many tries.
pub(crate) fn options() -> PullOptions {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pause = Duration::from_millis(5);
    PullOptions {
        registries: Arc::new(registries()),
        credential_files: Vec::new(),
        pauses: Schedule { first: pause, longest: pause },
        ..PullOptions::default()
    }
}

/// Does not wait for long.
fn impatient() -> PullOptions {
    let registries = Registries { patience: Duration::from_secs(1), ..registries() };
    PullOptions { registries: Arc::new(registries), ..options() }
}

pub(crate) fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, store)
}

async fn pull_from(registry: &Registry, store: &Store) -> Result<OciImage, PullError> {
    pull(&registry.reference(), &options(), store, Arc::new(NoProgress)).await
}

/// The error and its causes, with what differs from run to run made equal.
pub(crate) fn told(error: &PullError, registry: &Registry) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text.replace(&registry.address.to_string(), "REGISTRY")
}

#[track_caller]
pub(crate) fn assert_whole(store: &Store, image: &Image) {
    for layer in &image.layers {
        assert_eq!(store.map(&digest(layer)).unwrap().as_ref(), layer.as_slice());
    }
}

fn partial_sizes(store: &Store) -> Vec<u64> {
    let entries = std::fs::read_dir(store.root().join("partial")).unwrap();
    let mut sizes: Vec<u64> =
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    sizes.sort_unstable();
    sizes
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_on_loopback() {
    let (_directory, store) = store();
    let registry = Registry::serve(&image(), Fault::None).await;
    let pulled = pull_from(&registry, &store).await.unwrap();
    assert_eq!(pulled.layers.iter().map(|layer| layer.size).collect::<Vec<_>>(), [70_001, 300_007]);
    assert_whole(&store, &image());
    // What is there is not asked for again.
    pull_from(&registry, &store).await.unwrap();
    assert_eq!(registry.layers_asked_for().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_break_off_are_taken_up_in_the_middle() {
    let (_directory, store) = store();
    let registry = Registry::serve(&image(), Fault::Cut(60_000)).await;
    pull_from(&registry, &store).await.unwrap();
    assert_whole(&store, &image());
    let large = digest(&image().layers[1]);
    let mut starts: Vec<usize> = registry
        .layers_asked_for()
        .into_iter()
        .filter(|(layer, _)| *layer == large)
        .map(|(_, from)| from)
        .collect();
    starts.dedup();
    // What of an answer was on its way when it broke may be lost, but not all of it.
    assert!(starts.len() > 2 && starts.is_sorted() && starts[0] == 0, "{starts:?}");
    assert!(partial_sizes(&store).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_ranges_begins_again() {
    let (_directory, store) = store();
    let image = Image { layers: image().layers.split_off(1), ..image() };
    let registry = Registry::serve(&image, Fault::NoRanges(200_000)).await;
    pull_from(&registry, &store).await.unwrap();
    assert_whole(&store, &image);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_brings_the_same_part_again_and_again_is_given_up() {
    let (_directory, store) = store();
    let image = Image { layers: image().layers.split_off(1), ..image() };
    // More than an attempt must bring: the clock stops for the first one, and for no other.
    let registry = Registry::serve(&image, Fault::NoRangesCut(280_000)).await;
    let (reference, options) = (registry.reference(), impatient());
    let pulling = pull(&reference, &options, &store, Arc::new(NoProgress));
    let error = tokio::time::timeout(Duration::from_secs(60), pulling).await.unwrap().unwrap_err();
    assert!(matches!(error, PullError::Away { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_dies_is_told_and_the_next_pull_goes_on() {
    let (_directory, store) = store();
    let whole = Image { layers: image().layers.split_off(1), ..image() };
    let registry = Registry::serve(&whole, Fault::Die(120_000)).await;
    let error =
        pull(&registry.reference(), &impatient(), &store, Arc::new(NoProgress)).await.unwrap_err();
    let PullError::Away { tries, .. } = &error else { panic!("{error:?}") };
    assert!(*tries > 1, "{error:?}");
    let text = told(&error, &registry);
    assert!(
        text.starts_with("the registry REGISTRY was away for ")
            && text.contains("what came is kept"),
        "{text}"
    );
    assert!(text.ends_with(": connection refused"), "{text}");
    let [got] = partial_sizes(&store)[..] else { panic!("{:?}", partial_sizes(&store)) };
    assert!(got > 0);
    let address = registry.address;
    drop(registry);
    let registry = Registry::serve_at(address, &whole, Fault::None).await;
    pull_from(&registry, &store).await.unwrap();
    assert_whole(&store, &whole);
    let asked: Vec<usize> = registry.layers_asked_for().into_iter().map(|(_, from)| from).collect();
    assert_eq!(asked, [usize::try_from(got).unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_layers_are_kept_when_another_fails() {
    let (_directory, store) = store();
    let small = Image { layers: image().layers[..1].to_vec(), ..image() };
    // The registry has the small layer, and of the large one a part only.
    let registry = Registry::serve(&image(), Fault::Short(70_001)).await;
    let error = pull_from(&registry, &store).await.unwrap_err();
    let text = told(&error, &registry);
    assert_eq!(
        text,
        format!(
            "the registry REGISTRY has only 70001 of the 300007 bytes of layer {} of site/node: the image is damaged there; \
             push it again",
            &digest(&image().layers[1]).hex()[..8]
        )
    );
    assert_whole(&store, &small);
    assert_eq!(partial_sizes(&store), [70_001]);
}

#[tokio::test(flavor = "multi_thread")]
async fn falsified_layers_are_refused() {
    let (_directory, store) = store();
    let whole = Image { layers: image().layers[..1].to_vec(), ..image() };
    let registry = Registry::serve(&whole, Fault::Falsify).await;
    let error = pull_from(&registry, &store).await.unwrap_err();
    let expected = digest(&whole.layers[0]);
    let mut bytes = whole.layers[0].clone();
    bytes[0] ^= 1;
    assert_eq!(
        told(&error, &registry),
        format!(
            "cannot take layer {} of site/node from the registry REGISTRY: digest mismatch: expected {expected}, got {}; \
             the source is damaged or was tampered with",
            &expected.hex()[..8],
            digest(&bytes)
        )
    );
    assert!(!store.contains(&expected));
    assert!(partial_sizes(&store).is_empty(), "false bytes are not taken up again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_registry_is_asked_again() {
    let (_directory, store) = store();
    let registry = Registry::serve(&image(), Fault::Busy(2)).await;
    pull_from(&registry, &store).await.unwrap();
    assert_whole(&store, &image());
    let registry = Registry::serve(&image(), Fault::Busy(usize::MAX)).await;
    let error =
        pull(&registry.reference(), &impatient(), &store, Arc::new(NoProgress)).await.unwrap_err();
    assert!(
        told(&error, &registry).ends_with(
            "the registry REGISTRY does not give the manifest of site/node: 503 Service Unavailable"
        ),
        "{}",
        told(&error, &registry)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_asked_for_and_used() {
    let (directory, store) = store();
    let registry = Registry::serve(&image(), Fault::Login).await;
    let error = pull_from(&registry, &store).await.unwrap_err();
    assert!(matches!(error, PullError::Unauthorized { .. }), "{error:?}");
    let text = told(&error, &registry);
    assert!(
        text.starts_with(
            "the registry REGISTRY refuses access to site/node; log in on the server, as the user that it runs as, \
             with `podman login REGISTRY` or `docker login REGISTRY`"
        ) && text.ends_with(": 401 Unauthorized"),
        "{text}"
    );
    let logins = directory.path().join("auth.json");
    let text =
        format!(r#"{{"auths": {{"{}": {{"auth": "c2l0ZTpzZWNyZXQ="}}}}}}"#, registry.address);
    std::fs::write(&logins, text).unwrap();
    let options = PullOptions { credential_files: vec![logins], ..options() };
    pull(&registry.reference(), &options, &store, Arc::new(NoProgress)).await.unwrap();
    assert_whole(&store, &image());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_architecture_is_named() {
    let (_directory, store) = store();
    let arm = Image { architecture: "arm64", ..image() };
    let registry = Registry::serve(&arm, Fault::None).await;
    let error = pull_from(&registry, &store).await.unwrap_err();
    assert_eq!(
        told(&error, &registry),
        "there is no image for linux/amd64 here, only for linux/arm64; ask for one of those (--platform), or import \
         another image"
    );
    assert!(registry.layers_asked_for().is_empty(), "no layer is transferred for nothing");
    let platform: Platform = "linux/arm64".parse().unwrap();
    let options = PullOptions { platform, ..options() };
    pull(&registry.reference(), &options, &store, Arc::new(NoProgress)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_and_unknown_names() {
    let (_directory, store) = store();
    let registry = Registry::serve(&image(), Fault::None).await;
    let reference = format!("{}/site/node:2", registry.address);
    let error = pull(&reference, &options(), &store, Arc::new(NoProgress)).await.unwrap_err();
    assert_eq!(
        told(&error, &registry),
        "the registry REGISTRY has no site/node:2; it lists no tags of site/node: see whether the name is right"
    );
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let reference = format!("{unused}/x:1");
    let error = pull(&reference, &impatient(), &store, Arc::new(NoProgress)).await.unwrap_err();
    let PullError::Away { source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(**source, PullError::Unreachable { .. }), "{error:?}");
}
