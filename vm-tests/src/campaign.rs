//! Random kills of agents, spawners, container inits, jobs, servers and whole nodes while workflows
//! run, and then the account: every task ended once with a true state, every log is whole up to
//! where its attempt ended, nothing is left behind.
//!
//! A check of the vm lane with some rounds of each kind but the last;
//! `vm-tests campaign ROUNDS [SEED]` by hand.

mod account;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use anyhow::Context as _;
use api::{ids::Timestamp, status::Phase};
use fastrand::Rng;

use crate::{
    check::Memory,
    clock,
    cluster::{ADDRESSES, Cluster, MACHINES},
    registry::Registry,
    report::say,
    workflow,
};

/// Workflows that are kept under way.
const LOAD: usize = 2;

/// Rounds in the lane: each kind of kill but that of nodes, which has a check of its own.
const ROUNDS_IN_LANE: u32 = 10;

/// After so many rounds a line says how far it is.
const ROUNDS_TOLD: usize = 25;

/// Longest pause between two rounds, milliseconds: a kill shall hit any moment of a job.
const LONGEST_PAUSE_MILLIS: u64 = 3_000;

/// How long the server stays away at most, milliseconds.
const LONGEST_AWAY_MILLIS: u64 = 8_000;

/// How long workflows have to end when nobody kills any more.
const CALM: Duration = Duration::from_secs(120);

/// How long the server may take a node for ready whose power was cut: its firmware asks for an
/// address long before.
const NOTICE: Duration = Duration::from_secs(60);

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Agent,
    Spawner,
    Init,
    Job,
    Server,
    Node,
}

/// Out of a hundred rounds.
const SHARES: [(Victim, u64); 6] = [
    (Victim::Agent, 28),
    (Victim::Spawner, 12),
    (Victim::Init, 12),
    (Victim::Job, 22),
    (Victim::Server, 21),
    (Victim::Node, 5),
];

/// The rounds in the lane, one after the other.
const IN_LANE: [Victim; 5] =
    [Victim::Agent, Victim::Job, Victim::Server, Victim::Init, Victim::Spawner];

/// The campaign of the lane.
pub(crate) fn check(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let mut victims =
        IN_LANE.iter().copied().cycle().take(ROUNDS_IN_LANE as usize).collect::<VecDeque<_>>();
    let account = Campaign::new(cluster, Rng::with_seed(clock::unix_seconds()))
        .wage(|_| victims.pop_front())?;
    say(format!("  {account}"));
    Ok(())
}

/// So many rounds on a cluster of its own.
///
/// # Errors
/// The account does not add up; what is wrong is named.
pub(crate) fn by_hand(rounds: u32, seed: u64) -> anyhow::Result<()> {
    let mut cluster = Cluster::start()?;
    cluster
        .server
        .cli(&["image", "import", &Registry::source()])
        .context("importing the node image")?;
    cluster.declare_nodes(&[]).context("declaring the nodes")?;
    workflow::prepare(&cluster)?;
    cluster.power_on()?;
    for machine in &MACHINES {
        cluster.wait_until_ready(machine.name)?;
    }
    let mut left = rounds;
    let mut draw = |dice: &mut Rng| {
        left = left.checked_sub(1)?;
        let mut mark = dice.u64(..100);
        SHARES
            .iter()
            .find(|(_, share)| {
                let hit = mark < *share;
                mark = mark.saturating_sub(*share);
                hit
            })
            .map(|(victim, _)| *victim)
    };
    let account = Campaign::new(&mut cluster, Rng::with_seed(seed)).wage(&mut draw)?;
    say(format!("campaign: {rounds} rounds with seed {seed}: {account}"));
    Ok(())
}

struct Campaign<'a> {
    cluster: &'a mut Cluster,
    dice: Rng,
    /// Every workflow that was started.
    workflows: Vec<String>,
    kills: Vec<Victim>,
    /// Nodes whose power was cut, and since when the server took them for ready then.
    cut: BTreeMap<usize, Timestamp>,
}

impl<'a> Campaign<'a> {
    fn new(cluster: &'a mut Cluster, dice: Rng) -> Self {
        Self { cluster, dice, workflows: Vec::new(), kills: Vec::new(), cut: BTreeMap::new() }
    }

