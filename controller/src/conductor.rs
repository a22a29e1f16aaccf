//! The one task that owns the engine: takes orders and what nodes say, commits, publishes what
//! people see ([`crate::views`]), and only then answers and tells.
//!
//! Everything that arrived while a batch was being written goes into the next batch, so the disk is
//! synced once for many events.

mod capacities;
mod commit;
mod leases;
mod orders;
mod removals;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use api::{
    channel::{Capability, FromServer},
    ids::NodeId,
    run::{MAX_RUNS_PER_MESSAGE, RunId, WorkflowId},
    status::{NodeUpdate, Phase},
};
use database::outbox::OutboxRow;
use document::plan::StageId;
use fleet::{Fleet, NodeChange, NodeLabels, RunMessage, relabelled};
use hardware::Hardware;
use image_catalog::{Delivery, JobImages, Requester};
use oci_pull::{Wait, Waits};
use rest::causes;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    engine::{Effects, Engine, NodeFacts},
    holdings::MAX_FORGOTTEN,
    ledger::QuotaLedger,
    record::{ToldFetchError, Write},
    results::Results,
    store::{Store, StoreError},
    views::Publisher,
};

pub(crate) use leases::Leases;
pub(crate) use orders::{Command, NoReply, ORDER_PATIENCE, Removal, ask, remove_forgotten};
pub(crate) use removals::Removals;

use commit::commit;
use orders::PendingReply;

/// Orders that wait for the conductor before their senders wait.
pub(crate) const MAX_ORDERS: usize = 4_096;

/// Events that go into one transaction at most.
const MAX_BATCH: usize = 1_024;

/// How often the conductor looks at the clock.
const TICK: Duration = Duration::from_secs(1);

/// Workflows that are over are kept until there are so many: a year of a busy group. Then the
/// oldest go, of those users who have most.
const MAX_KEPT: u32 = 10_000;

/// How often older ones are looked for: each time at most a thousand of a user go.
const SWEEP: Duration = Duration::from_secs(600);

/// Tells the conductor when the registry of a stage's image is waited for.
#[derive(Debug)]
struct StageWaits {
    workflow: WorkflowId,
    stage: StageId,
    orders: mpsc::Sender<Command>,
}

impl Waits for StageWaits {
    fn waits(&self, wait: Option<&Wait>) {
        let (workflow, stage, why) = (self.workflow, self.stage, wait.map(ToString::to_string));
        // With a full queue people see an older reason for a while.
        let _ = self.orders.try_send(Command::ImageWaits { workflow, stage, why });
    }
}

/// See the module.
pub(crate) struct Conductor {
    pub(crate) engine: Engine,
    pub(crate) publisher: Publisher,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) fleet: Fleet,
    pub(crate) hardware: Hardware,
    pub(crate) images: JobImages,
    pub(crate) results: Results,
    pub(crate) ledger: QuotaLedger,
    pub(crate) orders: mpsc::Receiver<Command>,
    /// For what the conductor starts itself.
    pub(crate) sender: mpsc::Sender<Command>,
    /// Workflows that look different now.
    pub(crate) changed: broadcast::Sender<WorkflowId>,
    /// Runs that a node listed in this session, and whether they are paused, until its
    /// list is complete.
    pub(crate) lists: BTreeMap<NodeId, BTreeMap<RunId, bool>>,
    /// What jobs may use of each node, and of which [`Fleet::inventory_revision`] that is.
    pub(crate) capacities: BTreeMap<NodeId, (u64, planner::Capacity)>,
    /// Labels of nodes, as last told by the fleet.
    pub(crate) labels: Arc<NodeLabels>,
    /// Runs that are over and whose logs are here, until the next look at the clock: nodes are told
    /// of many at once.
    pub(crate) done: Vec<(NodeId, Option<WorkflowId>, RunId)>,
    /// Rows that are committed with the next batch.
    pub(crate) told: Vec<OutboxRow>,
    /// What holds images and files of the next batch.
    pub(crate) leases: Leases,
    /// What was swept away.
    pub(crate) removals: Removals,
}

