//! Work that grows with what a user sends: documents, expressions, templates, differences.
//!
//! Called by every route that does such work. It runs on blocking threads, a few at a time, so that
//! the async threads, which answer everybody and serve nodes that boot, never do it:
//!
//! | what | how many |
//! |---|---|
//! | at a time | half of the processors, two at least |
//! | of one user at a time | half of that |
//! | waiting | [`MAX_WAITING`]; of one user [`MAX_WAITING_OF_USER`]; and bytes likewise |
//! | waiting for the first turn | [`PATIENCE`] |
//!
//! Users have their turns in rotation, however many requests each of them has waiting.
//!
//! A permit belongs to the work and not to the client that waits for it: it moves into the closure
//! and is given back when that has ended. A client that hangs up sets the flag of [`Abandoned`],
//! which the loops of long work look at. A request with several pieces of work has [`Turns`]: only
//! the first one can be refused, when nothing has been done yet.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::available_parallelism,
    time::Duration,
};

use axum::http::StatusCode;
use tokio::{
    sync::oneshot,
    task::{JoinError, spawn_blocking},
    task_local,
    time::timeout,
};

use crate::Refusal;

/// Requests that wait for a permit: a service account hands hundreds in at once.
const MAX_WAITING: usize = 1_024;

/// Those of one user: others find room in the queue, whatever one does.
const MAX_WAITING_OF_USER: usize = 256;

/// Bytes that those which wait hold, as far as they say so ([`Turns::holding`]). One that is larger
/// waits where no other one holds any.
const MAX_WAITING_BYTES: usize = 256 << 20;

/// Those of one user.
const MAX_WAITING_BYTES_OF_USER: usize = 64 << 20;

/// How long a request waits for its first turn: less than any client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pool of this process: it shares out the processors, of which there is one set.
static SHARED: LazyLock<WorkPool> = LazyLock::new(|| {
    let processors = available_parallelism().map_or(1, usize::from);
    WorkPool::new((processors / 2).max(2))
});

/// Does work of a user in the pool of this process. `title`: what failed if it cannot be done.
///
/// # Errors
/// 503 if the queue is full or long, 500 if the work broke.
pub async fn work<T: Send + 'static>(
    title: &str,
    user: &str,
    work: impl FnOnce(&Abandoned) -> T + Send + 'static,
) -> Result<T, Refusal> {
    turns(user).work(title, work).await
}

/// Turns in the pool of this process, for a request with several pieces of work.
#[must_use]
pub fn turns(user: &str) -> Turns {
    SHARED.turns(user)
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
    /// Its turn did not come.
    #[error(
        "the server's processors were busy with other requests for {} s; try again in a few seconds",
        .patience.as_secs()
    )]
    Late {
        /// How long it waited.
        patience: Duration,
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
            Self::Full { .. } | Self::Late { .. } => {
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, title, self.to_string())
            }
            Self::Broken(_) => Refusal::internal(title, self),
        }
    }
}

/// Whether nobody waits for some work any more.
#[derive(Debug, Clone, Default)]
pub struct Abandoned {
    /// Nobody waits for this piece of work.
    work: Arc<AtomicBool>,
    /// The client has gone, of a request that goes on without it ([`detached`]).
    client: Option<Arc<AtomicBool>>,
}

impl Abandoned {
    /// The result would be thrown away: the work may end now.
    #[must_use]
    pub fn is_set(&self) -> bool {
        let has_gone = self.client.as_ref().is_some_and(|client| client.load(Ordering::Relaxed));
        has_gone || self.work.load(Ordering::Relaxed)
    }

    /// From now on [`Self::is_set`] returns `true`, in all clones.
    pub fn set(&self) {
        self.work.store(true, Ordering::Relaxed);
    }
}

task_local! {
    /// Whether the client of the request has gone, which this task goes on with.
    static GONE: Arc<AtomicBool>;
}

