//! Work that grows with what a user sends: documents, expressions, templates, differences.
//!
//! Called by every route that does such work. It runs on blocking threads, a few at a time, so that the
//! async threads, which answer everybody and serve nodes that boot, never do it:
//!
//! | what | how many |
//! |---|---|
//! | at a time | half of the processors, two at least |
//! | of one user at a time | half of that |
//! | waiting | [`MAX_WAITING`]; of one user [`MAX_WAITING_OF_USER`] |
//!
//! A permit belongs to the work and not to the client that waits for it: it moves into the closure and
//! is given back when that has ended. A client that hangs up sets the flag of [`Abandoned`], which the
//! loops of long work look at.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::available_parallelism,
};

use axum::http::StatusCode;
use tokio::{
    sync::oneshot,
    task::{JoinError, spawn_blocking},
};

use crate::Refusal;

/// Requests that wait for a permit. Each holds its body, 32 MiB at most, and mostly a few KiB.
const MAX_WAITING: usize = 64;

/// Those of one user: others find room in the queue, whatever one does.
const MAX_WAITING_OF_USER: usize = 16;

/// The pool of this process: it shares out the processors, of which there is one set.
static SHARED: LazyLock<WorkPool> = LazyLock::new(|| {
    let processors = available_parallelism().map_or(1, usize::from);
    WorkPool::new((processors / 2).max(2))
});

/// Does work of a user in the pool of this process. `title`: what failed if it cannot be done.
///
/// # Errors
/// 503 if the queue is full, 500 if the work broke.
pub async fn work<T: Send + 'static>(
    title: &str,
    user: &str,
    work: impl FnOnce(&Abandoned) -> T + Send + 'static,
) -> Result<T, Refusal> {
    SHARED.run(user, work).await.map_err(|error| error.refusal(title))
}

/// Why work was not done.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// Too many wait already.
    #[error(
        "{waiting} requests wait for the server's processors already, {of_user} of them yours; try \
         again in a few seconds"
    )]
    Full {
        /// All that wait.
        waiting: usize,
        /// Those of the user.
        of_user: usize,
    },
    /// It panicked.
    #[error("the work ended badly")]
    Broken(#[source] JoinError),
}

impl WorkError {
    /// The answer to the request. `title`: what failed.
    #[must_use]
    pub fn refusal(&self, title: &str) -> Refusal {
        match self {
            Self::Full { .. } => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, title, self.to_string()),
            Self::Broken(_) => Refusal::internal(title, self),
        }
    }
}

/// Whether nobody waits for some work any more.
#[derive(Debug, Clone, Default)]
pub struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    /// The result would be thrown away: the work may end now.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Says so.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sets the flag when the client's request is dropped.
struct Client(Abandoned);

impl Drop for Client {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// A number of permits, shared out among users. Clones share them.
#[derive(Debug, Clone)]
pub struct WorkPool(Arc<Shares>);

#[derive(Debug)]
struct Shares {
    permits: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Permits given out, by user.
    running: HashMap<Arc<str>, usize>,
    /// In the order in which they came.
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    user: Arc<str>,
    turn: oneshot::Sender<Permit>,
}

/// The right to keep one processor busy.
#[derive(Debug)]
struct Permit {
    user: Arc<str>,
    pool: WorkPool,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        if let Some(running) = state.running.get_mut(&self.user) {
            *running -= 1;
            if *running == 0 {
                state.running.remove(&self.user);
            }
        }
        drop(state);
        self.pool.hand_out();
    }
}

impl WorkPool {
    /// A pool for so much work at a time.
    #[must_use]
    pub fn new(permits: usize) -> Self {
        Self(Arc::new(Shares { permits: permits.max(1), state: Mutex::default() }))
    }

    /// Does work of a user on a blocking thread, when it is its turn.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn run<T: Send + 'static>(
        &self,
        user: &str,
        work: impl FnOnce(&Abandoned) -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        let client = Client(Abandoned::default());
        let abandoned = client.0.clone();
        let turn = self.enqueue(user)?;
        // The sender is in the queue until it is used, and a permit that is not taken is given back.
        let Ok(permit) = turn.await else {
            return Err(WorkError::Full { waiting: 0, of_user: 0 });
        };
        let working = spawn_blocking(move || {
            let _permit = permit;
            work(&abandoned)
        });
        let done = working.await.map_err(WorkError::Broken);
        drop(client);
        done
    }

    /// Permits of one user at a time.
    fn share(&self) -> usize {
        (self.0.permits / 2).max(1)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, user: &str) -> Result<oneshot::Receiver<Permit>, WorkError> {
        let (sender, receiver) = oneshot::channel();
        let user: Arc<str> = user.into();
        let mut state = self.state();
        // Those whose clients hung up wait for nothing.
        state.waiting.retain(|waiting| !waiting.turn.is_closed());
        let waiting = state.waiting.len();
        let of_user = state.waiting.iter().filter(|waiting| waiting.user == user).count();
        if waiting >= MAX_WAITING || of_user >= MAX_WAITING_OF_USER {
            return Err(WorkError::Full { waiting, of_user });
        }
        state.waiting.push_back(Waiting { user, turn: sender });
        drop(state);
        self.hand_out();
        Ok(receiver)
    }

    /// Gives free permits to those who wait: the first one each time whose user has not its share.
    fn hand_out(&self) {
        while let Some(Waiting { user, turn }) = self.next() {
            // Not taken, it comes back here by itself.
            drop(turn.send(Permit { user, pool: self.clone() }));
        }
    }

    /// The one whose turn it is; its permit is counted.
    fn next(&self) -> Option<Waiting> {
        let mut state = self.state();
        let State { running, waiting } = &mut *state;
        if running.values().sum::<usize>() >= self.0.permits {
            return None;
        }
        let share = self.share();
        let may = |waiting: &Waiting| running.get(&waiting.user).is_none_or(|running| *running < share);
        let next = waiting.iter().position(may)?;
        let next = waiting.remove(next)?;
        *running.entry(next.user.clone()).or_default() += 1;
        Some(next)
    }
}

#[cfg(test)]
mod tests;