impl Conductor {
    /// Runs until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut messages = self.fleet.run_messages();
        let mut updates = self.fleet.watch();
        let mut labels = self.fleet.labels();
        self.labels = labels.borrow_and_update().clone();
        self.see_all_nodes().await;
        // The first commit may be long in coming, if the disk is full. Nodes are no rows of ours,
        // so readers see them now; workflows as they are on disk.
        let on_disk = self.publisher.readers().latest();
        self.publisher.publish(self.engine.view(clock::now()).with_workflows_of(&on_disk));
        let mut tick = tokio::time::interval(TICK);
        let mut sweep = tokio::time::interval(SWEEP);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut answers = Vec::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(order) = self.orders.recv() => {
                    self.take(order, &mut answers);
                    while answers.len() < MAX_BATCH && let Ok(order) = self.orders.try_recv() {
                        self.take(order, &mut answers);
                    }
                }
                Some(message) = messages.recv() => {
                    self.on_node_message(message, &mut answers);
                    while answers.len() < MAX_BATCH && let Ok(message) = messages.try_recv() {
                        self.on_node_message(message, &mut answers);
                    }
                }
                update = updates.recv() => {
                    match update {
                        Ok(change) => self.see_nodes(change, &mut updates).await,
                        Err(broadcast::error::RecvError::Lagged(_)) => self.see_all_nodes().await,
                        Err(broadcast::error::RecvError::Closed) => return,
                    }
                }
                Ok(()) = labels.changed() => {
                    let now = labels.borrow_and_update().clone();
                    self.see_labels(now).await;
                }
                _ = sweep.tick() => {
                    if let Err(error) = self.sweep().await {
                        tracing::error!("old workflows cannot be forgotten: {}", causes(&error));
                    }
                }
                _ = tick.tick() => {
                    self.forget_done();
                    self.engine.tick(clock::now(), clock::uptime());
                }
            }
            if !self.commit_and_dispatch(&mut answers, &shutdown).await {
                return;
            }
        }
    }

    /// Forgets the oldest workflows that are over. Their logs and files are removed beside what
    /// comes next.
    async fn sweep(&mut self) -> Result<(), StoreError> {
        if self.removals.is_busy().await {
            return Ok(());
        }
        // Who has most gives way: nobody's results go because somebody else starts a lot.
        let owners = self.ledger.users_over_share(MAX_KEPT);
        let mut outdated = Vec::new();
        for (owner, keep) in &owners {
            outdated.extend(self.store.outdated(Some(owner), *keep).await?);
        }
        if owners.is_empty() {
            // Those whose owners cannot be read count for nobody.
            outdated = self.store.outdated(None, MAX_KEPT).await?;
        }
        // Its last events and the rest of its logs are still written.
        outdated.retain(|id| !self.engine.has(*id));
        let mut going = Vec::new();
        let mut swept = Ok(());
        for some in outdated.chunks(MAX_FORGOTTEN) {
            let writes: Vec<Write> = some.iter().map(|id| Write::Forget(*id)).collect();
            swept = self.store.commit(&writes).await;
            if swept.is_err() {
                break;
            }
            going.extend(self.ledger.start_forgetting(some));
        }
        // Also where the database failed in the middle: what it has no more is told to nobody else.
        if !going.is_empty() {
            let (results, store) = (self.results.clone(), self.store.clone());
            self.removals.begin(async move {
                for some in going.chunks(MAX_FORGOTTEN) {
                    remove_forgotten(&results, store.as_ref(), some.to_vec()).await;
                }
            });
        }
        swept
    }

    fn take(&mut self, order: Command, answers: &mut Vec<PendingReply>) {
        let now = clock::now();
        match order {
            Command::Submit { submission, turn, lease, charge, done, told } => {
                self.told.extend(told);
                self.engine.submit(*submission, now);
                charge.keep();
                self.leases.keep(*lease);
                answers.push(PendingReply::Submitted(done, turn));
            }
            Command::Stop { workflow, why, done, told } => {
                let stopped = self.engine.stop(workflow, &why, now);
                // What changed nothing is refused, and told as that.
                self.told.extend(told.into_iter().filter(|_| stopped));
                self.images.pulls().leave(workflow.0);
                answers.push(PendingReply::Flag(done, stopped));
            }
            Command::Pause { workflow, paused, by, done, told } => {
                let changed = self.engine.pause(workflow, paused, &by, now);
                self.told.extend(told.into_iter().filter(|_| changed));
                answers.push(PendingReply::Flag(done, changed));
            }
            Command::Image { workflow, stage, delivery } => {
                let Delivery { fetched, lease } = *delivery;
                let has_failed = fetched.is_err();
                let fetched = fetched.map_err(|error| ToldFetchError::from(&*error));
                self.engine.image_fetched(workflow, stage, fetched, now);
                self.leases.keep(lease);
                self.leases.is_of_failure |= has_failed;
            }
            Command::ImageWaits { workflow, stage, why } => {
                self.engine.image_waits(workflow, stage, why);
            }
            Command::Forget { workflows, done, told } => {
                let forgotten = self.engine.forget(&workflows);
                self.told.extend(told.into_iter().filter(|_| forgotten));
                answers.push(match forgotten {
                    true => PendingReply::Forgotten {
                        done,
                        workflows,
                        results: self.results.clone(),
                        store: self.store.clone(),
                    },
                    false => PendingReply::StillHeld(done),
                });
            }
            Command::Log { run, length } => self.engine.log_grew(run, length),
            Command::QuotaMet { run, what } => self.engine.quota_met(run, &what, now),
        }
    }

    fn on_node_message(&mut self, message: RunMessage, answers: &mut Vec<PendingReply>) {
        let now = clock::now();
        let RunMessage { node, runs, news, paused, volumes, complete, list, done } = message;
        for report in &runs {
            self.engine.handle_report(node, report, now);
        }
        if let Some((run, news)) = news {
            self.engine.run_news(node, run, &news, now);
        }
        if list {
            let listed = self.lists.entry(node).or_default();
            listed.extend(runs.iter().map(|report| (report.run, paused.contains(&report.run))));
        }
        if complete {
            let listed = self.lists.remove(&node).unwrap_or_default();
            let boot = self.fleet.boot_of(node).unwrap_or_default();
            self.engine.runs_listed(node, &boot, &listed, now);
            self.engine.volumes_listed(node, &volumes);
        }
        answers.push(PendingReply::Plain(done));
    }

    /// Commits what the engine wants, publishes it, then does it. `false`: the server stops, and
    /// the database does not take it; nobody was told of any of it then, and nobody reads it.
    async fn commit_and_dispatch(
        &mut self,
        answers: &mut Vec<PendingReply>,
        shutdown: &CancellationToken,
    ) -> bool {
        let now = clock::now();
        let effects = self.engine.proceed(now);
        let told = std::mem::take(&mut self.told);
        let (store, writes) = (self.store.as_ref(), &effects.writes);
        if !writes.is_empty() && !commit(store, writes, &told, shutdown).await {
            return false;
        }
        // Who is answered looks whether somebody may write the row of the request yet.
        drop(told);
        self.ledger.follow(&effects.writes);
        self.publisher.publish(self.engine.view(now));
        // The view names what they held.
        if self.leases.end() {
            self.images.fetch_failed();
        }
        // Who is answered, or told that a workflow has changed, finds it changed.
        answers.drain(..).for_each(PendingReply::give);
        self.act(effects);
        true
    }

    fn act(&mut self, effects: Effects) {
        for (node, message) in effects.messages {
            self.fleet.enqueue(node, message);
        }
        for (workflow, stage, reference) in effects.fetch {
            // It may have been stopped in the batch that began it.
            let Some(user) = self.engine.wants_image(workflow, stage) else { continue };
            let sender = self.sender.clone();
            let waits = Arc::new(StageWaits { workflow, stage, orders: sender.clone() });
            let requester = Requester { group: workflow.0, part: stage.0, user, waits };
            let delivered = self.images.fetch(&reference, requester, clock::now());
            tokio::spawn(async move {
                // Nothing comes if the workflow was stopped.
                let Ok(delivery) = delivered.await else { return };
                // The conductor is gone only with the server; the image is fetched again at
                // its next start.
                let _ = sender
                    .send(Command::Image { workflow, stage, delivery: Box::new(delivery) })
                    .await;
            });
        }
        self.done.extend(effects.forget);
        for workflow in effects.changed {
            // Nobody watching is no error.
            let _ = self.changed.send(workflow);
        }
    }

    /// Syncs the logs of runs that are over, then lets their nodes forget them. A node whose server
    /// is killed before lists them to the next one, which does it then.
    fn forget_done(&mut self) {
        if self.done.is_empty() {
            return;
        }
        let (done, results, fleet) =
            (std::mem::take(&mut self.done), self.results.clone(), self.fleet.clone());
        tokio::task::spawn_blocking(move || {
            let mut by_node: BTreeMap<NodeId, Vec<RunId>> = BTreeMap::new();
            let mut are_synced = false;
            for (node, workflow, run) in done {
                let synced = match workflow {
                    Some(workflow) => results.sync_log(workflow, run),
                    None if are_synced => Ok(()),
                    None => results.sync_logs().inspect(|()| are_synced = true),
                };
                match synced {
                    Ok(()) => by_node.entry(node).or_default().push(run),
                    Err(error) => tracing::error!("{}", causes(&error)),
                }
            }
            for (node, runs) in by_node {
                for runs in runs.chunks(MAX_RUNS_PER_MESSAGE) {
                    fleet.enqueue(node, FromServer::ForgetRuns { runs: runs.to_vec() });
                }
            }
        });
    }

    /// Takes a change with those that wait behind it: of each node only the newest matters.
    async fn see_nodes(
        &mut self,
        first: NodeChange,
        changes: &mut broadcast::Receiver<NodeChange>,
    ) {
        let mut newest = BTreeMap::from([(id_of(&first), first)]);
        for _ in 1..MAX_BATCH {
            match changes.try_recv() {
                Ok(change) => drop(newest.insert(id_of(&change), change)),
                Err(broadcast::error::TryRecvError::Lagged(_)) => {
                    return self.see_all_nodes().await;
                }
                // If it was closed, the next look tells.
                Err(_) => break,
            }
        }
        for change in newest.into_values() {
            match change {
                NodeChange::Updated(update) => self.see_node(update).await,
                NodeChange::Removed { id } => self.see_removed(id),
            }
        }
    }

    /// Starts over: of what was missed only the outcome matters, and what is not listed is gone.
    async fn see_all_nodes(&mut self) {
        let statuses = self.fleet.statuses();
        let known: BTreeSet<NodeId> = statuses.iter().map(|update| update.id).collect();
        let engine = self.engine.node_ids();
        for id in engine.into_iter().filter(|id| !known.contains(id)) {
            self.see_removed(id);
        }
        self.engine.abandon_all_but(&known, clock::now());
        self.read_capacities(&statuses).await;
        for update in statuses {
            self.see_node(update).await;
        }
    }

    /// Labels are others: looks again at the nodes whose are.
    async fn see_labels(&mut self, labels: Arc<NodeLabels>) {
        let before = std::mem::replace(&mut self.labels, labels);
        for id in relabelled(&before, &self.labels) {
            // One that was deleted in this moment is told as such.
            if let Some(update) = self.fleet.node_of(id) {
                self.see_node(update).await;
            }
        }
    }

    fn see_removed(&mut self, id: NodeId) {
        self.capacities.remove(&id);
        self.engine.node_removed(id, clock::now());
    }

    async fn see_node(&mut self, update: NodeUpdate) {
        let NodeUpdate { id, name, status } = update;
        let is_ready = status.phase == Phase::Ready;
        let Some(capacity) = self.capacity(id, &name).await else { return };
        let facts = NodeFacts {
            id,
            name,
            boot: self.fleet.boot_of(id),
            is_ready,
            drained: status.drain.map(|drain| drain.reason),
            refuses: status.refuses,
            in_conflict: status.conflict.is_some(),
            knows_attempts: self.fleet.agent_knows(id, Capability::Attempts),
            labels: self.labels.get(&id).map(|labels| labels.as_ref().clone()).unwrap_or_default(),
            capacity,
        };
        self.engine.node_is(facts, clock::now());
    }
}

fn id_of(change: &NodeChange) -> NodeId {
    match change {
        NodeChange::Updated(update) => update.id,
        NodeChange::Removed { id } => *id,
    }
}
