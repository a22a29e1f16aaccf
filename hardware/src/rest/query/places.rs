//! How many questions are answered at a time. Each of them holds inventories, whose sizes nodes
//! choose: those of one turn, and those that are told whole.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use axum::http::StatusCode;
use rest::Refusal;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Questions that are answered at a time.
const PLACES: usize = 16;

/// Those of one user.
const PLACES_OF_USER: usize = 4;

/// Questions of one user that wait for a place, each with the names of its nodes.
const MAX_WAITING_OF_USER: usize = 32;

/// How long a question waits for its place: as for its first turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// The places of this process, which has one memory.
static SHARED: LazyLock<InventoryPermits> = LazyLock::new(|| InventoryPermits::new(PATIENCE));

/// The right to hold inventories.
#[derive(Debug)]
pub(super) struct InventoryPermit {
    _of_user: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// A place for a question of a user. `title`: what failed if there is none.
pub(super) async fn take(title: &str, user: &str) -> Result<InventoryPermit, Refusal> {
    SHARED.take(user).await.ok_or_else(|| {
        let why = format!(
            "the server answers {PLACES} questions of hardware at a time, {PLACES_OF_USER} of one user, \
             and no place became free; try again in a few seconds"
        );
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, title, why)
    })
}

#[derive(Debug)]
struct InventoryPermits {
    patience: Duration,
    all: Arc<Semaphore>,
    /// Of users who have a place or wait for one.
    users: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl InventoryPermits {
    fn new(patience: Duration) -> Self {
        Self { patience, all: Arc::new(Semaphore::new(PLACES)), users: Mutex::default() }
    }

    /// `None`: none became free in time, or too many of the user wait.
    async fn take(&self, user: &str) -> Option<InventoryPermit> {
        let of_user = self.of_user(user)?;
        let all = self.all.clone();
        // In this order those of one user do not wait in front of others for what
        // they may not have.
        let both = async {
            let _of_user = of_user.acquire_owned().await.ok()?;
            let _of_all = all.acquire_owned().await.ok()?;
            Some(InventoryPermit { _of_user, _of_all })
        };
        timeout(self.patience, both).await.ok().flatten()
    }

    fn of_user(&self, user: &str) -> Option<Arc<Semaphore>> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        // Each place and each question that waits has a handle; who has none needs no entry.
        users.retain(|_, places| Arc::strong_count(places) > 1);
        let new = || Arc::new(Semaphore::new(PLACES_OF_USER));
        let places = users.entry(user.to_owned()).or_insert_with(new);
        let is_full = Arc::strong_count(places) > PLACES_OF_USER + MAX_WAITING_OF_USER;
        (!is_full).then(|| places.clone())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::{join_all, poll_immediate};

    use super::*;

    #[tokio::test]
    async fn a_user_has_some_of_the_places_and_all_together_no_more_than_there_are() {
        let places = InventoryPermits::new(Duration::ZERO);
        let mut of_one = Vec::new();
        for _ in 0..PLACES_OF_USER {
            of_one.push(places.take("one").await.unwrap());
        }
        assert!(places.take("one").await.is_none(), "it has its share");
        let mut others = Vec::new();
        for number in PLACES_OF_USER..PLACES {
            others.push(places.take(&format!("user{number}")).await.unwrap());
        }
        assert!(places.take("another").await.is_none(), "all are taken");
        of_one.pop();
        let place = places.take("another").await.unwrap();
        assert!(places.take("one").await.is_none(), "it may, but all are taken");
        drop((of_one, others, place));
        assert!(places.take("one").await.is_some());
        let users = places.users.lock().unwrap();
        assert_eq!(users.keys().collect::<Vec<_>>(), ["one"], "the others are forgotten");
    }

    #[tokio::test]
    async fn a_question_waits_for_a_place_and_not_too_many_of_a_user_do() {
        let places = InventoryPermits::new(PATIENCE);
        let taken = join_all((0..PLACES_OF_USER).map(|_| places.take("one"))).await;
        let mut waiting: Vec<_> =
            (0..MAX_WAITING_OF_USER).map(|_| Box::pin(places.take("one"))).collect();
        for one in &mut waiting {
            assert!(poll_immediate(one).await.is_none(), "it waits");
        }
        assert!(places.take("one").await.is_none(), "at once");
        assert!(poll_immediate(places.take("other")).await.flatten().is_some());
        drop(taken);
        assert!(waiting.remove(0).await.is_some());
    }
}
