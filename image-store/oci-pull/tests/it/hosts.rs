//! Settings of hosts: mirrors, logins, and where these go.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::Arc,
};

use api::ids::Digest;
use image_store::{NoProgress, OciImage, Platform, Store};
use oci_pull::{
    HostSettings, Proxy, PullError, PullOptions, Registries, manifest_in_store, pull,
    unusable_files,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use crate::{
    bad_registries::{assert_whole, image, options, registries, store, told},
    registry::{Fault, Image, Registry, Seen},
};

/// `site:secret` in Base64.
const AUTH: &str = "c2l0ZTpzZWNyZXQ=";

/// Settings of one host.
fn host(name: &str, settings: HostSettings) -> Registries {
    let hosts = [(name.parse().unwrap(), settings)].into();
    Registries { hosts, ..registries() }
}

fn with(registries: Registries) -> PullOptions {
    PullOptions { registries: Arc::new(registries), ..options() }
}

/// Mirrors of one registry.
fn mirrored(origin: &Registry, mirrors: &[String]) -> Registries {
    let mirrors = mirrors.iter().map(|mirror| mirror.parse().unwrap()).collect();
    host(&origin.address.to_string(), HostSettings { mirrors, ..HostSettings::default() })
}

/// A file with the login for a registry, which nobody else may read.
fn login_for(directory: &TempDir, registry: &Registry) -> PathBuf {
    let path = directory.path().join("login.json");
    let text = format!(r#"{{"auths": {{"{}": {{"auth": "{AUTH}"}}}}}}"#, registry.address);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

async fn pulled(
    registry: &Registry,
    options: &PullOptions,
    store: &Store,
) -> Result<OciImage, PullError> {
    pull(&registry.reference(), options, store, Arc::new(NoProgress)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_is_asked_before_its_registry() {
    let (_directory, store) = store();
    let origin = Registry::serve(&image(), Fault::None).await;
    let mirror = Registry::mirror(&image(), Fault::None).await;
    let options = with(mirrored(&origin, &[format!("{}/hub", mirror.address)]));
    pulled(&origin, &options, &store).await.unwrap();
    assert_whole(&store, &image());
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_fails_is_passed_over() {
    let lacks = Registry::serve(&image(), Fault::None).await;
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for fault in [Fault::Busy(usize::MAX), Fault::Login, Fault::Falsify, Fault::Short(70_001)] {
        let (_directory, store) = store();
        let origin = Registry::serve(&image(), Fault::None).await;
        let bad = Registry::mirror(&image(), fault).await;
        // One that nobody runs, one that has no such repository, and one that is bad.
        let mirrors = [
            dead.to_string(),
            format!("{}/nothing", lacks.address),
            format!("{}/hub", bad.address),
        ];
        pulled(&origin, &with(mirrored(&origin, &mirrors)), &store).await.unwrap();
        assert_whole(&store, &image());
        assert!(!bad.seen().is_empty() && !origin.seen().is_empty(), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_registry_says_counts_where_mirrors_fail() {
    let (_directory, store) = store();
    let origin = Registry::serve(&image(), Fault::Login).await;
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = with(mirrored(&origin, &[dead.to_string()]));
    let error = pulled(&origin, &options, &store).await.unwrap_err();
    assert!(matches!(error, PullError::Unauthorized { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_never_gets_the_login_of_its_registry() {
    let (directory, store) = store();
    let origin = Registry::serve(&image(), Fault::Login).await;
    let mirror = Registry::mirror(&image(), Fault::Login).await;
    let mut registries = mirrored(&origin, &[format!("{}/hub", mirror.address)]);
    let settings = registries.hosts.values_mut().next().unwrap();
    settings.credentials = Some(login_for(&directory, &origin));
    pulled(&origin, &with(registries), &store).await.unwrap();
    assert_whole(&store, &image());
    assert!(!mirror.seen().is_empty());
    assert!(mirror.authorizations().is_empty(), "{:?}", mirror.authorizations());
    assert_eq!(origin.authorizations().into_iter().collect::<Vec<_>>(), [format!("Basic {AUTH}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_gets_its_own_login() {
    let (directory, store) = store();
    let origin = Registry::serve(&image(), Fault::None).await;
    let mirror = Registry::mirror(&image(), Fault::Login).await;
    let mut registries = mirrored(&origin, &[format!("{}/hub", mirror.address)]);
    let credentials = Some(login_for(&directory, &mirror));
    let settings = HostSettings { credentials, ..HostSettings::default() };
    registries.hosts.insert(mirror.address.to_string().parse().unwrap(), settings);
    pulled(&origin, &with(registries), &store).await.unwrap();
    assert!(origin.seen().is_empty() && !mirror.authorizations().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_once_and_its_service_is_waited_for() {
    let (directory, store) = store();
    let registry = Registry::serve(&image(), Fault::Token(1)).await;
    let settings = HostSettings {
        credentials: Some(login_for(&directory, &registry)),
        ..HostSettings::default()
    };
    let options = with(host(&registry.address.to_string(), settings));
    pulled(&registry, &options, &store).await.unwrap();
    assert_whole(&store, &image());
    let seen = registry.seen();
    // One that was answered with 503, and the one of the next try.
    assert_eq!(seen.iter().filter(|seen| seen.path.starts_with("/token")).count(), 2, "{seen:?}");
    // The login goes to the token service alone.
    let login = format!("Basic {AUTH}");
    let has_login = |seen: &Seen| seen.authorization.as_deref() == Some(login.as_str());
    assert!(
        seen.iter().all(|seen| !has_login(seen) || seen.path.starts_with("/token")),
        "{seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_does_not_follow_a_redirect() {
    let (directory, store) = store();
    // Whoever has the layers would like a login too.
    let storage = Registry::serve(&image(), Fault::Login).await;
    let registry = Registry::serve(&image(), Fault::Elsewhere(storage.address)).await;
    let settings = HostSettings {
        credentials: Some(login_for(&directory, &registry)),
        ..HostSettings::default()
    };
    let options = with(host(&registry.address.to_string(), settings));
    let error = pulled(&registry, &options, &store).await.unwrap_err();
    assert!(matches!(error, PullError::Unauthorized { .. }), "{error:?}");
    assert!(
        !storage.seen().is_empty() && storage.authorizations().is_empty(),
        "{:?}",
        storage.seen()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_others_can_read_is_not_used() {
    let (directory, store) = store();
    let registry = Registry::serve(&image(), Fault::Login).await;
    let path = login_for(&directory, &registry);
    let settings = HostSettings { credentials: Some(path.clone()), ..HostSettings::default() };
    let registries = host(&registry.address.to_string(), settings);
    assert!(unusable_files(&registries).is_empty());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let error = pulled(&registry, &with(registries.clone()), &store).await.unwrap_err();
    let text = told(&error, &registry);
    assert!(text.contains("others may read or change it (mode 0644)"), "{text}");
    assert!(registry.seen().is_empty());
    let found = unusable_files(&registries);
    assert_eq!((found.len(), found[0].setting), (1, "credentials"));
}

/// Speaks TLS in front of a registry. Returns where, and the certificate.
async fn behind_tls(registry: SocketAddr) -> (SocketAddr, String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pair = rcgen::generate_simple_self_signed(["0.0.0.0".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![pair.cert.der().clone()], key.into()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Who does not trust the certificate goes away.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut to = tokio::net::TcpStream::connect(registry).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut to).await;
            });
        }
    });
    (address, pair.cert.pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_the_site_is_trusted_where_it_is_set() {
    let (directory, store) = store();
    let registry = Registry::serve(&image(), Fault::None).await;
    // An address of this machine that is not one of loopback, which would be spoken
    // to in plain HTTP.
    let (address, certificate) = behind_tls(registry.address).await;
    let reference = format!("{address}/site/node:1");
    // At once: it is not waited for.
    let error = pull(&reference, &options(), &store, Arc::new(NoProgress)).await.unwrap_err();
    assert!(matches!(error, PullError::Unreachable { .. }), "{error:?}");
    assert!(told(&error, &registry).contains("certificate"), "{}", told(&error, &registry));
    let ca = directory.path().join("ca.pem");
    fs::write(&ca, certificate).unwrap();
    let settings = HostSettings { ca: Some(ca), proxy: Proxy::Direct, ..HostSettings::default() };
    let registries = host(&address.to_string(), settings);
    assert!(unusable_files(&registries).is_empty());
    pull(&reference, &with(registries), &store, Arc::new(NoProgress)).await.unwrap();
    assert_whole(&store, &image());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_reached_through_its_proxy() {
    let (_directory, store) = store();
    let proxy = Registry::serve(&image(), Fault::None).await;
    let through = format!("http://{}", proxy.address).parse().unwrap();
    let settings = HostSettings { plain_http: true, proxy: through, ..HostSettings::default() };
    let options = with(host("registry.example", settings));
    pull("registry.example/site/node:1", &options, &store, Arc::new(NoProgress)).await.unwrap();
    assert_whole(&store, &image());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_must_be_some() {
    let (directory, store) = store();
    let registry = Registry::serve(&image(), Fault::None).await;
    let ca = directory.path().join("ca.pem");
    fs::write(&ca, "no certificate\n").unwrap();
    let settings = HostSettings { ca: Some(ca), ..HostSettings::default() };
    let registries = host(&registry.address.to_string(), settings);
    let found = unusable_files(&registries);
    assert_eq!((found.len(), found[0].setting), (1, "ca"));
    let error = pulled(&registry, &with(registries), &store).await.unwrap_err();
    assert!(told(&error, &registry).ends_with("it holds no certificate in PEM"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn false_documents_are_not_believed() {
    let (_directory, store) = store();
    let falsifies = Registry::serve(&image(), Fault::FalseDocuments).await;
    let error = pulled(&falsifies, &options(), &store).await.unwrap_err();
    assert!(told(&error, &falsifies).contains("digest mismatch"), "{error}");
    // Nor where the true one is there already, so that nothing is stored.
    let honest = Registry::serve(&image(), Fault::None).await;
    pulled(&honest, &options(), &store).await.unwrap();
    assert_eq!(pulled(&falsifies, &options(), &store).await.unwrap().architecture, "amd64");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_knows_what_a_digest_stands_for() {
    let (_directory, store) = store();
    let registry = Registry::serve(&image(), Fault::None).await;
    let manifest = registry.manifest();
    let known = |version: &str| {
        let reference = format!("registry.example/site/node{version}");
        manifest_in_store(&reference, &Platform::default(), &store)
    };
    // Nothing is known yet, and the digest may be that of a manifest.
    assert_eq!(known(&format!("@{manifest}")), Some(manifest));
    pulled(&registry, &options(), &store).await.unwrap();
    assert_eq!(known(&format!("@{manifest}")), Some(manifest));
    assert_eq!(known(&format!(":1@{manifest}")), Some(manifest));
    assert_eq!(known(":1"), None);
    assert_eq!(known(""), None);
    // An index leads to the image for the platform, if the store has the index.
    let entry = |architecture: &str, digest: Digest| {
        serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 7, "digest": digest,
            "platform": {"os": "linux", "architecture": architecture},
        })
    };
    let put = |entries: &[serde_json::Value]| {
        let index = serde_json::json!({"schemaVersion": 2, "manifests": entries});
        store.put(index.to_string().as_bytes()).unwrap().0
    };
    let other = Digest([7; 32]);
    let index = put(&[entry("arm64", other), entry("amd64", manifest)]);
    assert_eq!(known(&format!("@{index}")), Some(manifest));
    let index = put(&[entry("arm64", other), entry("riscv64", manifest)]);
    assert_eq!(known(&format!("@{index}")), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_are_those_of_sha256() {
    let (_directory, store) = store();
    let reference = format!("registry.example/site/node@sha512:{}", "0".repeat(128));
    let error = pull(&reference, &options(), &store, Arc::new(NoProgress)).await.unwrap_err();
    assert!(error.to_string().contains("its digest is not one of sha256"), "{error}");
    let image = Image { architecture: "amd64", layers: Vec::new() };
    let registry = Registry::serve(&image, Fault::None).await;
    let reference = format!("{}/site/node@{}", registry.address, Digest([7; 32]));
    let error = pull(&reference, &options(), &store, Arc::new(NoProgress)).await.unwrap_err();
    assert!(matches!(error, PullError::Unknown { .. }), "{error:?}");
}
