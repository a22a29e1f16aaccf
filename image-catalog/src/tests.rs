//! The catalog as a whole: what its two stores keep from each other, and what its one removal does.

use std::time::Duration;

use api::ids::Timestamp;
use oci_pull::{NoWaits, Reach};
use tokio::time::timeout;
use uuid::Uuid;

use super::*;
use crate::{jobs::tests as job_tests, store::sql::tables};

/// How long something that takes milliseconds may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A catalog without images, whose pulls may go to loopback.
async fn open(directory: &std::path::Path) -> ImageCatalog {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let substrate = directory.join("substrate");
    std::fs::write(&substrate, "not really a program").unwrap();
    let reach = Reach { allowed: vec!["127.0.0.0/8".parse().unwrap()], ..Reach::default() };
    let config = CatalogConfig {
        state_dir: directory.to_owned(),
        substrate,
        registries: Arc::new(Registries { reach, ..Registries::default() }),
        converter: Converter::in_this_process(),
        job_images: ImageLimits { days: ImageLimits::DEFAULT_DAYS, bytes: None },
    };
    let users = Database::open(&directory.join("users.db"), &[&access::SCHEMA]).await.unwrap();
    let access = Access::open(users).await.unwrap();
    let database = tables::open(&directory.join("bedplate.db")).await;
    ImageCatalog::open(database, config, access).await.unwrap()
}

/// An OS image whose digest a user knows, and a registry of that user's, which has nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn no_user_gets_an_os_image_by_its_digest_without_a_registrys_word() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = open(directory.path()).await;
    let image = job_tests::image();
    let nothing = image.files.keys().map(|path| (path.clone(), b"{}".to_vec())).collect();
    for bytes in image.files.into_values() {
        catalog.os_images().blobs().put(bytes.as_slice()).unwrap();
    }
    let (address, _serving) = job_tests::registry(nothing).await;
    let requester = Requester {
        group: Uuid::from_u128(1),
        part: 0,
        user: "ann".into(),
        waits: Arc::new(NoWaits),
    };
    let reference = format!("{address}/site/job@{}", image.manifest);
    let fetching = catalog.job_images().fetch(&reference, requester, Timestamp(0));
    let refused = timeout(PATIENCE, fetching).await.unwrap().unwrap().fetched.unwrap_err();
    let refused = ::rest::causes(refused.as_ref());
    assert!(refused.contains("expected sha256:"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_left_goes_at_the_start_and_job_images_have_their_minute() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = open(directory.path()).await;
    let stray = b"of an import that was killed";
    let (in_os, _) = catalog.os_images().blobs().put(&stray[..]).unwrap();
    let of_a_job = catalog.job_images().keep(stray.to_vec()).await.unwrap();
    let shutdown = CancellationToken::new();
    let (serving, stop) = (catalog.clone(), shutdown.clone());
    let serving = tokio::spawn(async move { serving.serve(stop).await });
    let is_gone = async {
        while catalog.os_images().blobs().contains(&in_os) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, is_gone).await.expect("what an import left stays");
    assert!(catalog.job_images().map(&of_a_job).is_ok());
    shutdown.cancel();
    timeout(PATIENCE, serving).await.expect("it does not end").unwrap();
    assert!(catalog.os_images().shutdown().is_cancelled());
}