/// Runs a request in a task of its own, which goes on to its end when the client has gone: a change
/// is made whole. Work of it that looks at [`Abandoned`] is told: it has changed nothing yet.
///
/// # Errors
/// If the request panicked.
pub async fn detached<T: Send + 'static>(
    request: impl Future<Output = T> + Send + 'static,
) -> Result<T, JoinError> {
    let client = Client(Abandoned::default());
    let gone = client.0.work.clone();
    tokio::spawn(GONE.scope(gone, request)).await
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
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Permits given out, by user.
    running: HashMap<Arc<str>, usize>,
    /// Users with requests that wait, the one whose turn is next in front.
    waiting: VecDeque<Queue>,
}

/// The requests of a user that wait, each kind in the order in which they came.
#[derive(Debug)]
struct Queue {
    user: Arc<str>,
    /// Those that had a turn already: what was done is worth more than what was not begun.
    again: VecDeque<Waiting>,
    first: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// Bytes that it holds.
    bytes: usize,
    turn: oneshot::Sender<Permit>,
}

impl Queue {
    fn all(&self) -> impl Iterator<Item = &Waiting> {
        self.again.iter().chain(&self.first)
    }

    /// Requests, and their bytes.
    fn size(&self) -> (usize, usize) {
        self.all().fold((0, 0), |(count, bytes), one| (count + 1, bytes + one.bytes))
    }
}

impl State {
    /// Those whose clients hung up wait for nothing.
    fn drop_abandoned(&mut self) {
        for queue in &mut self.waiting {
            for kind in [&mut queue.again, &mut queue.first] {
                kind.retain(|waiting| !waiting.turn.is_closed());
            }
        }
        self.waiting.retain(|queue| queue.all().next().is_some());
    }

    /// Requests that wait, and their bytes: all, and those of a user.
    fn sizes(&self, user: &str) -> [(usize, usize); 2] {
        let mut sizes = [(0, 0); 2];
        for queue in &self.waiting {
            let (count, bytes) = queue.size();
            sizes[0] = (sizes[0].0 + count, sizes[0].1 + bytes);
            if *queue.user == *user {
                sizes[1] = (count, bytes);
            }
        }
        sizes
    }

    /// Refuses a request that finds no room.
    fn admit(&self, user: &str, bytes: usize) -> Result<(), WorkError> {
        let [(waiting, held), (of_user, held_of_user)] = self.sizes(user);
        let is_over = |held: usize, limit: usize| held > 0 && held.saturating_add(bytes) > limit;
        let is_full = waiting >= MAX_WAITING
            || of_user >= MAX_WAITING_OF_USER
            || is_over(held, MAX_WAITING_BYTES)
            || is_over(held_of_user, MAX_WAITING_BYTES_OF_USER);
        if is_full { Err(WorkError::Full { waiting, of_user }) } else { Ok(()) }
    }

    /// Puts a request behind those of its user, and a user who has none waiting behind the others.
    fn push(&mut self, user: &Arc<str>, is_again: bool, waiting: Waiting) {
        let place = self.waiting.iter().position(|queue| queue.user == *user);
        let place = place.unwrap_or_else(|| {
            let (again, first) = (VecDeque::new(), VecDeque::new());
            self.waiting.push_back(Queue { user: user.clone(), again, first });
            self.waiting.len() - 1
        });
        let queue = &mut self.waiting[place];
        let kind = if is_again { &mut queue.again } else { &mut queue.first };
        kind.push_back(waiting);
    }

