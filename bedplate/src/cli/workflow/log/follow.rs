//! The logs of all tasks of an array as they are written, of those that begin later, and of those
//! that are tried again.
//!
//! ```text
//!   look: which attempts have begun? ──attempt──► follow_each: at most 32 at a time ──line──► standard output
//! ```
//! An attempt that has begun waits for its turn with the one who looks, who asks nothing meanwhile.
//! All of it is one thread, and what is printed are whole lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use api::workflow::{Attempt, Workflow};
use client::{Client, ClientError, LogOf};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::mpsc;

use super::{
    MAX_RETRIES, RETRY,
    array::{Array, Done},
};

/// Logs that are followed at a time: each is a request that stays open, and a line that is not
/// whole yet. `bedplate workflow log --help` names it.
const FOLLOWED_AT_ONCE: usize = 32;

/// How often is looked whether more attempts have begun, and how much longer for each attempt of
/// which there is word: of an array of thousands an answer has megabytes.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const LOOK_INTERVAL_EACH: Duration = Duration::from_millis(1);

/// Follows the logs of all tasks until the job is over and all is printed.
pub(super) async fn all(array: &Array<'_>, done: &mut Done) -> anyhow::Result<()> {
    let (begun, runs) = mpsc::channel(1);
    let print =
        async |fresh: Fresh| (fresh.run, array.print_among_others(fresh.run, fresh.tail).await);
    let following = follow_each(runs, print, |(run, printed)| done.add(run, printed));
    tokio::try_join!(look(array, begun), following)?;
    Ok(())
}

/// A task and its attempt.
pub(super) type Run = (u32, u32);

/// An attempt that is to be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fresh {
    run: Run,
    /// So many lines of what is there now; `None`: all.
    tail: Option<u64>,
}

/// The attempts that are or were followed.
#[derive(Debug, Default)]
struct Known {
    runs: BTreeSet<Run>,
    has_looked: bool,
}

impl Known {
    /// The attempts that have begun since the last look; at the first one the last attempt of each
    /// task, as where nothing is followed, and of that one so many lines as are `wanted`: what
    /// begins later comes after them, and is wanted whole.
    fn fresh(&mut self, attempts: &[Attempt], wanted: &LogOf) -> Vec<Fresh> {
        let is_wanted =
            |one: &&Attempt| wanted.attempt.is_none_or(|attempt| attempt == one.attempt);
        let tail = wanted.tail.filter(|_| !self.has_looked);
        let runs: BTreeSet<Run> =
            attempts.iter().filter(is_wanted).map(|one| (one.task, one.attempt)).collect();
        // They come in their order: the last one stays.
        let last: BTreeMap<u32, u32> = runs.iter().copied().collect();
        let is_meant = |(task, attempt): &Run| self.has_looked || last.get(task) == Some(attempt);
        let meant = runs.difference(&self.runs).copied().filter(is_meant);
        let fresh = meant.map(|run| Fresh { run, tail }).collect();
        self.runs.extend(runs);
        self.has_looked = true;
        fresh
    }
}

