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
use oci_pull::{
    Limits, PullError, PullOptions, Registries, RequestError, Turns, Wait, Waits, pull,
};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    bad_registries::{assert_whole, image, options, registries, store},
    registry::{Fault, Image, Registry},
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
fn all(
    mut told: mpsc::UnboundedReceiver<Option<Wait>>,
    registry: &Registry,
) -> Vec<Option<String>> {
    let mut texts = Vec::new();
    while let Ok(wait) = told.try_recv() {
        let text = wait.map(|wait| wait.to_string());
        texts.push(text.map(|text| text.replace(&registry.address.to_string(), "REGISTRY")));
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_then_up() {
    let (_directory, store) = store();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (options, mut told) = watched();
    let reference = format!("{address}/site/node:1");
    let pulling = {
        let store = store.clone();
        tokio::spawn(async move { pull(&reference, &options, &store, Arc::new(NoProgress)).await })
    };
    for _ in 0..2 {
        let wait = timeout(PATIENCE, told.recv()).await.unwrap().unwrap().unwrap();
        assert_eq!(
            wait.to_string(),
            format!("waiting for {address}: connection refused; next try in 1 s")
        );
    }
    let registry = Registry::serve_at(address, &image(), Fault::None).await;
    timeout(PATIENCE, pulling).await.unwrap().unwrap().unwrap();
    assert_whole(&store, &image());
    assert_eq!(all(told, &registry).last(), Some(&None), "that it goes on is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn unavailable_then_up() {
    let (_directory, store) = store();
    let (options, told) = watched();
    let registry = Registry::serve(&image(), Fault::Busy(2)).await;
    pull(&registry.reference(), &options, &store, Arc::new(NoProgress)).await.unwrap();
    assert_whole(&store, &image());
    let waits = Some("waiting for REGISTRY: 503 Service Unavailable; next try in 1 s".to_owned());
    assert_eq!(all(told, &registry), [waits.clone(), waits, None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_says_how_long_to_leave_it_alone() {
    let (_directory, store) = store();
    let (options, mut told) = watched();
    let registry = Registry::serve(&image(), Fault::Throttled(1)).await;
    pull(&registry.reference(), &options, &store, Arc::new(NoProgress)).await.unwrap();
    // Longer than the pause of five milliseconds that it would be.
    assert_eq!(told.recv().await.unwrap().unwrap().pause, Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn permanent_errors_are_told_at_once() {
    let (_directory, store) = store();
    let (options, told) = watched();
    let registry = Registry::serve(&image(), Fault::Login).await;
    let error =
        pull(&registry.reference(), &options, &store, Arc::new(NoProgress)).await.unwrap_err();
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
    let (_directory, store) = store();
    let (mut options, mut told) = watched();
    let turns = Turns::new(1);
    options.turn = Some(turns.claim("ann"));
    // Longer than the test, if it were waited for.
    options.pauses.first = PATIENCE;
    options.pauses.longest = PATIENCE;
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let others = PullOptions { turn: Some(turns.claim("bob")), ..options.clone() };
    let reference = format!("{address}/site/node:1");
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
    let (_directory, store) = store();
    let (mut options, mut told) = watched();
    options.pauses.first = PATIENCE * 2;
    options.pauses.longest = PATIENCE * 2;
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

/// With little patience and these limits.
fn limited(limits: Limits) -> (PullOptions, mpsc::UnboundedReceiver<Option<Wait>>) {
    let patience = Duration::from_secs(1);
    let registries = Registries { patience, limits, ..registries() };
    let (options, told) = watched();
    (PullOptions { registries: Arc::new(registries), ..options }, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_too_slowly_is_a_try_that_failed() {
    let (_directory, store) = store();
    // A byte every five milliseconds cannot be so many, however fast the machine is.
    let window = Duration::from_millis(200);
    let (options, told) =
        limited(Limits { window, least_bytes_per_second: 100_000, ..Limits::default() });
    let registry = Registry::serve(&image(), Fault::Drip).await;
    let reference = registry.reference();
    let pulling = pull(&reference, &options, &store, Arc::new(NoProgress));
    let error = timeout(PATIENCE, pulling).await.unwrap().unwrap_err();
    let PullError::Away { source, registry: host, .. } = &error else { panic!("{error:?}") };
    let PullError::Interrupted { what, got, source, .. } = &**source else { panic!("{error:?}") };
    let is_slow =
        matches!(**source, RequestError::Slow { least_bytes: 5_000, is_whole: false, .. });
    assert!(is_slow && what.starts_with("layer ") && *got > 0, "{error:?}");
    assert_eq!(*host, registry.address.to_string());
    let waits = all(told, &registry);
    let begin = "waiting for REGISTRY: it sent ";
    let tells = |wait: &Option<String>| wait.as_ref().is_none_or(|wait| wait.starts_with(begin));
    assert!(waits.len() >= 2 && waits.iter().all(tells), "{waits:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_has_its_time() {
    let (_directory, store) = store();
    let (options, _told) =
        limited(Limits { layer: Duration::from_millis(300), ..Limits::default() });
    let registry = Registry::serve(&image(), Fault::Silent).await;
    let reference = registry.reference();
    let pulling = pull(&reference, &options, &store, Arc::new(NoProgress));
    let error = timeout(PATIENCE, pulling).await.unwrap().unwrap_err();
    let PullError::Away { source, .. } = &error else { panic!("{error:?}") };
    let PullError::Interrupted { got: 0, source, .. } = &**source else { panic!("{error:?}") };
    assert!(matches!(**source, RequestError::Overdue { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_has_its_time_with_all_its_tries() {
    let (_directory, store) = store();
    let limits = Limits { pull: Duration::from_millis(300), ..Limits::default() };
    let (options, _told) = limited(limits.clone());
    for fault in [Fault::Silent, Fault::Busy(usize::MAX)] {
        let registry = Registry::serve(&image(), fault).await;
        let reference = registry.reference();
        let pulling = pull(&reference, &options, &store, Arc::new(NoProgress));
        let error = timeout(PATIENCE, pulling).await.unwrap().unwrap_err();
        let PullError::TooLong { got: 0, limit, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*limit, limits.pull);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_dropped_frees_the_place() {
    let (_directory, store) = store();
    let turns = Turns::new(1);
    let slow = Registry::serve(&image(), Fault::Silent).await;
    let of = |user: &str| PullOptions { turn: Some(turns.claim(user)), ..options() };
    let (reference, options) = (slow.reference(), of("ann"));
    let pulling = {
        let store = store.clone();
        tokio::spawn(async move { pull(&reference, &options, &store, Arc::new(NoProgress)).await })
    };
    while slow.layers_asked_for().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (registry, options) = (Registry::serve(&image(), Fault::None).await, of("bob"));
    let claim = options.turn.clone().unwrap();
    let reference = registry.reference();
    let next = pull(&reference, &options, &store, Arc::new(NoProgress));
    tokio::pin!(next);
    tokio::select! {
        _ = &mut next => panic!("there is one place"),
        () = async { while claim.standing().is_none() { tokio::task::yield_now().await; } } => {}
    }
    pulling.abort();
    timeout(PATIENCE, next).await.unwrap().unwrap();
    assert_whole(&store, &image());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_pull_of_the_same_layer_holds_up_nobody() {
    let (_directory, store) = store();
    let image = Image { architecture: "amd64", layers: image().layers.split_off(1) };
    // It takes 25 minutes, and it may.
    let slow = Registry::serve(&image, Fault::Drip).await;
    let (patient, _told) = limited(Limits { least_bytes_per_second: 0, ..Limits::default() });
    let pulling = {
        let (store, reference) = (store.clone(), slow.reference());
        tokio::spawn(async move { pull(&reference, &patient, &store, Arc::new(NoProgress)).await })
    };
    while slow.layers_asked_for().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (options, _told) = limited(Limits { beside: Duration::ZERO, ..Limits::default() });
    let registry = Registry::serve(&image, Fault::None).await;
    let reference = registry.reference();
    let other = pull(&reference, &options, &store, Arc::new(NoProgress));
    timeout(PATIENCE, other).await.unwrap().unwrap();
    assert_whole(&store, &image);
    assert!(!pulling.is_finished());
    pulling.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_an_image_has_twice_is_asked_for_once() {
    let (_directory, store) = store();
    let layer = image().layers.remove(1);
    let image = Image { architecture: "amd64", layers: vec![layer.clone(), layer] };
    let registry = Registry::serve(&image, Fault::None).await;
    // Nothing is waited for that somebody transfers already.
    let (options, _told) = limited(Limits { beside: Duration::ZERO, ..Limits::default() });
    pull(&registry.reference(), &options, &store, Arc::new(NoProgress)).await.unwrap();
    assert_eq!(registry.layers_asked_for().len(), 1);
    assert_whole(&store, &image);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_more_than_a_share_gives_a_place_and_goes_on_later() {
    let (_directory, store) = store();
    let turns = Turns::new(5);
    let share = Duration::from_millis(20);
    let of = |user: &str, least_bytes_per_second| {
        let limits = Limits { share, least_bytes_per_second, ..Limits::default() };
        PullOptions { turn: Some(turns.claim(user)), ..limited(limits).0 }
    };
    // Two that have a place and do nothing, and two that take long.
    let idle = [turns.claim("ann"), turns.claim("ann")];
    let _idle = [idle[0].permit().await, idle[1].permit().await];
    let mut slow = Vec::new();
    for _ in 0..2 {
        let image = Image { architecture: "amd64", layers: image().layers.split_off(1) };
        let registry = Registry::serve(&image, Fault::Drip).await;
        let (options, reference, (directory, of_slow)) =
            (of("ann", 0), registry.reference(), self::store());
        let pulling = tokio::spawn(async move {
            pull(&reference, &options, &of_slow, Arc::new(NoProgress)).await
        });
        while registry.layers_asked_for().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        slow.push((pulling, registry, directory));
    }
    let first = turns.claim("bob");
    let _first = first.permit().await;
    let (registry, options) = (Registry::serve(&image(), Fault::None).await, of("bob", 0));
    let reference = registry.reference();
    let other = pull(&reference, &options, &store, Arc::new(NoProgress));
    timeout(PATIENCE, other).await.unwrap().unwrap();
    assert_whole(&store, &image());
    for (pulling, ..) in slow {
        assert!(!pulling.is_finished());
        pulling.abort();
    }
}