    /// The next one of the first user who may have a permit more; the user is the last
    /// one from then on.
    fn pop(&mut self, share: usize) -> Option<(Arc<str>, Waiting)> {
        let running = &self.running;
        let may = |queue: &Queue| running.get(&queue.user).is_none_or(|running| *running < share);
        let place = self.waiting.iter().position(may)?;
        let mut queue = self.waiting.remove(place)?;
        let next = queue.again.pop_front().or_else(|| queue.first.pop_front())?;
        let user = queue.user.clone();
        if queue.all().next().is_some() {
            self.waiting.push_back(queue);
        }
        Some((user, next))
    }
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
        Self::with_timeout(permits, PATIENCE)
    }

    fn with_timeout(permits: usize, patience: Duration) -> Self {
        Self(Arc::new(Shares { permits: permits.max(1), patience, state: Mutex::default() }))
    }

    /// Turns for a request of a user.
    #[must_use]
    pub fn turns(&self, user: &str) -> Turns {
        Turns { pool: self.clone(), user: user.into(), bytes: 0, has_begun: false }
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
        self.turns(user).run(work).await
    }

    /// Permits of one user at a time.
    fn share(&self) -> usize {
        (self.0.permits / 2).max(1)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, turns: &Turns) -> Result<oneshot::Receiver<Permit>, WorkError> {
        let Turns { user, bytes, has_begun, .. } = turns;
        let (turn, receiver) = oneshot::channel();
        let mut state = self.state();
        state.drop_abandoned();
        if !has_begun {
            state.admit(user, *bytes)?;
        }
        state.push(user, *has_begun, Waiting { bytes: *bytes, turn });
        drop(state);
        self.hand_out();
        Ok(receiver)
    }

    /// Gives free permits to those who wait.
    fn hand_out(&self) {
        while let Some((user, waiting)) = self.next() {
            // Not taken, it comes back here by itself.
            drop(waiting.turn.send(Permit { user, pool: self.clone() }));
        }
    }

    /// The one whose turn it is; its permit is counted.
    fn next(&self) -> Option<(Arc<str>, Waiting)> {
        let mut state = self.state();
        if state.running.values().sum::<usize>() >= self.0.permits {
            return None;
        }
        state.drop_abandoned();
        let (user, next) = state.pop(self.share())?;
        *state.running.entry(user.clone()).or_default() += 1;
        Some((user, next))
    }
}

/// The turns of one request, for each of its pieces of work. The first one is refused where the
/// queue is full or too slow; the others wait until they come, before requests that were not begun.
#[derive(Debug)]
pub struct Turns {
    pool: WorkPool,
    user: Arc<str>,
    /// Bytes that the request holds while it waits.
    bytes: usize,
    /// It had a turn.
    has_begun: bool,
}

impl Turns {
    /// Says how many bytes the request holds while it waits: a document.
    #[must_use]
    pub fn holding(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }

    /// Does a piece of work when it is its turn. `title`: what failed if it cannot be done.
    ///
    /// # Errors
    /// 503 if it is the first one and the queue is full or long, 500 if the work broke.
    pub async fn work<T: Send + 'static>(
        &mut self,
        title: &str,
        work: impl FnOnce(&Abandoned) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        self.run(work).await.map_err(|error| error.refusal(title))
    }

    /// Does a piece of work on a blocking thread, when it is its turn.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Abandoned) -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        let gone = GONE.try_with(Arc::clone).ok();
        let client = Client(Abandoned { client: gone, ..Abandoned::default() });
        let abandoned = client.0.clone();
        let permit = self.turn().await?;
        self.has_begun = true;
        let working = spawn_blocking(move || {
            let _permit = permit;
            work(&abandoned)
        });
        let done = working.await.map_err(WorkError::Broken);
        drop(client);
        done
    }

    async fn turn(&self) -> Result<Permit, WorkError> {
        let patience = self.pool.0.patience;
        let turn = self.pool.enqueue(self)?;
        // The sender is in the queue until it is used, and a permit that is not
        // taken is given back.
        let permit = match self.has_begun {
            true => turn.await.ok(),
            false => timeout(patience, turn).await.ok().and_then(Result::ok),
        };
        permit.ok_or(WorkError::Late { patience })
    }
}

#[cfg(test)]
mod tests;
