//! Images are charged to the owners of workflows, and what they need is what views name.

use std::path::Path;

use access::QuotaLimits;
use database::Database;
use image_catalog::{JobImages, JobImagesConfig};

use super::*;
use crate::{
    engine::{Engine, Surroundings},
    identity,
    views::Publisher,
};

/// The job images of a server in this directory; nothing is fetched.
pub(crate) fn job_images(database: Database, directory: &Path) -> JobImages {
    let config = JobImagesConfig {
        state_dir: directory.to_owned(),
        registries: Arc::default(),
        converter: image_store::Converter::in_this_process(),
        platform: api::image::Platform::default(),
    };
    JobImages::open(database, config).unwrap()
}

/// Users with room for so many bytes of images.
async fn users(directory: &Path, ledger: &QuotaLedger, bytes: u64) -> ImageUsers {
    let database = Database::open(&directory.join("db"), &[&access::SCHEMA]).await.unwrap();
    let mut limits = QuotaLimits::default();
    limits.set(QuotaName::Images, Some(bytes));
    let access = Access::open(database).await.unwrap().with_quota_limits(limits);
    let mut engine = Engine::new(Surroundings::default(), Box::new(identity::new_run));
    let publisher = Publisher::new(engine.view(api::ids::Timestamp(0)));
    ImageUsers::new(publisher.readers(), ledger.clone(), access)
}

#[tokio::test]
async fn an_image_is_charged_until_it_is_given_up_or_gone() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = QuotaLedger::default();
    let users = users(directory.path(), &ledger, 100).await;
    let (ann, digest) = (Arc::<str>::from("ann"), |number| Digest([number; 32]));
    let used = || ledger.used("ann").get(QuotaName::Images);
    users.check_room(&ann).await.unwrap();
    let charge = users.charge(digest(1), &ann, 60).await.unwrap();
    assert_eq!(used(), 60);
    drop(charge);
    assert_eq!(used(), 0, "it was not kept");
    users.charge(digest(1), &ann, 60).await.unwrap().keep();
    assert_eq!(used(), 60);
    assert!(users.short_of_room().is_empty());
    let exceeded = users.charge(digest(2), &ann, 60).await.unwrap_err().to_string();
    assert!(exceeded.contains("past the limit of 100 bytes (quota `images`)"), "{exceeded}");
    assert_eq!((used(), users.short_of_room()), (60, BTreeSet::from([digest(1)])));
    users.release(&digest(1));
    assert_eq!(used(), 0);
}

#[tokio::test]
async fn nothing_is_in_use_where_there_are_no_workflows() {
    let directory = tempfile::tempdir().unwrap();
    let users = users(directory.path(), &QuotaLedger::default(), 100).await;
    let ImagesInUse { blobs, unknown } = users.in_use();
    assert!(blobs.is_empty() && unknown.is_none());
}