/// Prints each one that comes, so many at a time, until no more come and all are printed.
async fn follow_each<R, T>(
    mut tasks: mpsc::Receiver<R>,
    print: impl AsyncFn(R) -> T,
    mut printed: impl FnMut(T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut followed = FuturesUnordered::new();
    let mut come_more = true;
    loop {
        tokio::select! {
            task = tasks.recv(), if come_more && followed.len() < FOLLOWED_AT_ONCE => match task {
                Some(task) => followed.push(print(task)),
                None => come_more = false,
            },
            Some(one) = followed.next() => printed(one)?,
            else => return Ok(()),
        }
    }
}

/// Tells which attempts have begun, until the job is over.
async fn look(array: &Array<'_>, begun: mpsc::Sender<Fresh>) -> anyhow::Result<()> {
    let (mut known, mut retries) = (Known::default(), 0);
    loop {
        let pause = match seen(array.client, &array.id, array.job.index).await {
            Err(ClientError::Unreachable { .. }) if retries < MAX_RETRIES => {
                retries += 1;
                RETRY
            }
            Err(error) => return Err(error.into()),
            Ok((is_over, attempts)) => {
                retries = 0;
                for fresh in known.fresh(&attempts, array.wanted) {
                    // Nobody follows them any more.
                    if begun.send(fresh).await.is_err() {
                        return Ok(());
                    }
                }
                if is_over {
                    return Ok(());
                }
                let attempts = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
                LOOK_INTERVAL + LOOK_INTERVAL_EACH.saturating_mul(attempts)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Whether a job is over, and its attempts: all, if it is.
async fn seen(client: &Client, id: &str, job: u32) -> Result<(bool, Vec<Attempt>), ClientError> {
    let workflow = client.workflow(id).await?;
    Ok((is_over(&workflow, job), client.attempts(id, Some(job), u32::MAX).await?))
}

fn is_over(workflow: &Workflow, job: u32) -> bool {
    let mut stages = workflow.stages.iter();
    let stage = stages.find(|stage| stage.index == job);
    workflow.summary.ended.is_some() || stage.is_none_or(|stage| stage.state.is_ended())
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use anyhow::bail;
    use api::workflow::{StageKind, State};

    use super::{super::super::show::tests, *};

    #[tokio::test]
    async fn the_others_have_their_turn_when_one_is_over_and_each_is_printed_once() {
        let (begun, tasks) = mpsc::channel(1);
        let (now, most) = (Cell::new(0), Cell::new(0));
        let done = RefCell::new(Vec::new());
        let print = async |task: u32| {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            // Of different lengths, and some still go on when others begin.
            for _ in 0..task % 7 {
                tokio::task::yield_now().await;
            }
            now.set(now.get() - 1);
            task
        };
        let printed = |task| {
            done.borrow_mut().push(task);
            Ok(())
        };
        let send = async {
            for task in 0..200 {
                begun.send(task).await.unwrap();
                if task == 150 {
                    // All that had begun are over before the next one begins.
                    while done.borrow().len() <= 150 {
                        tokio::task::yield_now().await;
                    }
                }
            }
            drop(begun);
            anyhow::Ok(())
        };
        tokio::try_join!(send, follow_each(tasks, print, printed)).unwrap();
        let mut done = done.into_inner();
        done.sort_unstable();
        assert_eq!(done, (0..200).collect::<Vec<_>>());
        assert!((2..=FOLLOWED_AT_ONCE).contains(&most.get()), "{}", most.get());
    }

    #[tokio::test]
    async fn no_more_than_so_many_are_followed_and_what_ends_all_ends_at_once() {
        let (begun, tasks) = mpsc::channel(1);
        let started = Cell::new(0);
        let print = async |task: u32| {
            started.set(started.get() + 1);
            if started.get() < FOLLOWED_AT_ONCE {
                // For ever.
                std::future::pending::<()>().await;
            }
            task
        };
        let send = async {
            for task in 0..1_000 {
                if begun.send(task).await.is_err() {
                    break;
                }
            }
            anyhow::Ok(())
        };
        let printed = |task: u32| if task < 100 { Ok(()) } else { bail!("nobody reads {task}") };
        let error = tokio::try_join!(send, follow_each(tasks, print, printed)).unwrap_err();
        assert_eq!(error.to_string(), "nobody reads 100");
        // One place was free, and was taken in turns.
        assert_eq!(started.get(), 101);
    }

    #[test]
    fn each_attempt_that_begins_is_followed_once_and_of_earlier_ones_the_last() {
        let attempts = |runs: &[Run]| -> Vec<Attempt> {
            runs.iter().map(|(task, attempt)| attempt_of(*task, *attempt)).collect()
        };
        let wanted = |attempt| LogOf {
            job: None,
            task: None,
            attempt,
            member: None,
            offset: 0,
            tail: Some(5),
            since: None,
            follow: true,
        };
        let fresh = |known: &mut Known, attempts: &[Attempt], attempt| -> Vec<Run> {
            known.fresh(attempts, &wanted(attempt)).into_iter().map(|fresh| fresh.run).collect()
        };
        let mut known = Known::default();
        let before = attempts(&[(0, 1), (1, 1), (1, 2)]);
        assert_eq!(fresh(&mut known, &before, None), [(0, 1), (1, 2)]);
        assert!(fresh(&mut known, &before, None).is_empty());
        // One is tried again, and one begins and is tried again between two looks.
        let after = attempts(&[(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)]);
        assert_eq!(fresh(&mut known, &after, None), [(0, 2), (2, 1), (2, 2)]);
        assert!(fresh(&mut known, &after, None).is_empty());
        let mut known = Known::default();
        assert_eq!(fresh(&mut known, &before, Some(1)), [(0, 1), (1, 1)]);
        assert_eq!(fresh(&mut known, &after, Some(1)), [(2, 1)]);
        // The last lines of what is there at first; all of what comes after it.
        let mut known = Known::default();
        let run = |run, tail| Fresh { run, tail };
        assert_eq!(
            known.fresh(&before, &wanted(None)),
            [run((0, 1), Some(5)), run((1, 2), Some(5))]
        );
        assert_eq!(known.fresh(&after[..2], &wanted(None)), [run((0, 2), None)]);
    }

    fn attempt_of(task: u32, attempt: u32) -> Attempt {
        Attempt {
            stage: 1,
            task,
            attempt,
            member: 0,
            node: "n1".parse().unwrap(),
            cpus: Vec::new(),
            mems: Vec::new(),
            devices: Vec::new(),
            placed: api::ids::Timestamp(1),
            started: None,
            ended: None,
            outcome: None,
            usage: api::run::Usage::default(),
            log_bytes: 0,
        }
    }

    #[test]
    fn a_job_is_over_when_its_stage_or_all_is() {
        let frames = tests::stage(1, StageKind::Job, "frames", State::Started);
        let mut workflow = tests::workflow(vec![frames], State::Started);
        workflow.summary.ended = None;
        assert!(!is_over(&workflow, 1) && is_over(&workflow, 2));
        workflow.stages[0].state = State::Failed;
        assert!(is_over(&workflow, 1));
        workflow.stages[0].state = State::Started;
        workflow.summary.ended = Some(api::ids::Timestamp(1));
        assert!(is_over(&workflow, 1));
    }
}
