//! Registries that are away for a moment, and what is told of it meanwhile.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use image_store::{NoProgress, Progress};
use oci_pull::{PullError, PullOptions, Wait, Waits, pull};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};

use crate::{
    bad_registries::{assert_whole, image, options, store},
    registry::{Fault, Registry},
};

/// How long something that takes milliseconds may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Hands on what it is told.
#[derive(Debug)]
struct Told(mpsc::UnboundedSender<Option<Wait>>);

impl Waits for Told {
    fn waits(&self, wait: Option<&Wait>) {
        let _ = self.0.send(wait.cloned());
    }
}

fn watched() -> (PullOptions, mpsc::UnboundedReceiver<Option<Wait>>) {
    let (sender, told) = mpsc::unbounded_channel();
    (PullOptions { waits: Arc::new(Told(sender)), ..options() }, told)
}

/// All that was told: texts, and `None` for "it goes on".
fn all(mut told: mpsc::UnboundedReceiver<Option<Wait>>, registry: &Registry) -> Vec<Option<String>> {
    let mut texts = Vec::new();
    while let Ok(wait) = told.try_recv() {
        let text = wait.map(|wait| wait.to_string());
        texts.push(text.map(|text| text.replace(&registry.address.to_string(), "REGISTRY")));
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_then_up() {
    let (_folder, store) = store();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (options, mut told) = watched();
    let reference = format!("{address}/site/node:1");
    let pulling = {
        let store = store.clone();
        tokio::spawn(async move { pull(&reference, &options, &store, Arc::new(NoProgress)).await })
    };
    for _ in 0..2 {
        let wait = timeout(PATIENCE, told.recv()).await.unwrap().unwrap().unwrap();
        assert_eq!(wait.to_string(), format!("waiting for {address}: connection refused; next try in 1 s"));
    }
    let registry = Registry::serve_at(address, &image(), Fault::None).await;
    timeout(PATIENCE, pulling).await.unwrap().unwrap().unwrap();
    assert_whole(&store, &image());
    assert_eq!(all(told, &registry).last(), Some(&None), "that it goes on is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn unavailable_then_up() {
    let (_folder, store) = store();
    let (options, told) = watched();
    let registry = Registry::serve(&image(), Fault::Busy(2)).await;
    pull(&registry.reference(), &options, &store, Arc::new(NoProgress)).await.unwrap();
    assert_whole(&store, &image());
    let waits = Some("waiting for REGISTRY: 503 Service Unavailable; next try in 1 s".to_owned());
    assert_eq!(all(told, &registry), [waits.clone(), waits, None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_says_how_long_to_leave_it_alone() {
    let (_folder, store) = store();
    let (options, mut told) = watched();
    let registry = Registry::serve(&image(), Fault::Throttled(1)).await;
    pull(&registry.reference(), &options, &store, Arc::new(NoProgress)).await.unwrap();
    // Longer than the pause of five milliseconds that it would be.
    assert_eq!(told.recv().await.unwrap().unwrap().pause, Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn permanent_errors_are_told_at_once() {
    let (_folder, store) = store();
    let (options, told) = watched();
    let registry = Registry::serve(&image(), Fault::Login).await;
    let error = pull(&registry.reference(), &options, &store, Arc::new(NoProgress)).await.unwrap_err();
    assert!(matches!(error, PullError::Unauthorized { .. }), "{error:?}");
    let reference = format!("{}/site/node:2", registry.address);
    let open = Registry::serve(&image(), Fault::None).await;
    let unknown = reference.replace(&registry.address.to_string(), &open.address.to_string());
    let error = pull(&unknown, &options, &store, Arc::new(NoProgress)).await.unwrap_err();
    assert!(matches!(error, PullError::Unknown { .. }), "{error:?}");
    assert!(all(told, &registry).is_empty(), "nothing was waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_keeps_nobody_from_pulling() {
    let (_folder, store) = store();
    let (mut options, mut told) = watched();
    let turns = Arc::new(Semaphore::new(1));
    options.turns = Some(turns.clone());
    // Longer than the test, if it were waited for.
    options.backoff.first = PATIENCE;
    options.backoff.longest = PATIENCE;
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (reference, others) = (format!("{address}/site/node:1"), options.clone());
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move { pull(&reference, &options, &store, Arc::new(NoProgress)).await })
    };
    timeout(PATIENCE, told.recv()).await.unwrap().unwrap().unwrap();
    let registry = Registry::serve(&image(), Fault::None).await;
    let reference = registry.reference();
    let other = pull(&reference, &others, &store, Arc::new(NoProgress));
    timeout(PATIENCE / 2, other).await.unwrap().unwrap();
    waiting.abort();
}

/// Work that somebody ends.
#[derive(Debug, Default)]
struct Ends(AtomicBool);

impl Progress for Ends {
    fn advance(&self, _label: &str, _done: u64, _total: u64) {}

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_with_the_work() {
    let (_folder, store) = store();
    let (mut options, mut told) = watched();
    options.backoff.first = PATIENCE * 2;
    options.backoff.longest = PATIENCE * 2;
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (reference, ends) = (format!("{address}/site/node:1"), Arc::new(Ends::default()));
    let pulling = {
        let ends = ends.clone();
        tokio::spawn(async move { pull(&reference, &options, &store, ends).await })
    };
    timeout(PATIENCE, told.recv()).await.unwrap().unwrap().unwrap();
    ends.0.store(true, Ordering::Relaxed);
    let error = timeout(PATIENCE, pulling).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, PullError::Cancelled), "{error:?}");
}
