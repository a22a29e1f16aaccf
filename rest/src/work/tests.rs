//! Pools of a few permits, with work that ends when a test says so.

use std::{
    sync::{
        atomic::AtomicUsize,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use axum::{http::header, response::IntoResponse as _};
use tokio::task::{JoinHandle, yield_now};

use super::*;

/// Work that says when it begins and goes on until its sender is used or gone.
struct Held {
    ends: Sender<()>,
    working: JoinHandle<Result<(), WorkError>>,
}

/// What all work of a test did.
#[derive(Default)]
struct Seen {
    begun: AtomicUsize,
    running: AtomicUsize,
    most: AtomicUsize,
}

fn begin(pool: &WorkPool, user: &'static str, seen: &Arc<Seen>) -> Held {
    let (ends, end): (Sender<()>, Receiver<()>) = channel();
    let (pool, seen) = (pool.clone(), seen.clone());
    let working = tokio::spawn(async move {
        pool.run(user, move |_| {
            let running = seen.running.fetch_add(1, Ordering::SeqCst) + 1;
            seen.most.fetch_max(running, Ordering::SeqCst);
            seen.begun.fetch_add(1, Ordering::SeqCst);
            let _ = end.recv();
            seen.running.fetch_sub(1, Ordering::SeqCst);
        })
        .await
    });
    Held { ends, working }
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        yield_now().await;
    }
}

/// Enough turns of the runtime for every task to do what it can.
async fn settled() {
    for _ in 0..100 {
        yield_now().await;
    }
}

fn waiting(pool: &WorkPool) -> usize {
    pool.state().sizes("")[0].0
}

#[tokio::test]
async fn no_more_runs_at_a_time_than_there_are_permits() {
    let (pool, seen) = (WorkPool::new(2), Arc::new(Seen::default()));
    let users = ["a", "b", "c", "d"];
    let held: Vec<Held> = users.iter().map(|user| begin(&pool, user, &seen)).collect();
    until(|| seen.begun.load(Ordering::SeqCst) == 2 && waiting(&pool) == 2).await;
    for Held { ends, .. } in &held {
        ends.send(()).unwrap();
    }
    for Held { working, .. } in held {
        working.await.unwrap().unwrap();
    }
    assert_eq!(seen.begun.load(Ordering::SeqCst), 4);
    assert_eq!(seen.most.load(Ordering::SeqCst), 2);
    assert!(pool.state().running.is_empty());
}

#[tokio::test]
async fn work_whose_client_hung_up_keeps_its_permit_until_it_ends() {
    let (pool, seen) = (WorkPool::new(1), Arc::new(Seen::default()));
    let first = begin(&pool, "a", &seen);
    until(|| seen.begun.load(Ordering::SeqCst) == 1).await;
    first.working.abort();
    let second = begin(&pool, "b", &seen);
    until(|| waiting(&pool) == 1).await;
    settled().await;
    assert_eq!(seen.begun.load(Ordering::SeqCst), 1, "the first one runs still");
    first.ends.send(()).unwrap();
    until(|| seen.begun.load(Ordering::SeqCst) == 2).await;
    second.ends.send(()).unwrap();
    second.working.await.unwrap().unwrap();
    assert_eq!(seen.most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn work_is_told_that_its_client_hung_up() {
    let pool = WorkPool::new(1);
    let (begun, begins) = channel();
    let (ended, ends) = channel();
    let shared = pool.clone();
    let working = tokio::spawn(async move {
        let spin = move |abandoned: &Abandoned| {
            begun.send(()).unwrap();
            while !abandoned.is_set() {
                thread::yield_now();
            }
            ended.send(()).unwrap();
        };
        shared.run("a", spin).await
    });
    until(|| begins.try_recv().is_ok()).await;
    working.abort();
    until(|| ends.try_recv().is_ok()).await;
    until(|| pool.state().running.is_empty()).await;
}

#[tokio::test]
async fn work_of_a_request_that_goes_on_is_told_that_its_client_hung_up() {
    let pool = WorkPool::new(1);
    let (begun, begins) = channel();
    let (ended, ends) = channel();
    let shared = pool.clone();
    let request = async move {
        let mut turns = shared.turns("a");
        // The end of one piece of work says nothing of the client.
        assert!(!turns.run(|abandoned| abandoned.is_set()).await.unwrap());
        let spin = move |abandoned: &Abandoned| {
            begun.send(()).unwrap();
            while !abandoned.is_set() {
                thread::yield_now();
            }
        };
        turns.run(spin).await.unwrap();
        ended.send(()).unwrap();
    };
    let client = tokio::spawn(detached(request));
    until(|| begins.try_recv().is_ok()).await;
    client.abort();
    until(|| ends.try_recv().is_ok()).await;
}

#[tokio::test]
async fn a_user_has_half_of_the_permits_whoever_else_waits() {
    let (pool, seen) = (WorkPool::new(4), Arc::new(Seen::default()));
    let many: Vec<Held> = (0..6).map(|_| begin(&pool, "many", &seen)).collect();
    until(|| seen.begun.load(Ordering::SeqCst) == 2 && waiting(&pool) == 4).await;
    // It came last and is served first: the user in front of it has its share.
    let one = begin(&pool, "one", &seen);
    until(|| seen.begun.load(Ordering::SeqCst) == 3).await;
    assert_eq!(waiting(&pool), 4);
    one.ends.send(()).unwrap();
    one.working.await.unwrap().unwrap();
    for Held { ends, .. } in &many {
        ends.send(()).unwrap();
    }
    for Held { working, .. } in many {
        working.await.unwrap().unwrap();
    }
    assert_eq!(seen.begun.load(Ordering::SeqCst), 7);
}

#[tokio::test]
async fn a_full_queue_is_told_and_has_room_for_others() {
    let (pool, seen) = (WorkPool::new(2), Arc::new(Seen::default()));
    let held: Vec<Held> = (0..=MAX_WAITING_OF_USER).map(|_| begin(&pool, "many", &seen)).collect();
    until(|| waiting(&pool) == MAX_WAITING_OF_USER).await;
    let full = pool.run("many", |_| ()).await.unwrap_err();
    let response = full.refusal("cannot check the document").into_response();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    pool.run("other", |_| ()).await.unwrap();
    // Clients that hung up leave their room in the queue, and their work is never begun.
    held.iter().skip(1).for_each(|held| held.working.abort());
    settled().await;
    let last = begin(&pool, "many", &seen);
    until(|| waiting(&pool) == 1).await;
    held[0].ends.send(()).unwrap();
    last.ends.send(()).unwrap();
    last.working.await.unwrap().unwrap();
    assert_eq!(seen.begun.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn the_queue_is_bounded_for_all_together() {
    let (pool, seen) = (WorkPool::new(1), Arc::new(Seen::default()));
    let users = ["a", "b", "c", "d", "e"];
    let held: Vec<Held> =
        (0..=MAX_WAITING).map(|number| begin(&pool, users[number % 5], &seen)).collect();
    until(|| waiting(&pool) == MAX_WAITING).await;
    assert!(matches!(
        pool.run("f", |_| ()).await,
        Err(WorkError::Full { waiting: MAX_WAITING, of_user: 0 })
    ));
    drop(held);
}

#[tokio::test]
async fn users_have_their_turns_in_rotation_however_many_of_each_wait() {
    let (pool, seen) = (WorkPool::new(1), Arc::new(Seen::default()));
    let first = begin(&pool, "many", &seen);
    until(|| seen.begun.load(Ordering::SeqCst) == 1).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut all = Vec::new();
    for user in ["many", "many", "many", "one", "one", "other"] {
        let (shared, order, before) = (pool.clone(), order.clone(), waiting(&pool));
        all.push(tokio::spawn(async move {
            shared.run(user, move |_| order.lock().unwrap().push(user)).await
        }));
        until(|| waiting(&pool) == before + 1).await;
    }
    first.ends.send(()).unwrap();
    first.working.await.unwrap().unwrap();
    for working in all {
        working.await.unwrap().unwrap();
    }
    assert_eq!(*order.lock().unwrap(), ["many", "one", "other", "many", "one", "many"]);
}

#[tokio::test]
async fn a_first_turn_that_does_not_come_is_refused_and_a_later_one_comes() {
    let (pool, seen) = (WorkPool::with_timeout(1, Duration::ZERO), Arc::new(Seen::default()));
    let mut turns = pool.turns("a");
    turns.run(|_| ()).await.unwrap();
    let held = begin(&pool, "a", &seen);
    until(|| seen.begun.load(Ordering::SeqCst) == 1).await;
    let late = pool.run("a", |_| ()).await.unwrap_err();
    assert!(matches!(late, WorkError::Late { .. }), "{late}");
    let refused = late.refusal("cannot start the workflow").into_response();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let again = tokio::spawn(async move { turns.run(|_| 7).await });
    until(|| waiting(&pool) == 1).await;
    settled().await;
    assert!(!again.is_finished());
    held.ends.send(()).unwrap();
    held.working.await.unwrap().unwrap();
    assert_eq!(again.await.unwrap().unwrap(), 7);
}

#[tokio::test]
async fn a_later_turn_finds_room_in_a_full_queue_and_comes_before_what_was_not_begun() {
    let (pool, seen) = (WorkPool::new(1), Arc::new(Seen::default()));
    let mut turns = pool.turns("many");
    turns.run(|_| ()).await.unwrap();
    let held: Vec<Held> = (0..=MAX_WAITING_OF_USER).map(|_| begin(&pool, "many", &seen)).collect();
    until(|| waiting(&pool) == MAX_WAITING_OF_USER).await;
    assert!(pool.run("many", |_| ()).await.is_err());
    let counted = seen.clone();
    let again =
        tokio::spawn(async move { turns.run(move |_| counted.begun.load(Ordering::SeqCst)).await });
    until(|| waiting(&pool) == MAX_WAITING_OF_USER + 1).await;
    held[0].ends.send(()).unwrap();
    assert_eq!(again.await.unwrap().unwrap(), 1, "of the others one has begun");
    drop(held);
}

#[test]
fn what_waits_is_bounded_in_bytes() {
    let mut state = State::default();
    let mut receivers = Vec::new();
    let mut push = |state: &mut State, user: &str, bytes: usize| {
        let (turn, receiver) = oneshot::channel();
        receivers.push(receiver);
        state.push(&user.into(), false, Waiting { bytes, turn });
    };
    state.admit("a", usize::MAX).unwrap();
    push(&mut state, "a", MAX_WAITING_BYTES_OF_USER);
    assert!(state.admit("a", 1).is_err());
    state.admit("a", 0).unwrap();
    for user in ["b", "c", "d"] {
        state.admit(user, MAX_WAITING_BYTES_OF_USER).unwrap();
        push(&mut state, user, MAX_WAITING_BYTES_OF_USER);
    }
    assert!(matches!(state.admit("e", 1), Err(WorkError::Full { waiting: 4, of_user: 0 })));
}

#[tokio::test]
async fn work_that_panics_gives_its_permit_back() {
    let pool = WorkPool::new(1);
    let broken = pool.run("a", |_| assert_eq!(1, 2, "on purpose")).await.unwrap_err();
    assert_eq!(broken.refusal("x").0.status, StatusCode::INTERNAL_SERVER_ERROR.as_u16());
    assert_eq!(pool.run("a", |_| 7).await.unwrap(), 7);
}
