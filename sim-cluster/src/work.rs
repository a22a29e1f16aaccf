//! `sim-cluster`: many nodes work on many tasks, with faults if wanted, and at the end every task
//! is accounted for once.
//!
//! Nodes do not boot; they trade their tokens for certificates and connect. Workflows go in
//! through REST. What the nodes really did is in the [`Journal`], and [`account`] holds the
//! server's word against it.

mod account;
mod faults;
mod load;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use api::{
    access::{Account as Numbers, CreateToken, User},
    workflow::WorkflowSummary,
};
use client::{Client, ClientError};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::ProgressBar;
use substrate::clock;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

use self::{
    account::Account,
    faults::{Counts, NodeFaults},
    load::Submitted,
};
use crate::{
    figures::{rate, seconds},
    journal::Journal,
    pxe::exchange::Exchange,
    registry,
    report::{bar, say},
    server::own_cost,
    site::{Plan, Site},
};

/// As servers are set up by default.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// Nodes that enrol at once.
const ENROLLING: usize = 64;

/// How long nodes may take until they are ready: after faults, some boot at the very end.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// How long the last logs may take, and the words that their runs can be forgotten.
const EMPTY_LIMIT: Duration = Duration::from_secs(60);

/// The whole work is given up after this, and as much again as the tasks would take at this rate.
const LEAST_LIMIT: Duration = Duration::from_secs(180);
const LEAST_RATE: u32 = 100;

/// Work that stands still for so long hangs. A task that failed often waits for minutes, but
/// never all of them.
const STILL: Duration = Duration::from_secs(150);

/// The server is killed so often, when equal parts of the work are done.
const KILLS: u64 = 3;

/// How long it stays away at most, milliseconds.
const LONGEST_AWAY_MILLIS: u64 = 2_000;

const POLL: Duration = Duration::from_millis(250);

/// Workflows that are told of when they hang.
const MAX_TOLD: usize = 5;

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Nodes.
    pub nodes: u32,
    /// Tasks of all workflows together.
    pub tasks: u32,
    /// Whether connections, agents, nodes and the server fail.
    pub faults: bool,
    /// Longest time between two faults of a node; half of it on average.
    pub peace: Duration,
    /// Of chance.
    pub seed: u64,
}

/// Lets the nodes work.
///
/// # Errors
/// What does not add up, task by task.
pub fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(options.tasks > 0, "there must be a task");
    let plan = Plan {
        name: "work",
        nodes: options.nodes,
        heartbeat: HEARTBEAT,
        padding: 0,
        watched: false,
    };
    let options = *options;
    Site::simulate(&plan, |site| simulation(site, options))
}

async fn simulation(mut site: Site, options: Options) -> anyhow::Result<()> {
    registry::serve(&site.network, &site.layout())?;
    let (journal, counts) = (Arc::new(Journal::default()), Arc::new(Counts::default()));
    let ann = user(&site).await.context("adding the user")?;
    let enrolling = clock::monotonic();
    let lives = enrol(&site, options, &journal, &counts).await.context("enrolling the nodes")?;
    site.until_ready(READY_LIMIT).await?;
    let enrolled = enrolling.elapsed();

    let (stop, stopped) = watch::channel(!options.faults);
    let mut living = JoinSet::new();
    lives.into_iter().for_each(|life| drop(living.spawn(life.live(stopped.clone()))));
    let started = clock::monotonic();
    let submitting = tokio::spawn(load::submit(ann.clone(), options.tasks));
    let work = Work { site: &mut site, ann: &ann, journal: &journal, options };
    let (submitted, kills) = work.finish(submitting).await?;
    let took = started.elapsed();
    stop.send_replace(true);
    let mut lives = Vec::new();
    while let Some(life) = living.join_next().await {
        lives.push(life.context("a node's task broke")??);
    }
    site.until_ready(READY_LIMIT).await.with_context(|| site.server.log_tail())?;
    until_empty(&lives).await?;
    let nodes = site.client.nodes(None).await?;
    let alarms: Vec<_> = nodes.iter().filter(|node| node.status.conflict.is_some()).collect();
    ensure!(alarms.is_empty(), "nodes that are what they claim to be are in conflict: {alarms:?}");
    let cost = site.server.cost()?;
    let account = Account::draw_up(&ann, &submitted, &journal).await?;
    account.refuse_diagnostics(options.tasks)?;
    say(format!(
        "sim-cluster: {} tasks of {} workflows on {} nodes, each accounted for once, in {} ({:.0} tasks/s)",
        options.tasks,
        submitted.len(),
        options.nodes,
        seconds(took),
        rate(options.tasks.into(), took),
    ));
    say(format!(
        "  enrolment: {} ({:.0} nodes/s)",
        seconds(enrolled),
        rate(options.nodes.into(), enrolled)
    ));
    say(account);
    say(format!("  faults (seed {}): {counts}, server killed {kills} times", options.seed));
    say(format!("  server: {cost}"));
    say(format!("  simulation: {}", own_cost()?));
    Ok(())
}

/// A user whose jobs have numbers to run with.
async fn user(site: &Site) -> anyhow::Result<Client> {
    let name = "ann".to_owned();
    let account = Some(Numbers { uid: 1001, gid: 1001, groups: Vec::new() });
    site.client
        .add_user(&User { name: name.clone(), admin: false, account, comment: None })
        .await?;
    let create = CreateToken { name: "sim".to_owned(), user: Some(name), ..CreateToken::default() };
    site.server.client_with(site.client.create_token(&create).await?.token)
}

