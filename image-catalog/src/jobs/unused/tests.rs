//! Which images go, and what of the store goes with them.

use std::sync::Arc;

use api::image::{Artifact, Platform};
use image_store::RunConfig;
use serde_json::json;

use super::*;
use crate::{
    jobs::{JobImage, JobImagesConfig, tests::book::Book},
    store::sql::tables,
};

const NOW: Timestamp = Timestamp(1_000 * DAY_SECONDS * 1_000_000);

fn days_ago(days: i64) -> Timestamp {
    NOW.plus_seconds(-days * DAY_SECONDS)
}

fn number(number: u8) -> Digest {
    Digest([number; 32])
}

/// An image made of blobs with these numbers; the first is its manifest.
fn image(days: i64, in_use: bool, blobs: &[u8]) -> ImageParts {
    ImageParts {
        manifest: number(blobs[0]),
        used: days_ago(days),
        in_use,
        blobs: blobs.iter().copied().map(number).collect(),
    }
}

/// Numbers of the images that go; every blob has 10 bytes.
fn gone(images: &[ImageParts], days: u32, bytes: Option<u64>) -> Vec<u8> {
    let sizes = images.iter().flat_map(|image| &image.blobs).map(|digest| (*digest, 10)).collect();
    let gone = unused(images, &sizes, NOW, ImageLimits { days, bytes });
    gone.into_iter().map(|digest| digest.0[0]).collect()
}

#[test]
fn the_oldest_go_and_what_is_in_use_stays() {
    let images = [
        image(30, true, &[1, 11, 99]),
        image(8, false, &[2, 12, 99]),
        image(7, false, &[3, 13, 99]),
        image(1, false, &[4, 14]),
    ];
    assert_eq!(gone(&images, 7, None), [2]);
    assert_eq!(gone(&images, 100, None), [0; 0]);
    // 90 bytes in all; the base that three share counts once, and stays with the last of them.
    assert_eq!(gone(&images, 100, Some(90)), [0; 0]);
    assert_eq!(gone(&images, 100, Some(89)), [2]);
    assert_eq!(gone(&images, 100, Some(69)), [2, 3]);
    // What is in use alone is past the limit: it stays.
    assert_eq!(gone(&images, 100, Some(1)), [2, 3, 4]);
    // A clock that was ahead.
    assert_eq!(gone(&[image(-400, false, &[1])], 7, None), [0; 0]);
}

struct Site {
    _directory: tempfile::TempDir,
    images: JobImages,
    book: Arc<Book>,
}