    /// Kills as long as `next` names a victim, under load; then lets everything end and draws
    /// up the account.
    fn wage(
        mut self,
        mut next: impl FnMut(&mut Rng) -> Option<Victim>,
    ) -> anyhow::Result<account::Account> {
        while let Some(victim) = next(&mut self.dice) {
            self.keep_loaded()?;
            let pause = self.dice.u64(..LONGEST_PAUSE_MILLIS);
            clock::pause(Duration::from_millis(pause));
            let round = self.kills.len() + 1;
            self.kill(victim).with_context(|| format!("round {round}, kill of {victim:?}"))?;
            self.kills.push(victim);
            if round.is_multiple_of(ROUNDS_TOLD) {
                say(format!("  {round} rounds, {} workflows", self.workflows.len()));
            }
        }
        for index in 0..MACHINES.len() {
            self.wait_until_ready(index)?;
        }
        self.calm()?;
        account::draw_up(self.cluster, &self.workflows, &self.kills)
    }

    /// Starts workflows until enough are under way.
    fn keep_loaded(&mut self) -> anyhow::Result<()> {
        let listed = self.cluster.server.ask(|client| async move { client.workflows(0).await })?;
        for _ in listed.len()..LOAD {
            self.workflows.push(workflow::start(self.cluster, "campaign")?);
        }
        Ok(())
    }

    fn calm(&mut self) -> anyhow::Result<()> {
        let limit = self.cluster.accelerator().stretch(CALM);
        let waited = clock::wait_for("all workflows to be over", limit, || {
            let listed =
                self.cluster.server.ask(|client| async move { client.workflows(0).await })?;
            Ok(listed.is_empty().then_some(()))
        });
        waited.with_context(|| self.cluster.server.cli(&["workflow", "list"]).unwrap_or_default())
    }

    fn kill(&mut self, victim: Victim) -> anyhow::Result<()> {
        if victim == Victim::Server {
            self.cluster.server.kill()?;
            clock::pause(Duration::from_millis(self.dice.u64(..LONGEST_AWAY_MILLIS)));
            return self.cluster.server.restart();
        }
        let index = self.ready_node()?;
        if victim == Victim::Node {
            let since = self.cluster.node(MACHINES[index].name)?.status.since;
            self.cut.insert(index, since);
            return self.cluster.power_cycle(MACHINES[index].name);
        }
        // What is not there at this moment is not killed; the round counts as one of nothing.
        let script = match victim {
            Victim::Agent => {
                "systemctl kill --signal=KILL --kill-whom=main bedplate-substrate".to_owned()
            }
            Victim::Spawner => "pkill -KILL -f 'spawn-containers$'".to_owned(),
            Victim::Init => kill_one_of("inits", "shuf -n 1"),
            // The first process: what it started would only change what it says.
            Victim::Job | Victim::Server | Victim::Node => {
                kill_one_of("runs/*", "sort -n | head -n 1")
            }
        };
        self.cluster.on_node(ADDRESSES[index], &format!("{script} || true")).map(drop)
    }

    /// A node that is ready, waited for if none is: one that was rebooted takes its time.
    fn ready_node(&mut self) -> anyhow::Result<usize> {
        let first = self.dice.usize(..2);
        for index in [first, 1 - first] {
            if self.is_ready(index)? {
                return Ok(index);
            }
        }
        self.wait_until_ready(first)?;
        Ok(first)
    }

    fn wait_until_ready(&mut self, index: usize) -> anyhow::Result<()> {
        let limit = self.cluster.accelerator().stretch(NOTICE);
        clock::wait_for("the server to see that a node was switched off", limit, || {
            self.is_ready(index)?;
            Ok((!self.cut.contains_key(&index)).then_some(()))
        })?;
        self.cluster.wait_until_ready(MACHINES[index].name).map(drop)
    }

    fn is_ready(&mut self, index: usize) -> anyhow::Result<bool> {
        let status = self.cluster.node(MACHINES[index].name)?.status;
        if self.cut.get(&index).is_some_and(|since| *since != status.since) {
            self.cut.remove(&index);
        }
        Ok(status.phase == Phase::Ready && !self.cut.contains_key(&index))
    }
}

/// Kills the process that `choice` lets through, of one of the groups below that of jobs.
fn kill_one_of(groups: &str, choice: &str) -> String {
    let files = format!("/sys/fs/cgroup/system.slice/bedplate-jobs.service/{groups}/cgroup.procs");
    format!(
        "file=$(ls {files} 2>/dev/null | shuf -n 1); pid=$(cat $file </dev/null | {choice}); \
         [ -n \"$pid\" ] && kill -KILL \"$pid\""
    )
}