/// Gives every node its certificate and starts its agent.
async fn enrol(
    site: &Site,
    options: Options,
    journal: &Arc<Journal>,
    counts: &Arc<Counts>,
) -> anyhow::Result<Vec<NodeFaults>> {
    let exchange = Exchange::open()?;
    let bar = bar("nodes enrolled", options.nodes.into());
    let enrolling = (1..=options.nodes).map(|number| {
        let (exchange, bar) = (exchange.clone(), bar.clone());
        let chance = (crate::chance(options.seed, number), options.peace);
        async move {
            let life = NodeFaults::begin(
                site.machine(number)?,
                exchange,
                journal.clone(),
                counts.clone(),
                chance,
            );
            let life = life.await.with_context(|| format!("node {number}"))?;
            bar.inc(1);
            anyhow::Ok(life)
        }
    });
    let lives = stream::iter(enrolling).buffer_unordered(ENROLLING).try_collect().await;
    bar.finish_and_clear();
    lives
}

/// The work from the first submission to the end of the last workflow.
struct Work<'a> {
    site: &'a mut Site,
    ann: &'a Client,
    journal: &'a Journal,
    options: Options,
}

impl Work<'_> {
    /// Waits for the end, and kills the server on the way. Returns what was submitted, and how
    /// often it was killed.
    async fn finish(
        mut self,
        mut submitting: JoinHandle<anyhow::Result<Vec<Submitted>>>,
    ) -> anyhow::Result<(Vec<Submitted>, u64)> {
        let bar = bar("tasks done", self.options.tasks.into());
        let limit = LEAST_LIMIT + Duration::from_secs((self.options.tasks / LEAST_RATE).into());
        let work = async {
            let mut kills = 0;
            let submitted = self.until(&bar, &mut kills, &mut submitting).await?;
            anyhow::Ok((submitted, kills))
        };
        let ended = timeout(limit, work).await;
        bar.finish_and_clear();
        match ended {
            Ok(ended) => ended,
            Err(_) => bail!("not over after {} s\n{}", limit.as_secs(), self.hanging().await),
        }
    }

    async fn until(
        &mut self,
        bar: &ProgressBar,
        kills: &mut u64,
        submitting: &mut JoinHandle<anyhow::Result<Vec<Submitted>>>,
    ) -> anyhow::Result<Vec<Submitted>> {
        let mut dice = crate::chance(self.options.seed, 0);
        let (mut moved, mut seen) = (Instant::now(), (0, 0));
        let mut submitted = None;
        loop {
            sleep(POLL).await;
            let now = (self.journal.begun(), self.journal.succeeded());
            bar.set_position(now.1);
            if now != seen {
                (moved, seen) = (Instant::now(), now);
            }
            if moved.elapsed() > STILL {
                bail!("nothing goes on for {} s\n{}", STILL.as_secs(), self.hanging().await);
            }
            self.site.server.check_alive()?;
            let due = u64::from(self.options.tasks) * (*kills + 1) / (KILLS + 1);
            if self.options.faults && *kills < KILLS && now.1 >= due {
                self.site.server.kill()?;
                sleep(Duration::from_millis(dice.u64(..LONGEST_AWAY_MILLIS))).await;
                self.site.server.restart().await?;
                *kills += 1;
            }
            if submitted.is_none() && submitting.is_finished() {
                submitted = Some((&mut *submitting).await.context("the submission broke")??);
            }
            // The server may be away for a moment. Asked only near the end, since its answer
            // costs it something.
            if now.1 >= self.options.tasks.into()
                && submitted.is_some()
                && self.left().await.is_ok_and(|left| left.is_empty())
            {
                return submitted.context("nothing was submitted");
            }
        }
    }

    /// Workflows that are not over.
    async fn left(&self) -> Result<Vec<WorkflowSummary>, ClientError> {
        self.ann.workflows(0).await
    }

    /// What is left, and why it does not go on.
    async fn hanging(&self) -> String {
        let left = match self.left().await {
            Ok(left) => left,
            Err(error) => return format!("the server does not say what is left: {error}"),
        };
        let (begun, succeeded) = (self.journal.begun(), self.journal.succeeded());
        let mut told = vec![format!(
            "{} workflows are not over; nodes began {begun} runs, of which {succeeded} succeeded",
            left.len()
        )];
        for summary in left.iter().take(MAX_TOLD) {
            let why = self.ann.why_workflow(&summary.id.to_string()).await;
            let why = why.map_or_else(|error| error.to_string(), |why| format!("{why:?}"));
            told.push(format!("{} ({}): {why}", summary.name, summary.state.as_str()));
        }
        told.push(self.site.server.log_tail());
        told.join("\n")
    }
}

/// Waits until no node holds a run any more: all logs have come by then.
async fn until_empty(lives: &[NodeFaults]) -> anyhow::Result<()> {
    let holding = || lives.iter().filter(|life| life.holds() > 0).count();
    let empty = async {
        while holding() > 0 {
            sleep(POLL).await;
        }
    };
    if timeout(EMPTY_LIMIT, empty).await.is_err() {
        let first = lives.iter().find(|life| life.holds() > 0);
        let first = first.map(|life| format!("{}: {:?}", life.address(), life.state()));
        bail!("{} nodes still hold runs, such as {}", holding(), first.unwrap_or_default());
    }
    Ok(())
}