impl Site {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = tables::open(&directory.path().join("db")).await;
        let config = JobImagesConfig {
            state_dir: directory.path().to_owned(),
            registries: Arc::default(),
            converter: image_store::Converter::in_this_process(),
            platform: Platform::default(),
        };
        let (images, book) = (JobImages::open(database, config).unwrap(), Book::with_room_for(36));
        images.used_by(book.clone());
        Self { _directory: directory, images, book }
    }

    fn put(&self, text: &str) -> Digest {
        self.images.blobs.put(text.as_bytes()).unwrap().0
    }

    /// An image of one layer, as a fetch leaves it; with the digests of all that it is made of.
    async fn image(&self, name: &str, used: Timestamp) -> (JobImage, Vec<Digest>) {
        let [layer, config] =
            [format!("layer of {name}"), format!("{{\"config of\": \"{name}\"}}")];
        let descriptor = |kind: &str, text: &str| {
            let media_type = format!("application/vnd.oci.image.{kind}");
            json!({"mediaType": media_type, "digest": self.put(text), "size": text.len()})
        };
        let manifest = json!({
            "schemaVersion": 2,
            "config": descriptor("config.v1+json", &config),
            "layers": [descriptor("layer.v1.tar", &layer)],
        });
        let manifest = self.put(&manifest.to_string());
        let root = self.put(&format!("squashfs of {name}"));
        let parts = vec![manifest, root, self.put(&layer), self.put(&config)];
        let root = Artifact { format: "squashfs".to_owned(), digest: root, size: 12 };
        let image =
            JobImage { manifest, root, run: RunConfig::default(), indexes: None, pulled_by: None };
        let write = Write::PutJobImage { image: Box::new(image.clone()), used };
        self.images.store.commit(&[write]).await.unwrap();
        (image, parts)
    }

    fn index(&self, of: Digest) -> Digest {
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let entry = json!({"mediaType": media_type, "digest": of, "size": 1});
        self.put(&json!({"schemaVersion": 2, "manifests": [entry]}).to_string())
    }

    /// One removal while `blobs` are in use.
    async fn remove_unused(&self, blobs: &[Digest]) {
        let limits = ImageLimits { days: 7, bytes: None };
        self.book.needs(blobs);
        assert_eq!(self.images.remove_unused(NOW, limits).await.unwrap(), None);
    }

    fn holds(&self, digests: &[Digest]) -> Vec<bool> {
        digests.iter().map(|digest| self.images.blobs.contains(digest)).collect()
    }

    async fn known(&self) -> Vec<Digest> {
        self.images
            .store
            .job_images()
            .await
            .unwrap()
            .into_iter()
            .map(|kept| kept.image.manifest)
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unused_image_goes_with_all_that_it_is_made_of() {
    let site = Site::new().await;
    let (old, old_parts) = site.image("old", days_ago(8)).await;
    let (_, young_parts) = site.image("young", days_ago(6)).await;
    let (busy, busy_parts) = site.image("busy", days_ago(300)).await;
    let script = site.put("#!/bin/sh");
    let left =
        [site.put("a script of a workflow that is over"), site.put("a layer of a failed fetch")];
    let to_young = site.index(young_parts[0]);
    let to_index = site.index(to_young);
    let to_old = site.index(old.manifest);

    site.remove_unused(&[script, busy.manifest, busy.root.digest]).await;
    assert_eq!(site.holds(&old_parts), [false; 4]);
    assert_eq!(site.holds(&[&young_parts[..], &busy_parts].concat()), [true; 8]);
    assert_eq!(site.holds(&[script, to_young, to_index]), [true; 3]);
    assert_eq!(site.holds(&[left[0], left[1], to_old]), [false; 3]);
    assert!(!site.known().await.contains(&old.manifest));

    // The busy one was used until now, so its days begin now.
    site.remove_unused(&[]).await;
    assert_eq!(site.holds(&busy_parts), [true; 4]);
    assert_eq!(site.holds(&[script]), [false]);
    assert!(site.known().await.contains(&busy.manifest));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_fetched_or_handed_in_stays() {
    let site = Site::new().await;
    let work = site.images.leased();
    let file = work.keep(b"of a submission".to_vec()).await.unwrap();
    let (_, parts) = site.image("kept before", days_ago(100)).await;
    assert_eq!(work.blobs.size(&parts[1]).unwrap(), 23);
    site.remove_unused(&[]).await;
    assert_eq!(site.holds(&[file, parts[1], parts[2]]), [true, true, false]);
    drop(work);
    site.remove_unused(&[]).await;
    assert_eq!(site.holds(&[file, parts[1]]), [false; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_counts_as_a_use() {
    let site = Site::new().await;
    let (image, parts) = site.image("fetched again", days_ago(100)).await;
    site.images.used.lock().unwrap().insert(image.manifest, days_ago(0));
    site.remove_unused(&[]).await;
    assert_eq!(site.holds(&parts), [true; 4]);
    assert_eq!(site.images.store.job_images().await.unwrap()[0].used, days_ago(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_while_it_is_not_known_what_is_needed() {
    let site = Site::new().await;
    let (_, parts) = site.image("old", days_ago(100)).await;
    let limits = ImageLimits { days: 7, bytes: None };
    // Nor before anybody has said it.
    let early = JobImages { users: Arc::default(), ..site.images.clone() };
    let said = early.remove_unused(NOW, limits).await.unwrap();
    assert_eq!(said.as_deref(), Some("nobody has said what is in use"));
    site.book.knows_not("workflow 1 is blocked");
    let said = site.images.remove_unused(NOW, limits).await.unwrap();
    assert_eq!(said.as_deref(), Some("workflow 1 is blocked"));
    assert_eq!(site.holds(&parts), [true; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_is_counted() {
    let site = Site::new().await;
    site.image("young", days_ago(6)).await;
    site.put("a script of a workflow that is over");
    for _ in 0..2 {
        site.remove_unused(&[]).await;
        let mut out = metrics::Exposition::new();
        site.images.expose(&mut out);
        let text = out.finish();
        for line in [
            "bedplate_job_image_removed_files_total{kind=\"blob\"} 1",
            "bedplate_job_image_removed_files_total{kind=\"partial\"} 0",
            "bedplate_job_image_removed_bytes_total 35",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inline_file_that_looks_like_an_index_goes_with_its_workflow() {
    let site = Site::new().await;
    let (mut image, parts) = site.image("young", days_ago(6)).await;
    let (found_by, of_another_release) =
        (site.index(image.manifest), site.image("old row", days_ago(6)).await);
    image.found_by(&[found_by]);
    let write = Write::PutJobImage { image: Box::new(image.clone()), used: days_ago(6) };
    site.images.store.commit(&[write]).await.unwrap();
    let before = site.index(of_another_release.0.manifest);
    site.remove_unused(&[]).await;
    assert_eq!(site.holds(&[found_by, before]), [true; 2]);

    // From now on each image names its indexes, also one of an earlier release.
    let inline = json!({"schemaVersion": 2, "annotations": {"of": "a document"}, "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.manifest, "size": 1},
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": parts[0], "size": 1},
        {"mediaType": "application/vnd.oci.image.manifest.v1+json",
         "digest": of_another_release.0.manifest, "size": 1},
    ]});
    let inline = site.put(&inline.to_string());
    let to_inline = site.index(inline);
    site.remove_unused(&[inline, to_inline]).await;
    assert_eq!(site.holds(&[inline, to_inline, found_by, before]), [true; 4]);
    site.remove_unused(&[]).await;
    assert_eq!(site.holds(&[inline, to_inline, found_by, before]), [false, false, true, true]);
    assert_eq!(site.holds(&parts), [true; 4]);
}

#[test]
fn an_image_keeps_its_newest_indexes() {
    let root = Artifact { format: "squashfs".to_owned(), digest: number(9), size: 12 };
    let mut image = JobImage {
        manifest: number(8),
        root,
        run: RunConfig::default(),
        indexes: None,
        pulled_by: None,
    };
    assert!(!image.found_by(&[]) && image.indexes == Some(Vec::new()));
    assert!(image.found_by(&[number(1), number(2)]) && !image.found_by(&[number(2)]));
    for one in 3..=20 {
        assert!(image.found_by(&[number(one)]));
    }
    assert_eq!(image.indexes, Some((5..=20).map(number).collect()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_without_room_does_not_use_goes() {
    let site = Site::new().await;
    let (spare, spare_parts) = site.image("spare", days_ago(1)).await;
    let (busy, busy_parts) = site.image("busy", days_ago(1)).await;
    let (fresh, fresh_parts) = site.image("fresh", NOW.plus_seconds(-60)).await;
    let (others, others_parts) = site.image("bob's", days_ago(1)).await;
    for (image, user) in [(&spare, "ann"), (&busy, "ann"), (&fresh, "ann"), (&others, "bob")] {
        site.book.take(image.manifest, user, 12);
    }
    let in_use = [busy.manifest, busy.root.digest];
    site.remove_unused(&in_use).await;
    assert_eq!(site.known().await.len(), 4, "all have their days");

    site.images.check_room(&"ann".into()).await.unwrap_err();
    site.remove_unused(&in_use).await;
    assert_eq!(site.holds(&spare_parts), [false; 4]);
    assert_eq!(site.holds(&[busy_parts, fresh_parts, others_parts].concat()), [true; 12]);
    assert_eq!((site.book.used("ann"), site.book.used("bob")), (24, 12));
}
